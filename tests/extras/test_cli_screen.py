"""What a person sees: short lines for what means waiting, bars on a terminal, a line every few seconds elsewhere."""

import io

import anyio
import pytest
from rich.console import Console

from neuralbox_async import (
    APIConnectionError,
    BudgetExceededError,
    Event,
    Generation,
    GenerationFailedError,
    OutcomeUnknownError,
    Paused,
    RateLimit,
    RateLimitError,
    Retrying,
    Surplus,
)
from neuralbox_async.extras.cli.exits import Tally
from neuralbox_async.extras.cli.screen import Notes, Screen, kind_of, printable
from neuralbox_async.sandbox import VirtualTimeLoop


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on asyncio in virtual time: the command line knows no trio."""
    return "asyncio", {"loop_factory": VirtualTimeLoop}


def retrying(error: APIConnectionError | RateLimitError) -> Retrying:
    """Return an event."""
    return Retrying(operation="generate", error=error, attempt=1, seconds=847.0)


def test_one_note_for_one_window() -> None:
    """However many calls wait for the plan's window, one line says so; the next window gets its own."""
    notes = Notes()
    heard: list[Event] = [retrying(RateLimitError("429")), *[Paused(operation="generate", seconds=847.0)] * 3]
    assert [notes.of(event, 0.0) for event in heard] == ["waiting 14 min for the plan's window", None, None, None]
    assert notes.of(Paused(operation="get", seconds=3.0), 847.0) == "waiting 3 s for the plan's window"


def test_retries_are_not_silent_and_not_a_flood() -> None:
    """A network that is down shows, at most once a second."""
    notes, event = Notes(), retrying(APIConnectionError("no answer"))
    assert notes.of(event, 0.0) == "generate: retry 1 in 14 min: no answer"
    assert notes.of(event, 0.5) is None
    assert notes.of(event, 1.0) is not None


def test_surplus_is_told_once() -> None:
    """What was perhaps paid twice is told with the command that gets it, however often the history shows it."""
    notes, twice = Notes(), (Generation(id=7, status="completed"), Generation(id="gen_8", status="pending"))
    told = [notes.of(Surplus(generations=each), 0.0) for each in (twice[:1], twice, twice)]
    assert told[0] == "surplus, booked and perhaps paid besides what was asked for: neuralbox wait 7"
    assert told[1] is not None
    assert told[1].endswith("neuralbox wait gen_8")
    assert told[2] is None


@pytest.mark.parametrize(("model", "kind"), [("kling-v2.1", "video"), ("gpt-5", "text"), ("new-model-9", "other")])
def test_kind(model: str, kind: str) -> None:
    """A model that we do not know has a bar as well."""
    assert kind_of(model) == kind


def test_printable() -> None:
    """What the service says cannot command the terminal."""
    assert printable("a\x1b[2Jb\nc") == "a\N{REPLACEMENT CHARACTER}[2Jb\nc"


@pytest.mark.anyio
async def test_a_closed_window_comes_with_a_finishing_time() -> None:
    """Whoever waits for a plan's window learns how long the rest takes; without a plan nothing is made up."""
    file = io.StringIO()
    with Screen(Console(file=file, width=200)) as screen:
        for _ in range(80):
            screen.begun("kling-v2.1")
        screen.hear(Paused(operation="generate", seconds=600.0))
        screen.limits = lambda: RateLimit(limit_hour=100, left=0)
        screen.hear(Paused(operation="generate", seconds=1_800.0))
    assert file.getvalue().splitlines() == [
        "waiting 10 min for the plan's window",
        "waiting 30 min for the plan's window; at 100 requests an hour the 80 under way take about 1.5 h yet",
    ]


@pytest.mark.anyio
async def test_a_log_file_gets_a_line_every_five_seconds() -> None:
    """Even when nothing happens, silence never lasts."""
    file = io.StringIO()
    with Screen(Console(file=file)) as screen:
        screen.begun("gpt-5")
        screen.begun("gpt-5")
        screen.settled("gpt-5", None, 2)
        await anyio.sleep(11)
    await anyio.sleep(11)
    assert file.getvalue().splitlines() == ["1 done, 0 failed, 2 tokens, 1 under way"] * 2


@pytest.mark.anyio
async def test_one_item_is_not_counted() -> None:
    """Of a single item there is nothing to count, however long it takes."""
    file = io.StringIO()
    with Screen(Console(file=file)) as screen:
        screen.begun("kling-v2.1")
        await anyio.sleep(60)
    assert file.getvalue() == ""


@pytest.mark.anyio
async def test_a_terminal_gets_a_bar_for_each_kind() -> None:
    """Bars count what is done of what has begun, and are gone from the machine's side when the block ends."""
    file = io.StringIO()
    with Screen(Console(file=file, force_terminal=True, width=100)) as screen:
        screen.begun("gpt-5")
        screen.begun("kling-v2.1")
        screen.settled("gpt-5", None, 2)
        screen.settled("kling-v2.1", GenerationFailedError("no"), 0)
        screen.bars.refresh()
    shown = file.getvalue()
    assert "text" in shown
    assert "video" in shown
    assert "1 failed" in shown
    assert "under way" not in shown


@pytest.mark.anyio
async def test_a_bar_warns_of_what_may_be_lost() -> None:
    """A bar counts what is in doubt as failed; what the budget kept back neither failed nor cost anything."""
    file = io.StringIO()
    with Screen(Console(file=file, force_terminal=True, width=100, color_system=None)) as screen:
        for error in (OutcomeUnknownError("lost"), BudgetExceededError("too dear"), GenerationFailedError("no"), None):
            screen.begun("gpt-5")
            screen.settled("gpt-5", error, 2 if error is None else None)
        screen.bars.refresh()
    last = [line for line in file.getvalue().splitlines() if "text" in line][-1]
    assert "4/4 2 failed 2 tokens" in " ".join(last.replace("━", "").split())


@pytest.mark.anyio
@pytest.mark.parametrize("width", [44, 60, 80, 200])
async def test_a_bar_is_one_line(width: int) -> None:
    """However narrow the window, no number is cut and nothing wraps; wide ones have room for the bar."""
    file = io.StringIO()
    with Screen(Console(file=file, force_terminal=True, width=width, color_system=None)) as screen:
        screen.begun("kling-v2.1")
        screen.settled("kling-v2.1", GenerationFailedError("no"), 12_345)
        screen.bars.refresh()
    last = [line for line in file.getvalue().splitlines() if "video" in line][-1]
    assert "1 failed 12,345 tokens" in " ".join(last.split())
    assert ("━" in last) == (width >= 60)


@pytest.mark.parametrize(
    ("status", "problem", "counted"),
    [
        ("completed", None, Tally(done=1, tokens=5)),
        ("failed", "it failed", Tally(failed=1, tokens=5)),
        ("pending", "interrupted", Tally(interrupted=1, tokens=5)),
        (None, "cut off", Tally(in_doubt=1)),
    ],
)
def test_what_the_end_of_a_run_left(status: str | None, problem: str | None, counted: Tally) -> None:
    """What is known of an item says what it counts as; nothing at all is a doubt, and never a failure."""
    tally = Tally()
    tally.note_rest(None if status is None else Generation(id=7, status=status, tokens_spent=5), problem)
    assert tally == counted


@pytest.mark.parametrize(
    ("tally", "otherwise", "code"),
    [
        (Tally(done=3), 0, 0),
        (Tally(done=3, failed=1), 0, 1),
        (Tally(done=3, bad_lines=1), 0, 1),
        (Tally(), 2, 2),
        (Tally(failed=1, in_doubt=1), 0, 3),
        (Tally(in_doubt=1), 130, 3),
        (Tally(failed=1, stopped_by=RateLimitError("stop")), 0, 4),
        (Tally(failed=1, in_doubt=1, stopped_by=RateLimitError("stop")), 0, 3),
        (Tally(failed=1), 130, 130),
        (Tally(), 143, 143),
    ],
)
def test_exit_codes(tally: Tally, otherwise: int, code: int) -> None:
    """Doubt comes first: a script that repeats a run in doubt could pay twice."""
    assert tally.code(otherwise) == code

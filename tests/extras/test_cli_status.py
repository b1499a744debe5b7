"""How a run stands, and what a person may decide about it: status, retry-failed, resolve and export."""

import csv
import io
import json
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from rich.console import Console

from neuralbox_async import Generation, GenerationRequest, LedgerRow, LedgerSummary
from neuralbox_async.extras.cli.owner import Owner, is_locked, owner_of
from neuralbox_async.extras.cli.page import draw_status
from neuralbox_async.extras.cli.status import Status, Unsaved, find_unsaved, time_left
from neuralbox_async.sandbox import Sandbox, VirtualTimeLoop, faults

TEXT = {"model": "gpt-5", "prompt": "Hello", "key": "hello"}
CLIPS = [{"model": "kling-v2.1", "prompt": f"clip {number}", "key": f"clip-{number}"} for number in range(3)]
STATES = ("planned", "sending", "accepted", "completed", "saved", "failed", "dropped", "in_doubt")
Until = Callable[[Callable[[], bool]], None]


def write(tmp_path: Path, *lines: object) -> Path:
    """Write a file of JSON lines."""
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def summary(began_at: float | None = 0.0, changed_at: float | None = 100.0, **counts: int) -> LedgerSummary:
    """Return a summary."""
    return LedgerSummary(counts=dict.fromkeys(STATES, 0) | counts, began_at=began_at, changed_at=changed_at)


@pytest.fixture
def doubtful(cli: Any, service: Sandbox, tmp_path: Path) -> Path:
    """Return the ledger of a run with one item in doubt, which the service has booked."""
    service.order(faults.lost())
    service.order(faults.status(404), on="GET /user/history")
    assert cli.run("bulk", write(tmp_path, TEXT), "--out", tmp_path / "out").code == 3
    return tmp_path / "out" / "run.db"


# --- status ----------------------------------------------------------------------------------------------------------


def test_a_run_that_goes_on(cli: Any, service: Sandbox, tmp_path: Path, until: Until) -> None:
    """The status of a living run has its process and its items, and asks the service nothing."""
    ledger = tmp_path / "out" / "run.db"
    process = cli.start("bulk", write(tmp_path, *CLIPS), "--out", tmp_path / "out", "--max-concurrency", 2)
    until(lambda: service.booked == 2)
    until(lambda: cli.run("status", ledger, "--json").records[0]["items"]["accepted"] == 2)
    asked = service.requests.total
    (record,) = cli.run("status", ledger, "--json").records
    assert (record["running"], record["pid"]) == (True, process.pid)
    assert (record["unread"], record["seconds_left"], record["tokens_spent"]) == (1, None, 0)
    assert "running, process" in cli.run("status", ledger).out
    process.send_signal(signal.SIGINT)
    cli.end(process)
    assert service.requests.total == asked
    stopped = cli.run("status", ledger).out
    assert "not running" in stopped
    assert f"Go on with: neuralbox resume {ledger}" in stopped


@pytest.mark.usefixtures("service")
def test_a_run_that_is_done(cli: Any, tmp_path: Path) -> None:
    """Nothing is left, nothing is in doubt."""
    cli.run("bulk", write(tmp_path, TEXT), "--out", tmp_path / "out")
    ended = cli.run("status", tmp_path / "out" / "run.db")
    assert ended.code == 0
    assert "Nothing is left to do." in ended.out
    assert "Go on" not in ended.out


def test_a_program_s_ledger_goes_on_with_its_program(cli: Any, tmp_path: Path) -> None:
    """A command that would be refused is not named: only the program knows what it asks for."""
    ledger = tmp_path / "run.db"

    async def program() -> None:
        async with Sandbox().client() as nb:
            requests = [GenerationRequest("gpt-5", "forbidden", key=key) for key in ("a", "b")]
            async with nb.generate_many(requests, ledger=ledger) as outcomes:
                assert [each.error is None async for each in outcomes] == [False, False]

    anyio.run(program, backend_options={"loop_factory": VirtualTimeLoop})
    assert cli.run("status", ledger, "--json").records[0]["resume"] is None
    assert "Go on with: the program that began it\n" in cli.run("status", ledger).out
    settled, planned = cli.run("resolve", ledger, "a", "--resubmit"), cli.run("retry-failed", ledger)
    assert settled.out == "a is sent again. Go on with: the program that began it\n"
    assert planned.out == "1 failed item planned anew. Go on with: the program that began it\n"
    assert cli.run("resume", ledger).code == 2


@pytest.mark.usefixtures("service")
def test_what_failed_can_be_tried_again(cli: Any, tmp_path: Path) -> None:
    """The end of a run names the command, and so does its status, where one looks later."""
    ledger = tmp_path / "out" / "run.db"
    cli.run("bulk", write(tmp_path, TEXT | {"prompt": "forbidden"}), "--out", tmp_path / "out")
    again = f"Try what failed again: neuralbox retry-failed {ledger}\n"
    assert cli.run("status", ledger).out.endswith(f"Nothing is left to do.\n{again}")


def test_doubt_is_named(cli: Any, doubtful: Path) -> None:
    """Every item in doubt is told with its key."""
    (record,) = cli.run("status", doubtful, "--json").records
    assert [each["key"] for each in record["in_doubt"]] == ["hello"]
    assert "In doubt: hello: gpt-5, sent" in cli.run("status", doubtful).out


def test_no_ledger(cli: Any, tmp_path: Path) -> None:
    """What is not there is one line and exit code 2."""
    ended = cli.run("status", tmp_path / "run.db")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "There is no ledger" in ended.err


@pytest.mark.parametrize(
    ("counted", "unread", "seconds"),
    [
        (summary(saved=10, planned=20), 0, 200),
        (summary(saved=10, accepted=5, in_doubt=5), 10, 200),
        (summary(saved=5, failed=4, dropped=1, completed=10), 0, 100),
        (summary(saved=10), 0, 0),
        (summary(planned=10), 0, None),
        (summary(saved=10), None, None),
        (summary(began_at=None, changed_at=None), 0, None),
    ],
)
def test_time_left(counted: LedgerSummary, unread: int | None, seconds: float | None) -> None:
    """The rest takes as long as what is done took, in proportion; what nobody knows is not guessed."""
    assert time_left(counted, unread, running=False, wants_files=True) == seconds


def test_what_nobody_saves_is_not_waited_for() -> None:
    """Without a folder, completed is the end."""
    assert time_left(summary(completed=10), 0, running=False, wants_files=False) == 0


@pytest.mark.parametrize(("plan", "days"), [("free", 7), ("basic", 30), ("vip", 90), ("elite", None), (None, 7)])
def test_what_expires(plan: str | None, days: int | None) -> None:
    """Results that lie at the service only expire there by plan, the oldest first; texts are in the ledger."""
    made = [datetime(2026, 3, day, tzinfo=UTC) for day in (8, 5, 9)]
    found = find_unsaved(
        iter(
            [
                *(
                    row(Generation(id=at.day, status="completed", url="https://x/y.mp4", completed_at=at))
                    for at in made
                ),
                row(Generation(id=1, status="completed", text="Hello")),
            ]
        ),
        plan,
    )
    assert found.count == 3
    assert found.first_expires_at == (None if days is None else made[1] + timedelta(days=days))


def row(generation: Generation) -> LedgerRow:
    """Return a row that is completed."""
    request = GenerationRequest("m", "p")
    return LedgerRow(number=1, key="k", index=0, state="completed", request=request, generation=generation)


@pytest.mark.parametrize("width", [30, 80])
def test_page(width: int) -> None:
    """A narrow terminal cuts nothing that must be pasted, and a prompt cannot command it."""
    file = io.StringIO()
    expires = datetime.now(UTC) + timedelta(days=2)
    request = GenerationRequest("kling-v2.1", "A\x1b[2J flower\n" * 20)
    status = Status(
        path="a/long/way/to/the/results/run.db",
        owner=Owner(is_there=False),
        summary=summary(saved=1_000, sending=1),
        unread=None,
        seconds_left=None,
        doubtful=tuple(LedgerRow(number=n, key=f"k{n}", index=n, state="sending", request=request) for n in range(12)),
        unsaved=Unsaved(count=3, first_expires_at=expires),
        resume="neuralbox resume a/long/way/to/the/results/run.db",
    )
    draw_status(Console(file=file, width=width), status)
    text = file.getvalue()
    assert "\x1b" not in text
    assert "1,000" in text
    assert f"At the service only: 3; the first expires on {expires:%Y-%m-%d}\n" in text
    assert "Go on with: neuralbox resume a/long/way/to/the/results/run.db\n" in text
    assert "and 2 more: neuralbox resolve a/long/way/to/the/results/run.db\n" in text


# --- who owns it -----------------------------------------------------------------------------------------------------


def test_locks_of_linux() -> None:
    """A lock counts by the file that it is of."""
    locks = "1: POSIX  ADVISORY  WRITE 12 08:01:77 0 EOF\n2: FLOCK  ADVISORY  WRITE 12 08:01:1234 0 EOF\n"
    assert [is_locked(inode, locks) for inode in (1234, 77, 234)] == [True, False, False]


@pytest.mark.skipif(sys.platform == "win32", reason="nobody can tell there")
def test_owner_of_what_never_ran(tmp_path: Path) -> None:
    """Without a lock's file, and after a kill, nobody owns it."""
    assert owner_of(str(tmp_path / "run.db")) == Owner(is_there=False)
    (tmp_path / "run.db.lock").write_text("999999999\n")
    assert owner_of(str(tmp_path / "run.db")) == Owner(is_there=False)


# --- decisions -------------------------------------------------------------------------------------------------------


def test_retry_failed(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """What failed is planned anew and said; the next run sends it, and its new end gets a line of its own."""
    service.order(faults.status(400))
    cli.run("bulk", write(tmp_path, TEXT), "--out", tmp_path / "out")
    ledger = tmp_path / "out" / "run.db"
    said = cli.run("retry-failed", ledger)
    assert (said.code, said.out) == (0, f"1 failed item planned anew. Go on with: neuralbox resume {ledger}\n")
    ended = cli.run("resume", ledger)
    assert (ended.code, [each["error"] for each in ended.records]) == (0, [None])
    assert len((tmp_path / "out" / "outcomes.jsonl").read_text().splitlines()) == 2
    assert cli.run("retry-failed", ledger).out == "Nothing has failed.\n"


def test_doubts_are_listed(cli: Any, doubtful: Path) -> None:
    """Without a key, `resolve` lists what is in doubt and what can be done."""
    listed = cli.run("resolve", doubtful)
    assert listed.code == 0
    assert listed.out.startswith("hello: gpt-5, sent ")
    assert f"neuralbox resolve {doubtful} KEY --adopt ID" in listed.out
    assert [each["key"] for each in cli.run("resolve", doubtful, "--json").records] == ["hello"]


@pytest.mark.parametrize(
    ("decision", "ends"), [(["--adopt", "18500"], (0, 1)), (["--resubmit"], (0, 2)), (["--drop"], (1, 1))]
)
def test_resolve(cli: Any, service: Sandbox, doubtful: Path, decision: list[str], ends: tuple[int, int]) -> None:
    """What a person has decided is what the next run does."""
    decided = cli.run("resolve", doubtful, "hello", *decision)
    assert decided.code == 0
    assert f"Go on with: neuralbox resume {doubtful}" in decided.out
    assert (cli.run("resume", doubtful).code, service.requests.posts) == ends
    assert cli.run("resolve", doubtful).out == "Nothing is in doubt.\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["hello"], "resolve wants the KEY of an item, and one of"),
        (["--drop"], "resolve wants the KEY of an item, and one of"),
        (["hello", "--drop", "--resubmit"], "settled by one of --adopt, --resubmit and --drop"),
        (["nobody", "--drop"], "has no item 'nobody'"),
    ],
)
def test_what_resolves_nothing(cli: Any, doubtful: Path, arguments: list[str], says: str) -> None:
    """A decision that cannot be carried out is one line and exit code 2."""
    ended = cli.run("resolve", doubtful, *arguments)
    assert ended.code == 2
    assert says in ended.err


def test_an_adopted_generation_that_is_not_there_cannot_be_waited_for(cli: Any, doubtful: Path) -> None:
    """An id that was mistyped leads to nothing, so no command is named that would get it."""
    assert cli.run("resolve", doubtful, "hello", "--adopt", 99).code == 0
    ended = cli.run("resume", doubtful)
    assert (ended.code, ended.records[0]["error"]["type"]) == (1, "NotFoundError")
    assert "hint" not in ended.records[0]["error"]
    assert "Get it with" not in ended.err


# --- export ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("service")
def test_export(cli: Any, tmp_path: Path) -> None:
    """Each item is one record, with its state and the input's own columns, as JSON lines or a table."""
    lines = [TEXT | {"scene": 7, "url": "mine"}, TEXT | {"key": "b", "prompt": "forbidden", "note": ["x"]}]
    cli.run("bulk", write(tmp_path, *lines), "--out", tmp_path / "out")
    ledger = tmp_path / "out" / "run.db"
    first, second = cli.run("export", ledger).records
    assert (first["key"], first["state"], first["line"], first["scene"]) == ("hello", "saved", 1, 7)
    assert first["input"] == {"url": "mine"}
    assert (second["state"], second["error"]["type"]) == ("failed", "GenerationFailedError")
    assert cli.run("export", ledger, "--out", tmp_path / "all.csv").out == ""
    assert (tmp_path / "all.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    with (tmp_path / "all.csv").open(encoding="utf-8-sig", newline="") as file:
        one, two = csv.DictReader(file)
    assert (one["key"], one["scene"], one["input.url"], one["note"], one["error"]) == ("hello", "7", "mine", "", "")
    assert (two["note"], two["state"]) == ('["x"]', "failed")
    assert two["error"].startswith("Generation")
    assert cli.run("export", ledger, "--format", "csv").out.startswith("index,line,key,model,")


@pytest.mark.usefixtures("service")
def test_nobody_reads_an_export(cli: Any, tmp_path: Path) -> None:
    """A pipe that closes ends it without a traceback."""
    cli.run("bulk", write(tmp_path, TEXT), "--ledger", tmp_path / "run.db")
    process = cli.start("export", tmp_path / "run.db")
    process.stdout.close()
    assert (process.stderr.read().decode(), process.wait(30)) == ("", 141)


@pytest.fixture
def with_ctrl_c() -> Iterator[None]:
    """Let processes that are started hear SIGINT, which a shell has those ignore that it runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no signal to one process")
@pytest.mark.usefixtures("service", "with_ctrl_c")
def test_ctrl_c_where_nothing_is_under_way(cli: Any, tmp_path: Path) -> None:
    """An export that waits for its reader ends without a traceback."""
    cli.run("bulk", write(tmp_path, TEXT | {"prompt": "Hello" * 100_000}), "--ledger", tmp_path / "run.db")
    process = cli.start("export", tmp_path / "run.db")
    process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    ended = cli.end(process)
    assert (ended.code, ended.err) == (130, "")


@pytest.mark.parametrize("name", ["all.xlsx", "all.JSON", "all.tsv"])
def test_export_refuses_an_ending_that_it_cannot_write(name: str, cli: Any, doubtful: Path, tmp_path: Path) -> None:
    """A file named like another form is refused and not begun; --format says that it is meant."""
    ended = cli.run("export", doubtful, "--out", tmp_path / name)
    assert ended.code == 2
    assert "cannot be written; name a file that ends in .jsonl or .csv, or say --format." in ended.err
    assert not (tmp_path / name).exists()
    assert cli.run("export", doubtful, "--out", tmp_path / name, "--format", "jsonl").code == 0
    assert (tmp_path / name).read_text(encoding="utf-8").startswith('{"index"')


@pytest.mark.parametrize("name", ["all", "all.JSONL"])
def test_export_writes_json_lines_where_no_other_form_is_named(
    name: str, cli: Any, doubtful: Path, tmp_path: Path
) -> None:
    """JSON lines are what a name without an ending gets."""
    assert cli.run("export", doubtful, "--out", tmp_path / name).code == 0
    assert (tmp_path / name).read_text(encoding="utf-8").startswith('{"index"')


@pytest.mark.parametrize(("form", "begins"), [("csv", b"\xef\xbb\xbfindex,"), ("jsonl", b'{"index"')])
def test_only_a_table_has_excel_s_mark(form: str, begins: bytes, cli: Any, doubtful: Path, tmp_path: Path) -> None:
    """Whatever the file is called: what reads JSON does not expect it."""
    for name in ("all.csv", "all.txt"):
        assert cli.run("export", doubtful, "--out", tmp_path / name, "--format", form).code == 0
        assert (tmp_path / name).read_bytes().startswith(begins)


def test_export_never_writes_over_its_ledger(cli: Any, doubtful: Path, tmp_path: Path) -> None:
    """By whatever name: it has all that is known of what was paid for."""
    before = doubtful.read_bytes()
    (tmp_path / "link.csv").symlink_to(doubtful)
    for out in (doubtful, tmp_path / "link.csv"):
        ended = cli.run("export", doubtful, "--out", out, "--format", "csv")
        assert (ended.code, ended.out) == (2, "")
        assert f"--out {out} is the ledger itself; name another file." in ended.err
    assert doubtful.read_bytes() == before


def test_export_wants_a_name(cli: Any, doubtful: Path) -> None:
    """As from a shell's variable that is not set."""
    ended = cli.run("export", doubtful, "--out", "")
    assert (ended.code, ended.out) == (2, "")
    assert "--out wants the name of a file." in ended.err


def test_export_that_cannot_be_written(cli: Any, doubtful: Path, tmp_path: Path) -> None:
    """A place that takes no file is one line and exit code 2."""
    ended = cli.run("export", doubtful, "--out", tmp_path)
    assert ended.code == 2
    assert "cannot be written: Is a directory." in ended.err

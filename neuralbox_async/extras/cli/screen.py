"""A person at a terminal sees a bar for each kind of result, a log file gets a line every few seconds."""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from attrs import define, field
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column
from rich.text import Text

from neuralbox_async import (
    Event,
    Generation,
    Paused,
    RateLimit,
    RateLimitError,
    Requested,
    Retrying,
    Surplus,
)
from neuralbox_async.extras.cli.exits import Tally
from neuralbox_async.extras.cli.finish import seconds_to_finish
from neuralbox_async.extras.cli.wording import duration, in_our_words
from neuralbox_async.sandbox import CATALOGUE

SECONDS_BETWEEN_LINES: Final = 5.0
SECONDS_BETWEEN_NOTES: Final = 1.0
OTHER: Final = "other"
NUMBERS_WIDTH: Final = 54
LEAST_BAR: Final = 6
WIDEST_BAR: Final = 34


def kind_of(model: str) -> str:
    """Name what a model makes: "text", "image", "video", "music", "speech", "tool"; "other" for one we do not know."""
    known = CATALOGUE.get(model)
    return OTHER if known is None else known.kind


def printable(text: str) -> str:
    """Return text without characters that would command a terminal."""
    return "".join(each if each.isprintable() or each in "\n\t" else "\N{REPLACEMENT CHARACTER}" for each in text)


class FailedColumn(ProgressColumn):
    """How many failed: red where it matters."""

    def render(self, task: Task) -> Text:
        """Return the number and its word."""
        failed = int(task.fields["failed"])
        return Text(f"{failed:>2} failed", style="red" if failed else "dim")


def make_bars(console: Console) -> Progress:
    """Make the bars, still without any."""
    columns = [
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description:<7}"),
        TextColumn("{task.completed:>4.0f}/{task.total:<4.0f}"),
        FailedColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[tokens]:>6,} [dim]tokens"),
    ]
    room = console.width - NUMBERS_WIDTH
    if room >= LEAST_BAR:  # in a narrow window the numbers are worth more
        columns = [*columns[:2], BarColumn(bar_width=min(room, WIDEST_BAR)), *columns[2:], TimeElapsedColumn()]
    return Progress(
        *columns,
        console=console,
        disable=not console.is_interactive,
        # With results going to a pipe, rich must leave stdout alone; on the same terminal it must know of them.
        redirect_stdout=sys.stdout.isatty(),
    )


@define
class Notes:
    """Waiting and repeating as short lines: one for each wait, however many calls wait for the same thing."""

    _last: float = field(default=float("-inf"), init=False)
    _open_at: float = field(default=float("-inf"), init=False)
    _surplus_ids: set[int | str] = field(factory=set[int | str], init=False)

    def of(self, event: Event, now: float) -> str | None:
        """Return the line for an event, if it is worth one; `now` is loop time."""
        match event:
            case Retrying(error=RateLimitError(), seconds=seconds) | Paused(seconds=seconds):
                return self._waiting(seconds, now)
            case Retrying(operation=operation, error=error, attempt=attempt, seconds=seconds):
                said = in_our_words(error)
                return self._retrying(now, f"{operation}: retry {attempt} in {duration(seconds)}: {said}")
            case Surplus(generations=generations):
                return self._surplus(generations)
            case _:
                return None

    def _surplus(self, generations: Sequence[Generation]) -> str | None:
        new = [each.id for each in generations if each.id not in self._surplus_ids]
        if not new:
            return None
        self._surplus_ids.update(new)
        ids = " ".join(map(str, new))
        return f"surplus, booked and perhaps paid besides what was asked for: neuralbox wait {ids}"

    def _waiting(self, seconds: float, now: float) -> str | None:
        if now + seconds <= self._open_at + SECONDS_BETWEEN_NOTES:
            return None
        self._open_at = now + seconds
        return f"waiting {duration(seconds)} for the plan's window"

    def _retrying(self, now: float, note: str) -> str | None:
        if now < self._last + SECONDS_BETWEEN_NOTES:
            return None
        self._last = now
        return note


@define(kw_only=True)
class _Bar:
    """The bar of one kind of result: how long it is, and what came of its items."""

    task: TaskID
    total: int
    tally: Tally = field(factory=Tally, init=False)


class Screen:
    """What a person sees on stderr while a command works; use it as a context manager inside the event loop.

    `totals` is how many items of each kind there will be; without it a bar is as long as what has begun. `limits`, once
    there is a client, says what is left of the plan; without it no finishing time is told.
    """

    def __init__(self, console: Console, totals: Mapping[str, int] | None = None) -> None:
        self.console = console
        self.tally = Tally()
        self.bars = make_bars(console)
        self.limits: Callable[[], RateLimit] = RateLimit
        self._events = Notes()
        self._asked = 0
        self._fixed = totals is not None
        self._begun = 0
        self._timer: asyncio.TimerHandle | None = None
        self._bars = {kind: self._add(kind, total) for kind, total in (totals or {}).items()}

    @property
    def live(self) -> bool:
        """Whether a person watches bars move."""
        return self.console.is_interactive

    def __enter__(self) -> Self:
        if self.live:
            self.bars.start()
        else:
            self._tick_later()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the terminal as it was found; calling it twice is harmless."""
        if self.live:
            self.bars.stop()
        if self._timer is not None:
            self._timer.cancel()

    def say(self, text: str, style: str = "") -> None:
        """Show one line."""
        self.console.print(Text(printable(text), style=style), soft_wrap=True)

    def hear(self, event: Event) -> None:
        """Show an event of the client, if it means waiting."""
        note = self._events.of(event, asyncio.get_running_loop().time())
        if isinstance(event, Requested):
            self._asked += 1
        if note is not None:
            self.say(note + (self._to_finish(event.seconds) if isinstance(event, Paused) else ""), style="yellow")

    def _to_finish(self, until_open: float) -> str:
        items, settled = self._begun - self.tally.settled, self.tally.settled
        limit = self.limits()
        seconds = seconds_to_finish(limit, items=items, settled=settled, asked=self._asked, until_open=until_open)
        if seconds is None or items < 1:
            return ""
        return f"; at {limit.limit_hour:,} requests an hour the {items:,} under way take about {duration(seconds)} yet"

    def begun(self, model: str) -> None:
        """Count an item that is under way from now on."""
        self._begun += 1
        kind = kind_of(model)
        if kind not in self._bars:
            self._bars[kind] = self._add(kind, 0)
        if not self._fixed:
            bar = self._bars[kind]
            bar.total += 1
            self.bars.update(bar.task, total=bar.total)

    def settled(self, model: str, error: Exception | None, tokens: int | None) -> None:
        """Count an item that is no longer under way."""
        bar = self._bars[kind_of(model)]
        for tally in (self.tally, bar.tally):
            tally.note(error, tokens)
        failed = bar.tally.failed + bar.tally.in_doubt
        self.bars.update(bar.task, advance=1, failed=failed, tokens=bar.tally.tokens)

    def _add(self, kind: str, total: int) -> _Bar:
        task = self.bars.add_task(kind, total=total, failed=0, tokens=0)
        return _Bar(task=task, total=total)

    def _tick_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(SECONDS_BETWEEN_LINES, self._tick)

    def _tick(self) -> None:
        if self._begun > 1:  # of a single item there is nothing to count
            self.say(f"{self.tally}, {self._begun - self.tally.settled:,} under way")
        self._tick_later()

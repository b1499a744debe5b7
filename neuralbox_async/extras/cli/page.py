"""What a person reads of a run: short lines that fit a narrow terminal, the worst news last and coloured."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from neuralbox_async import LedgerRow
from neuralbox_async.extras.cli.kept import Kept, go_on_with
from neuralbox_async.extras.cli.screen import printable
from neuralbox_async.extras.cli.status import Status
from neuralbox_async.extras.cli.wording import duration

WORDS: Final[Mapping[str, str]] = {
    "planned": "not sent yet",
    "sending": "being sent",
    "accepted": "under way",
    "completed": "completed",
    "saved": "saved",
    "failed": "failed",
    "dropped": "dropped",
    "in_doubt": "in doubt",
}
_COLOURS: Final[Mapping[str, str]] = {"saved": "green", "completed": "green", "failed": "red", "in_doubt": "red"}
MOST_SHOWN: Final = 10
SOON: Final = timedelta(days=7)


def draw_status(console: Console, status: Status) -> None:
    """Draw how a run stands."""
    now = datetime.now(UTC)
    console.print(Text(f"{status.path}: {status.owner}", style="bold"), soft_wrap=True)
    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    for words, number, style in _counts(status):
        table.add_row(Text(words, style=style), Text(number, style=style))
    console.print(table)
    for line, style in _lines(status, now):
        console.print(Text(printable(line), style=style), soft_wrap=True)


def draw_doubts(console: Console, path: str, rows: tuple[LedgerRow, ...]) -> None:
    """Draw what is in doubt and how to settle it."""
    if not rows:
        console.print("Nothing is in doubt.")
        return
    for row in rows:
        console.print(Text(printable(_doubt(row, datetime.now(UTC)))), soft_wrap=True)
    settle = f"{Kept(path).command('resolve')} KEY"
    text = f"\n{settle} --adopt ID    it became this generation\n{settle} --resubmit    send it again\n"
    console.print(Text(f"{text}{settle} --drop        give it up"), soft_wrap=True)


def _counts(status: Status) -> Iterator[tuple[str, str, str]]:
    counts = dict(status.summary.counts)
    if status.owner.is_there is False:  # nobody is there to hear the answer
        counts["in_doubt"] += counts.pop("sending")
    for state, words in WORDS.items():
        if counts.get(state):
            yield words, f"{counts[state]:,}", _COLOURS.get(state, "")
    if status.unread != 0:
        yield "not read yet", "?" if status.unread is None else f"{status.unread:,}", ""


def _lines(status: Status, now: datetime) -> Iterator[tuple[str, str]]:
    summary, unsaved = status.summary, status.unsaved
    reserved = f", {summary.tokens_reserved:,} reserved" if summary.tokens_reserved else ""
    yield f"Tokens: {summary.tokens_spent:,} spent{reserved}", ""
    if summary.changed_at is not None:
        yield f"Last step: {ago(summary.changed_at, now)}", ""
    if status.seconds_left == 0:
        yield "Nothing is left to do.", "green"
    elif status.seconds_left is not None:
        yield f"Time left: about {duration(status.seconds_left)}, at the average so far, pauses included", ""
    else:
        yield "Time left: unknown", "dim"
    if unsaved.count:
        first = unsaved.first_expires_at
        expires = "" if first is None else f"; the first expires on {first:%Y-%m-%d}"
        yield f"At the service only: {unsaved.count:,}{expires}", "red" if first and first - now < SOON else ""
    for row in status.doubtful[:MOST_SHOWN]:
        yield f"In doubt: {_doubt(row, now)}", "red"
    if len(status.doubtful) > MOST_SHOWN:
        yield f"and {len(status.doubtful) - MOST_SHOWN:,} more: {Kept(status.path).command('resolve')}", "red"
    if status.owner.is_there is not True and status.seconds_left != 0:
        yield go_on_with(status.resume), ""
    if status.owner.is_there is not True and summary.counts["failed"]:
        yield f"Try what failed again: {Kept(status.path).command('retry-failed')}", ""


def _doubt(row: LedgerRow, now: datetime) -> str:
    sent = "" if row.sent_at is None else f", sent {ago(row.sent_at, now)}"
    prompt = " ".join(row.request.prompt.split())
    return f"{row.key}: {row.request.model}{sent}, {prompt[:60]}"


def ago(at: float, now: datetime) -> str:
    """Say how long ago something was."""
    return f"{duration(max(0.0, now.timestamp() - at))} ago"

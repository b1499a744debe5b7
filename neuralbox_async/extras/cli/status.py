"""`neuralbox status`: how a run stands, alive or dead, by its ledger alone; what nobody knows is not guessed."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import anyio
from attrs import frozen

from neuralbox_async import Ledger, LedgerRow, LedgerSummary, UsageError
from neuralbox_async.extras.cli.kept import Kept
from neuralbox_async.extras.cli.owner import Owner, owner_of
from neuralbox_async.extras.cli.prompts import read_prompts
from neuralbox_async.extras.cli.settings import BulkOptions, recalled
from neuralbox_async.extras.cli.source import STDIN, opened

# Source: the documentation's retention of files by plan; None is for ever.
KEPT_DAYS: Final[Mapping[str | None, int | None]] = {"free": 7, "basic": 30, "pro": 90, "vip": 90, "elite": None}
SHORTEST_DAYS: Final = 7


@frozen(kw_only=True)
class Unsaved:
    """Results that are completed and not saved: how many, and when the first expires, if any does."""

    count: int = 0
    first_expires_at: datetime | None = None


@frozen(kw_only=True)
class Status:
    """How a run stands.

    Attributes:
        path: The ledger.
        owner: Whether a process works on it now.
        summary: What is where.
        unread: How many items of the input are not in the ledger yet; None if the input cannot be counted.
        seconds_left: How long it may take yet, at the average of the time since it began; None if unknown.
        doubtful: The items in doubt.
        unsaved: What is completed and not saved.
        resume: The command that goes on; None if a program began the run.
    """

    path: str
    owner: Owner
    summary: LedgerSummary
    unread: int | None
    seconds_left: float | None
    doubtful: tuple[LedgerRow, ...]
    unsaved: Unsaved
    resume: str | None


def read_status(path: str) -> Status:
    """Read how a run stands. Raises LedgerError if its ledger cannot be read."""
    owner = owner_of(path)
    with Ledger(path) as ledger:
        summary, doubtful = ledger.summary(), tuple(ledger.rows("sending", "in_doubt"))
        unsaved = find_unsaved(ledger.rows("completed"), ledger.settings.get("plan"))
        wants_files = ledger.settings.get("out") is not None
        resume = Kept(path).resume(ledger.settings)
    # What is on its way is in doubt only if nobody runs who waits for its answer.
    doubtful = tuple(row for row in doubtful if row.state == "in_doubt" or owner.is_there is False)
    unread = _unread(path, summary.total)
    return Status(
        path=path,
        owner=owner,
        summary=summary,
        unread=unread,
        seconds_left=time_left(summary, unread, running=bool(owner.is_there), wants_files=wants_files),
        doubtful=doubtful,
        unsaved=unsaved,
        resume=resume,
    )


def find_unsaved(completed: Iterator[LedgerRow], plan: str | None) -> Unsaved:
    """Find out which results lie at the service only, and when the first of them expires there."""
    days = KEPT_DAYS.get(plan, SHORTEST_DAYS)
    count, first = 0, None
    for row in completed:
        generation = row.generation
        if generation is None or generation.url is None or row.path is not None:
            continue
        made_at = generation.completed_at or generation.created_at or datetime.fromtimestamp(row.changed_at, UTC)
        count, first = count + 1, made_at if first is None else min(first, made_at)
    expires_at = None if first is None or days is None else first + timedelta(days=days)
    return Unsaved(count=count, first_expires_at=expires_at)


def time_left(summary: LedgerSummary, unread: int | None, *, running: bool, wants_files: bool) -> float | None:
    """Return the seconds that the rest takes at the average so far, pauses included; None if nothing tells."""
    unsaved = summary.counts["completed"] if wants_files else 0
    ended = summary.total - summary.unfinished - unsaved
    now = datetime.now(UTC).timestamp() if running else summary.changed_at
    if summary.began_at is None or now is None or not ended or unread is None:
        return None
    rest = summary.unfinished + unsaved + unread
    return rest * max(0.0, now - summary.began_at) / ended


def as_record(status: Status) -> dict[str, Any]:
    """Describe it as JSON has it; times are in Unix seconds."""
    summary, expires_at = status.summary, status.unsaved.first_expires_at
    return {
        "ledger": status.path,
        "running": status.owner.is_there,
        "pid": status.owner.pid,
        "items": dict(summary.counts),
        "unread": status.unread,
        "tokens_spent": summary.tokens_spent,
        "tokens_reserved": summary.tokens_reserved,
        "began_at": summary.began_at,
        "changed_at": summary.changed_at,
        "seconds_left": status.seconds_left,
        "in_doubt": [as_doubt(row) for row in status.doubtful],
        "not_saved": status.unsaved.count,
        "first_expires_at": None if expires_at is None else expires_at.timestamp(),
        "resume": status.resume,
    }


def as_doubt(row: LedgerRow) -> dict[str, Any]:
    """Describe an item in doubt as JSON has it."""
    request = row.request
    return {"key": row.key, "model": request.model, "prompt": request.prompt, "sent_at": row.sent_at}


def _unread(path: str, taken: int) -> int | None:
    """Count what the input has beyond those items that the ledger has."""
    try:
        options = recalled(path)
        return None if options.file == STDIN else max(0, anyio.run(count_items, options) - taken)
    except UsageError:
        return None


async def count_items(options: BulkOptions) -> int:
    """Count the items of a file. Raises UsageError if it cannot be read."""
    with opened(options.file) as source:
        count = 0
        async for line in read_prompts(source.lines(), source.name, options.defaults):
            count += line.request is not None
        return count

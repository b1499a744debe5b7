"""What a run has come to, judged by what its ledger says, what the service has booked, and what lies on the disk."""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from neuralbox_async import Ledger, LedgerRow
from neuralbox_async.sandbox import Sandbox, results
from neuralbox_async.sandbox.account import Job

IN_DOUBT = ("sending", "in_doubt")


def rows(path: Path) -> list[LedgerRow]:
    """Read all items of a ledger."""
    with Ledger(path) as ledger:
        return list(ledger.rows())


def integrity(path: Path) -> str:
    """Return SQLite's own verdict on a file, "ok" if it is whole; nothing is repaired by asking."""
    if not path.exists() or not path.stat().st_size:
        return "ok"  # killed before the first page was written
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def charged_twice(items: Sequence[LedgerRow], jobs: Iterable[Job]) -> list[str]:
    """Name what was booked more often than it was asked for, and items that had two generations."""
    asked: dict[tuple[str, str], int] = {}
    for row in items:
        what = row.request.model, row.request.prompt
        asked[what] = asked.get(what, 0) + 1
    for job in jobs:
        asked[job.model.slug, job.prompt] -= 1
    return [f"{model}, {prompt!r}: {-left} too many" for (model, prompt), left in asked.items() if left < 0]


def unbound(items: Sequence[LedgerRow], jobs: Iterable[Job]) -> list[str]:
    """Name what was paid for and is no item's."""
    bound = {row.generation.id for row in items if row.generation is not None}
    return [f"generation {job.id} ({job.prompt!r})" for job in jobs if job.id not in bound]


def untrue(items: Sequence[LedgerRow], sandbox: Sandbox) -> list[str]:
    """Name items of which the ledger says what is not so: another's generation, or a result that is not on the disk."""
    wrong: list[str] = []
    for row in items:
        if row.state != "saved":
            continue
        job = None if row.generation is None else sandbox.world.jobs.get(str(row.generation.id))
        if job is None or (job.model.slug, job.prompt) != (row.request.model, row.request.prompt):
            wrong.append(f"{row.key}: generation {job} is not what it asked for")
        elif row.path is None or not row.path.is_file() or row.path.read_bytes() != expected(job):
            wrong.append(f"{row.key}: {row.path} is not the result of generation {job.id}")
    return wrong


def expected(job: Job) -> bytes:
    """Return the bytes of a job's result."""
    text = results.text(job)
    return results.content(job) if text is None else text.encode()

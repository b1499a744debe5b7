"""What a durable ledger costs: commits a second, seconds to resume a large run, and memory over a long one.

On the disk of the folder for temporary files (TMPDIR names another one), in a worker thread, as a run does it. Commits
are counted in wall time, since they wait for the disk.
"""

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import anyio
import anyio.to_thread

from benchmarks.measure import resident_bytes
from benchmarks.rows import Row, at_most, beside
from neuralbox_async import Generation, GenerationRequest
from neuralbox_async._edge.ledger import LedgerWriter

SECONDS = 2.0
RUNS = 3
ITEMS = 100_000
MANY_ITEMS = 200_000
AT_ONCE = 500
REQUEST = GenerationRequest("kling-v2.1", "A blooming flower, seen from above, in the morning light", {"duration": 5})


def rows() -> list[Row]:
    """Measure."""
    return anyio.run(measured)


async def measured() -> list[Row]:
    """Measure, in an event loop."""
    found = [await steps(waiting) for waiting in (1, 100, 500)]
    found.append(plain())
    with TemporaryDirectory() as folder:
        path = Path(folder, "run.db")
        await plan(path)
        found += await resuming(path, f"{path.stat().st_size / 1e6:,.0f} MB")  # noqa: ASYNC240 - one small call
        grown = [await growth(Path(folder, "long.db"), keep), await growth(None, forget)]
    for where, bytes_more in zip(("in a file", "in memory, forgotten when finished"), grown, strict=True):
        work = f"ledger, {MANY_ITEMS:,} items {where}: memory grown after the first tenth"
        found.append(at_most("-", work, 50, bytes_more / 1e6, unit=" MB", detail="resident"))
    return found


@asynccontextmanager
async def opened(path: Path | None) -> AsyncIterator[LedgerWriter]:
    """Open a ledger to write."""
    run = anyio.to_thread.run_sync
    writer = await LedgerWriter.open(path, origin="https://a.test", account=bytes.hex, run=run)
    try:
        yield writer
    finally:
        await writer.aclose()


def requests(count: int) -> Iterator[tuple[int, GenerationRequest]]:
    """Yield so many requests, each with a key of its own, and their places."""
    for number in range(count):
        yield number, GenerationRequest(REQUEST.model, REQUEST.prompt, REQUEST.params, key=f"item-{number}")


def accepted(number: int) -> Generation:
    """Return what the service answers to a POST."""
    reply = {"id": number, "status": "pending", "model_slug": REQUEST.model, "tokens_spent": 0}
    return Generation(id=number, status="pending", model=REQUEST.model, tokens_spent=0, raw=reply)


async def many(work: Callable[[int, GenerationRequest], Awaitable[object]], count: int, at_once: int) -> None:
    """Work on so many items, so many at once."""
    left = requests(count)

    async def worker() -> None:
        for number, request in left:
            await work(number, request)

    async with anyio.create_task_group() as workers:
        for _ in range(at_once):
            workers.start_soon(worker)


async def steps(waiting: int) -> Row:
    """Count durable steps a second, so many tasks always waiting for one: add, send, accept."""
    figures = []
    for _ in range(RUNS):
        with TemporaryDirectory() as folder:
            async with opened(Path(folder, "run.db")) as writer:
                figures.append(await steps_per_second(writer, waiting))
    detail = f"median of {RUNS} runs of {SECONDS:.0f} s: {', '.join(f'{each:,.0f}' for each in sorted(figures))}"
    work = f"ledger: durable steps a second, {waiting} waiting"
    return beside("-", work, median(figures), detail=detail)


async def steps_per_second(writer: LedgerWriter, waiting: int) -> float:
    """Return how many steps are taken in a second."""
    left = requests(10**9)
    taken = 0
    ends = time.monotonic() + SECONDS

    async def worker() -> None:
        nonlocal taken
        while time.monotonic() < ends:
            number, request = next(left)
            row = await writer.add(request, index=number, repeat=0)
            row = await writer.move(row, "sending", sent_at=0.0)
            await writer.move(row, "accepted", generation=accepted(number))
            taken += 3

    began = time.monotonic()
    async with anyio.create_task_group() as workers:
        for _ in range(waiting):
            workers.start_soon(worker)
    return taken / (time.monotonic() - began)


def plain() -> Row:
    """Count how often a second this disk makes one appended line durable: what a journal of lines could do at best."""
    count, line = 0, b"x" * 300 + b"\n"
    with TemporaryDirectory() as folder, Path(folder, "lines").open("wb", buffering=0) as file:
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            file.write(line)
            os.fsync(file.fileno())
            count += 1
    work = "beside it: appended lines a second, each made durable (fsync)"
    return beside("-", work, count / SECONDS, detail=f"{SECONDS:.0f} s")


async def plan(path: Path) -> None:
    """Make a ledger of a run that was killed: all planned, a tenth of it accepted."""
    async with opened(path) as writer:

        async def work(number: int, request: GenerationRequest) -> None:
            row = await writer.add(request, index=number, repeat=0)
            if number % 10 == 0:
                row = await writer.move(row, "sending", sent_at=0.0)
                await writer.move(row, "accepted", generation=accepted(number))

        await many(work, ITEMS, AT_ONCE)


async def resuming(path: Path, size: str) -> list[Row]:
    """Measure how long a resumed run takes until it has read all that is left to do."""
    began = time.monotonic()
    async with opened(path) as writer:
        opening = time.monotonic() - began
        read = last = 0
        while page := await writer.rows("planned", "sending", "in_doubt", "accepted", after=last):
            read, last = read + len(page), page[-1].number
        in_all = time.monotonic() - began
    work = f"ledger of {ITEMS:,} items"
    return [
        at_most("-", f"{work}: opened, checked to be whole", 3, opening, unit=" s", detail=size),
        at_most("-", f"{work}: opened and read", 15, in_all, unit=" s", detail=f"{read:,} unfinished rows"),
    ]


async def keep(writer: LedgerWriter, number: int, request: GenerationRequest) -> None:
    """Bring an item to its end."""
    row = await writer.add(request, index=number, repeat=0)
    row = await writer.move(row, "sending", sent_at=0.0)
    await writer.move(row, "completed", generation=accepted(number))


async def forget(writer: LedgerWriter, number: int, request: GenerationRequest) -> None:
    """Bring an item to its end and forget it."""
    await keep(writer, number, request)
    (row,) = await writer.rows("completed", after=0, limit=1)
    await writer.forget(row)


async def growth(path: Path | None, step: Callable[[LedgerWriter, int, GenerationRequest], Awaitable[None]]) -> int:
    """Return the bytes by which this process grows after the first tenth of a long run."""
    early = 0
    async with opened(path) as writer:

        async def work(number: int, request: GenerationRequest) -> None:
            nonlocal early
            if number == MANY_ITEMS // 10:
                early = resident_bytes()
            await step(writer, number, request)

        await many(work, MANY_ITEMS, AT_ONCE if path else 1)
        return resident_bytes() - early

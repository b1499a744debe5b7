"""A hundred downloads of 10 MB at once: for how long they hold up the event loop, and what memory they take."""

import time
from itertools import count
from statistics import median
from tempfile import TemporaryDirectory

import anyio
from attrs import frozen

from benchmarks.clients import ours
from benchmarks.measure import resident_bytes, resident_bytes_now
from benchmarks.rows import Row, at_most, beside
from benchmarks.server import FILE, Server, running_server
from neuralbox_async import AsyncNeuralBox, Generation

DOWNLOADS = 100
RUNS = 3


@frozen(kw_only=True)
class Run:
    """One run: the longest that the event loop was held up, in wall time and in CPU time; memory grown; all its CPU."""

    stall_seconds: float
    busy_seconds: float
    grown_bytes: int
    cpu_seconds: float


def rows() -> list[Row]:
    """Measure."""
    return anyio.run(measured)


async def measured() -> list[Row]:
    """Measure, in an event loop."""
    with running_server() as server:
        async with ours(server.url()) as nb:
            await one_run(nb, server, downloads=5)
            runs = [await one_run(nb, server, downloads=DOWNLOADS) for _ in range(RUNS)]
    work = f"{DOWNLOADS} downloads of 10 MB at once"
    stalls = ", ".join(f"{run.stall_seconds * 1e3:.0f}" for run in runs)
    busy = f"{median(run.busy_seconds for run in runs) * 1e3:.0f} ms of them by its own CPU time"
    megabytes = DOWNLOADS * len(FILE) / 1e6
    return [
        at_most(
            "-",
            f"{work}: longest that the event loop was held up",
            50,
            median(run.stall_seconds for run in runs) * 1e3,
            unit=" ms",
            detail=f"{stalls} ms in {RUNS} runs; {busy}",
        ),
        at_most(
            "-", f"{work}: memory grown", 50, max(run.grown_bytes for run in runs) / 1e6, unit=" MB", detail="resident"
        ),
        beside("-", f"{work}: CPU", median(run.cpu_seconds for run in runs) / megabytes * 1e3, unit=" ms a MB"),
    ]


async def one_run(nb: AsyncNeuralBox, server: Server, *, downloads: int) -> Run:
    """Download so many at once."""
    stall = busy = 0.0
    before = most = resident_bytes()

    async def watch() -> None:
        nonlocal stall, busy, most
        for turn in count():
            began, worked = time.perf_counter(), time.thread_time()
            await anyio.sleep(0.001)
            stall = max(stall, time.perf_counter() - began - 0.001)
            busy = max(busy, time.thread_time() - worked)
            if turn % 100 == 0:
                most = max(most, resident_bytes_now())

    began = time.process_time()
    with TemporaryDirectory() as folder:
        async with anyio.create_task_group() as watching:
            watching.start_soon(watch)
            async with anyio.create_task_group() as tasks:
                for number in range(downloads):
                    url = f"{server.url()}/files/{number}.png"
                    tasks.start_soon(nb.download, Generation(id=number, status="completed", url=url), f"{folder}/")
            watching.cancel_scope.cancel()
    spent = time.process_time() - began
    return Run(stall_seconds=stall, busy_seconds=busy, grown_bytes=most - before, cpu_seconds=spent)

"""Row 13: a thousand one-minute jobs while the clock jumps, the sandbox included: CPU time of each job.

The goal is in milliseconds of a machine on which a GET by raw httpx takes 0.45 ms. So each run has such GETs beside it,
and a second row tells how many of them a job costs, which holds on any machine.
"""

import gc
import time
from collections.abc import Iterator
from functools import partial
from statistics import median
from typing import Any

import anyio
import trio.testing

from benchmarks.clients import raw_httpx
from benchmarks.measure import cpu_seconds, steady
from benchmarks.rows import Row, at_most
from benchmarks.server import running_server
from neuralbox_async import GenerationRequest
from neuralbox_async.sandbox import Requests, Sandbox, VirtualTimeLoop

JOBS = 1_000
RUNS = 5
GETS = 1_000
GOALS_MS = {"asyncio": 3.0, "trio": 5.0}
GET_MS = 0.45


def rows() -> list[Row]:
    """Measure."""
    with running_server() as server:
        return [row for backend, goal in GOALS_MS.items() for row in measured(backend, goal, server.url())]


def measured(backend: str, goal_ms: float, url: str) -> Iterator[Row]:
    """Run several times on one event loop, by turns with plain GETs."""
    runs = [(*timed(backend), anyio.run(get_seconds, url)) for _ in range(RUNS)]
    looked, get_ms = runs[-1][1], median(get for _, _, get in runs) * 1e3
    looks, pages = looked.looks / JOBS, looked.of("GET", "/user/history") / JOBS
    work = f"{JOBS:,} one-minute jobs on virtual time, {backend}: CPU of a job"
    yield at_most(
        "13",
        work,
        goal_ms,
        median(spent for spent, _, _ in runs) / JOBS * 1e3,
        unit=" ms",
        detail=f"median of {RUNS} runs; {looks:.1f} looks and {pages:.1f} pages of a hundred a job",
    )
    yield at_most(
        "13",
        f"{work}, in GETs of raw httpx",
        round(goal_ms / GET_MS, 1),
        median(spent / JOBS / get for spent, _, get in runs),
        unit=" GETs",
        detail=f"{get_ms:.2f} ms each here, {GET_MS} ms where the goal above was set",
    )


async def get_seconds(url: str) -> float:
    """Return the CPU seconds of a GET by raw httpx, one at a time."""
    async with raw_httpx(url) as get:
        await steady(get, calls=100, in_flight=1)
        return await cpu_seconds(partial(steady, get, calls=GETS, in_flight=1)) / GETS


def timed(backend: str) -> tuple[float, Requests]:
    """Return the CPU seconds and the requests of one run."""
    gc.collect()
    began = time.process_time()
    asked = anyio.run(run, backend=backend, backend_options=clock(backend))
    return time.process_time() - began, asked


def clock(backend: str) -> dict[str, Any]:
    """Return the options for a clock that jumps."""
    if backend == "trio":
        return {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return {"loop_factory": VirtualTimeLoop}


async def run() -> Requests:
    """Generate them all; return what was asked for."""
    sandbox = Sandbox(plan="elite", balance=10**9)
    requests = (GenerationRequest("kling-v2.1", "A blooming flower", {"duration": 5}) for _ in range(JOBS))
    async with sandbox.client() as nb, nb.generate_many(requests, max_concurrency=JOBS) as outcomes:
        failed = [outcome async for outcome in outcomes if outcome.error is not None]
    if failed:
        raise AssertionError(f"{len(failed)} jobs failed: {failed[0].error}")
    return sandbox.requests

"""Row 13: a thousand one-minute jobs while the clock jumps, the sandbox included: CPU time of each job."""

import gc
import time
from statistics import median
from typing import Any

import anyio
import trio.testing

from benchmarks.rows import Row, at_most
from neuralbox_async import GenerationRequest
from neuralbox_async.sandbox import Requests, Sandbox, VirtualTimeLoop

JOBS = 1_000
RUNS = 5
GOALS_MS = {"asyncio": 3.0, "trio": 5.0}


def rows() -> list[Row]:
    """Measure."""
    return [measured(backend, goal) for backend, goal in GOALS_MS.items()]


def measured(backend: str, goal_ms: float) -> Row:
    """Run several times on one event loop."""
    spent, asked = zip(*[timed(backend) for _ in range(RUNS)], strict=True)
    work = f"{JOBS:,} one-minute jobs on virtual time, {backend}: CPU of a job"
    looks, pages = asked[-1].looks / JOBS, asked[-1].of("GET", "/user/history") / JOBS
    detail = f"median of {RUNS} runs; {looks:.1f} looks and {pages:.1f} pages of a hundred a job"
    return at_most("13", work, goal_ms, median(spent) / JOBS * 1e3, unit=" ms", detail=detail)


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

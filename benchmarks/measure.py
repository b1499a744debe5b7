"""CPU time of this process, in pairs: what is compared runs by turns in the same process, so that a noisy machine slows
both, and the median of the pairs' ratios is what counts.
"""

import cProfile
import gc
import os
import pstats
import resource
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import anyio
from attrs import frozen

Call = Callable[[], Awaitable[object]]


@frozen(kw_only=True)
class Ratio:
    """How much more CPU time one work took than another: the pairs' ratios, and microseconds per call."""

    ratios: list[float]
    ours_us: float
    theirs_us: float

    @property
    def middle(self) -> float:
        """Return the median."""
        return median(self.ratios)

    def __str__(self) -> str:
        low, _, high = quantiles(self.ratios, n=4)
        return (
            f"{self.ours_us:.0f} against {self.theirs_us:.0f} µs a call; "
            f"{len(self.ratios)} pairs, quartiles {low:.2f}–{high:.2f}"
        )


async def steady(call: Call, *, calls: int, in_flight: int) -> None:
    """Make so many calls, always so many of them in flight."""
    left = iter(range(calls))

    async def worker() -> None:
        for _ in left:
            await call()

    async with anyio.create_task_group() as workers:
        for _ in range(min(in_flight, calls)):
            workers.start_soon(worker)


async def at_once(call: Call, *, calls: int) -> None:
    """Launch so many calls at once, each in a task of its own."""
    async with anyio.create_task_group() as tasks:
        for _ in range(calls):
            tasks.start_soon(call)


async def cpu_seconds(work: Call) -> float:
    """Return the CPU time of this process while it does some work."""
    gc.collect()
    before = time.process_time()
    await work()
    return time.process_time() - before


async def compare(
    ours: Call, theirs: Call, *, pairs: int, calls: int, in_flight: int = 1, theirs_in_flight: int | None = None
) -> Ratio:
    """Compare two calls in their steady state, by turns, each beginning every second pair."""

    def work(call: Call, at_a_time: int) -> Call:
        return lambda: steady(call, calls=calls, in_flight=at_a_time)

    ours, theirs = work(ours, in_flight), work(theirs, theirs_in_flight or in_flight)
    await ours(), await theirs()
    spent: list[tuple[float, float]] = []
    for number in range(pairs):
        if number % 2:
            first, second = await cpu_seconds(ours), await cpu_seconds(theirs)
        else:
            second, first = await cpu_seconds(theirs), await cpu_seconds(ours)
        spent.append((first, second))
    return Ratio(
        ratios=[first / second for first, second in spent],
        ours_us=median(first for first, _ in spent) / calls * 1e6,
        theirs_us=median(second for _, second in spent) / calls * 1e6,
    )


async def function_calls(call: Call, *, calls: int, in_flight: int) -> tuple[float, list[str]]:
    """Return the function calls that one call makes (Python's and C's), and the functions that take the most time."""
    await steady(call, calls=in_flight, in_flight=in_flight)
    profile = cProfile.Profile()
    profile.enable()
    await steady(call, calls=calls, in_flight=in_flight)
    profile.disable()
    return sum(entry.callcount for entry in profile.getstats()) / calls, top(profile, calls)


def top(profile: cProfile.Profile, calls: int) -> list[str]:
    """Return the functions that take the most time of their own: microseconds and times per call, and where."""
    stats: dict[Any, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    rows = sorted(stats.items(), key=lambda item: -item[1][2])[:40]
    return [
        f"{own / calls * 1e6:8.1f} µs {count / calls:7.1f} times  {'/'.join(Path(file).parts[-2:])}:{line} {name}"
        for (file, line, name), (_, count, own, _, _) in rows
    ]


def resident_bytes() -> int:
    """Return the memory of this process, as the system counts it (Linux; elsewhere its maximum up to now)."""
    gc.collect()
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value that this share (0 to 1) of the values is at most."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

"""CPU time of this process, in pairs, and the median of their ratios.

What is compared runs by turns in one process, so that a noisy machine slows both alike.
"""

import cProfile
import gc
import os
import pstats
import resource
import time
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import anyio
from attrs import frozen

Call = Callable[[], Coroutine[Any, Any, object]]


@frozen(kw_only=True)
class Ratio:
    """How much more CPU time one work took than another: the pairs' ratios, and microseconds per call."""

    ratios: list[float]
    first_us: float
    second_us: float

    @property
    def middle(self) -> float:
        """Return the median."""
        return median(self.ratios)

    def __str__(self) -> str:
        low, _, high = quantiles(self.ratios, n=4)
        return (
            f"{self.first_us:.0f} against {self.second_us:.0f} µs a call; "
            f"{len(self.ratios)} pairs, quartiles {low:.2f} and {high:.2f}"
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
    first: Call, second: Call, *, pairs: int, calls: int, in_flight: int = 1, second_in_flight: int | None = None
) -> Ratio:
    """Compare two calls in their steady state, by turns, each beginning every second pair."""

    def work(call: Call, at_a_time: int) -> Call:
        return lambda: steady(call, calls=calls, in_flight=at_a_time)

    one, other = work(first, in_flight), work(second, second_in_flight or in_flight)
    await one()
    await other()
    spent: list[tuple[float, float]] = []
    for number in range(pairs):
        if number % 2:
            spent.append((await cpu_seconds(one), await cpu_seconds(other)))
        else:
            after = await cpu_seconds(other)
            spent.append((await cpu_seconds(one), after))
    return Ratio(
        ratios=[mine / theirs for mine, theirs in spent],
        first_us=median(mine for mine, _ in spent) / calls * 1e6,
        second_us=median(theirs for _, theirs in spent) / calls * 1e6,
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
    """Return the memory of this process without its garbage, as the system counts it."""
    gc.collect()
    return resident_bytes_now()


def resident_bytes_now() -> int:
    """Return the memory of this process, as the system counts it (Linux; elsewhere its maximum up to now)."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value that this share (0 to 1) of the values is at most."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

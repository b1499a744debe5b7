"""Row 11: what the fan-out itself costs, with work that does nothing: CPU time per item, and memory over a long run."""

from statistics import median

import anyio
import anyio.lowlevel

from benchmarks.measure import cpu_seconds, resident_bytes
from benchmarks.rows import Row, at_most
from neuralbox_async._fan_out import fan_out

ITEMS = 20_000
MANY_ITEMS = 200_000
AT_ONCE = 100


def rows() -> list[Row]:
    """Measure."""
    return anyio.run(measured)


async def measured() -> list[Row]:
    """Measure, in an event loop."""
    seconds = [await cpu_seconds(run) for _ in range(10)]
    cost = median(seconds) / ITEMS * 1e6
    grown = await growth() / 1e6
    return [
        at_most(
            "11",
            "fan-out of work that does nothing: CPU per item",
            90,
            cost,
            unit=" µs",
            detail=f"10 runs of {ITEMS:,} items",
        ),
        at_most("11", f"fan-out of {MANY_ITEMS:,} items: memory grown after the first tenth", 1, grown, unit=" MB"),
    ]


async def nothing(item: int) -> int:
    """Let the others have their turn, as any real work would."""
    await anyio.lowlevel.checkpoint()
    return item


async def run() -> None:
    """Fan out once."""
    async with fan_out(range(ITEMS), nothing, limit=AT_ONCE) as results:
        async for _ in results:
            pass


async def growth() -> int:
    """Return the bytes by which a long run grows after its first tenth."""
    early = taken = 0
    async with fan_out(range(MANY_ITEMS), nothing, limit=AT_ONCE) as results:
        async for _ in results:
            taken += 1
            if taken == MANY_ITEMS // 10:
                early = resident_bytes()
    return resident_bytes() - early

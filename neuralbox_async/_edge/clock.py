"""Time: the only place that reads a clock or sleeps.

Waiting and deadlines use the event loop's clock, so trio's MockClock or a virtual-time loop speeds everything up;
`wall` is for what is written down or compared with the service's dates.
"""

import time

import anyio


def now() -> float:
    """Return the event loop's time in seconds; its zero means nothing."""
    return anyio.current_time()


def wall() -> float:
    """Return this machine's Unix time in seconds."""
    return time.time()


async def sleep(seconds: float) -> None:
    """Wait for this many seconds of the event loop's time."""
    await anyio.sleep(seconds)

"""Time: the only place that reads a clock or sleeps.

Waiting and deadlines use the event loop's clock, so trio's MockClock or a virtual-time loop speeds everything up;
`wall` is for what is written down or compared with the service's dates. Where the loop's clock is virtual it passes as
fast as that one, and work that blocks is done at once: such a clock does not wait for threads.
"""

import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio
import anyio.to_thread
import sniffio

T = TypeVar("T")
_BEGAN: Final = time.time()


def now() -> float:
    """Return the event loop's time in seconds; its zero means nothing."""
    return anyio.current_time()


def wall() -> float:
    """Return this machine's Unix time in seconds."""
    return _BEGAN + anyio.current_time() if is_virtual() else time.time()


def sleep(seconds: float) -> Awaitable[None]:
    """Wait for this many seconds of the event loop's time."""
    return anyio.sleep(seconds)


def is_virtual() -> bool:
    """Say whether the event loop's clock jumps while tasks only sleep: it then has what trio's MockClock has."""
    try:
        library = sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        return False
    loaded = sys.modules[library]  # neither is loaded for whoever uses the other
    shown = loaded.lowlevel.current_clock() if library == "trio" else loaded.get_running_loop()
    return hasattr(shown, "autojump_threshold")


async def run_blocking(work: Callable[[], T], threads: anyio.CapacityLimiter | None = None, /) -> T:
    """Do work that blocks, such as on the disk, without holding up the event loop: in one of these worker threads.

    Without `threads` it is one of those that anyio shares among all who ask.
    """
    return work() if is_virtual() else await anyio.to_thread.run_sync(work, limiter=threads)

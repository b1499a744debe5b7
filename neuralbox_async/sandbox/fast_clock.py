"""While tasks only sleep, nobody waits: the clock jumps to the next timer.

    anyio.run(main, backend_options={"loop_factory": VirtualTimeLoop})

    @pytest.fixture
    def anyio_backend():                       # with anyio's pytest plugin
        return "asyncio", {"loop_factory": VirtualTimeLoop}

On trio, `trio.testing.MockClock(autojump_threshold=0)` does the same.
"""

import asyncio
import math
import selectors
import threading
from collections.abc import Callable
from contextvars import Context
from typing import TypeVarTuple

_Arguments = TypeVarTuple("_Arguments")


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop whose clock starts at 0 and jumps over every wait.

    Sockets and threads work, but the clock does not wait for them: with a timer set, it jumps. So meet the sandbox in
    process, and keep threads out of what is timed. Where every task waits for another one for ever, it raises
    RuntimeError, unless a thread is alive that might still wake one.
    """

    autojump_threshold = 0.0
    """It jumps as soon as nobody runs; so named as trio's MockClock names it."""

    def __init__(self) -> None:
        self._jumping_selector = _JumpingSelector()
        super().__init__(self._jumping_selector)

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self._jumping_selector.now

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Arguments], object],
        *args: *_Arguments,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Set a timer, as the method it overrides does; one that is never due is not set."""
        if when < math.inf:
            return super().call_at(when, callback, *args, context=context)
        # anyio.sleep_forever() sleeps infinitely long, and a clock that jumps towards that would never arrive.
        return asyncio.TimerHandle(when, callback, args, self, context)


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits for a timer: what the loop is ready to wait for it is added to the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; if nothing is, jump to the next timer, or wait for I/O where no timer is set."""
        if timeout is None:
            self._check_that_something_can_happen()
            return super().select(None)
        ready = super().select(0)
        if not ready:
            self.now += timeout
        return ready

    def _check_that_something_can_happen(self) -> None:
        # The loop's own pipe, which threads and signals wake it through, is always registered.
        if len(self.get_map()) == 1 and threading.active_count() == 1:
            raise RuntimeError(
                "deadlock: every task waits, with no timer, socket or thread to wake one; "
                "give the call a timeout, or look for an event that nobody sets"
            )

"""A call that pays waits in line for the plan's window: only the first waits for it to open, so that no herd sets off.

Looks do not stand in line; submissions give way to them.
"""

import math
from collections.abc import Callable

import anyio
from attrs import field, frozen

from neuralbox_async._core.errors import RateLimitError
from neuralbox_async._core.events import Event, Paused
from neuralbox_async._core.limits import GIVES_WAY_SECONDS, Rate
from neuralbox_async._core.models import Id
from neuralbox_async._edge import clock


@frozen(kw_only=True, eq=False, repr=False)
class Turn:
    """One call that waits for its turn: which operation, whether it pays, by when, about what, and who hears of it."""

    operation: str
    paid: bool
    deadline: float
    generation_id: Id | None
    tell: Callable[[Event], None]


@frozen(eq=False, repr=False)
class Turns:
    """The line in front of a plan's windows; shared by all views of a client."""

    rate: Rate
    _line: anyio.Lock = field(factory=lambda: anyio.Lock(fast_acquire=True), init=False)

    async def wait(self, turn: Turn) -> None:
        """Wait until the plan's window lets a call through; raise RateLimitError if that is not before its deadline.

        In line it may wait longer: its caller cancels it at the deadline.
        """
        seconds = self._seconds(turn)
        if not seconds and not (turn.paid and self.rate.lined_up):
            return None
        self._check(turn, seconds)
        if not turn.paid:
            return await self._until_open(turn)
        self.rate.lined_up += 1
        try:
            async with self._line:
                return await self._until_open(turn)
        finally:
            self.rate.lined_up -= 1

    async def _until_open(self, turn: Turn) -> None:
        while seconds := self._seconds(turn):
            self._check(turn, seconds)
            if seconds > GIVES_WAY_SECONDS:
                turn.tell(Paused(operation=turn.operation, seconds=seconds))
            await clock.sleep(seconds)

    def _seconds(self, turn: Turn) -> float:
        return self.rate.seconds_until_open(paid=turn.paid, now=clock.now())

    def _check(self, turn: Turn, seconds: float) -> None:
        if seconds and clock.now() + seconds >= turn.deadline < math.inf:
            raise _too_late(turn, seconds)


def _too_late(turn: Turn, seconds: float) -> RateLimitError:
    return RateLimitError(
        f"{turn.operation}: the plan's window opens in {seconds:.0f} s, later than the timeout allows; "
        "try again then, or pass a longer timeout.",
        retryable=True,
        retry_after=seconds,
        generation_id=turn.generation_id,
        status_code=429,
    )

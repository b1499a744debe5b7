"""One window of a plan: what the last answer said is left is the truth, and our own count bridges between answers.

A clock-aligned window is full again at its reset. A sliding one, whose resets are less than its length apart, has a
request or two more then. So what is said of a window that is over is a guess until a request was tried.
"""

import math
from collections import deque
from typing import Final

from attrs import define, field

HOUR: Final = 3_600.0
# What may be sent where nothing is known any more: one request whose answer tells, and one look at what it made.
TRIED: Final = 2.0
# Dates are told in whole seconds: two that differ by less are the same.
INSTANT: Final = 2.0


@define(kw_only=True)
class Window:
    """How many requests are left in one window. All times are loop time.

    Attributes:
        seconds: How long the window is.
        planned: How many requests it allows, as the caller knows; None if only the service does.
    """

    seconds: float
    planned: int | None = None
    _limit: int | None = field(default=None, init=False)
    _left: int | None = field(default=None, init=False)
    _reset: float | None = field(default=None, init=False)
    _told_at: float = field(default=-math.inf, init=False)
    _sliding: bool = field(default=False, init=False)
    _sent: deque[float] = field(factory=deque, init=False)
    _unanswered: int = field(default=0, init=False)

    def tell(self, *, limit: int | None, left: int | None, reset: float | None, now: float) -> None:
        """Take in what an answer says: the limit (0: none), what is left, and when the window opens again."""
        if left is None and limit != 0:
            return
        moved = math.inf if reset is None or self._reset is None else abs(reset - self._reset)
        same = limit == self._limit and moved < INSTANT and not self.is_over(now)
        self._sliding = self._sliding or INSTANT < moved < self.seconds - INSTANT
        if same and self._left is not None and left is not None:
            left = min(left, self._left)  # answers may overtake each other, and until its reset a window only empties
        self._limit, self._left, self._told_at, self._unanswered = limit, left if limit != 0 else None, now, 0
        self._reset = self._reset if same else reset

    def sent(self, now: float) -> None:
        """Take in that a request was sent that counts."""
        if self.planned is not None:
            self._sent.append(now)

    def unanswered(self) -> None:
        """Take in that a request that may have counted brought no headers."""
        self._unanswered += 1

    def left(self, now: float) -> float:
        """Answer how many requests are left; infinite where nothing says that they are limited."""
        if self._told_at == -math.inf:
            return math.inf if self.planned is None else self.planned - self._spent(now)
        if self._left is None:
            return math.inf
        left = float(self._left - self._unanswered)
        if not self.is_over(now):
            return left
        if self._limit is None or self._reset is None or self._sliding:
            return max(TRIED, left)
        return float(self._limit)

    def seconds_until_reset(self, now: float) -> float | None:
        """Answer in how many seconds the window opens again; None if nothing says so."""
        if self._told_at == -math.inf:
            if self.planned is None or not self._sent or self.left(now) >= 1:
                return None
            return self._sent[0] + self.seconds - now
        if self._reset is None or self.is_over(now):
            return None
        return min(self.seconds, self._reset - now)

    def forget(self) -> None:
        """Drop all times: they were another event loop's."""
        self._sent.clear()
        self._reset, self._told_at, self._limit, self._left = None, -math.inf, None, None

    def may_have_opened(self, now: float) -> bool:
        """Say whether requests may have come free since the last answer, or be about to."""
        return self._reset is not None and now >= self._reset - INSTANT

    def is_over(self, now: float) -> bool:
        """Say whether what was told no longer holds; of a day no reset is told, so that holds for an hour."""
        return self._left is not None and now >= (self._told_at + HOUR if self._reset is None else self._reset)

    def _spent(self, now: float) -> int:
        while self._sent and self._sent[0] <= now - self.seconds:
            self._sent.popleft()
        return len(self._sent)

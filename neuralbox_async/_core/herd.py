"""Looks that are due at once begin a little apart: jobs accepted together would be looked at in one burst otherwise.

They begin evenly within a quarter of the time since their last looks. Waiting so much longer costs next to nothing, as
a look is due where the costs of looking and of waiting balance; one that is due alone is not moved at all.
"""

import math
from typing import Final

from attrs import define

# Within which share of the time since the last looks.
SPREAD: Final = 0.25
# How many seconds apart at most; several begin together rather than wait for less.
MOST_APART: Final = 0.01


@define(eq=False, repr=False)
class Herd:
    """How far apart looks begin, and until when those that have begun would have taken their time (loop time)."""

    _apart: float = math.inf
    _ahead_until: float = -math.inf

    def seconds_until_look(self, now: float) -> float:
        """Answer in how many seconds the next look may begin."""
        ahead = self._ahead_until - now
        return ahead if ahead > MOST_APART else 0.0

    def begin(self, *, since: float, pending: int, now: float) -> None:
        """Take in a look, so many seconds after the last one at the same job, while so many jobs are pending.

        Looks of one herd never begin further apart than the first of it: fewer and fewer are pending where they are
        done, and those at the last would take ever longer.
        """
        apart = min(MOST_APART, SPREAD * since / pending)
        self._apart = min(apart, self._apart) if now <= self._ahead_until else apart
        self._ahead_until = max(now, self._ahead_until) + self._apart

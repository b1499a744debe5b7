"""One look that answers many is due when their expected idle times, summed, reach its price.

A job's idle time at an age is how long a finished result is expected to have lain there since its last look:
mean(max(0, age - end)) over the ends that are still possible. It is convex in the age, and so is the sum: from a time
at which it is too large, Newton's steps approach the due time without ever passing it.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from attrs import define, field

# From this price on, in seconds of waiting, a request is too dear to complete an entry of the history that has the
# result and its cost.
DEAR: Final = 1.0
# Below that price a shared look does not spare the job's own last one. So it is worth its request only where no job has
# more than this share in the sum.
MOST_OF_ONE: Final = 0.5
STEPS: Final = 20
CLOSE_ENOUGH: Final = 0.005


@define(kw_only=True, eq=False, repr=False)  # made by the hundred for each page; a frozen one takes twice the time
class Law:
    """When a job may end: sorted ages, as likely to end between any two neighbours, and where it stands.

    Between the ages, since jobs that began together would all be looked at just after each of them otherwise.

    Attributes:
        began: When the job began, in loop time; ages count from it.
        points: Sorted values, of which `shift + scale * value` is an age in seconds.
        sums: What the first 0, 1, 2 … points add up to.
        last: Its age at the last look.
        overrun: Further possible ages.
        patience: How many seconds after its last look the next one is due at the latest, however dear looks are.
        jobs: How many such jobs there are.
    """

    began: float
    points: Sequence[float]
    sums: Sequence[float]
    last: float
    shift: float = 0.0
    scale: float = 1.0
    overrun: Sequence[float] = ()
    patience: float = math.inf
    jobs: int = 1
    _value: float = field(init=False)
    _behind: float = field(init=False)
    _area: float = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._value = (self.last - self.shift) / self.scale
        self._behind, self._area = self._passed(self._value)

    def idle(self, now: float) -> tuple[float, float]:
        """Answer the expected idle time in seconds, and the chance that the job has ended, at `now` (loop time)."""
        age = now - self.began
        if age <= self.last:
            return 0.0, 0.0
        value = (age - self.shift) / self.scale
        passed, area = self._passed(value)
        ended = passed - self._behind
        idle = self.scale * (area - self._area - self._behind * (value - self._value))
        for each in self.overrun:
            if each < age:
                idle, ended = idle + age - each, ended + 1
        possible = len(self.points) - self._behind + len(self.overrun)
        return (idle / possible, ended / possible) if possible else (0.0, 0.0)

    def _passed(self, value: float) -> tuple[float, float]:
        """Return how many points lie behind a value, parts of one included, and the integral of that."""
        points = self.points
        whole = bisect_right(points, value)
        area = whole * value - self.sums[whole]
        if not 0 < whole < len(points):
            return float(whole), area
        beyond, gap = value - points[whole - 1], points[whole] - points[whole - 1]
        return whole - 0.5 + beyond / gap, area - beyond / 2 * (1 - beyond / gap)


def due_together(laws: Sequence[Law], price: float, *, latest: float) -> float:
    """Answer when one look at all these jobs is due, in loop time; `latest` if that is not before.

    Patience counts as long as another look can follow; where none can, the price is infinite.
    """
    at = latest if price == math.inf else min(latest, *(law.began + law.last + law.patience for law in laws))
    for _ in range(STEPS):
        idle, slope = _together(laws, at)
        if idle <= price * (1 + CLOSE_ENOUGH) or not slope:
            break
        at -= (idle - price) / slope
    return at


def worth_sharing(laws: Sequence[Law], price: float, now: float) -> bool:
    """Say whether one look at all these jobs is better than a look at the one that is due soonest."""
    are_several = sum(law.jobs for law in laws) > 1
    if price >= DEAR or not are_several:
        return are_several
    parts = [law.idle(now)[0] for law in laws]
    return max(parts) <= MOST_OF_ONE * sum(law.jobs * part for law, part in zip(laws, parts, strict=True))


def _together(laws: Sequence[Law], now: float) -> tuple[float, float]:
    idle = slope = 0.0
    for law in laws:
        one, ended = law.idle(now)
        idle, slope = idle + law.jobs * one, slope + law.jobs * ended
    return idle, slope

"""Look again when a finished result is expected to have lain there for `look_price` seconds since the last look.

For one job: of the durations `ends` that a model is known to take, keep those longer than the age at the last look;
look at the age `t` that solves mean(max(0, t - end)) = look_price. A model's durations are learned; one never seen
starts from pretend jobs spread over its documented range. References on optimal inspection schedules: Barlow & Proschan
1963, Keller 1974, Munford & Shahani 1972.
"""

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from typing import Any, Final

from attrs import Attribute, define, field

from neuralbox_async._core.errors import UsageError

Range = tuple[float, float]

# Seconds that jobs usually take. Source: the documentation's "typical waits" (generations/status, generations/video);
# the second name of a model is the one its newer price list has.
DOCUMENTED_RANGES: Final[Mapping[str, Range]] = {
    "luma-flash2": (20, 35),
    "luma-ray2-flash": (20, 35),
    "kling-v2.1": (45, 90),
    "kling-v2.1-pro": (60, 90),
    "minimax-video": (60, 90),
    "luma-ray2": (60, 120),
    "mj-video-480p": (60, 120),
    "mj-video-720p": (90, 180),
    "midjourney-video": (60, 180),
}
UNKNOWN_RANGE: Final[Range] = (15, 120)

KEPT_DURATIONS: Final = 50
# The standard normal at the middles of six equal shares: where six pretend jobs stand for a whole distribution.
_SIX: Final = (-1.3830, -0.6745, -0.2104, 0.2104, 0.6745, 1.3830)
_Z_90: Final = 1.2816
_SMEAR: Final = (-1.4, -0.5, 0.0, 0.5, 1.4)
_OVERRUN: Final = (1.05, 1.2, 1.6)


def pretend_durations(span: Range) -> list[float]:
    """Return one short duration as a hedge, then six of a lognormal whose 10 to 90 % lie in `span` (seconds)."""
    low, high = span
    middle, width = (math.log(low) + math.log(high)) / 2, (math.log(high) - math.log(low)) / (2 * _Z_90)
    return [low / 3, *(math.exp(middle + width * z) for z in _SIX)]


def smeared(durations: Sequence[float]) -> list[float]:
    """Let each duration stand for five points around it, the wider the fewer and the more spread the durations are."""
    logs = sorted(math.log(max(each, 1e-3)) for each in durations)
    middle = _median(logs)
    spread = 1.4826 * _median(sorted(abs(each - middle) for each in logs))
    width = 0.6 * spread * len(logs) ** -0.2
    return sorted(math.exp(each + width * z) for each in logs for z in _SMEAR)


def next_look(points: Sequence[float], last: float, price: float) -> float:
    """Answer the age at which to look next, in seconds.

    `points` are sorted possible durations, `last` the age at the last look, `price` what a look costs in seconds of
    waiting. One walk over the sorted list.
    """
    behind = bisect_right(points, last)
    ahead = points[behind:]
    if 4 * behind >= len(points):
        ahead = sorted([*ahead, *(factor * last for factor in _OVERRUN)])
    count, sum_of_ends = 1, ahead[0]
    while count < len(ahead) and (len(ahead) * price + sum_of_ends) / count > ahead[count]:
        sum_of_ends += ahead[count]
        count += 1
    return min((len(ahead) * price + sum_of_ends) / count, ahead[-1])


def _median(values: Sequence[float]) -> float:
    half = len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2


@define
class _Model:
    """The durations one model was seen to take, and the pretend ones that still stand in for it."""

    pretend: list[float]
    seen: deque[float] = field(factory=lambda: deque(maxlen=KEPT_DURATIONS))
    learned: int = 0
    _points: list[float] | None = None
    _ripening: list[tuple[float, float, float]] = field(factory=list)

    def learn(self, duration: float, *, age: float, now: float) -> None:
        """Take in a duration, once its job is as old as the longest duration known.

        Of jobs begun together the quick ones finish first; counted at once, they would make all others look late.
        """
        ripe_at = now + max(0.0, self.points(now)[-1] - age)
        heappush(self._ripening, (ripe_at, now, duration))

    def points(self, now: float) -> list[float]:
        """Return the sorted possible durations."""
        # A clock that shows less than when a duration was noted belongs to another event loop.
        while self._ripening and not self._ripening[0][1] <= now < self._ripening[0][0]:
            self._count(heappop(self._ripening)[2])
        if self._points is None:
            self._points = smeared([*self.pretend, *self.seen])
        return self._points

    def _count(self, duration: float) -> None:
        # The first real job and then every second one retires a pretend one, the hedge first.
        if self.pretend and self.learned % 2 == 0:
            del self.pretend[0]
        self.learned += 1
        self.seen.append(duration)
        self._points = None


def _checked_ranges(ranges: Mapping[str, Range]) -> Mapping[str, Range]:
    for model, span in ranges.items():
        if not (_is_pair(span) and 0 < span[0] <= span[1] < math.inf):
            raise UsageError(f"The range of {model!r} must be two numbers of seconds, 0 < low <= high, not {span!r}.")
    return dict(ranges)


def _is_pair(span: object) -> bool:
    return isinstance(span, tuple | list) and len(span) == 2 and all(isinstance(each, int | float) for each in span)


def _checked_gap(_: object, attribute: "Attribute[float]", seconds: float) -> None:
    if not 0 < seconds < math.inf:
        raise UsageError(f"{attribute.name} must be a number of seconds above 0, not {seconds!r}.")


@define
class Pacing:
    """What is known of how long models take; hand the same one to several clients and they learn together.

    Attributes:
        ranges: Seconds that models usually take, slug → (low, high), the 10th and 90th per cent; other models start
            from the documented ranges, or from 15 to 120 s.
        floor: Shortest time between two looks, in seconds.
        cap: Longest time between two looks, in seconds.
    """

    ranges: Mapping[str, Range] = field(factory=dict, converter=_checked_ranges)
    floor: float = field(default=0.5, validator=_checked_gap)
    cap: float = field(default=30.0, validator=_checked_gap)
    _models: dict[tuple[str, str], _Model] = field(factory=dict, init=False, repr=False)

    def seconds_until_look(
        self,
        model: str,
        params: Mapping[str, Any] | None,
        *,
        age: float,
        last: float,
        look_price: float,
        now: float = math.inf,
    ) -> float:
        """Answer in how many seconds to look at a job of `age` seconds whose last look was at age `last`.

        `now` is the event loop's time; without it, everything learned counts at once.
        """
        at = next_look(self._of(model, params).points(now), last, look_price)
        return max(0.0, last + min(self.cap, max(self.floor, at - last)) - age)

    def learn(
        self,
        model: str,
        params: Mapping[str, Any] | None,
        *,
        last: float,
        age: float,
        processing_ms: float | None,
        now: float = -math.inf,
    ) -> None:
        """Take in a job that was pending at age `last` and final at `age` (seconds).

        The duration it reports is held against that bracket. One that reports none counts as the bracket's middle, if
        the bracket is narrow enough to say anything. `now` is the event loop's time; without it, the job counts at
        once.
        """
        low = min(last, age)
        if processing_ms is None and age - low > self.cap:
            return
        guess = (low + age) / 2 if processing_ms is None else processing_ms / 1000
        self._of(model, params).learn(max(low, min(guess, age)), age=age, now=now)

    def _of(self, model: str, params: Mapping[str, Any] | None) -> _Model:
        key = (model, str((params or {}).get("duration", "")))
        known = self._models.get(key)
        if known is None:
            span = self.ranges.get(model) or DOCUMENTED_RANGES.get(model, UNKNOWN_RANGE)
            known = self._models[key] = _Model(pretend_durations(span))
        return known

"""Look again when a finished result is expected to have lain there for `look_price` seconds since the last look.

For one job: of the durations `ends` that a model is known to take, keep those longer than the age at the last look;
look at the age `t` that solves mean(max(0, t - end)) = look_price. A model's durations are learned; one never seen
starts from pretend jobs spread over its documented range.

A reply may hint when its job ends (`hinted_seconds`). Then the possible ends are the hint times each error that hints
were seen to make, as long as these errors spread less than the durations that are still possible: good hints are
followed closely, and useless ones are soon ignored.

References on optimal inspection schedules: Barlow & Proschan 1963, Keller 1974, Munford & Shahani 1972. What the rule
costs above the optimum: `nox -s bench -- pacing`.
"""

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from heapq import heappop, heappush
from itertools import accumulate, islice
from typing import Any, Final, Self, TypeVar

from attrs import Attribute, define, field, frozen

from neuralbox_async._core.errors import UsageError
from neuralbox_async._core.idle import Law
from neuralbox_async._core.models import Generation

T = TypeVar("T")
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
# What real seconds are, per hinted second, before any hint was held against what came of it. Narrower than any range
# above, so that a first hint is believed.
HINT_RANGE: Final[Range] = (0.85, 1.15)

KEPT_DURATIONS: Final = 50
STATE_VERSION: Final = 1
# The standard normal at the middles of six equal shares: where six pretend jobs stand for a whole distribution.
_SIX: Final = (-1.3830, -0.6745, -0.2104, 0.2104, 0.6745, 1.3830)
_Z_90: Final = 1.2816
_SMEAR: Final = (-1.4, -0.5, 0.0, 0.5, 1.4)
_SMEAR_WIDTH: Final = 0.6
# How many standard deviations a sixth of normal values spans, in the median.
_SIXTH: Final = 0.52
# Of a job that outlasts what is known: where it may end, as multiples of its age.
_OVERRUN: Final = (1.05, 1.2, 1.6)
# A look that nothing can follow waits so many times as long as a job is known to take.
_TO_BE_SURE: Final = 1.1
# As long as nothing is known: where the hedge's points stand, as multiples of it (0.4 to 0.8 of the low end).
_HEDGE: Final = (1.25, 1.55, 1.85, 2.15, 2.45)


def pretend_durations(span: Range) -> list[float]:
    """Return one short duration as a hedge, then six of a lognormal whose 10 to 90 % lie in `span` (seconds)."""
    low, high = span
    middle, width = (math.log(low) + math.log(high)) / 2, (math.log(high) - math.log(low)) / (2 * _Z_90)
    return [low / 3, *(math.exp(middle + width * z) for z in _SIX)]


def smeared(durations: Sequence[float]) -> list[float]:
    """Let each duration stand for five points around it, the wider the fewer and the more spread the durations are.

    The spread is taken from sixths of the durations, so that two kinds of jobs are not smeared into one.
    """
    least = [max(each, 1e-3) for each in durations]
    width = _SMEAR_WIDTH * _spread(sorted(map(math.log, least))) * len(least) ** -0.2
    factors = [math.exp(width * z) for z in _SMEAR]
    return sorted([each * factor for each in least for factor in factors])


def next_look(points: Sequence[float], last: float, price: float) -> float:
    """Answer the age at which to look next, in seconds.

    `points` are sorted possible durations, `last` the age at the last look, `price` what a look costs in seconds of
    waiting. One walk over the sorted list.
    """
    behind = bisect_right(points, last)
    ahead, overrun = points[behind:], _overrun(len(points), behind, last)
    if overrun:
        ahead = sorted([*ahead, *overrun])
    total, count, sum_of_ends = len(ahead) * price, 1, ahead[0]
    for end in islice(ahead, 1, None):
        if (total + sum_of_ends) / count <= end:
            break
        sum_of_ends += end
        count += 1
    return min((total + sum_of_ends) / count, ahead[-1])


def _overrun(points: int, behind: int, last: float) -> list[float]:
    """Return further ages at which a job may end, once a quarter of the points lies behind its last look."""
    return [factor * last for factor in _OVERRUN] if 4 * behind >= points else []


def hinted_seconds(reply: Generation, *, age: float) -> float | None:
    """Return in how many seconds a pending reply says that the job ends; None if it does not say.

    Its `eta_seconds`, else its `progress` carried on at the pace of the job's `age` (seconds), else its Retry-After.
    """
    if reply.done:
        return None
    if reply.eta_seconds is not None:
        return max(0.0, reply.eta_seconds)
    if reply.progress is not None and 0 < reply.progress < 100 and age > 0:
        return age * (100 - reply.progress) / reply.progress
    return reply.retry_after


def kind_of(model: str, params: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return what jobs must have in common to take equally long: the model, and the length of what it makes."""
    return model, str((params or {}).get("duration", ""))


def _spread(logs: Sequence[float]) -> float:
    """Estimate the standard deviation of sorted values within one kind: by the spans of their sixths."""
    sixth = max(1, len(logs) // 6)
    spans = sorted(high - low for low, high in zip(logs, logs[sixth:], strict=False))
    return _median(spans) / _SIXTH * len(logs) / (6 * sixth) if spans else 0.0


def _median(values: Sequence[float]) -> float:
    half = len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2


def _openness(points: Sequence[float], last: float) -> float:
    """Say how many times longer than the near end the far end of what lies ahead is (10 and 90 %); infinite if none."""
    behind = bisect_right(points, last)
    tenth = (len(points) - behind) // 10
    return math.inf if behind == len(points) else (points[-1 - tenth] - last) / (points[behind + tenth] - last)


@define
class _Learned:
    """Values that were seen, newest last, and the pretend ones that stand in for those not seen yet."""

    pretend: list[float]
    _points: list[float] | None = None
    _sums: list[float] | None = None
    seen: deque[float] = field(factory=lambda: deque(maxlen=KEPT_DURATIONS))
    count: int = 0

    def take(self, value: float) -> None:
        """Take in a value; the first and then every second one retires a pretend one, the hedge first."""
        if self.pretend and self.count % 2 == 0:
            del self.pretend[0]
        self.count += 1
        self.seen.append(value)
        self._points = self._sums = None

    @property
    def points(self) -> list[float]:
        """Return the sorted possible values.

        Of 30 or more, the newest ten count twice, or the old ones would outvote them for long after a model changed.
        """
        if self._points is None:
            newest = list(self.seen)[-10:] if len(self.seen) >= 30 else []
            self._points = smeared([*self.pretend, *self.seen, *newest])
        return self._points

    @property
    def sums(self) -> list[float]:
        """Return what the first 0, 1, 2 … points add up to."""
        if self._sums is None:
            self._sums = [0.0, *accumulate(self.points)]
        return self._sums


@frozen(order=True)
class _Ended:
    """A job that ended, not counted yet; `begun` and `noted` are loop time."""

    begun: float
    shuffle: int
    noted: float = field(order=False)
    duration: float = field(order=False)
    hint_errors: tuple[float, ...] = field(order=False)


@define
class _Model:
    """What is known of one model: how long jobs take, and how wrong hints are (real seconds per hinted second).

    Each `with` block is a job that is waited for.
    """

    durations: _Learned
    hint_errors: _Learned = field(factory=lambda: _Learned(pretend_durations(HINT_RANGE)[1:]))
    waiting: int = 0
    _unripe: list[_Ended] = field(factory=list)

    def __enter__(self) -> None:
        self.waiting += 1

    def __exit__(self, *_: object) -> None:
        self.waiting -= 1
        if self.waiting == 0:
            self.points(math.inf)

    def note(self, duration: float, hint_errors: Sequence[float], *, age: float, now: float) -> None:
        """Take in a job. It counts at once if no other is waited for, else when it would be as old as the longest.

        Of jobs begun together the quick ones finish first; counted at once, they would make all others look late. Jobs
        begun together are counted in a shuffled order, or the slow ones would come last and be the only ones kept.
        """
        if now == -math.inf:
            self._count(duration, hint_errors)
            return
        shuffle = (len(self._unripe) + 1) * 0x9E3779B1 % 2**32  # Fibonacci hashing: Knuth, vol. 3, 6.4
        heappush(self._unripe, _Ended(now - age, shuffle, now, duration, tuple(hint_errors)))

    def points(self, now: float) -> list[float]:
        """Return the sorted possible durations, of all jobs whose time to count has come."""
        while self._unripe and self._is_ripe(self._unripe[0], now):
            ended = heappop(self._unripe)
            self._count(ended.duration, ended.hint_errors)
        return self.durations.points

    def _count(self, duration: float, hint_errors: Iterable[float]) -> None:
        self.durations.take(duration)
        for error in hint_errors:
            self.hint_errors.take(error)

    def _is_ripe(self, ended: _Ended, now: float) -> bool:
        # A clock that shows less than when a job was noted belongs to another event loop.
        return ended.begun + self.durations.points[-1] <= now or now < ended.noted

    def export(self) -> dict[str, list[float]]:
        """Return what was learned, with what is not counted yet, oldest first."""
        unripe = sorted(self._unripe)
        durations = [*self.durations.seen, *(ended.duration for ended in unripe)]
        hint_errors = [*self.hint_errors.seen, *(error for ended in unripe for error in ended.hint_errors)]
        return {"durations": durations[-KEPT_DURATIONS:], "hint_errors": hint_errors[-KEPT_DURATIONS:]}


def _new_model(span: Range) -> _Model:
    pretend = pretend_durations(span)
    # As long as nothing is known the range may be far too long, so the hedge's five points stand wide.
    hedge = [factor * pretend[0] for factor in _HEDGE]
    return _Model(_Learned(pretend, sorted([*hedge, *smeared(pretend[1:])])))


def _checked_ranges(ranges: Mapping[str, Range]) -> Mapping[str, Range]:
    for model, span in ranges.items():
        if not (_is_pair(span) and 0 < span[0] <= span[1] < math.inf):
            raise UsageError(f"The range of {model!r} must be two numbers of seconds, 0 < low <= high, not {span!r}.")
    return dict(ranges)


def _is_pair(span: object) -> bool:
    return isinstance(span, tuple | list) and len(span) == 2 and all(isinstance(each, int | float) for each in span)


def _checked_gap(_: object, attribute: "Attribute[float]", seconds: float) -> None:
    if not _is_positive(seconds):
        raise UsageError(f"{attribute.name} must be a number of seconds above 0, not {seconds!r}.")


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


@define
class Pacing:
    """What is known of how long models take; hand the same one to several clients and they learn together.

    Attributes:
        ranges: Seconds that models usually take, slug → (low, high), the 10th and 90th per cent; other models start
            from the documented ranges, or from 15 to 120 s.
        floor: Shortest time between two looks, in seconds.
        cap: Longest time between two looks, in seconds, unless a single look costs more than that.
    """

    ranges: Mapping[str, Range] = field(factory=dict, converter=_checked_ranges)
    floor: float = field(default=0.5, validator=_checked_gap)
    cap: float = field(default=120.0, validator=_checked_gap)
    _models: dict[tuple[str, str], _Model] = field(factory=dict, init=False, repr=False)

    def seconds_until_look(
        self,
        model: str,
        params: Mapping[str, Any] | None,
        *,
        age: float,
        last: float,
        look_price: float,
        hint: float | None = None,
        now: float = math.inf,
    ) -> float:
        """Answer in how many seconds to look at a job of `age` seconds whose last look was at age `last`.

        An infinite `look_price` says that no further look can follow: then the longest duration known is outwaited.
        `hint` is in how many seconds that look said the job ends. `now` is the event loop's time; without it,
        everything learned counts at once.
        """
        known = self._of(model, params)
        ends = self._hinted_ends(known, last, hint, now) or known.points(now)
        at = next_look(ends, last, look_price) * (_TO_BE_SURE if look_price == math.inf else 1.0)
        return max(0.0, last + min(max(self.cap, look_price), max(self.floor, at - last)) - age)

    def longest_seconds(self, model: str, params: Mapping[str, Any] | None, *, now: float) -> float:
        """Answer how long a job of this model may take, as far as is known."""
        return self._of(model, params).points(now)[-1]

    def law(
        self, model: str, params: Mapping[str, Any] | None, *, began: float, last: float, hint: float | None, now: float
    ) -> Law:
        """Answer when a job that began at `began` (loop time) may end, for a look that answers many (`idle`)."""
        known = self._of(model, params)
        learned, shift, scale = known.durations, 0.0, 1.0
        if hint is not None and self._hinted_ends(known, last, hint, now):
            learned, shift, scale = known.hint_errors, last - self.floor, hint + self.floor
        points = known.points(now) if learned is known.durations else learned.points
        overrun = _overrun(len(points), bisect_right(points, (last - shift) / scale), last)
        return Law(
            began=began,
            points=points,
            sums=learned.sums,
            last=last,
            shift=shift,
            scale=scale,
            overrun=overrun,
            patience=self.cap,
        )

    def _hinted_ends(self, known: _Model, last: float, hint: float | None, now: float) -> list[float] | None:
        """Return the ends that a hint makes possible; None if the durations known say more."""
        if hint is None:
            return None
        # Hints come in whole seconds: the floor on both sides keeps the rounding of short ones from looking like a
        # large error.
        hinted = [last + (hint + self.floor) * error - self.floor for error in known.hint_errors.points]
        return hinted if _openness(hinted, last) <= _openness(known.points(now), last) else None

    def learn(
        self,
        model: str,
        params: Mapping[str, Any] | None,
        *,
        last: float,
        age: float,
        processing_ms: float | None,
        hints: Iterable[tuple[float, float]] = (),
        now: float = -math.inf,
    ) -> None:
        """Take in a job that was pending at age `last` and final at `age` (seconds).

        The duration it reports is held against that bracket. One that reports none counts as the bracket's middle, if
        the bracket is narrow enough to say anything. `hints` are what its replies said: at which age, in how many
        seconds it ends. `now` is the event loop's time; without it, the job counts at once.
        """
        low = min(last, age)
        if processing_ms is None and age - low > self.cap:
            return
        guess = (low + age) / 2 if processing_ms is None else processing_ms / 1000
        duration = max(low, min(guess, age))
        errors = [max(0.0, duration - at + self.floor) / (hint + self.floor) for at, hint in hints]
        self._of(model, params).note(duration, errors, age=age, now=now)

    def learn_failure(
        self, model: str, params: Mapping[str, Any] | None, *, last: float, age: float, now: float = -math.inf
    ) -> None:
        """Take in a job that was pending at age `last` and failed at `age` (seconds): failing takes time as well.

        Replies do not say when it failed, and most failures come early: it counts at the geometric mean of the two.
        """
        if age - last <= self.cap:
            duration = math.sqrt(max(last, age / 9) * age)
            self._of(model, params).note(min(duration, age), (), age=age, now=now)

    def waiting(self, model: str, params: Mapping[str, Any] | None) -> AbstractContextManager[object]:
        """Tell that a job is waited for: what another one teaches meanwhile counts a little later (see `learn`)."""
        return self._of(model, params)

    def export(self) -> dict[str, Any]:
        """Return all that was learned, and the options, as plain data for JSON; `Pacing.load` reads it."""
        learned = [
            {"model": model, "duration": length, **known.export()} for (model, length), known in self._models.items()
        ]
        return {
            "version": STATE_VERSION,
            "ranges": {model: list(span) for model, span in self.ranges.items()},
            "floor": self.floor,
            "cap": self.cap,
            "models": [each for each in learned if each["durations"]],
        }

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Self:
        """Return a pacing that knows what the exported one knew. Raises UsageError for a state that is none."""
        if not isinstance(state, Mapping):
            raise UsageError(f"state must be what Pacing.export() returns, not {state!r}.")
        if state.get("version") != STATE_VERSION:
            raise UsageError(
                f"state['version'] is {state.get('version')!r}; this version of neuralbox_async reads {STATE_VERSION}. "
                "Start without a state, or export it anew."
            )
        ranges = _checked(state, "ranges", dict, "state")
        pacing = cls(ranges, floor=state.get("floor", math.nan), cap=state.get("cap", math.nan))
        for number, entry in enumerate(_checked(state, "models", list, "state")):
            pacing._load_model(entry, f"state['models'][{number}]")
        return pacing

    def _load_model(self, entry: object, where: str) -> None:
        if not isinstance(entry, Mapping):
            raise UsageError(f"{where} must be a mapping, not {entry!r}.")
        known = self._of(_checked(entry, "model", str, where), {"duration": _checked(entry, "duration", str, where)})
        for name, learned in (("durations", known.durations), ("hint_errors", known.hint_errors)):
            for place, value in enumerate(_checked(entry, name, list, where)):
                if not (value == 0 or _is_positive(value)):
                    raise UsageError(f"{where}[{name!r}][{place}] must be a number, 0 or more, not {value!r}.")
                learned.take(value)

    def _of(self, model: str, params: Mapping[str, Any] | None) -> _Model:
        key = kind_of(model, params)
        known = self._models.get(key)
        if known is None:
            span = self.ranges.get(model) or DOCUMENTED_RANGES.get(model, UNKNOWN_RANGE)
            known = self._models[key] = _new_model(span)
        return known


def _checked(entry: Mapping[str, Any], name: str, kind: type[T], where: str) -> T:
    value = entry.get(name)
    if not isinstance(value, kind):
        raise UsageError(f"{where}[{name!r}] must be a {kind.__name__}, not {value!r}.")
    return value

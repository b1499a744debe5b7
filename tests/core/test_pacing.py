"""When to look: the rule against a brute-force solution, and what is learned from looks."""

import math
import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from neuralbox_async import Pacing, UsageError
from neuralbox_async._core.pacing import (
    DOCUMENTED_RANGES,
    KEPT_DURATIONS,
    next_look,
    pretend_durations,
    smeared,
)

PRICE = 0.35


def brute_force(points: Sequence[float], last: float, price: float) -> float:
    """Find the age at which a result is expected to have lain there for `price` seconds, by bisection."""
    ahead = [point for point in points if point > last]
    if 4 * (len(points) - len(ahead)) >= len(points):
        ahead += [1.05 * last, 1.2 * last, 1.6 * last]

    def lain(at: float) -> float:
        return sum(max(0.0, at - end) for end in ahead) / len(ahead)

    low, high = last, max(ahead)
    if lain(high) <= price:
        return high
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if lain(middle) < price else (low, middle)
    return high


@pytest.mark.parametrize("seed", range(60))
def test_the_walk_finds_what_brute_force_finds(seed: int) -> None:
    """Whatever the points, the last look and the price, one walk over the list solves the equation."""
    chance = random.Random(seed)
    points = sorted(chance.lognormvariate(4, chance.uniform(0, 1)) for _ in range(chance.randint(1, 40)))
    for last in (0.0, 0.5 * points[0], *points, chance.uniform(0, 2 * points[-1]), 3 * points[-1]):
        for price in (0.01, PRICE, 5.0, 1000.0):
            assert next_look(points, last, price) == pytest.approx(brute_force(points, last, price), abs=1e-6)


def test_one_sure_duration_is_looked_at_once() -> None:
    """A job known to take 60 s is looked at when it is over, and not before."""
    assert next_look([60.0], 0.0, PRICE) == 60


def test_never_past_the_longest_point() -> None:
    """However dear a look, there is one when the last known duration is over."""
    assert next_look([20.0, 60.0], 0.0, 1e9) == 60


def test_a_dearer_look_comes_later() -> None:
    """The price trades requests for seconds."""
    points = smeared(pretend_durations((45, 90)))
    times = [next_look(points, 0.0, price) for price in (0.1, 0.35, 1.0, 5.0)]
    assert times == sorted(set(times))


def test_overrunning_jobs_are_looked_at_ever_more_rarely() -> None:
    """A job that outlasts all that is known is looked at at steps that grow with its age."""
    ages = [100.0]
    for _ in range(8):
        ages.append(next_look([20.0, 30.0], ages[-1], PRICE))
    steps = [after - before for before, after in pairwise(ages)]
    assert all(step > 0 for step in steps)
    assert steps == sorted(steps)


@pytest.mark.parametrize("span", [(20.0, 35.0), (45.0, 90.0), (15.0, 120.0), (60.0, 60.0)])
def test_pretend_jobs_spread_over_the_range(span: tuple[float, float]) -> None:
    """One hedge at a third of the low end, then six around the geometric middle, within about the range."""
    hedge, *six = pretend_durations(span)
    low, high = span
    assert hedge == pytest.approx(low / 3)
    assert len(six) == 6
    assert six == sorted(six)
    assert math.prod(six) ** (1 / 6) == pytest.approx(math.sqrt(low * high))
    assert low * 0.9 <= six[0] <= six[-1] <= high * 1.1


def test_a_smear_stands_around_its_durations() -> None:
    """Each duration becomes five points with itself in the middle; equal durations stay sharp."""
    assert smeared([60.0] * 4) == pytest.approx([60.0] * 20)
    points = smeared([50.0, 60.0, 70.0])
    assert len(points) == 15
    assert points == sorted(points)
    assert all(any(math.isclose(point, duration) for point in points) for duration in (50, 60, 70))


def test_more_knowledge_smears_less() -> None:
    """The same spread of durations is smeared narrower when there are more of them."""
    few, many = [50.0, 60.0, 70.0], [50.0, 60.0, 70.0] * 10
    assert max(smeared(many)) < max(smeared(few))


def looks(pacing: Pacing, duration: float, model: str = "kling-v2.1") -> list[float]:
    """Follow one job by the pacing, learn from its end, and return the ages at which it was looked at."""
    ages = [0.0]
    while ages[-1] < duration:
        last = ages[-1]
        ages.append(last + pacing.seconds_until_look(model, None, age=last, last=last, look_price=PRICE))
    pacing.learn(model, None, last=ages[-2], age=ages[-1], processing_ms=duration * 1000)
    return ages[1:]


def test_learning_saves_looks() -> None:
    """Once a model's durations are known, its jobs take fewer looks than the first one, and come sooner."""
    chance = random.Random(1)
    pacing = Pacing()
    jobs = [60.5, *(chance.uniform(57, 63) for _ in range(80))]
    ages = [looks(pacing, duration) for duration in jobs]
    late = [seen[-1] - duration for seen, duration in zip(ages, jobs, strict=True)]
    assert len(ages[0]) > 5
    assert sum(len(seen) for seen in ages[41:]) / 40 < 4.5
    assert sum(late[41:]) / 40 < 1


@pytest.mark.parametrize("model", [*DOCUMENTED_RANGES, "never-seen"])
def test_a_first_job_takes_few_looks(model: str) -> None:
    """Before anything is learned, fewer looks than a loop of 5 s, and no later than it."""
    low, high = DOCUMENTED_RANGES.get(model, (15, 120))
    chance = random.Random(0)
    ours = delay = 0.0
    loop = 0
    jobs = [chance.uniform(low, high) for _ in range(200)]
    for duration in jobs:
        ages = looks(Pacing(), duration, model)
        ours, delay, loop = ours + len(ages), delay + ages[-1] - duration, loop + math.ceil(duration / 5)
    assert ours < 0.9 * loop
    assert delay / len(jobs) < 5


def test_the_first_and_then_every_second_job_retires_a_pretend_one() -> None:
    """The hedge goes first; after the thirteenth real job nothing pretended is left."""
    pacing = Pacing()
    gone = []
    for count in range(1, 14):
        pacing.learn("m", None, last=59.9, age=60.1, processing_ms=60_000)
        points = next(iter(pacing._models.values())).points(now=0)  # noqa: SLF001 - the rule itself
        gone.append(7 + count - len(points) // 5)
    assert gone == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7]


def test_only_the_last_fifty_durations_count() -> None:
    """A model that became faster is learned anew."""
    pacing = Pacing()
    for duration in [100.0] * KEPT_DURATIONS + [10.0] * KEPT_DURATIONS:
        pacing.learn("m", None, last=duration - 0.1, age=duration + 0.1, processing_ms=duration * 1000)
    assert pacing.seconds_until_look("m", None, age=0, last=0, look_price=PRICE) == pytest.approx(10)


@pytest.mark.parametrize(
    ("processing_ms", "learned"),
    [(55_000, 55), (10_000, 50), (90_000, 60), (None, 55), (0, 50), (-5, 50), (1e12, 60)],
    ids=["within", "before the last look", "after this look", "unknown", "zero", "negative", "absurd"],
)
def test_a_reported_duration_is_held_against_what_was_seen(processing_ms: float | None, learned: float) -> None:
    """A job pending at 50 s and done at 60 s took between 50 and 60 s, whatever it says."""
    pacing = Pacing()
    for _ in range(13):
        pacing.learn("m", None, last=50, age=60, processing_ms=processing_ms)
    assert pacing.seconds_until_look("m", None, age=30, last=30, look_price=PRICE) == pytest.approx(learned - 30)


@pytest.mark.parametrize(
    ("floor", "cap", "seconds"),
    [(0.5, 30.0, 30.0), (0.5, 5.0, 5.0), (45.0, 90.0, 60.0), (70.0, 90.0, 70.0)],
)
def test_floor_and_cap_hold_between_looks(floor: float, cap: float, seconds: float) -> None:
    """A job known to take 60 s is still looked at within the cap, and not before the floor."""
    pacing = Pacing(floor=floor, cap=cap)
    for _ in range(13):
        pacing.learn("m", None, last=60, age=60, processing_ms=60_000)
    assert pacing.seconds_until_look("m", None, age=0, last=0, look_price=PRICE) == pytest.approx(seconds)


def test_time_that_has_passed_since_the_last_look_counts() -> None:
    """Whoever comes late to a job looks at once; whoever comes a little late waits a little less."""
    pacing = Pacing(floor=10.0, cap=10.0)
    ask: Callable[[float], float] = lambda age: pacing.seconds_until_look(  # noqa: E731 - one question, three ages
        "m", None, age=age, last=20, look_price=PRICE
    )
    assert [ask(20), ask(24), ask(3_600)] == [10, 6, 0]


def test_models_and_lengths_are_learned_apart() -> None:
    """A 10 s clip teaches nothing about a 5 s clip, nor about another model."""
    pacing = Pacing()
    before = pacing.seconds_until_look("m", {"duration": 5}, age=0, last=0, look_price=PRICE)
    for _ in range(13):
        pacing.learn("m", {"duration": 10, "seed": 1}, last=4, age=6, processing_ms=5_000)
    assert pacing.seconds_until_look("m", {"duration": 10}, age=0, last=0, look_price=PRICE) == pytest.approx(5)
    for model, params in (("m", {"duration": 5}), ("m", None), ("other", {"duration": 10})):
        assert pacing.seconds_until_look(model, params, age=0, last=0, look_price=PRICE) == before


def test_ranges_of_one_s_own_come_first() -> None:
    """A range that is handed in replaces the documented one."""
    fast, usual = Pacing({"kling-v2.1": (1, 2)}), Pacing()
    ask = [each.seconds_until_look("kling-v2.1", None, age=0, last=0, look_price=PRICE) for each in (fast, usual)]
    assert ask[0] < 2 < ask[1]


@pytest.mark.parametrize("span", [(0, 5), (-1, 5), (5, 1), (math.nan, 5), (5, math.nan), (5, math.inf)])
def test_a_range_must_make_sense(span: tuple[float, float]) -> None:
    """A range is two positive numbers of seconds in order."""
    with pytest.raises(UsageError, match="range of 'm' must be two numbers of seconds"):
        Pacing({"m": span})


@pytest.mark.parametrize("ranges", [{"m": 5}, {"m": (1, 2, 3)}, {"m": ("a", "b")}])
def test_a_range_of_the_wrong_shape_is_a_usage_error(ranges: dict[str, Any]) -> None:
    """A range is two numbers."""
    with pytest.raises(UsageError):
        Pacing(ranges)


@pytest.mark.parametrize(
    "options", [{"cap": -1}, {"cap": 0}, {"floor": -1}, {"floor": float("nan")}, {"cap": float("nan")}]
)
def test_floor_and_cap_must_make_sense(options: dict[str, Any]) -> None:
    """A cap of 0 would look in a tight loop."""
    with pytest.raises(UsageError):
        Pacing(**options)


def test_a_quick_job_counts_only_when_its_time_is_over() -> None:
    """Of jobs begun together the quick ones finish first; they do not make the others look late."""
    pacing = Pacing({"m": (40, 80)})
    ask: dict[str, Any] = {"age": 0, "last": 0, "look_price": PRICE}
    fresh = pacing.seconds_until_look("m", None, **ask, now=0)
    for _ in range(20):
        pacing.learn("m", None, last=9, age=11, processing_ms=10_000, now=11)
    assert pacing.seconds_until_look("m", None, **ask, now=12) == fresh
    assert pacing.seconds_until_look("m", None, **ask, now=400) == pytest.approx(10, abs=2)


def test_a_clock_that_starts_anew_keeps_nothing_waiting() -> None:
    """What was noted in an event loop that is gone counts in the next one."""
    pacing = Pacing({"m": (40, 80)})
    for _ in range(20):
        pacing.learn("m", None, last=9, age=11, processing_ms=10_000, now=5_000)
    found = pacing.seconds_until_look("m", None, age=0, last=0, look_price=PRICE, now=1)
    assert found == pytest.approx(10, abs=2)

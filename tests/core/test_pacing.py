"""When to look: the rule against a brute-force solution, and what is learned from looks."""

import json
import math
import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from neuralbox_async import Generation, Pacing, UsageError
from neuralbox_async._core.pacing import (
    DOCUMENTED_RANGES,
    KEPT_DURATIONS,
    hinted_seconds,
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
    while low < (middle := (low + high) / 2) < high:  # until no number is left between the two
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


@pytest.mark.parametrize(("price", "seconds"), [(PRICE, 120), (119.0, 120), (1e5, 300), (math.inf, 330)], ids=str)
def test_a_look_that_is_dearer_than_the_cap_waits_longer(price: float, seconds: float) -> None:
    """A job known to take 300 s is looked at once it is done, if looks are rare; if it is the last one, to be sure."""
    pacing = Pacing(cap=120)
    for _ in range(13):
        pacing.learn("m", None, last=300, age=300, processing_ms=300_000)
    assert pacing.seconds_until_look("m", None, age=0, last=0, look_price=price) == pytest.approx(seconds)


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


def first_look(pacing: Pacing, model: str = "m", *, hint: float | None = None, now: float = math.inf) -> float:
    """Return the age of the first look at a job."""
    return pacing.seconds_until_look(model, None, age=0, last=0, look_price=PRICE, hint=hint, now=now)


def test_two_kinds_of_jobs_are_not_smeared_into_one() -> None:
    """Of a model that takes 30 or 90 s, nothing is expected at 60 s."""
    points = smeared([*(30 + 0.1 * n for n in range(25)), *(90 + 0.1 * n for n in range(25))])
    assert not [point for point in points if 40 < point < 80]


def test_a_model_that_changed_is_learned_quickly() -> None:
    """After fifty slow jobs, four quick ones bring a look soon after the quick ones' end."""
    pacing = Pacing()
    for seconds in [*(100 + 0.1 * n for n in range(50)), *[50.0] * 4]:
        pacing.learn("m", None, last=seconds - 1, age=seconds, processing_ms=1000 * seconds)
    assert 50 < first_look(pacing) < 53


def test_without_others_waited_for_a_job_counts_at_once() -> None:
    """Where jobs are waited for one after the other, each teaches the next; with others under way it waits its time."""
    alone, among_others = Pacing({"m": (40, 80)}), Pacing({"m": (40, 80)})
    fresh = first_look(alone, now=0)
    with among_others.waiting("m", None):
        for pacing in (alone, among_others):
            for _ in range(20):
                with pacing.waiting("m", None):
                    pass
                pacing.learn("m", None, last=9, age=11, processing_ms=10_000, now=11)
        assert first_look(alone, now=11) == pytest.approx(10)
        assert first_look(among_others, now=11) == fresh
    assert first_look(among_others, now=11) == pytest.approx(10)


def test_of_jobs_begun_together_slow_and_quick_ones_are_kept() -> None:
    """The slow ones end last; they must not be the only ones that are remembered."""
    pacing, chance = Pacing({"m": (40, 80)}), random.Random(1)
    ends = sorted(chance.uniform(40, 80) for _ in range(1_000))
    for end in ends:
        pacing.learn("m", None, last=end - 1, age=end, processing_ms=1000 * end, now=end)
    first_look(pacing, now=1_000)
    (known,) = pacing.export()["models"]
    assert sum(known["durations"]) / KEPT_DURATIONS == pytest.approx(60, abs=4)


@pytest.mark.parametrize(
    ("last", "age", "learned"), [(40, 62.5, 50), (60, 60, 60), (0, 9, 3), (0, 0.6, 0.2), (0, 1_000, None)]
)
def test_a_failure_counts_at_the_geometric_mean(last: float, age: float, learned: float | None) -> None:
    """A job that was pending at 40 s and failed at 62.5 s failed at 50 s; one seen too late teaches nothing."""
    pacing = Pacing()
    pacing.learn_failure("m", None, last=last, age=age)
    durations = [known["durations"] for known in pacing.export()["models"]]
    assert durations == ([] if learned is None else [[pytest.approx(learned)]])


@pytest.mark.parametrize(
    ("said", "age", "seconds"),
    [
        ({}, 30, None),
        ({"eta_seconds": 12.0}, 30, 12),
        ({"eta_seconds": 0.0}, 30, 0),
        ({"eta_seconds": -3.0}, 30, 0),
        ({"progress": 60.0}, 30, 20),
        ({"progress": 0.0}, 30, None),
        ({"progress": 100.0}, 30, None),
        ({"progress": 250.0}, 30, None),
        ({"progress": 50.0}, 0, None),
        ({"retry_after": 7.0}, 30, 7),
        ({"progress": 0.0, "retry_after": 7.0}, 0, 7),
        ({"eta_seconds": 12.0, "progress": 60.0, "retry_after": 7.0}, 30, 12),
        ({"progress": 60.0, "retry_after": 7.0}, 30, 20),
    ],
)
def test_what_a_pending_reply_hints(said: dict[str, Any], age: float, seconds: float | None) -> None:
    """eta_seconds comes first, then progress at the pace so far, then Retry-After."""
    assert hinted_seconds(Generation(id=1, status="pending", **said), age=age) == seconds


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_a_final_reply_hints_nothing(status: str) -> None:
    """What is over has no end to come."""
    assert hinted_seconds(Generation(id=1, status=status, eta_seconds=5, retry_after=5), age=9) is None


@pytest.mark.parametrize("model", [*DOCUMENTED_RANGES, "never-seen"])
@pytest.mark.parametrize("hint", [2.0, 20.0, 100.0])
def test_a_hint_moves_the_look(model: str, hint: float) -> None:
    """Even the first hint of all is believed, whatever the model usually takes."""
    assert first_look(Pacing(), model, hint=hint) == pytest.approx(hint, rel=0.25)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_the_error_of_hints_is_learned(factor: float) -> None:
    """A service whose jobs take twice as long as it says is looked at after twice the time."""
    pacing, chance = Pacing(), random.Random(1)
    for _ in range(20):
        seconds = chance.uniform(45, 90)
        hints = [(0.0, seconds / factor), (10.0, (seconds - 10) / factor)]
        pacing.learn("m", None, last=seconds - 1, age=seconds, processing_ms=1000 * seconds, hints=hints)
    assert first_look(pacing, hint=60) == pytest.approx(60 * factor, rel=0.02)


def test_a_useless_hint_is_ignored() -> None:
    """A service that always says "again in 5 s" does not get a look every 5 s once its jobs are known."""
    pacing, chance = Pacing(), random.Random(1)
    for _ in range(20):
        seconds = chance.uniform(45, 90)
        hints = [(age, 5.0) for age in range(0, int(seconds), 5)]
        pacing.learn("m", None, last=seconds - 1, age=seconds, processing_ms=1000 * seconds, hints=hints)
    assert first_look(pacing, hint=5) == first_look(pacing) > 40


def test_floor_and_cap_hold_for_hints() -> None:
    """A hint of no time at all is no tight loop, one of a day no sleep of a day."""
    assert first_look(Pacing(floor=3), hint=0) >= 3
    assert first_look(Pacing(cap=40), hint=86_400) == 40


def learned_pacing() -> Pacing:
    """Return a pacing that knows two models, one of them by hints too, and something that does not count yet."""
    pacing, chance = Pacing({"m": (40, 80)}, floor=1, cap=50), random.Random(3)
    for _ in range(70):
        seconds = chance.uniform(45, 90)
        pacing.learn("m", None, last=0, age=99, processing_ms=1000 * seconds, hints=[(0, seconds / 2)])
        pacing.learn("m", {"duration": 10}, last=0, age=99, processing_ms=500 * seconds)
    pacing.learn("other", None, last=0, age=9, processing_ms=7_000, now=9)
    first_look(pacing, "asked, never learned")
    return pacing


def test_what_was_learned_can_be_stored() -> None:
    """A pacing that is loaded from JSON answers as the one that was exported, and goes on learning."""
    pacing = learned_pacing()
    loaded = Pacing.load(json.loads(json.dumps(pacing.export())))
    assert loaded.export() == pacing.export()
    assert (list(loaded.ranges["m"]), loaded.floor, loaded.cap) == ([40, 80], 1, 50)
    for each in (pacing, loaded):
        each.learn("m", None, last=50, age=51, processing_ms=50_500)
    for params in (None, {"duration": 10}, {"duration": 7}):
        for last in (0, 30, 60, 200):
            for hint in (None, 20):
                ask: dict[str, Any] = {"age": last, "last": last, "look_price": PRICE, "hint": hint}
                assert loaded.seconds_until_look("m", params, **ask) == pacing.seconds_until_look("m", params, **ask)


def test_exporting_changes_nothing() -> None:
    """A server may export every minute; and what does not count yet is in the state."""
    pacing = learned_pacing()
    state = pacing.export()
    assert pacing.export() == state
    assert [(each["model"], each["duration"], len(each["durations"])) for each in state["models"]] == [
        ("m", "", 50),
        ("m", "10", 50),
        ("other", "", 1),
    ]


ENTRY = {"model": "m", "duration": "", "durations": [60.0], "hint_errors": []}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (None, "state must be what Pacing.export"),
        ([], "state must be what Pacing.export"),
        ({}, r"state\['version'\] is None"),
        ({"version": 2}, r"state\['version'\] is 2; this version of neuralbox_async reads 1"),
        ({"ranges": 5}, r"state\['ranges'\] must be a dict, not 5"),
        ({"ranges": {"m": [9, 1]}}, "range of 'm' must be two numbers"),
        ({"floor": "a"}, "floor must be a number of seconds above 0, not 'a'"),
        ({"cap": None}, "cap must be a number of seconds above 0, not None"),
        ({"models": {}}, r"state\['models'\] must be a list"),
        ({"models": [ENTRY, 7]}, r"state\['models'\]\[1\] must be a mapping, not 7"),
        ({"models": [{**ENTRY, "model": 7}]}, r"\[0\]\['model'\] must be a str, not 7"),
        ({"models": [{**ENTRY, "duration": 7}]}, r"\[0\]\['duration'\] must be a str, not 7"),
        ({"models": [{**ENTRY, "durations": None}]}, r"\[0\]\['durations'\] must be a list, not None"),
        ({"models": [{**ENTRY, "durations": [1, -2]}]}, r"\['durations'\]\[1\] must be a number, 0 or more, not -2"),
        ({"models": [{**ENTRY, "durations": ["1"]}]}, r"\['durations'\]\[0\] must be a number, 0 or more, not '1'"),
        ({"models": [{**ENTRY, "durations": [math.nan]}]}, r"\['durations'\]\[0\] must be a number"),
        ({"models": [{**ENTRY, "hint_errors": [math.inf]}]}, r"\['hint_errors'\]\[0\] must be a number"),
    ],
)
def test_a_state_that_is_none_is_refused(state: Any, words: str) -> None:
    """The error names what is wrong."""
    whole = {"version": 1, "ranges": {}, "floor": 0.5, "cap": 30.0, "models": []}
    broken = {**whole, **state} if state and "version" not in state else state
    with pytest.raises(UsageError, match=words):
        Pacing.load(broken)

"""Looks that answer many: expected idle times, their sum, and when it reaches the price."""

import math
import random
from itertools import pairwise

import pytest
from attrs import evolve

from neuralbox_async import Pacing
from neuralbox_async._core.idle import DEAR, Law, due_together, worth_sharing

ENDS = [40.0, 50.0, 60.0, 70.0, 90.0]


def law_of(
    ends: list[float], *, last: float = 0.0, began: float = 0.0, overrun: tuple[float, ...] = (), scale: float = 1.0
) -> Law:
    """Return the law of a job that ends at one of these ages, whatever the scale they are written in."""
    points = [end / scale for end in ends]
    sums = [sum(points[:count]) for count in range(len(points) + 1)]
    return Law(began=began, points=points, sums=sums, last=last, scale=scale, overrun=overrun)


def by_steps(law: Law, now: float, *, step: float = 0.005) -> float:
    """Integrate the chance of having ended, by the trapezoidal rule."""
    times = [law.began + law.last + step * n for n in range(int((now - law.began - law.last) / step) + 1)]
    chances = [law.idle(each)[1] for each in times]
    return sum((one + other) / 2 * step for one, other in pairwise(chances))


@pytest.mark.parametrize("last", [0.0, 45.0, 61.0, 70.0])
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_the_idle_time_is_what_the_chances_add_up_to(last: float, scale: float) -> None:
    """A result lies there, on average, as long as the chance that it is done adds up to."""
    law = law_of(ENDS, last=last, began=7.0, overrun=(80.0, 100.0), scale=scale)
    for now in (75.0, 88.0, 99.0, 140.0):
        if now - 7 > last:
            assert law.idle(now)[0] == pytest.approx(by_steps(law, now), abs=0.01)


def test_at_the_last_look_nothing_has_lain_there() -> None:
    """Idle time counts from the last look, and never falls."""
    law = law_of(ENDS, last=55.0)
    idle = [law.idle(now)[0] for now in (0.0, 55.0, 56.0, 60.0, 95.0)]
    assert idle[:2] == [0.0, 0.0]
    assert idle == sorted(idle)


def test_in_the_end_it_is_certain() -> None:
    """Past all points the job has ended, and idle time grows by a second a second."""
    law = law_of(ENDS, last=55.0, overrun=(58.0, 88.0))
    assert law.idle(200)[1] == pytest.approx(1)
    assert law.idle(201)[0] - law.idle(200)[0] == pytest.approx(1)


@pytest.mark.parametrize("seed", range(5))
def test_the_sum_reaches_the_price_when_due(seed: int) -> None:
    """At the due time idle times add up to the price, within the tolerance; a moment before they do not."""
    chance = random.Random(seed)
    laws = [law_of(sorted(chance.uniform(20, 90) for _ in range(30)), began=chance.uniform(0, 40)) for _ in range(50)]
    due = due_together(laws, 2.0, latest=500)
    assert sum(law.idle(due)[0] for law in laws) == pytest.approx(2.0, rel=0.01)


def test_not_later_than_the_latest() -> None:
    """Where the price is not reached before, the latest time holds."""
    assert due_together([law_of(ENDS)], 50.0, latest=60.0) == 60.0


@pytest.mark.parametrize(
    ("last", "price", "due"),
    [(0.0, 1e6, 7 + 30), (55.0, 1e6, 7 + 55 + 30), (0.0, math.inf, 500)],
    ids=["never looked at", "looked at", "no other look can follow"],
)
def test_patience_ends(last: float, price: float, due: float) -> None:
    """However dear looks are, the next one comes within the first job's patience, unless no other can follow."""
    law = evolve(law_of(ENDS, last=last, began=7.0), patience=30.0)
    younger = evolve(law_of(ENDS, began=20.0), patience=90.0)
    assert due_together([law, younger], price, latest=500) == pytest.approx(due)


def test_more_jobs_are_due_sooner() -> None:
    """Each further job makes a look worth more."""
    dues = [due_together([law_of(ENDS)] * count, 0.35, latest=1_000) for count in (1, 2, 10, 100)]
    assert dues == sorted(dues, reverse=True)
    assert len(set(dues)) == 4


@pytest.mark.parametrize("price", [0.35, 5.0, 1e6])
def test_a_law_may_stand_for_several_jobs(price: float) -> None:
    """One law of three jobs, and one of another, say the same as four laws."""
    other, three = law_of(ENDS, last=30.0, began=4.0), evolve(law_of(ENDS, last=45.0), jobs=3)
    few, many = [three, other], [law_of(ENDS, last=45.0)] * 3 + [other]
    due = due_together(many, price, latest=80.0)
    assert due_together(few, price, latest=80.0) == pytest.approx(due)
    assert worth_sharing(few, price, due) is worth_sharing(many, price, due)
    assert worth_sharing([three], price, 60.0)


@pytest.mark.parametrize(
    ("lasts", "jobs"),
    [([0.0], "one"), ([0.0, 0.0], "several"), ([0.0, 54.0], "one"), ([0.0, 0.0, 54.0], "several")],
    ids=["one", "two alike", "one and one that was just looked at", "two and one that was just looked at"],
)
def test_a_look_is_worth_sharing_where_no_job_dominates(lasts: list[float], jobs: str) -> None:
    """One job's idle time is at most half of the sum; where requests are dear, two jobs are enough."""
    laws = [law_of(ENDS, last=last) for last in lasts]
    assert worth_sharing(laws, 0.35, 55.0) is (jobs == "several")
    assert worth_sharing(laws, DEAR, 55.0) is (len(lasts) > 1)


@pytest.mark.parametrize("hint", [None, 9.0])
def test_one_job_s_law_agrees_with_its_own_look(hint: float | None) -> None:
    """A page that would answer one job alone is due about when that job's own look is."""
    pacing, chance = Pacing(), random.Random(1)
    for _ in range(60):
        taken = chance.lognormvariate(4.1, 0.25)
        pacing.learn("m", None, last=0, age=1_000, processing_ms=1_000 * taken)
    for last in (0.0, 50.0, 65.0):
        own = last + pacing.seconds_until_look("m", None, age=last, last=last, look_price=0.35, hint=hint)
        law = pacing.law("m", None, began=0.0, last=last, hint=hint, now=float("inf"))
        assert due_together([law], 0.35, latest=1_000) == pytest.approx(own, abs=0.7)

"""How far apart looks that are due at once begin, on a clock that jumps to when the next one may."""

import pytest

from neuralbox_async._core.herd import Herd


def begun(count: int, *, since: float, done: bool = False) -> list[float]:
    """Let looks at so many jobs begin as soon as they may, all due at 100; return when they did."""
    herd, now, times = Herd(), 100.0, []
    for number in range(count):
        now += herd.seconds_until_look(now)
        herd.begin(since=since, pending=count - number if done else count, now=now)
        times.append(now)
    return times


@pytest.mark.parametrize("done", [False, True], ids=["pending", "done"])
@pytest.mark.parametrize("since", [0.5, 2.0, 30.0, 120.0])
@pytest.mark.parametrize("count", [100, 2_000, 20_000])
def test_a_herd_begins_evenly_within_a_quarter_of_the_time_since(count: int, since: float, *, done: bool) -> None:
    """At most a hundred looks a second are held back by more than that, whether the jobs they find are done or not."""
    within = min(since / 4, count * 0.01)
    times = begun(count, since=since, done=done)
    assert times[-1] - 100 <= within + 1e-6
    for share in (0.25, 0.5, 0.75):
        assert times[int(share * count)] - 100 == pytest.approx(share * within, abs=0.0201)


@pytest.mark.parametrize("since", [0.0, 0.5, 120.0])
def test_two_looks_begin_at_once(since: float) -> None:
    """A few are no herd."""
    assert begun(2, since=since) == pytest.approx([100, 100], abs=0.0101)


def test_looks_that_are_due_one_after_another_begin_when_they_are_due() -> None:
    """A thousand within half a minute, each a minute after its last one, are not held back."""
    herd = Herd()
    for number in range(1_000):
        now = 100 + number * 0.03
        assert herd.seconds_until_look(now) == 0
        herd.begin(since=60, pending=1_000, now=now)


def test_the_next_herd_has_its_own_pace() -> None:
    """After a pause nothing is left of the one before."""
    herd = Herd()
    herd.begin(since=1, pending=10_000, now=100)
    for _ in range(10):
        herd.begin(since=60, pending=10, now=200)
    assert herd.seconds_until_look(200) == pytest.approx(0.1)

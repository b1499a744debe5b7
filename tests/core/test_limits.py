"""The plan's windows: the service's headers and 429s turned into seconds to wait."""

import math
from pathlib import Path
from typing import Any

import pytest

from neuralbox_async import Rate, RateLimit, UsageError
from neuralbox_async._core.limits import DEFAULT_PAUSE, GIVES_WAY_SECONDS, looks_kept, stretch
from neuralbox_async._core.windows import TRIED

SAMPLES = Path(__file__).parent.parent / "samples"
NOON = 1_772_971_200.0
NOON_DATE = "Sun, 08 Mar 2026 12:00:00 GMT"
NOW = 500.0


def headers(**values: object) -> dict[str, str]:
    """Return X-RateLimit headers by their last words."""
    return {f"x-ratelimit-{name.replace('_', '-')}": str(value) for name, value in values.items()}


def noted(*answers: dict[str, str], wall: float = NOON) -> Rate:
    """Return a rate that has seen these answers' headers."""
    rate = Rate()
    for each in answers:
        rate.note(each, now=NOW, wall=wall)
    return rate


def waits(rate: Rate, now: float = NOW) -> tuple[float, float]:
    """Return how long a paid and a free call must wait."""
    return rate.seconds_until_open(paid=True, now=now), rate.seconds_until_open(paid=False, now=now)


def test_the_documented_headers_are_read() -> None:
    """The sample's five headers come out as numbers, and with requests left nothing waits."""
    lines = (SAMPLES / "rate_limit_headers.txt").read_text().splitlines()
    rate = noted({name.lower(): text for name, text in (line.split(": ") for line in lines if line)})
    assert rate.last == RateLimit(
        limit_hour=100, remaining_hour=87, limit_day=1000, remaining_day=934, reset_hour=1_709_903_600
    )
    assert waits(rate) == (0, 0)


@pytest.mark.parametrize("text", ["", "many", "nan", "inf", "-inf", "0x10"])
def test_an_unreadable_number_is_unknown(text: str) -> None:
    """A header that is no number stops nobody."""
    rate = noted(headers(limit_hour=text, remaining_hour=text, limit_day=text, remaining_day=text))
    assert rate.last == RateLimit()
    assert waits(rate) == (0, 0)


def test_a_used_up_hour_pauses_what_pays_until_its_reset() -> None:
    """With nothing left, submissions wait for the window; looks do not, they may not count."""
    rate = noted(headers(limit_hour=100, remaining_hour=0, reset_hour=NOON + 312))
    assert waits(rate) == (312, 0)
    assert waits(rate, NOW + 300) == (12, 0)
    assert waits(rate, NOW + 312) == (0, 0)


@pytest.mark.parametrize("skew", [-86_400.0, -5.0, 5.0, 86_400.0])
def test_this_machine_s_clock_does_not_matter_where_the_service_tells_its_own(skew: float) -> None:
    """With a Date header, the wait is counted in the service's time."""
    used_up = {**headers(remaining_hour=0, reset_hour=NOON + 60), "date": NOON_DATE}
    assert waits(noted(used_up, wall=NOON + skew)) == (60, 0)


def test_without_a_date_this_machine_s_clock_must_do() -> None:
    """Without a Date header, or with a broken one, the wait is counted in our own time."""
    used_up = headers(remaining_hour=0, reset_hour=NOON + 60)
    assert waits(noted(used_up, wall=NOON + 20)) == (40, 0)
    assert waits(noted({**used_up, "date": "today"}, wall=NOON + 20)) == (40, 0)


@pytest.mark.parametrize(
    "values",
    [
        {"limit_hour": 0, "remaining_hour": 0, "reset_hour": NOON + 60},
        {"limit_hour": 100, "remaining_hour": 0},
        {"limit_hour": 100, "remaining_hour": 1, "reset_hour": NOON + 60},
        {"limit_hour": 100, "remaining_hour": 0, "reset_hour": NOON - 60},
        {"limit_hour": 100, "remaining_hour": 0, "reset_hour": "nan"},
        {"limit_hour": 100, "reset_hour": NOON + 60},
    ],
    ids=["unlimited", "no reset", "one left", "reset has passed", "no number", "remaining unknown"],
)
def test_nothing_waits_without_a_reason(values: dict[str, object]) -> None:
    """0 of 0 means unlimited, and a window that is not known to be closed is open."""
    assert waits(noted(headers(**values))) == (0, 0)


def test_the_newest_answer_is_the_truth() -> None:
    """A window that opens early, or a plan that grew, lets submissions go at once."""
    used_up = headers(remaining_hour=0, reset_hour=NOON + 600)
    assert waits(noted(used_up, headers(remaining_hour=99))) == (0, 0)


def test_an_answer_without_these_headers_changes_nothing() -> None:
    """A proxy's answer does not open a window, nor forget what was known."""
    rate = noted(headers(remaining_hour=0, reset_hour=NOON + 600), {"content-type": "text/html"})
    assert waits(rate) == (600, 0)
    assert rate.last.remaining_hour == 0


@pytest.mark.parametrize(("asked", "wait"), [(30.0, 30), (None, DEFAULT_PAUSE), (0.0, 0.1), (0.01, 0.1)])
def test_a_429_pauses_everything(asked: float | None, wait: float) -> None:
    """The whole client waits, looks too; never in a tight loop, a minute if the service names no time."""
    rate = Rate()
    rate.pause(asked, now=NOW)
    assert waits(rate) == pytest.approx((wait, wait))
    assert waits(rate, NOW + wait) == pytest.approx((0, 0))


def test_of_two_429s_the_longer_holds() -> None:
    """A late answer with a shorter time does not open what a longer one has closed."""
    rate = Rate()
    rate.pause(30, now=NOW)
    rate.pause(5, now=NOW + 1)
    assert waits(rate, NOW + 1) == (29, 29)


def test_a_429_outlasts_headers_that_show_requests_left() -> None:
    """The daily window has no Reset header: the 429's own time holds, whatever the hour still has."""
    rate = Rate()
    rate.pause(600, now=NOW)
    rate.note(headers(limit_hour=100, remaining_hour=50), now=NOW + 1, wall=NOON)
    assert waits(rate, NOW + 1) == (599, 599)


def test_an_absurd_wait_is_cut_to_a_day() -> None:
    """A service that says "come back in 30,000 years" does not shut a client for ever."""
    rate = Rate()
    rate.pause(1e12, now=NOW)
    assert waits(rate) == (86_400, 86_400)


@pytest.mark.parametrize("reset", [NOON * 1000, "inf", "1e300"])
def test_an_absurd_reset_cannot_shut_a_client_for_ever(reset: object) -> None:
    """A Reset in milliseconds, or in no time at all, waits at most the hour that an hourly window lasts."""
    assert waits(noted(headers(remaining_hour=0, reset_hour=reset)))[0] <= 3_600


def test_the_time_that_nothing_could_be_asked_adds_up() -> None:
    """Pauses that overlap count once, and only as far as they have passed."""
    rate = Rate()
    rate.pause(100, now=NOW)
    rate.pause(150, now=NOW + 50)
    rate.pause(20, now=NOW + 60)
    rate.pause(30, now=NOW + 1_000)
    seen = [rate.seconds_closed(now=NOW + after) for after in (1_000, 1_010, 1_030, 2_000)]
    assert seen == pytest.approx([200, 210, 230, 230])


# --- looks before submissions ---------------------------------------------------------------------------------------


def sending(rate: Rate, *, paid: int = 0, free: int = 0) -> Rate:
    """Let so many requests be under way."""
    for kind, count in ((True, paid), (False, free)):
        for _ in range(count):
            rate.begin(paid=kind, now=NOW)
    return rate


def counting(**values: object) -> Rate:
    """Return a rate that was shown that looks count, and then these headers."""
    rate = Rate()
    for each in ({"remaining_hour": 51}, {"remaining_hour": 50}, values):
        rate.note(headers(limit_hour=100, **each), now=NOW, wall=NOON, paid=False)
    return rate


@pytest.mark.parametrize(
    ("left", "pending", "submitting", "wait"),
    [
        *[(100, 0, 0, 0), (1, 0, 0, 0)],
        *[(4, 1, 0, 0), (3, 1, 0, 1)],
        *[(59, 50, 0, 0), (58, 50, 0, 1)],
        *[(60, 40, 6, 0), (59, 40, 6, 1)],
    ],
)
def test_a_submission_leaves_the_looks_of_all_pending_ones(left: int, pending: int, submitting: int, wait: int) -> None:
    """It goes if what it leaves suffices for all looks, those under way counted on both sides, or asks again soon."""
    rate = sending(noted(headers(limit_hour=100, remaining_hour=left, reset_hour=NOON + 600)), paid=submitting)
    rate.pending = pending
    assert waits(rate) == (wait * GIVES_WAY_SECONDS, 0.0)


@pytest.mark.parametrize(("pending", "kept"), [(1, 2), (2, 3), (7, 8), (8, 10), (16, 19), (48, 55)])
def test_looks_in_vain_are_reckoned_with(pending: int, kept: int) -> None:
    """Each pending generation keeps a look, one in eight a second one, and there is one more."""
    assert looks_kept(pending) == kept


def test_requests_under_way_count_until_they_are_answered() -> None:
    """A hundred at once do not all see the same last request left."""
    rate = sending(noted(headers(limit_hour=100, remaining_hour=10, reset_hour=NOON + 600)), paid=4, free=3)
    assert rate.left(NOW) == 3
    rate.end(paid=True)
    rate.end(paid=False)
    assert rate.left(NOW) == 5


def test_of_answers_that_overtake_each_other_the_lowest_holds() -> None:
    """Within a window what is left only sinks."""
    told = [headers(limit_hour=100, remaining_hour=each, reset_hour=NOON + 600) for each in (90, 85, 88)]
    assert noted(*told).left(NOW) == 85


def test_a_plan_that_changes_is_believed() -> None:
    """With another limit, more may be left than before in the same window."""
    before = headers(limit_hour=100, remaining_hour=3, reset_hour=NOON + 600)
    assert noted(before, headers(limit_hour=1_000, remaining_hour=903, reset_hour=NOON + 600)).left(NOW) == 903


def test_a_clock_aligned_window_is_full_again_at_its_reset() -> None:
    """No answer is needed to know that it has opened."""
    rate = noted(headers(limit_hour=100, remaining_hour=0, reset_hour=NOON + 600))
    assert [rate.left(NOW + after) for after in (0, 599, 600)] == [0, 0, 100]


@pytest.mark.parametrize(("told", "left"), [(0, TRIED), (30, 30)])
def test_a_sliding_window_s_reset_leaves_what_was_left(told: int, left: float) -> None:
    """Where resets are less than an hour apart, a full window cannot be counted on, but a request or two can."""
    answers = [headers(limit_hour=100, remaining_hour=told, reset_hour=NOON + after) for after in (600, 630)]
    assert noted(*answers).left(NOW + 700) == left


def test_a_window_that_turns_out_to_slide_is_not_believed_to_fill_again() -> None:
    """The first request of a burst comes free an hour after it, the second a little later: its answer tells."""
    rate = noted(headers(limit_hour=100, remaining_hour=0, reset_hour=NOON + 600))
    assert rate.left(NOW + 600) == 100
    rate.note(headers(limit_hour=100, remaining_hour=0, reset_hour=NOON + 640), now=NOW + 600, wall=NOON + 600)
    assert [rate.left(NOW + after) for after in (600, 640)] == [0, TRIED]


def test_resets_a_second_apart_do_not_keep_a_window_open() -> None:
    """What is told after a reset holds, though the next reset may be the very next second."""
    rate = noted(headers(limit_hour=100, remaining_hour=0, reset_hour=NOON + 600))
    rate.note(headers(limit_hour=100, remaining_hour=43, reset_hour=NOON + 601), now=NOW + 600, wall=NOON + 600)
    assert rate.left(NOW + 600) == 43


@pytest.mark.parametrize(
    ("paid", "free", "waiting"),
    [(0, 0, (0, 0)), (1, 0, (1, 0)), (0, 1, (1, 1)), (1, 1, (1, 1))],
    ids=["nothing", "a submission", "a look", "both"],
)
def test_after_a_reset_one_is_tried(paid: int, free: int, waiting: tuple[int, int]) -> None:
    """Until its answer tells what has come free, nothing else goes; but a long POST holds up no look."""
    rate = counting(remaining_hour=0, reset_hour=NOON + 600)
    assert waits(rate, NOW + 600) == (0, 0)
    sending(rate, paid=paid, free=free)
    assert waits(rate, NOW + 600) == (waiting[0] * GIVES_WAY_SECONDS, waiting[1] * GIVES_WAY_SECONDS)
    rate.note(headers(limit_hour=100, remaining_hour=90, reset_hour=NOON + 4_200), now=NOW + 600, wall=NOON + 600)
    assert waits(rate, NOW + 600) == (0, 0)


def test_what_was_said_of_a_day_holds_for_an_hour() -> None:
    """There is no Reset-Day: a day with one request left is tried again after an hour."""
    rate = noted(headers(limit_day=1000, remaining_day=1))
    rate.pending = 1
    assert waits(rate)[0] == GIVES_WAY_SECONDS
    rate.pending = 0
    assert [rate.left(NOW + after) for after in (0, 3_600)] == [1, TRIED]


@pytest.mark.parametrize(("after", "looks"), [(86, 300.0), (87, 0.0)], ids=["count", "do not count"])
def test_whether_looks_count_is_learned(after: int, looks: float) -> None:
    """A look with nothing else under way shows it; from then on looks wait for a used-up window too, or never."""
    rate = noted(headers(limit_hour=100, remaining_hour=87, reset_hour=NOON + 300))
    rate.begin(paid=False, now=NOW)
    rate.note(headers(limit_hour=100, remaining_hour=after, reset_hour=NOON + 300), now=NOW, wall=NOON, paid=False)
    rate.end(paid=False)
    rate.note(headers(limit_hour=100, remaining_hour=0, reset_hour=NOON + 300), now=NOW, wall=NOON)
    assert waits(rate) == (300, looks)


@pytest.mark.parametrize(
    ("before", "after", "until_reset"), [(0, 0, 300), (5, 5, 1)], ids=["nothing to take", "one may have come free"]
)
def test_what_may_have_another_reason_teaches_nothing(before: int, after: int, until_reset: int) -> None:
    """A 429 finds nothing left and leaves as much; in a sliding window one goes as another comes free."""
    reset = NOON + until_reset
    rate = noted(headers(limit_hour=100, remaining_hour=before, reset_hour=reset))
    for left in (after, 60):
        rate.note(headers(limit_hour=100, remaining_hour=left, reset_hour=reset), now=NOW, wall=NOON, paid=False)
    rate.pending = 50
    assert rate.look_price(1.0, now=NOW) > 1


def test_a_look_among_others_teaches_nothing() -> None:
    """What else was under way may have counted."""
    rate = sending(noted(headers(limit_hour=100, remaining_hour=87, reset_hour=NOON + 300)), paid=1, free=1)
    rate.note(headers(limit_hour=100, remaining_hour=86, reset_hour=NOON + 300), now=NOW, wall=NOON, paid=False)
    rate.end(paid=False)
    rate.end(paid=True)
    rate.note(headers(limit_hour=100, remaining_hour=0, reset_hour=NOON + 300), now=NOW, wall=NOON)
    assert waits(rate) == (300, 0)


# --- a plan that the caller knows -----------------------------------------------------------------------------------


def test_a_plan_of_the_caller_s_holds_until_the_service_speaks() -> None:
    """Ten an hour: the eleventh waits until the first is an hour old."""
    rate = Rate(per_hour=10)
    for second in range(10):
        rate.begin(paid=True, now=NOW + second)
        rate.end(paid=True)
    assert waits(rate, NOW + 60) == (3_540, 0)
    assert waits(rate, NOW + 3_600)[0] == 0
    rate.note(headers(limit_hour=100, remaining_hour=90, reset_hour=NOON + 600), now=NOW + 3_601, wall=NOON)
    assert rate.left(NOW + 3_601) == 90


@pytest.mark.parametrize("plan", [{"per_hour": 0}, {"per_day": 1.5}, {"per_hour": True}])
def test_a_plan_must_make_sense(plan: dict[str, Any]) -> None:
    """Nonsense is refused when it is said."""
    with pytest.raises(UsageError, match="whole number of requests"):
        Rate(**plan)


def test_a_plan_is_named() -> None:
    """A bare number could be an hour's or a day's: it is refused, not taken for something else."""
    with pytest.raises(TypeError):
        Rate(100)  # type: ignore[call-arg]


# --- dearer looks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wanted", "spare", "factor"), [(10, 100, 1), (100, 100, 1), (200, 100, 4), (30, 0, 900)])
def test_looks_become_dearer_where_more_are_wanted(wanted: float, spare: float, factor: float) -> None:
    """K times the spare requests wanted: k² times the price."""
    assert stretch(wanted, spare) == factor


def test_few_looks_are_not_stretched() -> None:
    """A job or two among ninety requests cost what they always cost, and without windows looks never get dearer."""
    rate = noted(headers(limit_hour=100, remaining_hour=90, reset_hour=NOON + 600))
    rate.pending = 2
    assert rate.look_price(0.35, now=NOW) == 0.35
    assert (rate.limits().left, rate.limits().stretch) == (90, 1.0)
    unlimited = Rate()
    unlimited.pending = 1_000
    assert unlimited.look_price(0.35, now=NOW) == 0.35
    assert unlimited.limits().left is None


@pytest.mark.parametrize(("left", "pending", "price"), [(2, 2, math.inf), (1, 2, math.inf), (3, 2, 1.0), (0, 0, 1.0)])
def test_a_look_that_cannot_be_repeated_is_infinitely_dear(left: int, pending: int, price: float) -> None:
    """With no more than one request for each pending generation, each is looked at as late as it may be done."""
    rate = noted(headers(limit_hour=100, remaining_hour=left, reset_hour=NOON + 600))
    rate.pending = pending
    assert rate.look_price(1.0, now=NOW) >= price
    assert (rate.look_price(1.0, now=NOW) == math.inf) == (price == math.inf)


def test_a_backlog_stretches_looks() -> None:
    """Fifty that wait for their turn, and fifty pending with as many requests left: looks are rare."""
    rate = noted(headers(limit_hour=100, remaining_hour=52, reset_hour=NOON + 600))
    rate.pending, rate.lined_up = 50, 50
    assert rate.look_price(0.35, now=NOW) > 1_000
    assert rate.limits().stretch > 1_000


def test_before_any_answer_a_plan_of_the_caller_s_makes_looks_dearer() -> None:
    """Sixty that are pending want more looks than a hundred requests leave, whoever says that there are a hundred."""
    rate = Rate(per_hour=100)
    rate.pending = 60
    assert rate.look_price(1.0, now=NOW) == pytest.approx((3 * 60 / 40) ** 2)


def test_another_event_loop_s_times_are_over() -> None:
    """A clock that shows less than before is another one: what was said by the old one no longer holds anybody up."""
    rate = noted(headers(limit_hour=100, remaining_hour=0, reset_hour=NOON + 900))
    rate.pause(600.0, now=NOW)
    assert waits(rate) == (600.0, 600.0)
    assert waits(rate, now=1.0) == (0.0, 0.0)
    assert rate.seconds_closed(now=1.0) == 600.0

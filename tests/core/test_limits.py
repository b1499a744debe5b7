"""The plan's windows: the service's headers and 429s turned into seconds to wait."""

from pathlib import Path

import pytest

from neuralbox_async import Rate, RateLimit
from neuralbox_async._core.limits import DEFAULT_PAUSE

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

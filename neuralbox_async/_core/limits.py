"""How much may still be asked: the plan's windows, as the service's own headers tell, turned into seconds to wait.

The headers are the truth. A 429 pauses the whole client, not one call. Looks come first: a submission goes only while
what it leaves suffices to fetch all pending results, its own too, and for looks that find them still pending
(`looks_kept`). Where looks would use up the requests left, they become dearer (`stretch`), and infinitely dear where
none can be repeated. When a window's reset has passed, one request is tried, and its answer tells what may follow.
"""

import math
from collections.abc import Mapping
from typing import Final

from attrs import Attribute, define, evolve, field, frozen, setters

from neuralbox_async._core.api import http_date
from neuralbox_async._core.errors import UsageError
from neuralbox_async._core.windows import HOUR, Window

# Source: the documentation's own sample, `int(response.headers.get("Retry-After", 60))`.
DEFAULT_PAUSE: Final = 60.0
# "Again in 0 seconds" must not become a tight loop, and a slip of the service's must not shut a client for ever.
SHORTEST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 86_400.0
DAY: Final = 86_400.0
# How often a submission that gives way to looks asks again: results come in without any sign to it.
GIVES_WAY_SECONDS: Final = 1.0
# How many looks a job takes where requests are plenty (`nox -s bench -- pacing`).
LOOKS_WANTED: Final = 3
# One look in so many finds its job still pending, at worst, where looks are rare (`nox -s bench -- pacing`).
LOOKS_IN_VAIN: Final = 8


def stretch(wanted: float, spare: float) -> float:
    """Answer by how much dearer looks become when more are wanted than requests are spare.

    Looks are about as frequent as the square root of their price says, so k times fewer looks want k² times the price.
    """
    return max(1.0, wanted / max(1.0, spare)) ** 2


def looks_kept(pending: int) -> int:
    """Answer how many requests are kept for so many pending generations: a look each, and some that come too soon."""
    return pending + 1 + pending // LOOKS_IN_VAIN


@frozen(kw_only=True)
class RateLimit:
    """What the last answer said of the plan's windows; None where it said nothing.

    Attributes:
        limit_hour: Requests the plan allows in an hour; 0 means unlimited.
        remaining_hour: Requests left in this hour.
        limit_day: Requests the plan allows in a day; 0 means unlimited.
        remaining_day: Requests left today.
        reset_hour: When the hourly window opens again, in Unix seconds of the service's clock.
        left: Requests left in all, with those under way counted; None without a limit.
        stretch: How many times dearer looks are now than `look_price`, because requests are scarce; infinite where
            there is no more than one for each pending generation.
    """

    limit_hour: int | None = None
    remaining_hour: int | None = None
    limit_day: int | None = None
    remaining_day: int | None = None
    reset_hour: float | None = None
    left: int | None = field(default=None, eq=False)
    stretch: float = field(default=1.0, eq=False)


def _checked_plan(_: object, attribute: "Attribute[int | None]", plan: int | None) -> None:
    if plan is not None and (isinstance(plan, bool) or not isinstance(plan, int) or plan < 1):
        raise UsageError(f"{attribute.name} must be a whole number of requests, 1 or more, or None, not {plan!r}.")


@define(on_setattr=setters.NO_OP)  # what the caller gives is checked once; the rest changes with every request
class Rate:
    """The plan's windows as one account sees them; hand the same one to clients that share an account.

    Attributes:
        per_hour: Requests the plan allows in an hour, for as long as no answer has said so; None if you do not know.
        per_day: The same for a day.
        last: What the last answer said.
        pending: How many generations somebody waits for.
        lined_up: How many submissions wait for their turn.
    """

    per_hour: int | None = field(default=None, validator=_checked_plan, kw_only=True)
    per_day: int | None = field(default=None, validator=_checked_plan, kw_only=True)
    last: RateLimit = field(factory=RateLimit, init=False)
    pending: int = field(default=0, init=False)
    lined_up: int = field(default=0, init=False)
    _hour: Window = field(init=False)
    _day: Window = field(init=False)
    _submitting: int = field(default=0, init=False)
    _submitted: int = field(default=0, init=False)
    _looking: int = field(default=0, init=False)
    _free_counts: bool | None = field(default=None, init=False)
    _only_free: bool = field(default=False, init=False)
    _all_until: float = field(default=-math.inf, init=False)
    _closed: float = field(default=0.0, init=False)
    _refusals: int = field(default=0, init=False)
    _noted_at: float = field(default=-math.inf, init=False)

    def __attrs_post_init__(self) -> None:
        self._hour = Window(seconds=HOUR, planned=self.per_hour)
        self._day = Window(seconds=DAY, planned=self.per_day)

    # --- what is sent ------------------------------------------------------------------------------------------------

    def begin(self, *, paid: bool, now: float) -> None:
        """Take a place in the window for a request that is about to be sent; `end` gives up what is left of it."""
        if paid:
            self._submitting += 1
            self._submitted += 1
            self._only_free = False
        else:
            self._looking += 1
        if paid or self._free_counts is not False:
            self._hour.sent(now)
            self._day.sent(now)

    def end(self, *, paid: bool) -> None:
        """Take in that a request has been answered, or never will be."""
        if paid:
            self._submitting -= 1
        else:
            self._looking -= 1

    # --- what is heard -----------------------------------------------------------------------------------------------

    def note(self, headers: Mapping[str, str], *, now: float, wall: float, paid: bool = True) -> None:
        """Take in the `X-RateLimit-*` headers of an answer. `now` is loop time, `wall` Unix seconds."""
        self._hear(now)
        limit = _rate_limit(headers)
        if limit is None:
            self._unanswered()
            return
        if not paid:
            self._learn_whether_free_counts(limit, now)
        self._only_free = self._submitting <= paid
        reset = None
        if limit.reset_hour is not None and math.isfinite(limit.reset_hour):
            served_at = http_date(headers.get("date", ""))
            seconds = limit.reset_hour - (wall if served_at is None else served_at)
            reset = now + min(HOUR, max(0.0, seconds))
        if limit.reset_hour != self.last.reset_hour:
            self._submitted = self._submitting  # of a window's start, what is to come is not known yet
        self.last = limit
        self._hour.tell(limit=limit.limit_hour, left=limit.remaining_hour, reset=reset, now=now)
        self._day.tell(limit=limit.limit_day, left=limit.remaining_day, reset=None, now=now)

    def _unanswered(self) -> None:
        self._hour.unanswered()
        self._day.unanswered()

    def _learn_whether_free_counts(self, limit: RateLimit, now: float) -> None:
        """Compare with the answer before, if no call that pays was under way since, to see if free ones count.

        Of nothing left, nothing can be taken; and what is as much as before may be what came free since.
        """
        before, after = self.last.remaining_hour, limit.remaining_hour
        if not self._only_free or not before or after is None:
            return
        if after < before:
            self._free_counts = True
        elif after == before and limit.reset_hour == self.last.reset_hour and not self._hour.may_have_opened(now):
            self._free_counts = False

    def pause(self, seconds: float | None, *, now: float) -> None:
        """Take in a 429: nothing is asked for `seconds` (60 if the service did not say).

        A service that refuses again after each pause is asked ever less often, at least once a minute.
        """
        self._hear(now)
        if now >= self._all_until:  # the first 429 of a closed window; those under way with it say nothing new
            self._refusals += 1
        least = SHORTEST_PAUSE * 2.0 ** min(self._refusals, 16)
        pause = DEFAULT_PAUSE if seconds is None else max(seconds, min(DEFAULT_PAUSE, least))
        until = max(self._all_until, now + min(LONGEST_PAUSE, pause))
        self._closed += until - max(self._all_until, now)
        self._all_until = until

    def passed(self) -> None:
        """Take in an answer that is no 429."""
        self._refusals = 0

    # --- what may be asked -------------------------------------------------------------------------------------------

    def seconds_until_open(self, *, paid: bool, now: float) -> float:
        """Answer how long a call must wait for the plan's window; 0.0 if it may go now."""
        self._hear(now)
        if self._all_until > now:
            return self._all_until - now
        if not paid and not self._free_counts:
            return 0.0
        left, needed = self.left(now), 2 if paid and self._free_counts else 1
        if left < needed:
            return self._seconds_until_reset(needed, now)
        trying = self._looking + (self._submitting if paid else 0)  # a POST that takes minutes holds up no look
        if trying and (self._hour.is_over(now) or self._day.is_over(now)):
            return GIVES_WAY_SECONDS
        return GIVES_WAY_SECONDS if paid and not self._leaves_looks(left) else 0.0

    def left(self, now: float) -> float:
        """Answer how many requests are left in both windows, with those under way counted; infinite if unlimited."""
        under_way = self._submitting + (self._looking if self._free_counts is not False else 0)
        return min(self._hour.left(now), self._day.left(now)) - under_way

    def look_price(self, price: float, *, now: float) -> float:
        """Answer what a look costs now, in seconds of waiting: more than `price` where requests are scarce."""
        if self._free_counts is False:
            return price
        return price * self._stretch(now)

    def limits(self) -> RateLimit:
        """Return what the last answer said, and what was left and how looks were stretched when last asked."""
        now = self._noted_at
        left = self.left(now)
        stretched = 1.0 if self._free_counts is False else self._stretch(now)
        return evolve(self.last, left=None if left == math.inf else max(0, int(left)), stretch=stretched)

    def _stretch(self, now: float) -> float:
        left = self.left(now)
        if left == math.inf or not self.pending:
            return 1.0
        if left <= self.pending:  # a look that finds its job still pending cannot be repeated
            return math.inf
        to_come = self.lined_up + self._submitted * (self._hour.seconds_until_reset(now) or 0.0) / HOUR
        return stretch(LOOKS_WANTED * (self.pending + to_come) + to_come, left - self.pending)

    def _leaves_looks(self, left: float) -> bool:
        unseen = self.pending + self._submitting
        return not unseen or self._free_counts is False or left - 1 >= looks_kept(unseen + 1)

    def _seconds_until_reset(self, needed: int, now: float) -> float:
        if self._submitting + self._looking and min(self._hour.left(now), self._day.left(now)) >= needed:
            return GIVES_WAY_SECONDS  # what is under way may leave something
        closed = [window for window in (self._hour, self._day) if window.left(now) < needed]
        return max((window.seconds_until_reset(now) or 0.0 for window in closed), default=0.0)

    def _hear(self, now: float) -> None:
        if now < self._noted_at:  # a clock that shows less belongs to another event loop: what was noted is over
            self._all_until = -math.inf
            self._hour.forget()
            self._day.forget()
        self._noted_at = now

    def seconds_closed(self, *, now: float) -> float:
        """Answer for how many seconds in all nothing could be asked, up to now."""
        return self._closed - max(0.0, self._all_until - now)


def _rate_limit(headers: Mapping[str, str]) -> RateLimit | None:
    if not any(name.startswith("x-ratelimit-") for name in headers):
        return None
    return RateLimit(
        limit_hour=_count(headers, "limit-hour"),
        remaining_hour=_count(headers, "remaining-hour"),
        limit_day=_count(headers, "limit-day"),
        remaining_day=_count(headers, "remaining-day"),
        reset_hour=_seconds(headers, "reset-hour"),
    )


def _seconds(headers: Mapping[str, str], name: str) -> float | None:
    try:
        return float(headers[f"x-ratelimit-{name}"])
    except (KeyError, ValueError):
        return None


def _count(headers: Mapping[str, str], name: str) -> int | None:
    number = _seconds(headers, name)
    return int(number) if number is not None and math.isfinite(number) else None

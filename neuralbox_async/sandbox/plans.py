"""A plan allows so many requests per hour and day; its windows are fixed and follow the clock (contract §12)."""

import math
from collections.abc import Mapping

from attrs import define, field, frozen

from neuralbox_async.sandbox.calendar import DAY, Calendar
from neuralbox_async.sandbox.wire import Answer, json_answer

HOUR = 3_600.0


@frozen(kw_only=True)
class Plan:
    """A subscription: requests per hour and per day (None: unlimited), and whether its keys may use the API."""

    name: str
    per_hour: int | None
    per_day: int | None
    api_access: bool = True


PLANS: Mapping[str, Plan] = {
    plan.name: plan
    for plan in (
        Plan(name="free", per_hour=5, per_day=20, api_access=False),
        Plan(name="basic", per_hour=30, per_day=200, api_access=False),
        Plan(name="pro", per_hour=60, per_day=500, api_access=False),
        Plan(name="vip", per_hour=100, per_day=1_000),
        Plan(name="elite", per_hour=None, per_day=None),
    )
}
"""The documented plans: limits from the rate-limits page; the API is for VIP and Elite (quickstart, authentication)."""


def find_plan(plan: str | Plan) -> Plan:
    """Return the plan of this name, or the plan itself; raise ValueError for an unknown name."""
    if isinstance(plan, Plan):
        return plan
    if plan not in PLANS:
        raise ValueError(f"unknown plan {plan!r}: choose one of {', '.join(PLANS)}, or pass a Plan of your own")
    return PLANS[plan]


@define(kw_only=True)
class Window:
    """How much of one limit is used up in the window of `length` world seconds that is open now."""

    length: float
    limit: int | None
    used: int = 0
    number: int = -1
    next_opens: float = 0.0

    def roll(self, calendar: Calendar, now: float) -> None:
        """Start afresh if the clock has entered another window."""
        number, self.next_opens = calendar.window(self.length, now)
        if number != self.number:
            self.number, self.used = number, 0

    @property
    def left(self) -> float:
        """Return how many requests may still come; infinite without a limit."""
        return math.inf if self.limit is None else self.limit - self.used

    def headers(self, name: str) -> dict[str, str]:
        """Return the documented pair of headers; none without a limit."""
        if self.limit is None:
            return {}
        return {f"X-RateLimit-Limit-{name}": str(self.limit), f"X-RateLimit-Remaining-{name}": str(self.left)}


@define(kw_only=True)
class Windows:
    """One account's hour and day."""

    plan: Plan
    calendar: Calendar
    hour: Window = field(init=False)
    day: Window = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Open the first windows."""
        self.hour = Window(length=HOUR, limit=self.plan.per_hour)
        self.day = Window(length=DAY, limit=self.plan.per_day)

    def admit(self, now: float) -> Answer | None:
        """Count one request, or return the 429 that turns it away; what is turned away is not counted."""
        self.roll(now)
        if self.hour.left < 1 or self.day.left < 1:
            return self._rejection(now)
        self.hour.used += 1
        self.day.used += 1
        return None

    def roll(self, now: float) -> None:
        """Move both windows on to `now`."""
        self.hour.roll(self.calendar, now)
        self.day.roll(self.calendar, now)

    def headers(self, now: float) -> dict[str, str]:
        """Return the documented headers, Reset-Hour in Unix seconds; there is no Reset-Day (contract §1)."""
        self.roll(now)
        shown = {**self.hour.headers("Hour"), **self.day.headers("Day")}
        if self.hour.limit is not None:
            shown["X-RateLimit-Reset-Hour"] = str(self.calendar.unix(self.hour.next_opens))
        return shown

    def _rejection(self, now: float) -> Answer:
        full = self.day if self.day.left < 1 else self.hour
        name, unit = ("Daily", "day") if full is self.day else ("Hourly", "hour")
        wait = self.calendar.seconds(full.next_opens - now)
        return rate_limit_answer(
            self.plan, wait, f"{name} limit reached: {full.limit} requests/{unit} on {self.plan.name.upper()} plan"
        )


def rate_limit_answer(plan: Plan, retry_after: float, message: str) -> Answer:
    """Answer 429 in the documented words: flat extras, no details, the wait in the body and in a header."""
    answer = json_answer(
        {
            "error": "rate_limit_exceeded",
            "message": message,
            "retry_after": retry_after,
            "plan": plan.name,
            "limit_hour": plan.per_hour,
            "limit_day": plan.per_day,
        },
        status=429,
    )
    return answer.with_headers({"Retry-After": str(math.ceil(retry_after))})

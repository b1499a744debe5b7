"""How much may still be asked: the plan's windows, as the service's own headers tell, turned into seconds to wait.

The headers are the truth. A 429 pauses the whole client, not one call; a window with nothing left pauses what pays.
"""

import math
from collections.abc import Mapping
from typing import Final

from attrs import define, field, frozen

from neuralbox_async._core.api import http_date

# Source: the documentation's own sample, `int(response.headers.get("Retry-After", 60))`.
DEFAULT_PAUSE: Final = 60.0
# "Again in 0 seconds" must not become a tight loop, and a slip of the service's must not shut a client for ever.
SHORTEST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 86_400.0
HOUR: Final = 3_600.0


@frozen(kw_only=True)
class RateLimit:
    """What the last answer said of the plan's windows; None where it said nothing.

    Attributes:
        limit_hour: Requests the plan allows in an hour; 0 means unlimited.
        remaining_hour: Requests left in this hour.
        limit_day: Requests the plan allows in a day; 0 means unlimited.
        remaining_day: Requests left today.
        reset_hour: When the hourly window opens again, in Unix seconds of the service's clock.
    """

    limit_hour: int | None = None
    remaining_hour: int | None = None
    limit_day: int | None = None
    remaining_day: int | None = None
    reset_hour: float | None = None


@define
class Rate:
    """The plan's windows as one account sees them; hand the same one to clients that share an account.

    Attributes:
        last: What the last answer said.
    """

    last: RateLimit = field(factory=RateLimit)
    _all_until: float = field(default=-math.inf, init=False)
    _closed: float = field(default=0.0, init=False)
    _refusals: int = field(default=0, init=False)
    _noted_at: float = field(default=-math.inf, init=False)
    _paid_until: float = field(default=-math.inf, init=False)

    def note(self, headers: Mapping[str, str], *, now: float, wall: float) -> None:
        """Take in the `X-RateLimit-*` headers of an answer. `now` is loop time, `wall` Unix seconds."""
        self._hear(now)
        limit = _rate_limit(headers)
        if limit is None:
            return
        self.last = limit
        used_up = limit.remaining_hour == 0 and limit.limit_hour != 0
        if used_up and limit.reset_hour is not None:
            served_at = http_date(headers.get("date", ""))
            seconds = limit.reset_hour - (wall if served_at is None else served_at)
            self._paid_until = now + min(HOUR, max(0.0, seconds))
        else:
            self._paid_until = -math.inf

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

    def seconds_until_open(self, *, paid: bool, now: float) -> float:
        """Answer how long a call must wait for the plan's window; 0.0 if it may go now."""
        self._hear(now)
        return max(0.0, self._all_until - now, self._paid_until - now if paid else 0.0)

    def _hear(self, now: float) -> None:
        if now < self._noted_at:  # a clock that shows less belongs to another event loop: what was noted is over
            self._all_until = self._paid_until = -math.inf
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

"""The world counts client seconds since it began; a calendar turns them into dates and plan windows."""

import math
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache

from attrs import frozen

EPOCH = 1_772_971_200.0
"""2026-03-08T12:00:00Z, in Unix seconds: when every sandbox begins, unless told otherwise."""

DAY = 86_400.0

# A clock that slept exactly until a window opens may read a hair less than that: float sums are not exact.
_HAIR = 1e-6


@frozen(kw_only=True)
class Calendar:
    """When the world began (`epoch`, Unix seconds) and how many of its seconds pass in one client second (`speed`)."""

    epoch: float = EPOCH
    speed: float = 1.0

    def window(self, length: float, now: float) -> tuple[int, float]:
        """Return the number of the clock-aligned window of `length` world seconds, and when the next one opens.

        The opening is in client seconds since the world began.
        """
        offset = self.epoch % length
        number = math.floor((offset + (now + _HAIR) * self.speed) / length)
        return number, ((number + 1) * length - offset) / self.speed

    def seconds(self, seconds: float) -> int | float:
        """Round up as the service would say it: whole seconds; milliseconds where the world runs faster."""
        if self.speed == 1:
            return math.ceil(seconds - _HAIR)
        return math.ceil(seconds * 1000 - _HAIR) / 1000

    def unix(self, now: float) -> int:
        """Return the Unix second, rounded up."""
        return math.ceil(self.epoch + now - _HAIR)

    def iso(self, now: float) -> str:
        """Return the date as the service writes it, such as 2026-03-08T12:05:00Z."""
        return _iso(math.floor(self.epoch + now))

    def http_date(self, now: float) -> str:
        """Return the value of a Date header (RFC 9110, IMF-fixdate)."""
        return _http_date(math.floor(self.epoch + now))

    def plan_expiry(self) -> str:
        """Return the midnight 31 days after the world began, as the service writes it."""
        start_of_day = self.epoch - self.epoch % DAY
        return self.iso(start_of_day - self.epoch + 31 * DAY)


@lru_cache
def _http_date(unix: int) -> str:
    return formatdate(unix, usegmt=True)


@lru_cache  # most of what was made in one second is told of again and again
def _iso(unix: int) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="seconds").removesuffix("+00:00") + "Z"

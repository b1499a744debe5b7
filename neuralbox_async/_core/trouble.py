"""A look that keeps failing gives way after a minute: to a page of the history, if that shows the same generation.

From then on each look is one try, and rests for as long as looks have been failing, a minute at most. A Retry-After is
kept to in any case. Where requests are dear, fewer are spent in vain: it gives way sooner, and rests longer.
"""

from typing import Final

from attrs import frozen

from neuralbox_async._core.errors import APIError
from neuralbox_async._core.idle import DEAR

# Two answers that stall, or some twenty that say no: what is restarted, or moved to another machine, is back by then.
LOOK_SECONDS: Final = 60.0
SHORTEST_REST: Final = 1.0
# However dear requests are, it gives way no sooner than this many times, and rests no longer.
MOST_DEAR: Final = 4.0


def _dearness(price: float) -> float:
    return min(MOST_DEAR, max(1.0, price / DEAR))


def patience(price: float) -> float:
    """Answer for how many seconds a look that fails is repeated, where one costs so many seconds of waiting."""
    return LOOK_SECONDS / _dearness(price)


def longest_rest(price: float) -> float:
    """Answer for how many seconds what has failed is left alone at most, unless the service says how long."""
    return LOOK_SECONDS * _dearness(price)


@frozen(kw_only=True, eq=False, repr=False)
class Trouble:
    """Looks at one generation that fail.

    Attributes:
        failure: What the last one came to.
        since: When the first of them began, in loop time.
        failed_at: When the last one failed.
    """

    failure: APIError
    since: float
    failed_at: float

    @property
    def forbidden_until(self) -> float:
        """Return until when the service wants not to be asked, in loop time."""
        return self.failed_at + (self.failure.retry_after or 0.0)

    def rests_until(self, price: float) -> float:
        """Answer when the next look may be made, in loop time, where one costs so many seconds of waiting."""
        rest = max(SHORTEST_REST, self.failed_at - self.since)
        return max(self.forbidden_until, self.failed_at + min(rest, LOOK_SECONDS) * _dearness(price))

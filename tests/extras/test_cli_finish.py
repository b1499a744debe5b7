"""The finishing time of a run under a plan."""

import pytest

from neuralbox_async import RateLimit
from neuralbox_async.extras.cli.finish import seconds_to_finish


def plan(**values: int) -> RateLimit:
    """Return a plan of 100 an hour with nothing left."""
    return RateLimit(**{"limit_hour": 100, "left": 0, **values})


@pytest.mark.parametrize(
    ("limit", "items", "settled", "asked", "seconds"),
    [
        (plan(), 40, 0, 10, 600),
        (plan(), 80, 0, 10, 600 + 3_600),
        (plan(), 80, 50, 60, 600),
        (plan(left=90), 30, 0, 0, 0),
        (plan(), 1_000, 100, 120, 600 + 11 * 3_600),
        (plan(limit_day=1_000, remaining_day=0), 40, 0, 10, 86_400),
        (plan(limit_hour=0), 1_000, 0, 0, None),
        (RateLimit(), 1_000, 0, 0, None),
    ],
    ids=["next window", "two", "by what they took", "now", "many", "a day", "unlimited", "no plan"],
)
def test_a_run_takes_as_many_windows_as_its_requests(
    limit: RateLimit, items: int, settled: int, asked: int, seconds: float | None
) -> None:
    """What is needed beyond what is left waits for as many windows as it fills."""
    assert seconds_to_finish(limit, items=items, settled=settled, asked=asked, until_open=600) == seconds

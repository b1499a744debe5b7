"""How long a run under a plan still takes: the requests its items need yet, by what each took so far, window by window.

Lines that were not read yet are not known, and not counted.
"""

import math
from typing import Final

from neuralbox_async import RateLimit

HOUR: Final = 3_600.0
DAY: Final = 86_400.0
# A POST, and looks that are stretched. Until some items have shown what they take.
USUAL_REQUESTS: Final = 2.5
ENOUGH_ITEMS: Final = 5


def seconds_to_finish(limit: RateLimit, *, items: int, settled: int, asked: int, until_open: float) -> float | None:
    """Answer how long `items` take yet, in seconds; None where no plan limits them.

    Args:
        limit: What is left of the plan.
        items: How many items are not finished.
        settled: How many are.
        asked: How many requests were made so far.
        until_open: In how many seconds the next window opens.
    """
    if limit.left is None or not limit.limit_hour:
        return None
    needed = items * (asked / settled if settled >= ENOUGH_ITEMS else USUAL_REQUESTS)
    windows = math.ceil(max(0.0, needed - limit.left) / limit.limit_hour)
    seconds = until_open + (windows - 1) * HOUR if windows else 0.0
    if limit.limit_day and limit.remaining_day is not None:
        seconds = max(seconds, math.ceil(max(0.0, needed - limit.remaining_day) / limit.limit_day) * DAY)
    return seconds

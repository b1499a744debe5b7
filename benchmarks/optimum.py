"""The best that looking can do: with the law known, dynamic programming finds the ages at which looks cost least.

Minimises look_price · looks + delay on a grid of ages (Barlow & Proschan 1963). The law is known by 100,000 draws.
"""

import random
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from benchmarks.laws import Law

GRID: Final = 0.25
DRAWS: Final = 100_000
LONGEST_STEP: Final = 120.0
# Beyond what all but one in 10,000 draws take, looks go on at steps that grow by a tenth.
_TAIL: Final = 1.1


def best_ages(law: Law, look_price: float) -> list[float]:
    """Return the ages at which to look at a job of this law, in seconds."""
    chance = random.Random(99)
    ends = [law(chance).seconds for _ in range(DRAWS)]
    cells = int(sorted(ends)[-DRAWS // 10_000] / GRID) + 2
    ended, weighed = [0.0] * (cells + 1), [0.0] * (cells + 1)
    for end in ends:
        cell = min(cells, int(end / GRID) + 1)
        ended[cell] += 1 / DRAWS
        weighed[cell] += min(end, cells * GRID) / DRAWS
    following = _best_steps(list(accumulate(ended)), list(accumulate(weighed)), look_price)
    ages, cell = [], 0
    while following[cell] > cell:
        cell = following[cell]
        ages.append(cell * GRID)
    return ages


def _best_steps(ended: Sequence[float], weighed: Sequence[float], look_price: float) -> list[int]:
    """Return for each grid point the one to look at next, if the job is pending there: backwards from the last."""
    last = len(ended) - 1
    cost, following = [0.0] * (last + 1), [last] * (last + 1)
    reach = int(LONGEST_STEP / GRID)
    for here in range(last - 1, -1, -1):
        price = look_price * (1 - ended[here])
        gone, gone_weighed = ended[here], weighed[here]
        cost[here], following[here] = min(
            (price + there * GRID * (ended[there] - gone) - (weighed[there] - gone_weighed) + cost[there], there)
            for there in range(here + 1, min(last, here + reach) + 1)
        )
    return following


def looks_and_delay(ages: Sequence[float], end: float) -> tuple[int, float]:
    """Return how many looks at these ages it takes to see that a job has ended, and how long that lay there."""
    age, looks = 0.0, 0
    while age < end or not looks:
        age = ages[looks] if looks < len(ages) else age * _TAIL
        looks += 1
    return looks, age - end

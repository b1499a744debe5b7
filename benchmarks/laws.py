"""How long jobs take: each law draws one job's end from a generator of chance, in seconds."""

import math
import random
from collections.abc import Callable, Mapping
from typing import Final

from attrs import frozen

# The service's documentation names these ranges ("typical waits"); they are taken as the 10th and 90th per cent.
DOCUMENTED: Final[Mapping[str, tuple[float, float]]] = {
    "luma-flash2": (20, 35),
    "kling-v2.1": (45, 90),
    "kling-v2.1-pro": (60, 90),
    "luma-ray2": (60, 120),
    "mj-video-720p": (90, 180),
}
Z_90: Final = 1.2815515655446004


@frozen
class End:
    """When a job ends (seconds), and whether it fails then."""

    seconds: float
    fails: bool = False


Law = Callable[[random.Random], End]


@frozen
class Lognormal:
    """A lognormal law whose 10 to 90 % are `low` to `high` seconds."""

    low: float
    high: float

    def __call__(self, chance: random.Random) -> End:
        """Draw a job's end."""
        low, high = math.log(self.low), math.log(self.high)
        return End(math.exp(chance.gauss((low + high) / 2, (high - low) / 2 / Z_90)))


def documented(model: str, *, times: float = 1.0) -> Law:
    """Return the lognormal law whose 10 to 90 % are the documented range, or `times` that."""
    low, high = DOCUMENTED[model]
    return Lognormal(low * times, high * times)


KLING: Final = documented("kling-v2.1")


def gamma(chance: random.Random) -> End:
    """Draw around 60 s, a third more or less."""
    return End(chance.gammavariate(11, 60 / 11))


def heavy_tail(chance: random.Random) -> End:
    """Draw from 40 s up, by a Pareto law of exponent 2.5: one in a hundred takes longer than 250 s."""
    return End(40 * chance.paretovariate(2.5))


def queueing(chance: random.Random) -> End:
    """Draw 45 to 90 s of work, after a queue of 30 s on average for four jobs in ten."""
    queue = chance.expovariate(1 / 30) if chance.random() < 0.4 else 0.0
    return End(KLING(chance).seconds + queue)


def bimodal(chance: random.Random) -> End:
    """Draw about 30 s or about 90 s."""
    return End(chance.lognormvariate(math.log(chance.choice((30, 90))), 0.1))


def early_failures(chance: random.Random) -> End:
    """Draw 45 to 90 s, but 8 % fail within 1 to 8 s."""
    return End(chance.uniform(1, 8), fails=True) if chance.random() < 0.08 else KLING(chance)

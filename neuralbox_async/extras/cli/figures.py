"""What the demo claims is counted: tokens against the balance, requests against a loop that looks every 5 s.

The loop is worked out from how long each generation really took, which only the sandbox knows. It is given what favours
it: its first look after 5 s, no time on the network. Durations are told in seconds of the service.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from attrs import frozen

from neuralbox_async import Outcome
from neuralbox_async.extras.cli.screen import kind_of

LOOP_SECONDS: Final = 5.0


@frozen(kw_only=True)
class Count:
    """How many of a kind, or of a model, came out how, and what they cost."""

    name: str
    done: int
    failed: int
    tokens: int


@frozen(kw_only=True)
class Way:
    """What one way of waiting took: its requests, and how long a finished result lay there unseen, on average."""

    name: str
    posts: int
    looks: int
    unseen_seconds: float

    @property
    def requests(self) -> int:
        """Return all requests to the API; files come from elsewhere and are the same for every way."""
        return self.posts + self.looks


@frozen(kw_only=True)
class Figures:
    """What came of the demo."""

    kinds: Sequence[Count]
    models: Sequence[Count]
    balance_before: int
    balance_after: int
    ours: Way
    loop: Way
    frugal_loop: Way
    speed: float
    seconds: float
    files: int

    @property
    def tokens(self) -> int:
        """Return what the outcomes say was spent."""
        return sum(each.tokens for each in self.models)

    @property
    def adds_up(self) -> bool:
        """Whether the account lost exactly what the outcomes say."""
        return self.tokens == self.balance_before - self.balance_after


def count(outcomes: Iterable[Outcome]) -> tuple[list[Count], list[Count]]:
    """Count outcomes by kind and by model."""
    kinds: defaultdict[str, Counter[str]] = defaultdict(Counter[str])
    models: defaultdict[str, Counter[str]] = defaultdict(Counter[str])
    for outcome in outcomes:
        spent = outcome.generation.tokens_spent if outcome.generation else None
        for counter in (kinds[kind_of(outcome.request.model)], models[outcome.request.model]):
            counter["failed" if outcome.error else "done"] += 1
            counter["tokens"] += spent or 0
    return _counts(kinds), sorted(_counts(models), key=lambda each: (-each.tokens, each.name))


def _counts(counters: Mapping[str, Counter[str]]) -> list[Count]:
    return [
        Count(name=name, done=counter["done"], failed=counter["failed"], tokens=counter["tokens"])
        for name, counter in counters.items()
    ]


def loop_way(durations: Sequence[float], *, every: float, posts: int) -> Way:
    """Work out a loop that looks every so many seconds until a generation is final.

    `durations` are the seconds that those generations took which had to be waited for.
    """
    looks = [math.ceil(duration / every) for duration in durations]
    unseen = [count * every - duration for count, duration in zip(looks, durations, strict=True)]
    return Way(name=f"a loop of {every:.3g} s", posts=posts, looks=sum(looks), unseen_seconds=mean(unseen))


def as_frugal_loop(durations: Sequence[float], *, ours: Way) -> Way:
    """Work out the quickest loop that looks no more often than the client did."""
    every = LOOP_SECONDS
    while (way := loop_way(durations, every=every, posts=ours.posts)).looks > ours.looks:
        every += 0.1
    return way


def mean(values: Sequence[float]) -> float:
    """Return the mean, 0 of nothing."""
    return sum(values) / len(values) if values else 0.0

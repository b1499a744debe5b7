"""`--dry-run`: what a run would cost and take, by the service's own prices and plan, before anything is paid.

What an item of its ledger has come to is not counted again. Of more kinds of items than may be asked about, the rarer
ones cost what their model may: a range. What nobody prices is unknown.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import define, field, frozen

from neuralbox_async import AsyncNeuralBox, GenerationRequest, Ledger, RateLimit
from neuralbox_async.extras.cli.asking import told
from neuralbox_async.extras.cli.prompts import read_prompts
from neuralbox_async.extras.cli.settings import BulkOptions
from neuralbox_async.extras.cli.source import Source
from neuralbox_async.sandbox import CATALOGUE

# Each question is a request, of which a VIP has a hundred an hour.
MOST_QUESTIONS: Final = 20
MOST_KINDS: Final = 1_000
MOST_OWN: Final = 10
UNKNOWN_SECONDS: Final = (15.0, 120.0)
# Measured (`python -m benchmarks.pacing`): 0.4 of the looks of a loop of 5 s.
SECONDS_PER_LOOK: Final = 5 / 0.4
HOUR: Final = 3_600.0
DAY: Final = 86_400.0

Span = tuple[float, float]
TokenSpan = tuple[int, int]
Kind = tuple[str, str]  # a model, and its params as JSON


@define
class Counted:
    """What an input asks for: its items by kind, those that are done, the lines that cannot be used, its own fields."""

    kinds: Counter[Kind] = field(factory=Counter[Kind])
    before: int = 0
    bad_lines: int = 0
    own: dict[str, None] = field(factory=dict[str, None])

    def add(self, request: GenerationRequest) -> None:
        """Count one item; of very many kinds, the later ones are counted by their model alone."""
        kind = (request.model, json.dumps(request.params or {}, sort_keys=True))
        self.kinds[kind if kind in self.kinds or len(self.kinds) < MOST_KINDS else (request.model, "")] += 1

    def name(self, fields: Iterable[str]) -> None:
        """Remember the names of fields that are not sent, the first few."""
        for each in fields:
            if len(self.own) < MOST_OWN:
                self.own[each] = None


@frozen(kw_only=True)
class Item:
    """Items that cost the same: how many, and tokens for each; None where nobody knows."""

    model: str
    count: int
    tokens: TokenSpan | None


@frozen(kw_only=True)
class Estimate:
    """What a run would cost and take.

    Attributes:
        items: What would be sent, by model and price.
        before: How many items are done, or under way, in the ledger.
        bad_lines: How many lines cannot be used.
        balance: Tokens of the account.
        plan: The account's plan.
        limits: Its windows.
        max_concurrency: How many are under way at once.
        own: The names of the first fields that are the input's own: they are echoed, and not sent.
    """

    items: Sequence[Item]
    before: int
    bad_lines: int
    balance: int
    plan: str | None
    limits: RateLimit
    max_concurrency: int
    own: Sequence[str] = ()

    @property
    def count(self) -> int:
        """How many generations would be asked for."""
        return sum(item.count for item in self.items)

    @property
    def tokens(self) -> TokenSpan | None:
        """The least and the most that they cost; None if some price is unknown."""
        return None if self.unpriced else self.known_tokens

    @property
    def known_tokens(self) -> TokenSpan:
        """The least and the most that those cost whose price is known."""
        known = [(item.count, item.tokens) for item in self.items if item.tokens is not None]
        return sum(n * each[0] for n, each in known), sum(n * each[1] for n, each in known)

    @property
    def unpriced(self) -> int:
        """How many items have no price that anybody tells."""
        return sum(item.count for item in self.items if item.tokens is None)

    @property
    def looks(self) -> int:
        """About how many looks it takes at most; pages of the history answer for many."""
        slow = [(item.count, _seconds(item.model)) for item in self.items if _is_slow(item.model)]
        return sum(count * max(1, round(sum(span) / 2 / SECONDS_PER_LOOK)) for count, span in slow)

    @property
    def seconds(self) -> Span:
        """From how long to how long it takes: the models' usual durations, and the plan's windows."""
        spans = [(item.count, _seconds(item.model)) for item in self.items]
        low, high = (
            max(
                sum(count * span[end] for count, span in spans) / self.max_concurrency,
                max((span[end] for _, span in spans), default=0.0),
            )
            for end in (0, 1)
        )
        # Whether looks count as requests is not documented.
        waits = sorted((self._closed(self.count), self._closed(self.count + self.looks)))
        return max(low, waits[0]), max(high, waits[1] + (low if waits[1] else 0))

    def _closed(self, requests: int) -> float:
        limits = self.limits
        hours = _windows(requests, limits.limit_hour, limits.remaining_hour)
        days = _windows(requests, limits.limit_day, limits.remaining_day)
        return max(hours * HOUR, days * DAY)


async def estimate(nb: AsyncNeuralBox, options: BulkOptions, source: Source) -> Estimate:
    """Read the whole input and ask what it costs. Raises what `balance` raises, UsageError and LedgerError."""
    balance = await nb.balance()
    counted = await _counted(options, source)
    items = await _priced(nb, counted.kinds)
    return Estimate(
        items=items,
        before=counted.before,
        bad_lines=counted.bad_lines,
        balance=balance.token_balance,
        plan=balance.plan,
        limits=nb.rate_limit,
        max_concurrency=options.max_concurrency,
        own=tuple(counted.own),
    )


async def tokens_of(nb: AsyncNeuralBox, model: str, params: dict[str, Any]) -> tuple[int, int, int] | None:
    """Return what one generation costs, and the least and the most of its model; None if nobody knows."""
    price = await told(nb.price(model, params or None))
    if price is None:
        return None
    least = price.tokens if price.min_tokens is None else price.min_tokens
    most = price.tokens if price.max_tokens is None else price.max_tokens
    return price.tokens, least, most


async def _counted(options: BulkOptions, source: Source) -> Counted:
    counted, done = Counted(), _done(options.ledger)
    async for line in read_prompts(source.lines(), source.name, options.defaults):
        counted.name(line.tag["fields"])
        if line.request is None:
            counted.bad_lines += 1
        elif done[_name(line.request)] > 0:
            done[_name(line.request)] -= 1
            counted.before += 1
        else:
            counted.add(line.request)
    return counted


def _done(ledger: str | None) -> Counter[int]:
    """Count by name what a ledger has that is not to be sent."""
    if ledger is None or not Path(ledger).exists():
        return Counter()
    with Ledger(ledger) as file:
        return Counter(_name(row.request) for row in file.rows() if row.state != "planned")


def _name(request: GenerationRequest) -> int:
    asked = [request.model, request.prompt, request.params or {}] if request.key is None else request.key
    return hash(json.dumps(asked, sort_keys=True))


async def _priced(nb: AsyncNeuralBox, kinds: Counter[Kind]) -> list[Item]:
    """Ask for the price of the most frequent kinds; the others cost what their model may, by the list of models."""
    found, spans = dict[Kind, TokenSpan](), dict[str, TokenSpan]()
    for model, params in [kind for kind, _ in kinds.most_common(MOST_QUESTIONS) if kind[1]]:
        told = await tokens_of(nb, model, json.loads(params))
        if told is not None:
            found[model, params], spans[model] = (told[0], told[0]), told[1:]
    if any(kind not in found and kind[0] not in spans for kind in kinds):
        spans = {**await _listed_spans(nb), **spans}
    items = Counter[tuple[str, TokenSpan | None]]()
    for kind, count in kinds.most_common():
        items[kind[0], found.get(kind, spans.get(kind[0]))] += count
    return [Item(model=model, count=count, tokens=tokens) for (model, tokens), count in items.items()]


async def _listed_spans(nb: AsyncNeuralBox) -> dict[str, TokenSpan]:
    """Return the least and the most that each model costs, by the list of models; empty if there is none to read."""
    bounds = {
        each.slug: (
            each.token_cost if each.min_token_cost is None else each.min_token_cost,
            each.token_cost if each.max_token_cost is None else each.max_token_cost,
        )
        for each in await told(nb.models()) or ()
    }
    return {slug: (least, most) for slug, (least, most) in bounds.items() if least is not None and most is not None}


def _seconds(model: str) -> Span:
    known = CATALOGUE.get(model)
    return UNKNOWN_SECONDS if known is None else known.seconds


def _is_slow(model: str) -> bool:
    known = CATALOGUE.get(model)
    return known is None or known.slow


def _windows(requests: int, limit: int | None, remaining: int | None) -> int:
    """Return how many windows must open before so many requests are through."""
    if not limit:
        return 0
    over = requests - (limit if remaining is None else remaining)
    return max(0, -(-over // limit))

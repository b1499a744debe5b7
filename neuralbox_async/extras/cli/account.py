"""What the service says of its models, the account and its history: a table for people, JSON lines for machines.

Nothing here costs tokens. A table is as wide as the window, and cuts its last column.
"""

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from attrs import fields, frozen
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from neuralbox_async import AsyncNeuralBox, Generation, Model, Price, Profile, Stats, Usage, UsageError
from neuralbox_async.extras.cli.exits import DONE
from neuralbox_async.extras.cli.options import Service
from neuralbox_async.extras.cli.report import Record, as_json
from neuralbox_async.extras.cli.screen import Screen, printable
from neuralbox_async.extras.cli.signals import Work, carry_out
from neuralbox_async.extras.cli.wording import many

T = TypeVar("T")
# Columns of a table that goes to a file or a pipe, where nobody has a window.
WIDE: Final = 160
_STYLES: Final = {"completed": "green", "failed": "red", "pending": "yellow"}


@frozen(kw_only=True)
class Asked:
    """Where to ask, how long to wait (seconds), and whether machines read the answer."""

    service: Service
    timeout: float
    as_json: bool


@frozen(kw_only=True)
class Wanted:
    """Which entries of the history are wanted; at most `limit`."""

    model: str | None
    status: str | None
    category: str | None
    favorites_only: bool
    limit: int


def models(asked: Asked, category: str | None) -> int:
    """Write what models there are. Raises UsageError for a category that none of them has."""

    async def get(nb: AsyncNeuralBox) -> list[Model]:
        found = await nb.models(timeout=asked.timeout)
        wanted = [each for each in found if category in (None, each.category)]
        if found and not wanted:
            known = ", ".join(sorted({each.category for each in found if each.category}))
            raise UsageError(f"No model has the category {category}; there are {known}.")
        return wanted

    return _ask(asked, get, _model_table)


def model(asked: Asked, slug: str) -> int:
    """Write what the service says of one model."""

    async def get(nb: AsyncNeuralBox) -> list[Model]:
        return [await nb.model(slug, timeout=asked.timeout)]

    return _ask(asked, get, lambda found: _facts(found[0]))


def price(asked: Asked, slug: str, params: Record, count: int) -> int:
    """Write what generations would cost."""

    async def get(nb: AsyncNeuralBox) -> list[Price]:
        return [await nb.price(slug, params, count, timeout=asked.timeout)]

    return _ask(asked, get, lambda found: Text(_price_text(found[0])))


def me(asked: Asked) -> int:
    """Write whose account this is."""

    async def get(nb: AsyncNeuralBox) -> list[Profile]:
        return [await nb.me(timeout=asked.timeout)]

    return _ask(asked, get, lambda found: _facts(found[0]))


def stats(asked: Asked) -> int:
    """Write what the account has generated."""

    async def get(nb: AsyncNeuralBox) -> list[Stats]:
        return [await nb.stats(timeout=asked.timeout)]

    return _ask(asked, get, lambda found: _stats_table(found[0]))


def history(asked: Asked, wanted: Wanted) -> int:
    """Write the newest generations."""

    async def get(nb: AsyncNeuralBox) -> list[Generation]:
        entries = nb.history(
            model=wanted.model,
            status=wanted.status,
            category=wanted.category,
            favorites_only=wanted.favorites_only,
            timeout=asked.timeout,
        )
        return await _first(entries, wanted.limit)

    return _ask(asked, get, _history_table)


async def _first(entries: AsyncIterator[Generation], most: int) -> list[Generation]:
    found: list[Generation] = []
    while len(found) < most:
        entry = await anext(entries, None)
        if entry is None:
            break
        found.append(entry)
    return found


def _ask(
    asked: Asked, get: Callable[[AsyncNeuralBox], Awaitable[Sequence[T]]], draw: Callable[[Sequence[T]], Table | Text]
) -> int:
    screen = Screen(Console(stderr=True))

    async def run() -> int:
        async with asked.service.client(screen.hear) as nb:
            found = await get(nb)
        if asked.as_json:
            sys.stdout.writelines(as_json(record(each)) + "\n" for each in found)
        elif not found:
            screen.say("Nothing was found.")
        else:
            has_width = sys.stdout.isatty() or "COLUMNS" in os.environ
            page = Console(file=sys.stdout, width=None if has_width else WIDE)
            page.print(draw(found))
        sys.stdout.flush()
        return DONE

    return carry_out(Work(run=run, say=screen.say, last_words=lambda code: code))


def record(value: Any) -> Record:
    """Return a value of the library as JSON has it, without the raw answer; what has no name is in `extra`."""
    return {
        each.name: _plain(getattr(value, each.name)) for each in fields(type(value)) if each.name not in ("raw", "head")
    }


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Usage):
        return record(value)
    return {name: _plain(each) for name, each in value.items()} if isinstance(value, dict) else value


# --- tables ----------------------------------------------------------------------------------------------------------


def _listing(*columns: str, right: Iterable[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        # Where the window is narrow, rich takes from columns that may wrap: the last gives way, and is cut.
        table.add_column(name, justify="right" if name in right else "left", no_wrap=name != columns[-1])
    return table


def _with_whole_names(table: Table, names: Sequence[str]) -> Table:
    """Keep the first column whole in any window: what stands there is what the other commands take."""
    table.columns[0].min_width = max(map(len, names), default=0)
    return table


def _cell(value: object, style: str = "") -> Text:
    if value is None or value == "":
        return Text("-", style="dim")
    shown = f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else str(value)
    return Text(" ".join(printable(shown).split()), style=style, no_wrap=True, overflow="ellipsis")


def _number(value: int | None) -> Text:
    return _cell(None if value is None else f"{value:,}")


def _model_table(found: Sequence[Model]) -> Table:
    table = _listing("model", "category", "tokens", "plan", "streams", "name", right=["tokens"])
    for each in found:
        streams = {True: "yes", False: "no", None: None}[each.supports_streaming]
        table.add_row(
            _cell(each.slug, "bold"), *map(_cell, (each.category, _range(each), each.min_plan, streams, each.name))
        )
    return _with_whole_names(table, [each.slug for each in found])


def _range(model: Model) -> str | None:
    low, high = model.min_token_cost, model.max_token_cost
    if low is None or high is None or low == high:
        known = low if low is not None else high if high is not None else model.token_cost
        return None if known is None else str(known)
    return f"{low}-{high}"


def _history_table(found: Sequence[Generation]) -> Table:
    table = _listing("id", "when", "model", "status", "tokens", "", "prompt", right=["tokens"])
    for each in found:
        table.add_row(
            _cell(each.id, "bold"),
            _cell(each.created_at),
            _cell(each.model),
            _cell(each.status, _STYLES.get(each.status, "")),
            _number(each.tokens_spent),
            Text("*" if each.is_favorited else "", style="yellow"),
            _cell(each.prompt),
        )
    return _with_whole_names(table, [str(each.id) for each in found])


def _stats_table(found: Stats) -> Table:
    table = _listing("", "generations", "tokens", right=["generations", "tokens"])
    for name, usage in found.breakdown.items():
        table.add_row(_cell(name), _number(usage.generations), _number(usage.tokens))
    table.add_section()
    table.add_row("all", _number(found.total_generations), _number(found.tokens_spent_total), style="bold")
    if found.recent_30d is not None:
        table.add_row("last 30 days", _number(found.recent_30d.generations), _number(found.recent_30d.tokens))
    return table


def _price_text(price: Price) -> str:
    low, high = price.min_tokens, price.max_tokens
    bounds = "" if None in (low, high) or low == high else f"{low} to {high}"
    about = ", ".join(filter(None, [bounds, price.pricing_type]))
    return many(price.tokens, "token") + (f" ({about})" if about else "")


def _facts(value: object) -> Table:
    """List a value's fields with what they hold."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, held in record(value).items():
        if isinstance(held, dict):
            for part, each in held.items():
                table.add_row(_cell(part if name == "extra" else f"{name}.{part}"), _cell(_joined(each)))
        elif held is not None:
            table.add_row(_cell(name), _cell(_joined(held)))
    return table


def _joined(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)

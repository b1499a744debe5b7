"""A person reads an estimate as a table and three lines, a script as one JSON object; neither costs anything."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from neuralbox_async.extras.cli.estimate import Estimate, estimate
from neuralbox_async.extras.cli.exits import DONE
from neuralbox_async.extras.cli.prompts import check_input
from neuralbox_async.extras.cli.report import as_json
from neuralbox_async.extras.cli.screen import Screen, printable
from neuralbox_async.extras.cli.settings import BulkOptions
from neuralbox_async.extras.cli.signals import Work, carry_out
from neuralbox_async.extras.cli.source import opened
from neuralbox_async.extras.cli.wording import duration, many

MOST_ROWS = 20
Show = Callable[[Estimate], None]


def dry_run(options: BulkOptions, show: Show) -> int:
    """Estimate a run, show that, and return the exit code. Raises UsageError as `bulk` does."""
    check_input(options.file, options.defaults)
    screen = Screen(Console(stderr=True))

    with opened(options.file) as source:

        async def run() -> int:
            async with options.service.client(screen.hear) as nb:
                show(await estimate(nb, options, source))
            return DONE

        return carry_out(Work(run=run, say=screen.say, last_words=lambda code: code))


def show_record(found: Estimate) -> None:
    """Write an estimate as JSON; times are in seconds."""
    sys.stdout.write(as_json(as_record(found)) + "\n")


def as_record(found: Estimate) -> dict[str, Any]:
    """Describe an estimate as JSON has it."""
    return {
        "items": found.count,
        "before": found.before,
        "bad_lines": found.bad_lines,
        "tokens": found.tokens,
        "balance": found.balance,
        "plan": found.plan,
        "posts": found.count,
        "looks": found.looks,
        "seconds": found.seconds,
        "own_fields": found.own,
        "by_model": [{"model": item.model, "items": item.count, "tokens_each": item.tokens} for item in found.items],
    }


def show_page(found: Estimate) -> None:
    """Draw an estimate."""
    console = Console()
    console.print(Text(_items(found), style="bold"), soft_wrap=True)
    table = Table(box=None, padding=(0, 2))
    table.add_column("")
    table.add_column("items", justify="right")
    table.add_column("tokens each", justify="right")
    for item in found.items[:MOST_ROWS]:
        table.add_row(Text(printable(item.model)), f"{item.count:,}", _span(item.tokens))
    if len(found.items) > MOST_ROWS:
        table.add_row("others", f"{sum(item.count for item in found.items[MOST_ROWS:]):,}", "")
    if found.items:
        console.print(table)
    for line, style in (
        (_cost(found), "bold red" if _costs_too_much(found) else ""),
        (_requests(found), ""),
        (_time(found), ""),
    ):
        console.print(Text(line, style=style), soft_wrap=True)
    if found.own:
        console.print(Text(f"Yours, echoed and not sent: {printable(', '.join(found.own))}"), soft_wrap=True)
    console.print(Text("Nothing that costs was sent.", style="dim"), soft_wrap=True)


def _items(found: Estimate) -> str:
    before = f", {found.before:,} more in the ledger already" if found.before else ""
    bad = f", {many(found.bad_lines, 'line')} not usable" if found.bad_lines else ""
    return f"{many(found.count, 'item')} to send{before}{bad}"


def _cost(found: Estimate) -> str:
    least, most = found.known_tokens
    cost = f"Cost: {many(most, 'token') if least == most else f'{least:,} to {most:,} tokens'}"
    if found.unpriced:
        known = f"at least {many(least, 'token')}, and " if least else ""
        cost = f"Cost: {known}unknown for {many(found.unpriced, 'item')}, as the service does not tell their price"
    return f"{cost}; the balance is {found.balance:,}{': NOT ENOUGH' if _costs_too_much(found) else ''}"


def _costs_too_much(found: Estimate) -> bool:
    most = found.known_tokens[0 if found.unpriced else 1]
    return most > found.balance


def _requests(found: Estimate) -> str:
    limits = found.limits
    left = [
        *_left(limits.limit_hour, limits.remaining_hour, window="an hour", now="this hour"),
        *_left(limits.limit_day, limits.remaining_day, window="a day", now="today"),
    ]
    looks = f", and up to about {many(found.looks, 'look')}" if found.looks else ""
    return f"Requests: {many(found.count, 'POST')}{looks}" + (f"; {', '.join(left)}" if left else "")


def _left(limit: int | None, remaining: int | None, *, window: str, now: str) -> Iterator[str]:
    if limit and remaining is None:
        yield f"at most {limit:,} {window}"
    elif limit:
        yield f"{remaining:,} of {limit:,} left {now}"


def _time(found: Estimate) -> str:
    low, high = map(duration, found.seconds)
    span = low if low == high else f"{low} to {high}"
    return f"Time: about {span}, {found.max_concurrency:,} at once"


def _span(tokens: tuple[int, int] | None) -> str:
    if tokens is None:
        return "?"
    return f"{tokens[0]:,}" if tokens[0] == tokens[1] else f"{tokens[0]:,} to {tokens[1]:,}"

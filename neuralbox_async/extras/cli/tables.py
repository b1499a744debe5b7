"""How the demo's figures look: small tables that say what was made, what it cost, and what it took to wait."""

from typing import Final

from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from neuralbox_async.extras.cli.figures import Figures
from neuralbox_async.extras.cli.wording import many

FOOTNOTE: Final = """\
Unseen: how long a finished result lay there, on average, in seconds of the
service. The client is measured, and met these models for the first time; the
loops are worked out from how long each generation really took."""


def draw(console: Console, figures: Figures, out: str) -> None:
    """Draw the figures."""
    page = Table.grid(padding=(0, 4))
    page.add_row(Group(results(figures), Text(), waiting(figures)), tokens(figures))
    console.print(Padding(page, (1, 0)))
    console.print(account(figures), soft_wrap=True)
    console.print(
        f"{figures.files} results are in {out}, after {figures.seconds:.1f} s.",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )
    console.print(Text(f"\n{FOOTNOTE}", style="dim"))


def results(figures: Figures) -> Table:
    """Draw what came out, by kind."""
    table = _table("What came out", "", "done", "failed")
    for kind in figures.kinds:
        table.add_row(kind.name, str(kind.done), Text(str(kind.failed or "-"), style="red" if kind.failed else "dim"))
    table.add_section()
    done, failed = sum(each.done for each in figures.kinds), sum(each.failed for each in figures.kinds)
    table.add_row("all", str(done), str(failed), style="bold")
    return table


def tokens(figures: Figures) -> Table:
    """Draw what it cost, by model."""
    table = _table("What it cost", "", "tokens")
    for model in figures.models:
        table.add_row(model.name, f"{model.tokens:,}")
    table.add_section()
    table.add_row("all", f"{figures.tokens:,}", style="bold")
    return table


def waiting(figures: Figures) -> Table:
    """Draw what the waiting took, against loops."""
    table = _table("What the waiting took", "", "POSTs", "looks", "unseen")
    for way, style in ((figures.ours, "bold green"), (figures.loop, ""), (figures.frugal_loop, "")):
        table.add_row(way.name, str(way.posts), str(way.looks), f"{way.unseen_seconds:.1f} s", style=style)
    return table


def account(figures: Figures) -> Text:
    """Hold what the account lost against what the outcomes say."""
    before, after = figures.balance_before, figures.balance_after
    text = Text(f"Balance {before:,} before, {after:,} after: {many(before - after, 'token')} less, ")
    if figures.adds_up:
        return text.append("as the outcomes say.", style="green")
    return text.append(f"BUT THE OUTCOMES SAY {figures.tokens:,}.", style="bold red")


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first)
    for other in others:
        table.add_column(other, justify="right")
    return table

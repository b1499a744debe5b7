"""A row is one figure, held against its goal: what was measured, what we want, and whether that is so."""

from collections.abc import Sequence

from attrs import frozen


@frozen(kw_only=True)
class Row:
    """One line of the table. `ok` is None where there is no goal: a figure to compare with.

    `profile`, where there is one, says what the time goes into; it is written down, not printed.
    """

    number: str
    work: str
    goal: str
    measured: str
    ok: bool | None
    detail: str = ""
    profile: Sequence[str] = ()


def at_most(number: str, work: str, limit: float, measured: float, *, unit: str = "", detail: object = "") -> Row:
    """Make a row whose figure must not be above a limit."""
    goal, ok = f"≤ {limit:,g}{unit}", measured <= limit
    return Row(number=number, work=work, goal=goal, measured=shown(measured, unit), ok=ok, detail=str(detail))


def at_least(number: str, work: str, limit: float, measured: float, *, unit: str = "", detail: object = "") -> Row:
    """Make a row whose figure must not be below a limit."""
    goal, ok = f"≥ {limit:,g}{unit}", measured >= limit
    return Row(number=number, work=work, goal=goal, measured=shown(measured, unit), ok=ok, detail=str(detail))


def beside(number: str, work: str, measured: float, *, unit: str = "", detail: object = "") -> Row:
    """Make a row without a goal."""
    return Row(number=number, work=work, goal="", measured=shown(measured, unit), ok=None, detail=str(detail))


def shown(figure: float, unit: str) -> str:
    """Return a figure with its unit, as exact as its size makes sense."""
    return f"{figure:,.0f}{unit}" if figure >= 100 or figure == int(figure) else f"{figure:.2f}{unit}"


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table, aligned."""
    verdicts = {True: "yes", False: "NO", None: ""}
    lines = [("#", "work", "goal", "measured", "ok", "how")]
    lines += [(row.number, row.work, row.goal, row.measured, verdicts[row.ok], row.detail) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    drawn = [f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines]
    rule = f"|{'|'.join('-' * (width + 2) for width in widths)}|"
    return "\n".join([drawn[0], rule, *drawn[1:]])

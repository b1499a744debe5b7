"""A CSV row says what a JSON line would say: the header names the fields, `param.NAME` columns are a model's options.

Empty cells say nothing. A row may have line breaks inside of quotes, so it may be several lines of the file.
"""

import csv
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import PurePath
from typing import Any, Final, NoReturn

from attrs import frozen

from neuralbox_async import UsageError
from neuralbox_async.extras.cli.options import read_value
from neuralbox_async.extras.cli.source import LONGEST_LINE_BYTES
from neuralbox_async.extras.cli.wording import many

SUFFIXES: Final = frozenset({".csv", ".tsv"})
_DELIMITERS: Final = ",;\t"
_OPTION: Final = "param."

csv.field_size_limit(LONGEST_LINE_BYTES)  # of the module's 128 kB a long prompt has more

NumberedLine = tuple[int, bytes]


class BadLineError(ValueError):
    """A line that makes no request; the message says why."""


def is_table(name: str, first_line: bytes) -> bool:
    """Say whether a file is CSV: by its suffix, or for stdin by a first line that names both model and prompt."""
    suffix = PurePath(name).suffix.lower()
    return suffix in SUFFIXES or (not suffix and {"model", "prompt"} <= set(_header(first_line)[1]))


@frozen(kw_only=True)
class Table:
    """How the rows of one file are read."""

    delimiter: str
    names: Sequence[str]

    @classmethod
    def of(cls, header: bytes, name: str) -> "Table":
        """Read the header of the file `name`. Raises UsageError if prompts cannot be found by it."""
        delimiter, names = _header(header)
        if "prompt" not in names:
            raise UsageError(f'{name} has no column "prompt": its first row must name the columns.')
        twice = sorted({each for each in names if each and names.count(each) > 1})
        if twice:
            raise UsageError(f"{name} has two columns of the name {twice[0]!r}; rename one.")
        return cls(delimiter=delimiter, names=names)

    def is_whole(self, row: bytes) -> bool:
        """Say whether a row ends here, and not in a later line."""
        asked_for_more = False

        def lines() -> Iterator[str]:
            nonlocal asked_for_more
            yield row.decode("utf-8", "replace")
            asked_for_more = True

        try:
            next(csv.reader(lines(), delimiter=self.delimiter, strict=True), None)
        except csv.Error:
            return not asked_for_more
        return not asked_for_more

    def found(self, row: bytes) -> dict[str, Any]:
        """Return what a row says, as a JSON line has it. Raises BadLineError."""
        try:
            cells = next(csv.reader([decoded(row)], delimiter=self.delimiter, strict=True))
        except csv.Error as error:
            raise BadLineError(f"not CSV: {error}") from error
        if any(cells[len(self.names) :]):
            raise BadLineError(f"{many(len(cells), 'cell')}, and {many(len(self.names), 'column')} in the first row")
        said = dict(zip(self.names, [*cells, *[""] * len(self.names)], strict=False))
        options = {each.removeprefix(_OPTION): said.pop(each) for each in self.names if each.startswith(_OPTION)}
        params = _params(said.pop("params", "")) | {each: read_value(cell) for each, cell in options.items() if cell}
        own = {each: said.pop(each, "") for each in ("model", "prompt", "key")}
        found: dict[str, Any] = {each: cell for each, cell in own.items() if cell.strip()}
        others = {each: cell for each, cell in said.items() if each}
        return {**found, **({"params": params} if params else {}), **others}


async def whole_rows(table: Table, lines: AsyncIterator[NumberedLine], name: str) -> AsyncIterator[NumberedLine]:
    """Yield the rows behind the header that are not blank, each with the number of the line that it begins in."""
    began, row, size = 0, list[bytes](), 0
    async for number, line in lines:
        if not row and not line.strip():
            continue
        began, size = (began, size + len(line)) if row else (number, len(line))
        row.append(line)
        # Inside of quotes only another quote can end the row.
        if (len(row) == 1 or b'"' in line) and table.is_whole(b"\n".join(row)):
            yield began, b"\n".join(row)
            row = []
        elif size > LONGEST_LINE_BYTES:
            raise UsageError(f"{name}, line {began}: a quote is never closed.")
    if row:
        yield began, b"\n".join(row)


def decoded(line: bytes) -> str:
    """Return a line's text. Raises BadLineError if it is not UTF-8."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadLineError(f"not UTF-8: byte {error.object[error.start]:#04x} at {error.start}") from error


def refuse_constant(name: str) -> NoReturn:
    """Raise BadLineError for NaN and its like, which Python reads as JSON."""
    raise BadLineError(f"{name} is not JSON")


def _header(line: bytes) -> tuple[str, list[str]]:
    """Return the delimiter and the names: Excel writes semicolons where a comma separates decimals."""
    text = line.decode("utf-8", "replace")
    delimiter = max(_DELIMITERS, key=text.count)
    try:
        return delimiter, [cell.strip() for cell in next(csv.reader([text], delimiter=delimiter), [])]
    except csv.Error:
        return delimiter, []


def _params(cell: str) -> dict[str, Any]:
    try:
        params = json.loads(cell or "{}", parse_constant=refuse_constant)
    except BadLineError:
        raise
    except (ValueError, RecursionError) as error:
        raise BadLineError(f'"params" is not JSON: {error}') from error
    if not isinstance(params, dict):
        raise BadLineError(f'"params" must be an object, not {cell[:60]}')
    return params

"""A line of the input becomes one request, or one problem that spoils nothing but itself."""

import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import PurePath
from typing import Any, Final

from attrs import evolve, field, frozen

from neuralbox_async import GenerationRequest, UsageError
from neuralbox_async.extras.cli.columns import (
    SUFFIXES,
    BadLineError,
    NumberedLine,
    Table,
    decoded,
    is_table,
    refuse_constant,
    whole_rows,
)

JSON_SUFFIXES: Final = frozenset({".jsonl", ".ndjson", ".json"})
_SUFFIXES: Final = JSON_SUFFIXES | SUFFIXES | {".txt"}
_OWN_FIELDS: Final = frozenset({"model", "prompt", "params", "key"})
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


@frozen(kw_only=True)
class Defaults:
    """What a line gets that says nothing else: `--model` and `--param`."""

    model: str | None = None
    params: Mapping[str, Any] = field(factory=dict[str, Any])


@frozen(kw_only=True)
class Line:
    """One line of the input: its place, what stood in it, and the request that it makes or the problem with it."""

    index: int
    number: int
    found: Mapping[str, Any] = field(factory=dict[str, Any])
    request: GenerationRequest | None = None
    problem: str = ""

    @property
    def tag(self) -> dict[str, Any]:
        """Return what an outcome says of its line, as plain JSON; `fields` are those that the service cannot use."""
        fields = {name: value for name, value in self.found.items() if name not in _OWN_FIELDS}
        return {"index": self.index, "line": self.number, "fields": fields}


def check_input(name: str, defaults: Defaults) -> None:
    """Raise UsageError for a file that may be no text, and for a text file without a model for its prompts."""
    suffix = PurePath(name).suffix.lower()
    if suffix and suffix not in _SUFFIXES:  # the lines of a PDF would be paid for as prompts
        raise UsageError(f"{name}: {suffix} is not read; name a file that ends in .jsonl, .csv, .tsv or .txt.")
    if suffix == ".txt" and defaults.model is None:
        raise UsageError(f"{name} has one prompt per line: say which --model. JSON lines belong in a .jsonl file.")


def is_plain_text(name: str, first_line: bytes, defaults: Defaults) -> bool:
    """Say whether a file has one prompt per line, by its name or else by its first line."""
    suffix = PurePath(name).suffix.lower()
    if suffix in JSON_SUFFIXES or defaults.model is None:
        return False
    return suffix == ".txt" or not first_line.startswith(b"{")


async def read_prompts(lines: AsyncIterable[bytes], name: str, defaults: Defaults) -> AsyncIterator[Line]:
    """Yield each line (of CSV: each row) of the file `name` that is not blank, as it is needed."""
    index = 0
    async for number, read in _readings(_numbered(lines), name, defaults):
        line = Line(index=index, number=number)
        index += 1
        try:
            line = evolve(line, found=read())
            yield _with_request(line, defaults)
        except BadLineError as problem:
            yield evolve(line, problem=f"{name}, line {number}: {problem}")


Reading = tuple[int, Callable[[], dict[str, Any]]]


async def _readings(lines: AsyncIterator[NumberedLine], name: str, defaults: Defaults) -> AsyncIterator[Reading]:
    """Yield for each item the number of its line, and a function that reads what it says."""
    async for first in lines:
        number, line = first
        if line.strip():
            break
    else:
        return
    if is_table(name, line):
        table = Table.of(line, name)
        async for number, row in whole_rows(table, lines, name):
            yield number, partial(table.found, row)
        return
    read = _found_in_text if is_plain_text(name, line.strip(), defaults) else _found_in_json
    if read is _found_in_json and line.lstrip().startswith(b"["):  # its last object has no comma, and would be paid for
        raise UsageError(f"{name} is one JSON array: write an object on each line, such as with jq -c '.[]'.")
    yield number, partial(read, line.strip())
    async for number, line in lines:
        if line.strip():
            yield number, partial(read, line.strip())


async def _numbered(lines: AsyncIterable[bytes]) -> AsyncIterator[NumberedLine]:
    number = 0
    async for line in lines:
        number += 1
        yield number, line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line


def _found_in_text(line: bytes) -> dict[str, Any]:
    return {"prompt": decoded(line)}


def _found_in_json(line: bytes) -> dict[str, Any]:
    text = decoded(line)
    try:
        found = json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadLineError(f"not JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadLineError('not a JSON object such as {"model": "gpt-5", "prompt": "Hello"}')
    return found


def _with_request(line: Line, defaults: Defaults) -> Line:
    found = line.found
    params = found.get("params")
    if params is not None and not isinstance(params, dict):
        raise BadLineError(f'"params" must be an object, not {json.dumps(params)[:60]}')
    request = GenerationRequest(
        _text(found, "model", default=defaults.model),
        _text(found, "prompt"),
        {**defaults.params, **(params or {})} or None,
        key=None if found.get("key") is None else _text(found, "key"),
        tag=line.tag,
    )
    return evolve(line, request=request)


def _text(found: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = found.get(name)
    if value is None:
        value = default
    if value is None:
        raise BadLineError(f'"{name}" is missing' + (", and no --model is given" if name == "model" else ""))
    if not isinstance(value, str) or not value.strip():
        raise BadLineError(f'"{name}" must be text that is not empty, not {json.dumps(value)[:60]}')
    return value

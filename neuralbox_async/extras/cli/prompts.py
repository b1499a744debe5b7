"""A line of the input becomes one request, or one problem that spoils nothing but itself."""

import json
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from pathlib import PurePath
from typing import Any, Final, NoReturn

from attrs import evolve, field, frozen

from neuralbox_async import GenerationRequest, UsageError

JSON_SUFFIXES: Final = frozenset({".jsonl", ".ndjson", ".json"})
_OWN_FIELDS: Final = frozenset({"model", "prompt", "params", "key"})
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class BadLineError(ValueError):
    """A line that makes no request; the message says why."""


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
    def other_fields(self) -> dict[str, Any]:
        """Return the fields that the service has no use for."""
        return {name: value for name, value in self.found.items() if name not in _OWN_FIELDS}


def check_model(name: str, defaults: Defaults) -> None:
    """Raise UsageError for a text file without a model for its prompts."""
    if PurePath(name).suffix.lower() == ".txt" and defaults.model is None:
        raise UsageError(f"{name} has one prompt per line: say which --model. JSON lines belong in a .jsonl file.")


def is_plain_text(name: str, first_line: bytes, defaults: Defaults) -> bool:
    """Say whether a file has one prompt per line, by its name or else by its first line."""
    suffix = PurePath(name).suffix.lower()
    if suffix in JSON_SUFFIXES or defaults.model is None:
        return False
    return suffix == ".txt" or not first_line.startswith(b"{")


async def read_prompts(lines: AsyncIterable[bytes], name: str, defaults: Defaults) -> AsyncIterator[Line]:
    """Yield each line of the file `name` that is not blank, as it is needed."""
    read, number, index = None, 0, 0
    async for raw in lines:
        number += 1
        stripped = raw.removeprefix(_BYTE_ORDER_MARK).strip() if number == 1 else raw.strip()
        if not stripped:
            continue
        if read is None:
            read = _found_in_text if is_plain_text(name, stripped, defaults) else _found_in_json
        line = Line(index=index, number=number)
        index += 1
        try:
            line = evolve(line, found=read(stripped))
            yield _with_request(line, defaults)
        except BadLineError as problem:
            yield evolve(line, problem=f"{name}, line {number}: {problem}")


def _found_in_text(line: bytes) -> dict[str, Any]:
    return {"prompt": _decoded(line)}


def _found_in_json(line: bytes) -> dict[str, Any]:
    text = _decoded(line)
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadLineError(f"not JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadLineError('not a JSON object such as {"model": "gpt-5", "prompt": "Hello"}')
    return found


def _decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadLineError(f"not UTF-8: byte {error.object[error.start]:#04x} at {error.start}") from error


def _refuse_constant(name: str) -> NoReturn:
    raise BadLineError(f"{name} is not JSON")


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
        tag=line,
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

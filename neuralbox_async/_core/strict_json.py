"""JSON from a network: what could be read in two ways, or is too deep to handle, is an error and never a guess.

A name that comes twice in an object is refused, as parsers differ in which one they believe (RFC 8259, 4). NaN and
infinities become None: they are no JSON, and say nothing. Lone surrogates become U+FFFD: no text can hold them.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

DEEPEST: Final = 100


def loads(body: bytes) -> Any:
    """Read a JSON text. Raises ValueError or RecursionError if it is none, ambiguous, or nested more than 100 deep."""
    found = _DECODER.decode(body.decode(json.detect_encoding(body)))
    # One byte is found in a hundredth of the time that two take.
    may_escape = b"\\" in body and (b"\\ud" in body or b"\\uD" in body)
    if may_escape and any(map(_has_surrogates, _texts(found))):
        found = _without_surrogates(found)
    if body.count(b"[") + body.count(b"{") > DEEPEST:
        _check_depth(found)
    return found


def plain(value: object) -> dict[str, Any]:
    """Return a mapping of any kind as one that JSON can write: for `default=` of `json.dumps`. Raises TypeError."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"it holds something of type {type(value).__name__}")


def whole_characters(text: str) -> str:
    """Return a text whose surrogates are joined to characters; one that is alone becomes U+FFFD."""
    return _joined(text) if _has_surrogates(text) else text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name comes twice in an object")
    return found


def _finite(text: str) -> float | None:
    found = float(text)
    return found if math.isfinite(found) else None


def _nothing(_constant: str) -> None:
    """Read NaN, Infinity and -Infinity as nothing."""


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_float=_finite, parse_constant=_nothing)


def _texts(found: Any) -> Iterator[str]:
    left = [found]
    while left:
        each = left.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict):
            left += each.keys()
            left += each.values()
        elif isinstance(each, list):
            left += each


def _has_surrogates(text: str) -> bool:
    """Whether some are alone: two that make a character are one here."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _without_surrogates(found: Any) -> Any:
    return _DECODER.decode(_joined(json.dumps(found, ensure_ascii=False)))


def _joined(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _check_depth(found: Any) -> None:
    level = [found]
    for _ in range(DEEPEST):
        # A decoder makes no other containers, and isinstance takes twice the time.
        level = [each for outer in level for each in _inner(outer) if type(each) is dict or type(each) is list]
        if not level:
            return
    raise ValueError(f"nested more than {DEEPEST} deep")


def _inner(found: Any) -> Iterable[Any]:
    return found.values() if type(found) is dict else found if type(found) is list else ()

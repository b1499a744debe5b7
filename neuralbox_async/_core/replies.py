"""Whatever name and shape a documented reply gives to a fact, here it gets ours; what is missing stays None.

Both families of the documentation are read (contradictions 1 to 4, 26). Unknown fields and values never break reading.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from sys import intern
from types import NoneType
from typing import Any, Final, TypeGuard, TypeVar

from attrs import fields
from cattrs import Converter

from neuralbox_async._core import strict_json
from neuralbox_async._core.account import (
    Marked,
    Model,
    ModelPage,
    NewKey,
    Price,
    Profile,
    Secret,
    Settings,
    Stats,
    Usage,
)
from neuralbox_async._core.models import Balance, Generation, Head, HistoryPage, Id

T = TypeVar("T")
# Says what was last read of a generation; an entry of a page that has not changed since is not read again.
Recall = Callable[[Id], Generation | None]
_LONGEST_ID: Final = 255


def parsed(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object of a body, None if it is none; a bare list becomes the `items` of an object."""
    try:
        reply = strict_json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(reply, list):
        return {"items": reply}
    if not isinstance(reply, dict):
        return None
    return {intern(name): value for name, value in reply.items()}  # thousands of replies share their names


def know_nothing(_generation_id: Id) -> None:
    """Let every entry be read."""


def structure(reply: Mapping[str, Any], result: type[T], head: Head | None = None, known: Recall = know_nothing) -> T:
    """Make a value of a reply; `head` is what it came with, `known` what was read of the generations it may list.

    Raises KeyError, TypeError or ValueError if it lacks what the value needs.
    """
    special = _SPECIAL.get(result)
    if special is not None:
        found: T = special(reply, head, known)
        return found
    return _CONVERTER.structure(_named(reply, result, head), result)


def read_generation(reply: Mapping[str, Any]) -> Generation:
    """Make a generation of a reply that was kept. Raises as `structure`."""
    return structure(reply, Generation)


def is_id(value: object) -> TypeGuard[Id]:
    """Say whether a value can be a generation's id."""
    if isinstance(value, str):  # one with U+FFFD has lost something on its way
        plain = value.isprintable() and "\ufffd" not in value and len(value) <= _LONGEST_ID
        return bool(value.strip()) and plain and value not in (".", "..")
    return isinstance(value, int) and not isinstance(value, bool)


def number(value: object) -> float | None:
    """Return a finite number, also one written as a text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def text(value: object) -> str | None:
    """Return a text; None for anything else."""
    return value if isinstance(value, str) else None


# --- names -----------------------------------------------------------------------------------------------------------

# Our field: the names it has in replies, the quickstart's first.
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "model": ("model_slug", "model"),
    "text": ("result_text", "content"),
    "url": ("result_url", "url", "output_url"),
    "tokens_spent": ("tokens_spent", "tokens_used"),
    "metadata": ("result_metadata",),
    "category": ("category", "type"),
    "description": ("description", "description_en", "description_ru"),
    "partial": (),
    "head": (),
}
# Fields of ours that are nothing when they are empty; an empty text is a text.
_ADDRESSES: Final = frozenset({"url", "thumbnail_url"})
# What is called otherwise in the replies about one thing only.
_OWN_NAMES: Final[Mapping[type, Mapping[str, tuple[str, ...]]]] = {
    Model: {"slug": ("slug", "model_slug", "id")},
    Price: {
        "tokens": ("token_cost",),
        "min_tokens": ("min_token_cost",),
        "max_tokens": ("max_token_cost",),
    },
    Profile: {"name": ("name", "username")},
}
# The second family has the facts about a result at the top of the reply.
_FLAT_METADATA: Final[Mapping[str, str]] = {
    "duration": "duration",
    "duration_seconds": "duration",
    "width": "width",
    "height": "height",
}

# For each result: our fields with the names to look for, and for each of those names our field.
_FIELDS: Final[Mapping[type, Mapping[str, tuple[str, ...]]]] = {
    result: {
        each.name: _OWN_NAMES.get(result, _NAMES).get(each.name, _NAMES.get(each.name, (each.name,)))
        for each in fields(result)
    }
    for result in (Generation, Balance, Marked, Model, Price, Profile, Settings, Stats)
}
_OURS: Final[Mapping[type, Mapping[str, str]]] = {
    result: {name: ours for ours, names in named.items() for name in names} for result, named in _FIELDS.items()
}
# Where a page has its entries: "items" is documented for the history, the others are the field's usual words.
_ENTRIES: Final = ("items", "data", "generations", "history")
_MODELS: Final = ("items", "data", "models")


def _named(reply: Mapping[str, Any], result: type[Any], head: Head | None = None) -> dict[str, Any]:
    """Give a reply the names of our fields; what has no name here goes to `extra`."""
    named: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    fields_of = _OURS[result]
    for name, value in reply.items():
        ours = fields_of.get(name)
        if ours is None:
            extra[name] = value
        elif value is not None and not (value == "" and ours in _ADDRESSES):
            named[ours] = value if ours not in named else _preferred(reply, _FIELDS[result][ours])
    if result is Generation and "metadata" not in named:
        named["metadata"] = {ours: extra.pop(theirs) for theirs, ours in _FLAT_METADATA.items() if theirs in extra}
    named["raw"], named["head"], named["extra"] = reply, head, extra
    return named


def _preferred(reply: Mapping[str, Any], names: Sequence[str]) -> object:
    """Return the value of the first of these names that has one."""
    found = [reply[name] for name in names if reply.get(name) is not None]
    return next((each for each in found if each != ""), found[0])


def _page(reply: Mapping[str, Any], _head: Head | None, known: Recall) -> HistoryPage:
    """Read a page of the history; an entry without an id or a status is left out."""
    entries, total = _entries(reply, _ENTRIES)
    news: list[Generation] = []

    def read(entry: Mapping[str, Any]) -> Generation:
        before = known(_required_id(entry["id"]))
        if before is not None and before.partial and before.raw == entry:
            return before
        news.append(_CONVERTER.structure({**_named(entry, Generation), "partial": True}, Generation))
        return news[-1]

    return HistoryPage(items=_readable(entries, read), entries=len(entries), total=total, news=news)


def _models(reply: Mapping[str, Any], _head: Head | None, _known: Recall) -> ModelPage:
    """Read a list of models, whose envelope is not documented; a bare slug is a model too."""
    entries, total = _entries(reply, _MODELS)
    entries = [{"slug": each} if isinstance(each, str) else each for each in entries]
    return ModelPage(items=_readable(entries, partial(structure, result=Model)), entries=len(entries), total=total)


def _entries(reply: Mapping[str, Any], names: Sequence[str]) -> tuple[list[Any], int | None]:
    entries = next((reply[name] for name in names if isinstance(reply.get(name), list)), None)
    if entries is None:
        raise ValueError("no list of entries")
    return entries, _whole_number(reply.get("total"))


def _readable(entries: Sequence[object], read: Callable[[Mapping[str, Any]], T]) -> tuple[T, ...]:
    """Read what can be read; an entry without what its value needs is left out."""
    found = []
    for each in entries:
        if isinstance(each, dict):
            try:
                found.append(read(each))
            except (KeyError, TypeError, ValueError):
                continue
    return tuple(found)


def _new_key(reply: Mapping[str, Any], head: Head | None, _known: Recall) -> NewKey:
    """Read a key that was just made; what is kept of the reply lacks it."""
    return NewKey(
        id=_required_id(reply["id"]),
        secret=Secret(_required_text(reply["key"])),
        name=text(reply.get("name")),
        created_at=_date(reply.get("created_at")),
        raw={name: value for name, value in reply.items() if name != "key"},
        head=head,
    )


def _nothing_more(_reply: Mapping[str, Any], _head: Head | None, _known: Recall) -> None:
    """Read a reply that is not documented: that it came is all there is to know."""


_SPECIAL: Final[Mapping[type, Callable[[Mapping[str, Any], Head | None, Recall], Any]]] = {
    HistoryPage: _page,
    ModelPage: _models,
    NewKey: _new_key,
    NoneType: _nothing_more,
}


# --- values ----------------------------------------------------------------------------------------------------------


def _whole_number(value: object) -> int | None:
    found = number(value)
    if found is None:
        return None
    return value if isinstance(value, int) else int(found)  # a float cannot hold every integer


def _date(value: object) -> datetime | None:
    try:
        date = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return date.replace(tzinfo=UTC) if date is not None and date.tzinfo is None else date


def _truth(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _as_it_is(value: Head | None) -> Head | None:
    return value


def _usage(value: object) -> Usage | None:
    if not isinstance(value, dict):
        return None
    generations, tokens = value.get("count", value.get("generations")), value.get("tokens", value.get("tokens_spent"))
    return Usage(generations=_whole_number(generations), tokens=_whole_number(tokens))


def _usages(value: object) -> Mapping[str, Usage]:
    found = {name: _usage(each) for name, each in _mapping(value).items()}
    return {name: each for name, each in found.items() if each is not None}


def _required_id(value: object) -> Id:
    if not is_id(value):
        raise ValueError("not an id")
    return value


def _required_text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("not a text")
    return value


def _required_whole_number(value: object) -> int:
    found = _whole_number(value)
    if found is None:
        raise ValueError("not a number")
    return found


def _is(kind: object) -> Callable[[Any], bool]:
    return lambda asked: asked == kind


def _reading(reader: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda value, _: reader(value)


def _converter() -> Converter:
    converter = Converter(detailed_validation=False)
    converter.register_structure_hook(str, _reading(_required_text))
    converter.register_structure_hook(int, _reading(_required_whole_number))
    converter.register_structure_hook(bool, _reading(bool))
    readers: Mapping[Any, Callable[[Any], Any]] = {
        int | str: _required_id,
        str | None: text,
        int | None: _whole_number,
        float | None: number,
        bool | None: _truth,
        datetime | None: _date,
        Mapping[str, Any]: _mapping,
        Mapping[str, Usage]: _usages,
        Usage | None: _usage,
        Head | None: _as_it_is,
    }
    for kind, reader in readers.items():
        converter.register_structure_hook_func(_is(kind), _reading(reader))
    return converter


_CONVERTER: Final = _converter()

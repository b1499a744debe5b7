"""What is passed to the client is checked here, before anything is sent: an argument that cannot work is a UsageError.

Each check returns the value it was given, names the argument, and says what it takes.
"""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from types import CoroutineType
from typing import Any, Final, TypedDict
from urllib.parse import urlencode

from neuralbox_async._core.budget import Budget
from neuralbox_async._core.errors import UsageError
from neuralbox_async._core.models import GenerationRequest

# Set by this client alone: who pays, to whom it goes, and how long it is.
_OWN_HEADERS: Final = frozenset(
    {
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token, RFC 9110, 5.6.2
_VALUE: Final = re.compile(r"[\x20-\x7e\t]*")
_MOST_SHOWN: Final = 100


def shown(value: object) -> str:
    """Describe what was passed instead of what works, in one short line."""
    if isinstance(value, CoroutineType):
        return f"{value.__qualname__}(…), which was not awaited"
    whole = repr(value)
    return whole if len(whole) <= _MOST_SHOWN else f"{whole[:_MOST_SHOWN]}…"


class Extra(TypedDict, total=False):
    """What a call sends besides what this version knows.

    `extra_body` are further fields at the top of the body, `extra_headers` further headers, `extra_query` further
    parameters of the address. What this client sends itself cannot be replaced.
    """

    extra_body: Mapping[str, Any] | None
    extra_headers: Mapping[str, str] | None
    extra_query: Mapping[str, Any] | None


def check_extra(extra: Mapping[str, Any], advice: str) -> None:
    """Raise TypeError and `advice` for an option that there is not, UsageError for one that is no mapping."""
    for name, value in extra.items():
        if name not in Extra.__annotations__:
            raise TypeError(f"there is no option {name!r}; {advice}")
        if value is not None and not (isinstance(value, Mapping) and all(isinstance(each, str) for each in value)):
            raise UsageError(f"{name} must be a mapping of texts, not {shown(value)}.")


def extra_body(extra: Extra, own: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a body with the extra fields. Raises UsageError for one that it has already."""
    more = extra.get("extra_body") or {}
    clashing = sorted(more.keys() & own.keys())
    if clashing:
        raise UsageError(f"extra_body cannot replace {clashing[0]!r}; pass that as an argument of its own.")
    return {**own, **more}


def extra_headers(extra: Extra, own: Mapping[str, str]) -> Mapping[str, str]:
    """Return headers with the extra ones. Raises UsageError for one that is ours alone, or would end the line."""
    more = extra.get("extra_headers") or {}
    for name, value in more.items():
        if name.lower() in _OWN_HEADERS:
            raise UsageError(f"extra_headers cannot set {name}: this client alone does.")
        if not _NAME.fullmatch(name) or not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise UsageError(f"extra_headers has {name!r} with a value that cannot be sent; use printable ASCII.")
    replaced = {name.lower() for name in more}
    return {**{name: value for name, value in own.items() if name.lower() not in replaced}, **more}


def extra_query(extra: Extra, path: str) -> str:
    """Return a path with the extra parameters."""
    more = extra.get("extra_query")
    return f"{path}?{urlencode(more, doseq=True)}" if more else path


def checked_seconds(name: str, value: float) -> float:
    """Return a number of seconds above 0, or raise UsageError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise UsageError(f"{name} must be a number of seconds above 0, not {shown(value)}.")
    if isinstance(value, int) and value > sys.float_info.max:
        raise UsageError(f"{name} has more seconds than can be counted; pass a smaller number.")
    return value


def checked_wait(name: str, value: float) -> float:
    """Return a number of seconds, 0 or more, or raise UsageError."""
    return value if value == 0 and not isinstance(value, bool) else checked_seconds(name, value)


def checked_count(name: str, value: int, *, least: int) -> int:
    """Return a whole number that is large enough, or raise UsageError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{name} must be a whole number of {least} or more, not {shown(value)}.")
    return value


def checked_path(name: str, value: object) -> str:
    """Return a path that a file can have, as a text with its slashes; or raise UsageError."""
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str):
        raise UsageError(f"{name} must be a path, a text or a Path, not {shown(value)}.")
    try:
        fits = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:  # half of a surrogate pair
        fits = False
    if not fits:
        raise UsageError(f"{name} {shown(path)} has a character that no path can have; leave it out.")
    if path == "~" or path.startswith(("~/", "~\\")):  # who removes a folder of this name removes their home
        raise UsageError(f"{name} {shown(path)} has a ~ that only a shell fills in: pass Path(…).expanduser().")
    return path


def checked_budgets(budget: object) -> Sequence[Budget]:
    """Return the budgets that an option names: none, or one. Raises UsageError for anything else."""
    if budget is None:
        return ()
    if isinstance(budget, Budget):
        return (budget,)
    if isinstance(budget, int) and not isinstance(budget, bool):
        return (Budget(budget),)
    raise UsageError(f"budget= takes a number of tokens, a Budget, or None, not {shown(budget)}.")


def check_kinds(kinds: Mapping[str, Any], **options: object) -> None:
    """Raise UsageError if an option is neither None nor of the kind that `kinds` has for it."""
    for name, value in options.items():
        if value is not None and not isinstance(value, kinds[name]):
            raise UsageError(f"{name}= takes a value of the kind {kinds[name].__name__}, or None, not {shown(value)}.")


def conversation(
    model: str, prompt: str | None, params: Mapping[str, Any] | None, messages: Sequence[Mapping[str, Any]] | None
) -> GenerationRequest:
    """Return the request of a conversation: its last message is the prompt, what came before is `params.messages`.

    `prompt`, if given, is the last message, and `messages` all that came before. Raises UsageError if there is no last
    message of the user's, as a text, or `params` has messages too.
    """
    if messages is None:
        return GenerationRequest(model, prompt or "", params)
    if isinstance(messages, str | Mapping) or not all(isinstance(each, Mapping) for each in messages):
        raise UsageError("messages must be a list of mappings such as {'role': 'user', 'content': 'Hello'}.")
    if params is not None and "messages" in params:
        raise UsageError("Pass messages= or params={'messages': …}, not both.")
    earlier = list(messages)
    if prompt is None:
        last = earlier.pop() if earlier else {}
        prompt = last.get("content")
        if last.get("role") != "user" or not isinstance(prompt, str):
            raise UsageError("The last of messages must be the user's, with a text as its content; or pass prompt=….")
    return GenerationRequest(model, prompt, {**(params or {}), "messages": earlier})

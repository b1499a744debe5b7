"""The whole HTTP API on one page: an operation makes a `Call`, and `read` turns its `Answer` into a value or an error.

We send what the quickstart documents and read every documented variant: both reply families, either name of a field.
Nothing here knows the network, the key or the money rules.
"""

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Generic, TypeGuard, TypeVar
from urllib.parse import quote

from attrs import fields, frozen
from cattrs import Converter

from neuralbox_async._core.errors import APIStatusError, ResponseError, UsageError, error_class
from neuralbox_async._core.models import UNKNOWN, Balance, Generation, GenerationRequest

T = TypeVar("T")
Id = int | str


# --- what is sent ----------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Call(Generic[T]):
    """One HTTP call before it is sent.

    Attributes:
        operation: Its name in messages and events.
        method: The HTTP method.
        path: The path below the base URL.
        result: What `read` makes of a good answer.
        body: The JSON body, if there is one.
        request: What this call pays for; None if the call is free.
        generation_id: The generation it asks about, if any.
    """

    operation: str
    method: str
    path: str
    result: type[T]
    body: bytes | None = None
    request: GenerationRequest | None = None
    generation_id: Id | None = None


def generate(request: GenerationRequest) -> Call[Generation]:
    """Ask for one generation. Costs tokens. Raises UsageError for a request that no service could take."""
    _check_request(request)
    body: dict[str, Any] = {"model": request.model, "prompt": request.prompt}
    if request.params:
        body["params"] = request.params
    return Call(
        operation="generate",
        method="POST",
        path="/generate",
        result=Generation,
        body=_json_body(body),
        request=request,
    )


def generation(generation_id: Id) -> Call[Generation]:
    """Look at one generation. Raises UsageError if the id cannot be one."""
    if not _is_id(generation_id):
        raise UsageError(f"A generation's id is an integer or a string, not {generation_id!r}.")
    path = f"/generate/{quote(str(generation_id), safe='')}"
    return Call(operation="get", method="GET", path=path, result=Generation, generation_id=generation_id)


def balance() -> Call[Balance]:
    """Ask what the account can still spend."""
    return Call(operation="balance", method="GET", path="/balance", result=Balance)


def download(generation_id: Id) -> Call[bytes]:
    """Fetch a result file. It lies on a storage host: the path is empty and the key stays at home."""
    return Call(operation="download", method="GET", path="", result=bytes, generation_id=generation_id)


def _is_id(value: object) -> TypeGuard[Id]:
    if isinstance(value, str):
        return bool(value.strip()) and value.isprintable() and value not in (".", "..")
    return isinstance(value, int) and not isinstance(value, bool)


def _check_request(request: GenerationRequest) -> None:
    for name in ("model", "prompt"):
        value = getattr(request, name)
        if not isinstance(value, str) or not value.strip():
            raise UsageError(f"{name} must be a text that is not empty, not {value!r}.")
    if request.params is not None and not isinstance(request.params, Mapping):
        raise UsageError(f"params must be a mapping such as {{'duration': 5}}, not {request.params!r}.")


def _json_body(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode()
    except (TypeError, ValueError, RecursionError) as error:
        reason = str(error)
    raise UsageError(f"The request cannot be written as JSON: {reason}. Use text, numbers, lists and mappings.")


def _plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"params holds a {type(value).__name__}")


# --- what is received ------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Answer:
    """One HTTP answer, whole. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def read(call: Call[T], answer: Answer) -> T:
    """Turn an answer into what the call promises.

    Raises:
        APIStatusError: the status is not 2xx (the subclass for that status).
        ResponseError: the status is 2xx and the body is not what the API documents.
    """
    if not 200 <= answer.status < 300:
        raise status_error(call, answer)
    reply = _parsed(answer.body)
    if reply is not None:
        if call.request is not None and not _text(reply.get("status")):
            reply = {**reply, "status": UNKNOWN}  # an id alone means that it is accepted, and not finished
        try:
            named = _named(reply, call.result)
            if call.result is Generation:
                named["retry_after"] = retry_after(answer, reply)
            return _CONVERTER.structure(named, call.result)
        except (KeyError, TypeError, ValueError):
            pass
    raise ResponseError(
        f"{call.operation}: HTTP {answer.status} came with a body that is no {call.result.__name__} "
        f"({_excerpt(answer.body)}); check that base_url points to the API.",
        retryable=True,
        generation_id=call.generation_id,
        status_code=answer.status,
    )


# What may pass by itself, for a call that costs nothing; `retry` says what may be repeated of those that pay.
PASSING_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_STATUS_ADVICE: Final[Mapping[int, str]] = {
    400: "Correct the request.",
    401: "Check NEURALBOX_API_KEY or api_key=….",
    402: "Top up the balance; nothing was charged for this call.",
    403: "API access needs the VIP or Elite plan, and some models a higher one.",
    404: "Check the id or the model's slug.",
    413: "Send a shorter prompt.",
    414: "Send a shorter prompt.",
    422: "Correct the params; the body names the field.",
    429: "Wait for the plan's window to open.",
}


def status_error(call: Call[Any], answer: Answer) -> APIStatusError:
    """Name what a status other than 2xx means, with what to do next."""
    reply = _parsed(answer.body) or {}
    code = reply.get("error") if isinstance(reply.get("error"), str) else None
    words = reply.get("message") if isinstance(reply.get("message"), str) else None
    about = f" {call.generation_id}" if call.generation_id is not None else ""
    said = (f"{code}: {words}" if code and words else words or code or _excerpt(answer.body)).rstrip(".")
    advice = _STATUS_ADVICE.get(answer.status, "")
    if 300 <= answer.status < 400:
        advice = f"Redirects are never followed; set base_url to {answer.headers.get('location', 'the new address')}."
    return error_class(answer.status)(
        _line(f"{call.operation}{about}: HTTP {answer.status}: {said}. {advice}", 500),
        retryable=answer.status in PASSING_STATUSES,
        retry_after=retry_after(answer, reply),
        generation_id=call.generation_id,
        status_code=answer.status,
        code=code,
        body=reply or None,
    )


def retry_after(answer: Answer, reply: Mapping[str, Any]) -> float | None:
    """Seconds the service asks to wait: the body's `retry_after`, else the header (seconds or a date), else None.

    A date counts from the answer's own Date header, so this machine's clock does not matter.
    """
    header = answer.headers.get("retry-after", "")
    for value in (reply.get("retry_after"), header):
        seconds = _number(value)
        if seconds is not None and seconds >= 0:
            return seconds
    then, now = http_date(header), http_date(answer.headers.get("date", ""))
    return max(0.0, then - now) if then is not None and now is not None else None


def http_date(text: str) -> float | None:
    """Read an HTTP date as Unix seconds; None if it is none. One without a zone is UTC (RFC 9110, 5.6.7)."""
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return (date.replace(tzinfo=UTC) if date.tzinfo is None else date).timestamp()


def _parsed(body: bytes) -> dict[str, Any] | None:
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return reply if isinstance(reply, dict) else None


def _excerpt(body: bytes) -> str:
    text = _line(body[:300].decode("utf-8", "replace"), 120)
    return f"it begins {text!r}" if text else "it is empty"


def _line(text: str, longest: int) -> str:
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:longest]


# --- both families of replies ----------------------------------------------------------------------------------------

# Our field: the names it has in replies, the quickstart's first (contradictions 2 to 4 of the documentation).
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "model": ("model_slug", "model"),
    "text": ("result_text", "content"),
    "url": ("result_url", "url", "output_url"),
    "tokens_spent": ("tokens_spent", "tokens_used"),
    "metadata": ("result_metadata",),
}
# The second family has the facts about a result at the top of the reply.
_FLAT_METADATA: Final[Mapping[str, str]] = {
    "duration": "duration",
    "duration_seconds": "duration",
    "width": "width",
    "height": "height",
}


# For each result: our fields with the names to look for, and all of those names.
_FIELDS: Final[Mapping[type, Mapping[str, tuple[str, ...]]]] = {
    result: {each.name: _NAMES.get(each.name, (each.name,)) for each in fields(result)}
    for result in (Generation, Balance)
}
_KNOWN: Final[Mapping[type, frozenset[str]]] = {
    result: frozenset(name for names in named.values() for name in names) for result, named in _FIELDS.items()
}


def _named(reply: dict[str, Any], result: type[Any]) -> dict[str, Any]:
    """Give a reply the names of our fields; what has no name here goes to `extra`."""
    named: dict[str, Any] = {}
    for ours, theirs in _FIELDS[result].items():
        for name in theirs:
            value = reply.get(name)
            if value is not None:
                named[ours] = value
                break
    taken = _KNOWN[result]
    if result is Generation and "metadata" not in named:
        named["metadata"] = {ours: reply[theirs] for theirs, ours in _FLAT_METADATA.items() if theirs in reply}
        taken = taken.union(_FLAT_METADATA)
    named["raw"] = reply
    named["extra"] = {name: value for name, value in reply.items() if name not in taken}
    return named


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _whole_number(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _date(value: object) -> datetime | None:
    try:
        date = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return date.replace(tzinfo=UTC) if date is not None and date.tzinfo is None else date


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _required_id(value: object) -> Id:
    if not _is_id(value):
        raise ValueError("not an id")
    return value


def _required_text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("not a text")
    return value


def _required_whole_number(value: object) -> int:
    number = _whole_number(value)
    if number is None:
        raise ValueError("not a number")
    return number


def _is(kind: object) -> Callable[[Any], bool]:
    return lambda asked: asked == kind


def _reading(reader: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda value, _: reader(value)


def _converter() -> Converter:
    converter = Converter(detailed_validation=False)
    converter.register_structure_hook(str, _reading(_required_text))
    converter.register_structure_hook(int, _reading(_required_whole_number))
    readers: Mapping[Any, Callable[[Any], Any]] = {
        int | str: _required_id,
        str | None: _text,
        int | None: _whole_number,
        float | None: _number,
        datetime | None: _date,
        Mapping[str, Any]: _mapping,
    }
    for kind, reader in readers.items():
        converter.register_structure_hook_func(_is(kind), _reading(reader))
    return converter


_CONVERTER: Final = _converter()

"""The whole HTTP API on one page: an operation makes a `Call`, and `read` turns its `Answer` into a value or an error.

We send what the quickstart documents; `replies` reads every documented variant. Nothing here knows the network, the key
or the money rules.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from types import NoneType
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote, urlencode

from attrs import evolve, field, frozen

from neuralbox_async._core import replies, strict_json
from neuralbox_async._core.account import Marked, Model, ModelPage, NewKey, Price, Profile, Settings, Stats
from neuralbox_async._core.errors import APIStatusError, ResponseError, UsageError, error_class
from neuralbox_async._core.models import (
    UNKNOWN,
    Balance,
    Generation,
    GenerationRequest,
    Head,
    HistoryPage,
    Id,
    identity,
)
from neuralbox_async._core.options import Extra, check_extra, extra_body, extra_headers, extra_query, shown

T = TypeVar("T")
MOST_ON_A_PAGE: Final = 100  # source: user/history, "max 100"


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
        headers: Headers besides those of every call.
        request: What this call pays for; None if the call is free.
        repeatable: Whether it may be sent again after its body has left: twice does no more than once.
        generation_id: The generation it asks about, if any.
        known: Says what was last read of a generation that a page may list.
    """

    operation: str
    method: str
    path: str
    result: type[T]
    body: bytes | None = None
    headers: Mapping[str, str] = field(factory=dict[str, str])
    request: GenerationRequest | None = None
    repeatable: bool = True
    generation_id: Id | None = None
    known: replies.Recall = replies.know_nothing


def generate(request: GenerationRequest, extra: Extra | None = None) -> Call[Generation]:
    """Ask for one generation. Costs tokens. Raises UsageError for a request that no service could take."""
    return _paid("generate", "/generate", request, {}, extra or {})


def stream(request: GenerationRequest, extra: Extra) -> Call[Generation]:
    """Ask for one text, piece by piece; what is read is the first event, which has its id. Costs tokens."""
    headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity", "Cache-Control": "no-cache"}
    return _paid("stream", "/generate/stream", request, headers, extra)


def transcribe(
    request: GenerationRequest, file_name: str, *, size: int, boundary: str, extra: Extra
) -> tuple[Call[Generation], bytes]:
    """Ask for the text of audio of so many bytes; return the call and what comes before the audio. Costs tokens.

    The call's body is what comes after the audio: with it the request is whole.
    """
    from neuralbox_async._core.multipart import form  # noqa: PLC0415 - loaded by those who send a file

    _text("model", request.model)
    check_extra(extra, "further fields of the form go into extra_body={…}")
    named = extra_body(extra, {"model": request.model, **(request.params or {})})
    fields = {name: _field(value) for name, value in named.items()}
    framed = form(fields, file_field="audio", file_name=file_name, boundary=boundary)
    length = len(framed.head) + size + len(framed.tail)
    call = Call(
        operation="transcribe",
        method="POST",
        path=extra_query(extra, "/stt"),
        result=Generation,
        body=framed.tail,
        headers=extra_headers(extra, {"Content-Type": framed.content_type, "Content-Length": str(length)}),
        request=request,
        repeatable=False,
    )
    return call, framed.head


def _field(value: object) -> str:
    return value if isinstance(value, str) else _json_body(value).decode()


def _paid(
    operation: str, path: str, request: GenerationRequest, headers: Mapping[str, str], extra: Extra
) -> Call[Generation]:
    _check_request(request)
    body: Mapping[str, Any] = {"model": request.model, "prompt": request.prompt}
    if request.params:
        body = {**body, "params": request.params}
    if extra:
        check_extra(extra, "options of the model go into params={…}, further fields of the body into extra_body={…}")
        path, headers, body = extra_query(extra, path), extra_headers(extra, headers), extra_body(extra, body)
    return Call(
        operation=operation,
        method="POST",
        path=path,
        result=Generation,
        body=_json_body(body),
        headers=headers,
        request=request,
        repeatable=False,
    )


def generation(generation_id: Id) -> Call[Generation]:
    """Look at one generation. Raises UsageError if the id cannot be one."""
    path = _part("/generate", generation_id)
    return Call(operation="get", method="GET", path=path, result=Generation, generation_id=generation_id)


def balance() -> Call[Balance]:
    """Ask what the account can still spend."""
    return Call(operation="balance", method="GET", path="/balance", result=Balance)


def history(
    *,
    page: int,
    limit: int = MOST_ON_A_PAGE,
    filters: Mapping[str, str] | None = None,
    known: replies.Recall = replies.know_nothing,
) -> Call[HistoryPage]:
    """Read one page of the account's generations; pages count from 1, and the newest come first.

    Filters have the first family's names (`model_slug`, `status`, `category`, `favorites_only`). The documents disagree
    on them (contradiction 26), so whoever filters looks at the entries too.
    """
    path = f"/user/history?{urlencode({'page': page, 'limit': limit, **(filters or {})})}"
    return Call(operation="history", method="GET", path=path, result=HistoryPage, known=known)


def toggle_favorite(generation_id: Id) -> Call[Marked]:
    """Put a generation among the favourites, or take it out: twice is as good as never, so it is not repeated."""
    path = _part("/user/history", generation_id) + "/favorite"
    return Call(
        operation="toggle_favorite",
        method="POST",
        path=path,
        result=Marked,
        body=b"{}",
        repeatable=False,
        generation_id=generation_id,
    )


def rate_generation(generation_id: Id, rating: float) -> Call[None]:
    """Give a generation a rating."""
    path = _part("/user/history", generation_id) + "/rate"
    body = _json_body({"rating": rating})
    return _change("rate_generation", "POST", path, body=body, generation_id=generation_id)


def delete_generation(generation_id: Id) -> Call[None]:
    """Take a generation out of the history."""
    path = _part("/user/history", generation_id)
    return _change("delete_generation", "DELETE", path, generation_id=generation_id)


def models(*, page: int) -> Call[ModelPage]:
    """Read the service's models; the page that documents the list is not public, so its paging is a guess."""
    path = "/models" if page == 1 else f"/models?{urlencode({'page': page})}"
    return Call(operation="models", method="GET", path=path, result=ModelPage)


def model(slug: str) -> Call[Model]:
    """Read what the service says of one model."""
    return Call(operation="model", method="GET", path=_part("/models", _text("model", slug)), result=Model)


def price(slug: str, params: Mapping[str, Any] | None, count: int) -> Call[Price]:
    """Ask what a generation would cost. Asking costs nothing."""
    _check_params(params)
    path = _part("/models", _text("model", slug)) + "/calculate-price"
    body = _json_body({"params": params or {}, "count": count})
    return Call(operation="price", method="POST", path=path, result=Price, body=body)


def me() -> Call[Profile]:
    """Ask whose account this is."""
    return Call(operation="me", method="GET", path="/user/me", result=Profile)


def change_me(changes: Mapping[str, Any]) -> Call[None]:
    """Change the profile. The reply is not documented."""
    return _change("change_me", "PATCH", "/user/me", body=_json_body(changes))


def stats() -> Call[Stats]:
    """Ask what the account has generated."""
    return Call(operation="stats", method="GET", path="/user/stats", result=Stats)


def settings() -> Call[Settings]:
    """Ask for the account's preferences."""
    return Call(operation="settings", method="GET", path="/user/settings", result=Settings)


def change_settings(changes: Mapping[str, Any]) -> Call[None]:
    """Change the account's preferences. The reply is not documented."""
    return _change("change_settings", "PATCH", "/user/settings", body=_json_body(changes))


def create_key(name: str) -> Call[NewKey]:
    """Make an API key: each time another one, so it is not repeated."""
    body = _json_body({"name": _text("name", name)})
    return Call(operation="create_key", method="POST", path="/keys", result=NewKey, body=body, repeatable=False)


def rename_key(key_id: Id, name: str) -> Call[None]:
    """Give an API key another name."""
    return _change("rename_key", "PATCH", _part("/keys", key_id), body=_json_body({"name": _text("name", name)}))


def revoke_key(key_id: Id) -> Call[None]:
    """End an API key, at once."""
    return _change("revoke_key", "DELETE", _part("/keys", key_id))


def download(generation_id: Id) -> Call[bytes]:
    """Fetch a result file. It lies on a storage host: the path is empty and the key stays at home."""
    return Call(operation="download", method="GET", path="", result=bytes, generation_id=generation_id)


def _change(
    operation: str, method: str, path: str, *, body: bytes | None = None, generation_id: Id | None = None
) -> Call[None]:
    return Call(operation=operation, method=method, path=path, result=NoneType, body=body, generation_id=generation_id)


def _part(folder: str, each: Id) -> str:
    """Return the path of one thing in a folder: a text cannot lead elsewhere."""
    return f"{folder}/{quote(str(checked_id(each)), safe='')}"


def checked_id(value: object) -> Id:
    """Return what can be an id, or raise UsageError."""
    if not replies.is_id(value):
        raise UsageError(f"An id is an integer or a string, not {shown(value)}.")
    return value


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{name} must be a text that is not empty, not {shown(value)}.")
    return value


def _check_request(request: GenerationRequest) -> None:
    _text("model", request.model)
    if isinstance(request.prompt, list):
        raise UsageError(
            "prompt must be a text, not a list: pass the text of the last message, and the turns before it as "
            "params={'messages': […]}."
        )
    _text("prompt", request.prompt)
    _check_params(request.params)


def _check_params(params: object) -> None:
    if params is not None and not isinstance(params, Mapping):
        raise UsageError(f"params must be a mapping such as {{'duration': 5}}, not {shown(params)}.")


def _json_body(body: object) -> bytes:
    try:
        return json.dumps(
            body, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=strict_json.plain
        ).encode()
    except (TypeError, ValueError, RecursionError) as error:
        reason = str(error)
    raise UsageError(f"The request cannot be written as JSON: {reason}. Use text, numbers, lists and mappings.")


# --- what is received ------------------------------------------------------------------------------------------------


@frozen(kw_only=True, eq=False, repr=False)
class Answer:
    """One HTTP answer, whole. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def read(call: Call[T], answer: Answer) -> T:
    """Turn an answer into what the call promises.

    Raises:
        APIStatusError: the status is not 2xx (the subclass for that status).
        ResponseError: the status is 2xx and the body is not what the API documents, or about another generation.
    """
    if not 200 <= answer.status < 300:
        raise status_error(call, answer)
    reply = replies.parsed(answer.body)
    if reply is None and call.result is NoneType and not answer.body.strip():
        reply = {}  # such as a 204
    if reply is not None:
        if call.request is not None and not replies.text(reply.get("status")):
            reply = {**reply, "status": UNKNOWN}  # an id alone means that it is accepted, and not finished
        try:
            head = Head(status=answer.status, headers=answer.headers)
            found = replies.structure(reply, call.result, head, call.known)
        except (KeyError, TypeError, ValueError):
            pass
        else:
            if not _is_of_another(call, found):
                return _with_headers(found, answer, reply)
    wanted = call.result.__name__ + ("" if call.generation_id is None else f" {call.generation_id}")
    raise ResponseError(
        f"{call.operation}: HTTP {answer.status} came with a body that is no {wanted} "
        f"({_excerpt(answer.body)}); check that base_url points to the API.",
        retryable=True,
        generation_id=call.generation_id,
        status_code=answer.status,
        headers=dict(answer.headers),
    )


def _is_of_another(call: Call[Any], found: object) -> bool:
    """Say whether an answer is about another generation than was asked for, as a cache in between may mix them up.

    The two families of ids (contradiction 1) cannot be compared: a service may be asked by one and answer by the other.
    """
    if call.generation_id is None or not isinstance(found, Generation):
        return False
    asked, told = identity(call.generation_id), identity(found.id)
    return asked != told and type(asked) is type(told)


def _with_headers(found: T, answer: Answer, reply: Mapping[str, Any]) -> T:
    """Add to a value what the answer's headers say."""
    if isinstance(found, Generation) and ("retry-after" in answer.headers or found.retry_after is not None):
        return evolve(found, retry_after=retry_after(answer, reply))
    if isinstance(found, HistoryPage):
        return evolve(found, served_at=http_date(answer.headers.get("date", "")))
    return found


# What may pass by itself, for a call that costs nothing; `retry` says what may be repeated of those that pay.
PASSING_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_STATUS_ADVICE: Final[Mapping[int, str]] = {
    400: "Correct the request.",
    401: "Check NEURALBOX_API_KEY or api_key=….",
    402: "Top up the balance; nothing was charged for this call.",
    403: "API access needs the VIP or Elite plan, and some models a higher one.",
    404: "Check the id or the model's slug, and that base_url points to the API (…/api/v2).",
    413: "Send a shorter prompt.",
    414: "Send a shorter prompt.",
    422: "Correct the params; the body names the field.",
    429: "Wait for the plan's window to open.",
}


def status_error(call: Call[Any], answer: Answer) -> APIStatusError:
    """Name what a status other than 2xx means, with what to do next."""
    reply = replies.parsed(answer.body) or {}
    code = reply.get("error") if isinstance(reply.get("error"), str) else None
    words = reply.get("message") if isinstance(reply.get("message"), str) else None
    about = f" {call.generation_id}" if call.generation_id is not None else ""
    said = (f"{code}: {words}" if code and words else words or code or _excerpt(answer.body)).rstrip(".")
    advice = _STATUS_ADVICE.get(answer.status, "")
    if 300 <= answer.status < 400 and "location" in answer.headers:
        moved_to = answer.headers["location"].removesuffix(call.path)
        advice = f"Redirects are never followed; set base_url to {moved_to}."
    return error_class(answer.status)(
        _line(f"{call.operation}{about}: HTTP {answer.status}: {said}. {advice}", 500),
        retryable=answer.status in PASSING_STATUSES,
        retry_after=retry_after(answer, reply),
        generation_id=call.generation_id,
        status_code=answer.status,
        code=code,
        body=reply or None,
        headers=dict(answer.headers),
    )


def retry_after(answer: Answer, reply: Mapping[str, Any]) -> float | None:
    """Seconds the service asks to wait: the body's `retry_after`, else the header (seconds or a date), else None.

    A date counts from the answer's own Date header, so this machine's clock does not matter.
    """
    header = answer.headers.get("retry-after", "")
    for value in (reply.get("retry_after"), header):
        seconds = replies.number(value)
        if seconds is not None and seconds >= 0:
            return seconds
    if not header:
        return None
    then, now = http_date(header), http_date(answer.headers.get("date", ""))
    return max(0.0, then - now) if then is not None and now is not None else None


def http_date(text: str) -> float | None:
    """Read an HTTP date as Unix seconds; None if it is none. One without a zone is UTC (RFC 9110, 5.6.7)."""
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return (date.replace(tzinfo=UTC) if date.tzinfo is None else date).timestamp()


# A reply that cannot be read may hold a key that was just made; errors end up in logs.
_KEY: Final = re.compile(r"\bnb_[\x21\x23-\x5b\x5d-\x7e]+")


def _excerpt(body: bytes) -> str:
    text = _line(_KEY.sub("[key]", body[:300].decode("utf-8", "replace")), 120)
    return f"it begins {text!r}" if text else "it is empty"


def _line(text: str, longest: int) -> str:
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:longest]

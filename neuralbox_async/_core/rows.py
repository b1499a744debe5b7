"""What one item of a bulk run is on disk: a row, whose state changes only by a step that `FOLLOWS` has.

    planned ──commit, then POST──► sending ──► accepted(id) ──► completed | failed ──► saved(file)
       ▲  proof: not sent / refused   │
       └──────────────────────────────┤
                                      └ anything else, or the process died ► in_doubt ──claimed──► accepted

A generation is kept as the reply it was read from, so that what a later version reads better is read better then too.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypedDict, Unpack

from attrs import evolve, field, fields, frozen

from neuralbox_async._core import api, errors, strict_json
from neuralbox_async._core.errors import LedgerError, NeuralBoxError, UsageError
from neuralbox_async._core.models import Generation, GenerationRequest

PLANNED: Final = "planned"
SENDING: Final = "sending"
IN_DOUBT: Final = "in_doubt"
ACCEPTED: Final = "accepted"
COMPLETED: Final = "completed"
FAILED: Final = "failed"
SAVED: Final = "saved"
DROPPED: Final = "dropped"

FOLLOWS: Final[Mapping[str, frozenset[str]]] = {
    PLANNED: frozenset({SENDING, FAILED, DROPPED}),
    SENDING: frozenset({ACCEPTED, COMPLETED, FAILED, PLANNED, IN_DOUBT}),
    IN_DOUBT: frozenset({ACCEPTED, COMPLETED, FAILED, PLANNED, DROPPED, IN_DOUBT}),
    ACCEPTED: frozenset({COMPLETED, FAILED, ACCEPTED, DROPPED}),
    COMPLETED: frozenset({SAVED, COMPLETED}),
    SAVED: frozenset({COMPLETED}),
    FAILED: frozenset({PLANNED}),
    DROPPED: frozenset({PLANNED}),
}
STATES: Final = tuple(FOLLOWS)
# What a resumed run has to send, to look for or to wait for.
UNFINISHED: Final = (PLANNED, SENDING, IN_DOUBT, ACCEPTED)
# May cost tokens, and what it costs is not known yet: a budget's reservation stands.
_OPEN: Final = frozenset({SENDING, IN_DOUBT, ACCEPTED})
# Has cost what its generation says.
PAID: Final = frozenset({COMPLETED, SAVED})


@frozen(kw_only=True)
class Row:
    """One item of a bulk run, as its ledger has it.

    Attributes:
        number: Its place in the ledger, from 1.
        key: The caller's key, or one made of the request and which repeat of it this is.
        index: Its place in the input, from 0.
        state: "planned", "sending", "in_doubt", "accepted", "completed", "failed", "saved" or "dropped".
        request: What is asked for; its `key` is the caller's own or None, its `tag` what JSON keeps of it.
        generation: The last that is known of its generation.
        error: What went wrong, if that was the last thing that happened.
        path: Where the result was saved.
        sent_at: When its last POST was about to leave, in Unix seconds of this machine's clock.
        after_id: The highest integer id seen before that POST.
        ahead: How many seconds the service's clock was ahead of this machine's then; None if it had not told the time.
        submissions: How many times it was about to be sent.
        reserved: Tokens that a budget has set aside for it.
        changed_at: When the row last changed, in Unix seconds.
    """

    number: int
    key: str
    index: int
    state: str
    request: GenerationRequest
    generation: Generation | None = None
    error: NeuralBoxError | None = field(default=None, eq=repr)
    path: Path | None = None
    sent_at: float | None = None
    after_id: int | None = None
    ahead: float | None = None
    submissions: int = 0
    reserved: int | None = None
    changed_at: float = 0.0


@frozen(kw_only=True)
class Summary:
    """What a run has come to.

    Attributes:
        counts: How many items are in each state; every state has a number.
        tokens_spent: The sum of what the known generations cost.
        tokens_reserved: The sum of what a budget has set aside for items whose cost is not known yet.
        began_at: When the first item was planned, in Unix seconds; None if there is none.
        changed_at: When an item last changed, in Unix seconds; None if there is none.
    """

    counts: Mapping[str, int] = field(hash=False)
    tokens_spent: int = 0
    tokens_reserved: int = 0
    began_at: float | None = None
    changed_at: float | None = None

    @property
    def total(self) -> int:
        """How many items there are."""
        return sum(self.counts.values())

    @property
    def in_doubt(self) -> int:
        """How many items may have been accepted and charged, and nobody knows."""
        return self.counts[IN_DOUBT]

    @property
    def unfinished(self) -> int:
        """How many items a resumed run would still send, look for or wait for; downloads are not counted."""
        return sum(self.counts[state] for state in UNFINISHED)


# --- steps -----------------------------------------------------------------------------------------------------------


class Changes(TypedDict, total=False):
    """What a step may say of a row; see `Row`."""

    generation: Generation | None
    error: NeuralBoxError | None
    path: Path | None
    sent_at: float | None
    after_id: int | None
    ahead: float | None
    reserved: int | None


def moved(row: Row, to: str, *, at: float, **changes: Unpack[Changes]) -> Row:
    """Return the row after a step, or raise LedgerError if no such step leads there.

    Error and path are what this step says. The generation stays until another comes, or until the item is planned
    anew. A reservation stays while the cost is unknown: of what is completed too, if the service does not say it.
    """
    if to not in FOLLOWS[row.state]:
        allowed = ", ".join(sorted(FOLLOWS[row.state]))
        raise LedgerError(f"Item {row.key!r} is {row.state} and cannot become {to}; it can become: {allowed}.")
    sends, reserved = to == SENDING, changes.get("reserved")
    generation = None if to == PLANNED else changes.get("generation") or row.generation
    is_open = to in _OPEN or (to in PAID and generation is not None and generation.tokens_spent is None)
    return evolve(
        row,
        state=to,
        generation=generation,
        error=changes.get("error"),
        path=changes.get("path"),
        sent_at=changes.get("sent_at") if sends else row.sent_at,
        after_id=changes.get("after_id") if sends else row.after_id,
        ahead=changes.get("ahead") if sends else row.ahead,
        submissions=row.submissions + sends,
        reserved=(row.reserved if reserved is None else reserved) if is_open else None,
        changed_at=at,
    )


def spent(row: Row) -> int | None:
    """Return what an item has cost; None if nothing, or nobody knows.

    Of what is pending or has failed nothing is charged, whatever the service says that it may cost.
    """
    return row.generation.tokens_spent if row.generation is not None and row.state in PAID else None


# --- keys ------------------------------------------------------------------------------------------------------------


def digest(request: GenerationRequest) -> str:
    """Return 32 hexadecimal digits that stand for the model, the prompt and the params, in whatever order these are.

    Raises UsageError if they cannot be written as JSON.
    """
    asked = [request.model, request.prompt, request.params or None]
    plain = json.loads(_json(asked, "The request"))  # names of params that are no text become text, so they sort
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


_MADE_KEY: Final = re.compile(r"([0-9a-f]{32})-(0|[1-9][0-9]{0,8})")


def row_key(request: GenerationRequest, repeat: int) -> str:
    """Return the caller's key; else one for the `repeat`-th (from 0) item that asks for the same."""
    return request.key if request.key is not None else made_key(digest(request), repeat)


def made_key(digest: str, repeat: int) -> str:
    """Return the key of the `repeat`-th (from 0) item without one of its own that asks for what has this digest."""
    return f"{digest}-{repeat}"


def read_made_key(key: str) -> tuple[str, int] | None:
    """Return the digest and the repeat that a key was made of; None if it was not."""
    found = _MADE_KEY.fullmatch(key)
    return None if found is None else (found[1], int(found[2]))


# --- as text ---------------------------------------------------------------------------------------------------------


def _json(value: object, what: str) -> str:
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"), default=strict_json.plain)
    except (TypeError, ValueError, RecursionError) as error:
        reason = str(error)
    raise UsageError(f"{what} cannot be written as JSON: {reason}. Use text, numbers, lists and mappings.")


def written_request(request: GenerationRequest) -> str:
    """Write a request as JSON; a tag that is no plain JSON is left out. Raises UsageError for such params."""
    plain = {
        "model": request.model,
        "prompt": request.prompt,
        "params": request.params,
        "key": request.key,
    }
    try:
        return _json({**plain, "tag": request.tag}, "The tag")
    except UsageError:
        return _json(plain, "The request")


def read_request(text: str) -> GenerationRequest:
    """Read what `written_request` wrote."""
    plain = json.loads(text)
    tag = plain.get("tag")
    return GenerationRequest(plain["model"], plain["prompt"], plain["params"], key=plain["key"], tag=tag)


def written_generation(generation: Generation) -> str:
    """Write a generation as the reply it came from; one that was made by hand, as the reply it could have come from."""
    reply = generation.raw or _as_reply(generation)
    # An accepting answer may have an id and no status.
    reply = {**reply, "id": generation.id, "status": generation.status}
    return json.dumps(reply, separators=(",", ":"), default=str)


def _as_reply(generation: Generation) -> dict[str, Any]:
    reply: dict[str, Any] = {
        "model_slug": generation.model,
        "result_text": generation.text,
        "result_url": generation.url,
        "thumbnail_url": generation.thumbnail_url,
        "error": generation.error,
        "tokens_spent": generation.tokens_spent,
        "processing_ms": generation.processing_ms,
        "result_metadata": dict(generation.metadata),
        "progress": generation.progress,
        "eta_seconds": generation.eta_seconds,
        "retry_after": generation.retry_after,
    }
    dates = {"created_at": generation.created_at, "completed_at": generation.completed_at}
    reply |= {name: date.isoformat() for name, date in dates.items() if date is not None}
    return {**generation.extra, **{name: value for name, value in reply.items() if value is not None}}


_LOOK: Final = evolve(api.generation("kept"), generation_id=None)  # whatever id it has


def read_generation(text: str) -> Generation:
    """Read what `written_generation` wrote."""
    return api.read(_LOOK, api.Answer(status=200, headers={}, body=text.encode()))


# Kept beside the error, as the row's own.
_OF_THE_ROW: Final = ("generation", "request")
_ERRORS: Final = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, NeuralBoxError)
}


def written_error(error: NeuralBoxError) -> str:
    """Write an error's class and fields as JSON; a class that is not of this package counts as its nearest that is."""
    kind = next(each for each in type(error).__mro__ if _ERRORS.get(each.__name__) is each)
    plain = {each.name: getattr(error, each.name) for each in fields(kind) if each.name not in _OF_THE_ROW}
    return json.dumps({"class": kind.__name__, **plain}, separators=(",", ":"), default=str)


def read_error(text: str, *, request: GenerationRequest, generation: Generation | None) -> NeuralBoxError:
    """Read what `written_error` wrote, as an error of the same class, about the row's own request and generation."""
    plain = json.loads(text)
    kind: type[NeuralBoxError] = _ERRORS.get(plain.pop("class"), NeuralBoxError)
    known = {**plain, "request": request, "generation": generation}
    return kind(**{each.name: known[each.name] for each in fields(kind) if each.name in known})

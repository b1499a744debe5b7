"""A client knows its own POSTs: the ids they have led to, those on their way, and those whose answer it has lost."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from attrs import define, field, frozen

from neuralbox_async._core.api import http_date
from neuralbox_async._core.errors import OutcomeUnknownError, UsageError
from neuralbox_async._core.models import GenerationRequest, Id, identity

MOST_REMEMBERED: Final = 200_000
_SAME_INSTANT: Final = 1.0


@define(eq=False, repr=False)
class Known:
    """What a client knows of its own POSTs; shared by all views of a client.

    Attributes:
        highest_id: The highest integer id it has seen: what a lost answer's id must be above.
        owned: The latest ids (by `identity`) that belong to a POST: None where its answer named the id, else the key of
            the intent that claimed it in the history.
        latest_moment: The last that `moment` has given to a POST, in Unix seconds.
        on_their_way: The POSTs that wait for their answer.
        dated: The latest answer's Date, and when it came by this machine's clock; None if none has had one.
    """

    highest_id: int | None = None
    owned: dict[Id, str | None] = field(factory=dict[Id, "str | None"], init=False)
    latest_moment: float = field(default=0.0, init=False)
    on_their_way: dict[int, "Intent"] = field(factory=dict[int, "Intent"], init=False)
    dated: tuple[str, float] | None = field(default=None, init=False)
    _posts: int = field(default=0, init=False)

    def see(self, generation_id: Id) -> None:
        """Take in an id that was read."""
        if isinstance(generation_id, int) and (self.highest_id is None or generation_id > self.highest_id):
            self.highest_id = generation_id

    def own(self, generation_id: Id, *, claimed_by: str | None = None) -> None:
        """Take in which generation a POST has led to."""
        if len(self.owned) >= MOST_REMEMBERED:
            del self.owned[next(iter(self.owned))]
        self.owned[identity(generation_id)] = claimed_by

    def owners(self, others: Iterable[Id]) -> Mapping[Id, str | None]:
        """Return whose the ids (by `identity`) are that belong to somebody; `others` are not this client's."""
        return {**dict.fromkeys(map(identity, others)), **self.owned}

    def moment(self, sent_at: float) -> float:
        """Return a time that no other POST left at, a microsecond off if need be: it tells equal POSTs apart."""
        if 0 <= self.latest_moment - sent_at < _SAME_INSTANT:  # further back the clock was set, which is to be believed
            sent_at = self.latest_moment + 1e-6
        self.latest_moment = sent_at
        return sent_at

    @property
    def ahead(self) -> float | None:
        """How many seconds the service's clock is ahead of this machine's; None if it has not told the time."""
        if self.dated is None:
            return None
        text, wall = self.dated
        served_at = http_date(text)
        return None if served_at is None else served_at - wall

    @contextmanager
    def sending(self, request: GenerationRequest) -> Iterator[None]:
        """Count a POST as on its way: what the history shows above the ids known by now may be its own."""
        self._posts = number = self._posts + 1
        floor = -1 if self.highest_id is None else self.highest_id
        # It leaves at some time after this; where there are no integer ids anything may be its own.
        self.on_their_way[number] = Intent(key="", request=request, sent_at=-math.inf, after_id=floor)
        try:
            yield
        finally:
            del self.on_their_way[number]


@frozen(kw_only=True)
class Intent:
    """A POST whose answer was lost.

    Attributes:
        key: What tells it from the others.
        request: What it asked for.
        sent_at: When it left, in Unix seconds of this machine's clock.
        after_id: The highest integer id known before it; None if none.
        ahead: How many seconds the service's clock was ahead of that one when it left; None if that is not known.
    """

    key: str
    request: GenerationRequest
    sent_at: float
    after_id: int | None
    ahead: float | None = None

    def left_between(self, skew: float) -> tuple[float, float]:
        """Answer between when it left by the service's clock, which is `skew` seconds ahead now.

        Who has set a clock meanwhile has done so at a time that nobody knows.
        """
        ahead = skew if self.ahead is None else self.ahead
        return self.sent_at + min(ahead, skew), self.sent_at + max(ahead, skew)

    @property
    def alike(self) -> tuple[str, str, str]:
        """What is the same for requests that may take each other's generation."""
        return self.request.model, self.request.prompt.strip(), repr(_sorted(self.request.params or {}))


def intent_of(error: OutcomeUnknownError) -> Intent:
    """Return the POST that an error leaves in doubt. Raises UsageError for any other error, and if nothing came of it.

    No run has it, so its moment is its key.
    """
    if not isinstance(error, OutcomeUnknownError):
        raise UsageError(f"reconcile takes an OutcomeUnknownError, not {error!r}: no other leaves anything in doubt.")
    if error.request is None:
        raise UsageError(
            "This OutcomeUnknownError has no request: it is about what costs nothing and leaves nothing in the "
            "history. See in your NeuralBox profile whether it was carried out."
        )
    return Intent(key=f"{error.sent_at}", request=error.request, sent_at=error.sent_at, after_id=error.after_id)


def _sorted(value: Any) -> Any:
    """Bring a JSON value's mappings in order, so that equal ones look equal."""
    if isinstance(value, Mapping):
        return sorted((str(name), _sorted(each)) for name, each in value.items())
    if isinstance(value, list | tuple):
        return [_sorted(each) for each in value]
    return value

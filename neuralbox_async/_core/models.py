"""What the API says of generations, as frozen values: a reply is read into one of these and never changes again.

A generation needs only an id and a status; every other field may be missing (None). What this version does not know
stays reachable: `extra` holds the fields that have no name here, `raw` the whole reply as it came.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from attrs import field, frozen

T = TypeVar("T")
Id = int | str

COMPLETED: Final = "completed"
PENDING: Final = "pending"
FAILED: Final = "failed"
# Our own word where an accepted generation comes without a status.
UNKNOWN: Final = "unknown"
_NUMBER: Final = re.compile(r"0|-?[1-9][0-9]{0,254}")


def identity(generation_id: Id) -> Id:
    """Return what is equal for ids of one generation: replies may tell the number 7 as the text "7"."""
    if isinstance(generation_id, str) and _NUMBER.fullmatch(generation_id):
        return int(generation_id)
    return generation_id


def in_either_form(table: Mapping[Id, T], generation_id: Id) -> T | None:
    """Return what a table of ids as received has for one that may have been received in the other form."""
    found = table.get(generation_id)
    if found is None:
        other = str(generation_id) if isinstance(generation_id, int) else identity(generation_id)
        found = table.get(other)
    return found


def _kept(params: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return a copy: callers change one mapping from request to request, while earlier ones still wait to be sent."""
    try:
        copied: Mapping[str, Any] | None = _copied(params)
    except RecursionError:
        return params  # whoever writes it as JSON refuses it
    return copied


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _copied(each) for name, each in value.items()}
    return type(value)(map(_copied, value)) if type(value) in (list, tuple) else value


@frozen(kw_only=True)
class Head:
    """What came before the body of the answer that a value was read from.

    Attributes:
        status: The HTTP status.
        headers: The headers, their names in lower case.
    """

    status: int
    headers: Mapping[str, str] = field(hash=False)


@frozen(kw_only=True)
class Generation:
    """One generation as the service last described it.

    Attributes:
        id: As received: an integer, or a `gen_…` string. 7 and "7" are the same generation wherever ids are compared.
        status: As received: "pending", "completed", "failed", or a word this version does not know.
        model: The model's slug.
        text: The output of text and speech-to-text models.
        url: Where the result file lies. Files expire: 7 to 90 days by plan.
        thumbnail_url: A still picture of a video.
        error: The provider's words when `failed`.
        tokens_spent: Tokens charged; 0 while pending and when failed, None when the reply does not say.
        processing_ms: Milliseconds the generation took.
        metadata: Facts about the result, such as width, height (pixels) and duration (seconds).
        progress: Per cent done, from 0 to 100, where a pending reply says so.
        eta_seconds: Seconds the service expects it to take yet, where a pending reply says so.
        retry_after: Seconds after which the service asks to be looked at again, where a reply or its header says so.
        created_at: When the service accepted it.
        completed_at: When it ended.
        prompt: What was asked for, where the history says so; it may be shortened there.
        category: "text", "image", "video", "tts", "stt" or "tool", where the history says so.
        is_favorited: Whether it is among the account's favourites, where the history says so.
        user_rating: The rating its owner gave it, where the history says so.
        partial: Whether this is an entry of the history, which leaves out fields that a look would have.
        extra: Fields of the reply without a name here.
        raw: The whole reply.
        head: Status and headers of the answer; None for an entry of the history, and while it is pending in a run.
    """

    id: Id
    status: str
    model: str | None = None
    text: str | None = None
    url: str | None = None
    thumbnail_url: str | None = None
    error: str | None = None
    tokens_spent: int | None = None
    processing_ms: float | None = None
    metadata: Mapping[str, Any] = field(factory=dict, hash=False)
    progress: float | None = None
    eta_seconds: float | None = None
    retry_after: float | None = None
    created_at: datetime | None = None
    completed_at: datetime | None = None
    prompt: str | None = None
    category: str | None = None
    is_favorited: bool | None = None
    user_rating: float | None = None
    partial: bool = False
    extra: Mapping[str, Any] = field(factory=dict, hash=False)
    raw: Mapping[str, Any] = field(factory=dict, hash=False, repr=False, eq=False)
    head: Head | None = field(default=None, hash=False, repr=False, eq=False)

    @property
    def done(self) -> bool:
        """Whether this is final: completed or failed. An unknown status means "not finished"."""
        return self.status in (COMPLETED, FAILED)

    @property
    def failed(self) -> bool:
        """Whether the generation failed; failed generations cost no tokens."""
        return self.status == FAILED

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        """Show a notebook the text that is here. As plain text: Markdown could make the browser fetch things."""
        return {"text/plain": repr(self) if self.text is None else self.text}


def lacks_result(generation: Generation) -> bool:
    """Say whether this is an entry of the history that leaves out what was made."""
    return generation.partial and generation.url is None and generation.text is None and not generation.failed


@frozen
class GenerationRequest:
    """One generation to ask for: what `generate_many` takes.

    Attributes:
        model: The model's slug, any string the service knows.
        prompt: The message, or the description of the picture, clip or song.
        params: Options of the model, such as `{"duration": 5}`; sent as they are now, whatever is changed later.
        key: Your name for this item, unique within a run; result files are named after it. Never sent.
        tag: Any value of yours, echoed in the outcome. Never sent.
    """

    model: str
    prompt: str
    params: Mapping[str, Any] | None = field(default=None, converter=_kept, hash=False)
    key: str | None = field(default=None, kw_only=True)
    tag: Any = field(default=None, kw_only=True, hash=False)


@frozen(kw_only=True)
class Balance:
    """What the account can still spend.

    Attributes:
        token_balance: Tokens left, of the subscription and of packages together.
        plan: "free", "basic", "pro", "vip" or "elite".
        plan_expires_at: When the plan ends; None for the free plan.
        extra: Fields of the reply without a name here.
        raw: The whole reply.
        head: Status and headers of the answer.
    """

    token_balance: int
    plan: str | None = None
    plan_expires_at: datetime | None = None
    extra: Mapping[str, Any] = field(factory=dict, hash=False)
    raw: Mapping[str, Any] = field(factory=dict, hash=False, repr=False, eq=False)
    head: Head | None = field(default=None, hash=False, repr=False, eq=False)


@frozen(kw_only=True)
class HistoryPage:
    """One page of the account's history.

    Attributes:
        items: Its generations, in the service's order; entries that cannot be read are left out.
        entries: How many entries the page had, readable or not; 0 behind the last page.
        total: How many generations the history has in all; None if the reply does not say.
        served_at: When it was served, in Unix seconds of the service's clock; None if the answer does not say.
        news: Those of its generations that were not known as they are.
    """

    items: Sequence[Generation]
    entries: int
    total: int | None = None
    served_at: float | None = None
    news: Sequence[Generation] = field(default=(), eq=False)

"""What the service says of an account and of its models, as frozen values; every field but the first may be missing.

What this version does not know stays reachable: `extra` holds the fields that have no name here, `raw` the whole reply.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from attrs import field, frozen

from neuralbox_async._core.models import Head, Id


@frozen(kw_only=True)
class Model:
    """One model of the service.

    Attributes:
        slug: What `generate` takes as `model`.
        name: Its name for people.
        category: "text", "image", "video", "tts", "stt" or "tool".
        provider: Who makes it.
        min_plan: The smallest plan that may use it.
        token_cost: Tokens of a generation with the usual params.
        min_token_cost: Tokens of the cheapest.
        max_token_cost: Tokens of the dearest.
        description: What it is good for, in the service's words.
        supports_streaming: Whether `stream` can use it.
        config: Its options and their values, such as `sizes`, `formats` and `quality_options`.
        extra: Fields of the reply without a name here.
        raw: The whole reply.
        head: Status and headers of the answer; None for one of a list.
    """

    slug: str
    name: str | None = None
    category: str | None = None
    provider: str | None = None
    min_plan: str | None = None
    token_cost: int | None = None
    min_token_cost: int | None = None
    max_token_cost: int | None = None
    description: str | None = None
    supports_streaming: bool | None = None
    config: Mapping[str, Any] = field(factory=dict, hash=False)
    extra: Mapping[str, Any] = field(factory=dict, hash=False)
    raw: Mapping[str, Any] = field(factory=dict, hash=False, repr=False, eq=False)
    head: Head | None = field(default=None, hash=False, repr=False, eq=False)


@frozen(kw_only=True, eq=False, repr=False)
class ModelPage:
    """Some of the service's models.

    Attributes:
        items: The models; entries that cannot be read are left out.
        entries: How many entries came, readable or not.
        total: How many models there are in all; None if the reply does not say.
    """

    items: Sequence[Model]
    entries: int
    total: int | None = None


@frozen(kw_only=True)
class Price:
    """What a generation would cost; asking costs nothing.

    Attributes:
        tokens: The service's `token_cost` for these params. The documentation does not say whether it is multiplied
            by `count`.
        min_tokens: Tokens of the model's cheapest generation.
        max_tokens: Tokens of its dearest.
        pricing_type: "fixed", "matrix" (by size and quality), "per_second" or "per_point".
        extra: Fields of the reply without a name here.
        raw: The whole reply.
        head: Status and headers of the answer.
    """

    tokens: int
    min_tokens: int | None = None
    max_tokens: int | None = None
    pricing_type: str | None = None
    extra: Mapping[str, Any] = field(factory=dict, hash=False)
    raw: Mapping[str, Any] = field(factory=dict, hash=False, repr=False, eq=False)
    head: Head | None = field(default=None, hash=False, repr=False, eq=False)


@frozen(kw_only=True)
class Profile:
    """Whose account this is, and what its plan allows.

    Attributes:
        id: The account's id.
        name: The name shown.
        email: The address, if there is one.
        telegram_username: The name at Telegram, if there is one.
        avatar_url: The picture, if there is one.
        plan: "free", "basic", "pro", "vip" or "elite".
        plan_expires_at: When the plan ends; None for the free plan.
        token_balance: Tokens left.
        token_limit: Tokens that the plan gives each month.
        tokens_used_this_period: Tokens spent of those.
        rate_limit_hourly: Requests an hour; 0: unlimited.
        rate_limit_daily: Requests a day; 0: unlimited.
        auth_methods: Which ways to log in are set up.
        created_at: When the account was made.
        extra: Fields of the reply without a name here.
        raw: The whole reply.
        head: Status and headers of the answer.
    """

    id: Id
    name: str | None = None
    email: str | None = None
    telegram_username: str | None = None
    avatar_url: str | None = None
    plan: str | None = None
    plan_expires_at: datetime | None = None
    token_balance: int | None = None
    token_limit: int | None = None
    tokens_used_this_period: int | None = None
    rate_limit_hourly: int | None = None
    rate_limit_daily: int | None = None
    auth_methods: Mapping[str, Any] = field(factory=dict, hash=False)
    created_at: datetime | None = None
    extra: Mapping[str, Any] = field(factory=dict, hash=False)
    raw: Mapping[str, Any] = field(factory=dict, hash=False, repr=False, eq=False)
    head: Head | None = field(default=None, hash=False, repr=False, eq=False)


@frozen(kw_only=True)
class Usage:
    """How many generations, and the tokens they cost."""

    generations: int | None = None
    tokens: int | None = None


@frozen(kw_only=True)
class Stats:
    """What the account has generated; completed generations only.

    Attributes:
        total_generations: How many in all.
        tokens_spent_total: Tokens they cost in all.
        breakdown: The same by category: "text", "image", "video", "audio", "tools".
        recent_30d: The same for the last 30 days.
        extra: Fields of the reply without a name here.
        raw: The whole reply.
        head: Status and headers of the answer.
    """

    total_generations: int
    tokens_spent_total: int | None = None
    breakdown: Mapping[str, Usage] = field(factory=dict, hash=False)
    recent_30d: Usage | None = None
    extra: Mapping[str, Any] = field(factory=dict, hash=False)
    raw: Mapping[str, Any] = field(factory=dict, hash=False, repr=False, eq=False)
    head: Head | None = field(default=None, hash=False, repr=False, eq=False)


@frozen(kw_only=True)
class Settings:
    """The account's preferences.

    Attributes:
        language: "en" or "ru".
        image_format: "webp", "png" or "jpeg": what pictures are made as where nothing is said.
        default_image_size: Such as "1024x1024".
        notifications_enabled: Whether the service sends notifications.
        extra: Fields of the reply without a name here.
        raw: The whole reply.
        head: Status and headers of the answer.
    """

    language: str | None = None
    image_format: str | None = None
    default_image_size: str | None = None
    notifications_enabled: bool | None = None
    extra: Mapping[str, Any] = field(factory=dict, hash=False)
    raw: Mapping[str, Any] = field(factory=dict, hash=False, repr=False, eq=False)
    head: Head | None = field(default=None, hash=False, repr=False, eq=False)


@frozen(kw_only=True, eq=False, repr=False)
class Marked:
    """Whether a generation is among the favourites now; None if the reply does not say."""

    is_favorited: bool | None = None


class Secret:
    """An API key that shows itself to nobody but who calls `reveal()`: not in texts, copies or pickles."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the key itself. The service shows it once: store it now, and nowhere that others read."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("An API key is not pickled or copied by accident; reveal() it and store it where secrets are.")


@frozen(kw_only=True)
class NewKey:
    """An API key that was just made; it has full access to the account's tokens.

    Attributes:
        id: What `rename_key` and `revoke_key` take.
        secret: The key; `secret.reveal()` returns it, and nothing ever shows it again.
        name: Its name in the profile.
        created_at: When it was made.
        raw: The whole reply, without the key.
        head: Status and headers of the answer.
    """

    id: Id
    secret: Secret = field(eq=False)
    name: str | None = None
    created_at: datetime | None = None
    raw: Mapping[str, Any] = field(factory=dict, hash=False, repr=False, eq=False)
    head: Head | None = field(default=None, hash=False, repr=False, eq=False)

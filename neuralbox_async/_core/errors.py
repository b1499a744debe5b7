"""What can go wrong, as a tree; every error is plain data, pickles, and holds no credential.

    NeuralBoxError
    ├── UsageError (ValueError)                  what you passed cannot work; nothing was sent
    ├── ClientClosedError (RuntimeError)         the client is closed, or belongs to another event loop
    ├── APIError
    │   ├── APIConnectionError                   no answer
    │   │   └── APITimeoutError (TimeoutError)   no answer within your timeout
    │   ├── APIStatusError                       an answer that says no
    │   │   ├── BadRequestError 400, AuthenticationError 401, InsufficientTokensError 402,
    │   │   ├── PermissionDeniedError 403, NotFoundError 404, UnprocessableEntityError 422,
    │   │   └── RateLimitError 429, InternalServerError 5xx
    │   └── ResponseError                        an answer that cannot be read
    ├── GenerationFailedError                    the service tried and failed; costs no tokens
    ├── GenerationTimeoutError (TimeoutError)    not finished within your timeout; it goes on, wait for its id
    ├── OutcomeUnknownError                      the POST may have been accepted and its answer is lost
    ├── BudgetExceededError                      your own limit of tokens
    └── LedgerError                              the file that records a bulk run

Names follow openai's SDK. `args` hold every field, so errors keep their data through pickle and between processes.
"""

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, fields, frozen

from neuralbox_async._core.models import Generation, GenerationRequest

Billed = Literal["no", "yes", "unknown"]


@frozen(slots=False, eq=False, repr=False)
class NeuralBoxError(Exception):
    """Anything that this package raises on purpose.

    Attributes:
        message: What happened, to what, and what to do next.
        billed: Whether tokens were or will be spent: "no", "yes" or "unknown".
        retryable: Whether the same call may pass later, without any change.
        retry_after: Seconds the service asks to wait before that; None if it does not say.
        generation_id: The generation this is about, if its id is known.
    """

    message: str = ""
    billed: Billed = "no"
    retryable: bool = False
    retry_after: float | None = None
    generation_id: int | str | None = None

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r}, billed={self.billed!r}, generation_id={self.generation_id!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, each.name) for each in fields(type(self)))


class UsageError(NeuralBoxError, ValueError):
    """An argument, an option or a request that cannot work. Nothing was sent, nothing was spent."""


class ClientClosedError(NeuralBoxError, RuntimeError):
    """The client was closed, or is used from another event loop than the one it belongs to. Nothing was sent."""


class APIError(NeuralBoxError):
    """A call to the service went wrong."""


class APIConnectionError(APIError):
    """No answer came: refused, cut, unreachable, or not to be trusted (TLS)."""


class APITimeoutError(APIConnectionError, TimeoutError):
    """No answer came within your timeout, and nothing can have been spent."""


@frozen(slots=False, eq=False, repr=False)
class APIStatusError(APIError):
    """The service answered with a status that says no.

    Attributes:
        status_code: The HTTP status.
        code: The service's own word for it, such as "insufficient_plan"; None if the body has none.
        body: The parsed JSON body; None if there was none to parse.
        headers: The answer's headers, their names in lower case.
    """

    status_code: int = 0
    code: str | None = None
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(factory=dict[str, str])


class BadRequestError(APIStatusError):
    """400: a parameter is missing or wrong."""


class AuthenticationError(APIStatusError):
    """401: the key is missing, wrong or revoked."""


class InsufficientTokensError(APIStatusError):
    """402: the token balance does not cover the call."""


class PermissionDeniedError(APIStatusError):
    """403: the plan does not include this; API access needs VIP or Elite."""


class NotFoundError(APIStatusError):
    """404: no such model or generation."""


class UnprocessableEntityError(APIStatusError):
    """422: the request does not fit the model's schema."""


class RateLimitError(APIStatusError):
    """429: the plan's hourly or daily window is used up; `retry_after` says when it opens."""


class InternalServerError(APIStatusError):
    """5xx: the service or a proxy before it failed."""


@frozen(slots=False, eq=False, repr=False)
class ResponseError(APIError):
    """The service answered with something that is not what it documents (no JSON, no id, a proxy's page).

    Attributes:
        status_code: The HTTP status of that answer.
        headers: Its headers, their names in lower case.
    """

    status_code: int = 0
    headers: Mapping[str, str] = field(factory=dict[str, str])


@frozen(slots=False, eq=False, repr=False)
class GenerationFailedError(NeuralBoxError):
    """The generation ended as failed; `generation.error` has the provider's words.

    Attributes:
        generation: The failed generation.
    """

    generation: Generation | None = None


@frozen(slots=False, eq=False, repr=False)
class GenerationTimeoutError(NeuralBoxError, TimeoutError):
    """The generation had not finished within your timeout. It goes on: wait for `generation_id` later.

    Attributes:
        generation: The last look at it.
    """

    generation: Generation | None = None


@frozen(slots=False, eq=False, repr=False)
class OutcomeUnknownError(NeuralBoxError):
    """The request was handed to the network and no readable answer came: it may have been accepted and charged.

    The POST is never repeated by itself. `await nb.reconcile(error)` looks for it in the history: the same model and
    prompt, an id above `after_id`, created at `sent_at` or later.

    Attributes:
        request: What was asked for; None for what costs nothing (a new key, a favourite): `billed` is "no" then.
        sent_at: When the POST left, in Unix seconds of this machine's clock.
        after_id: The highest integer id this client had seen before; None if none.
    """

    request: GenerationRequest | None = None
    sent_at: float = 0.0
    after_id: int | None = None


class BudgetExceededError(NeuralBoxError):
    """The next generation might cost more than what is left of your own budget; or nobody tells. It was not sent."""


class LedgerError(NeuralBoxError):
    """The file that records a bulk run cannot be used."""


STATUS_ERRORS: Mapping[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: InsufficientTokensError,
    403: PermissionDeniedError,
    404: NotFoundError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}


def error_class(status: int) -> type[APIStatusError]:
    """Name the class of an HTTP status that says no."""
    return STATUS_ERRORS.get(status, InternalServerError if status >= 500 else APIStatusError)

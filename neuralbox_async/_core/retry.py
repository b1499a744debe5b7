"""Never pay twice: which failures are certain not to have cost anything, and in how many seconds to try again.

| what happened to a POST that pays                                  | class      | then                     |
|---|---|---|
| its body was never pulled by the transport                         | not sent   | retried                  |
| 400 401 402 403 404 413 414 415 422 431, 301 307 308               | rejected   | raised                   |
| 429; 503 `model_unavailable`; 500 `provider_error` (not charged)   | passing    | retried                  |
| anything else after the pull, any other status, no readable id     | in doubt   | OutcomeUnknownError      |

Calls that cost nothing are retried until their deadline.
"""

from typing import Any, Final

from attrs import evolve

from neuralbox_async._core.api import Call
from neuralbox_async._core.errors import (
    APIStatusError,
    APITimeoutError,
    NeuralBoxError,
    OutcomeUnknownError,
    ResponseError,
)
from neuralbox_async._core.models import GenerationRequest

REJECTED: Final = frozenset({400, 401, 402, 403, 404, 413, 414, 415, 422, 431, 301, 307, 308})
# Source: the documented error table, "provider_error: tokens never charged", "model_unavailable: temporarily down".
PASSING: Final = frozenset({(503, "model_unavailable"), (500, "provider_error")})

FIRST_WAIT: Final = 0.5
LONGEST_WAIT: Final = 8.0
LONGEST_RETRY_AFTER: Final = 86_400.0


def judge(
    request: GenerationRequest, error: NeuralBoxError, *, pulled: bool, sent_at: float, after_id: int | None
) -> NeuralBoxError:
    """Say of a failed POST that pays whether it cost something and whether it may be repeated.

    `pulled` is whether the transport ever took the body. A status counts as an answer to the whole request even if it
    did not: some transports answer without reading. Returns the error with `retryable` set, or the OutcomeUnknownError
    that takes its place.
    """
    if isinstance(error, APIStatusError):
        if error.status_code == 429 or (error.status_code, error.code) in PASSING:
            return evolve(error, retryable=True)
        if error.status_code in REJECTED:
            return evolve(error, retryable=False)
    elif not pulled and not isinstance(error, ResponseError):
        return error
    return OutcomeUnknownError(
        f"generate: the request for {request.model} was sent and its outcome is unknown ({error}). It was not sent "
        "again. Look for it in your account's history before you repeat it, it may have been charged.",
        billed="unknown",
        request=request,
        sent_at=sent_at,
        after_id=after_id,
    )


def seconds_until_retry(
    call: Call[Any], error: NeuralBoxError, *, attempt: int, max_retries: int, jitter: float
) -> float | None:
    """Answer in how many seconds to repeat a failed call, or None: stop.

    Full jitter between 0 and a span that doubles, unless the service names its own seconds. `attempt` counts the
    failures before this one, `jitter` is a random number from 0 to 1.
    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    if not error.retryable or isinstance(error, APITimeoutError):
        return None
    if call.request is not None and (error.billed != "no" or attempt >= max_retries):
        return None
    backoff = jitter * min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(attempt, 16))
    if error.retry_after is None:
        return backoff
    return min(LONGEST_RETRY_AFTER, max(error.retry_after, backoff))

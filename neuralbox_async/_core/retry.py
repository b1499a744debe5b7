"""Never pay twice: which failures are certain not to have cost anything, and in how many seconds to try again.

| what happened to a POST that pays                                  | class      | then                     |
|---|---|---|
| its body was never pulled by the transport                         | not sent   | retried                  |
| 400 401 402 403 404 413 414 415 422 431, 301 307 308               | rejected   | raised                   |
| 429; 503 `model_unavailable`; 500 `provider_error` (not charged)   | passing    | retried                  |
| anything else after the pull, any other status, no readable id     | in doubt   | OutcomeUnknownError      |

Of calls that cost nothing, those that may be repeated are retried until their deadline: what only asks, and what does
no more when done twice (a rating, a changed setting, something deleted). A new key and a favourite's toggle are not:
they are judged as a POST that pays, but for the 500 and 503, which the documentation promises for charges only.
"""

from typing import Any, Final

from attrs import evolve

from neuralbox_async._core.api import Call
from neuralbox_async._core.errors import (
    APIStatusError,
    APITimeoutError,
    GenerationFailedError,
    NeuralBoxError,
    NotFoundError,
    OutcomeUnknownError,
    ResponseError,
)

REJECTED: Final = frozenset({400, 401, 402, 403, 404, 413, 414, 415, 422, 431, 301, 307, 308})
# Source: the documented error table, "provider_error: tokens never charged", "model_unavailable: temporarily down".
PASSING: Final = frozenset({(503, "model_unavailable"), (500, "provider_error")})

FIRST_WAIT: Final = 0.5
LONGEST_WAIT: Final = 8.0
LONGEST_RETRY_AFTER: Final = 86_400.0


def judge(
    call: Call[Any], error: NeuralBoxError, *, pulled: bool, sent_at: float, after_id: int | None
) -> NeuralBoxError:
    """Say of a failed call that must not be made twice whether it cost something and whether it may be repeated.

    `pulled` is whether the transport ever took the body. A status counts as an answer to the whole request even if it
    did not: some transports answer without reading. Returns the error with `retryable` set, or the OutcomeUnknownError
    that takes its place.
    """
    if isinstance(error, APIStatusError):
        passing = call.request is not None and (error.status_code, error.code) in PASSING
        if error.status_code == 429 or passing:
            return evolve(error, retryable=True)
        if error.status_code in REJECTED:
            return evolve(error, retryable=False)
    elif isinstance(error, GenerationFailedError) or (not pulled and not isinstance(error, ResponseError)):
        return error
    if call.request is None:
        return OutcomeUnknownError(
            f"{call.operation}: the request was sent and its outcome is unknown ({_came(call, error)}). It was not "
            "sent again, it costs nothing. See in your NeuralBox profile whether it was done before you repeat it.",
            generation_id=call.generation_id,
            sent_at=sent_at,
            after_id=after_id,
        )
    return OutcomeUnknownError(
        f"{call.operation}: the request for {call.request.model} was sent and its outcome is unknown "
        f"({_came(call, error)}). It was not sent again, it may have been charged: look for it in the history, with "
        "await nb.reconcile(error), before you repeat it.",
        billed="unknown",
        request=call.request,
        sent_at=sent_at,
        after_id=after_id,
    )


def _came(call: Call[Any], error: NeuralBoxError) -> str:
    """Return what came in place of an answer, without the advice behind it: that is for what may be sent again."""
    said = str(error).removeprefix(f"{call.operation}: ")
    return said if isinstance(error, APIStatusError) else said.rpartition("; ")[0] or said


def was_done(call: Call[Any], error: NeuralBoxError, *, attempt: int) -> bool:
    """Say whether a call that failed had been carried out at an earlier attempt: a repeated DELETE finds nothing."""
    return call.method == "DELETE" and attempt > 0 and isinstance(error, NotFoundError)


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
    if not call.repeatable and (error.billed != "no" or attempt >= max_retries):
        return None
    backoff = jitter * min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(attempt, 16))
    if error.retry_after is None:
        return backoff
    return min(LONGEST_RETRY_AFTER, max(error.retry_after, backoff))

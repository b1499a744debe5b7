"""Never pay twice, as a table: every way a call can fail, what it cost, and in how many seconds to try again."""

from typing import Any

import pytest
from attrs import evolve

from neuralbox_async import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    GenerationRequest,
    NeuralBoxError,
    OutcomeUnknownError,
    ResponseError,
)
from neuralbox_async._core import api, retry
from neuralbox_async._core.errors import error_class

REQUEST = GenerationRequest("kling-v2.1", "A flower")
PAID = api.generate(REQUEST)
FREE = api.generation(7)
EVERY_STATUS = [100, 103, *range(300, 310), *range(400, 432), 444, 451, 499, *range(500, 512), 520, 530, 599]
REJECTED = {400, 401, 402, 403, 404, 413, 414, 415, 422, 431, 301, 307, 308}
CUT = APIConnectionError("cut", retryable=True)
STRANGE = APIConnectionError("a transport's own mistake")
TIMED_OUT = APITimeoutError("no answer", retryable=True)
UNREADABLE = ResponseError("HTML", retryable=True, status_code=200)


def refusal(status: int, code: str | None = None) -> NeuralBoxError:
    """Return the error of a status."""
    return error_class(status)("no", status_code=status, code=code)


def judged(error: NeuralBoxError, *, pulled: bool = True) -> NeuralBoxError:
    """Judge with fixed facts."""
    return retry.judge(PAID, error, pulled=pulled, sent_at=1000.5, after_id=18500)


@pytest.mark.parametrize("status", EVERY_STATUS)
def test_every_status_of_a_paid_post_has_a_class(status: int) -> None:
    """Ten refusals and three redirects cost nothing for certain, 429 passes, all the rest is in doubt."""
    verdict = judged(refusal(status))
    if status == 429:
        assert (verdict.billed, verdict.retryable) == ("no", True)
    elif status in REJECTED:
        assert (verdict.billed, verdict.retryable) == ("no", False)
        assert type(verdict) is error_class(status)
    else:
        assert type(verdict) is OutcomeUnknownError
        assert (verdict.billed, verdict.retryable) == ("unknown", False)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            "generate: no answer within the timeout; pass a longer timeout or try again later.",
            "no answer within the timeout",
        ),
        (
            "generate: no answer (ReadError: a; b); check the network, its proxies and base_url.",
            "no answer (ReadError: a; b)",
        ),
        ("cut", "cut"),
    ],
)
def test_doubt_comes_without_advice_to_repeat(said: str, shown: str) -> None:
    """Whoever reads that a request may be charged reads how to look for it, not that it may be tried again."""
    doubt = str(judged(APIConnectionError(said, retryable=True)))
    assert f"({shown})" in doubt
    assert "try again" not in doubt
    assert "await nb.reconcile(error)" in doubt


@pytest.mark.parametrize(
    ("status", "code", "passing"),
    [
        (503, "model_unavailable", True),
        (500, "provider_error", True),
        (503, "provider_error", False),
        (500, "model_unavailable", False),
        (502, "provider_error", False),
        (500, "internal_error", False),
        (503, None, False),
        (500, None, False),
    ],
)
def test_only_the_documented_pairs_of_5xx_cost_nothing(status: int, code: str | None, passing: bool) -> None:  # noqa: FBT001
    """A 5xx is repeated only with the very word that the documentation says is never charged."""
    verdict = judged(refusal(status, code))
    assert verdict.retryable is passing
    assert isinstance(verdict, OutcomeUnknownError) is not passing


@pytest.mark.parametrize("error", [CUT, STRANGE, TIMED_OUT], ids=["cut", "strange", "timed out"])
def test_without_an_answer_the_witness_decides(error: NeuralBoxError) -> None:
    """A body that was never pulled cannot have cost anything; one that was, may have."""
    assert judged(error, pulled=False) is error
    assert isinstance(judged(error), OutcomeUnknownError)


@pytest.mark.parametrize("pulled", [True, False])
def test_a_good_status_without_an_id_is_in_doubt(pulled: bool) -> None:  # noqa: FBT001
    """Somebody said yes: nothing proves that it was not the service."""
    assert isinstance(judged(UNREADABLE, pulled=pulled), OutcomeUnknownError)


def test_doubt_carries_what_is_needed_to_find_the_job() -> None:
    """The error has the request, when it left, the last id before it, and what had happened."""
    verdict = judged(CUT)
    assert isinstance(verdict, OutcomeUnknownError)
    assert (verdict.request, verdict.sent_at, verdict.after_id) == (REQUEST, 1000.5, 18500)
    assert "kling-v2.1" in str(verdict)
    assert "cut" in str(verdict)


@pytest.mark.parametrize("status", EVERY_STATUS)
def test_a_look_that_fails_in_passing_is_repeated(status: int) -> None:
    """GETs are free: what may pass is asked again, what cannot pass is raised, and nothing is ever in doubt."""
    with pytest.raises(APIStatusError) as caught:
        api.read(FREE, api.Answer(status=status, headers={}, body=b""))
    assert type(caught.value) is error_class(status)
    assert caught.value.retryable is (status in {408, 425, 429, 500, 502, 503, 504})


def seconds(call: api.Call[Any], error: NeuralBoxError, *, attempt: int = 0, jitter: float = 1.0) -> float | None:
    """Ask when to retry, with two retries allowed."""
    return retry.seconds_until_retry(call, error, attempt=attempt, max_retries=2, jitter=jitter)


@pytest.mark.parametrize(("attempt", "longest"), [(0, 0.5), (1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (10_000, 8)])
def test_waits_double_up_to_eight_seconds(attempt: int, longest: float) -> None:
    """Full jitter: anything between nothing and the span of this attempt."""
    assert seconds(FREE, CUT, attempt=attempt) == longest
    assert seconds(FREE, CUT, attempt=attempt, jitter=0.25) == longest / 4
    assert seconds(FREE, CUT, attempt=attempt, jitter=0.0) == 0


def test_a_paid_post_is_repeated_at_most_max_retries_times() -> None:
    """Two retries mean three POSTs in all, each for certain unpaid."""
    passing = judged(refusal(429))
    assert [seconds(PAID, passing, attempt=attempt) is None for attempt in range(4)] == [False, False, True, True]


@pytest.mark.parametrize("error", [STRANGE, TIMED_OUT, refusal(404)], ids=["strange", "timed out", "404"])
@pytest.mark.parametrize("call", [PAID, FREE], ids=["paid", "free"])
def test_what_cannot_pass_is_not_repeated(call: api.Call[Any], error: NeuralBoxError) -> None:
    """Errors that time does not heal, and the end of the caller's own time, stop at once."""
    assert seconds(call, error) is None


@pytest.mark.parametrize("billed", ["yes", "unknown"])
def test_nothing_that_may_be_paid_is_repeated(billed: Any) -> None:
    """Even an error that calls itself retryable stops a paid call unless it cost nothing."""
    assert seconds(PAID, evolve(CUT, billed=billed)) is None


@pytest.mark.parametrize(
    ("asked", "wait"),
    [(0.0, 0.5), (0.2, 0.5), (847, 847), (86_400, 86_400), (1e12, 86_400)],
)
def test_the_service_s_own_seconds_win(asked: float, wait: float) -> None:
    """Never sooner than the service asks, never sooner than our own backoff, at most a day."""
    assert seconds(PAID, evolve(judged(refusal(429)), retry_after=asked)) == wait


REPEATABLE = [
    api.generation(7),
    api.balance(),
    api.history(page=1),
    api.models(page=1),
    api.model("gpt-5"),
    api.price("gpt-5", None, 1),
    api.me(),
    api.stats(),
    api.settings(),
    api.change_me({"name": "x"}),
    api.change_settings({"language": "en"}),
    api.rate_generation(7, 5),
    api.delete_generation(7),
    api.rename_key(13, "x"),
    api.revoke_key(13),
]
ONCE = [api.toggle_favorite(7), api.create_key("x")]


def operation(call: api.Call[Any]) -> str:
    """Name a test after its call."""
    return call.operation


@pytest.mark.parametrize("call", REPEATABLE, ids=operation)
def test_what_does_no_more_when_done_twice_is_repeated(call: api.Call[Any]) -> None:
    """Whatever only asks, sets a value or takes something away may be sent again after a lost answer."""
    assert call.repeatable
    assert seconds(call, CUT, attempt=100) is not None


@pytest.mark.parametrize("call", ONCE, ids=operation)
@pytest.mark.parametrize("error", [CUT, STRANGE, TIMED_OUT, UNREADABLE, refusal(500, "provider_error"), refusal(502)])
def test_what_does_more_when_done_twice_is_not_repeated(call: api.Call[Any], error: NeuralBoxError) -> None:
    """A toggle that left and was not answered may have been carried out, though it costs nothing."""
    verdict = retry.judge(call, error, pulled=True, sent_at=1000.5, after_id=None)
    assert isinstance(verdict, OutcomeUnknownError)
    assert (verdict.billed, verdict.request, verdict.generation_id) == ("no", None, call.generation_id)
    assert call.operation in str(verdict)
    assert seconds(call, verdict) is None


@pytest.mark.parametrize("call", ONCE, ids=operation)
def test_what_never_left_is_repeated_however_it_counts(call: api.Call[Any]) -> None:
    """Not sent, and turned away for now, are certain."""
    unsent = retry.judge(call, CUT, pulled=False, sent_at=0.0, after_id=None)
    turned_away = retry.judge(call, refusal(429), pulled=True, sent_at=0.0, after_id=None)
    assert [seconds(call, each) is None for each in (unsent, turned_away)] == [False, False]


@pytest.mark.parametrize(
    ("call", "status", "attempt", "done"),
    [
        (api.revoke_key(13), 404, 1, True),
        (api.revoke_key(13), 404, 0, False),
        (api.delete_generation(7), 404, 3, True),
        (api.delete_generation(7), 403, 1, False),
        (api.rename_key(13, "x"), 404, 1, False),
        (api.generation(7), 404, 1, False),
    ],
)
def test_a_repeated_deletion_that_finds_nothing_was_done_before(
    call: api.Call[Any],
    status: int,
    attempt: int,
    done: bool,  # noqa: FBT001
) -> None:
    """The answer to the first one was lost, and nothing is left to delete."""
    assert retry.was_done(call, refusal(status), attempt=attempt) is done

"""Errors and models are plain data: they pickle, copy, and keep everything they hold."""

import copy
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import fields
from attrs.exceptions import FrozenInstanceError

import neuralbox_async
from neuralbox_async import (
    Abandoned,
    Accepted,
    APITimeoutError,
    Balance,
    ClientClosedError,
    Generation,
    GenerationRequest,
    GenerationTimeoutError,
    Looked,
    NeuralBoxError,
    Outcome,
    Pacing,
    Paused,
    Rate,
    RateLimit,
    RateLimitError,
    Requested,
    Retrying,
    UsageError,
)
from neuralbox_async._core.models import in_either_form

REQUEST = GenerationRequest("kling-v2.1", "A flower", {"duration": 5}, key="one", tag=("row", 1))
GENERATION = Generation(
    id="gen_01j9x2abc123",
    status="failed",
    error="policy",
    tokens_spent=0,
    metadata={"width": 1},
    created_at=datetime(2026, 3, 8, tzinfo=UTC),
    extra={"seed": 1},
    raw={"id": "gen_01j9x2abc123"},
)
VALUES: dict[str, Any] = {
    "message": "What happened; what to do.",
    "billed": "unknown",
    "retryable": True,
    "retry_after": 8.5,
    "generation_id": 18500,
    "status_code": 429,
    "code": "rate_limit_exceeded",
    "body": {"error": "rate_limit_exceeded", "retry_after": 8.5},
    "headers": {"x-request-id": "abc"},
    "generation": GENERATION,
    "request": REQUEST,
    "sent_at": 1_772_971_200.25,
    "after_id": 18499,
}
PUBLIC = [getattr(neuralbox_async, name) for name in neuralbox_async.__all__]
ERRORS = [each for each in PUBLIC if isinstance(each, type) and issubclass(each, NeuralBoxError)]
COPIES: list[Callable[[Any], Any]] = [
    *(lambda value, protocol=protocol: pickle.loads(pickle.dumps(value, protocol)) for protocol in range(6)),  # noqa: S301 - our own pickle
    copy.copy,
    copy.deepcopy,
]


def filled(kind: type[NeuralBoxError]) -> NeuralBoxError:
    """Return an error with a value in each field."""
    return kind(*(VALUES[each.name] for each in fields(kind)))


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("copied", COPIES, ids=[*map(str, range(6)), "copy", "deepcopy"])
def test_an_error_keeps_its_data_between_processes(kind: type[NeuralBoxError], copied: Callable[[Any], Any]) -> None:
    """Every error comes out of a pickle with every field, and its args hold them all."""
    error = filled(kind)
    twin = copied(error)
    assert type(twin) is kind
    assert twin.args == error.args == tuple(VALUES[each.name] for each in fields(kind))
    assert (str(twin), repr(twin)) == (str(error), repr(error))
    for each in fields(kind):
        assert getattr(twin, each.name) == VALUES[each.name]


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_can_be_raised_chained_and_noted(kind: type[NeuralBoxError]) -> None:
    """Frozen fields do not hinder what Python does to exceptions."""
    with pytest.raises(kind, match=r"^What happened; what to do\.$") as caught:
        raise filled(kind) from KeyError("cause")
    caught.value.add_note("seen in a test")
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.__notes__ == ["seen in a test"]


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_needs_nothing_but_words(kind: type[NeuralBoxError]) -> None:
    """Each error says, without more, that nothing was spent and that repeating will not help."""
    error = kind("words")
    assert (error.billed, error.retryable, error.retry_after, error.generation_id) == ("no", False, None, None)
    assert repr(error).startswith(f"{kind.__name__}('words'")


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (UsageError, ValueError),
        (ClientClosedError, RuntimeError),
        (APITimeoutError, TimeoutError),
        (GenerationTimeoutError, TimeoutError),
    ],
)
def test_errors_are_also_python_s_own(kind: type[NeuralBoxError], builtin: type[Exception]) -> None:
    """Code that catches ValueError or TimeoutError catches ours."""
    assert issubclass(kind, builtin)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (7, "seven"),
        ("7", "seven"),
        (8, "eight"),
        ("8", "eight"),
        ("gen_9", "nine"),
        ("07", None),
        (9, None),
        ("9", None),
    ],
)
def test_an_id_is_found_in_whichever_form_it_came(asked: int | str, found: str | None) -> None:
    """A number and the text that it is written as stand for one another, and nothing else does."""
    assert in_either_form({7: "seven", "8": "eight", "gen_9": "nine"}, asked) == found


def test_errors_are_told_apart_by_identity() -> None:
    """Two errors with the same words are two errors, and each can stand in a set."""
    assert len({filled(RateLimitError), filled(RateLimitError)}) == 2


RECORDS = [
    REQUEST,
    GENERATION,
    Balance(token_balance=283, plan="vip", extra={"bonus_tokens": 1}),
    Outcome(request=REQUEST, key="one", index=3, generation=GENERATION, path=Path("results/one.png")),
    RateLimit(limit_hour=100, remaining_hour=87),
    Requested(operation="get", status=200, seconds=0.2),
    Accepted(request=REQUEST, generation=GENERATION),
    Looked(generation=GENERATION),
    Paused(operation="get", seconds=5.0),
    Abandoned(request=REQUEST, generation=None, sent_at=1.0),
]


@pytest.mark.parametrize("value", RECORDS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("copied", COPIES, ids=[*map(str, range(6)), "copy", "deepcopy"])
def test_a_value_equals_its_copy_from_another_process(value: Any, copied: Callable[[Any], Any]) -> None:
    """Models, outcomes and events pickle whole, the raw reply too."""
    twin = copied(value)
    assert twin == value
    assert getattr(twin, "raw", None) == getattr(value, "raw", None)


@pytest.mark.parametrize("value", RECORDS, ids=lambda value: type(value).__name__)
def test_a_value_never_changes(value: Any) -> None:
    """What was read stays as it was read."""
    for each in fields(type(value)):
        with pytest.raises(FrozenInstanceError):
            setattr(value, each.name, None)


def test_retrying_and_failed_outcomes_pickle_with_their_errors() -> None:
    """What holds an error carries it along."""
    error = filled(RateLimitError)
    for value in (
        Retrying(operation="get", error=error, attempt=1, seconds=2.0),
        Outcome(request=REQUEST, key=None, index=0, error=error),
    ):
        twin = pickle.loads(pickle.dumps(value))  # noqa: S301 - our own pickle
        assert (twin.error.args, type(twin.error)) == (error.args, RateLimitError)


def test_what_was_learned_pickles() -> None:
    """Pacing and rate can be kept for the next run."""
    pacing = Pacing({"m": (1, 2)})
    pacing.learn("m", None, last=1.4, age=1.6, processing_ms=1500)
    twin = pickle.loads(pickle.dumps(pacing))  # noqa: S301 - our own pickle
    ask = {"age": 0.0, "last": 0.0, "look_price": 0.35}
    assert twin.seconds_until_look("m", None, **ask) == pacing.seconds_until_look("m", None, **ask)
    assert pickle.loads(pickle.dumps(Rate())) == Rate()  # noqa: S301 - our own pickle


def test_a_request_keeps_the_params_it_was_made_with() -> None:
    """Whoever goes on with the same mapping for the next request changes no earlier one, however deep."""
    params: dict[str, Any] = {"seed": 1, "messages": [{"role": "user", "content": "Hi"}], "size": (1, 2)}
    request, plain = GenerationRequest("gpt-5", "Hello", params), copy.deepcopy(params)
    params["seed"] = 2
    params["messages"][0]["content"] = "Bye"
    params["messages"].append({})
    assert request.params == plain


@pytest.mark.parametrize("value", [REQUEST, GENERATION], ids=["request", "generation"])
def test_requests_and_generations_can_stand_in_sets(value: Any) -> None:
    """Mappings inside do not make them unhashable."""
    assert len({value, copy.copy(value)}) == 1


@pytest.mark.parametrize(
    ("status", "done", "failed"),
    [("completed", True, False), ("failed", True, True), ("pending", False, False), ("Completed", False, False)],
)
def test_only_two_words_are_final(status: str, done: bool, failed: bool) -> None:  # noqa: FBT001
    """Completed and failed are final, whatever else means "not finished"."""
    generation = Generation(id=1, status=status)
    assert (generation.done, generation.failed) == (done, failed)


def test_a_notebook_shows_the_text_that_is_here() -> None:
    """IPython asks for a bundle of formats; what is shown is in memory already, and makes nothing fetch anything."""
    shown = Generation(id=7, status="completed", text="# Hello ![x](https://spy.test/x.png)")
    assert shown._repr_mimebundle_(include=None, exclude=None) == {"text/plain": shown.text}
    clip = Generation(id=8, status="completed", url="https://storage.neuralbox.top/8.mp4")
    assert clip._repr_mimebundle_() == {"text/plain": repr(clip)}

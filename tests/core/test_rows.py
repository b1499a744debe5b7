"""What an item is on disk: its steps, its key, and how it is written and read again."""

import json
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from attrs import evolve

from neuralbox_async import (
    APIStatusError,
    Generation,
    GenerationFailedError,
    GenerationRequest,
    LedgerError,
    NeuralBoxError,
    OutcomeUnknownError,
    RateLimitError,
    UsageError,
)
from neuralbox_async._core import api, rows
from neuralbox_async._core.rows import FOLLOWS, Row, Summary, digest, moved, row_key

SAMPLES = Path(__file__).parent.parent / "samples"
REQUEST = GenerationRequest("kling-v2.1", "A flower", {"duration": 5, "size": "big"})
GENERATION = Generation(id=7, status="completed", tokens_spent=26, raw={"id": 7, "status": "completed"})
STEPS = [(before, after) for before in rows.STATES for after in rows.STATES]


def row(**fields: Any) -> Row:
    """Return a row."""
    return Row(**{"number": 1, "key": "one", "index": 0, "state": "planned", "request": REQUEST, **fields})


# --- steps -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), STEPS, ids=[" to ".join(step) for step in STEPS])
def test_only_the_steps_in_the_table_are_taken(before: str, after: str) -> None:
    """Every other step is refused, with the steps that exist."""
    if after in FOLLOWS[before]:
        assert moved(row(state=before), after, at=9.0).state == after
        return
    with pytest.raises(LedgerError, match=f"'one' is {before} and cannot become {after}"):
        moved(row(state=before), after, at=9.0)


def test_no_step_leads_from_a_post_that_left_to_another_post() -> None:
    """What was sent is sent again only by way of a proof, a decision or a final failure."""
    assert [state for state in FOLLOWS if "sending" in FOLLOWS[state]] == ["planned"]
    assert [state for state in FOLLOWS if "planned" in FOLLOWS[state]] == ["sending", "in_doubt", "failed", "dropped"]


def test_sending_counts_and_remembers_what_reconciling_needs() -> None:
    """When the POST leaves, how high ids were, and that it was sent once more."""
    sent = moved(row(submissions=1), "sending", at=9.0, sent_at=8.5, after_id=18, reserved=26)
    assert (sent.sent_at, sent.after_id, sent.submissions, sent.reserved, sent.changed_at) == (8.5, 18, 2, 26, 9.0)
    doubtful = moved(sent, "in_doubt", at=10.0)
    assert (doubtful.sent_at, doubtful.after_id, doubtful.submissions, doubtful.reserved) == (8.5, 18, 2, 26)


def test_a_reservation_ends_when_the_cost_is_known() -> None:
    """Tokens stay set aside for what may cost, accepted or in doubt, and no longer."""
    accepted = moved(row(state="sending", reserved=26), "accepted", at=9.0, generation=GENERATION)
    assert (accepted.reserved, moved(accepted, "completed", at=9.0).reserved) == (26, None)
    assert moved(row(state="in_doubt", reserved=26), "dropped", at=9.0).reserved is None


def test_a_cost_that_the_service_does_not_say_stays_set_aside() -> None:
    """Done, and in a file: the price is all that is known of what it cost."""
    silent = evolve(GENERATION, tokens_spent=None)
    completed = moved(row(state="accepted", reserved=26), "completed", at=9.0, generation=silent)
    assert (completed.reserved, moved(completed, "saved", at=9.0).reserved) == (26, 26)


def test_a_generation_stays_until_the_item_is_planned_anew() -> None:
    """The last that is known of it goes with the row, error and path are what the last step says."""
    failed = moved(row(state="accepted", generation=GENERATION), "failed", at=9.0, error=NeuralBoxError("why"))
    assert (failed.generation, str(failed.error)) == (GENERATION, "why")
    again = moved(failed, "planned", at=9.0)
    assert (again.generation, again.error) == (None, None)
    saved = moved(row(state="completed", generation=GENERATION), "saved", at=9.0, path=Path("a.png"))
    assert (saved.path, moved(saved, "completed", at=9.0).path) == (Path("a.png"), None)


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "same",
    [
        GenerationRequest("kling-v2.1", "A flower", {"size": "big", "duration": 5}),
        GenerationRequest("kling-v2.1", "A flower", MappingProxyType({"duration": 5, "size": "big"})),
        evolve(REQUEST, key="mine", tag=object()),
    ],
    ids=["other order", "other mapping", "other key and tag"],
)
def test_the_same_request_has_the_same_digest(same: GenerationRequest) -> None:
    """Only what is sent counts, in whatever order."""
    assert digest(same) == digest(REQUEST)
    assert len(digest(REQUEST)) == 32


@pytest.mark.parametrize(
    "other",
    [
        evolve(REQUEST, model="kling-v2.2"),
        evolve(REQUEST, prompt="A flower "),
        evolve(REQUEST, params={"duration": 6, "size": "big"}),
        evolve(REQUEST, params={"duration": "5", "size": "big"}),
        evolve(REQUEST, params=None),
    ],
    ids=["model", "prompt", "value", "type", "none"],
)
def test_another_request_has_another_digest(other: GenerationRequest) -> None:
    """Whatever changes what is sent changes the digest."""
    assert digest(other) != digest(REQUEST)


def test_no_params_are_empty_params() -> None:
    """Both send none."""
    assert digest(evolve(REQUEST, params={})) == digest(evolve(REQUEST, params=None))


def test_params_with_names_of_several_kinds_have_a_digest() -> None:
    """Names that JSON turns into text are sorted as text."""
    params: Any = {1: "a", "b": 2}
    assert digest(evolve(REQUEST, params=params)) == digest(evolve(REQUEST, params={"b": 2, "1": "a"}))


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}], ids=["object", "nan", "set"])
def test_params_that_are_no_json_have_no_digest(value: object) -> None:
    """They could not be sent either."""
    with pytest.raises(UsageError, match="cannot be written as JSON"):
        digest(evolve(REQUEST, params={"size": value}))


def test_a_key_is_the_caller_s_or_says_which_repeat() -> None:
    """Two items that ask for the same are two items."""
    assert row_key(evolve(REQUEST, key="mine"), 3) == "mine"
    assert (row_key(REQUEST, 0), row_key(REQUEST, 1)) == (f"{digest(REQUEST)}-0", f"{digest(REQUEST)}-1")


# --- as text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        REQUEST,
        GenerationRequest("m", "p"),
        GenerationRequest("m", "\ud800 \0 \u2028 ☃", {"a": [1, {"b": None}]}, key="ключ", tag={"row": [1, "x"]}),
    ],
    ids=["usual", "short", "odd"],
)
def test_a_request_comes_back_as_it_was(request_: GenerationRequest) -> None:
    """With its key and its tag."""
    assert rows.read_request(rows.written_request(request_)) == request_


def test_a_tag_that_is_no_json_is_left_out() -> None:
    """The caller's own values are not the ledger's to keep."""
    assert rows.read_request(rows.written_request(evolve(REQUEST, tag=object()))) == REQUEST
    assert rows.read_request(rows.written_request(evolve(REQUEST, tag=(1, 2)))).tag == [1, 2]


@pytest.mark.parametrize(
    "name", [path.name for path in sorted(SAMPLES.glob("*_*.?.json")) if "balance" not in path.name]
)
def test_a_generation_comes_back_as_it_was(name: str) -> None:
    """It is kept as the reply it was read from, of either family."""
    body = (SAMPLES / name).read_bytes()
    look = api.generation(json.loads(body)["id"])
    generation = api.read(look, api.Answer(status=200, headers={}, body=body))
    again = rows.read_generation(rows.written_generation(generation))
    assert again == generation
    assert again.raw == json.loads(body)


def test_a_generation_made_by_hand_comes_back_as_it_was() -> None:
    """Without a reply to keep, one is made of its fields."""
    made = Generation(
        id="gen_1",
        status="failed",
        model="m",
        text="t",
        url="https://a.test/b",
        thumbnail_url="https://a.test/c",
        error="Busy",
        tokens_spent=0,
        processing_ms=5.5,
        metadata={"width": 5},
        progress=50.0,
        eta_seconds=3.0,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        completed_at=datetime(2026, 1, 2, tzinfo=UTC),
        extra={"new": [1]},
    )
    assert rows.read_generation(rows.written_generation(made)) == made


def test_an_accepting_answer_without_a_status_comes_back() -> None:
    """An id alone is an answer to a POST, and has to be kept."""
    answer = api.Answer(status=200, headers={}, body=b'{"id": 7}')
    accepted = api.read(api.generate(REQUEST), answer)
    again = rows.read_generation(rows.written_generation(accepted))
    assert (again.id, again.status) == (7, "unknown")


ERRORS: list[NeuralBoxError] = [
    NeuralBoxError("Why", billed="yes", retryable=True, retry_after=2.5, generation_id=7),
    RateLimitError("Slow down", retry_after=3.0, status_code=429, code="rate", body={"plan": "vip"}),
    APIStatusError("Odd", status_code=418, body={"nested": [1, None]}),
    GenerationFailedError("It failed", generation_id="gen_1", generation=GENERATION),
    OutcomeUnknownError("Who knows", billed="unknown", request=REQUEST, sent_at=8.5, after_id=18),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_comes_back_as_it_was(error: NeuralBoxError) -> None:
    """Of its own class, with all its fields; request and generation are the row's."""
    again = rows.read_error(rows.written_error(error), request=REQUEST, generation=GENERATION)
    assert type(again) is type(error)
    assert again.__reduce__() == error.__reduce__()


def test_an_error_of_a_foreign_class_comes_back_as_its_nearest() -> None:
    """A user's own subclass is not known to whoever reads the ledger."""

    class MyError(RateLimitError):
        pass

    again = rows.read_error(rows.written_error(MyError("Slow", status_code=429)), request=REQUEST, generation=None)
    assert (type(again), str(again)) == (RateLimitError, "Slow")
    newer = '{"class": "InventedLaterError", "message": "Why", "unheard": 1}'
    assert type(rows.read_error(newer, request=REQUEST, generation=None)) is NeuralBoxError


def test_a_summary_adds_up() -> None:
    """In all, in doubt, and what a resumed run would still do."""
    counts = {state: 2**place for place, state in enumerate(rows.STATES)}
    summary = Summary(counts=counts)
    assert (summary.total, summary.in_doubt) == (255, counts["in_doubt"])
    assert summary.unfinished == sum(counts[state] for state in ("planned", "sending", "in_doubt", "accepted"))

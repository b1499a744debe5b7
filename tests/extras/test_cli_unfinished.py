"""What is paid for and not reported: whatever order the client's events come in, each is known once."""

import pytest

from neuralbox_async import Abandoned, Accepted, Event, Generation, GenerationRequest, Looked
from neuralbox_async.extras.cli.report import interrupted
from neuralbox_async.extras.cli.unfinished import Taken, Unfinished

REQUEST = GenerationRequest("kling-v2.1", "A flower")
PENDING = Generation(id=7, status="pending")
FINAL = Generation(id=7, status="completed")


def abandoned(generation: Generation | None) -> Abandoned:
    """Return an event."""
    return Abandoned(request=REQUEST, generation=generation, sent_at=0.0)


def accepted() -> Accepted:
    """Return an event."""
    return Accepted(request=REQUEST, generation=PENDING)


@pytest.mark.parametrize(
    ("events", "known"),
    [
        ([accepted()], [PENDING]),
        ([abandoned(PENDING)], [PENDING]),
        ([accepted(), abandoned(PENDING)], [PENDING]),
        ([accepted(), Looked(generation=FINAL), abandoned(PENDING)], [FINAL]),
    ],
)
def test_taken(events: list[Event], known: list[Generation]) -> None:
    """A generation that the service has is known once, as it was last seen, and is not in doubt."""
    unfinished = Unfinished()
    unfinished.ask(REQUEST)
    for event in events:
        unfinished.hear(event)
    unfinished.cut_short()
    assert [each.generation for each in unfinished.taken.values()] == known
    assert unfinished.in_doubt == []


def test_in_doubt() -> None:
    """Only what was abandoned without an answer is in doubt, and once."""
    unfinished = Unfinished()
    unfinished.ask(REQUEST)
    unfinished.hear(abandoned(None))
    unfinished.cut_short()
    assert unfinished.in_doubt == [REQUEST]
    assert unfinished.taken == {}


def test_who_only_waited_asked_for_nothing() -> None:
    """A generation begun elsewhere stays one that we did not ask for."""
    unfinished = Unfinished(taken={7: Taken(request=None, generation=PENDING)})
    unfinished.hear(abandoned(PENDING))
    assert unfinished.taken[7].request is None


@pytest.mark.parametrize(
    ("status", "out", "kind", "billed", "hint"),
    [
        ("pending", None, "Interrupted", "unknown", "neuralbox wait 7"),
        ("pending", "clips/", "Interrupted", "unknown", "neuralbox wait 7 --out clips/"),
        ("completed", "clips/", "Interrupted", "yes", "neuralbox wait 7 --out clips/"),
        ("failed", "clips/", "GenerationFailedError", "no", None),
    ],
)
def test_interrupted(status: str, out: str | None, kind: str, billed: str, hint: str | None) -> None:
    """What nobody waits for any more says whether it is paid for, and how to get it where there is something to get."""
    problem = interrupted(Generation(id=7, status=status, error="no"), out)
    assert problem is not None
    assert (problem.type, problem.billed, problem.hint, problem.generation_id) == (kind, billed, hint, 7)


def test_a_completed_text_is_no_problem() -> None:
    """Where no file was asked for, all that was asked for is known."""
    assert interrupted(FINAL, None) is None

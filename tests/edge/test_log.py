"""The log: warnings for what may have cost tokens unseen, no prompts, no results, and no observer breaks anything."""

import logging

import pytest

from neuralbox_async import (
    Abandoned,
    Accepted,
    APIConnectionError,
    Event,
    Generation,
    GenerationRequest,
    Looked,
    Paused,
    Requested,
    Retrying,
)
from neuralbox_async._edge.log import hears_each_request, log, tell

REQUEST = GenerationRequest("kling-v2.1", "A private prompt", {"secret": "param"})
GENERATION = Generation(id=18500, status="pending", text="A private result")


@pytest.mark.parametrize(
    ("event", "level", "message"),
    [
        (
            Abandoned(request=REQUEST, generation=None, sent_at=1000.5),
            logging.WARNING,
            "a POST for kling-v2.1, sent at 1000.500, was cancelled before its answer came: it may be charged",
        ),
        (
            Abandoned(request=REQUEST, generation=GENERATION, sent_at=1000.5),
            logging.WARNING,
            "nobody waits any more for generation 18500 (kling-v2.1), which may be charged; wait for its id to have it",
        ),
        (Paused(operation="get", seconds=312.04), logging.INFO, "get waits 312.0 s for the plan's window to open"),
        (
            Retrying(operation="get", error=APIConnectionError("cut"), attempt=2, seconds=0.75),
            logging.INFO,
            "get: retry 2 in 0.8 s after APIConnectionError",
        ),
        (Accepted(request=REQUEST, generation=GENERATION), logging.DEBUG, "kling-v2.1 accepted as generation 18500"),
        (Looked(generation=GENERATION), logging.DEBUG, "generation 18500 is pending"),
        (Requested(operation="get", status=200, seconds=0.1234), logging.DEBUG, "get: 200 in 0.123 s"),
        (Requested(operation="get", status=None, seconds=30.0), logging.DEBUG, "get: no answer in 30.000 s"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_event_has_one_line(event: Event, level: int, message: str, caplog: pytest.LogCaptureFixture) -> None:
    """An event is one line of the logger "neuralbox_async", without prompt or result."""
    caplog.set_level(logging.DEBUG, "neuralbox_async")
    log(event)
    assert caplog.record_tuples == [("neuralbox_async", level, message)]
    assert "private" not in caplog.text


def test_what_the_log_would_drop_need_not_be_made(caplog: pytest.LogCaptureFixture) -> None:
    """Each request is told only to an observer of the user's own, or to a log that is open to debug lines."""
    caplog.set_level(logging.INFO, "neuralbox_async")
    assert not hears_each_request(log)
    assert hears_each_request(print)
    caplog.set_level(logging.DEBUG, "neuralbox_async")
    assert hears_each_request(log)


def test_an_observer_s_mistake_goes_no_further(caplog: pytest.LogCaptureFixture) -> None:
    """What an observer raises is logged with its traceback, and not raised."""

    def broken(event: Event) -> None:
        raise KeyError(event)

    tell(broken, Looked(generation=GENERATION))
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "the observer failed on Looked")
    assert record.exc_info is not None


def test_an_interrupt_in_an_observer_is_not_swallowed() -> None:
    """Ctrl-C works wherever it strikes."""

    def interrupted(_: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tell(interrupted, Looked(generation=GENERATION))

"""The log: the default observer, and the one place that keeps an observer's own mistakes away from what was paid for.

Logger "neuralbox_async": warnings for what may have cost tokens unseen, info for waiting, debug for the rest. No
prompt, no result and no key is ever logged.
"""

import logging
from collections.abc import Callable

from neuralbox_async._core.events import Abandoned, Accepted, Event, Looked, Paused, Requested, Retrying, Surplus
from neuralbox_async._core.models import Generation

Observer = Callable[[Event], None]
_LOGGER = logging.getLogger("neuralbox_async")


def log(event: Event) -> None:
    """Write an event to the log; the observer of a client that was given none."""
    match event:
        case Abandoned(request=request, generation=None, sent_at=sent_at):
            message = "a POST for %s, sent at %.3f, was cancelled before its answer came: it may be charged"
            _LOGGER.warning(message, request.model, sent_at)
        case Abandoned(request=request, generation=Generation() as generation):
            message = "nobody waits any more for generation %s (%s), which may be charged; wait for its id to have it"
            _LOGGER.warning(message, generation.id, request.model)
        case Surplus(generations=generations):
            ids = ", ".join(str(each.id) for each in generations)
            _LOGGER.warning("the history has more generations than were asked for, perhaps charged twice: %s", ids)
        case Paused(operation=operation, seconds=seconds):
            _LOGGER.info("%s waits %.1f s for the plan's window to open", operation, seconds)
        case Retrying(operation=operation, attempt=attempt, seconds=seconds, error=error):
            _LOGGER.info("%s: retry %d in %.1f s after %s", operation, attempt, seconds, type(error).__name__)
        case Accepted(request=request, generation=generation):
            _LOGGER.debug("%s accepted as generation %s", request.model, generation.id)
        case Looked(generation=generation):
            _LOGGER.debug("generation %s is %s", generation.id, generation.status)
        case Requested(operation=operation, status=status, seconds=seconds):
            _LOGGER.debug("%s: %s in %.3f s", operation, status or "no answer", seconds)


def hears_each_request(observe: Observer) -> bool:
    """Say whether an observer does anything with `Requested` and `Looked`, so that they need not be made for a log."""
    return observe is not log or _LOGGER.isEnabledFor(logging.DEBUG)


def tell(observe: Observer, event: Event) -> None:
    """Hand an event to an observer. What the observer raises is logged and goes no further."""
    try:
        observe(event)
    except Exception:  # an observer's mistake must not lose the id of a generation that is paid for
        _LOGGER.exception("the observer failed on %s", type(event).__name__)

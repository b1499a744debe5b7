"""What an observer may hear: one frozen record for each thing that happens, handed over as it happens.

`AsyncNeuralBox(observe=…)` takes any callable of one event. It is called in the event loop: it must not block.
"""

from attrs import frozen

from neuralbox_async._core.errors import NeuralBoxError
from neuralbox_async._core.models import Generation, GenerationRequest


@frozen(kw_only=True)
class Requested:
    """One HTTP request ended: with a status, or with none if no answer came. `seconds` is how long it took.

    Of what comes in pieces, a stream or a file, it is how long the answer took to begin.
    """

    operation: str
    status: int | None
    seconds: float


@frozen(kw_only=True)
class Accepted:
    """The service took a request: from here on `generation.id` leads to what was paid for."""

    request: GenerationRequest
    generation: Generation


@frozen(kw_only=True)
class Looked:
    """One look at a generation, final or not; the end that a stream has told is one too."""

    generation: Generation


@frozen(kw_only=True)
class Retrying:
    """A call failed without harm and is repeated after `seconds`; `attempt` counts from 1."""

    operation: str
    error: NeuralBoxError
    attempt: int
    seconds: float


@frozen(kw_only=True)
class Paused:
    """The plan's window is used up: this call waits `seconds` for it to open."""

    operation: str
    seconds: float


@frozen(kw_only=True)
class Abandoned:
    """Nobody waits any more for something that may cost tokens: its waiter was cancelled, or left a run.

    `generation` is the last that is known of it; None if its POST had left and no answer came within the grace: then
    the outcome is unknown, and `sent_at` says when the POST left, in Unix seconds.
    """

    request: GenerationRequest
    generation: Generation | None
    sent_at: float | None = None


@frozen(kw_only=True)
class Surplus:
    """The history shows more generations than were asked for: a POST may have been booked twice.

    They fit a request whose answer was lost, and that has found its own. Something else of your account may have asked
    for the same; else they are paid for and yours to download.
    """

    generations: tuple[Generation, ...]


Event = Requested | Accepted | Looked | Retrying | Paused | Abandoned | Surplus

"""What the service need not tell stays unknown; what would meet every item too is raised."""

from collections.abc import Awaitable
from typing import TypeVar

from neuralbox_async import APIConnectionError, NeuralBoxError
from neuralbox_async.extras.cli.exits import REFUSALS

T = TypeVar("T")


async def told(answer: Awaitable[T]) -> T | None:
    """Return an answer that a run can do without; None if the service does not give it.

    Raises a refusal of the key or the plan, and APIConnectionError for a service that cannot be reached.
    """
    try:
        return await answer
    except (*REFUSALS, APIConnectionError):
        raise
    except NeuralBoxError:
        return None

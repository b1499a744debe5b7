"""NeuralBox for asyncio and trio: one POST that costs tokens is never paid twice, and waiting takes few requests.

async with AsyncNeuralBox() as nb:                                   # the key is in NEURALBOX_API_KEY
    answer = await nb.generate("gpt-5", "Explain quantum computing in simple terms")
    print(answer.text, answer.tokens_spent)
"""

from importlib import import_module
from typing import TYPE_CHECKING

from neuralbox_async._client import AsyncNeuralBox
from neuralbox_async._core.account import Model, NewKey, Price, Profile, Secret, Settings, Stats, Usage
from neuralbox_async._core.budget import Budget
from neuralbox_async._core.errors import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ClientClosedError,
    GenerationFailedError,
    GenerationTimeoutError,
    InsufficientTokensError,
    InternalServerError,
    LedgerError,
    NeuralBoxError,
    NotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RateLimitError,
    ResponseError,
    UnprocessableEntityError,
    UsageError,
)
from neuralbox_async._core.events import Abandoned, Accepted, Event, Looked, Paused, Requested, Retrying, Surplus
from neuralbox_async._core.limits import Rate, RateLimit
from neuralbox_async._core.models import Balance, Generation, GenerationRequest, Head
from neuralbox_async._core.options import Extra
from neuralbox_async._core.pacing import Pacing
from neuralbox_async._core.rows import Row as LedgerRow
from neuralbox_async._core.rows import Summary as LedgerSummary

if TYPE_CHECKING:
    from neuralbox_async._bulk import Outcome
    from neuralbox_async._core.params import ImageParams, MusicParams, SpeechParams, TextParams, VideoParams
    from neuralbox_async._edge.ledger import Ledger
    from neuralbox_async._stream import TextStream

# What most programs do not use is loaded when it is asked for.
_LATER = {
    "ImageParams": "neuralbox_async._core.params",
    "Ledger": "neuralbox_async._edge.ledger",
    "MusicParams": "neuralbox_async._core.params",
    "Outcome": "neuralbox_async._bulk",
    "SpeechParams": "neuralbox_async._core.params",
    "TextParams": "neuralbox_async._core.params",
    "TextStream": "neuralbox_async._stream",
    "VideoParams": "neuralbox_async._core.params",
}

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIStatusError",
    "APITimeoutError",
    "Abandoned",
    "Accepted",
    "AsyncNeuralBox",
    "AuthenticationError",
    "BadRequestError",
    "Balance",
    "Budget",
    "BudgetExceededError",
    "ClientClosedError",
    "Event",
    "Extra",
    "Generation",
    "GenerationFailedError",
    "GenerationRequest",
    "GenerationTimeoutError",
    "Head",
    "ImageParams",
    "InsufficientTokensError",
    "InternalServerError",
    "Ledger",
    "LedgerError",
    "LedgerRow",
    "LedgerSummary",
    "Looked",
    "Model",
    "MusicParams",
    "NeuralBoxError",
    "NewKey",
    "NotFoundError",
    "Outcome",
    "OutcomeUnknownError",
    "Pacing",
    "Paused",
    "PermissionDeniedError",
    "Price",
    "Profile",
    "Rate",
    "RateLimit",
    "RateLimitError",
    "Requested",
    "ResponseError",
    "Retrying",
    "Secret",
    "Settings",
    "SpeechParams",
    "Stats",
    "Surplus",
    "TextParams",
    "TextStream",
    "UnprocessableEntityError",
    "Usage",
    "UsageError",
    "VideoParams",
]


def __getattr__(name: str) -> object:
    """Load what is loaded later."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)

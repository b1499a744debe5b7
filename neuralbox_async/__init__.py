"""NeuralBox for asyncio and trio: one POST that costs tokens is never paid twice, and waiting takes few requests.

async with AsyncNeuralBox() as nb:                                   # the key is in NEURALBOX_API_KEY
    answer = await nb.generate("gpt-5", "Explain quantum computing in simple terms")
    print(answer.text, answer.tokens_spent)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neuralbox_async._bulk import Outcome
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
    from neuralbox_async._core.params import ImageParams, MusicParams, SpeechParams, TextParams, VideoParams
    from neuralbox_async._core.rows import Row as LedgerRow
    from neuralbox_async._core.rows import Summary as LedgerSummary
    from neuralbox_async._edge.ledger import Ledger
    from neuralbox_async._stream import TextStream

# What each public name stands for; it is loaded when it is first asked for.
_LOADED_FROM = {
    "APIConnectionError": "neuralbox_async._core.errors.APIConnectionError",
    "APIError": "neuralbox_async._core.errors.APIError",
    "APIStatusError": "neuralbox_async._core.errors.APIStatusError",
    "APITimeoutError": "neuralbox_async._core.errors.APITimeoutError",
    "Abandoned": "neuralbox_async._core.events.Abandoned",
    "Accepted": "neuralbox_async._core.events.Accepted",
    "AsyncNeuralBox": "neuralbox_async._client.AsyncNeuralBox",
    "AuthenticationError": "neuralbox_async._core.errors.AuthenticationError",
    "BadRequestError": "neuralbox_async._core.errors.BadRequestError",
    "Balance": "neuralbox_async._core.models.Balance",
    "Budget": "neuralbox_async._core.budget.Budget",
    "BudgetExceededError": "neuralbox_async._core.errors.BudgetExceededError",
    "ClientClosedError": "neuralbox_async._core.errors.ClientClosedError",
    "Event": "neuralbox_async._core.events.Event",
    "Extra": "neuralbox_async._core.options.Extra",
    "Generation": "neuralbox_async._core.models.Generation",
    "GenerationFailedError": "neuralbox_async._core.errors.GenerationFailedError",
    "GenerationRequest": "neuralbox_async._core.models.GenerationRequest",
    "GenerationTimeoutError": "neuralbox_async._core.errors.GenerationTimeoutError",
    "Head": "neuralbox_async._core.models.Head",
    "ImageParams": "neuralbox_async._core.params.ImageParams",
    "InsufficientTokensError": "neuralbox_async._core.errors.InsufficientTokensError",
    "InternalServerError": "neuralbox_async._core.errors.InternalServerError",
    "Ledger": "neuralbox_async._edge.ledger.Ledger",
    "LedgerError": "neuralbox_async._core.errors.LedgerError",
    "LedgerRow": "neuralbox_async._core.rows.Row",
    "LedgerSummary": "neuralbox_async._core.rows.Summary",
    "Looked": "neuralbox_async._core.events.Looked",
    "Model": "neuralbox_async._core.account.Model",
    "MusicParams": "neuralbox_async._core.params.MusicParams",
    "NeuralBoxError": "neuralbox_async._core.errors.NeuralBoxError",
    "NewKey": "neuralbox_async._core.account.NewKey",
    "NotFoundError": "neuralbox_async._core.errors.NotFoundError",
    "Outcome": "neuralbox_async._bulk.Outcome",
    "OutcomeUnknownError": "neuralbox_async._core.errors.OutcomeUnknownError",
    "Pacing": "neuralbox_async._core.pacing.Pacing",
    "Paused": "neuralbox_async._core.events.Paused",
    "PermissionDeniedError": "neuralbox_async._core.errors.PermissionDeniedError",
    "Price": "neuralbox_async._core.account.Price",
    "Profile": "neuralbox_async._core.account.Profile",
    "Rate": "neuralbox_async._core.limits.Rate",
    "RateLimit": "neuralbox_async._core.limits.RateLimit",
    "RateLimitError": "neuralbox_async._core.errors.RateLimitError",
    "Requested": "neuralbox_async._core.events.Requested",
    "ResponseError": "neuralbox_async._core.errors.ResponseError",
    "Retrying": "neuralbox_async._core.events.Retrying",
    "Secret": "neuralbox_async._core.account.Secret",
    "Settings": "neuralbox_async._core.account.Settings",
    "SpeechParams": "neuralbox_async._core.params.SpeechParams",
    "Stats": "neuralbox_async._core.account.Stats",
    "Surplus": "neuralbox_async._core.events.Surplus",
    "TextParams": "neuralbox_async._core.params.TextParams",
    "TextStream": "neuralbox_async._stream.TextStream",
    "UnprocessableEntityError": "neuralbox_async._core.errors.UnprocessableEntityError",
    "Usage": "neuralbox_async._core.account.Usage",
    "UsageError": "neuralbox_async._core.errors.UsageError",
    "VideoParams": "neuralbox_async._core.params.VideoParams",
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


if not TYPE_CHECKING:  # or type checkers would take every wrong name for an object

    def __getattr__(name: str) -> object:
        """Load a public name when it is first asked for; from then on it is here."""
        if name not in _LOADED_FROM:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, _, its_name = _LOADED_FROM[name].rpartition(".")
        globals()[name] = found = getattr(import_module(module), its_name)
        return found


def __dir__() -> list[str]:
    """Name what is here and what is loaded when it is asked for."""
    return sorted({*globals(), *__all__})

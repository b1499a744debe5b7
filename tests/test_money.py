"""Where money could slip between two parts of the package: budgets, doubts and ledgers that meet in one client."""

from typing import Any

import pytest

from neuralbox_async import Budget, GenerationRequest
from neuralbox_async.sandbox import Sandbox, faults

pytestmark = pytest.mark.anyio
CLIP = GenerationRequest("luma-ray2-flash", "A flower", key="clip")  # 15 tokens in the sandbox


def rich(**options: Any) -> Sandbox:
    """Return a sandbox with no limits but those asked for."""
    return Sandbox(**{"plan": "elite", "balance": 1_000_000, **options})


async def test_a_found_generation_is_settled_once() -> None:
    """The history shows it completed; its price is not given back twice."""
    sandbox, budget = rich(), Budget(100)
    sandbox.order(faults.lost())
    async with sandbox.client() as nb, nb.generate_many([GenerationRequest("gpt-5", "Hi")], budget=budget) as outcomes:
        (outcome,) = [each async for each in outcomes]
    assert outcome.error is None
    assert (budget.reserved, budget.spent) == (0, 2)


async def test_one_budget_of_client_and_run_counts_once() -> None:
    """Handed to both, it is still one budget."""
    sandbox, budget = rich(), Budget(15)
    async with sandbox.client(budget=budget) as nb, nb.generate_many([CLIP], budget=budget) as outcomes:
        (outcome,) = [each async for each in outcomes]
    assert outcome.error is None
    assert (budget.reserved, budget.spent) == (0, 15)

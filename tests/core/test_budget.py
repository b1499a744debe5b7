"""A budget refuses what does not fit; what it remembers is bounded, and what it forgets stays set aside."""

from weakref import WeakSet

import pytest

from neuralbox_async import Budget, BudgetExceededError, Generation, GenerationRequest
from neuralbox_async._core.budget import MOST_REMEMBERED, MOST_SETTLED, Reservation, Reservations

ORIGIN = "https://api.test"


def set_aside(count: int) -> Budget:
    """Return a budget that has set aside a token for each of so many generations."""
    budget = Budget(count)
    budget.hold(count)
    for number in range(count):
        budget.bind((ORIGIN, number), 1)
    return budget


@pytest.mark.parametrize(("price", "said"), [(1, "may cost 1 token, and"), (2, "may cost 2 tokens, and")])
def test_what_does_not_fit_is_refused(price: int, said: str) -> None:
    """The message has the price, and what is left."""
    budget = Budget(0)
    with pytest.raises(BudgetExceededError, match=f"{said} the budget of 0 has 0 left"):
        budget.reserve(price, GenerationRequest("gpt-5-nano", "Hello"))
    assert budget.reserved == 0


def test_what_nobody_waits_for_does_not_fill_the_memory() -> None:
    """The newest are settled as ever; the price of the oldest stays set aside, as if nobody had seen its end."""
    budget = set_aside(MOST_REMEMBERED + 1)
    budget.settle((ORIGIN, MOST_REMEMBERED), spent=1)
    assert (budget.reserved, budget.spent) == (MOST_REMEMBERED, 1)
    budget.settle((ORIGIN, 0), spent=1)
    assert (budget.reserved, budget.spent) == (MOST_REMEMBERED, 1)


def test_what_was_settled_is_forgotten_in_the_end() -> None:
    """A ledger that comes back with it counts only the oldest twice, and what is left of the budget stays the same."""
    budget = set_aside(MOST_SETTLED + 1)
    for number in range(MOST_SETTLED + 1):
        budget.settle((ORIGIN, number), spent=1)
    assert (budget.reserved, budget.spent) == (0, MOST_SETTLED + 1)
    for number in (1, MOST_SETTLED):
        budget.resume((ORIGIN, number), 1)
        budget.settle((ORIGIN, number), spent=1)
    assert budget.spent == MOST_SETTLED + 1
    budget.resume((ORIGIN, 0), 1)
    budget.settle((ORIGIN, 0), spent=1)
    assert (budget.spent, budget.left) == (MOST_SETTLED + 2, 0)


@pytest.mark.parametrize("found", [None, Generation(id=7, status="completed", tokens_spent=0)], ids=["absent", "found"])
def test_lost_answers_do_not_fill_the_memory(found: Generation | None) -> None:
    """The newest come back when they are reconciled; the price of the oldest stays set aside."""
    budget = Budget(MOST_REMEMBERED + 1)
    budget.hold(MOST_REMEMBERED + 1)
    reservations, one = Reservations(ORIGIN, WeakSet()), Reservation(1, [budget])
    for number in range(MOST_REMEMBERED + 1):
        reservations.doubt(float(number), one)
    for number in (MOST_REMEMBERED, 0):
        reservations.reconcile(float(number), found)
        assert budget.reserved == MOST_REMEMBERED


def test_what_a_run_left_in_doubt_does_not_fill_the_memory() -> None:
    """The latest are settled by the next run; the oldest are forgotten."""
    budget = Budget(0)
    budget.leave("run.db", dict.fromkeys(map(str, range(MOST_REMEMBERED + 1)), 1))
    left = budget.in_doubt("run.db")
    assert (len(left), "0" in left, f"{MOST_REMEMBERED}" in left) == (MOST_REMEMBERED, False, True)

"""A budget of tokens: a price is set aside before its POST leaves, and becomes what it really cost when that is known.

What is in doubt stays set aside: it may have been charged.
"""

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from weakref import WeakSet

from attrs import Attribute, define, field, frozen

from neuralbox_async._core.errors import BudgetExceededError, UsageError
from neuralbox_async._core.models import Generation, GenerationRequest, Id, identity

# What nobody waits for must not fill the memory; the oldest is forgotten first, and its price stays set aside.
MOST_REMEMBERED: Final = 200_000
# Of those only who left a run and waited by himself, before running it again, needs to hear.
MOST_SETTLED: Final = 10_000

# An id (by `identity`), and the address of the service that it is of: a budget may be shared by clients of several.
Name = tuple[str, Id]


def _check(_: "Budget", __: "Attribute[int]", tokens: object) -> None:
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0:
        raise UsageError(f"Budget(tokens=…) takes a whole number of 0 or more, not {tokens!r}.")


@define(eq=False)
class Budget:
    """The most tokens that may be spent; hand the same one to clients and runs that share it.

    Attributes:
        tokens: The limit.
        spent: What known generations have cost.
        reserved: What those may cost that are under way or in doubt.
    """

    tokens: int = field(validator=_check)
    spent: int = field(default=0, init=False)
    reserved: int = field(default=0, init=False)
    _runs: dict[str, dict[str, int]] = field(factory=dict[str, dict[str, int]], init=False, repr=False)
    _open: dict[Name, int] = field(factory=dict[Name, int], init=False, repr=False)
    _settled: dict[Name, None] = field(factory=dict[Name, None], init=False, repr=False)

    @property
    def left(self) -> int:
        """Tokens that nothing has spent or set aside; below 0 if something cost more than its price."""
        return self.tokens - self.spent - self.reserved

    def reserve(self, price: int, request: GenerationRequest) -> None:
        """Set a price aside, or raise BudgetExceededError."""
        if price > self.left:
            raise BudgetExceededError(
                f"{request.model} may cost {price} token{'' if price == 1 else 's'}, and the budget of {self.tokens} "
                f"has {max(0, self.left)} left ({self.spent} spent, {self.reserved} set aside). It was not sent; pass "
                "a larger budget if it shall be."
            )
        self.reserved += price

    def release(self, price: int, *, spent: int = 0) -> None:
        """Give back what was set aside, less what was spent."""
        self.reserved -= price
        self.spent += spent

    def hold(self, price: int) -> None:
        """Set a price aside for what was sent already, also beyond the limit."""
        self.reserved += price

    def take_over(
        self,
        run: str,
        *,
        spent: int,
        reserved: int,
        since: Mapping[str, tuple[int, int]],
        doubts: Mapping[str, int],
        begun: Mapping[str, tuple[Name, int]],
    ) -> None:
        """Take in what others have done with a run's ledger: all of it at first, later what is not final there.

        Args:
            run: Which ledger it is.
            spent: What all of its items have cost.
            reserved: What is set aside for all of them.
            since: What each item of `in_doubt` that it has still has cost, and what is set aside for it by now.
            doubts: What is set aside for each item in doubt.
            begun: Which generation each accepted item is, and what is set aside for it.
        """
        left = self._runs.get(run, {})
        others = dict(each for key, each in begun.items() if key not in left and not self._knows(each[0]))
        if run not in self._runs:
            self.release(-reserved, spent=spent)
        else:
            for key, (its_spent, its_reserved) in since.items():
                self.release(left[key] - its_reserved, spent=its_spent)
            self.hold(sum(others.values()) + sum(price for key, price in doubts.items() if key not in left))
        for name, price in others.items():
            self.bind(name, price)
        self._runs[run] = {}

    def leave(self, run: str, doubts: Mapping[str, int]) -> None:
        """Take in what is set aside for each item that a run leaves in doubt, by its key: others may settle it."""
        self._runs[run] = dict(deque(doubts.items(), MOST_REMEMBERED))

    def in_doubt(self, run: str) -> Collection[str]:
        """Return the keys of the items that a run has left in doubt."""
        return self._runs.get(run, {})

    def bind(self, name: Name, price: int) -> None:
        """Take in which generation something is set aside for; of two POSTs that led to one generation, both prices."""
        if name not in self._open:
            _make_room(self._open, MOST_REMEMBERED)
        self._open[name] = self._open.get(name, 0) + price

    def resume(self, name: Name, price: int) -> None:
        """Take in what a ledger says is set aside, unless that is known, or has been settled since."""
        if not self._knows(name):
            self.bind(name, price)

    def _knows(self, name: Name) -> bool:
        return name in self._open or name in self._settled

    def settle(self, name: Name, *, spent: int | None) -> None:
        """Let what a generation has cost (None: nobody knows) take the place of its price, if there is one; once."""
        price = self._open.pop(name, None)
        if price is None:
            return
        _make_room(self._settled, MOST_SETTLED)
        self._settled[name] = None
        self.release(price, spent=price if spent is None else spent)


@frozen(eq=False, repr=False)
class Reservation:
    """One price, set aside in several budgets."""

    price: int
    budgets: Sequence[Budget]

    def release(self, *, spent: int = 0) -> None:
        """Give it back to each budget, less what was spent."""
        for budget in self.budgets:
            budget.release(self.price, spent=spent)


@define(eq=False, repr=False)
class Reservations:
    """What a client, with all of its views, settles in the budgets that it has met.

    Attributes:
        origin: Where its generations are.
        budgets: Those that it has met, as long as somebody else holds them.
        dearest: The most that a generation of each model has cost.
    """

    origin: str
    budgets: "WeakSet[Budget]"
    _in_doubt: dict[float, Reservation] = field(factory=dict[float, Reservation], init=False)
    dearest: dict[str, int] = field(factory=dict[str, int], init=False)

    def bind(self, generation: Generation, reservation: Reservation) -> None:
        """Take in for which generation a price is set aside."""
        for budget in reservation.budgets:
            self.budgets.add(budget)
            budget.bind(self.name(generation), reservation.price)
        self.see(generation)

    def resume(self, generation: Generation, reservation: Reservation) -> None:
        """Take in what a ledger says is set aside, but in budgets that have settled it since."""
        for budget in reservation.budgets:
            self.budgets.add(budget)
            budget.resume(self.name(generation), reservation.price)
        self.see(generation)

    def doubt(self, sent_at: float, reservation: Reservation) -> None:
        """Take in that the answer to a POST was lost which no file records; its moment tells it from all others."""
        _make_room(self._in_doubt, MOST_REMEMBERED)
        self._in_doubt[sent_at] = reservation

    def reconcile(self, sent_at: float, found: Generation | None) -> None:
        """Take in what the history has shown that such a POST led to; None: nothing, so its price comes back."""
        reservation = self._in_doubt.pop(sent_at, None)
        if reservation is not None and found is not None:
            self.bind(found, reservation)
        elif reservation is not None:
            reservation.release()

    def see(self, generation: Generation) -> None:
        """Settle the price of a generation that is final, whoever has submitted it."""
        if not generation.done:
            return
        spent = 0 if generation.failed else generation.tokens_spent
        if spent is not None and generation.model is not None:
            self.dearest[generation.model] = max(spent, self.dearest.get(generation.model, 0))
        for budget in list(self.budgets) if self.budgets else ():
            budget.settle(self.name(generation), spent=spent)

    def name(self, generation: Generation) -> Name:
        """Return what tells a generation from all others."""
        return self.origin, identity(generation.id)


def _make_room(kept: dict[Any, Any], most: int) -> None:
    if len(kept) >= most:
        del kept[next(iter(kept))]

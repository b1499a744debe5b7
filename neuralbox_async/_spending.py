"""What a budget must know: the price is asked for once, set aside before a POST leaves, given back if it did not.

The price of a request is what the service calculates for its model and params; else what the model costs at most; else
the most that one of this model has cost.
"""

from typing import Final

import anyio
from attrs import define, field

from neuralbox_async._core import api
from neuralbox_async._core.budget import Budget, Reservation
from neuralbox_async._core.errors import (
    APIError,
    AuthenticationError,
    BudgetExceededError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RateLimitError,
)
from neuralbox_async._core.models import Generation, GenerationRequest
from neuralbox_async._edge import clock
from neuralbox_async._edge.http import READ_TIMEOUT, Http
from neuralbox_async._edge.once import Trail

MOST_PRICES: Final = 10_000


@define(eq=False, repr=False)
class Prices:
    """What requests cost, as far as it was asked for; shared by all views of a client.

    Attributes:
        most: How many prices are remembered; the oldest is forgotten first, and asked for again.
    """

    most: int = MOST_PRICES
    _known: dict[str, int] = field(factory=dict[str, int], init=False)
    _asked: dict[str, anyio.Event] = field(factory=dict[str, anyio.Event], init=False)

    async def of(self, request: GenerationRequest, http: Http, *, deadline: float) -> int:
        """Return the tokens that a request may cost; those who want the same at once share one answer.

        The deadline is loop time. Raises BudgetExceededError if nobody knows, and APIError if no answer came.
        """
        from neuralbox_async._core.rows import digest  # noqa: PLC0415 - loaded by those who have a budget

        wanted = digest(GenerationRequest(request.model, "", request.params))
        if wanted not in self._known and wanted in self._asked:
            with anyio.move_on_after(deadline - clock.now()):
                await self._asked[wanted].wait()
        if wanted not in self._known:
            price = await self._ask(wanted, request, http, deadline)
            if len(self._known) >= self.most:
                del self._known[next(iter(self._known))]
            self._known[wanted] = price
            return price
        return self._known[wanted]

    async def _ask(self, wanted: str, request: GenerationRequest, http: Http, deadline: float) -> int:
        answered = self._asked.setdefault(wanted, anyio.Event())
        try:
            while True:
                try:
                    return await _ask(request, http, deadline)
                except RateLimitError:
                    await http.wait_for_window("price", paid=False, deadline=deadline)
        finally:
            answered.set()
            self._asked.pop(wanted, None)


async def _ask(request: GenerationRequest, http: Http, deadline: float) -> int:
    try:
        return (await http.send(api.price(request.model, request.params, 1), deadline=_soon(deadline))).tokens
    except (AuthenticationError, PermissionDeniedError, RateLimitError):
        raise
    except APIError as error:
        reason = error
    try:
        dearest = (await http.send(api.model(request.model), deadline=_soon(deadline))).max_token_cost
    except APIError:
        dearest = None
    dearest = http.reservations.dearest.get(request.model) if dearest is None else dearest
    if dearest is not None:
        return dearest
    if reason.retryable:
        raise reason  # the service is away, which says nothing of prices
    raise BudgetExceededError(
        f"Nobody knows what {request.model} costs ({reason}), so no budget can be kept. It was not sent; leave the "
        "budget out if you want it all the same."
    )


def _soon(deadline: float) -> float:
    return min(deadline, clock.now() + READ_TIMEOUT)


def set_aside(trail: Trail, request: GenerationRequest, reservation: Reservation, http: Http) -> Trail:
    """Return a trail that holds a price in budgets for as long as its POST may have cost it."""
    held: list[Budget] = []

    def release() -> None:
        for budget in held:
            budget.release(reservation.price)
        held.clear()

    async def sending(after_id: int | None) -> None:
        for budget in reservation.budgets:
            budget.reserve(reservation.price, request)
            held.append(budget)
        await trail.sending(after_id)

    async def settled(came: object) -> None:
        if isinstance(came, Generation):
            http.reservations.bind(came, reservation)
            held.clear()
        elif not isinstance(came, OutcomeUnknownError):
            release()
        elif not trail.is_written:  # else the ledger has it
            http.reservations.doubt(came.sent_at, reservation)
            held.clear()
        await trail.settled(came)

    return Trail(sending=sending, settled=settled, is_written=trail.is_written)

"""The steps that a single call and a bulk run share: submit, finish, reconcile, fetch. Deadlines are in loop time."""

import math
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from neuralbox_async._core.api import Call
from neuralbox_async._core.budget import Budget, Reservation
from neuralbox_async._core.errors import APIError, ClientClosedError, GenerationFailedError, UsageError
from neuralbox_async._core.events import Abandoned, Accepted
from neuralbox_async._core.known import Intent
from neuralbox_async._core.models import COMPLETED, Generation, GenerationRequest, Id
from neuralbox_async._edge import clock
from neuralbox_async._edge.http import READ_TIMEOUT, Exchange, Http
from neuralbox_async._edge.once import NO_TRAIL, Trail
from neuralbox_async._following import Following
from neuralbox_async._looks import Looks
from neuralbox_async._spending import Prices, set_aside
from neuralbox_async._watches import Watch

if TYPE_CHECKING:  # loaded when they are used
    from neuralbox_async._edge.files import Source
    from neuralbox_async._reconcile import Doubts

# Most bytes that a result may have, if nobody says otherwise.
MOST_BYTES: Final = 2_000_000_000


@frozen(kw_only=True, eq=False, repr=False)
class Steps:
    """What can be done with one generation.

    Attributes:
        http: Sends.
        looks: Looks.
        prices: What requests cost; asked for where there is a budget.
        budgets: The budgets that each POST must fit into.
    """

    http: Http
    looks: Looks
    prices: Prices
    budgets: Sequence[Budget]

    async def submit(
        self,
        request: GenerationRequest,
        call: Call[Generation],
        *,
        deadline: float,
        timeout: float = math.inf,
        trail: Trail = NO_TRAIL,
        exchange: Exchange | None = None,
    ) -> Generation:
        """Send the one POST that costs tokens; `timeout` is its own, when waiting for its turn is not to count.

        `exchange` sends it, if it is to be sent in another way than whole.
        """
        trail = await self.within_budgets(trail, request, deadline=deadline)
        generation = await self.http.send(call, deadline=deadline, timeout=timeout, trail=trail, exchange=exchange)
        self.looks.jobs.remember(request, generation)
        self.http.tell(Accepted(request=request, generation=generation))
        return generation

    async def within_budgets(self, trail: Trail, request: GenerationRequest, *, deadline: float) -> Trail:
        """Return a trail whose POST leaves only if its price fits into every budget; raises what `price` raises."""
        if not self.budgets:
            return trail
        price = await self.price(request, deadline=deadline)
        return set_aside(trail, request, Reservation(price, self.budgets), self.http)

    async def price(self, request: GenerationRequest, *, deadline: float) -> int:
        """Return the tokens that a request may cost; raises BudgetExceededError if nobody knows."""
        return await self.prices.of(request, self.http, deadline=deadline)

    def final(self, subject: Generation | Id, *, deadline: float) -> Awaitable[Generation]:
        """Wait until a generation is completed or failed; raises GenerationTimeoutError."""
        return Following(self.looks, subject, deadline=deadline).until(Watch.is_final)

    async def finish(self, subject: Generation | Id, *, deadline: float) -> Generation:
        """Wait until a generation is completed; raises GenerationFailedError, GenerationTimeoutError."""
        try:
            final = await self.final(subject, deadline=deadline)
        except ClientClosedError as error:
            failure = error
        else:
            raise_if_failed(final)
            return final
        raise goes_on(failure, subject) if isinstance(subject, Generation) else failure

    async def finish_own(self, request: GenerationRequest, accepted: Generation, *, deadline: float) -> Generation:
        """Wait until what this very call has submitted is completed; if it is cancelled, tell of what goes on."""
        try:
            return await self.finish(accepted, deadline=deadline)
        except Exception:
            raise
        except BaseException:  # cancelled: the caller does not know the id
            self.abandon(request, accepted)
            raise

    async def reconcile(self, doubts: "Doubts", intent: Intent, *, settle: float | None) -> Generation | None:
        """Return what the history shows that a lost POST has led to; None if it has led to nothing.

        `settle` is how many seconds after the POST its absence proves that; None: as long as the model was known to
        take, and an answer on top.
        """
        request = intent.request
        if settle is None:
            longest = self.looks.pacing.longest_seconds(request.model, request.params, now=clock.now())
            settle = longest + READ_TIMEOUT
        found = await doubts.settle(intent, settle=settle, deadline=math.inf)
        if found is not None:
            self.looks.jobs.remember(request, found)
        return found

    async def whole(self, entry: Generation) -> Generation:
        """Look at what the history shows as completed, as entries lack fields; the entry itself if no look succeeds."""
        if entry.status != COMPLETED:
            return entry
        try:
            return await self.looks.look(entry.id, deadline=clock.now() + READ_TIMEOUT)
        except APIError:
            return entry

    def source(self, generation: Generation, *, deadline: float, most: int = MOST_BYTES) -> "Source":
        """Return where the result of a completed generation comes from; of any other there is none."""
        from neuralbox_async._edge.files import Source  # noqa: PLC0415

        raise_if_failed(generation)
        if not generation.done:
            raise UsageError(
                f"Generation {generation.id} is {generation.status}; await nb.wait({generation.id!r}) first.",
                generation_id=generation.id,
            )
        return Source(http=self.http, generation=generation, deadline=deadline, most=most)

    def abandon(
        self, request: GenerationRequest, generation: Generation | None, *, sent_at: float | None = None
    ) -> None:
        """Tell that nobody waits any more for something that may cost tokens."""
        self.http.tell(Abandoned(request=request, generation=generation, sent_at=sent_at))


def goes_on(closed: ClientClosedError, accepted: Generation | Id) -> ClientClosedError:
    """Say of a client that was closed under a waiter what he has waited for: it goes on, and may cost tokens."""
    generation_id = accepted.id if isinstance(accepted, Generation) else accepted
    return evolve(closed, billed="unknown", generation_id=generation_id)


def raise_if_failed(generation: Generation) -> None:
    """Raise GenerationFailedError for a failed generation."""
    if generation.failed:
        reason = generation.error or "the service gives no reason"
        raise GenerationFailedError(
            f"Generation {generation.id} failed: {reason}. Nothing was charged; change the prompt or the model.",
            generation_id=generation.id,
            generation=generation,
        )

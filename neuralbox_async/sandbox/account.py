"""A job reserves its price when booked, pays when completed, and costs nothing when it fails (contract §12)."""

import heapq
from collections.abc import Mapping
from typing import Any, Final, Literal

from attrs import define, field, frozen

from neuralbox_async.sandbox.catalogue import Model

Status = Literal["pending", "completed", "failed"]

# Clocks round: an answer that waits for its job comes this many seconds later, so that no clock says it is too early.
INSTANT: Final = 1e-8


@frozen(kw_only=True)
class Job:
    """One generation, its whole future known when it is booked; times are client seconds since the world began."""

    id: int | str
    model: Model
    prompt: str
    params: Mapping[str, Any]
    price: int
    created: float
    due: float
    error: str | None

    def status(self, now: float) -> Status:
        """Return how the job stands."""
        if now < self.due:
            return "pending"
        return "completed" if self.error is None else "failed"

    @property
    def cost(self) -> int:
        """Return the tokens it costs in the end."""
        return self.price if self.error is None else 0


@frozen(kw_only=True)
class Charge:
    """Tokens taken for one completed generation."""

    generation_id: int | str
    model: str
    prompt: str
    tokens: int


@define(kw_only=True)
class Account:
    """The tokens of the one user, what is reserved of them, and every charge made."""

    tokens: int
    reserved: int = 0
    charges: list[Charge] = field(factory=list[Charge])
    _pending: list[tuple[float, int, Job]] = field(factory=list[tuple[float, int, Job]], init=False)
    _booked: int = field(default=0, init=False)

    def affords(self, price: int) -> bool:
        """Say whether the tokens that nothing else has reserved suffice."""
        return self.tokens - self.reserved >= price

    def reserve(self, job: Job) -> None:
        """Set the price aside until the job is due."""
        self._booked += 1
        self.reserved += job.price
        heapq.heappush(self._pending, (job.due, self._booked, job))

    def settle(self, now: float) -> None:
        """Release and charge everything that is due by now."""
        while self._pending and self._pending[0][0] <= now:
            job = heapq.heappop(self._pending)[2]
            self.reserved -= job.price
            self.charge(job)

    def charge(self, job: Job) -> None:
        """Take the tokens of a finished job; nothing for a failed one."""
        if job.error is None:
            self.tokens -= job.cost
            charge = Charge(generation_id=job.id, model=job.model.slug, prompt=job.prompt, tokens=job.cost)
            self.charges.append(charge)

"""The life of one item of a bulk run: from wherever its row stands, step by step, each on disk before the next begins.

Between two steps the process may be killed, and whoever opens the ledger next goes on from there.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Unpack

from attrs import evolve, frozen

from neuralbox_async._core import api, rows
from neuralbox_async._core.budget import Reservation
from neuralbox_async._core.errors import (
    APIError,
    APIStatusError,
    Billed,
    ClientClosedError,
    GenerationFailedError,
    GenerationTimeoutError,
    LedgerError,
    NeuralBoxError,
    OutcomeUnknownError,
    RateLimitError,
    UsageError,
)
from neuralbox_async._core.known import Intent
from neuralbox_async._core.models import Generation, Id
from neuralbox_async._core.rows import Changes, Row
from neuralbox_async._edge import clock, files
from neuralbox_async._edge.once import Trail
from neuralbox_async._reconcile import Doubts
from neuralbox_async._steps import Steps, goes_on, raise_if_failed

if TYPE_CHECKING:  # SQLite is loaded by those who run many
    from neuralbox_async._edge.ledger import LedgerWriter

# What the service says of one request alone; any other refusal would meet the next item too, or passes.
OWN_REFUSALS: Final = frozenset({400, 404, 413, 414, 415, 422, 431})


@frozen(kw_only=True)
class Wishes:
    """What the items of a run are to come to.

    Attributes:
        seconds: What an item may take from its POST on: the answer, the waiting, the download.
        folder: Where results are saved; None if nobody asked for files.
        settle: Seconds after a lost POST that its absence from the history proves something; None: by the model.
        absent: The state of an item whose POST has led to nothing: planned again, or still in doubt.
    """

    seconds: float
    folder: Path | None
    settle: float | None
    absent: str


@frozen(kw_only=True, eq=False, repr=False)
class Shared:
    """What all items of a run share.

    Attributes:
        steps: What can be done with a generation.
        ledger: Where each step is written down.
        doubts: What is looked for in the history.
        wishes: What the items are to come to.
        may_submit: Waits, however long, until the plan and the run let a submission through; raises what ends the run.
    """

    steps: Steps
    ledger: "LedgerWriter"
    doubts: Doubts
    wishes: Wishes
    may_submit: Callable[[], Awaitable[None]]


class Life:
    """One item on its way; `row` is where it stands."""

    __slots__ = ("_began", "_shared", "_subject", "row")  # each of many that wait holds one

    def __init__(self, row: Row, shared: Shared) -> None:
        self.row = row
        self._shared = shared
        # One accepted in this process has an age that is known; any other is looked at at once.
        self._subject: Generation | Id | None = None if row.generation is None else row.generation.id
        # Its clock: when it began, less the time for which the plan's window had been closed by then.
        self._began: float | None = None

    def step(self) -> Awaitable[bool]:
        """Take the next step, and answer whether there may be another; raises what stops the item where it stands."""
        steps: Mapping[str, Callable[[], Awaitable[bool]]] = {
            rows.PLANNED: self._submit,
            rows.IN_DOUBT: self._reconcile,
            rows.ACCEPTED: self._finish,
            rows.COMPLETED: self._save,
            rows.SAVED: self._check_file,
            rows.FAILED: self._tell_why,
            rows.DROPPED: self._tell_why,
        }
        return steps[self.row.state]()

    async def _move(self, to: str, **changes: Unpack[Changes]) -> bool:
        try:
            self.row = await self._shared.ledger.move(self.row, to, **changes)
        except LedgerError as error:
            failure = error
        else:
            return True
        raise _about(failure, changes.get("generation") or self.row.generation)

    # --- planned, sending --------------------------------------------------------------------------------------------

    async def _submit(self) -> bool:
        """Send the request, again after each closed window."""
        while True:
            await self._shared.may_submit()
            try:
                trail = Trail(sending=self._sending, settled=self._settled)
                seconds = self._shared.wishes.seconds
                request = self.row.request
                call = api.generate(request)
                await self._shared.steps.submit(request, call, deadline=math.inf, timeout=seconds, trail=trail)
            except RateLimitError:
                continue  # the whole client is paused until the window opens, so this does not spin
            except OutcomeUnknownError:
                return True  # written down by now
            except (UsageError, APIStatusError) as error:
                if isinstance(error, UsageError) or error.status_code in OWN_REFUSALS:
                    await self._move(rows.FAILED, error=error)
                raise
            return True

    async def _sending(self, after_id: int | None) -> None:
        price = None
        if self._shared.steps.budgets:
            price = await self._shared.steps.price(self.row.request, deadline=clock.now() + self._shared.wishes.seconds)
        known = self._shared.steps.http.known
        sent_at = known.moment(clock.wall())
        await self._move(rows.SENDING, sent_at=sent_at, after_id=after_id, ahead=known.ahead, reserved=price)
        self._began = None
        self._ends()

    async def _settled(self, came: object) -> None:
        """Write down what a POST came to; one that cannot be written is known here all the same."""
        if self.row.state != rows.SENDING:
            return
        if isinstance(came, Generation):  # many may wait, and headers are the larger part of what each holds
            self._subject = came = evolve(came, head=None)
        to, changes = _after_post(came)
        try:
            await self._move(to, **changes)
        except LedgerError as error:
            if isinstance(came, Generation):  # it is tried again; should that fail too, its id is in the log
                self._shared.steps.abandon(self.row.request, came)
            if not self._shared.ledger.is_broken:  # the service answered with what belongs to another item
                await self._move(rows.FAILED, error=error)
                return
            self.row = rows.moved(self.row, to, at=clock.wall(), **changes)

    # --- in doubt ----------------------------------------------------------------------------------------------------

    async def _reconcile(self) -> bool:
        row = self.row
        try:
            found = await self._shared.steps.reconcile(
                self._shared.doubts, intent(row, self._shared.ledger), settle=self._shared.wishes.settle
            )
        except OutcomeUnknownError:
            raise
        except NeuralBoxError as error:  # whatever kept it from being looked for, it may have been paid
            raise _in_doubt(row, f"The history could not be read to look for item {row.key!r}: {error}") from None
        self._began = None
        if found is not None:
            self._subject = found.id
            return await self._move(rows.ACCEPTED, generation=found)
        if self._shared.wishes.absent != row.state:
            self._reservation().release()
            return await self._move(self._shared.wishes.absent)
        raise _in_doubt(
            row,
            f"The history shows no generation for item {row.key!r} ({row.request.model}): probably none was booked. It "
            "is not sent again by itself; run again with resubmit_absent=True, or resolve it by hand.",
        )

    def _reservation(self) -> Reservation:
        """Return what is set aside for this row: nothing, if it was sent without a budget."""
        return Reservation(self.row.reserved or 0, self._shared.steps.budgets if self.row.reserved else ())

    # --- accepted ----------------------------------------------------------------------------------------------------

    async def _finish(self) -> bool:
        """Wait until the generation is final."""
        self._resume_reservation()
        subject = self._subject
        assert subject is not None  # noqa: S101 - no row is accepted without a generation
        deadline = self._ends()
        while True:  # in one function with the step, as each of many waiters holds its frames
            try:
                final = await self._shared.steps.final(subject, deadline=deadline)
                raise_if_failed(final)
                return await self._move(rows.COMPLETED, generation=final)
            except GenerationFailedError as error:
                await self._move(rows.FAILED, generation=error.generation, error=error)
                raise
            except ClientClosedError as error:
                raise goes_on(error, subject) from None
            except APIError as error:  # of the look alone nothing was charged; it is accepted all the same
                raise evolve(error, billed="unknown") from None
            except GenerationTimeoutError as error:
                failure = error
            await self._shared.steps.http.wait_for_window("get", paid=False, deadline=math.inf)
            later = self._ends()
            if later <= deadline:
                self.row = evolve(self.row, generation=failure.generation or self.row.generation)
                raise failure
            deadline, subject = later, failure.generation or subject

    def _resume_reservation(self) -> None:
        """Set aside again what was for a generation that another process has submitted, or an earlier run."""
        reservation, generation = self._reservation(), self.row.generation
        if reservation.budgets and generation is not None and self._subject is not generation:
            self._shared.steps.http.reservations.resume(generation, reservation)

    def _ends(self) -> float:
        """Answer when the item's time is over, in loop time.

        Its clock begins at its POST, or when it is taken up again, and stands still while the plan's window is closed.
        """
        now = clock.now()
        closed = self._shared.steps.http.rate.seconds_closed(now=now)
        if self._began is None:
            self._began = now - closed
        return self._began + self._shared.wishes.seconds + closed

    # --- completed, saved, failed, dropped ---------------------------------------------------------------------------

    async def _save(self) -> bool:
        folder, generation = self._shared.wishes.folder, self.row.generation
        if folder is None or generation is None:
            return False
        source = self._shared.steps.source(generation, deadline=self._ends())
        path = await files.save(source, folder, key=self.row.request.key)
        return await self._move(rows.SAVED, path=path)

    async def _check_file(self) -> bool:
        """Download again what has vanished from the disk."""
        path = self.row.path
        if self._shared.wishes.folder is None or path is None or await clock.run_blocking(path.exists):
            return False
        return await self._move(rows.COMPLETED)

    async def _tell_why(self) -> bool:
        if self.row.error is not None:
            raise evolve(self.row.error)  # a copy: it may be raised again
        raise UsageError(f"Item {self.row.key!r} was dropped; resubmit it, or leave it out.")


def intent(row: Row, ledger: "LedgerWriter") -> Intent:
    """Return what a row in doubt has meant to send, told apart from those of other ledgers and of other attempts.

    It has the same key for whoever opens the same ledger again: what was claimed for it stays its own.
    """
    sent_at = row.sent_at or 0.0
    key = f"{ledger.identity}:{row.key}:{row.submissions}:{sent_at}"
    return Intent(key=key, request=row.request, sent_at=sent_at, after_id=row.after_id, ahead=row.ahead)


def _about(error: LedgerError, generation: Generation | None) -> LedgerError:
    """Say of which generation a ledger could not take something, and whether that one costs tokens."""
    if generation is None:
        return error
    free = generation.failed or (generation.done and generation.tokens_spent == 0)
    billed: Billed = "no" if free else "yes" if generation.done else "unknown"
    return evolve(error, billed=billed, generation_id=generation.id)


def _in_doubt(row: Row, message: str) -> OutcomeUnknownError:
    return OutcomeUnknownError(
        message, billed="unknown", request=row.request, sent_at=row.sent_at or 0.0, after_id=row.after_id
    )


def _after_post(came: object) -> tuple[str, Changes]:
    """Return the state that a POST's outcome leads to, and what to write down with it."""
    if isinstance(came, Generation):
        return rows.ACCEPTED, {"generation": came}
    if isinstance(came, OutcomeUnknownError):
        return rows.IN_DOUBT, {"error": came}
    return rows.PLANNED, {"error": came if isinstance(came, NeuralBoxError) else None}

"""Many generations: each request lives its own life, written down step by step, and comes out as an `Outcome`.

One bad item never raises. What would fail every further item alike (401, 402, 403, a closed client, a ledger that
cannot be written) ends the run: nothing new is begun, what is under way comes out, then the error is raised.
"""

import math
from collections import Counter, deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from neuralbox_async._blocks import block
from neuralbox_async._core import rows
from neuralbox_async._core.budget import Name, Reservation
from neuralbox_async._core.errors import (
    AuthenticationError,
    ClientClosedError,
    InsufficientTokensError,
    LedgerError,
    NeuralBoxError,
    OutcomeUnknownError,
    PermissionDeniedError,
    UsageError,
)
from neuralbox_async._core.known import Intent
from neuralbox_async._core.models import Generation, GenerationRequest
from neuralbox_async._core.rows import Row
from neuralbox_async._edge import clock
from neuralbox_async._fan_out import Each, Ending, Results, fan_out
from neuralbox_async._life import Life, Shared, Wishes, intent
from neuralbox_async._reconcile import Doubts
from neuralbox_async._steps import Steps

if TYPE_CHECKING:  # SQLite is loaded by those who run many
    from neuralbox_async._edge.ledger import LedgerWriter

Requests = Iterable[GenerationRequest] | AsyncIterable[GenerationRequest]
ENDS_THE_RUN: Final = (
    AuthenticationError,
    ClientClosedError,
    InsufficientTokensError,
    PermissionDeniedError,
)


@frozen(kw_only=True)
class Outcome:
    """What became of one request of a bulk run.

    Attributes:
        request: The request as given, with its `tag`.
        key: The request's key, or one made of what it asks for; None if the request cannot be used.
        index: Its place in the input, from 0.
        generation: The last that is known of its generation; None if none was accepted, or nobody knows.
        error: What went wrong; None if all went well.
        path: Where the result was saved, if `download_to` was given.
    """

    request: GenerationRequest
    key: str | None
    index: int
    generation: Generation | None = None
    error: NeuralBoxError | OSError | None = None
    path: Path | None = None


@frozen(kw_only=True)
class _Item:
    """One request of a run, numbered; `row` is set if it comes from the ledger alone, `error` if it cannot be used."""

    request: GenerationRequest
    index: int
    repeat: int = 0
    row: Row | None = None
    error: UsageError | None = None


class Run:
    """One bulk run: numbers the requests, keeps keys apart, and ends early when nothing more can succeed.

    What an earlier run has begun in the same ledger, and this input does not name, comes last.
    """

    def __init__(self, requests: Requests, *, steps: Steps, ledger: "LedgerWriter", wishes: Wishes) -> None:
        self._requests: AsyncIterator[GenerationRequest] | None = Each(requests)
        self._steps = steps
        self._ledger = ledger
        self._wishes = wishes
        doubts = Doubts(steps.http, ledger.owned, self._in_doubt)
        self._shared = Shared(steps=steps, ledger=ledger, doubts=doubts, wishes=wishes, may_submit=self._may_submit)
        self._index = -1
        # What was asked for under which key, as a digest, and how often without one. Numbers: a large input has many.
        self._keys: dict[str, int] = {}
        self._repeats = Counter[int]()
        self._left: deque[Row] = deque()
        self._last_left = 0
        self._ending = Ending()
        self._hopeless: NeuralBoxError | None = None

    @asynccontextmanager
    async def outcomes(self, *, limit: int) -> AsyncIterator[Results[Outcome]]:
        """Run all requests, at most `limit` at once."""
        highest = await self._ledger.highest_id()
        if highest is not None:
            self._steps.http.known.see(highest)
        async for row in self._every(rows.SENDING):  # a process died between this row's commit and its answer's
            await self._ledger.move(row, rows.IN_DOUBT)
        async with (
            self._budgets_told(),
            fan_out(self, self._outcome, limit=limit, ending=self._ending, untaken=self._untaken) as results,
        ):
            yield results

    @asynccontextmanager
    async def _budgets_told(self) -> AsyncIterator[None]:
        """Let the budgets know what others have done with the ledger before this run, and can do after it."""
        if not self._ledger.is_kept or not self._steps.budgets:
            yield
            return
        await self._price_the_unpriced()
        await self._take_over()
        try:
            yield
        finally:
            with suppress(LedgerError):  # what cannot be read, nobody can settle; it stays set aside
                doubts = await self._doubts()
                for budget in self._steps.budgets:
                    budget.leave(self._ledger.name, doubts)

    async def _take_over(self) -> None:
        summary, doubts, begun = await self._ledger.summary(), await self._doubts(), dict[str, tuple[Name, int]]()
        async for row in self._every(rows.ACCEPTED):
            assert row.generation is not None  # noqa: S101 - no row is accepted without a generation
            begun[row.key] = self._steps.http.reservations.name(row.generation), row.reserved or 0
        for budget in self._steps.budgets:
            found = await self._ledger.named(budget.in_doubt(self._ledger.name))
            since = {row.key: (rows.spent(row) or 0, row.reserved or 0) for row in found}
            budget.take_over(
                self._ledger.name,
                spent=summary.tokens_spent,
                reserved=summary.tokens_reserved,
                since=since,
                doubts=doubts,
                begun=begun,
            )

    async def _doubts(self) -> Mapping[str, int]:
        """Return what is set aside for each item in doubt, by its key."""
        return {row.key: row.reserved or 0 async for row in self._every(rows.IN_DOUBT)}

    async def _price_the_unpriced(self) -> None:
        """Write down what may become of what was sent without a budget."""
        for state in (rows.IN_DOUBT, rows.ACCEPTED):
            async for row in self._every(state):
                if row.reserved is None:
                    price = await self._steps.price(row.request, deadline=clock.now() + self._wishes.seconds)
                    await self._ledger.move(row, state, error=row.error, reserved=price)

    async def _every(self, state: str) -> AsyncIterator[Row]:
        last = 0
        while page := await self._ledger.rows(state, after=last):
            last = page[-1].number
            for row in page:
                yield row

    async def _in_doubt(self) -> Sequence[Intent]:
        """Return all that is in doubt in the ledger, also items whose turn has not come, or is over."""
        return [intent(row, self._ledger) async for row in self._every(rows.IN_DOUBT)]

    # --- the input ---------------------------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[_Item]:
        return self

    async def __anext__(self) -> _Item:
        if self._requests is not None:
            try:
                return self._item(await anext(self._requests))
            except StopAsyncIteration:
                self._requests = None
        row = await self._next_left_over()
        return _Item(request=row.request, index=row.index, row=row)

    def _item(self, request: GenerationRequest) -> _Item:
        self._index += 1
        try:
            repeat = self._checked(request)
        except UsageError as error:
            return _Item(request=request, index=self._index, error=error)
        return _Item(request=request, index=self._index, repeat=repeat)

    def _checked(self, request: GenerationRequest) -> int:
        """Return which repeat of a request without a key this is; raise UsageError if it cannot be an item."""
        index, key = self._index, getattr(request, "key", None)
        if not isinstance(request, GenerationRequest):
            raise UsageError(f"Item {index} must be a GenerationRequest(model, prompt), not {type(request).__name__}.")
        if key is None and not self._ledger.is_kept:
            return index  # nobody will ever ask for it again
        if key is not None and (not isinstance(key, str) or not key.strip()):
            raise UsageError(f"Item {index} has the key {key!r}; a key is a text that is not empty.")
        digest = rows.digest(request) if self._ledger.is_kept else "0"
        number = int(digest, 16)
        repeat = self._repeats[number] if key is None else 0
        name = rows.made_key(digest, repeat) if key is None else key
        if name in self._keys or self._is_made(name):
            raise UsageError(f"Item {index} has the key {name!r} of an earlier item; make keys unique in a run.")
        if key is None:
            self._repeats[number] += 1
        else:
            self._keys[key] = number
        return repeat

    def _is_made(self, key: str) -> bool:
        """Say whether this key was made for an item of this input that has none of its own."""
        made = rows.read_made_key(key)
        return made is not None and made[1] < self._repeats[int(made[0], 16)]

    async def _next_left_over(self) -> Row:
        """Return the next item that the ledger has begun and the input has not named."""
        if not self._ledger.is_kept:
            raise StopAsyncIteration
        while True:
            while self._left:
                row = self._left.popleft()
                if not self._is_named(row):
                    return row
            found = await self._ledger.rows(*self._unfinished, after=self._last_left)
            if not found:
                raise StopAsyncIteration
            self._last_left = found[-1].number
            self._left.extend(found)

    def _is_named(self, row: Row) -> bool:
        """Say whether the input has had this item; one that is not sent also if it asks for something else by now."""
        if self._is_made(row.key):
            return True
        asked = self._keys.get(row.key)
        return asked is not None and (row.state == rows.PLANNED or asked == int(rows.digest(row.request), 16))

    @property
    def _unfinished(self) -> tuple[str, ...]:
        unsaved = () if self._wishes.folder is None else (rows.COMPLETED,)
        return (*rows.UNFINISHED, *unsaved)

    # --- one item ----------------------------------------------------------------------------------------------------

    async def _outcome(self, item: _Item) -> Outcome:
        request, key, index = item.request, getattr(item.request, "key", None), item.index
        if item.error is not None:
            return Outcome(request=request, key=key, index=index, error=item.error)
        try:
            life = await self._life(item)
        except NeuralBoxError as failure:
            return Outcome(request=request, key=key, index=index, error=self._ends_with(failure))
        error: NeuralBoxError | OSError | None = None
        try:
            try:
                while await life.step():
                    pass
            except NeuralBoxError as failure:
                error = self._ends_with(failure) if life.row.state == rows.PLANNED else failure
            except OSError as failure:
                error = failure
            if not self._ledger.is_kept:
                self._hand_over(life.row)
                await self._ledger.forget(life.row)
        except BaseException:
            self._leave(request, life.row)
            raise
        row = life.row
        return Outcome(request=request, key=row.key, index=index, generation=row.generation, error=error, path=row.path)

    async def _life(self, item: _Item) -> Life:
        row = item.row or await self._ledger.add(item.request, index=item.index, repeat=item.repeat)
        return Life(evolve(row, request=item.request), self._shared)  # the caller's own, with a tag that may be no JSON

    def _hand_over(self, row: Row) -> None:
        """Leave what stays in doubt to `reconcile`, with what is set aside for it: no ledger will have it."""
        if row.state == rows.IN_DOUBT and row.reserved and row.sent_at is not None:
            reservation = Reservation(row.reserved, self._steps.budgets)
            self._steps.http.reservations.doubt(row.sent_at, reservation)

    async def _may_submit(self) -> None:
        await self._steps.http.wait_for_window("generate", paid=True, deadline=math.inf)
        if self._hopeless is not None:
            raise evolve(self._hopeless)  # a copy: one error cannot be raised in several tasks

    def _ends_with(self, error: NeuralBoxError) -> NeuralBoxError:
        """End the run if an item's error would be every other item's too."""
        if isinstance(error, ENDS_THE_RUN) or self._ledger.is_broken:
            self._hopeless = error
            self._ending.because(error)
        return error

    # --- leaving -----------------------------------------------------------------------------------------------------

    def _leave(self, request: GenerationRequest, row: Row) -> None:
        # One that is still being sent was cancelled itself, as when asyncio.run ends.
        if not self._ledger.is_kept and (row.generation is not None or row.state in (rows.SENDING, rows.IN_DOUBT)):
            self._steps.abandon(request, row.generation, sent_at=row.sent_at)

    def _untaken(self, outcome: Outcome) -> None:
        error = outcome.error
        if self._ledger.is_kept or (outcome.generation is None and not isinstance(error, OutcomeUnknownError)):
            return
        sent_at = error.sent_at if isinstance(error, OutcomeUnknownError) else None
        self._steps.abandon(outcome.request, outcome.generation, sent_at=sent_at)


@block("nb.generate_many(…) as outcomes")
async def run(
    requests: Requests, *, steps: Steps, wishes: Wishes, ledger: Path | None, limit: int
) -> AsyncIterator[Results[Outcome]]:
    """Run all requests, at most `limit` at once, on a ledger in this file; None: on one in memory."""
    from neuralbox_async._edge.ledger import LedgerWriter  # noqa: PLC0415 - loads SQLite

    http = steps.http
    opened = await LedgerWriter.open(ledger, origin=http.base_url, account=http.key.fingerprint, run=clock.run_blocking)
    try:
        async with Run(requests, steps=steps, ledger=opened, wishes=wishes).outcomes(limit=limit) as outcomes:
            yield outcomes
    finally:
        await opened.aclose()

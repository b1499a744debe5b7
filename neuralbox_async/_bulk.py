"""Many generations: each request is submitted, waited for and downloaded by itself, and comes out as an `Outcome`.

One bad item never raises. What would fail every further item alike (401, 402, 403, a closed client) ends the run:
nothing new is begun, what is under way comes out, then the error is raised.
"""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from attrs import evolve, frozen

from neuralbox_async._core.errors import (
    AuthenticationError,
    ClientClosedError,
    GenerationFailedError,
    GenerationTimeoutError,
    InsufficientTokensError,
    NeuralBoxError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RateLimitError,
    UsageError,
)
from neuralbox_async._core.models import Generation, GenerationRequest
from neuralbox_async._fan_out import Each, Ending, Results, fan_out

Requests = Iterable[GenerationRequest] | AsyncIterable[GenerationRequest]
ENDS_THE_RUN = (AuthenticationError, ClientClosedError, InsufficientTokensError, PermissionDeniedError)


@frozen(kw_only=True)
class Outcome:
    """What became of one request of a bulk run.

    Attributes:
        request: The request as given, with its `tag`.
        key: The request's key.
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
class Lent:
    """What a client lends to a run: the steps of one generation. Deadlines are in loop time.

    Attributes:
        may_submit: Waits, however long, until the plan lets a submission through.
        may_look: Waits, however long, until the plan lets a look through.
        closed: Answers for how many seconds in all the plan's window was closed.
        deadline: Gives the deadline of a step that begins now.
        submit: Sends the request; waiting for its turn does not count against its time.
        finish: Waits until the generation is final.
        save: Downloads the result; None if nobody asked for files.
        abandon: Hears of each request that may cost tokens and whose outcome nobody took.
    """

    may_submit: Callable[[], Awaitable[None]]
    may_look: Callable[[], Awaitable[None]]
    closed: Callable[[], float]
    deadline: Callable[[], float]
    submit: Callable[[GenerationRequest], Awaitable[Generation]]
    finish: Callable[[Generation, float], Awaitable[Generation]]
    save: Callable[[Generation, str | None, float], Awaitable[Path]] | None
    abandon: Callable[[GenerationRequest, Generation | None], None]


class Run:
    """One bulk run: numbers the requests, keeps keys apart, and ends early when nothing more can succeed."""

    def __init__(self, requests: Requests, lent: Lent) -> None:
        self._requests = Each(requests)
        self._lent = lent
        self._pulled = 0
        self._keys: set[str] = set()
        self._ending = Ending()
        self._hopeless: NeuralBoxError | None = None

    def outcomes(self, *, limit: int) -> AbstractAsyncContextManager[Results[Outcome]]:
        """Run all requests, at most `limit` at once."""
        return fan_out(self, self._outcome, limit=limit, ending=self._ending, untaken=self._untaken)

    def _untaken(self, outcome: Outcome) -> None:
        if outcome.generation is not None or isinstance(outcome.error, OutcomeUnknownError):
            self._lent.abandon(outcome.request, outcome.generation)

    def __aiter__(self) -> AsyncIterator[tuple[int, GenerationRequest]]:
        return self

    async def __anext__(self) -> tuple[int, GenerationRequest]:
        request = await anext(self._requests)
        self._pulled += 1
        return self._pulled - 1, request

    async def _outcome(self, item: tuple[int, GenerationRequest]) -> Outcome:
        index, request = item
        outcome = Outcome(request=request, key=getattr(request, "key", None), index=index)
        try:
            self._check(request, index)
            generation = await self._submitted(request)
        except NeuralBoxError as error:
            if isinstance(error, ENDS_THE_RUN):
                self._hopeless = error
                self._ending.because(error)
            return evolve(outcome, error=error)
        return await self._finished(outcome, generation)

    def _check(self, request: GenerationRequest, index: int) -> None:
        if not isinstance(request, GenerationRequest):
            raise UsageError(f"Item {index} must be a GenerationRequest, not {type(request).__name__}.")
        if request.key is None:
            return
        if not isinstance(request.key, str) or not request.key.strip():
            raise UsageError(f"Item {index} has the key {request.key!r}; a key is a text that is not empty.")
        if request.key in self._keys:
            raise UsageError(f"Item {index} has the key {request.key!r} of an earlier item; make keys unique in a run.")
        self._keys.add(request.key)

    async def _submitted(self, request: GenerationRequest) -> Generation:
        """Send the request, again after each closed window."""
        while True:
            await self._lent.may_submit()
            if self._hopeless is not None:
                raise evolve(self._hopeless)  # a copy: one error cannot be raised in several tasks
            try:
                return await self._lent.submit(request)
            except RateLimitError:
                continue  # the whole client is paused until the window opens, so this does not spin

    async def _finished(self, outcome: Outcome, generation: Generation) -> Outcome:
        outcome = evolve(outcome, generation=generation)
        try:
            generation = await self._final(generation)
            outcome = evolve(outcome, generation=generation)
            if self._lent.save is not None:
                path = await self._lent.save(generation, outcome.key, self._lent.deadline())
                outcome = evolve(outcome, path=path)
        except (GenerationFailedError, GenerationTimeoutError) as error:
            return evolve(outcome, generation=error.generation or generation, error=error)
        except (NeuralBoxError, OSError) as error:
            return evolve(outcome, error=error)
        except BaseException:
            self._lent.abandon(outcome.request, generation)
            raise
        return outcome

    async def _final(self, generation: Generation) -> Generation:
        """Wait until the generation is final; its clock stands still while the plan's window is closed."""
        ends, closed_before = self._lent.deadline(), self._lent.closed()
        deadline = ends
        while True:
            try:
                return await self._lent.finish(generation, deadline)
            except GenerationTimeoutError as error:
                failure = error
            await self._lent.may_look()
            later = ends + self._lent.closed() - closed_before
            if later <= deadline:
                raise failure
            deadline, generation = later, failure.generation or generation

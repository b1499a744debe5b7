"""What must not be sent twice goes out once, in a task of its own, and what became of it is written down first.

Its body is a witness: it remembers whether the transport ever pulled it, whatever exception comes out afterwards. In a
task of its own, since asyncio's `task.cancel()` goes straight through a shield in the same task.
"""

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from typing import Any, Final, Generic, TypeVar

import anyio
import httpx
from attrs import frozen

from neuralbox_async._core import retry
from neuralbox_async._core.api import Answer, Call
from neuralbox_async._core.errors import APIConnectionError, APITimeoutError, NeuralBoxError, OutcomeUnknownError
from neuralbox_async._core.events import Abandoned, Event
from neuralbox_async._core.known import Known
from neuralbox_async._core.models import Generation
from neuralbox_async._edge import clock

T = TypeVar("T")
# How long a cancelled POST may go on to learn the id of what it has probably paid for.
GRACE_SECONDS: Final = 5.0


class Witness(httpx.AsyncByteStream):
    """A request body that knows whether it was ever pulled, and refuses to be pulled twice.

    Not pulled, to its last piece: no complete request can have reached the server. `before` is what is sent before the
    body, such as a file. A second pull is somebody's auth flow, redirect or retrying transport about to pay again.
    """

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.before: AsyncIterator[bytes] | None = None
        self.begun = self.pulled = False
        self.sent_at = 0.0

    def __aiter__(self) -> AsyncIterator[bytes]:
        if self.begun:
            raise APIConnectionError(
                "something between this client and the network was about to send a paid request twice and was stopped; "
                "take retries, redirects and auth flows out of http_client"
            )
        return self

    async def __anext__(self) -> bytes:
        if self.pulled:
            raise StopAsyncIteration
        self.begun = True
        if self.before is not None:
            piece = await anext(self.before, None)
            if piece is not None:
                return piece
        self.pulled = True
        self.sent_at = clock.wall()
        return self.body


@frozen(kw_only=True, eq=False, repr=False)
class Trail:
    """Who writes down what becomes of a POST that pays, so that a crash at any moment leaves a trace.

    Attributes:
        sending: Called before each attempt, with the highest id known; the POST leaves when it has returned.
        settled: Called with what came of each attempt before anything else is awaited: a generation; an
            OutcomeUnknownError; or another error, which says that nothing was accepted. It must not raise.
        is_written: Whether it is written down where it can be found; else an event tells what nobody waits for.
    """

    sending: Callable[[int | None], Awaitable[None]]
    settled: Callable[[object], Awaitable[None]]
    is_written: bool = True


async def _write_nothing(_: object) -> None:
    return None


NO_TRAIL: Final = Trail(sending=_write_nothing, settled=_write_nothing, is_written=False)


@frozen(kw_only=True, eq=False, repr=False)
class Once(Generic[T]):
    """One attempt at a call that must not be made twice.

    Attributes:
        call: The call.
        trail: Who writes down what becomes of it.
        known: What tells this client's own generations apart.
        exchange: Sends it and returns the answer, or the error that stands for the lack of one.
        settle: Reads an answer, or raises what it means.
        tell: Lets the observer hear of an event.
    """

    call: Call[T]
    trail: Trail
    known: Known
    exchange: Callable[[Witness], Awaitable[Answer | NeuralBoxError]]
    settle: Callable[[Answer | NeuralBoxError], T]
    tell: Callable[[Event], None]

    async def send(self, *, deadline: float) -> T:
        """Send it; when the caller is cancelled it may go on for a grace to learn its id. `deadline` is loop time."""
        request = self.call.request
        with nullcontext() if request is None else self.known.sending(request):
            return await self._send(deadline)

    async def _send(self, deadline: float) -> T:
        witness, outcome = Witness(self.call.body or b""), list[T | BaseException]()
        finished = anyio.Event()
        scope = anyio.CancelScope(shield=True, deadline=deadline)

        async def post() -> None:
            try:
                outcome.append(await self._outcome(witness, scope))
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:  # noqa: BLE001 - raised again below, outside of the group
                outcome.append(error)
            finished.set()

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(post)
                try:
                    await finished.wait()
                except BaseException:
                    scope.deadline = min(deadline, clock.now() + GRACE_SECONDS) if witness.pulled else -math.inf
                    raise
        except BaseException:
            self._report_abandoned(witness, outcome)
            raise
        came = outcome[0]
        if not isinstance(came, BaseException):
            return came
        if not isinstance(came, NeuralBoxError):
            self._report_abandoned(witness, outcome)
        raise came

    async def _outcome(self, witness: Witness, scope: anyio.CancelScope) -> T | NeuralBoxError:
        after_id = self.known.highest_id
        came: Answer | NeuralBoxError = timed_out(self.call)
        with scope:
            try:
                await self.trail.sending(after_id)
                came = await self.exchange(witness)
            except NeuralBoxError as error:
                came = error
        judged = self._judged(came, witness, after_id)
        with anyio.CancelScope(shield=True):
            await self.trail.settled(judged)
        return judged

    def _judged(self, came: Answer | NeuralBoxError, witness: Witness, after_id: int | None) -> T | NeuralBoxError:
        """Return what it came to: the value, or the error that says whether it may have been paid."""
        try:
            return self.settle(came)
        except NeuralBoxError as error:
            failure = error
        sent_at = self.known.moment(witness.sent_at) if witness.pulled else 0.0
        return retry.judge(self.call, failure, pulled=witness.pulled, sent_at=sent_at, after_id=after_id)

    def _report_abandoned(self, witness: Witness, outcome: list[T | BaseException]) -> None:
        request = self.call.request
        if request is None or not witness.pulled or self.trail.is_written:
            return
        found = outcome[0] if outcome else None  # nothing came of one cancelled itself, as when asyncio.run ends
        if isinstance(found, Generation):
            self.tell(Abandoned(request=request, generation=found, sent_at=witness.sent_at))
        elif isinstance(found, OutcomeUnknownError) or not isinstance(found, NeuralBoxError):
            self.tell(Abandoned(request=request, generation=None, sent_at=witness.sent_at))


def timed_out(call: Call[Any]) -> APITimeoutError:
    """Return the error of a call whose deadline struck while nothing can have been spent."""
    return APITimeoutError(
        f"{call.operation}: no answer within the timeout; pass a longer timeout or try again later.",
        retryable=True,
        generation_id=call.generation_id,
    )

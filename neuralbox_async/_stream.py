"""A text piece by piece: what was received is kept, and a stream that breaks off is finished by looking at its id.

The service tells an id before the text, so whatever happens later is about a generation that is known: the connection
is cut, or silent for `IDLE_SECONDS`, and `GET /generate/{id}` has the rest of what is paid for.
"""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, Self

import anyio
from attrs import evolve

from neuralbox_async._core.api import Call
from neuralbox_async._core.errors import (
    APIError,
    ClientClosedError,
    GenerationFailedError,
    GenerationTimeoutError,
    NeuralBoxError,
    ResponseError,
    UsageError,
)
from neuralbox_async._core.events import Accepted
from neuralbox_async._core.models import COMPLETED, FAILED, Generation, GenerationRequest, lacks_result
from neuralbox_async._core.replies import read_generation
from neuralbox_async._core.sse import Delta, Ended, Failed, StreamEvent
from neuralbox_async._edge import clock
from neuralbox_async._edge.once import NO_TRAIL
from neuralbox_async._edge.stream import OpenStream, open_stream
from neuralbox_async._following import Following
from neuralbox_async._steps import Steps, goes_on
from neuralbox_async._watches import Watch

# A model that thinks may be silent for long before its first word; looking instead costs the stream.
IDLE_SECONDS: Final = 60.0
# What is left of a text takes seconds. The pacing knows nothing of texts: they answer in the POST itself.
LOOK_SECONDS: Final = 2.0


class TextStream:
    """A text as it is written: `async with nb.stream(…) as stream`, then `async for piece in stream`.

    It belongs to one task, and is opened once. Leaving the block early drops the connection; an `Abandoned` event tells
    the id of what may be paid for, and its price stays set aside in budgets until a look at it shows what it cost.
    """

    def __init__(self, steps: Steps, call: Call[Generation], *, timeout: float) -> None:
        self._steps = steps
        self._call = call
        self._request = _paid_for(call)
        self._timeout = timeout
        self._deadline = 0.0
        self._open: OpenStream | None = None
        self._latest: Generation | None = None
        self._pieces: list[str] = []
        self._over = False

    @property
    def text(self) -> str:
        """What was received so far; all of it once the stream has ended."""
        return "".join(self._pieces)

    @property
    def generation(self) -> Generation:
        """The generation: its id from the start; its text, status and tokens once the stream has ended."""
        if self._latest is None:
            raise UsageError("The stream is not open yet: use it as `async with nb.stream(…) as stream`.")
        return self._latest

    async def until_done(self) -> Generation:
        """Read to the end and return the completed generation; raises what the iteration raises."""
        async for _ in self:
            continue
        return self.generation

    async def __aenter__(self) -> Self:
        if self._deadline:
            raise UsageError("A stream is opened once, since it costs tokens each time; call nb.stream(…) again.")
        self._deadline = clock.now() + self._timeout
        trail = await self._steps.within_budgets(NO_TRAIL, self._request, deadline=self._deadline)
        self._open = await open_stream(self._steps.http, self._call, deadline=self._deadline, trail=trail)
        self._latest = self._open.generation
        self._steps.http.tell(Accepted(request=self._request, generation=self._latest))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._open is not None:
                await self._open.aclose()
        finally:
            if not self._over:
                self._steps.abandon(self._request, evolve(self.generation, text=self.text))

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        """Return the next piece of the text.

        Raises:
            GenerationFailedError: the service gave up; `generation.text` has what came until then.
            GenerationTimeoutError: the timeout struck; the generation goes on.
            ResponseError: the stream was cut, and the completed text does not continue what was received.
        """
        if self._open is None:
            raise UsageError("The stream is not open yet: use it as `async with nb.stream(…) as stream`.")
        try:
            while not self._over:
                piece = await self._next(self._open)
                if piece:
                    self._pieces.append(piece)
                    return piece
        except NeuralBoxError:
            self._over = True
            raise
        raise StopAsyncIteration

    async def _next(self, opened: OpenStream) -> str:
        """Return the next piece, or nothing where the next event has none."""
        if self.generation.done:  # the service answered at once and whole
            return self._end(self.generation)
        match await self._event(opened):
            case Delta(text=text):
                return text
            case Ended(reply=reply):
                said = {name: value for name, value in reply.items() if value is not None}
                ended = evolve(read_generation({**self.generation.raw, "status": COMPLETED, **said}), raw=reply)
                if not ended.failed:
                    await opened.finish()
                whole = evolve(ended, text=self.text or ended.text or "", head=self.generation.head)
                return self._end(self._told(whole))
            case Failed(reason=reason, reply=reply):
                return self._end(self._told(evolve(self.generation, status=FAILED, error=reason, raw=reply)))
            case _:
                return self._end(await self._looked_up(opened))

    def _told(self, final: Generation) -> Generation:
        """Let the observer hear of an end that the stream itself has told: no look at it will follow."""
        self._steps.http.tell_of_look(final)
        return final

    async def _event(self, opened: OpenStream) -> StreamEvent | None:
        """Return the next event; None if the stream is over, cut or silent."""
        with anyio.move_on_after(min(IDLE_SECONDS, self._deadline - clock.now())):
            return await opened.event()
        return None

    async def _looked_up(self, opened: OpenStream) -> Generation:
        """Wait until the generation is final, now that its stream says no more."""
        await opened.aclose()  # its place may be the only one
        self._steps.looks.jobs.remember(self._request, self.generation)
        failure: NeuralBoxError | None = None
        looks = evolve(self._steps.looks, poll_interval=self._steps.looks.poll_interval or LOOK_SECONDS)
        if clock.now() < self._deadline:
            try:
                final = await Following(looks, self.generation.id, deadline=self._deadline).until(Watch.is_final)
                if not lacks_result(final):
                    return final
            except ClientClosedError as error:
                raise goes_on(error, self.generation) from None
            except (APIError, GenerationTimeoutError) as error:
                failure = error
        if isinstance(failure, APIError) and not failure.retryable:
            raise evolve(failure, billed="unknown", generation_id=self.generation.id)
        raise self._not_finished(failure)

    def _not_finished(self, failure: NeuralBoxError | None) -> GenerationTimeoutError:
        reason = "" if failure is None else f" The last look failed ({failure})."
        return GenerationTimeoutError(
            f"Generation {self.generation.id} was not streamed to its end within the timeout; it goes on, and costs "
            f"tokens when it completes. Wait for its id, with a longer timeout.{reason}",
            billed="unknown",
            retryable=True,
            generation_id=self.generation.id,
            generation=evolve(self.generation, text=self.text),
        )

    def _end(self, final: Generation) -> str:
        """Take in the final generation and return the rest of its text; raise if it failed, or is another text."""
        received, whole = self.text, final.text or ""
        self._over = True
        if final.failed:
            self._latest = evolve(final, text=received)
            error = self._failed(self._latest)
            if error.billed == "no":  # else it stays set aside in budgets until a look tells
                self._steps.http.reservations.see(final)
            raise error
        self._latest = final
        self._steps.http.reservations.see(final)
        if not whole.startswith(received) or final.text is None:
            raise ResponseError(
                f"stream: generation {final.id} is completed, and its text does not continue what was received before "
                "the stream was cut; stream.text has that, stream.generation the service's last word.",
                billed="yes",
                generation_id=final.id,
            )
        return whole[len(received) :]

    def _failed(self, failed: Generation) -> GenerationFailedError:
        nothing = failed.tokens_spent == 0 or not self._pieces
        charged = "Nothing was charged" if nothing else "The documentation does not say whether what came was charged"
        return GenerationFailedError(
            f"Generation {failed.id} failed: {failed.error or 'the service gives no reason'}. {charged}; change the "
            "prompt or the model.",
            billed="no" if nothing else "unknown",
            generation_id=failed.id,
            generation=failed,
        )


def _paid_for(call: Call[Generation]) -> GenerationRequest:
    assert call.request is not None  # noqa: S101 - a stream pays
    return call.request

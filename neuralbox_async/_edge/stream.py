"""An answer that comes in pieces: its first event with an id is the answer to the POST, the rest is read on demand.

Until that event the rules of a POST that pays hold, as `Http` has them. An open stream holds its place among the
connections until it is closed; leaving it early drops the connection.
"""

import json
import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Final

import anyio
import httpx
from attrs import define, field

from neuralbox_async._core import replies
from neuralbox_async._core.api import Answer, Call
from neuralbox_async._core.errors import GenerationFailedError, NeuralBoxError, ResponseError
from neuralbox_async._core.models import PENDING, Generation
from neuralbox_async._core.sse import Delta, Ended, Failed, Parser, Started, StreamEvent, Unreadable
from neuralbox_async._edge import bodies, clock
from neuralbox_async._edge.http import PAID_TIMEOUTS, Http
from neuralbox_async._edge.once import Trail, Witness, timed_out
from neuralbox_async._edge.slots import CLOSE_SECONDS

# How long the end of a stream may take after its last event, for its connection to be used again.
LAST_WORDS_SECONDS: Final = 1.0


@define(eq=False, repr=False)
class OpenStream:
    """One stream that the service has accepted.

    Attributes:
        generation: What its first event says.
    """

    generation: Generation
    _opening: "_Opening"
    _held: AsyncExitStack

    async def event(self) -> StreamEvent | None:
        """Return the next event; None if there is none and never will be: the end, a cut, an event nobody can read."""
        return await self._opening.event()

    async def finish(self) -> None:
        """Read on to the end, so that the connection can be used again."""
        with anyio.move_on_after(LAST_WORDS_SECONDS):
            while await self._opening.event() is not None:
                continue

    async def aclose(self) -> None:
        """Close the stream and leave its place to others; closing twice is harmless."""
        await self._held.aclose()


async def open_stream(http: Http, call: Call[Generation], *, deadline: float, trail: Trail) -> OpenStream:
    """Send the POST of a stream, again where it certainly cost nothing, and return it once its id is known.

    The deadline is loop time; `trail` follows the POST. Raises what `Http.send` raises, and GenerationFailedError if
    the first event says so.
    """
    failures = 0
    while True:
        try:
            return await _attempt(http, call, deadline, trail)
        except NeuralBoxError as error:
            failure = error
        failures += 1
        await http.wait_to_retry(call, failure, failures, deadline)


async def _attempt(http: Http, call: Call[Generation], deadline: float, trail: Trail) -> OpenStream:
    with anyio.CancelScope(deadline=deadline) as scope:
        await http.wait_for_window(call.operation, paid=True, deadline=deadline)
        http.rate.begin(paid=True, now=clock.now())
        try:
            async with AsyncExitStack() as held:
                client = await held.enter_async_context(http.slots.slot(paid=True))
                opening = _Opening(http, Parser(http.key.hidden_in))
                held.push_async_callback(opening.aclose)
                scope.deadline = math.inf  # from here on the POST keeps the deadline, in its own task
                generation = await http.send_once(call, client, opening.exchange, deadline=deadline, trail=trail)
                return OpenStream(generation, opening, held.pop_all())
        finally:
            http.rate.end(paid=True)
    raise timed_out(call)


@define(eq=False, repr=False)
class _Opening:
    """The exchange of one POST, from its request to the end of its answer."""

    _http: Http
    _parser: Parser
    _response: httpx.Response | None = None
    _parts: AsyncIterator[bytes] | None = None
    _ready: deque[StreamEvent] = field(factory=deque[StreamEvent])
    _broken: Exception | None = None

    async def exchange(self, call: Call[Any], client: httpx.AsyncClient, body: Witness) -> Answer | NeuralBoxError:
        """Send the POST and return its first event as the answer that it is, or what came instead."""
        started = clock.now()
        try:
            request = self._http.request(call, body, PAID_TIMEOUTS)
            response = await client.send(request, auth=None, follow_redirects=False, stream=True)
            self._response = response
            came: Answer | NeuralBoxError = await self._first(call, response)
        except httpx.HTTPStatusError as error:  # a caller's transport raised for it; the status is the answer
            came = self._http.answer(call, error.response.status_code, error.response.headers, b"")
        except Exception as error:  # noqa: BLE001 - a transport may raise anything; the witness says what it means
            came = self._http.no_answer(call, error)
        self._http.tell_of_request(call, came.status if isinstance(came, Answer) else None, started)
        return came

    async def _first(self, call: Call[Any], response: httpx.Response) -> Answer | NeuralBoxError:
        status, headers = response.status_code, response.headers
        if not response.is_success or "json" in headers.get("content-type", ""):
            return self._http.answer(call, status, headers, await bodies.read(response))
        self._parts = bodies.pieces(response)
        early: list[StreamEvent] = []  # pieces of text that came before the id they belong to
        while (event := await self.event()) is not None:
            match event:
                case Started(reply=reply) | Ended(reply=reply) if replies.is_id(reply.get("id")):
                    self._ready.extendleft(reversed([*early, *([event] if isinstance(event, Ended) else [])]))
                    return self._http.answer(call, status, headers, json.dumps({"status": PENDING, **reply}).encode())
                case Failed(reason=reason):
                    return GenerationFailedError(f"{call.operation}: {reason}. Change the prompt or the model.")
                case Unreadable(what=what):
                    return ResponseError(f"{call.operation}: {what}; check that base_url points to the API.")
                case Delta():
                    early.append(event)
        if self._broken is not None:
            return self._http.no_answer(call, self._broken)
        return self._http.answer(call, status, headers, b"")

    async def event(self) -> StreamEvent | None:
        """Return the next event; None after the last."""
        while not self._ready:
            if self._parts is None:
                return None
            try:
                part = await anext(self._parts, None)
            except Exception as error:  # noqa: BLE001 - a transport may raise anything, and all of it is a cut
                part, self._broken = None, error
            else:
                self._ready.extend(self._parser.end() if part is None else self._parser.feed(part))
            if part is None:
                self._parts = None
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Close the answer; what was not read of it drops the connection."""
        response, parts, self._parts = self._response, self._parts, None
        if response is not None:
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await (response.aclose() if parts is None else bodies.leave(response, parts))

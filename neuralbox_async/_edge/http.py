"""The network: the only loop that retries, and the only place that knows the key.

A request that pays is sent again only where the rules of `retry` are certain that it cost nothing.
"""

import hashlib
import math
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property, lru_cache
from sys import intern
from typing import Any, Final, NoReturn, TypeVar

import anyio
import httpx
from attrs import Factory, field, frozen

from neuralbox_async._core import api, retry
from neuralbox_async._core.api import Answer, Call
from neuralbox_async._core.budget import Reservations
from neuralbox_async._core.errors import (
    APIConnectionError,
    NeuralBoxError,
    RateLimitError,
)
from neuralbox_async._core.events import Event, Looked, Requested, Retrying
from neuralbox_async._core.known import Known
from neuralbox_async._core.limits import Rate
from neuralbox_async._core.models import Generation, HistoryPage, Id
from neuralbox_async._edge import bodies, clock
from neuralbox_async._edge.log import Observer, hears_each_request, tell
from neuralbox_async._edge.once import NO_TRAIL, Once, Trail, Witness, timed_out
from neuralbox_async._edge.slots import Slots
from neuralbox_async._edge.turns import Turn, Turns

T = TypeVar("T")
Exchange = Callable[[Call[Any], httpx.AsyncClient, Witness], Awaitable[Answer | NeuralBoxError]]

CONNECT_TIMEOUT: Final = 10.0
# Calls that cost nothing are repeated when an answer stalls. A POST that pays has no read timeout of its own: text
# models answer in the POST itself, and giving up on one only manufactures doubt.
READ_TIMEOUT: Final = 30.0
# Without a body there is nothing that writing could wait for.
FREE_TIMEOUTS: Final = {"connect": CONNECT_TIMEOUT, "read": READ_TIMEOUT, "write": None, "pool": None}
PAID_TIMEOUTS: Final = {"connect": CONNECT_TIMEOUT, "read": None, "write": None, "pool": None}
_NO_BODY: Final = httpx.ByteStream(b"")


class Key:
    """The API key; shows itself to nobody but the header it is sent in."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def header(self) -> str:
        """Return the Authorization header."""
        return f"Bearer {self._secret}"

    def fingerprint(self, salt: bytes) -> str:
        """Return what tells this key from others for whoever has the salt, and says nothing of the key."""
        return hashlib.pbkdf2_hmac("sha256", self._secret.encode(), salt, 100_000).hex()

    def hidden_in(self, body: bytes) -> bytes:
        """Return a body without the key, should the service echo it."""
        return body.replace(self._secret.encode(), b"[key]")

    def hidden_in_text(self, text: str) -> str:
        """Return a text without the key, for what ends up in errors."""
        return text.replace(self._secret, "[key]")

    def __repr__(self) -> str:
        return "Key(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A client holds your API key and cannot be pickled; create one in each process.")


@frozen(kw_only=True, eq=False, repr=False)
class Http:
    """Sends calls: waits for the plan and the gate, sends, judges, repeats what cost nothing.

    Attributes:
        base_url: The checked base URL.
        key: The API key.
        slots: The connections, shared by all views of a client.
        rate: The plan's windows, shared by all views of a client.
        known: What tells this client's own generations apart, shared by all views of a client.
        reservations: What budgets have set aside for generations, shared by all views of a client.
        file_hosts: Hosts besides the service's own from which results may be fetched.
        observe: Who hears of each event.
        max_retries: How often a POST that certainly cost nothing is repeated.
        turns: Where calls that pay wait for the plan's window, shared by all views of a client.
    """

    base_url: str
    key: Key
    slots: Slots
    rate: Rate
    known: Known
    reservations: Reservations
    file_hosts: frozenset[str]
    observe: Observer
    max_retries: int
    turns: Turns = field(default=Factory(lambda self: Turns(self.rate), takes_self=True))

    @cached_property
    def free_headers(self) -> httpx.Headers:
        """What every call to the API carries; prepared once."""
        return httpx.Headers(
            {
                "Host": httpx.URL(self.base_url).netloc.decode("ascii"),
                "Authorization": self.key.header(),
                "Accept": "application/json",
                "Accept-Encoding": "gzip",  # some servers send deflate without its wrapper (RFC 9110, 8.4.1.2)
                "User-Agent": "neuralbox-async",
            }
        )

    def tell(self, event: Event) -> None:
        """Let the observer hear of an event."""
        tell(self.observe, event)

    def tell_of_request(self, call: Call[Any], status: int | None, started: float) -> None:
        """Let the observer hear of a request that began then, in loop time, if it does anything with that."""
        if hears_each_request(self.observe):
            self.tell(Requested(operation=call.operation, status=status, seconds=clock.now() - started))

    def tell_of_look(self, generation: Generation) -> None:
        """Let the observer hear what a look has shown, if it does anything with that."""
        if hears_each_request(self.observe):
            self.tell(Looked(generation=generation))

    async def send(
        self,
        call: Call[T],
        *,
        deadline: float,
        tries_until: float = math.inf,
        timeout: float = math.inf,
        trail: Trail = NO_TRAIL,
        exchange: Exchange | None = None,
    ) -> T:
        """Send a call until it succeeds, cannot succeed, or the deadline (in loop time) leaves no room to try again.

        Nothing is tried again from `tries_until` on (loop time), though a try that is under way then goes on.
        `timeout` is what a POST that pays may take by itself (seconds), when waiting for its turn is not to count.
        `trail` follows such a POST; what its `sending` raises is raised, and nothing was sent. `exchange` sends it, if
        it is to be sent in another way than whole.

        Raises:
            APIStatusError, ResponseError, APIConnectionError: what the last answer, or the lack of one, came to.
            APITimeoutError: the deadline struck, and nothing can have been spent.
            OutcomeUnknownError: a request that pays was sent and its answer is lost.
        """
        failures, paid = 0, call.request is not None
        while True:
            try:
                with anyio.CancelScope(deadline=deadline) as scope:
                    await self.wait_for_window(
                        call.operation, paid=paid, deadline=deadline, generation_id=call.generation_id
                    )
                    self.rate.begin(paid=paid, now=clock.now())
                    try:
                        gate = self.slots.gate(paid=paid)
                        await gate.acquire()  # nothing of the request is there yet: many may wait here
                        try:
                            way = exchange or self.whole
                            return await self._once(call, scope, timeout=timeout, trail=trail, exchange=way)
                        finally:
                            gate.release()
                    finally:
                        self.rate.end(paid=paid)
                raise timed_out(call)
            except NeuralBoxError as error:
                failure = error
            if retry.was_done(call, failure, attempt=failures):
                return api.read(call, Answer(status=204, headers={}, body=b""))
            failures += 1
            await self.wait_to_retry(call, failure, failures, min(deadline, tries_until))

    async def wait_for_window(
        self, operation: str, *, paid: bool, deadline: float, generation_id: Id | None = None
    ) -> None:
        """Wait until the plan's window lets a call through; raise RateLimitError if that is not before the deadline."""
        turn = Turn(operation=operation, paid=paid, deadline=deadline, generation_id=generation_id, tell=self.tell)
        await self.turns.wait(turn)

    # --- one attempt -------------------------------------------------------------------------------------------------

    async def wait_to_retry(self, call: Call[Any], failure: NeuralBoxError, failures: int, deadline: float) -> None:
        """Wait until a failed call may be repeated; raise its failure if it may not, or not before the deadline."""
        seconds = retry.seconds_until_retry(
            call,
            failure,
            attempt=failures - 1,
            max_retries=self.max_retries,
            jitter=random.random(),  # spreads load, guards nothing
        )
        if seconds is None or clock.now() + seconds >= deadline:
            raise failure
        self.tell(Retrying(operation=call.operation, error=failure, attempt=failures, seconds=seconds))
        await clock.sleep(seconds)

    async def _once(
        self,
        call: Call[T],
        scope: anyio.CancelScope,
        *,
        timeout: float,
        trail: Trail,
        exchange: Exchange,
    ) -> T:
        client = self.slots.client()
        if call.repeatable:
            body = _NO_BODY if call.body is None else Witness(call.body)
            return self._settle(call, await self._exchange(call, client, body, FREE_TIMEOUTS))
        deadline, scope.deadline = scope.deadline, math.inf  # from here on the POST keeps the deadline, in its own task
        deadline = min(deadline, clock.now() + timeout)
        return await self.send_once(call, client, exchange, deadline=deadline, trail=trail)

    async def send_once(
        self, call: Call[T], client: httpx.AsyncClient, exchange: Exchange, *, deadline: float, trail: Trail
    ) -> T:
        """Make one attempt at a call that must not be made twice; `exchange` sends it, once through the gate."""
        once = Once(
            call=call,
            trail=trail,
            known=self.known,
            exchange=lambda witness: exchange(call, client, witness),
            settle=lambda came: self._settle(call, came),
            tell=self.tell,
        )
        return await once.send(deadline=deadline)

    async def whole(self, call: Call[Any], client: httpx.AsyncClient, body: Witness) -> Answer | NeuralBoxError:
        """Send a request that must not be sent twice, and read its answer whole."""
        return await self._exchange(call, client, body, PAID_TIMEOUTS)

    async def _exchange(
        self,
        call: Call[Any],
        client: httpx.AsyncClient,
        body: Witness | httpx.ByteStream,
        timeouts: Mapping[str, float | None],
    ) -> Answer | NeuralBoxError:
        """Send one request and return what came of it: the answer, or the error that stands for the lack of one."""
        request = self.request(call, body, timeouts)
        if isinstance(body, httpx.ByteStream):
            request.read()  # aiohttp's transport takes a body that is not read yet for one of unknown length
        started = clock.now()
        try:
            response = await client.send(request, auth=None, follow_redirects=False, stream=True)
            try:
                content = await bodies.read(response)
            finally:
                await response.aclose()
            came: Answer | NeuralBoxError = self.answer(call, response.status_code, response.headers, content)
        except httpx.HTTPStatusError as error:  # a caller's transport raised for it; the status is the answer
            came = self.answer(call, error.response.status_code, error.response.headers, b"")
        except Exception as error:  # noqa: BLE001 - a transport may raise anything; the witness says what it means
            came = self.no_answer(call, error)
        self.tell_of_request(call, came.status if isinstance(came, Answer) else None, started)
        return came

    def request(
        self, call: Call[Any], body: httpx.AsyncByteStream, timeouts: Mapping[str, float | None]
    ) -> httpx.Request:
        """Return the request of a call to the API, with the key; timeouts are httpx's, in seconds."""
        url = _url(self.base_url + call.path)
        headers = self.free_headers
        if call.body is not None:
            headers = headers.copy()
            headers.update({"Content-Type": "application/json", "Content-Length": str(len(call.body)), **call.headers})
        return httpx.Request(call.method, url, headers=headers, stream=body, extensions={"timeout": timeouts})

    def answer(self, call: Call[Any], status: int, headers: httpx.Headers, body: bytes) -> Answer:
        """Return an answer without the key, should the service echo it, and note what it says of the plan's windows."""
        hidden = {intern(name): self.key.hidden_in_text(value) for name, value in headers.items()}
        wall = clock.wall()
        self.rate.note(hidden, now=clock.now(), wall=wall, paid=call.request is not None)
        if "date" in hidden:
            self.known.dated = hidden["date"], wall
        if status != 429:
            self.rate.passed()
        return Answer(status=status, headers=hidden, body=self.key.hidden_in(body))

    def _settle(self, call: Call[T], came: Answer | NeuralBoxError) -> T:
        """Read the answer, or raise what its status or the lack of one means."""
        if isinstance(came, Answer):
            try:
                value = api.read(call, came)
            except NeuralBoxError as error:
                came = error
            else:
                self._notice(call, value)
                return value
        if isinstance(came, RateLimitError):
            self.rate.pause(came.retry_after, now=clock.now())
        raise came

    def _notice(self, call: Call[Any], value: object) -> None:
        """Remember which ids there are, and which of them are this client's own."""
        if isinstance(value, Generation):
            self.known.see(value.id)
            self.reservations.see(value)
            if call.request is not None:
                self.known.own(value.id)
            else:
                self.tell_of_look(value)
        elif isinstance(value, HistoryPage):
            for each in value.news:
                self.known.see(each.id)
                self.reservations.see(each)

    def no_answer(self, call: Call[Any], error: Exception) -> NeuralBoxError:
        """Return the error that stands for the lack of an answer."""
        if isinstance(error, NeuralBoxError):
            return error
        words = self.key.hidden_in_text(f"{type(error).__name__}: {error}")[:300]
        passing = isinstance(error, httpx.TransportError | OSError) and not isinstance(error, httpx.UnsupportedProtocol)
        return APIConnectionError(
            f"{call.operation}: no answer ({words}); check the network, its proxies and base_url.",
            retryable=passing and not _tls_failed(error),
            generation_id=call.generation_id,
        )


# TLS errors that only say that the connection was cut.
_TLS_CUT: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)

# Parsed once for all the looks at a job; a client rarely follows more at once that are due.
_url: Final = lru_cache(maxsize=1024)(httpx.URL)


def _tls_failed(error: BaseException | None) -> bool:
    """Whether two sides did not agree on TLS, or a certificate is not to be trusted: time does not heal that."""
    while error is not None:
        if "[SSL" in str(error) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            return not isinstance(error, _TLS_CUT) and "EOF" not in str(error)
        if isinstance(error, ssl.SSLError):
            return not isinstance(error, _TLS_CUT)
        error = error.__cause__ or error.__context__
    return False

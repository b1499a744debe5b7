"""Connections: each request of ours has a connection to itself, behind one gate that is passed before it is built.

httpx 0.28's pool hands one idle connection to every queued request and loses places for ever when calls are cancelled
under contention (encode/httpcore#1035, #1093). So our client's transport is a stack of transports of one connection
each: the last one used is used next, and after an exception or a cancellation it is dropped, not returned.
"""

import os
import ssl
import warnings
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

import anyio
import httpx
from anyio.lowlevel import EventLoopToken, current_token
from attrs import define, frozen

from neuralbox_async._core.errors import ClientClosedError, UsageError
from neuralbox_async._edge import clock
from neuralbox_async.plain import PlainClient, environment_proxy

HttpClient = httpx.AsyncClient

# Above most times between two looks, below common servers' keep-alive (nginx: 75 s).
KEEPALIVE_SECONDS: Final = 55.0
# A server may close a connection that idles; a POST sent just then would look like a lost answer. Five seconds is the
# shortest keep-alive of common servers (uvicorn, Node.js).
FRESH_SECONDS: Final = 2.0
# In a request's extensions: the host name that a result file is asked of, whatever address its URL has. It takes no
# proxy of the environment, and a connection only of the same name, whose certificate was checked for that name.
DIRECT: Final = "neuralbox_direct"
# How long a connection may take to close before it is left to the operating system.
CLOSE_SECONDS: Final = 1.0


class Gate(Protocol):
    """Lets so many through at once, first come first served; whoever came through lets the next one through."""

    async def acquire(self) -> None:
        """Wait in line."""

    def release(self) -> None:
        """Leave."""


class Slots:
    """At most `max_connections` requests at once, in line first in first out.

    Submissions take at most half of them and result files a quarter, so that looks always find a way through.

    Our own `httpx.AsyncClient` is opened at the first request and closed by `aclose`; a caller's is used as it is and
    never closed. All of it belongs to the event loop of the first request.
    """

    def __init__(self, max_connections: int, http_client: HttpClient | None) -> None:
        if isinstance(max_connections, bool) or not isinstance(max_connections, int) or max_connections < 1:
            raise UsageError(f"max_connections must be a whole number of 1 or more, not {max_connections!r}.")
        self._size = max_connections
        self._borrowed = None if http_client is None else PlainClient(_Borrowed(http_client))
        self._own: HttpClient | None = None
        self._loop: EventLoopToken | None = None
        self._process = 0
        self._closed = False
        self._gate = anyio.Semaphore(0)  # real ones are made in the event loop
        self._paid_gate = _Gates(first=self._gate, second=self._gate)
        self._files = self._gate

    def gate(self, *, paid: bool) -> Gate:
        """Return the gate to wait at for leave to send one request: first come, first served.

        Raises ClientClosedError after `aclose`, and in another event loop than that of the first request.
        """
        self._check_open()
        self._check_loop()
        return self._paid_gate if paid else self._gate

    def client(self) -> HttpClient:
        """Return the client to send with, once through the gate; raises as `gate` if it was closed meanwhile."""
        self._check_open()
        if self._borrowed is not None:
            return self._borrowed
        if self._own is None:
            self._own = PlainClient(SlotTransport(self._size))
        return self._own

    @asynccontextmanager
    async def slot(self, *, paid: bool) -> AsyncIterator[HttpClient]:
        """Wait at the gate; give the client to send with, for as long as the answer takes to come. Raises as `gate`."""
        gate = self.gate(paid=paid)
        await gate.acquire()
        try:
            yield self.client()
        finally:
            gate.release()

    def file_lane(self) -> Gate:
        """Return the gate for whole downloads, with their waits and what they hold open; each body takes a slot too.

        Raises as `gate`.
        """
        self._check_open()
        self._check_loop()
        return self._files

    async def aclose(self) -> None:
        """Close our connections; closing twice is harmless. Raises ClientClosedError in another event loop."""
        self._closed = True
        own, self._own = self._own, None
        if own is not None:
            self._check_loop()
            await own.aclose()

    def _check_loop(self) -> None:
        loop = current_token()
        if self._loop is None:
            self._loop, self._process = loop, os.getpid()
            # Fast: no turn of the event loop where nobody waits; the request itself gives others theirs.
            self._gate = anyio.Semaphore(self._size, fast_acquire=True)
            submissions = anyio.Semaphore(max(1, self._size // 2), fast_acquire=True)
            self._paid_gate = _Gates(first=submissions, second=self._gate)
            self._files = anyio.Semaphore(max(1, self._size // 4), fast_acquire=True)
        elif self._process != os.getpid():
            raise ClientClosedError(
                "This AsyncNeuralBox was in use before this process was forked, and its connections are the parent's; "
                "create one in each process, or fork before its first call."
            )
        elif self._loop != loop:
            raise ClientClosedError(
                "This AsyncNeuralBox belongs to another event loop (each asyncio.run starts a new one); "
                "create and close one client in each, or keep to one loop."
            )

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosedError("This AsyncNeuralBox is closed; create a new one and keep it open while in use.")

    def __del__(self) -> None:
        if getattr(self, "_own", None) is not None:
            message = "an AsyncNeuralBox was not closed; use 'async with AsyncNeuralBox() as nb' or 'await nb.aclose()'"
            warnings.warn(message, ResourceWarning, stacklevel=2, source=self)


@frozen(kw_only=True, eq=False, repr=False)
class _Gates:
    """Two gates, one after the other. It is passed by many at once, and holds nothing for each that waits."""

    first: anyio.Semaphore
    second: anyio.Semaphore

    async def acquire(self) -> None:
        """Wait in line."""
        await self.first.acquire()
        try:
            await self.second.acquire()
        except BaseException:
            self.first.release()
            raise

    def release(self) -> None:
        """Leave."""
        self.second.release()
        self.first.release()


class _Borrowed(httpx.AsyncBaseTransport):
    """A caller's client as a way to the network: its pool, proxies, certificates and mounts, and nothing else of it.

    Its hooks would be handed our key, and its auth, cookies and redirects are made for other requests than ours.
    """

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request by the transport that the client would take. Raises RuntimeError if it is closed."""
        if self._client.is_closed:
            raise RuntimeError("http_client is closed; keep it open as long as the AsyncNeuralBox that uses it")
        transport = self._client._transport_for_url(request.url)  # noqa: SLF001 - httpx has no public way without hooks
        return await transport.handle_async_request(request)

    async def aclose(self) -> None:
        """Leave the caller's client open."""


@define(eq=False, repr=False)
class _Connection:
    """One connection and whom it leads to."""

    transport: httpx.AsyncHTTPTransport
    origin: str
    idle_since: float = 0.0


class SlotTransport(httpx.AsyncBaseTransport):
    """A transport of one-connection transports, made on demand; at most `size` are kept idle.

    Proxies come from the environment as httpx itself would take them, which it does not once it has a transport. Result
    files go without (`DIRECT`).
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._idle: dict[str, deque[_Connection]] = {}
        self._closed = False
        self._trust: ssl.SSLContext | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request over a connection of its own."""
        connection = self._take(request)
        try:
            response = await connection.transport.handle_async_request(request)
        except BaseException:
            await self.drop(connection)
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - an async transport gives no other
        response.stream = _Body(response.stream, connection, self)
        return response

    async def aclose(self) -> None:
        """Close what is idle, and what is under way when it comes back."""
        self._closed = True
        idle, self._idle = self._idle, {}
        for connection in (each for stack in idle.values() for each in stack):
            await self.drop(connection)

    async def drop(self, connection: _Connection) -> None:
        """Close a connection for good, even while being cancelled."""
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            await connection.transport.aclose()

    async def give_back(self, connection: _Connection) -> None:
        """Put a connection on top of its stack, and close what has idled too long or is too much."""
        if self._closed:
            await self.drop(connection)
            return
        connection.idle_since = clock.now()
        self._idle.setdefault(connection.origin, deque()).append(connection)
        oldest = min((stack[0] for stack in self._idle.values() if stack), key=lambda each: each.idle_since)
        too_many = sum(map(len, self._idle.values())) > self._size
        if too_many or connection.idle_since - oldest.idle_since > KEEPALIVE_SECONDS:
            self._idle[oldest.origin].popleft()
            await self.drop(oldest)

    def _take(self, request: httpx.Request) -> _Connection:
        direct = request.extensions.get(DIRECT)
        origin = f"{request.url.scheme}://{request.url.netloc.decode('ascii')}"
        if direct is not None:
            origin = f"{direct} at {origin}"
        stack = self._idle.get(origin)
        patience = FRESH_SECONDS if request.method == "POST" else KEEPALIVE_SECONDS
        if stack and clock.now() - stack[-1].idle_since <= patience:
            return stack.pop()
        proxy = environment_proxy(request.url) if direct is None else None
        return _Connection(self._transport(proxy), origin)

    def _transport(self, proxy: str | None) -> httpx.AsyncHTTPTransport:
        if self._trust is None:
            self._trust = httpx.create_ssl_context()
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEPALIVE_SECONDS)
        return httpx.AsyncHTTPTransport(verify=self._trust, limits=limits, proxy=proxy)


class _Body(httpx.AsyncByteStream):
    """An answer's body; with its end, the connection goes back, or is dropped if it was not read whole."""

    def __init__(self, body: httpx.AsyncByteStream, connection: _Connection, owner: SlotTransport) -> None:
        self._body = body
        self._connection = connection
        self._owner = owner
        self._whole = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._body:
            yield part
        self._whole = True

    async def aclose(self) -> None:
        await self._body.aclose()
        await (self._owner.give_back if self._whole else self._owner.drop)(self._connection)

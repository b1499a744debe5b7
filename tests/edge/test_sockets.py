"""On real sockets and the real clock: a server that reads a request and hangs up has been asked exactly once.

Over our own connections, on asyncio and trio, and over aiohttp's.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from neuralbox_async import APIConnectionError, AsyncNeuralBox, OutcomeUnknownError
from neuralbox_async.extras.aiohttp import aiohttp_client

pytestmark = pytest.mark.anyio
Connect = Callable[..., AbstractAsyncContextManager[AsyncNeuralBox]]


@asynccontextmanager
async def own(base_url: str, **options: Any) -> AsyncIterator[AsyncNeuralBox]:
    """Give a client with connections of its own."""
    async with AsyncNeuralBox("nb_test_key", base_url=base_url, **options) as nb:
        yield nb


@asynccontextmanager
async def aiohttp(base_url: str, **options: Any) -> AsyncIterator[AsyncNeuralBox]:
    """Give a client with aiohttp's connections."""
    async with aiohttp_client() as http_client, own(base_url, http_client=http_client, **options) as nb:
        yield nb


over_all_connections = pytest.mark.parametrize(
    ("anyio_backend", "connect"),
    [("asyncio", own), ("trio", own), ("asyncio", aiohttp)],
    ids=["asyncio", "trio", "aiohttp"],
)
REPLY = b'{"id": 18500, "status": "pending"}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(REPLY)


@asynccontextmanager
async def server(answer: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Serve one answer, cut as it is, to each request that was read whole; give the base URL and the requests."""
    requests: list[bytes] = []

    async def serve(stream: SocketStream) -> None:
        async with stream:
            request = b""
            while not request.endswith(b"}"):
                request += await stream.receive()
            requests.append(request)
            await stream.send(answer)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        port = listener.extra(SocketAttribute.local_port)
        yield f"http://127.0.0.1:{port}/api/v2", requests
        tasks.cancel_scope.cancel()


@over_all_connections
@pytest.mark.parametrize(
    "answer", [b"", HEAD[:20], HEAD, HEAD + REPLY[:10]], ids=["none", "head cut", "no body", "body cut"]
)
async def test_a_server_that_hangs_up_is_asked_once(answer: bytes, connect: Connect) -> None:
    """Wherever the answer breaks off, there is one POST, an honest unknown, and no connection left open."""
    async with server(answer) as (base_url, requests), connect(base_url) as nb:
        with pytest.raises(OutcomeUnknownError):
            await nb.submit("gpt-5", "Hello", timeout=30)
    assert len(requests) == 1
    line, *lines = requests[0].partition(b"\r\n\r\n")[0].split(b"\r\n")
    headers = {name.lower(): value for name, _, value in (each.partition(b": ") for each in lines)}
    assert line == b"POST /api/v2/generate HTTP/1.1"
    assert headers[b"host"] == base_url.split("/")[2].encode()
    assert headers[b"authorization"] == b"Bearer nb_test_key"


@over_all_connections
async def test_a_whole_answer_is_accepted(connect: Connect) -> None:
    """The same server, when it does not hang up."""
    async with server(HEAD + REPLY) as (base_url, _), connect(base_url) as nb:
        assert (await nb.submit("gpt-5", "Hello")).id == 18500


@over_all_connections
async def test_a_cookie_is_not_sent_back(connect: Connect) -> None:
    """What one answer sets, the next request does not carry."""
    answer = HEAD.replace(b"\r\n\r\n", b"\r\nSet-Cookie: spy=1; Path=/\r\n\r\n") + REPLY
    async with server(answer) as (base_url, requests), connect(base_url.replace("127.0.0.1", "localhost")) as nb:
        for _ in range(2):
            await nb.submit("gpt-5", "Hello")
    assert [b"cookie" in request.lower() for request in requests] == [False, False]


class KeepingAlive:
    """A server that answers all requests of a connection and counts connections; it hangs up after each `every`th."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.connections = 0

    async def serve(self, stream: SocketStream) -> None:
        """Answer the requests of one connection."""
        self.connections += 1
        async with stream:
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                for _ in range(self.every):
                    request = b""
                    while not request.endswith((b"}", b"\r\n\r\n")) or request.count(b"\r\n\r\n") < 1:
                        request += await stream.receive()
                    if request.startswith(b"POST") and not request.endswith(b"}"):
                        await stream.receive()
                    await stream.send(HEAD + REPLY)


@asynccontextmanager
async def keeping_alive(connect: Connect, every: int = 100) -> AsyncIterator[tuple[AsyncNeuralBox, KeepingAlive]]:
    """Give a client of such a server."""
    server = KeepingAlive(every)
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, server.serve)
        base_url = f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        async with connect(base_url) as nb:
            yield nb, server
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # one real wait is enough
async def test_an_idle_connection_is_not_used_for_a_post() -> None:
    """A server may close what idles just when a POST is sent: after 2 s a POST makes a new one, a look does not."""
    async with keeping_alive(own) as (nb, server):
        await nb.submit("gpt-5", "Hello")
        await nb.submit("gpt-5", "Hello")
        assert server.connections == 1
        await anyio.sleep(2.2)
        await nb.get(18500)
        assert server.connections == 1
        await anyio.sleep(2.2)
        await nb.submit("gpt-5", "Hello")
        assert server.connections == 2


@over_all_connections
async def test_many_calls_share_a_few_connections(connect: Connect) -> None:
    """One after the other they need one connection, all at once no more than one each."""
    async with keeping_alive(connect) as (nb, server):
        for _ in range(5):
            await nb.get(18500)
        assert server.connections == 1
        async with anyio.create_task_group() as calls:
            for _ in range(20):
                calls.start_soon(nb.get, 18500)
        assert server.connections <= 20


@over_all_connections
async def test_a_connection_that_the_server_closed_is_no_error_for_a_look(connect: Connect) -> None:
    """A look over a connection that is gone is made again over another one."""
    async with keeping_alive(connect, every=1) as (nb, server):
        for _ in range(3):
            assert (await nb.get(18500)).id == 18500
            await anyio.sleep(0.05)
        assert server.connections >= 3


@over_all_connections
async def test_nobody_listens(connect: Connect) -> None:
    """A refused connection never pulled the body: it is tried again and ends as certainly unpaid."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(SocketAttribute.local_port)
    async with connect(f"http://127.0.0.1:{port}", max_retries=1) as nb:
        with pytest.raises(APIConnectionError) as caught:
            await nb.submit("gpt-5", "Hello")
    assert (caught.value.billed, caught.value.retryable) == ("no", True)


@over_all_connections
async def test_a_cancelled_look_costs_its_connection_and_no_place(connect: Connect) -> None:
    """A server that never answers is left by a cancellation; the only place serves the next call."""
    connections, asked = 0, anyio.Event()

    async def serve(stream: SocketStream) -> None:
        nonlocal connections
        connections += 1
        async with stream:
            await stream.receive()
            if connections == 1:
                asked.set()
                await anyio.sleep_forever()
            await stream.send(HEAD + REPLY)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        base_url = f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        async with connect(base_url, max_connections=1) as nb:
            async with anyio.create_task_group() as calls:
                calls.start_soon(nb.get, 18500)
                await asked.wait()
                calls.cancel_scope.cancel()
            assert (await nb.get(18500, timeout=5)).id == 18500
        tasks.cancel_scope.cancel()
    assert connections == 2

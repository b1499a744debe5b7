"""What a load must not do, in counts that are the same on every machine. Times are measured by `nox -s bench`."""

import gc
import random
import socketserver
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version
from typing import Any

import anyio
import pytest

from neuralbox_async import AsyncNeuralBox, GenerationRequest
from neuralbox_async.sandbox import Sandbox, VirtualTimeLoop

pytestmark = pytest.mark.anyio
on_both_real_clocks = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])

REPLY = b"""{"id": 18502, "status": "completed", "model_slug": "kling-v2.1-pro", "tokens_spent": 60,
"result_url": "https://storage.neuralbox.top/generations/18502.mp4", "processing_ms": 87420,
"result_metadata": {"duration": 5, "width": 1920, "height": 1080}}"""
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(REPLY), REPLY)
PLACES = 20


class Server(socketserver.ThreadingTCPServer):
    """Answers each request, in a thread of its connection, when `ready` returns; keeps the connections' addresses."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self) -> None:
        self.connections: list[object] = []
        self.ready: Callable[[bytes], object] = bytes
        super().__init__(("127.0.0.1", 0), Connection)

    def client(self, **options: Any) -> AsyncNeuralBox:
        """Return a client of this server."""
        return AsyncNeuralBox("nb_test_key", base_url=f"http://127.0.0.1:{self.server_address[1]}/api/v2", **options)


class Connection(socketserver.StreamRequestHandler):
    """One connection; a client that hangs up ends it."""

    def handle(self) -> None:
        """Answer each request once its head has ended."""
        assert isinstance(self.server, Server)
        self.server.connections.append(self.client_address)
        request = b""
        with suppress(ConnectionError, threading.BrokenBarrierError):
            for line in self.rfile:
                request += line
                if line == b"\r\n":
                    self.server.ready(request)
                    self.wfile.write(ANSWER)
                    request = b""


@pytest.fixture
def server() -> Iterator[Server]:
    """Run a server in threads, so that its own function calls are not counted."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=[0.01])
        thread.start()
        yield running
        running.shutdown()
        thread.join()


async def steady(call: Callable[[], Awaitable[object]], *, calls: int, in_flight: int) -> None:
    """Make so many calls, always so many of them in flight."""
    left = iter(range(calls))

    async def worker() -> None:
        for _ in left:
            await call()

    async with anyio.create_task_group() as workers:
        for _ in range(in_flight):
            workers.start_soon(worker)


@contextmanager
def counting_function_calls() -> Iterator[list[int]]:
    """Count the calls that this thread makes, of functions in Python and in C."""
    counted = [0]

    def note(_frame: object, event: str, _argument: object) -> None:
        if event in {"call", "c_call"}:
            counted[0] += 1

    sys.setprofile(note)
    try:
        yield counted
    finally:
        sys.setprofile(None)


async def function_calls_of_a_look(nb: AsyncNeuralBox, in_flight: int) -> float:
    """Return the function calls of one look in the steady state."""
    await steady(partial(nb.get, 18502), calls=2 * in_flight, in_flight=in_flight)
    with counting_function_calls() as counted:
        await steady(partial(nb.get, 18502), calls=500, in_flight=in_flight)
    return counted[0] / 500


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # the figures are asyncio's; trio's are its own
async def test_a_look_takes_few_function_calls_however_many_are_in_flight(server: Server) -> None:
    """A look takes about as many calls as a plain GET of httpx (2,300 to 2,600), and as many among 50 as alone."""
    async with server.client() as nb:
        alone = await function_calls_of_a_look(nb, in_flight=1)
        among_50 = await function_calls_of_a_look(nb, in_flight=50)
    assert alone <= 2_700
    assert among_50 == pytest.approx(alone, rel=0.02)


@on_both_real_clocks
async def test_two_thousand_looks_at_once_all_succeed(server: Server) -> None:
    """However many are launched at once, each gets its turn, over no more connections than allowed."""
    found = []

    async def look() -> None:
        found.append((await nb.get(18502)).id)

    async with server.client(max_connections=PLACES) as nb, anyio.create_task_group() as tasks:
        for _ in range(2_000):
            tasks.start_soon(look)
    assert found == [18502] * 2_000
    assert len(server.connections) <= PLACES


@on_both_real_clocks
async def test_the_steady_state_makes_no_connection(server: Server) -> None:
    """Once there is a connection for each call in flight, no call makes another."""
    async with server.client() as nb:
        await steady(partial(nb.get, 18502), calls=2 * PLACES, in_flight=PLACES)
        made = len(server.connections)
        await steady(partial(nb.get, 18502), calls=500, in_flight=PLACES)
    assert len(server.connections) == made


@contextmanager
def sockets_that_old_anyio_leaks() -> Iterator[None]:
    """Let garbage collection close what anyio before 4.16 leaves open when `connect_tcp` is cancelled."""
    with warnings.catch_warnings():
        if tuple(map(int, version("anyio").split(".")[:2])) < (4, 16):
            warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


@on_both_real_clocks
async def test_cancellations_cost_no_place(server: Server) -> None:
    """After 1,200 looks cancelled at any instant, as many as ever are under way at once: the server waits for them."""
    chance = random.Random(0)

    async def cancelled(seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await nb.get(18502)

    async with server.client(max_connections=PLACES) as nb:
        with sockets_that_old_anyio_leaks():
            for _ in range(20):
                async with anyio.create_task_group() as tasks:
                    for _ in range(60):
                        tasks.start_soon(cancelled, chance.uniform(0, 0.02))
        all_at_once = threading.Barrier(PLACES, timeout=10)
        server.ready = lambda request: b"/afterwards " in request and all_at_once.wait()
        async with anyio.create_task_group() as tasks:
            for _ in range(3 * PLACES):
                tasks.start_soon(partial(nb.get, "afterwards", timeout=10))


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"loop_factory": VirtualTimeLoop})])
async def test_hundreds_that_wait_together_take_few_function_calls_each() -> None:
    """A page wakes nobody without news, is read as far as it is new, and is thought of once for jobs that are alike.

    Without any of that these took 52,000 a job.
    """
    sandbox = Sandbox(plan="elite", balance=10**9)
    clips = (GenerationRequest("kling-v2.1", f"A flower {number}", {"duration": 5}) for number in range(300))
    with counting_function_calls() as counted:
        async with sandbox.client() as nb, nb.generate_many(clips, max_concurrency=300) as outcomes:
            failed = [outcome async for outcome in outcomes if outcome.error is not None]
    assert not failed
    assert counted[0] / 300 <= 15_000

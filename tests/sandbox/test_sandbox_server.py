"""The server: the sandbox over real sockets, in real time (so these tests are few, and fast)."""

import json
import signal
import socket
import sys
import time
import warnings

import anyio
import httpx
import pytest

from neuralbox_async.sandbox import Sandbox, asgi_app, faults, serve
from neuralbox_async.sandbox.asgi import Message

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Run on a real clock."""
    return "asyncio"


@pytest.fixture
def sandbox() -> Sandbox:
    """Return a sandbox in which a minute takes 60 ms."""
    return Sandbox(speed=1000)


def request(sandbox: Sandbox, base_url: str) -> tuple[tuple[str, int], bytes]:
    """Return the server's address and the bytes of one POST."""
    host, port = base_url.removeprefix("http://").removesuffix("/api/v2").split(":")
    body = json.dumps({"model": "gpt-5", "prompt": "Hello"}).encode()
    head = (
        f"POST /api/v2/generate HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {sandbox.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return (host, int(port)), head.encode() + body


async def exchange(sandbox: Sandbox, base_url: str) -> bytes:
    """Send one POST by hand and return every byte that comes back until the connection closes."""
    address, content = request(sandbox, base_url)
    got = b""
    async with await anyio.connect_tcp(*address) as stream:
        await stream.send(content)
        with anyio.move_on_after(2):
            while True:
                try:
                    got += await stream.receive()
                except anyio.EndOfStream:
                    return got
    pytest.fail(f"the server kept the connection open after {got!r}")


async def test_a_cancellation_while_it_starts_ends_it(sandbox: Sandbox) -> None:
    """Nobody is there yet whom leaving the block could drop, and the server does not wait for any."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with serve(sandbox):
            pytest.fail("it began")
    assert scope.cancelled_caught


async def test_a_generation_over_real_sockets(sandbox: Sandbox) -> None:
    """A video is booked, waited for and fetched from the port that it was booked on."""
    async with serve(sandbox) as base_url, httpx.AsyncClient(base_url=base_url) as http:
        headers = {"Authorization": f"Bearer {sandbox.key}"}
        body = {"model": "luma-ray2-flash", "prompt": "A blooming flower"}
        told = (await http.post("/generate", json=body, headers=headers)).json()
        while told["status"] == "pending":
            await anyio.sleep(0.02)
            told = (await http.get(f"/generate/{told['id']}", headers=headers)).json()
        assert told["result_url"].startswith(base_url.removesuffix("/api/v2"))
        file = await http.get(told["result_url"])
    assert file.content.startswith(b"GIF89a")
    assert file.headers.get_list("Date") == [file.headers["Date"]]
    assert "2026" in file.headers["Date"]
    assert "Server" not in file.headers


@pytest.mark.parametrize("fault", [faults.cut(), faults.lost(), faults.refuse()])
async def test_a_cut_drops_the_connection_without_a_byte(
    sandbox: Sandbox, fault: faults.Fault, capfd: pytest.CaptureFixture[str]
) -> None:
    """An ordered cut closes the TCP connection with no HTTP answer, and nothing is printed about it."""
    sandbox.order(fault)
    async with serve(sandbox) as base_url:
        assert await exchange(sandbox, base_url) == b""
    assert capfd.readouterr() == ("", "")


async def test_a_cut_in_the_body_drops_the_connection_there(
    sandbox: Sandbox, capfd: pytest.CaptureFixture[str]
) -> None:
    """The head and half the body arrive, then the connection closes."""
    sandbox.order(faults.cut_in_body())
    async with serve(sandbox) as base_url:
        head, _, body = (await exchange(sandbox, base_url)).partition(b"\r\n\r\n")
    length = next(int(line.split()[1]) for line in head.lower().splitlines() if line.startswith(b"content-length"))
    assert 0 < len(body) < length
    assert capfd.readouterr() == ("", "")


async def test_other_connections_survive_a_cut(sandbox: Sandbox) -> None:
    """Only the connection that carried the request is dropped."""
    sandbox.order(faults.delay(0.2), on="GET /balance")
    sandbox.order(faults.cut())
    answers: list[httpx.Response] = []
    async with serve(sandbox) as base_url, httpx.AsyncClient(base_url=base_url) as http:

        async def ask() -> None:
            answers.append(await http.get("/balance", headers={"Authorization": f"Bearer {sandbox.key}"}))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await anyio.sleep(0.05)
            assert await exchange(sandbox, base_url) == b""
    assert [answer.status_code for answer in answers] == [200]


@pytest.mark.parametrize("fault", [faults.hang(), faults.unreachable(), faults.delay(60)])
async def test_leaving_ends_what_hangs(
    sandbox: Sandbox, fault: faults.Fault, capfd: pytest.CaptureFixture[str]
) -> None:
    """The block ends fast and quietly while a client still waits for its answer."""
    sandbox.order(fault)
    before = time.monotonic()
    async with serve(sandbox) as base_url:
        address, content = request(sandbox, base_url)
        stream = await anyio.connect_tcp(*address)
        await stream.send(content)
        await anyio.sleep(0.05)
    await stream.aclose()
    assert time.monotonic() - before < 1
    assert capfd.readouterr() == ("", "")


async def test_a_client_that_leaves_is_not_waited_for(sandbox: Sandbox) -> None:
    """A request whose client is gone was still booked."""
    sandbox.order(faults.delay(60))
    async with serve(sandbox) as base_url:
        address, content = request(sandbox, base_url)
        async with await anyio.connect_tcp(*address) as stream:
            await stream.send(content)
            await anyio.sleep(0.05)
    assert len(sandbox.charges) == 1


async def test_a_request_that_breaks_off_is_never_answered(sandbox: Sandbox) -> None:
    """A client that leaves in the middle of its own body has asked nothing."""
    async with serve(sandbox) as base_url:
        address, content = request(sandbox, base_url)
        async with await anyio.connect_tcp(*address) as stream:
            await stream.send(content[:-5])
            await anyio.sleep(0.05)
        await anyio.sleep(0.05)
    assert sandbox.requests.total == 0


async def test_the_port_is_free_again_afterwards(sandbox: Sandbox) -> None:
    """Leaving the block closes the port, also when the block was left at once."""
    async with serve(sandbox) as base_url:
        address, _ = request(sandbox, base_url)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(address, timeout=1)


async def test_a_taken_port_is_an_error_at_once(sandbox: Sandbox) -> None:
    """A second server on one port raises OSError."""
    async with serve(sandbox) as base_url:
        address, _ = request(sandbox, base_url)
        with pytest.raises(OSError, match="in use"):
            async with serve(sandbox, port=address[1]):
                pass


async def test_the_blocks_own_error_leaves_as_itself(sandbox: Sandbox) -> None:
    """An error in the block is not wrapped in a group."""
    with pytest.raises(ZeroDivisionError):
        async with serve(sandbox):
            raise ZeroDivisionError


async def test_a_cancelled_block_ends_cleanly(sandbox: Sandbox) -> None:
    """Cancelling the program around the server closes it like leaving does."""
    with warnings.catch_warnings(), anyio.move_on_after(0.05) as scope:
        warnings.simplefilter("error")
        async with serve(sandbox):
            await anyio.sleep_forever()
    assert scope.cancelled_caught


async def test_signals_stay_the_programs_own(sandbox: Sandbox) -> None:
    """Serving installs no signal handler."""
    before = signal.getsignal(signal.SIGTERM)
    async with serve(sandbox):
        assert signal.getsignal(signal.SIGTERM) is before


async def test_without_uvicorn_it_says_what_to_install(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The missing extra is named."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(RuntimeError, match=r'pip install "neuralbox-async\[sandbox\]"'):
        async with serve(sandbox):
            pass


def test_on_trio_it_says_what_to_do(sandbox: Sandbox) -> None:
    """Trio programs are told that the server needs asyncio."""

    async def main() -> None:
        async with serve(sandbox):
            pass

    with pytest.raises(RuntimeError, match="needs asyncio"):
        anyio.run(main, backend="trio")


async def test_another_asgi_server_cannot_cut(sandbox: Sandbox) -> None:
    """On an ASGI server that offers no way to drop a connection an ordered cut raises, and says what to use."""
    sandbox.order(faults.cut())
    transport = httpx.ASGITransport(asgi_app(sandbox))
    async with httpx.AsyncClient(transport=transport, base_url=sandbox.base_url) as http:
        with pytest.raises(ConnectionAbortedError, match=r"use neuralbox_async\.sandbox\.serve"):
            await http.post("/generate", json={"model": "gpt-5", "prompt": "Hello"})


async def test_the_app_speaks_http_only(sandbox: Sandbox) -> None:
    """A websocket or a lifespan is refused with a reason."""

    async def receive() -> Message:
        raise NotImplementedError

    async def send(_: Message) -> None:
        raise NotImplementedError

    with pytest.raises(ValueError, match="not lifespan: switch that off"):
        await asgi_app(sandbox)({"type": "lifespan"}, receive, send)

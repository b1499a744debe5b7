"""The transport: what httpx sees of the sandbox in process, on asyncio and trio, in virtual time."""

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest

from neuralbox_async.sandbox import Fault, Sandbox, VirtualTimeLoop, faults, http_client

pytestmark = pytest.mark.anyio

VIDEO = {"model": "kling-v2.1", "prompt": "A blooming flower"}
TEXT = {"model": "gpt-5", "prompt": "Hello"}


@pytest.fixture
def sandbox() -> Sandbox:
    """Return a sandbox without limits."""
    return Sandbox(plan="elite", balance=10**6)


@pytest.fixture
async def http(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    """Yield an httpx client that meets the sandbox with the right key."""
    async with http_client(sandbox) as client:
        client.base_url = httpx.URL(sandbox.base_url)
        client.headers["Authorization"] = f"Bearer {sandbox.key}"
        yield client


class Body:
    """A request's body that remembers whether it was pulled."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = json.dumps(content).encode()
        self.pulled = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body in two pieces."""
        self.pulled = True
        yield self.content[:7]
        yield self.content[7:]


async def test_a_text_takes_its_time(http: httpx.AsyncClient) -> None:
    """The POST of a text returns after as many seconds as its answer says it took."""
    before = anyio.current_time()
    answer = await http.post("/generate", json=TEXT)
    assert answer.json()["processing_ms"] == pytest.approx(1000 * (anyio.current_time() - before), abs=1)


async def test_time_is_the_event_loops(http: httpx.AsyncClient) -> None:
    """A video is done when the loop's clock has moved on far enough."""
    generation = (await http.post("/generate", json=VIDEO)).json()["id"]
    assert (await http.get(f"/generate/{generation}")).json()["status"] == "pending"
    await anyio.sleep(600)
    assert (await http.get(f"/generate/{generation}")).json()["status"] == "completed"


async def test_time_may_be_let_pass(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """Fast-forwarding the sandbox finishes a video while the loop's clock stands still."""
    generation = (await http.post("/generate", json=VIDEO)).json()["id"]
    sandbox.fast_forward(600)
    assert (await http.get(f"/generate/{generation}")).json()["status"] == "completed"


async def test_a_body_is_read_piece_by_piece(http: httpx.AsyncClient) -> None:
    """A streamed request arrives whole."""
    body = Body(TEXT)
    assert (await http.post("/generate", content=body)).status_code == 200
    assert body.pulled


@pytest.mark.parametrize(
    ("fault", "error", "pulled"),
    [
        (faults.refuse(), httpx.ConnectError, False),
        (faults.unreachable(), httpx.ConnectTimeout, False),
        (faults.cut(), httpx.RemoteProtocolError, True),
        (faults.lost(), httpx.RemoteProtocolError, True),
        (faults.hang(), httpx.ReadTimeout, True),
        (faults.delay(100), httpx.ReadTimeout, True),
        (faults.cut_in_body(), httpx.RemoteProtocolError, True),
    ],
)
async def test_a_fault_is_the_error_httpx_has_for_it(
    http: httpx.AsyncClient,
    sandbox: Sandbox,
    fault: Fault,
    error: type[Exception],
    pulled: bool,  # noqa: FBT001
) -> None:
    """Each fault raises what a network would, and only a refused connection leaves the body alone."""
    sandbox.order(fault)
    body = Body(TEXT)
    with pytest.raises(error):
        await http.post("/generate", content=body, timeout=20)
    assert body.pulled is pulled


@pytest.mark.parametrize(("fault", "phase"), [(faults.unreachable(), "connect"), (faults.hang(), "read")])
async def test_timeouts_are_the_clients(http: httpx.AsyncClient, sandbox: Sandbox, fault: Fault, phase: str) -> None:
    """The connect and read timeouts of the request say how long httpx waits."""
    sandbox.order(fault)
    before = anyio.current_time()
    with pytest.raises(httpx.TimeoutException):
        await http.post("/generate", json=TEXT, timeout=httpx.Timeout(None, **{phase: 7.0}))
    assert anyio.current_time() - before == pytest.approx(7)


async def test_without_a_timeout_a_hanging_connection_hangs(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """Only cancelling ends a wait that the client set no end to."""
    sandbox.order(faults.hang())
    with anyio.move_on_after(10**6) as scope:
        await http.post("/generate", json=TEXT, timeout=None)
    assert scope.cancelled_caught


async def test_a_long_body_comes_in_pieces(http: httpx.AsyncClient) -> None:
    """A file is streamed, not handed over whole, and is as long as announced."""
    url = (await http.post("/generate", json={**TEXT, "model": "musicgen"})).json()["id"]
    await anyio.sleep(600)
    async with http.stream("GET", f"https://sandbox.neuralbox.test/generations/{url}.wav") as answer:
        pieces = [len(piece) async for piece in answer.aiter_raw()]
    assert len(pieces) > 1
    assert sum(pieces) == int(answer.headers["Content-Length"])


async def test_a_cut_body_is_shorter_than_announced(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """Some of the body arrives before the connection is dropped."""
    sandbox.order(faults.cut_in_body(), on="GET /balance")
    async with http.stream("GET", "/balance") as answer:
        with pytest.raises(httpx.RemoteProtocolError):
            await answer.aread()
    assert 0 < answer.num_bytes_downloaded < int(answer.headers["Content-Length"])


async def test_a_thousand_jobs_in_virtual_time(http: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """A thousand one-minute videos with a look every 15 s take minutes of virtual time, and paid once each."""

    async def run() -> None:
        told = (await http.post("/generate", json=VIDEO)).json()
        while told["status"] == "pending":
            await anyio.sleep(15)
            told = (await http.get(f"/generate/{told['id']}")).json()

    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for _ in range(1000):
            tasks.start_soon(run)
    assert 60 < anyio.current_time() - began < 400
    assert len(sandbox.charges) == 1000
    assert sandbox.balance == 10**6 - 26_000


def test_a_sandbox_lives_on_in_another_event_loop() -> None:
    """Time goes on from where it was when a second event loop, whose clock starts anew, meets the same sandbox."""
    sandbox = Sandbox()

    async def sleep_and_ask(seconds: float) -> str:
        async with http_client(sandbox) as client:
            headers = {"Authorization": f"Bearer {sandbox.key}"}
            await client.get(f"{sandbox.base_url}/balance", headers=headers)
            await anyio.sleep(seconds)
            return (await client.get(f"{sandbox.base_url}/balance", headers=headers)).headers["Date"]

    dates = [anyio.run(sleep_and_ask, 100, backend_options={"loop_factory": VirtualTimeLoop}) for _ in range(2)]
    assert dates == ["Sun, 08 Mar 2026 12:01:40 GMT", "Sun, 08 Mar 2026 12:03:20 GMT"]

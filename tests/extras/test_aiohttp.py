"""Over aiohttp's connections the rules of money hold as over our own, on real sockets."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from neuralbox_async import (
    Abandoned,
    APIConnectionError,
    AsyncNeuralBox,
    Event,
    GenerationRequest,
    OutcomeUnknownError,
    RateLimitError,
)
from neuralbox_async.extras.aiohttp import aiohttp_client
from neuralbox_async.sandbox import Fault, Sandbox, faults, serve

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]


@asynccontextmanager
async def client(sandbox: Sandbox, **options: object) -> AsyncIterator[AsyncNeuralBox]:
    """Give a client that talks to a served sandbox over aiohttp."""
    wired = {"pacing": sandbox.pacing(), "look_price": sandbox.look_price, **options}
    async with (
        serve(sandbox) as base_url,
        aiohttp_client() as own,
        AsyncNeuralBox(sandbox.key, base_url=base_url, http_client=own, **wired) as nb,  # type: ignore[arg-type]
    ):
        yield nb


async def test_without_the_extra_it_says_how_to_install_it() -> None:
    """An import where aiohttp is missing names the extra."""
    script = "import sys; sys.modules['httpx_aiohttp'] = None; import neuralbox_async.extras.aiohttp"
    ended = await anyio.run_process([sys.executable, "-c", script], check=False)
    assert ended.returncode == 1
    assert b'pip install "neuralbox-async[aiohttp]"' in ended.stderr


async def test_a_mixed_batch(tmp_path: Path) -> None:
    """Texts and clips are generated, looked at and downloaded; the key does not travel with the files."""
    sandbox = Sandbox(speed=100, plan="elite")
    models = ["gpt-5", "kling-v2.1", "dall-e-3"]
    requests = [GenerationRequest(models[number % 3], f"Number {number}", key=f"{number}") for number in range(30)]
    async with client(sandbox) as nb, nb.generate_many(requests, max_concurrency=10, download_to=tmp_path) as outcomes:
        found = [outcome async for outcome in outcomes]
    assert [outcome.error for outcome in found] == [None] * 30
    assert len(list(tmp_path.iterdir())) == 30
    assert sandbox.requests.posts == len(sandbox.charges) == 30
    assert sandbox.requests.files_with_key == 0


@pytest.mark.parametrize(
    "fault",
    [faults.cut(), faults.lost(), faults.cut_in_body(), faults.html(), faults.garbled(), faults.empty()],
    ids=["cut", "lost", "cut in body", "html", "garbled", "empty"],
)
async def test_a_lost_answer_is_one_post(fault: Fault) -> None:
    """However the answer is lost, there is one POST and an honest unknown."""
    sandbox = Sandbox(speed=100)
    sandbox.order(fault)
    async with client(sandbox) as nb:
        with pytest.raises(OutcomeUnknownError):
            await nb.submit("gpt-5", "Hello")
    assert sandbox.requests.posts == 1


async def test_a_timeout_after_the_post_left_is_doubt() -> None:
    """The deadline strikes while the server is silent."""
    sandbox = Sandbox(speed=100)
    sandbox.order(faults.hang())
    async with client(sandbox) as nb:
        with pytest.raises(OutcomeUnknownError):
            await nb.submit("gpt-5", "Hello", timeout=0.5)
    assert sandbox.requests.posts == 1


async def test_a_refused_connection_cost_nothing() -> None:
    """Nobody listens: the body was never pulled, the POST is tried again and ends as certainly unpaid."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with aiohttp_client() as own:
        nb = AsyncNeuralBox("nb_test_key", base_url=f"http://127.0.0.1:{port}", http_client=own, max_retries=1)
        with pytest.raises(APIConnectionError) as caught:
            await nb.submit("gpt-5", "Hello")
    assert (caught.value.billed, caught.value.retryable) == ("no", True)


async def test_a_cancelled_post_learns_its_id() -> None:
    """Cancelled after it left, the POST goes on for the grace."""
    sandbox = Sandbox(speed=1)
    events: list[Event] = []
    async with client(sandbox, observe=events.append) as nb, anyio.create_task_group() as tasks:
        tasks.start_soon(nb.submit, "gpt-5-nano", "Hello")
        while not sandbox.requests.posts:  # noqa: ASYNC110 - the sandbox sets no event
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    (abandoned,) = [event for event in events if isinstance(event, Abandoned)]
    assert abandoned.generation is not None
    assert abandoned.generation.id == 18500


async def test_a_429_is_waited_for() -> None:
    """The service's own seconds are waited, then the POST is sent again; without retries it is raised."""
    sandbox = Sandbox(speed=100)
    sandbox.order(faults.rate_limited(0.2), times=2)
    async with client(sandbox) as nb:
        with pytest.raises(RateLimitError):
            await nb.with_options(max_retries=0).submit("gpt-5", "Hello")
        assert (await nb.submit("gpt-5", "Hello")).text
    assert len(sandbox.charges) == 1


async def test_the_environment_s_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """As over our own connections, a proxy that the environment names stands between us and the service."""
    asked = anyio.Event()

    async def proxy(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            request = await stream.receive()
            assert request.startswith(b"GET http://api.test/v2/balance HTTP/1.1\r\n")
            asked.set()
            await stream.send(b'HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{"token_balance": 283}')

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}")
        tasks.start_soon(listener.serve, proxy)
        async with aiohttp_client() as own:
            nb = AsyncNeuralBox("nb_test_key", base_url="http://api.test/v2", allow_insecure_http=True, http_client=own)
            assert (await nb.balance()).token_balance == 283
        tasks.cancel_scope.cancel()
    assert asked.is_set()

"""Connections: one client of one event loop, a gate in front, and nobody starves."""

import gc
import warnings
from typing import Any

import anyio
import httpx
import pytest
import respx

from neuralbox_async import AsyncNeuralBox, ClientClosedError, UsageError
from neuralbox_async._edge.slots import Slots
from neuralbox_async.plain import environment_proxy

pytestmark = pytest.mark.anyio

BASE = "https://api.test/v2"


def client(**options: Any) -> AsyncNeuralBox:
    """Return a client."""
    return AsyncNeuralBox("nb_test_key", base_url=BASE, **options)


class Slow(httpx.AsyncBaseTransport):
    """Takes 10 s for each request and notes how many it had at once."""

    def __init__(self) -> None:
        self.now: dict[str, int] = {"POST": 0, "GET": 0}
        self.most: dict[str, int] = {"POST": 0, "GET": 0, "all": 0}
        self.order: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer after 10 s."""
        content = await request.aread()
        self.order.append(f"{request.method} {request.url.path} {content.decode()}")
        self.now[request.method] += 1
        self.most[request.method] = max(self.most[request.method], self.now[request.method])
        self.most["all"] = max(self.most["all"], sum(self.now.values()))
        await anyio.sleep(10)
        self.now[request.method] -= 1
        asked_for = request.url.path.rsplit("/", 1)[-1]
        told = int(asked_for) if asked_for.isdecimal() else 7
        return httpx.Response(200, json={"id": told, "status": "completed", "token_balance": 1})


@pytest.mark.parametrize(("size", "submissions"), [(1, 1), (2, 1), (3, 1), (10, 5), (100, 50)])
async def test_submissions_take_half_of_the_gate(size: int, submissions: int) -> None:
    """Never more requests than max_connections, never more than half of them submissions."""
    wire = Slow()
    nb = client(http_client=httpx.AsyncClient(transport=wire), max_connections=size)
    async with anyio.create_task_group() as tasks:
        for number in range(3 * size):
            tasks.start_soon(nb.submit, "gpt-5", "Hello")
            tasks.start_soon(nb.get, number)
    assert (wire.most["POST"], wire.most["all"]) == (submissions, size)


async def test_slow_submissions_do_not_starve_looks() -> None:
    """With the gate's half full of submissions and many more in line, a look goes at once."""
    nb = client(http_client=httpx.AsyncClient(transport=Slow()), max_connections=4)
    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(nb.submit, "gpt-5", "Hello")
        await anyio.sleep(1)
        await nb.get(7, timeout=10.5)
        tasks.cancel_scope.cancel()


async def test_first_come_first_served() -> None:
    """Calls go through the gate in the order in which they came."""
    wire = Slow()
    nb = client(http_client=httpx.AsyncClient(transport=wire), max_connections=1)
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(nb.get, number)
            await anyio.sleep(0.01)
    assert [int(line.split("/")[-1]) for line in wire.order] == list(range(20))


async def test_a_closed_client_says_so() -> None:
    """Every call after aclose is refused, before anything is sent; closing twice is harmless."""
    async with client() as nb:
        pass
    await nb.aclose()
    for call in (nb.submit("gpt-5", "Hello"), nb.get(7), nb.balance(), nb.wait(7)):
        with pytest.raises(ClientClosedError, match="is closed; create a new one"):
            await call


async def test_a_closed_client_closes_its_connections() -> None:
    """The connections that we made are closed with the client."""
    slots = Slots(5, None)
    gate = slots.gate(paid=False)
    await gate.acquire()
    made = slots.client()
    gate.release()
    assert not made.is_closed
    await slots.aclose()
    await slots.aclose()
    assert made.is_closed


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_another_event_loop_is_refused(backend: str) -> None:
    """A client of a finished loop says whose mistake it is, instead of hanging on a dead connection."""
    nb = client(http_client=httpx.AsyncClient(transport=Slow()))

    async def ask() -> None:
        with anyio.move_on_after(0.05):
            await nb.balance()

    anyio.run(ask, backend=backend)
    with pytest.raises(ClientClosedError, match="belongs to another event loop"):
        anyio.run(ask, backend=backend)


MODULE_LEVEL = client()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # it belongs to the first loop that uses it
async def test_a_module_level_client_needs_no_with() -> None:
    """A client made where no loop runs works in the loop that uses it first, and is closed by aclose."""
    with respx.mock:
        respx.get(f"{BASE}/balance").respond(json={"token_balance": 283})
        assert (await MODULE_LEVEL.balance()).token_balance == 283
        await MODULE_LEVEL.aclose()


def forget(nb: list[AsyncNeuralBox]) -> list[str]:
    """Drop a client and return what Python warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        nb.clear()
        gc.collect()
    return [str(warning.message) for warning in caught if issubclass(warning.category, ResourceWarning)]


async def ask(nb: AsyncNeuralBox) -> None:
    """Use a client once."""
    with respx.mock:
        respx.get(f"{BASE}/balance").respond(json={"token_balance": 283})
        await nb.balance()


async def test_a_forgotten_client_warns() -> None:
    """Connections that nobody closed are a ResourceWarning that says what to write."""
    nb = client()
    await ask(nb)
    kept = [nb]
    del nb
    (warning,) = forget(kept)
    assert "async with AsyncNeuralBox() as nb" in warning


@pytest.mark.parametrize("case", ["closed", "never used", "of the caller", "never used by a view"])
async def test_a_client_with_nothing_to_close_does_not_warn(case: str) -> None:
    """Closed, unused and borrowed connections are nobody's leak."""
    nb = client(http_client=httpx.AsyncClient(transport=Slow()) if case == "of the caller" else None)
    if case == "closed":
        await ask(nb)
        await nb.aclose()
    elif case == "of the caller":
        await nb.balance()
    elif case == "never used by a view":
        nb.with_options(timeout=5)
    kept = [nb]
    del nb
    assert forget(kept) == []


@pytest.mark.parametrize("size", [0, -1, 1.5, True, None, "10"])
def test_the_number_of_connections_must_make_sense(size: Any) -> None:
    """A gate needs at least one place."""
    with pytest.raises(UsageError, match="max_connections must be a whole number of 1 or more"):
        client(max_connections=size)


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({}, "https://api.test/v2", None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "https://api.test/v2", "http://proxy:3128"),
        ({"HTTPS_PROXY": "proxy:3128"}, "https://api.test/v2", "http://proxy:3128"),
        ({"https_proxy": "http://proxy:3128"}, "https://api.test/v2", "http://proxy:3128"),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://api.test/v2", None),
        ({"HTTP_PROXY": "http://proxy:3128"}, "https://api.test/v2", None),
        ({"ALL_PROXY": "http://all:3128"}, "https://api.test/v2", "http://all:3128"),
        ({"ALL_PROXY": "http://all:3128", "HTTPS_PROXY": "http://proxy:1"}, "https://api.test/v2", "http://proxy:1"),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "api.test"}, "https://api.test/v2", None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": ".test"}, "https://api.test/v2", None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "*"}, "https://api.test/v2", None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "other"}, "https://api.test/v2", "http://proxy:3128"),
    ],
)
def test_proxies_come_from_the_environment(
    variables: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy is the one that httpx itself would take."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert environment_proxy(httpx.URL(url)) == proxy

"""Any host: names are looked up once, what lies inside a network is refused, the checked address is connected to."""

import socket
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import respx
from anyio.abc import SocketAttribute, SocketStream

from neuralbox_async import APIConnectionError, AsyncNeuralBox, Generation, ResponseError

pytestmark = pytest.mark.anyio
PNG = b"\x89PNG\r\n\x1a\n" + bytes(1000)


def client(**options: Any) -> AsyncNeuralBox:
    """Return a client that takes results from any host."""
    return AsyncNeuralBox("nb_test_key", base_url="https://api.test/v2", file_hosts=["named.test", "*"], **options)


def done(url: str) -> Generation:
    """Return a completed generation."""
    return Generation(id=7, status="completed", url=url)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Give the addresses of names, in the name servers' place; each entry is one answer."""
    answers: dict[str, list[str]] = {}

    def look_up(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        if host not in answers:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in answers[host]]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return answers


async def test_the_checked_address_is_connected_to(names: dict[str, list[str]]) -> None:
    """The URL has the address, Host and the certificate's name are the host's: a second look-up cannot change it."""
    names["anybody.test"] = ["93.184.216.34"]
    with respx.mock:
        route = respx.get("https://93.184.216.34:8443/x?sig=1").respond(content=PNG)
        async with client() as nb:
            assert await nb.read(done("https://anybody.test:8443/x?sig=1")) == PNG
    sent = route.calls.last.request
    assert (sent.headers["host"], sent.extensions["sni_hostname"]) == ("anybody.test:8443", "anybody.test")
    assert "authorization" not in sent.headers


async def test_an_address_that_can_be_read_in_two_ways_is_refused() -> None:
    """What was checked must be what is connected to, or one reader's public host is another's."""
    async with client() as nb:
        with pytest.raises(ResponseError, match="can be read in two ways"):
            await nb.read(done("https://any\u3002body.test/x"))


@pytest.mark.parametrize(
    "addresses",
    [
        ["169.254.169.254"],
        ["10.0.0.5"],
        ["127.0.0.1"],
        ["fd00:ec2::254"],
        ["::ffff:10.0.0.5"],
        ["93.184.216.34", "10.0.0.5"],
    ],
    ids=str,
)
async def test_a_name_that_leads_inside_is_refused(addresses: list[str], names: dict[str, list[str]]) -> None:
    """Metadata services, private networks and this machine are not asked, nor a name that also leads there."""
    names["anybody.test"] = addresses
    with respx.mock:
        async with client() as nb:
            with pytest.raises(
                ResponseError, match=r"no address of the public internet.*file_hosts=\['anybody\.test'\]"
            ):
                await nb.read(done("https://anybody.test/x"))


@pytest.mark.parametrize("host", ["169.254.169.254", "10.0.0.5", "[::1]", "[fe80::1]", "localhost", "127.1", "0x7f.1"])
async def test_an_address_inside_is_refused(host: str) -> None:
    """Without a name, or by a way to write it that only resolvers understand; here they are asked."""
    async with client() as nb:
        with pytest.raises((ResponseError, APIConnectionError)):
            await nb.read(done(f"https://{host}/latest/meta-data"), timeout=3)


async def test_a_redirect_is_pinned_too(names: dict[str, list[str]]) -> None:
    """Each hop is looked up and checked for itself."""
    names["anybody.test"] = ["93.184.216.34"]
    names["inside.test"] = ["10.0.0.5"]
    with respx.mock:
        route = respx.get("https://93.184.216.34/x").respond(302, headers={"Location": "https://inside.test/x"})
        async with client() as nb:
            with pytest.raises(ResponseError, match=r"inside\.test, which is 10\.0\.0\.5"):
                await nb.read(done("https://anybody.test/x"))
    assert route.call_count == 1


async def test_a_named_host_is_not_looked_up(names: dict[str, list[str]]) -> None:
    """Whoever names a host trusts it, wherever it lies: a storage inside one's own network works."""
    assert names == {}
    with respx.mock:
        respx.get("https://named.test/x").respond(content=PNG)
        async with client() as nb:
            assert await nb.read(done("https://named.test/x")) == PNG


async def test_a_name_that_is_not_found_is_a_connection_error(names: dict[str, list[str]]) -> None:
    """It is tried again until the deadline, and the error names the host."""
    assert names == {}
    async with client() as nb:
        with pytest.raises(APIConnectionError, match=r"anybody\.test was not found"):
            await nb.read(done("https://anybody.test/x"), timeout=5)


async def test_another_address_is_tried_after_a_failure(names: dict[str, list[str]]) -> None:
    """Of several addresses the next one has its turn."""
    names["anybody.test"] = ["93.184.216.34", "93.184.216.35"]
    with respx.mock:
        respx.get("https://93.184.216.34/x").mock(side_effect=httpx.ConnectError("unreachable"))
        respx.get("https://93.184.216.35/x").respond(content=PNG)
        async with client() as nb:
            assert await nb.read(done("https://anybody.test/x")) == PNG


@pytest.mark.parametrize(
    "url", ["https://storage.neuralbox.top%2eevil.test/x", "https://storage.neuralbox.top\\.evil.test/x"]
)
async def test_a_url_that_two_parsers_read_differently_is_refused(url: str) -> None:
    """What was checked is what is asked."""
    with respx.mock:
        async with AsyncNeuralBox("nb_test_key", base_url="https://api.test/v2") as nb:
            with pytest.raises((ResponseError, APIConnectionError)):
                await nb.read(done(url))


# --- proxies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_files_take_no_proxy_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """API calls go through HTTP_PROXY, files do not, and a file that then cannot be fetched says so."""
    asked: list[bytes] = []

    async def proxy(stream: SocketStream) -> None:
        async with stream:
            asked.append(await stream.receive())
            body = b'{"id": 7, "status": "completed", "result_url": "http://api.localhost:9/7"}'
            await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, proxy)
        for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}")
        async with AsyncNeuralBox("nb_test_key", base_url="http://api.localhost:9") as nb:
            found = await nb.get(7)
            with pytest.raises(APIConnectionError, match=r"without the environment's proxy; pass http_client="):
                await nb.download(found, tmp_path, timeout=2)
        tasks.cancel_scope.cancel()
    assert [each.split(b"\r\n")[0] for each in asked] == [b"GET http://api.localhost:9/generate/7 HTTP/1.1"]

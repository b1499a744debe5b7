"""TLS: certificates are always checked, and what the two sides cannot agree on is not tried again."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import certifi
import httpx
import pytest
from anyio.abc import SocketAttribute, SocketStream

from neuralbox_async import APIConnectionError, AsyncNeuralBox
from neuralbox_async._edge.slots import DIRECT, SlotTransport

pytestmark = pytest.mark.anyio
on_both_real_clocks = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


@asynccontextmanager
async def plain_server() -> AsyncIterator[tuple[str, list[SocketStream]]]:
    """Answer in plain HTTP whoever begins with TLS; give the https URL and the connections."""
    connections: list[SocketStream] = []

    async def serve(stream: SocketStream) -> None:
        connections.append(stream)
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield f"https://127.0.0.1:{listener.extra(SocketAttribute.local_port)}", connections
        tasks.cancel_scope.cancel()


@on_both_real_clocks
async def test_a_server_without_tls_is_asked_once() -> None:
    """Neither a POST nor a look is tried again over another connection: time does not heal that."""
    async with plain_server() as (origin, connections), AsyncNeuralBox("nb_test_key", base_url=origin) as nb:
        for call in (nb.submit("gpt-5", "Hello"), nb.get(7)):
            with pytest.raises(APIConnectionError) as caught:
                await call
            assert (caught.value.billed, caught.value.retryable) == ("no", False)
        assert len(connections) == 2


def caused(error: Exception, cause: Exception) -> Exception:
    """Chain two errors, as httpx chains the network's to its own."""
    error.__cause__ = cause
    return error


UNTRUSTED = ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate")
NOT_HEALED = {
    "untrusted": caused(httpx.ConnectError("all connection attempts failed"), UNTRUSTED),
    "deeper": caused(httpx.ConnectError(""), caused(OSError(), ssl.SSLError(1, "wrong version number"))),
    "only in words": httpx.ConnectError("[SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert"),
}
HEALED = {
    "cut in the handshake": caused(httpx.ConnectError("EOF occurred"), ssl.SSLEOFError(8, "EOF occurred")),
    "cut afterwards": httpx.ReadError("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol"),
    "refused": httpx.ConnectError("refused"),
}


@pytest.mark.parametrize("case", [*NOT_HEALED, *HEALED])
async def test_only_a_cut_is_tried_again(case: str) -> None:
    """A certificate that is not trusted now will not be in half a second; a line that was cut may be up again."""
    asked = []

    def fail(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        raise {**NOT_HEALED, **HEALED}[case]

    own = httpx.AsyncClient(transport=httpx.MockTransport(fail))
    nb = AsyncNeuralBox("nb_test_key", base_url="https://api.test", http_client=own, timeout=5)
    with pytest.raises(APIConnectionError):
        await nb.get(7)
    assert (len(asked) > 1) is (case in HEALED)


@on_both_real_clocks
@pytest.mark.parametrize("authorities", [None, certifi.where()])
async def test_certificates_and_names_are_checked(authorities: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No option and no variable of the environment switches that off; SSL_CERT_FILE names other authorities."""
    for name in ("PYTHONHTTPSVERIFY", "SSL_VERIFY", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(name, "")
    if authorities is not None:
        monkeypatch.setenv("SSL_CERT_FILE", authorities)
    transport = SlotTransport(1)
    async with plain_server() as (origin, _):
        with pytest.raises(httpx.TransportError):
            await transport.handle_async_request(httpx.Request("GET", origin))
    trust = transport._trust  # noqa: SLF001 - what every connection of ours is made with
    assert trust is not None
    assert (trust.verify_mode, trust.check_hostname) == (ssl.CERT_REQUIRED, True)


async def test_authorities_that_are_not_there_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong SSL_CERT_FILE does not lead back to the usual ones."""
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file")
    with pytest.raises(OSError, match="No such file"):
        await SlotTransport(1).handle_async_request(httpx.Request("GET", "https://127.0.0.1:9"))


@on_both_real_clocks
async def test_a_pinned_address_is_asked_for_the_host_s_own_certificate() -> None:
    """The name in the handshake, against which the certificate is checked, is the host's and not the address."""
    hello: list[bytes] = []

    async def serve(stream: SocketStream) -> None:
        async with stream:
            hello.append(await stream.receive())

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        origin = f"https://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        request = httpx.Request("GET", origin, extensions={"sni_hostname": "anybody.test", DIRECT: "anybody.test"})
        with pytest.raises(httpx.TransportError):
            await SlotTransport(1).handle_async_request(request)
        tasks.cancel_scope.cancel()
    assert b"anybody.test" in hello[0]

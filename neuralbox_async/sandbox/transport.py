"""An httpx transport that meets the sandbox in this process and fails exactly as a network would.

Time passes through anyio alone, so asyncio, trio, trio's MockClock and `VirtualTimeLoop` all work. Bodies stream both
ways, and a refused connection never pulls the request's body: httpx.ASGITransport and httpx.MockTransport do neither.
"""

from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import httpx
from attrs import define

from neuralbox_async.plain import PlainClient
from neuralbox_async.sandbox.wire import Answer, Ask, Connection, Service


def http_client(sandbox: Service) -> httpx.AsyncClient:
    """Return an httpx client whose every request, to any host, is answered by this sandbox."""
    return PlainClient(SandboxTransport(sandbox))


class SandboxTransport(httpx.AsyncBaseTransport):
    """Carry requests to a sandbox; httpx's connect and read timeouts hold."""

    def __init__(self, sandbox: Service) -> None:
        self._sandbox = sandbox

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request, or raise what httpx raises for a connection that fails."""
        await anyio.lowlevel.checkpoint()
        await self._connect(request)
        answer = self._sandbox.answer(await _read(request), anyio.current_time())
        await _wait(request, answer)
        if answer.connection is Connection.CUT:
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.", request=request)
        return httpx.Response(answer.status, headers=dict(answer.headers), stream=_Body(answer, request))

    async def _connect(self, request: httpx.Request) -> None:
        match self._sandbox.refusal(request.method, request.url.path):
            case Connection.REFUSED:
                raise httpx.ConnectError("Connection refused, as ordered from the sandbox", request=request)
            case Connection.UNREACHABLE:
                await _sleep(_timeout(request, "connect"))
                raise httpx.ConnectTimeout("Connecting took too long, as ordered from the sandbox", request=request)


async def _read(request: httpx.Request) -> Ask:
    assert isinstance(request.stream, httpx.AsyncByteStream)  # noqa: S101 - httpx.AsyncClient makes no other
    return Ask(
        method=request.method,
        path=request.url.path,
        headers=dict(request.headers.items()),
        body=b"".join([part async for part in request.stream]),
        query=dict(request.url.params) if request.url.query else {},
        scheme=request.url.scheme,
    )


async def _wait(request: httpx.Request, answer: Answer) -> None:
    """Sleep until the answer is due, or raise httpx.ReadTimeout when the client's patience ends first."""
    await _patiently(request, None if answer.connection is Connection.HANGS else answer.delay)


async def _patiently(request: httpx.Request, delay: float | None) -> None:
    patience = _timeout(request, "read")
    if patience is not None and (delay is None or delay > patience):
        await anyio.sleep(patience)
        raise httpx.ReadTimeout(f"No answer within {patience:g} s", request=request)
    await _sleep(delay)


async def _sleep(seconds: float | None) -> None:
    if seconds is None:
        await anyio.sleep_forever()
    elif seconds:
        await anyio.sleep(seconds)


def _timeout(request: httpx.Request, phase: str) -> float | None:
    timeouts: dict[str, float | None] = request.extensions.get("timeout", {})
    return timeouts.get(phase)


@define
class _Body(httpx.AsyncByteStream):
    """An answer's body, piece by piece; a cut one ends with the error that httpx raises for it."""

    _answer: Answer
    _request: httpx.Request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for number, chunk in enumerate(self._answer.sent_chunks):
            if number:
                await _patiently(self._request, self._answer.spacing)
            await anyio.lowlevel.checkpoint()
            yield chunk
        if self._answer.connection is Connection.HANGS_IN_BODY:
            await _patiently(self._request, None)
        if self._answer.is_broken_off:
            message = "peer closed connection without sending complete message body"
            raise httpx.RemoteProtocolError(message, request=self._request)

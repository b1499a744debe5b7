"""The plain client: a request goes out as it is, once, and its answer comes back as it is."""

from collections.abc import AsyncIterator

import httpx
import pytest
import respx

from neuralbox_async.plain import PlainClient

pytestmark = pytest.mark.anyio

URL = "https://api.test/v2/balance"


class Cut(httpx.AsyncByteStream):
    """A body that breaks off, and says whether it was closed."""

    closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"{"
        raise httpx.ReadError("cut")

    async def aclose(self) -> None:
        """Note it."""
        self.closed = True


async def test_a_request_goes_out_as_it_is() -> None:
    """No cookie is kept, no redirect followed, no header added, whatever the answer asks for."""
    heard: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        heard.append(request.headers)
        return httpx.Response(302, headers={"Location": "/elsewhere", "Set-Cookie": "a=b"}, content=b"moved")

    request = httpx.Request("GET", URL, headers={"Accept": "application/json"})
    async with PlainClient(httpx.MockTransport(answer)) as client:
        await client.send(request)
        response = await client.send(request, auth=("user", "password"), follow_redirects=True)
    assert [dict(headers) for headers in heard] == [{"accept": "application/json", "host": "api.test"}] * 2
    assert (response.status_code, response.content, response.request) == (302, b"moved", request)


async def test_a_streamed_answer_is_left_to_be_read() -> None:
    """With `stream` the body is the caller's to read and to close."""
    async with PlainClient(httpx.MockTransport(lambda _: httpx.Response(200, stream=Cut()))) as client:
        response = await client.send(httpx.Request("GET", URL), stream=True)
        assert not response.is_stream_consumed
        await response.aclose()


async def test_an_answer_that_breaks_off_is_closed() -> None:
    """Whoever cannot read the body gets the error, and the connection is not left open."""
    body = Cut()
    async with PlainClient(httpx.MockTransport(lambda _: httpx.Response(200, stream=body))) as client:
        with pytest.raises(httpx.ReadError, match="cut"):
            await client.send(httpx.Request("GET", URL))
    assert body.closed


async def test_a_closed_client_sends_nothing() -> None:
    """As with httpx's own client."""
    client = PlainClient(httpx.MockTransport(lambda _: httpx.Response(200)))
    await client.aclose()
    with pytest.raises(RuntimeError, match="has been closed"):
        await client.send(httpx.Request("GET", URL))


async def test_what_patches_a_transport_sees_its_requests() -> None:
    """A test that mocks httpx's transport, or a tracer, works with this client too."""
    with respx.mock:
        route = respx.get(URL).respond(json={"token_balance": 283})
        async with PlainClient(httpx.AsyncHTTPTransport()) as client:
            assert (await client.get(URL)).json() == {"token_balance": 283}
    assert route.called

"""Answers' bodies: bounded while they are read and while they are inflated, whatever a server sends."""

import gzip
import json
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx
import pytest
from anyio.abc import SocketAttribute, SocketStream

from neuralbox_async import (
    APIError,
    APIStatusError,
    AsyncNeuralBox,
    BadRequestError,
    OutcomeUnknownError,
    ResponseError,
)

pytestmark = pytest.mark.anyio
on_both_real_clocks = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
REPLY = {"id": 7, "status": "pending"}
BOMB = gzip.compress(bytes(200_000_000), 9)


class Pieces(httpx.AsyncByteStream):
    """A body in pieces of 64 kB, as httpx gives them; it notes how many were taken and whether it was closed."""

    def __init__(self, body: bytes) -> None:
        self.body, self.taken, self.closed = body, 0, False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.body), 65_536):
            if self.closed:
                raise httpx.ReadError("closed")
            self.taken += 1
            yield self.body[start : start + 65_536]

    async def aclose(self) -> None:
        """Note it."""
        self.closed = True


class Sends(httpx.AsyncBaseTransport):
    """Answers everything with one body."""

    def __init__(self, body: bytes, coding: str | None = None, status: int = 200) -> None:
        self.body, self.coding, self.status = body, coding, status
        self.pieces = Pieces(b"")

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Take the request and answer."""
        await request.aread()
        self.pieces = Pieces(self.body)
        headers = {} if self.coding is None else {"Content-Encoding": self.coding}
        return httpx.Response(self.status, headers=headers, stream=self.pieces)

    def client(self) -> AsyncNeuralBox:
        """Return a client of it."""
        return AsyncNeuralBox(
            "nb_test_key", base_url="https://api.test/v2", http_client=httpx.AsyncClient(transport=self), timeout=5
        )


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP ", "deflate", None])
async def test_a_packed_answer_is_read(coding: str | None) -> None:
    """What httpx would inflate is inflated, in pieces."""
    body = json.dumps({**REPLY, "result_text": "x" * 300_000}).encode()
    packed = {"deflate": zlib.compress(body), None: body}.get(coding, gzip.compress(body))
    assert (await Sends(packed, coding).client().get(7)).text == "x" * 300_000


async def test_an_answer_of_more_than_8_mb_is_an_error_and_not_read_to_its_end() -> None:
    """A look ends at once with an error that names the size."""
    sends = Sends(b" " * 40_000_000)
    with pytest.raises(ResponseError, match="more than 8 MB"):
        await sends.client().get(7)
    assert sends.pieces.taken == 8_000_000 // 65_536 + 1
    assert sends.pieces.closed


async def test_a_post_whose_answer_is_too_large_is_in_doubt() -> None:
    """It was sent, and its id cannot be read: the outcome is unknown."""
    with pytest.raises(OutcomeUnknownError, match="more than 8 MB"):
        await Sends(b" " * 9_000_000).client().submit("gpt-5", "Hello")


@pytest.mark.parametrize("status", [200, 400, 404])
async def test_a_packed_bomb_takes_little_memory(status: int) -> None:
    """200 kB that would inflate to 200 MB are inflated up to the limit and no further."""
    tracemalloc.start()
    with pytest.raises((ResponseError, APIStatusError)):
        await Sends(BOMB, "gzip", status).client().get(7)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40_000_000


@pytest.mark.parametrize("status", [200, 400])
async def test_a_packed_bomb_takes_little_memory_as_a_stream_too(status: int) -> None:
    """What is to be read piece by piece is inflated piece by piece, and an event has an end."""
    tracemalloc.start()
    with pytest.raises((OutcomeUnknownError, BadRequestError)):
        async with Sends(BOMB, "gzip", status).client().stream("gpt-5", "Hello"):
            pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "Gzip", "deflate", None])
async def test_a_packed_stream_is_read(coding: str | None) -> None:
    """Its events come out as if it had not been packed."""
    events = [{"type": "generation_start", "id": 7}, {"type": "content_delta", "delta": "Once"}]
    events += [{"type": "generation_end", "id": 7, "tokens_spent": 1}]
    body = b"".join(b"data: %s\n\n" % json.dumps(each).encode() for each in events)
    packed = {"deflate": zlib.compress(body), None: body}.get(coding, gzip.compress(body))
    async with Sends(packed, coding).client().stream("gpt-5", "Hello") as stream:
        assert [piece async for piece in stream] == ["Once"]
    assert stream.generation.tokens_spent == 1


async def test_what_follows_a_packed_body_counts_too() -> None:
    """Bytes behind the end of the packed data are not collected without limit."""
    sends = Sends(gzip.compress(b"{}") + bytes(40_000_000), "gzip")
    with pytest.raises(ResponseError, match="more than 8 MB"):
        await sends.client().get(7)


async def test_a_large_error_is_read_to_64_kb() -> None:
    """The status is the answer; a page of megabytes is left unread."""
    sends = Sends(b'{"error": "bad_request", "message": "' + b"x" * 1_000_000, status=400)
    with pytest.raises(BadRequestError):
        await sends.client().submit("gpt-5", "Hello")
    assert sends.pieces.taken == 1


@pytest.mark.parametrize(
    "body",
    [b"\x1f\x8b no gzip", b"{}", gzip.compress(json.dumps(REPLY).encode())[:-20]],
    ids=["no gzip", "not packed", "cut"],
)
async def test_a_damaged_packed_body_is_an_error(body: bytes) -> None:
    """Not gzip, or cut: no value comes of it."""
    with pytest.raises(APIError):
        await Sends(body, "gzip").client().get(7)


async def test_a_coding_that_nobody_asked_for_is_an_error() -> None:
    """Brotli is not asked for, so it is not read."""
    with pytest.raises(ResponseError):
        await Sends(b"\x0b\x02\x80{}\x03", "br").client().get(7)


@asynccontextmanager
async def endless(head: bytes) -> AsyncIterator[tuple[str, list[int]]]:
    """Serve a head and then zeros for ever; give the base URL and how many bytes went out."""
    sent = [0]

    async def serve(stream: SocketStream) -> None:
        async with stream:
            await stream.receive()
            try:
                await stream.send(head)
                while True:
                    await stream.send(bytes(65_536))
                    sent[0] += 65_536
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}", sent
        tasks.cancel_scope.cancel()


@on_both_real_clocks
@pytest.mark.parametrize("status", [b"200 OK", b"400 Bad Request"])
async def test_an_endless_answer_ends(status: bytes) -> None:
    """On a real socket: the error comes, the connection is closed, and the client goes on."""
    head = b"HTTP/1.1 " + status + b"\r\nContent-Type: application/json\r\n\r\n"
    async with endless(head) as (base_url, sent), AsyncNeuralBox("nb_test_key", base_url=base_url, timeout=20) as nb:
        for _ in range(2):
            with pytest.raises((ResponseError, BadRequestError)):
                await nb.get(7)
    assert sent[0] < 40_000_000

"""Answers' bodies: read in bounded pieces, counted as they come and as they are inflated.

httpx inflates each piece as far as it goes: 64 kB of gzip become 64 MB in one go. Here nothing grows beyond its limit.
"""

import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Final

import httpx

from neuralbox_async._core.errors import ResponseError

# Only gzip is asked for; what a server packs unasked is read too, if it is one of these.
INFLATABLE: Final = frozenset({"gzip", "x-gzip", "deflate"})
MOST_JSON_BYTES: Final = 8_000_000
MOST_ERROR_BYTES: Final = 64_000
_PIECE: Final = 65_536
# What a closed connection may still hold in its buffer.
_MOST_PIECES_LEFT: Final = 32


def coding(response: httpx.Response) -> str:
    """Return the coding that an answer's body came in, in lower case; "identity" if in none."""
    return response.headers.get("content-encoding", "").strip().lower() or "identity"


def inflater() -> "zlib._Decompress":
    """Return what inflates gzip and zlib alike, in pieces: `decompress(data, most)`."""
    return zlib.decompressobj(zlib.MAX_WBITS | 32)


async def read(response: httpx.Response) -> bytes:
    """Return a streamed answer's body, inflated; of an error's body the first 64 kB.

    Raises ResponseError if a good answer's body is larger than 8 MB, httpx.DecodingError if it cannot be inflated, and
    what the transport raises.
    """
    if response.is_stream_consumed:  # by a transport of the caller's
        return response.content
    good = response.status_code < 300
    most = MOST_JSON_BYTES if good else MOST_ERROR_BYTES
    unpack = inflater() if coding(response) in INFLATABLE else None
    packed = raw(response)
    body, came = bytearray(), 0
    async for part in packed:
        came += len(part)
        try:
            body += part if unpack is None else unpack.decompress(part, most + 1 - len(body))
        except zlib.error as error:
            await leave(response, packed)
            raise httpx.DecodingError(str(error)) from None
        if max(came, len(body)) > most:
            await leave(response, packed)
            if good:
                raise _too_large(response.status_code)
            break
    del body[most:]
    return bytes(body)


def raw(response: httpx.Response) -> AsyncIterator[bytes]:
    """Return an answer's body as it comes over the wire, piece by piece."""
    assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - an async client gives no other
    return aiter(response.stream)


def pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    """Return an answer's body piece by piece, inflated if it came in a coding that we can inflate."""
    if response.is_stream_consumed:  # by a transport of the caller's
        return once(response.content)
    return Unpacked(raw(response)) if coding(response) in INFLATABLE else raw(response)


async def once(data: bytes) -> AsyncGenerator[bytes, None]:
    """Give a body that is in memory already as the only piece."""
    yield data


class Unpacked:
    """Inflates pieces, each into pieces of at most 64 kB."""

    def __init__(self, packed: AsyncIterator[bytes]) -> None:
        self.packed = packed
        self._unpack = inflater()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._unpack.eof:
            packed: bytes | None = self._unpack.unconsumed_tail
            packed = packed or await anext(self.packed, None)
            try:
                data = self._unpack.decompress(packed or b"", _PIECE)
            except zlib.error as error:
                raise httpx.DecodingError(str(error)) from None
            if data:
                return data
            if packed is None and not self._unpack.eof:
                raise httpx.DecodingError("the packed data was cut")
        while await anext(self.packed, None) is not None:
            continue  # what follows the packed data is nothing to us
        raise StopAsyncIteration


async def leave(response: httpx.Response, parts: AsyncIterator[bytes]) -> None:
    """Close an answer in the middle of its body, and end the generators that httpx and httpcore read it with.

    They lie in one another: closing the outermost leaves the others to the garbage collector, of which trio complains.
    Once the connection is closed, the innermost raises through all of them when asked for more.
    """
    await response.aclose()
    packed = parts.packed if isinstance(parts, Unpacked) else parts
    with suppress(Exception):
        for _ in range(_MOST_PIECES_LEFT):
            await anext(packed)


def _too_large(status: int) -> ResponseError:
    return ResponseError(
        f"HTTP {status} came with a body of more than {MOST_JSON_BYTES // 1_000_000} MB; "
        "check that base_url points to the API.",
        status_code=status,
    )

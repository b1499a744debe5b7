"""Audio on its way out: measured before anything is sent, read from the disk as it is sent, never whole in memory.

What can be read only once, and has no size, is read before: it is then as small as the service takes it.
"""

import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import IO, Any, Final

import anyio
import anyio.lowlevel
from attrs import frozen

from neuralbox_async._core import api
from neuralbox_async._core.api import Answer, Call
from neuralbox_async._core.errors import APITimeoutError, NeuralBoxError, UsageError
from neuralbox_async._core.models import Generation, GenerationRequest
from neuralbox_async._core.options import Extra, checked_path, shown
from neuralbox_async._edge import clock
from neuralbox_async._edge.http import Exchange, Http
from neuralbox_async._edge.once import Witness
from neuralbox_async._edge.slots import HttpClient

Audio = str | os.PathLike[str] | bytes | IO[bytes] | AsyncIterable[bytes]

MOST_BYTES: Final = 25 * 1024 * 1024  # source: generations/stt, "max 25 MB"
PIECE_BYTES: Final = 262_144


@frozen(kw_only=True)
class Upload:
    """Bytes to send: their number, what the service is to call them, and how to read them, each time from the start."""

    name: str
    size: int
    pieces: Callable[[], AsyncIterator[bytes]]


def transcribe(
    http: Http, request: GenerationRequest, upload: Upload, extra: Extra
) -> tuple[Call[Generation], Exchange]:
    """Return the call that sends audio, and how: piece by piece.

    A request whose last byte never left cannot have been accepted, and is repeated, from the audio's start.
    """
    call, head = api.transcribe(request, upload.name, size=upload.size, boundary=os.urandom(16).hex(), extra=extra)

    async def before() -> AsyncIterator[bytes]:
        yield head
        async with aclosing(upload.pieces()) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                yield piece

    async def exchange(call: Call[Any], client: HttpClient, body: Witness) -> Answer | NeuralBoxError:
        async with aclosing(before()) as body.before:  # type: ignore[type-var]
            return await http.whole(call, client, body)

    return call, exchange


async def measured(audio: Audio, name: str | None, *, deadline: float) -> Upload:
    """Measure audio before it is sent.

    Raises UsageError if it is none, is empty or too large, or cannot be read; APITimeoutError if a stream has not ended
    by the deadline (loop time).
    """
    with anyio.CancelScope(deadline=deadline):
        return await _measured(audio, name)
    raise APITimeoutError(
        "transcribe: the audio had not come to its end within the timeout, so nothing was sent; pass a longer timeout, "
        "or a file."
    )


async def _measured(audio: Audio, name: str | None) -> Upload:
    if isinstance(audio, str | os.PathLike):
        upload = await _file(Path(checked_path("audio", audio)), name)
    elif isinstance(audio, bytes | bytearray | memoryview):
        upload = _memory(bytes(audio), name)
    elif isinstance(audio, AsyncIterable):
        upload = _memory(await _collected(audio), name)
    elif hasattr(audio, "read"):
        upload = await clock.run_blocking(lambda: _open_file(audio, name))
    else:
        raise UsageError(f"audio must be a path, bytes, a file or an async stream of bytes, not {shown(audio)}.")
    if not 0 < upload.size <= MOST_BYTES:
        size = "is empty" if not upload.size else f"has {upload.size:,} bytes, more than the service takes"
        raise UsageError(f"The audio {upload.name!r} {size}; send between 1 byte and {MOST_BYTES:,}.")
    return upload


async def _file(path: Path, name: str | None) -> Upload:
    try:
        size = await clock.run_blocking(lambda: _size(path))
        reason = ""
    except OSError as error:
        size, reason = 0, error.strerror or str(error)
    if reason:
        raise UsageError(f"The audio {os.fspath(path)!r} cannot be read: {reason}.")

    async def pieces() -> AsyncIterator[bytes]:
        file = await clock.run_blocking(lambda: path.open("rb"))
        try:
            while piece := await clock.run_blocking(lambda: file.read(PIECE_BYTES)):
                yield piece
        finally:
            file.close()

    return Upload(name=name or path.name, size=size, pieces=pieces)


def _size(path: Path) -> int:
    with path.open("rb") as file:
        return os.fstat(file.fileno()).st_size


def _memory(content: bytes, name: str | None) -> Upload:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(content), PIECE_BYTES):
            await anyio.lowlevel.checkpoint()
            yield content[start : start + PIECE_BYTES]

    return Upload(name=name or "audio", size=len(content), pieces=pieces)


def _open_file(file: IO[bytes], name: str | None) -> Upload:
    """Measure an open file from where it stands; one that cannot be wound back is read."""
    own = getattr(file, "name", None)
    name = name or (Path(own).name if isinstance(own, str) and own else None)
    if not isinstance(file.read(0), bytes):
        raise UsageError("audio must be a file that is open for bytes: open(path, 'rb').")
    if not getattr(file, "seekable", lambda: False)():
        return _memory(file.read(MOST_BYTES + 1), name)
    begins = file.tell()
    size = file.seek(0, os.SEEK_END) - begins
    file.seek(begins)

    async def pieces() -> AsyncIterator[bytes]:
        await clock.run_blocking(lambda: file.seek(begins))
        while piece := await clock.run_blocking(lambda: file.read(PIECE_BYTES)):
            yield piece

    return Upload(name=name or "audio", size=size, pieces=pieces)


async def _collected(stream: AsyncIterable[bytes]) -> bytes:
    content = bytearray()
    try:
        async for piece in stream:
            content += piece
            if len(content) > MOST_BYTES:
                break
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()
    return bytes(content)

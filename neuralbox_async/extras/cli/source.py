"""A file is read as it is needed, never ahead; whoever waits for a silent pipe can stop waiting at any time.

Each read happens in a daemon thread: a pipe may keep silent for hours, and no exit waits for such a thread.
"""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Final

from attrs import frozen

from neuralbox_async import UsageError

STDIN: Final = "-"  # as people name it
_DESCRIPTOR: Final = 0
CHUNK_BYTES: Final = 65_536
LONGEST_LINE_BYTES: Final = 16 * 1024 * 1024


@frozen
class Source:
    """A file, read chunk by chunk."""

    name: str
    descriptor: int

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield the lines without their ends. Raises UsageError for a line longer than any prompt."""
        rest = b""
        while chunk := await self._read():
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line
            if len(rest) > LONGEST_LINE_BYTES:
                raise UsageError(f"{self.name} has a line of over {LONGEST_LINE_BYTES:,} bytes: is it a text file?")
        if rest:
            yield rest

    async def _read(self) -> bytes:
        loop = asyncio.get_running_loop()
        reading: asyncio.Future[bytes] = loop.create_future()
        arguments = (self.descriptor, loop, reading)
        threading.Thread(target=_read_chunk, args=arguments, name=f"read {self.name}", daemon=True).start()
        return await reading


@contextlib.contextmanager
def opened(file: str) -> Iterator[Source]:
    """Open a file, or stdin (`STDIN`). Raises UsageError if it cannot be read."""
    if file == STDIN:
        yield Source("stdin", _DESCRIPTOR)
        return
    try:
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        os.read(descriptor, 0)  # a folder opens, and cannot be read
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}.") from error
    try:
        yield Source(file, descriptor)
    finally:
        os.close(descriptor)


def _read_chunk(descriptor: int, loop: asyncio.AbstractEventLoop, reading: "asyncio.Future[bytes]") -> None:
    chunk, error = b"", None
    try:
        # Not sys.stdin: a thread that waits holds its lock, and that aborts the interpreter on its way out.
        chunk = os.read(descriptor, CHUNK_BYTES)
    except OSError as failure:
        error = failure
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants the chunk any more
        loop.call_soon_threadsafe(_deliver, reading, chunk, error)


def _deliver(reading: "asyncio.Future[bytes]", chunk: bytes, error: OSError | None) -> None:
    if reading.done():
        return
    if error is None:
        reading.set_result(chunk)
    else:
        reading.set_exception(error)

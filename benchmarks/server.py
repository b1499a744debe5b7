"""A server that is not the bottleneck: one process, one `asyncio.Protocol`, answers that are ready before it starts.

The first part of a path is the delay in milliseconds (`/20/api/v2/generate/18502`); the rest chooses one of a few
documented replies, so that each client gets what its own service would send. `/stats` tells what it counted.
"""

import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.request import urlopen

from attrs import asdict, define, frozen

GENERATION_ID: Final = 18502
GENERATION = {
    "id": GENERATION_ID,
    "status": "completed",
    "model_slug": "kling-v2.1-pro",
    "result_url": "https://storage.neuralbox.top/generations/18502.mp4",
    "thumbnail_url": "https://storage.neuralbox.top/thumbnails/18502.jpg",
    "tokens_spent": 60,
    "processing_ms": 87420,
    "result_metadata": {"duration": 5, "width": 1920, "height": 1080},
}
# What openai and anthropic document of a model, replicate of a prediction, fal of a request's status.
MODEL = {
    "id": "gpt-5",
    "object": "model",
    "created": 1754588400,
    "owned_by": "system",
    "type": "model",
    "display_name": "GPT 5",
    "created_at": "2026-02-19T00:00:00Z",
    "lifecycle": "active",
}
PREDICTION = {
    "id": "ufawqhfynnddngldkgtslldrkq",
    "model": "replicate/hello-world",
    "version": "5c7d5dc6dd8bf75c1acaa8565735e7986bc5b66206b55cca93cb72c9bf15ccaa",
    "status": "succeeded",
    "input": {"text": "Alice"},
    "output": "hello Alice",
    "metrics": {"predict_time": 0.5},
    "created_at": "2026-02-19T00:00:00Z",
    "urls": {"get": "https://api.replicate.com/v1/predictions/ufawqhfynnddngldkgtslldrkq"},
}
STATUS = {"status": "COMPLETED", "request_id": "764cabcf", "logs": None, "metrics": {"inference_time": 3.7}}
FILE: Final = b"\x89PNG\r\n\x1a\n" + bytes(10_000_000)
PIECE: Final = 1 << 18
REPLIES: Final = {b"/models/": MODEL, b"/predictions/": PREDICTION, b"/requests/": STATUS, b"/generate/": GENERATION}
OPEN_FILES: Final = 8192


@frozen(kw_only=True)
class Stats:
    """What a server counted; `most_at_once` since it was last asked, all else since its start."""

    connections: int
    requests: int
    most_at_once: int
    cpu_seconds: float


@define
class Counts:
    """What the connections of a server count together."""

    connections: int = 0
    requests: int = 0
    under_way: int = 0
    most_at_once: int = 0

    def told(self) -> Stats:
        """Return the counts, and begin a new maximum."""
        most, self.most_at_once = self.most_at_once, self.under_way
        return Stats(
            connections=self.connections, requests=self.requests, most_at_once=most, cpu_seconds=time.process_time()
        )


def response(reply: object) -> bytes:
    """Return a whole HTTP response with some JSON."""
    return whole(json.dumps(reply).encode(), "application/json")


def whole(body: bytes, content_type: str) -> bytes:
    """Return a whole HTTP response."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


RESPONSES: Final = {part: response(reply) for part, reply in REPLIES.items()} | {b"/files/": whole(FILE, "image/png")}


def _found(path: bytes) -> bytes:
    """Return the response to a GET; each generation has the id that was asked for."""
    part, answer = next((part, answer) for part, answer in RESPONSES.items() if part in path)
    name = path.rsplit(b"/", 1)[-1]
    if part == b"/generate/" and name != b"%d" % GENERATION_ID:
        return response({**GENERATION, "id": int(name)})
    return answer


class Connection(asyncio.Protocol):
    """Answers the GETs of one connection, and keeps it open for as long as the client does."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._heard = b""
        self._left = memoryview(b"")
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - TCP servers make no other
        self._transport = transport
        self._counts.connections += 1

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole."""
        *heads, self._heard = (self._heard + data).split(b"\r\n\r\n")
        for head in heads:
            if head.startswith(b"GET "):  # the end of an empty body in chunks, which httpx-aiohttp sends, is none
                self._answer(head.split(b" ", 2)[1])

    def _answer(self, path: bytes) -> None:
        if path == b"/stats":
            # A connection of its own, which is not to be counted.
            self._counts.connections -= 1
            self._transport.write(response(asdict(self._counts.told())))
            return
        counts = self._counts
        counts.requests += 1
        counts.under_way += 1
        counts.most_at_once = max(counts.most_at_once, counts.under_way)
        answer = _found(path)
        delay_ms = int(path.split(b"/", 2)[1])
        if delay_ms:
            asyncio.get_running_loop().call_later(delay_ms / 1000, self._send, answer)
        else:
            self._send(answer)

    def _send(self, answer: bytes) -> None:
        self._counts.under_way -= 1
        self._left = memoryview(answer)
        self.resume_writing()

    def pause_writing(self) -> None:
        """Keep the rest: the client is slower than we are."""
        self._paused = True

    def resume_writing(self) -> None:
        """Send what is left, in pieces."""
        self._paused = False
        while self._left and not self._paused and not self._transport.is_closing():
            piece, self._left = self._left[:PIECE], self._left[PIECE:]
            self._transport.write(piece)


@frozen
class Server:
    """A server in a process of its own."""

    port: int

    def url(self, *, delay_ms: int = 0) -> str:
        """Return a base URL whose answers take so long."""
        return f"http://127.0.0.1:{self.port}/{delay_ms}"

    def stats(self) -> Stats:
        """Ask for the counts."""
        with urlopen(f"http://127.0.0.1:{self.port}/stats") as reply:
            return Stats(**json.load(reply))


@contextmanager
def running_server() -> Iterator[Server]:
    """Run a server for the time of a block."""
    allow_open_files()
    command = [sys.executable, "-m", "benchmarks.server"]
    root = Path(__file__).parent.parent
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:  # noqa: S603 - this Python
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            yield Server(int(process.stdout.readline()))
        finally:
            process.terminate()


def allow_open_files() -> None:
    """Let this process have the thousands of sockets that some rows need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < OPEN_FILES:
        most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


async def serve() -> None:
    """Listen on a free port of this machine, say which, and answer until terminated."""
    allow_open_files()
    counts = Counts()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(counts), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())

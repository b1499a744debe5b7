"""What crosses the line is plain values: an `Ask` comes in, an `Answer` goes out, and the edge does the rest."""

import enum
import json
from collections.abc import Mapping
from typing import Any, Protocol

from attrs import evolve, field, frozen

HOST = "sandbox.neuralbox.test"
"""The host of the in-process service. `.test` is reserved (RFC 6761): it can never be somebody's real host."""

JSON = "application/json"
"""The content type of all answers but files, texts and streams."""

CHUNK = 16_384
"""Bytes per piece of a long body, so that clients really stream."""


class Connection(enum.Enum):
    """What becomes of the connection that carried the ask."""

    KEPT = "kept"
    """The answer is sent whole."""
    REFUSED = "refused"
    """Nobody listens: the request's body is never read."""
    UNREACHABLE = "unreachable"
    """Connecting never succeeds and never fails: the request's body is never read."""
    CUT = "cut"
    """Closed after the request was read, before a byte of the answer."""
    CUT_IN_BODY = "cut in body"
    """Closed in the middle of the answer's body."""
    HANGS = "hangs"
    """Stays open, and no answer ever comes."""
    HANGS_IN_BODY = "hangs in body"
    """Stays open, and the rest of the answer's body never comes."""


@frozen(kw_only=True)
class Ask:
    """One HTTP request as the world sees it.

    Header names are lower case. `path` has no query; `query` has its values. `scheme` and the Host header decide where
    result URLs point.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(factory=dict[str, str])
    body: bytes = b""
    query: Mapping[str, str] = field(factory=dict[str, str])
    scheme: str = "https"

    @property
    def origin(self) -> str:
        """Return scheme, host and port that the request came to, without a trailing slash."""
        return f"{self.scheme}://{self.headers.get('host', HOST)}"


@frozen(kw_only=True)
class Answer:
    """One HTTP answer, to be sent `delay` client seconds after the ask was read.

    Its chunks leave one by one, `spacing` client seconds apart.
    """

    status: int = 200
    headers: Mapping[str, str] = field(factory=dict[str, str])
    chunks: tuple[bytes, ...] = ()
    delay: float = 0.0
    spacing: float = 0.0
    connection: Connection = Connection.KEPT

    @property
    def body(self) -> bytes:
        """Return the whole body."""
        return b"".join(self.chunks)

    def with_headers(self, headers: Mapping[str, str]) -> "Answer":
        """Return the same answer with these headers too."""
        return evolve(self, headers={**self.headers, **headers})

    @property
    def is_broken_off(self) -> bool:
        """Say whether the body ends in its middle."""
        return self.connection in (Connection.CUT_IN_BODY, Connection.HANGS_IN_BODY)

    @property
    def sent_chunks(self) -> tuple[bytes, ...]:
        """Return what the connection lets through."""
        return self.chunks_before_cut if self.is_broken_off else self.chunks

    @property
    def chunks_before_cut(self) -> tuple[bytes, ...]:
        """Return what a connection cut in mid body lets through: half the bytes."""
        sent, left = [], len(self.body) // 2
        for chunk in self.chunks:
            sent.append(chunk[:left])
            left -= len(sent[-1])
        return tuple(filter(None, sent))


class Service(Protocol):
    """What an edge meets; a `Sandbox` is one. For each request, ask both, in this order."""

    def refusal(self, method: str, path: str) -> Connection | None:
        """Say whether the connection fails before the request's body is read."""
        ...

    def answer(self, ask: Ask, clock: float) -> Answer:
        """Answer a request that was read whole when the event loop's clock showed this."""
        ...


def file_answer(content: bytes, content_type: str, *, status: int = 200) -> Answer:
    """Answer with these bytes, in pieces, with their length announced."""
    return Answer(
        status=status,
        headers={"Content-Type": content_type, "Content-Length": str(len(content))},
        chunks=tuple(content[start : start + CHUNK] for start in range(0, len(content), CHUNK)),
    )


def json_answer(body: Mapping[str, Any], *, status: int = 200) -> Answer:
    """Answer with this JSON object."""
    return file_answer(json.dumps(body).encode(), JSON, status=status)


def error_answer(status: int, error: str, message: str, details: Mapping[str, Any] | None = None) -> Answer:
    """Answer with the documented error envelope (contract §11)."""
    return json_answer({"error": error, "message": message, "details": dict(details or {})}, status=status)

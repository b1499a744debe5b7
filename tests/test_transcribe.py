"""Speech to text: whatever the audio comes from, it arrives whole, is measured before, and is paid once."""

import email
import io
from collections.abc import AsyncIterator, Callable
from email.message import Message
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from neuralbox_async import (
    Abandoned,
    APIConnectionError,
    APITimeoutError,
    AsyncNeuralBox,
    BadRequestError,
    Event,
    OutcomeUnknownError,
    UsageError,
)
from neuralbox_async._core.multipart import form
from neuralbox_async._edge.upload import MOST_BYTES, PIECE_BYTES
from neuralbox_async.sandbox import Sandbox, faults, serve

pytestmark = pytest.mark.anyio
AUDIO = bytes(range(256)) * 3_000  # more than one piece, and every byte there is
HEARD = (Path(__file__).parent / "samples" / "stt_completed.a.json").read_bytes()


class Wire(httpx.AsyncBaseTransport):
    """Keeps every piece of what is sent; each step takes that many pieces and fails, the last one answers."""

    def __init__(self, *steps: int) -> None:
        self.steps = list(steps)
        self.requests: list[tuple[httpx.Headers, list[bytes]]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Read the request, or some of it, and answer."""
        assert isinstance(request.stream, httpx.AsyncByteStream)
        pieces: list[bytes] = []
        self.requests.append((request.headers, pieces))
        most = self.steps.pop(0) if self.steps else None
        async for piece in request.stream:
            await anyio.lowlevel.checkpoint()
            pieces.append(piece)
            if len(pieces) == most:
                raise httpx.WriteError("broken pipe")
        if most is not None:
            raise httpx.ReadError("reset by peer")
        return httpx.Response(200, content=HEARD)

    def client(self, **options: Any) -> AsyncNeuralBox:
        """Return a client of this transport."""
        own = httpx.AsyncClient(transport=self)
        return AsyncNeuralBox("nb_test_key", base_url="https://api.test/v2", http_client=own, **options)

    def parts(self) -> dict[str, Message]:
        """Return the parts of the form that came last."""
        headers, pieces = self.requests[-1]
        assert headers["content-length"] == str(sum(map(len, pieces)))
        whole = email.message_from_bytes(f"Content-Type: {headers['content-type']}\r\n\r\n".encode() + b"".join(pieces))
        found = {str(part.get_param("name", header="content-disposition")): part for part in whole.walk()}
        found.pop("None")
        return found


class Pipe(io.RawIOBase):
    """A file that cannot be wound back."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.content = io.BytesIO(content)

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Read on."""
        return self.content.read(size)


async def stream(content: bytes) -> AsyncIterator[bytes]:
    """Yield the content in pieces."""
    for start in range(0, len(content), 100_000):
        await anyio.lowlevel.checkpoint()
        yield content[start : start + 100_000]


def audio(kind: str, folder: Path, content: bytes = AUDIO) -> Any:
    """Return audio of this kind."""
    path = folder / "talk.mp3"
    path.write_bytes(content)
    opened = io.BytesIO(b"skipped" + content)
    opened.seek(7)
    kinds: dict[str, Callable[[], Any]] = {
        "path": lambda: path,
        "text": lambda: str(path),
        "bytes": lambda: content,
        "bytearray": lambda: bytearray(content),
        "file": lambda: opened,
        "pipe": lambda: Pipe(content),
        "stream": lambda: stream(content),
    }
    return kinds[kind]()


KINDS = ["path", "text", "bytes", "bytearray", "file", "pipe", "stream"]


@pytest.mark.parametrize("kind", KINDS)
async def test_audio_arrives_whole(kind: str, tmp_path: Path) -> None:
    """Wherever it comes from, every byte is in the documented form, in pieces of bounded size."""
    wire = Wire()
    heard = await wire.client().transcribe(audio(kind, tmp_path), language="en", diarize=True, filename="talk.mp3")
    assert (heard.id, heard.text, heard.tokens_spent) == (18510, "...", 2)
    parts = wire.parts()
    assert parts["audio"].get_payload(decode=True) == AUDIO
    assert (parts["audio"].get_filename(), parts["audio"].get_content_type()) == ("talk.mp3", "audio/mpeg")
    others = {name: part.get_payload() for name, part in parts.items() if name != "audio"}
    assert others == {"model": "whisper", "language": "en", "diarize": "true"}
    assert max(map(len, wire.requests[0][1])) <= PIECE_BYTES
    assert wire.requests[0][0]["authorization"] == "Bearer nb_test_key"


async def test_what_is_not_asked_for_is_not_sent(tmp_path: Path) -> None:
    """The service's own defaults hold; a file brings its name along."""
    wire = Wire()
    with audio("path", tmp_path).open("rb") as file:
        await wire.client().transcribe(file, model="gpt-4o-transcribe")
    parts = wire.parts()
    assert list(parts) == ["model", "audio"]
    assert parts["audio"].get_filename() == "talk.mp3"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (lambda: b"", "is empty"),
        (lambda: bytes(MOST_BYTES + 1), "more than the service takes"),
        (lambda: io.BytesIO(bytes(MOST_BYTES + 1)), "more than the service takes"),
        (lambda: Pipe(bytes(MOST_BYTES + 1)), "more than the service takes"),
        (lambda: io.StringIO("text"), "open for bytes"),
        (lambda: 5, "must be a path"),
        (lambda: None, "must be a path"),
        (lambda: "missing.mp3", "cannot be read"),
        (lambda: "talk\0.mp3", "has a character that no path can have"),
        (Path, "cannot be read"),
    ],
    ids=["empty", "large", "large file", "large pipe", "text", "number", "nothing", "missing", "no path", "folder"],
)
async def test_what_cannot_be_sent_is_refused_before(given: Callable[[], Any], says: str) -> None:
    """Size and kind are checked before anything leaves."""
    wire = Wire()
    with pytest.raises(UsageError, match=f"(?i){says}"):
        await wire.client().transcribe(given())
    assert wire.requests == []


async def test_a_stream_is_read_no_further_than_the_service_takes() -> None:
    """A stream without end does not fill the memory."""
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1_000_000
            yield bytes(1_000_000)

    with pytest.raises(UsageError, match="more than"):
        await Wire().client().transcribe(endless())
    assert read <= MOST_BYTES + 1_000_000


async def test_a_stream_that_stalls_ends_with_the_timeout() -> None:
    """The timeout is for the whole call, and nothing was sent."""
    sandbox, began = Sandbox(), anyio.current_time()

    async def stalled() -> AsyncIterator[bytes]:
        yield b"RIFF"
        await anyio.sleep(1_000)

    async with sandbox.client() as nb:
        with pytest.raises(APITimeoutError, match=r"audio.*nothing was sent") as caught:
            await nb.transcribe(stalled(), timeout=10)
    assert anyio.current_time() - began == pytest.approx(10)
    assert (caught.value.billed, sandbox.requests.total) == ("no", 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pieces", [1, 2])
async def test_what_never_left_whole_is_sent_again_from_its_start(kind: str, pieces: int, tmp_path: Path) -> None:
    """Without its last bytes no request can have been accepted, so nothing is in doubt."""
    wire = Wire(pieces, pieces)
    await wire.client().transcribe(audio(kind, tmp_path))
    assert len(wire.requests) == 3
    assert wire.parts()["audio"].get_payload(decode=True) == AUDIO


async def test_what_left_whole_is_sent_once(tmp_path: Path) -> None:
    """The answer is lost, and nobody knows whether it was charged."""
    wire = Wire(1_000)
    with pytest.raises(OutcomeUnknownError) as caught:
        await wire.client().transcribe(audio("path", tmp_path), diarize=True)
    assert len(wire.requests) == 1
    request = caught.value.request
    assert request is not None
    assert (request.model, request.prompt, request.params) == ("whisper", "talk.mp3", {"diarize": True})


class Twice(Wire):
    """A transport that reads a request twice, as one that retries by itself does."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Take one piece, then begin again."""
        assert isinstance(request.stream, httpx.AsyncByteStream)
        await anext(aiter(request.stream))
        return await super().handle_async_request(request)


async def test_no_transport_sends_audio_twice() -> None:
    """A second pull is stopped, even of a request that did not leave whole."""
    wire = Twice()
    with pytest.raises(APIConnectionError, match="send a paid request twice"):
        await wire.client(max_retries=0).transcribe(AUDIO)


async def test_a_file_that_vanishes_is_an_error(tmp_path: Path) -> None:
    """Gone between one attempt and the next: nothing was accepted, and the error names the file."""
    wire, path = Wire(1), audio("path", tmp_path)

    def vanish(_: Event) -> None:
        path.unlink(missing_ok=True)

    with pytest.raises(APIConnectionError, match=r"talk\.mp3") as caught:
        await wire.client(observe=vanish, timeout=20).transcribe(path)
    assert caught.value.billed == "no"


@pytest.mark.parametrize("family", ["a", "b"])
async def test_the_sandbox_hears(family: str, tmp_path: Path) -> None:
    """Both families answer, after the time that hearing takes, and charge once."""
    sandbox = Sandbox(family=family)
    async with sandbox.client() as nb:
        heard = await nb.transcribe(audio("path", tmp_path), model="elevenlabs-scribe", diarize=True)
        again = await nb.get(heard.id)
    assert heard.text is not None
    assert "talk.mp3" in heard.text
    assert "[Speaker 2]" in heard.text
    assert (heard.tokens_spent, again.text) == (2, heard.text)
    assert [charge.tokens for charge in sandbox.charges] == [2]


@pytest.mark.parametrize(
    ("fault", "posts"), [(faults.refuse(), 1), (faults.rate_limited(2), 2), (faults.status(500, "provider_error"), 2)]
)
async def test_refusals_for_now_are_repeated(fault: faults.Fault, posts: int) -> None:
    """As for every POST that pays."""
    sandbox = Sandbox()
    sandbox.order(fault, on="POST /stt")
    async with sandbox.client() as nb:
        await nb.transcribe(stream(AUDIO))
    assert (sandbox.requests.of("POST", "/stt"), len(sandbox.charges)) == (posts, 1)


async def test_the_service_s_refusal_is_raised() -> None:
    """A model that does not hear, and a model that only hears."""
    async with Sandbox().client() as nb:
        with pytest.raises(BadRequestError, match="does not hear"):
            await nb.transcribe(AUDIO, model="gpt-5")
        with pytest.raises(BadRequestError, match="POST /stt"):
            await nb.generate("whisper", "Hello")


async def test_a_cancelled_upload_is_told_only_if_it_left_whole() -> None:
    """Cancelled while hearing: it may be charged, and the event says so."""
    sandbox, events = Sandbox(), list[Event]()
    sandbox.order(faults.delay(100), on="POST /stt")
    async with sandbox.client(observe=events.append) as nb:
        with anyio.move_on_after(1) as scope:
            await nb.transcribe(AUDIO)
    assert scope.cancelled_caught
    assert [event.request.model for event in events if isinstance(event, Abandoned)] == ["whisper"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_audio_on_a_port(tmp_path: Path) -> None:
    """Real sockets and a worker thread bring the same bytes."""
    sandbox = Sandbox(speed=100)
    async with serve(sandbox) as base_url, AsyncNeuralBox(sandbox.key, base_url=base_url) as nb:
        await nb.transcribe(audio("path", tmp_path, AUDIO * 10))
    (job,) = sandbox.world.jobs.values()
    assert job.params["bytes"] == len(AUDIO) * 10


def test_no_name_ends_a_header() -> None:
    """A file may be called anything."""
    framed = form({"model": "whisper"}, file_field="audio", file_name='a"\r\nX-Evil: 1\r\n\r\nё.MP3', boundary="b")
    assert b"\r\nX-Evil" not in framed.head
    assert 'filename="a%22%0D%0AX-Evil: 1%0D%0A%0D%0Aё.MP3"\r\nContent-Type: audio/mpeg'.encode() in framed.head

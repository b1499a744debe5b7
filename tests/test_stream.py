"""Streaming: pieces as they come, one POST whatever happens, and an honest end when the stream breaks off."""

import gc
import json
import socketserver
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import Any

import anyio
import httpx
import pytest

from neuralbox_async import (
    Abandoned,
    APIStatusError,
    APITimeoutError,
    AsyncNeuralBox,
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    Event,
    GenerationFailedError,
    GenerationTimeoutError,
    InsufficientTokensError,
    Looked,
    NotFoundError,
    OutcomeUnknownError,
    ResponseError,
    TextStream,
    UsageError,
)
from neuralbox_async._core.options import conversation
from neuralbox_async.sandbox import Model, Plan, Sandbox, faults, results, serve

pytestmark = pytest.mark.anyio
on_a_port = pytest.mark.parametrize("anyio_backend", ["asyncio"])
STREAM = "POST /generate/stream"
SLOW = {"gpt-5": Model(slug="gpt-5", kind="text", tokens=(2, 2), seconds=(20, 20), draw=lambda _: 20.0)}


@pytest.fixture(params=["a", "b"])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    """Return a sandbox of either family, in which a text takes 20 s."""
    return Sandbox(family=request.param, models=SLOW)


def streams(sandbox: Sandbox) -> int:
    """Return how often a stream was asked for."""
    return sandbox.requests.of("POST", "/generate/stream")


def finals(events: Sequence[Event]) -> list[tuple[int | str, str, int | None]]:
    """Return what was told of each generation that is final."""
    told = [event.generation for event in events if isinstance(event, Looked) and event.generation.done]
    return [(generation.id, generation.status, generation.tokens_spent) for generation in told]


async def test_pieces_come_one_by_one(sandbox: Sandbox) -> None:
    """The id is there first, the pieces over the time that the text takes, the whole at the end; it is paid once."""
    async with sandbox.client() as nb:
        async with nb.stream("gpt-5", "Hello", {"max_tokens": 50}) as stream:
            assert (stream.generation.done, stream.text) == (False, "")
            came = []
            async for piece in stream:
                came.append((anyio.current_time(), piece))
                assert stream.text == "".join(each for _, each in came)
        whole = await nb.get(stream.generation.id)
    assert len(came) > 10
    assert 10 < came[-1][0] - came[0][0] < 20
    assert stream.text == stream.generation.text == whole.text
    assert (stream.generation.status, stream.generation.tokens_spent) == ("completed", 2)
    assert (len(sandbox.charges), streams(sandbox), sandbox.requests.total) == (1, 1, 2)


async def test_a_stream_can_be_read_to_its_end_at_once(sandbox: Sandbox) -> None:
    """Whoever wants no pieces gets the generation."""
    async with sandbox.client() as nb, nb.stream("gpt-5", "Hello") as stream:
        done = await stream.until_done()
        assert (done.text, done.tokens_spent) == (stream.text, 2)
        assert await stream.until_done() is done
        assert [piece async for piece in stream] == []


@pytest.mark.parametrize("fault", [None, faults.cut_in_body()], ids=["whole", "cut"])
async def test_the_end_of_a_stream_is_told_once_as_a_look_is(sandbox: Sandbox, fault: faults.Fault | None) -> None:
    """An observer learns what a text has cost, whether its stream told that or a look at the generation."""
    if fault is not None:
        sandbox.order(fault, on=STREAM)
    events: list[Event] = []
    async with sandbox.client(observe=events.append) as nb, nb.stream("gpt-5", "Hello") as stream:
        done = await stream.until_done()
    assert finals(events) == [(done.id, "completed", 2)]


async def test_the_failed_end_of_a_stream_is_told_as_a_look_is(sandbox: Sandbox) -> None:
    """An observer counts texts that failed while they were written."""
    events: list[Event] = []
    async with sandbox.client(observe=events.append) as nb, nb.stream("gpt-5", "Something forbidden") as stream:
        with pytest.raises(GenerationFailedError):
            await stream.until_done()
    assert [(number, status) for number, status, _ in finals(events)] == [(stream.generation.id, "failed")]


@pytest.mark.parametrize("fault", [faults.cut_in_body(), faults.hang_in_body()], ids=["cut", "silent"])
async def test_a_stream_that_breaks_off_is_finished_by_looking(sandbox: Sandbox, fault: faults.Fault) -> None:
    """What was received is kept, the rest comes from the generation itself, and nothing is sent twice."""
    sandbox.order(fault, on=STREAM)
    events: list[Event] = []
    async with sandbox.client(observe=events.append, max_connections=1) as nb:
        async with nb.stream("gpt-5", "Hello") as stream:
            pieces = [piece async for piece in stream]
        whole = await nb.get(stream.generation.id)
    assert "".join(pieces) == stream.text == stream.generation.text == whole.text
    assert len(pieces) > 5
    assert stream.generation.tokens_spent == 2
    assert (streams(sandbox), len(sandbox.charges)) == (1, 1)
    assert sandbox.requests.looks <= 8  # 10 s are left where it was cut, and one look is this test's own
    assert not [event for event in events if isinstance(event, Abandoned)]


async def test_an_error_event_leaves_what_came_until_then(sandbox: Sandbox) -> None:
    """The error says that it failed, and has the text so far; failed generations are not charged."""
    async with sandbox.client() as nb, nb.stream("gpt-5", "Forbidden") as stream:
        with pytest.raises(GenerationFailedError, match="content policy") as caught:
            await stream.until_done()
    error = caught.value
    assert error.generation is not None
    assert (error.generation_id, error.billed) == (stream.generation.id, "unknown")
    assert error.generation.text == stream.text
    assert len(stream.text) > 10
    assert sandbox.charges == []


@pytest.mark.parametrize(
    "fault", [faults.lost(), faults.empty(), faults.garbled(), faults.html(200), faults.html(502), faults.status(500)]
)
async def test_a_stream_without_an_id_is_in_doubt(fault: faults.Fault) -> None:
    """Whatever hides the first event of a request that left, it is never sent again by itself."""
    sandbox = Sandbox(models=SLOW)
    fault = faults.status(500, "internal") if fault == faults.status(500) else fault
    sandbox.order(fault, on=STREAM)
    async with sandbox.client() as nb:
        with pytest.raises(OutcomeUnknownError) as caught:
            async with nb.stream("gpt-5", "Hello"):
                pass
    assert caught.value.billed == "unknown"
    assert caught.value.request is not None
    assert caught.value.request.prompt == "Hello"
    assert streams(sandbox) == 1


@pytest.mark.parametrize(
    ("fault", "posts"),
    [
        (faults.refuse(), 1),
        (faults.rate_limited(3), 2),
        (faults.status(503, "model_unavailable"), 2),
        (faults.status(500, "provider_error"), 2),
    ],
)
async def test_what_certainly_cost_nothing_is_sent_again(fault: faults.Fault, posts: int) -> None:
    """Refused connections and refusals for now are repeated, as those of `generate`."""
    sandbox = Sandbox(models=SLOW)
    sandbox.order(fault, on=STREAM)
    async with sandbox.client() as nb, nb.stream("gpt-5", "Hello") as stream:
        await stream.until_done()
    assert (streams(sandbox), len(sandbox.charges)) == (posts, 1)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (faults.status(401, "not_authenticated"), AuthenticationError),
        (faults.status(402, "insufficient_tokens"), InsufficientTokensError),
        (faults.status(400, "bad_request"), BadRequestError),
        (faults.status(404, "not_found"), NotFoundError),
    ],
)
async def test_a_refusal_is_raised_at_the_door(fault: faults.Fault, error: type[APIStatusError]) -> None:
    """What the service refuses, it refuses before the first piece."""
    sandbox = Sandbox(models=SLOW)
    sandbox.order(fault, on=STREAM)
    async with sandbox.client() as nb:
        with pytest.raises(error):
            async with nb.stream("gpt-5", "Hello"):
                pass
    assert streams(sandbox) == 1


async def test_a_model_that_does_not_stream_is_refused() -> None:
    """Pictures come whole."""
    sandbox = Sandbox()
    async with sandbox.client() as nb:
        with pytest.raises(BadRequestError, match="does not stream"):
            async with nb.stream("dall-e-3", "A fox"):
                pass
    assert sandbox.charges == []


@pytest.mark.parametrize("http", ["in process", "on a port"])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_leaving_early_drops_the_connection_and_tells_the_id(http: str) -> None:
    """The place is free for the next call, and what may be paid for is heard of."""
    sandbox, events = Sandbox(models=SLOW, speed=20), list[Event]()
    options: dict[str, Any] = {"observe": events.append, "max_connections": 1}
    async with serve(sandbox) as base_url:
        own = AsyncNeuralBox(sandbox.key, base_url=base_url, **options)
        async with own if http == "on a port" else sandbox.client(**options) as nb:
            async with nb.stream("gpt-5", "Hello") as stream:
                async for _ in stream:
                    break
            assert (await nb.get(stream.generation.id, timeout=5)).id == stream.generation.id
    (abandoned,) = [event for event in events if isinstance(event, Abandoned)]
    assert abandoned.generation is not None
    assert (abandoned.generation.id, abandoned.generation.text) == (stream.generation.id, stream.text)


async def test_a_stream_holds_its_place() -> None:
    """With one connection, the next call waits until the stream is closed."""
    sandbox = Sandbox(models=SLOW)
    async with sandbox.client(max_connections=1) as nb:
        async with nb.stream("gpt-5", "Hello") as stream:
            await anext(aiter(stream))
            with anyio.move_on_after(3) as scope:
                await nb.balance()
            assert scope.cancelled_caught
            await stream.until_done()
        await nb.balance(timeout=1)


async def test_a_body_s_own_error_leaves_as_itself() -> None:
    """What goes wrong with a piece is the caller's."""
    sandbox, events = Sandbox(models=SLOW), list[Event]()
    async with sandbox.client(observe=events.append) as nb:
        stream = nb.stream("gpt-5", "Hello")
        with pytest.raises(ZeroDivisionError):
            await fail_within(stream)
    (abandoned,) = [event.generation for event in events if isinstance(event, Abandoned)]
    assert abandoned is not None
    assert abandoned.id == stream.generation.id


async def fail_within(stream: TextStream) -> None:
    """Fail with the first piece in hand."""
    async with stream:
        async for piece in stream:
            _ = len(piece) / 0


@pytest.mark.parametrize("after", [5, 15])
async def test_a_timeout_keeps_what_came(sandbox: Sandbox, after: float) -> None:
    """The error has the id and the text so far; the generation goes on, and can be waited for."""
    async with sandbox.client() as nb:
        async with nb.stream("gpt-5", "Hello", timeout=after) as stream:
            with pytest.raises(GenerationTimeoutError) as caught:
                await stream.until_done()
        assert caught.value.generation is not None
        assert caught.value.generation.text == stream.text != ""
        whole = await nb.wait(stream.generation.id)
    assert whole.text is not None
    assert whole.text.startswith(stream.text)
    assert streams(sandbox) == 1


async def test_no_stream_outlives_a_look_that_never_succeeds(sandbox: Sandbox) -> None:
    """Cut, and then unreachable until the timeout: the text so far is all there is."""
    sandbox.order(faults.cut_in_body(), on=STREAM)
    for route in ("GET /generate/{id}", "GET /user/history"):
        sandbox.order(faults.status(503, "busy"), on=route, times=None)
    async with sandbox.client() as nb, nb.stream("gpt-5", "Hello", timeout=100) as stream:
        with pytest.raises(GenerationTimeoutError, match="last look failed"):
            await stream.until_done()
        assert stream.text != ""


@pytest.mark.parametrize("family", ["a", "b"])
async def test_where_no_look_succeeds_the_history_ends_a_stream_if_it_has_the_text(family: str) -> None:
    """Its entry of the text goes on where the stream was cut; one without the text says nothing."""
    sandbox, whole = Sandbox(family=family), family == "a"
    sandbox.order(faults.cut_in_body(), on=STREAM)
    sandbox.order(faults.status(503, "busy"), on="GET /generate/{id}", times=None)
    async with sandbox.client() as nb, nb.stream("gpt-5", "Hello", timeout=100) as stream:
        with nullcontext() if whole else pytest.raises(GenerationTimeoutError, match="not streamed to its end"):
            await stream.until_done()
        said = results.text(sandbox.world.jobs[str(stream.generation.id)]) or ""
        assert said.startswith(stream.text)
        assert (stream.text == said) is whole


async def test_a_look_that_is_refused_is_told_as_it_is(sandbox: Sandbox) -> None:
    """Cut, and then the key is revoked: the id is what is left of what may be paid."""
    sandbox.order(faults.cut_in_body(), on=STREAM)
    sandbox.order(faults.status(401, "not_authenticated"), on="GET /generate/{id}", times=None)
    async with sandbox.client() as nb, nb.stream("gpt-5", "Hello") as stream:
        with pytest.raises(AuthenticationError) as caught:
            await stream.until_done()
    assert (caught.value.billed, caught.value.generation_id) == ("unknown", stream.generation.id)


async def test_a_stream_is_opened_by_its_block() -> None:
    """Nothing is sent before, and the error says how it is used."""
    sandbox = Sandbox()
    async with sandbox.client() as nb:
        stream = nb.stream("gpt-5", "Hello")
        for use in (stream.until_done, lambda: anext(aiter(stream))):
            with pytest.raises(UsageError, match="async with"):
                await use()
        with pytest.raises(UsageError, match="prompt"):
            nb.stream("gpt-5")
    assert sandbox.requests.total == 0


# --- replies of a service that behaves oddly --------------------------------------------------------------------------


class Wire(httpx.AsyncBaseTransport):
    """Answers a stream with these events, and a look with this reply."""

    def __init__(self, *events: Mapping[str, Any] | str, look: Mapping[str, Any] | None = None, **headers: str) -> None:
        lines = [each if isinstance(each, str) else f"data: {json.dumps(each)}\n\n" for each in events]
        self.body, self.look = "".join(lines).encode(), look
        self.headers = {name.replace("_", "-"): text for name, text in headers.items()}
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        await anyio.lowlevel.checkpoint()
        await request.aread()
        self.requests.append(request)
        if request.method == "GET":
            return httpx.Response(200, json=self.look)
        return httpx.Response(200, headers=self.headers, content=self.body)

    def client(self, **options: Any) -> AsyncNeuralBox:
        """Return a client of this transport."""
        own = httpx.AsyncClient(transport=self)
        return AsyncNeuralBox("nb_test_key", base_url="https://api.test/v2", http_client=own, **options)


START, END = {"type": "generation_start", "id": 7}, {"type": "generation_end", "id": 7, "tokens_spent": 3}
LOOK = {"id": 7, "status": "completed", "result_text": "Once upon a time", "tokens_spent": 3}


def delta(text: str) -> Mapping[str, Any]:
    """Return an event with a piece."""
    return {"type": "content_delta", "delta": text}


async def test_what_is_sent() -> None:
    """The documented request, with the key, asks for a stream and has no read timeout of its own."""
    wire = Wire(START, END)
    async with wire.client().stream("gpt-5", "Hello", {"max_tokens": 5}) as stream:
        await stream.until_done()
    (request,) = wire.requests
    assert (request.method, str(request.url)) == ("POST", "https://api.test/v2/generate/stream")
    assert json.loads(request.content) == {"model": "gpt-5", "prompt": "Hello", "params": {"max_tokens": 5}}
    assert request.headers["accept"] == "text/event-stream"
    assert request.headers["authorization"] == "Bearer nb_test_key"
    assert request.extensions["timeout"] == {"connect": 10.0, "read": None, "write": None, "pool": None}


COMPLETE: dict[str, tuple[Any, ...]] = {
    "as documented": (START, delta("Once upon"), delta(" a time"), END, "data: [DONE]\n\n"),
    "pieces before the start": (delta("Once upon"), START, delta(" a time"), END),
    "no start at all": (delta("Once upon"), delta(" a time"), END),
    "an end without an id": (START, delta("Once upon a time"), {**END, "id": None}),
    "empty pieces": (START, delta(""), delta("Once upon a time"), delta(""), END),
    "unknown events": (START, {"type": "ping"}, ": hello\n\n", delta("Once upon a time"), END),
    "no end": (START, delta("Once upon"), "data: [DONE]\n\n"),
    "no end and no [DONE]": (START, delta("Once upon")),
    "an event nobody can read": (START, delta("Once upon"), "data: {oops\n\n", delta(" a time"), END),
    "nothing but a start": (START,),
    "the whole text at the end": (START, {**END, "result_text": "Once upon a time"}),
    "the whole text at the end, after an empty piece": (START, delta(""), {**END, "content": "Once upon a time"}),
    "the whole text at the end again": (START, delta("Once upon a time"), {**END, "result_text": "ONCE UPON A TIME"}),
}


@pytest.mark.parametrize("case", COMPLETE)
async def test_every_order_of_events_gives_the_whole_text(case: str) -> None:
    """What the stream does not say, a look at the generation does."""
    wire = Wire(*COMPLETE[case], look=LOOK)
    async with wire.client().stream("gpt-5", "Hello") as stream:
        pieces = [piece async for piece in stream]
    assert "" not in pieces
    assert "".join(pieces) == stream.generation.text == "Once upon a time"
    assert (stream.generation.id, stream.generation.tokens_spent) == (7, 3)
    assert stream.generation.head is not None
    assert [request.method for request in wire.requests].count("POST") == 1


@pytest.mark.parametrize("status", ["completed", "failed"])
async def test_a_whole_reply_will_do(status: str) -> None:
    """A service that answers with JSON at once has not streamed, and has answered."""
    wire = Wire(json.dumps({**LOOK, "status": status}), content_type="application/json")
    async with wire.client().stream("gpt-5", "Hello") as stream:
        if status == "failed":
            with pytest.raises(GenerationFailedError):
                await stream.until_done()
        else:
            assert [piece async for piece in stream] == ["Once upon a time"]


@pytest.mark.parametrize("text", ["Another text", None, "Once"])
async def test_a_text_that_does_not_continue_is_no_quiet_end(text: str | None) -> None:
    """Cut, and the generation has another text: whoever printed the pieces must hear of it."""
    wire = Wire(START, delta("Once upon"), look={**LOOK, "result_text": text})
    async with wire.client().stream("gpt-5", "Hello") as stream:
        with pytest.raises(ResponseError, match="does not continue") as caught:
            await stream.until_done()
        assert (stream.text, stream.generation.text) == ("Once upon", text)
    assert (caught.value.billed, caught.value.generation_id) == ("yes", 7)


async def test_a_client_closed_under_a_stream_does_not_call_it_free() -> None:
    """It was cut, and nobody can look: the generation goes on."""
    nb = Wire(START, delta("Once")).client()
    async with nb.stream("gpt-5", "Hello") as stream:
        await nb.aclose()
        with pytest.raises(ClientClosedError) as caught:
            await stream.until_done()
    assert (caught.value.billed, caught.value.generation_id) == ("unknown", 7)


async def test_a_failure_that_only_a_look_tells() -> None:
    """Cut, and the generation has failed."""
    wire = Wire(START, delta("Once"), look={"id": 7, "status": "failed", "error": "oops", "tokens_spent": 0})
    async with wire.client().stream("gpt-5", "Hello") as stream:
        with pytest.raises(GenerationFailedError, match="oops") as caught:
            await stream.until_done()
    assert (caught.value.billed, caught.value.generation and caught.value.generation.text) == ("no", "Once")


async def test_an_error_before_the_start_is_a_failure() -> None:
    """The service said that it failed, so nothing is in doubt."""
    wire = Wire({"type": "error", "message": "Provider error"})
    with pytest.raises(GenerationFailedError, match="Provider error"):
        async with wire.client().stream("gpt-5", "Hello"):
            pass
    assert len(wire.requests) == 1


class Slow(httpx.AsyncBaseTransport):
    """Sends the first event so many seconds after the request."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.closed = seconds, 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer at once, and stream slowly."""
        await request.aread()
        return httpx.Response(200, stream=self.Body(self))

    class Body(httpx.AsyncByteStream):
        """The first event, and then nothing."""

        def __init__(self, wire: "Slow") -> None:
            self.wire = wire

        async def __aiter__(self) -> AsyncIterator[bytes]:
            await anyio.sleep(self.wire.seconds)
            yield f"data: {json.dumps(START)}\n\n".encode()
            await anyio.sleep_forever()

        async def aclose(self) -> None:
            """Count."""
            self.wire.closed += 1


@pytest.mark.parametrize(("seconds", "heard"), [(3, 7), (60, None)], ids=["heard", "not heard"])
async def test_a_stream_cancelled_at_the_door_has_a_grace_to_learn_its_id(seconds: float, heard: int | None) -> None:
    """As any POST that pays: up to 5 s for the id, then the connection is dropped and the place free."""
    wire, events = Slow(seconds), list[Event]()
    own = httpx.AsyncClient(transport=wire)
    options: dict[str, Any] = {"observe": events.append, "max_connections": 1}
    nb = AsyncNeuralBox("nb_test_key", base_url="https://api.test/v2", http_client=own, **options)
    with anyio.move_on_after(1) as scope:
        async with nb.stream("gpt-5", "Hello"):
            pass
    assert scope.cancelled_caught
    (abandoned,) = [event for event in events if isinstance(event, Abandoned)]
    assert (abandoned.generation and abandoned.generation.id) == heard
    assert wire.closed == 1
    wire.seconds = 0
    with anyio.fail_after(10):
        async with nb.stream("gpt-5", "Hello") as stream:
            assert stream.generation.id == 7
    assert not own.is_closed


class Breaks(Wire):
    """Sends the start and a piece, and then raises what a caller's transport may raise."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        answer = await super().handle_async_request(request)
        return answer if request.method == "GET" else httpx.Response(200, stream=self.Body(answer.content))

    class Body(httpx.AsyncByteStream):
        """The events, and then an error that httpx does not know."""

        def __init__(self, events: bytes) -> None:
            self.events = events

        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield self.events
            raise RuntimeError("the tunnel collapsed")


async def test_a_transport_s_own_error_is_a_cut_too() -> None:
    """Whatever a caller's transport raises, what was paid for is finished by a look."""
    async with Breaks(START, delta("Once upon"), look=LOOK).client().stream("gpt-5", "Hello") as stream:
        assert [piece async for piece in stream] == ["Once upon", " a time"]
    assert stream.generation.tokens_spent == 3


# --- on a real port ---------------------------------------------------------------------------------------------------


@on_a_port
@pytest.mark.parametrize("fault", [None, faults.cut_in_body()], ids=["whole", "cut"])
async def test_a_stream_on_a_port(sandbox: Sandbox, fault: faults.Fault | None) -> None:
    """Real sockets bring the same pieces over time, and the same end when they are cut."""
    sandbox.world.calendar = type(sandbox.world.calendar)(speed=20)
    if fault is not None:
        sandbox.order(fault, on=STREAM)
    async with serve(sandbox) as base_url, AsyncNeuralBox(sandbox.key, base_url=base_url, poll_interval=0.2) as nb:
        async with nb.stream("gpt-5", "Hello") as stream:
            pieces = [piece async for piece in stream]
        whole = await nb.get(stream.generation.id)
    assert len(pieces) > 5
    assert "".join(pieces) == stream.generation.text == whole.text
    assert (len(sandbox.charges), streams(sandbox)) == (1, 1)


@on_a_port
async def test_the_connection_of_a_stream_serves_again() -> None:
    """A stream read to its end leaves a connection for the next call."""
    sandbox = Sandbox(speed=100)
    async with serve(sandbox) as base_url, AsyncNeuralBox(sandbox.key, base_url=base_url, max_connections=1) as nb:
        for _ in range(3):
            async with nb.stream("gpt-5", "Hello") as stream:
                await stream.until_done()
            await nb.balance()
        client = nb._http.slots._own  # noqa: SLF001 - the connections are nobody's business
        assert client is not None
        idle = client._transport._idle  # type: ignore[attr-defined]  # noqa: SLF001
        assert sum(map(len, idle.values())) == 1


class Chunks(socketserver.StreamRequestHandler):
    """Streams the first event, and the rest once the test lets it."""

    def handle(self) -> None:
        """Answer each request of a connection until the client hangs up."""
        assert isinstance(self.server, ChunkServer)
        with suppress(ConnectionError):
            while self.rfile.readline():
                while self.rfile.readline() != b"\r\n":
                    continue
                self.rfile.read(len(json.dumps({"model": "gpt-5", "prompt": "Hello"}, separators=(",", ":"))))
                self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for events in ([START, delta("Once")], [delta(" upon"), END]):
                    lines = "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode()
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(lines), lines))
                    self.server.may_go_on.wait(10)
                self.wfile.write(b"0\r\n\r\n")


class ChunkServer(socketserver.ThreadingTCPServer):
    """Serves streams in threads."""

    daemon_threads = True

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        super().__init__(("127.0.0.1", 0), Chunks)


@pytest.fixture
def chunks() -> Iterator[ChunkServer]:
    """Run a server of streams."""
    with ChunkServer() as running:
        thread = threading.Thread(target=running.serve_forever, args=[0.01])
        thread.start()
        yield running
        running.may_go_on.set()
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.parametrize("leaves", [False, True], ids=["read", "left"])
async def test_a_stream_over_real_sockets(chunks: ChunkServer, leaves: bool) -> None:  # noqa: FBT001
    """The first piece is there before the second is sent; leaving ends everything between here and the socket."""
    base_url = f"http://127.0.0.1:{chunks.server_address[1]}/v2"
    async with AsyncNeuralBox("nb_test_key", base_url=base_url, max_connections=1) as nb:
        for _ in range(2):
            chunks.may_go_on.clear()
            async with nb.stream("gpt-5", "Hello", timeout=20) as stream:
                assert await anext(aiter(stream)) == "Once"
                if not leaves:
                    chunks.may_go_on.set()
                    assert (await stream.until_done()).text == "Once upon"
    gc.collect()  # a generator left half-way would complain here


# --- conversations ----------------------------------------------------------------------------------------------------

SYSTEM, HELLO, HI = (
    {"role": "system", "content": "Be brief"},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi"},
)


@pytest.mark.parametrize(
    ("prompt", "messages", "asked", "earlier"),
    [
        ("Why?", None, "Why?", None),
        (None, [HELLO], "Hello", []),
        (None, [SYSTEM, HELLO], "Hello", [SYSTEM]),
        ("Why?", [HELLO, HI], "Why?", [HELLO, HI]),
        ("Why?", (), "Why?", []),
    ],
)
def test_a_conversation_is_a_prompt_and_what_came_before(
    prompt: str | None, messages: Sequence[Any] | None, asked: str, earlier: list[Any] | None
) -> None:
    """The last message is the prompt, the rest goes into the params, and other params stay."""
    request = conversation("gpt-5", prompt, {"max_tokens": 5}, messages)
    assert request.prompt == asked
    assert request.params == {"max_tokens": 5, **({} if earlier is None else {"messages": earlier})}


@pytest.mark.parametrize(
    ("prompt", "params", "messages"),
    [
        (None, None, []),
        (None, None, [HELLO, HI]),
        (None, None, [{"role": "user", "content": [{"type": "text"}]}]),
        (None, None, "Hello"),
        (None, None, HELLO),
        (None, None, ["Hello"]),
        ("Why?", {"messages": []}, [HELLO]),
    ],
)
def test_what_is_no_conversation_is_refused(prompt: Any, params: Any, messages: Any) -> None:
    """A usage error, before anything is sent."""
    with pytest.raises(UsageError):
        conversation("gpt-5", prompt, params, messages)


async def test_a_conversation_reaches_the_service() -> None:
    """Turns are sent in the params, the last one as the prompt."""
    wire = Wire(START, END)
    async with wire.client().stream("gpt-5", messages=[SYSTEM, HELLO]) as stream:
        await stream.until_done()
    sent = json.loads(wire.requests[0].content)
    assert sent == {"model": "gpt-5", "prompt": "Hello", "params": {"messages": [SYSTEM]}}


async def test_a_stream_in_line_for_a_connection_has_its_place_in_the_window() -> None:
    """Of ten at once on one connection none meets a window that those before it have used up."""
    sandbox = Sandbox(plan=Plan(name="small", per_hour=6, per_day=None))

    async def read(nb: AsyncNeuralBox) -> None:
        async with nb.stream("gpt-5", "Hello", timeout=20_000) as stream:
            await stream.until_done()

    async with sandbox.client(max_connections=2) as nb, anyio.create_task_group() as tasks:
        await nb.balance()
        for _ in range(10):
            tasks.start_soon(read, nb)
    assert (len(sandbox.charges), sandbox.requests.answered(429)) == (10, 0)


async def test_a_stream_that_is_cut_before_its_id_is_in_doubt() -> None:
    """An answer that has begun and says nothing is the same as none: the text may be on its way, and paid for."""

    class Cut(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b": here it comes\n\n"
            raise httpx.ReadError("cut")

    async def answer(request: httpx.Request) -> httpx.Response:
        await request.aread()
        return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=Cut())

    own = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    async with AsyncNeuralBox("nb_test_key", http_client=own) as nb:
        with pytest.raises(OutcomeUnknownError, match="ReadError: cut") as caught:
            async with nb.stream("gpt-5", "Hello"):
                pass
    assert caught.value.billed == "unknown"


async def test_a_stream_waits_for_a_connection_no_longer_than_its_timeout(sandbox: Sandbox) -> None:
    """One that is open keeps its place; who waits behind it for too long has sent nothing."""
    async with sandbox.client(max_connections=2) as nb:
        async with nb.stream("gpt-5", "Hello"):
            with pytest.raises(APITimeoutError) as caught:
                async with nb.stream("gpt-5", "Hello", timeout=5):
                    pass
        assert (caught.value.billed, streams(sandbox)) == ("no", 1)
        async with nb.stream("gpt-5", "Hello") as stream:
            assert (await stream.until_done()).done


async def test_a_stream_has_nothing_before_it_is_opened() -> None:
    """Whoever forgets the `async with` is told, and nothing was sent."""
    sandbox = Sandbox()
    async with sandbox.client() as nb:
        stream = nb.stream("gpt-5", "Hello")
        assert stream.text == ""
        with pytest.raises(UsageError, match="async with"):
            _ = stream.generation
        with pytest.raises(UsageError, match="async with"):
            await stream.until_done()
    assert streams(sandbox) == 0

"""One POST when the answer is lost; another one only where the first cannot have cost anything."""

import json
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from attrs import frozen

from neuralbox_async import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncNeuralBox,
    AuthenticationError,
    BadRequestError,
    Event,
    Generation,
    GenerationRequest,
    InsufficientTokensError,
    InternalServerError,
    NotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    RateLimitError,
    Requested,
    Retrying,
    UnprocessableEntityError,
)

pytestmark = pytest.mark.anyio

KEY = "nb_test_0123456789abcdefghijklmnopqrstuvwxyz0123"
ACCEPTED = {"id": 18500, "status": "pending", "model_slug": "kling-v2.1"}
NOON, NOON_AND_20_S = "Sun, 08 Mar 2026 12:00:00 GMT", "Sun, 08 Mar 2026 12:00:20 GMT"


@frozen
class Unpulled:
    """A failure, or an answer, of which the body of the request was never pulled."""

    step: Exception | httpx.Response


Step = Exception | httpx.Response | Unpulled


class Wire(httpx.AsyncBaseTransport):
    """Plays a step for each request, and accepts every request when the steps have run out."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.requests: list[httpx.Request] = []
        self.bodies: list[bytes] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Play the next step."""
        await anyio.lowlevel.checkpoint()
        self.requests.append(request)
        step = self.steps.pop(0) if self.steps else answer(200, ACCEPTED)
        if isinstance(step, Unpulled):
            step = step.step
        else:
            assert isinstance(request.stream, httpx.AsyncByteStream)
            self.bodies.append(b"".join([part async for part in request.stream]))
        if isinstance(step, Exception):
            raise step
        return step


def answer(status: int, body: Mapping[str, Any] | bytes = b"", **headers: str) -> httpx.Response:
    """Return an answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.Response(
        status, headers={name.replace("_", "-"): text for name, text in headers.items()}, stream=Body(content)
    )


class Body(httpx.AsyncByteStream):
    """The body of an answer, which breaks off with an error where one is given."""

    def __init__(self, content: bytes, error: Exception | None = None) -> None:
        self.content, self.error = content, error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.content
        if self.error is not None:
            raise self.error


def client(wire: httpx.AsyncBaseTransport, **options: Any) -> AsyncNeuralBox:
    """Return a client whose requests all go to this transport."""
    return AsyncNeuralBox(KEY, base_url="https://api.test/v2", http_client=httpx.AsyncClient(transport=wire), **options)


async def test_a_submission_is_one_post_with_the_key() -> None:
    """The documented request leaves once, with our headers and nobody else's, to the base URL."""
    wire = Wire()
    accepted = await client(wire).submit("kling-v2.1", "Цветок", {"duration": 5})
    (request,) = wire.requests
    assert (accepted.id, accepted.done) == (18500, False)
    assert (request.method, str(request.url)) == ("POST", "https://api.test/v2/generate")
    assert json.loads(wire.bodies[0]) == {"model": "kling-v2.1", "prompt": "Цветок", "params": {"duration": 5}}
    assert request.headers["content-length"] == str(len(wire.bodies[0]))
    assert {name: request.headers[name] for name in ("authorization", "content-type", "host", "accept")} == {
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "host": "api.test",
        "accept": "application/json",
    }


async def test_a_post_has_no_read_timeout_of_its_own() -> None:
    """Text models answer in the POST itself, so only connecting is limited."""
    wire = Wire()
    await client(wire).submit("gpt-5", "Hello")
    assert wire.requests[0].extensions["timeout"] == {"connect": 10.0, "read": None, "write": None, "pool": None}


LOST: dict[str, Step] = {
    "read error": httpx.ReadError("reset by peer"),
    "read timeout": httpx.ReadTimeout("slow"),
    "write error after the pull": httpx.WriteError("broken pipe"),
    "write timeout after the pull": httpx.WriteTimeout("slow"),
    "server disconnected": httpx.RemoteProtocolError("Server disconnected without sending a response."),
    "connect error after the pull": httpx.ConnectError("a proxy's own words"),
    "pool timeout after the pull": httpx.PoolTimeout("a transport's own words"),
    "OSError": OSError("no buffer space"),
    "a transport's own exception": RuntimeError("oops"),
    "a transport's KeyError": KeyError("oops"),
    "a transport's TimeoutError": TimeoutError(),
    "200 without an id": answer(200, {"status": "completed"}),
    "200 with true as id": answer(200, {"id": True, "status": "completed"}),
    "200 with a list": answer(200, b"[]"),
    "200 with HTML": answer(200, b"<html>Please log in to the hotel's network</html>"),
    "200 with truncated JSON": answer(200, b'{"id": 185'),
    "200 with nothing": answer(200),
    "200 cut in the body": httpx.Response(200, stream=Body(b'{"id": 1', httpx.ReadError("cut"))),
    "204": answer(204),
    "a 503 cut in its body": httpx.Response(503, stream=Body(b'{"error": "model_un', httpx.ReadError("cut"))),
    "500 with another word": answer(500, {"error": "internal_error", "message": "oops"}),
    "503 with HTML": answer(503, b"<html>Service unavailable</html>"),
    **{
        f"bare {status}": answer(status) for status in (302, 303, 304, 405, 408, 409, 410, 425, 500, 502, 503, 504, 520)
    },
}


@pytest.mark.parametrize("case", LOST)
async def test_a_lost_answer_is_one_post_and_an_honest_unknown(case: str) -> None:
    """Whatever hides the answer to a request that left, it is never sent again by itself."""
    step = LOST[case]
    wire = Wire(answer(200, ACCEPTED), fresh(step))
    events: list[Event] = []
    nb = client(wire, max_retries=5, observe=events.append)
    await nb.submit("kling-v2.1", "An earlier one")
    with pytest.raises(OutcomeUnknownError) as caught:
        await nb.generate("gpt-5", "Hello", {"max_tokens": 5})
    assert len(wire.requests) == 2
    error = caught.value
    assert (error.billed, error.retryable, error.generation_id) == ("unknown", False, None)
    assert error.request == GenerationRequest("gpt-5", "Hello", {"max_tokens": 5})
    assert error.sent_at > 1_700_000_000
    assert error.after_id == 18500
    assert not [event for event in events if isinstance(event, Retrying)]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # on trio, httpx leaves a generator of its own unfinished
async def test_an_answer_that_cannot_be_unpacked_is_in_doubt() -> None:
    """A 200 that says gzip and is none is an answer that nobody can read."""
    wire = Wire(answer(200, ACCEPTED, content_encoding="gzip"))
    with pytest.raises(OutcomeUnknownError, match="DecodingError"):
        await client(wire).submit("gpt-5", "Hello")
    assert len(wire.requests) == 1


def fresh(step: Step) -> Step:
    """Return a step that another backend's test has not used up."""
    if not isinstance(step, httpx.Response):
        return step
    return httpx.Response(step.status_code, headers=step.headers, stream=step.stream)


NOT_SENT: dict[str, Exception] = {
    "refused": httpx.ConnectError("Connection refused"),
    "no such host": httpx.ConnectError("Name or service not known"),
    "connect timeout": httpx.ConnectTimeout("slow"),
    "pool timeout": httpx.PoolTimeout("full"),
    "a proxy that times out": httpx.ReadTimeout("no answer to CONNECT"),
    "a proxy that refuses": httpx.ProxyError("502 Bad Gateway"),
    "write error in the headers": httpx.WriteError("broken pipe"),
    "closed keep-alive": httpx.RemoteProtocolError("Server disconnected"),
    "OSError": OSError("network unreachable"),
}


@pytest.mark.parametrize("case", NOT_SENT)
async def test_what_never_left_is_sent_again(case: str) -> None:
    """A body that was not pulled cannot have cost anything, whatever the exception is called."""
    wire = Wire(Unpulled(NOT_SENT[case]), Unpulled(NOT_SENT[case]))
    assert (await client(wire).submit("kling-v2.1", "A flower")).id == 18500
    assert (len(wire.requests), len(wire.bodies)) == (3, 1)


@pytest.mark.parametrize("max_retries", [0, 1, 3])
async def test_max_retries_is_how_often_it_is_sent_again(max_retries: int) -> None:
    """After the last retry the error says that nothing was spent and that it may pass later."""
    wire = Wire(*[Unpulled(httpx.ConnectError("refused"))] * 9)
    with pytest.raises(APIConnectionError, match="refused") as caught:
        await client(wire, max_retries=max_retries).submit("gpt-5", "Hello")
    assert len(wire.requests) == max_retries + 1
    assert (caught.value.billed, caught.value.retryable) == ("no", True)


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"),
        httpx.UnsupportedProtocol("ftp"),
        RuntimeError("Cannot send a request, as the client has been closed."),
    ],
    ids=["untrusted", "unsupported", "closed"],
)
async def test_what_time_does_not_heal_is_raised_at_once(error: Exception) -> None:
    """A certificate that is not trusted will not be trusted in half a second."""
    wire = Wire(Unpulled(error))
    with pytest.raises(APIConnectionError) as caught:
        await client(wire).submit("gpt-5", "Hello")
    assert len(wire.requests) == 1
    assert (caught.value.billed, caught.value.retryable) == ("no", False)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (402, InsufficientTokensError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (413, APIStatusError),
        (414, APIStatusError),
        (415, APIStatusError),
        (422, UnprocessableEntityError),
        (431, APIStatusError),
        (301, APIStatusError),
        (307, APIStatusError),
        (308, APIStatusError),
    ],
)
async def test_a_refusal_is_raised_at_once(status: int, kind: type[APIStatusError]) -> None:
    """A refusal is one POST and one error of its own class, with nothing spent."""
    wire = Wire(answer(status, {"error": "no"}, location="https://elsewhere.test/v2/generate"))
    with pytest.raises(APIStatusError) as caught:
        await client(wire).submit("gpt-5", "Hello")
    assert type(caught.value) is kind
    assert len(wire.requests) == 1
    assert (caught.value.billed, caught.value.retryable) == ("no", False)


PASSING: dict[str, Callable[[], httpx.Response]] = {
    "model unavailable": lambda: answer(503, {"error": "model_unavailable"}),
    "provider error": lambda: answer(500, {"error": "provider_error"}),
    "429": lambda: answer(429, {"error": "rate_limit_exceeded", "retry_after": 20}),
}


@pytest.mark.parametrize("case", PASSING)
async def test_what_is_documented_as_not_charged_is_sent_again(case: str) -> None:
    """The three refusals that pass are repeated max_retries times and then raised."""
    wire = Wire(*(PASSING[case]() for _ in range(2)))
    assert (await client(wire).submit("gpt-5", "Hello")).id == 18500
    wire = Wire(*(PASSING[case]() for _ in range(9)))
    with pytest.raises(APIStatusError) as caught:
        await client(wire).submit("gpt-5", "Hello")
    assert len(wire.requests) == 3
    assert (caught.value.billed, caught.value.retryable) == ("no", True)


@pytest.mark.parametrize(
    "refusal",
    [
        lambda: answer(429, {"retry_after": 20}),
        lambda: answer(429, retry_after="20"),
        lambda: answer(429, retry_after=NOON_AND_20_S, date=NOON),
        lambda: answer(503, {"error": "model_unavailable", "retry_after": 20}),
    ],
    ids=["body", "header", "date", "503"],
)
async def test_the_service_s_own_seconds_are_waited(refusal: Callable[[], httpx.Response]) -> None:
    """The second POST leaves when the service said, not sooner and hardly later."""
    began = anyio.current_time()
    await client(Wire(refusal())).submit("gpt-5", "Hello")
    assert 20 <= anyio.current_time() - began < 21


@pytest.mark.parametrize("status", [429, 503])
async def test_a_wait_beyond_the_deadline_is_raised_now(status: int) -> None:
    """Whoever has 60 s is not left waiting for an hour that cannot succeed."""
    wire = Wire(answer(status, {"error": "model_unavailable", "retry_after": 847}))
    began = anyio.current_time()
    with pytest.raises((RateLimitError, InternalServerError)) as caught:
        await client(wire).submit("gpt-5", "Hello", timeout=60)
    assert caught.value.retry_after == 847
    assert anyio.current_time() - began < 1
    assert len(wire.requests) == 1


async def test_a_closed_window_is_not_knocked_at() -> None:
    """After a 429, calls that would wait too long are refused here, with the seconds left; nothing is sent."""
    wire = Wire(answer(429, {"retry_after": 847}))
    nb = client(wire, timeout=60)
    for call in (nb.submit("gpt-5", "Hello"), nb.submit("gpt-5", "Hello"), nb.balance(), nb.get(7)):
        with pytest.raises(RateLimitError) as caught:
            await call
        assert caught.value.retry_after == pytest.approx(847, abs=1)
    assert len(wire.requests) == 1


async def test_the_deadline_after_the_pull_is_doubt() -> None:
    """Time that runs out while the service works proves nothing; before the pull it proves that nothing was spent."""
    with pytest.raises(OutcomeUnknownError, match="within the timeout") as doubt:
        await client(Slow(after=100)).submit("gpt-5", "Hello", timeout=30)
    with pytest.raises(APITimeoutError) as timed_out:
        await client(Slow(before=100)).submit("gpt-5", "Hello", timeout=30)
    assert (doubt.value.billed, timed_out.value.billed) == ("unknown", "no")


class Slow(httpx.AsyncBaseTransport):
    """Takes its time before it pulls the body, and before it answers."""

    def __init__(self, *, before: float = 0, after: float = 0) -> None:
        self.before, self.after = before, after

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Accept the request, slowly."""
        await anyio.sleep(self.before)
        await request.aread()
        await anyio.sleep(self.after)
        return answer(200, ACCEPTED)


# --- a caller's own httpx client --------------------------------------------------------------------------------------


class Resending(httpx.AsyncBaseTransport):
    """A transport that repeats whatever fails, as some people's do."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Try twice."""
        try:
            return await self.inner.handle_async_request(request)
        except httpx.HTTPError:
            return await self.inner.handle_async_request(request)


async def test_a_retrying_transport_cannot_pay_twice() -> None:
    """A second pull of the body raises, so the copy never leaves, and the first is in doubt."""
    wire = Wire(httpx.ReadError("cut"))
    with pytest.raises(OutcomeUnknownError, match="send a paid request twice and was stopped"):
        await client(Resending(wire)).submit("gpt-5", "Hello")
    assert len(wire.bodies) == 1


async def test_a_retrying_transport_may_connect_twice() -> None:
    """Before the pull, somebody else's retries are harmless."""
    wire = Wire(Unpulled(httpx.ConnectError("refused")))
    assert (await client(Resending(wire)).submit("gpt-5", "Hello")).id == 18500


class Insisting(httpx.Auth):
    """An auth flow that replaces the header and sends again after a 401."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send twice with credentials of its own."""
        request.headers["Authorization"] = "Bearer of-the-caller"
        response = yield request
        if response.status_code == 401:
            yield request


async def test_nothing_of_a_caller_s_client_replaces_or_receives_the_key() -> None:
    """Auth, headers, cookies and base URL of a caller's client stay out of our requests, and redirects unfollowed."""
    wire = Wire(answer(401), answer(307, location="https://evil.test/"), answer(200, ACCEPTED, set_cookie="spy=1"))
    own = httpx.AsyncClient(
        transport=wire,
        auth=Insisting(),
        headers={"Authorization": "Bearer of-the-caller", "X-Spy": "1"},
        cookies={"session": "secret"},
        params={"spy": "1"},
        base_url="https://evil.test",
        follow_redirects=True,
    )
    nb = AsyncNeuralBox(KEY, base_url="https://api.test/v2", http_client=own)
    for kind in (AuthenticationError, APIStatusError):
        with pytest.raises(kind):
            await nb.submit("gpt-5", "Hello")
    await nb.submit("gpt-5", "Hello")
    await nb.submit("gpt-5", "Hello")
    assert len(wire.requests) == 4
    for request in wire.requests:
        assert str(request.url) == "https://api.test/v2/generate"
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert not {"x-spy", "cookie"} & set(request.headers)
    assert own.headers["authorization"] == "Bearer of-the-caller"


async def test_hooks_of_a_caller_s_client_see_nothing_of_ours(tmp_path: Path) -> None:
    """A hook would be handed the key, could replace it, and could send the POST again; it is not called."""
    seen: list[object] = []

    async def spy(found: object) -> None:
        seen.append(found)

    wire = Wire(answer(200, ACCEPTED), answer(200, ACCEPTED), httpx.Response(200, content=b"GIF8"))
    own = httpx.AsyncClient(transport=wire, event_hooks={"request": [spy], "response": [spy]})
    nb = AsyncNeuralBox(KEY, base_url="https://api.test/v2", http_client=own)
    await nb.submit("gpt-5", "Hello")
    await nb.get(18500)
    await nb.download(Generation(id=7, status="completed", url="https://api.test/7"), tmp_path)
    assert (len(wire.requests), seen) == (3, [])


async def test_cookies_of_an_answer_reach_no_jar() -> None:
    """Neither ours nor a caller's client keeps a cookie of the service's."""
    wire = Wire(answer(200, ACCEPTED, set_cookie="spy=1; Path=/"), answer(200, ACCEPTED))
    own = httpx.AsyncClient(transport=wire)
    nb = AsyncNeuralBox(KEY, base_url="https://api.test/v2", http_client=own)
    for _ in range(2):
        await nb.submit("gpt-5", "Hello")
    assert not own.cookies
    assert [request for request in wire.requests if "cookie" in request.headers] == []


async def test_mounts_of_a_caller_s_client_serve() -> None:
    """Its transports for some addresses, such as its proxies, are taken as it would take them."""
    api, other = Wire(answer(200, ACCEPTED)), Wire()
    own = httpx.AsyncClient(transport=other, mounts={"https://api.test": api})
    await AsyncNeuralBox(KEY, base_url="https://api.test/v2", http_client=own).submit("gpt-5", "Hello")
    assert (len(api.requests), len(other.requests)) == (1, 0)


async def test_a_caller_s_closed_client_is_no_doubt() -> None:
    """It is said at once, and nothing was sent."""
    own = httpx.AsyncClient(transport=Wire())
    await own.aclose()
    with pytest.raises(APIConnectionError, match="http_client is closed") as caught:
        await AsyncNeuralBox(KEY, base_url="https://api.test/v2", http_client=own).submit("gpt-5", "Hello")
    assert caught.value.billed == "no"


async def test_a_caller_s_client_is_never_closed() -> None:
    """Closing ours leaves theirs open."""
    own = httpx.AsyncClient(transport=Wire())
    async with AsyncNeuralBox(KEY, base_url="https://api.test/v2", http_client=own) as nb:
        await nb.submit("gpt-5", "Hello")
    assert not own.is_closed


class Raising(httpx.AsyncBaseTransport):
    """A caller's transport that raises for a status, as some that repeat requests do in the end."""

    def __init__(self, status: int) -> None:
        self.wire = Wire(answer(status))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it; raise httpx.HTTPStatusError for a refusal."""
        response = await self.wire.handle_async_request(request)
        response.request = request
        return response.raise_for_status()


async def test_a_caller_s_transport_that_raises_for_a_refusal_makes_no_doubt() -> None:
    """Whether a POST or a stream: a transport with raise_for_status leaves a plain refusal what it is."""
    own = httpx.AsyncClient(transport=Raising(403))
    with pytest.raises(PermissionDeniedError) as caught:
        await AsyncNeuralBox(KEY, base_url="https://api.test/v2", http_client=own).submit("gpt-5", "Hello")
    assert caught.value.billed == "no"
    own = httpx.AsyncClient(transport=Raising(402))
    with pytest.raises(InsufficientTokensError) as stopped:
        async with AsyncNeuralBox(KEY, base_url="https://api.test/v2", http_client=own).stream("gpt-5", "Hello"):
            pass
    assert stopped.value.billed == "no"


# --- who hears of it --------------------------------------------------------------------------------------------------


async def test_every_request_is_told() -> None:
    """An observer hears of each request's status, and of each retry with its error."""
    events: list[Event] = []
    wire = Wire(Unpulled(httpx.ConnectError("refused")), answer(503, {"error": "model_unavailable"}))
    await client(wire, observe=events.append).submit("gpt-5", "Hello")
    assert [event.status for event in events if isinstance(event, Requested)] == [None, 503, 200]
    retries = [event for event in events if isinstance(event, Retrying)]
    assert [(type(event.error), event.attempt) for event in retries] == [
        (APIConnectionError, 1),
        (InternalServerError, 2),
    ]


async def test_an_observer_that_raises_never_loses_a_paid_id(caplog: pytest.LogCaptureFixture) -> None:
    """A mistake of the observer is logged, and the generation comes back all the same."""

    def broken(_: Event) -> None:
        raise RuntimeError("the observer's own mistake")

    assert (await client(Wire(), observe=broken).submit("gpt-5", "Hello")).id == 18500
    assert "the observer failed on Accepted" in caplog.text


class BreakingOff(httpx.AsyncBaseTransport):
    """Fails to write what it has pulled."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pull one part of the body and break off."""
        assert isinstance(request.stream, httpx.AsyncByteStream)
        async for _ in request.stream:
            raise httpx.WriteError("broken pipe")
        raise AssertionError("the body is never empty")


async def test_a_write_that_breaks_off_is_in_doubt() -> None:
    """A body that was pulled and only partly written is in doubt, and leaves no unfinished generator behind."""
    with pytest.raises(OutcomeUnknownError, match="broken pipe"):
        await client(BreakingOff()).submit("gpt-5", "Hello")

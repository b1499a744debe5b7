"""GETs are free: they are repeated until the deadline, and a failed look is never a failed generation."""

from typing import Any

import anyio
import httpx
import pytest
import respx

from neuralbox_async import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncNeuralBox,
    AuthenticationError,
    BadRequestError,
    InternalServerError,
    NeuralBoxError,
    NotFoundError,
    PermissionDeniedError,
    Rate,
    RateLimitError,
    ResponseError,
)

pytestmark = pytest.mark.anyio

BASE = "https://api.test/v2"
LOOK = f"{BASE}/generate/18500"
DONE = {"id": 18500, "status": "completed", "result_text": "A flower."}


def client(**options: Any) -> AsyncNeuralBox:
    """Return a client with connections of its own, which respx answers in the network's place."""
    return AsyncNeuralBox("nb_test_key", base_url=BASE, **options)


async def test_a_look_carries_the_key_and_no_body() -> None:
    """A look is a GET of the id, with the key and with timeouts that notice a stalled answer."""
    with respx.mock:
        route = respx.get(LOOK).respond(json=DONE)
        async with client() as nb:
            assert (await nb.get(18500)).text == "A flower."
    request = route.calls.last.request
    assert request.headers["authorization"] == "Bearer nb_test_key"
    assert request.content == b""
    assert request.extensions["timeout"] == {"connect": 10.0, "read": 30.0, "write": None, "pool": None}


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"),
        httpx.ReadError("cut"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("Server disconnected"),
        httpx.PoolTimeout("full"),
        OSError("network unreachable"),
        *(httpx.Response(status) for status in (408, 425, 429, 500, 502, 503, 504)),
        httpx.Response(200, text="<html>Please log in to the hotel's network</html>"),
        httpx.Response(200, text='{"id": 185'),
        httpx.Response(200),
    ],
    ids=lambda failure: (
        type(failure).__name__ if isinstance(failure, Exception) else f"{failure.status_code} {failure.text[:6]}"
    ),
)
async def test_a_look_that_fails_is_repeated(failure: Exception | httpx.Response) -> None:
    """Cuts, 5xx, 429 and HTML are looked through, more often than max_retries if need be."""
    with respx.mock:
        route = respx.get(LOOK).mock(side_effect=[failure] * 4 + [httpx.Response(200, json=DONE)])
        async with client(max_retries=0, timeout=900) as nb:
            assert (await nb.get(18500)).done
    assert route.call_count == 5


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (httpx.ReadError("cut"), APIConnectionError),
        (httpx.Response(502), InternalServerError),
        (httpx.Response(200, text="<html>"), ResponseError),
    ],
)
async def test_looks_end_with_the_deadline(failure: Exception | httpx.Response, kind: type[NeuralBoxError]) -> None:
    """When no time is left the last failure is raised, with the id it was about, and spaced out until then."""
    began = anyio.current_time()
    with respx.mock:
        route = respx.get(LOOK).mock(side_effect=[failure] * 1000)
        async with client() as nb:
            with pytest.raises(kind) as caught:
                await nb.get(18500, timeout=60)
    assert caught.value.generation_id == 18500
    assert caught.value.retryable
    assert 50 < anyio.current_time() - began <= 60
    assert 8 < route.call_count < 80


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (301, APIStatusError),
        (302, APIStatusError),
        (308, APIStatusError),
        (418, APIStatusError),
        (501, InternalServerError),
    ],
)
async def test_a_refused_look_is_raised_at_once(status: int, kind: type[APIStatusError]) -> None:
    """What asking again cannot change is one GET; a redirect is not followed, the key would go with it."""
    with respx.mock:
        route = respx.get(LOOK).respond(status, headers={"Location": "https://evil.test/"})
        async with client() as nb:
            with pytest.raises(kind):
                await nb.get(18500)
    assert route.call_count == 1


async def test_a_stalled_answer_is_given_up_by_the_deadline() -> None:
    """A GET that hangs does not outlast the caller's own time."""

    async def hang(_: httpx.Request) -> httpx.Response:
        await anyio.sleep_forever()
        raise AssertionError

    began = anyio.current_time()
    with respx.mock:
        respx.get(LOOK).mock(side_effect=hang)
        async with client() as nb:
            with pytest.raises(APIConnectionError, match="within the timeout"):
                await nb.get(18500, timeout=7)
    assert anyio.current_time() - began == pytest.approx(7)


async def test_a_429_of_one_call_pauses_all() -> None:
    """When the window is closed no call knocks at it; when it opens, all go on."""
    with respx.mock:
        look = respx.get(LOOK).mock(
            side_effect=[httpx.Response(429, json={"retry_after": 100}), httpx.Response(200, json=DONE)]
        )
        balance = respx.get(f"{BASE}/balance").respond(json={"token_balance": 283})
        async with client() as nb, anyio.create_task_group() as tasks:
            began = anyio.current_time()
            tasks.start_soon(nb.get, 18500)
            await anyio.sleep(1)
            assert (await nb.balance()).token_balance == 283
            assert 100 <= anyio.current_time() - began < 101
    assert (look.call_count, balance.call_count) == (2, 1)


async def test_a_window_that_opens_too_late_is_said_at_once() -> None:
    """A look whose time ends before the window opens raises with the seconds until then."""
    with respx.mock:
        respx.get(LOOK).respond(429, json={"retry_after": 847, "error": "rate_limit_exceeded"})
        async with client() as nb:
            with pytest.raises(RateLimitError) as caught:
                await nb.get(18500, timeout=60)
            assert (caught.value.retry_after, caught.value.code) == (847, "rate_limit_exceeded")
            with pytest.raises(RateLimitError, match=r"the plan's window opens in 8\d\d s, later than the timeout"):
                await nb.get(18500, timeout=60)


async def test_a_submission_in_line_waits_no_longer_than_its_timeout() -> None:
    """Behind one that gives way to looks, the next one learns at its own deadline that its turn has not come."""
    rate, began = Rate(), anyio.current_time()
    rate.note({"x-ratelimit-limit-hour": "100", "x-ratelimit-remaining-hour": "5"}, now=began, wall=0.0)
    rate.pending = 10
    async with client(rate=rate) as nb, anyio.create_task_group() as tasks:
        tasks.start_soon(nb.submit, "gpt-5", "Hello")
        await anyio.sleep(0.1)
        with pytest.raises(APITimeoutError) as caught:
            await nb.submit("gpt-5", "Hello", timeout=10)
        assert (caught.value.billed, rate.lined_up) == ("no", 1)
        tasks.cancel_scope.cancel()
    assert anyio.current_time() - began == pytest.approx(10.1)
    assert rate.lined_up == 0


async def test_the_headers_of_every_answer_are_read() -> None:
    """`rate_limit` is what the last answer said, also one that said no."""
    seen = []
    with respx.mock:
        respx.get(LOOK).mock(
            side_effect=[
                httpx.Response(200, json=DONE, headers={"X-RateLimit-Remaining-Hour": "87"}),
                httpx.Response(404, headers={"x-ratelimit-remaining-hour": "86", "X-RateLimit-Limit-Day": "1000"}),
            ]
        )
        async with client() as nb:
            seen.append(nb.rate_limit.remaining_hour)
            await nb.get(18500)
            seen.append(nb.rate_limit.remaining_hour)
            with pytest.raises(NotFoundError):
                await nb.get(18500)
            seen.append(nb.rate_limit.remaining_hour)
            assert nb.rate_limit.limit_day == 1000
    assert seen == [None, 87, 86]

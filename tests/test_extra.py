"""Reaching beyond this version: further fields, headers and parameters out, the raw answer back."""

import email
import json
import pickle
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest

from neuralbox_async import (
    APIStatusError,
    AsyncNeuralBox,
    Generation,
    NotFoundError,
    OutcomeUnknownError,
    ResponseError,
    UsageError,
)

pytestmark = pytest.mark.anyio
KEY = "nb_canary_1f2e3d4c5b6a79881f2e3d4c5b6a79881f2e3d"
DONE = {"id": 7, "status": "completed", "result_text": "Hi", "token_balance": 5, "slug": "m", "token_cost": 1}
EVENTS = b'data: {"type": "generation_start", "id": 7}\n\ndata: {"type": "generation_end", "id": 7}\n\n'
EXTRA: Any = {
    "extra_body": {"callback": "x"},
    "extra_headers": {"X-Trace": "5", "accept": "application/json;q=1"},
    "extra_query": {"beta": 1, "tag": ["a b", "c"]},
}


class Wire(httpx.AsyncBaseTransport):
    """Keeps the last request and answers with a header of its own."""

    def __init__(self, status: int = 200, content: bytes | None = None) -> None:
        self.status, self.content = status, content
        self.request = httpx.Request("GET", "https://never.test")

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        await anyio.lowlevel.checkpoint()
        await request.aread()
        self.request = request
        content = EVENTS if request.url.path.endswith("/stream") else json.dumps(DONE).encode()
        headers = {"X-Request-Id": "abc", "X-Echo": request.headers["authorization"]}
        return httpx.Response(self.status, headers=headers, content=content if self.content is None else self.content)

    def client(self) -> AsyncNeuralBox:
        """Return a client of this transport."""
        own = httpx.AsyncClient(transport=self)
        return AsyncNeuralBox(KEY, base_url="https://api.test/v2", http_client=own, timeout=5)


async def generate(nb: AsyncNeuralBox, **extra: Any) -> object:
    """Generate."""
    return await nb.generate("gpt-5", "Hello", **extra)


async def submit(nb: AsyncNeuralBox, **extra: Any) -> object:
    """Submit."""
    return await nb.submit("gpt-5", "Hello", **extra)


async def stream(nb: AsyncNeuralBox, **extra: Any) -> object:
    """Stream."""
    async with nb.stream("gpt-5", "Hello", **extra) as opened:
        return await opened.until_done()


async def transcribe(nb: AsyncNeuralBox, **extra: Any) -> object:
    """Transcribe."""
    return await nb.transcribe(b"ID3", **extra)


each_call = pytest.mark.parametrize("call", [generate, submit, stream, transcribe])


@each_call
async def test_what_is_sent_besides(call: Callable[..., Any]) -> None:
    """Fields go to the top of the body, headers and parameters where they belong, ours stay what they are."""
    wire = Wire()
    await call(wire.client(), **EXTRA)
    request = wire.request
    assert (request.headers["x-trace"], request.headers.get_list("accept")) == ("5", ["application/json;q=1"])
    assert request.url.query == b"beta=1&tag=a+b&tag=c"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    if call is transcribe:
        form = email.message_from_bytes(
            f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode() + request.content
        )
        assert {part.get_param("name", header="content-disposition") for part in form.walk()} >= {"callback", "model"}
    else:
        assert json.loads(request.content) == {"model": "gpt-5", "prompt": "Hello", "callback": "x"}


@each_call
@pytest.mark.parametrize(
    "extra",
    [
        {"extra_headers": {"Authorization": "Bearer other"}},
        {"extra_headers": {"HOST": "elsewhere.test"}},
        {"extra_headers": {"content-length": "5"}},
        {"extra_headers": {"Content-Type": "text/plain"}},
        {"extra_headers": {"Transfer-Encoding": "chunked"}},
        {"extra_headers": {"Proxy-Authorization": "x"}},
        {"extra_headers": {"X-Evil": "1\r\nHost: elsewhere.test"}},
        {"extra_headers": {"X Evil": "1"}},
        {"extra_headers": {"X-Evil": 5}},
        {"extra_headers": "X-Evil: 1"},
        {"extra_body": {"model": "gpt-5-nano"}},
        {"extra_body": [1]},
        {"extra_body": {"when": object()}},
        {"extra_query": "beta=1"},
    ],
)
async def test_what_is_ours_cannot_be_replaced(call: Callable[..., Any], extra: dict[str, Any]) -> None:
    """Who pays, to whom it goes, how long it is and what is asked for are set in one place."""
    wire = Wire()
    with pytest.raises(UsageError, match=r"extra_|JSON"):
        await call(wire.client(), **extra)
    assert wire.request.url.host == "never.test"


@each_call
async def test_an_option_that_there_is_not_is_python_s_error(call: Callable[..., Any]) -> None:
    """A misspelled option is not sent as a field."""
    with pytest.raises(TypeError, match="max_tokens"):
        await call(Wire().client(), max_tokens=5)


async def test_where_a_misplaced_option_belongs() -> None:
    """An option of the model is not led to the top of the body, where no service reads it and it is paid without."""
    nb = Wire().client()
    for call in (nb.generate, nb.submit):
        with pytest.raises(TypeError, match=r"go into params=.*further fields of the body into extra_body="):
            await call("kling-v2.1", "Hi", duration=10)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="fields of the form go into extra_body="):
        await nb.transcribe(b"ID3", temperature=0)  # type: ignore[call-arg]


@each_call
async def test_nothing_besides_is_no_difference(call: Callable[..., Any]) -> None:
    """None is as good as nothing."""
    wire = Wire()
    await call(wire.client(), extra_body=None, extra_headers=None, extra_query={})
    assert wire.request.url.query == b""


async def test_the_raw_answer_is_there() -> None:
    """Every value has the reply as it came, and the status and headers it came with, without the key."""
    nb = Wire(201).client()
    for value in (await nb.get(7), await nb.balance(), await nb.model("m"), await nb.price("m"), await nb.me()):
        assert value.raw["result_text"] == "Hi"
        assert value.head is not None
        assert (value.head.status, value.head.headers["x-request-id"]) == (201, "abc")
        assert KEY not in repr(value.head)
        assert pickle.loads(pickle.dumps(value)).head == value.head  # noqa: S301 - our own bytes


async def test_the_head_is_not_compared_and_not_shown() -> None:
    """Two looks that say the same are equal, whenever they were made."""
    look = await Wire().client().get(7)
    assert look == Generation(id=7, status="completed", text="Hi", extra=look.extra)
    assert "x-request-id" not in repr(look)


async def test_an_error_has_its_answer() -> None:
    """Status, headers and body of what the service said, as plain data."""
    with pytest.raises(NotFoundError) as caught:
        await Wire(404).client().get(7)
    error = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes
    assert isinstance(error, APIStatusError)
    assert (error.status_code, error.headers["x-request-id"], error.body and error.body["id"]) == (404, "abc", 7)
    assert KEY not in repr(vars(error))


async def test_an_answer_that_cannot_be_read_has_its_headers() -> None:
    """Whoever asks the service about it needs to say which answer it was."""
    with pytest.raises(ResponseError) as caught:
        await Wire(200, b"<html>").client().me()
    assert (caught.value.status_code, caught.value.headers["x-request-id"]) == (200, "abc")
    with pytest.raises(OutcomeUnknownError):
        await Wire(200, b"<html>").client().submit("gpt-5", "Hello")

"""The key goes into one header and nowhere else: not into errors, logs, events, pickles or tracebacks' texts."""

import copy
import json
import logging
import pickle
import traceback
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from neuralbox_async import AsyncNeuralBox, Event, GenerationFailedError, GenerationRequest, NeuralBoxError, UsageError

pytestmark = pytest.mark.anyio

KEY = "nb_canary_1f2e3d4c5b6a79881f2e3d4c5b6a79881f2e3d"


class Echo(httpx.AsyncBaseTransport):
    """A proxy that shows everything it was sent, in its status, headers, body or exception."""

    def __init__(self, status: int, *, raises: type[Exception] | None = None, pulls: bool = True) -> None:
        self.status, self.raises, self.pulls = status, raises, pulls

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send back, or raise, the headers that came."""
        if self.pulls:
            await request.aread()
        shown = dict(request.headers)
        if self.raises is not None:
            raise self.raises(f"cannot send {shown}")
        location = f"https://elsewhere.test/?key={shown.get('authorization', '')}"
        body = {"error": f"code {shown}", "message": f"You sent {shown}", "details": shown, "retry_after": 10_000}
        return httpx.Response(self.status, headers={"Location": location, "X-Echo": str(shown)}, json=body)


TRANSPORTS = {
    **{f"{status}": Echo(status) for status in (200, 202, 302, 307, 400, 401, 402, 403, 404, 422, 429, 500, 502, 503)},
    "a connection error with the headers": Echo(0, raises=httpx.ConnectError),
    "a connection error before the pull": Echo(0, raises=httpx.ConnectError, pulls=False),
    "a transport's own exception": Echo(0, raises=RuntimeError),
    "a protocol error": Echo(0, raises=httpx.LocalProtocolError, pulls=False),
}


@pytest.mark.parametrize("case", TRANSPORTS)
async def test_the_key_is_in_no_text(case: str, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """Whatever echoes the key, nobody who reads errors, events or logs gets to see it."""
    caplog.set_level(logging.DEBUG)
    told: list[Event] = []
    own = httpx.AsyncClient(transport=TRANSPORTS[case])
    nb = AsyncNeuralBox(KEY, base_url="https://api.test/v2", http_client=own, timeout=2, observe=told.append)
    loud = AsyncNeuralBox(KEY, base_url="https://api.test/v2", http_client=own, timeout=2)
    texts = [repr(nb), str(nb), repr(nb.rate_limit)]
    for each in (nb, loud):
        for call in (each.submit("gpt-5", "Hello"), each.get(7), each.balance(), each.download(7, tmp_path)):
            with pytest.raises(NeuralBoxError) as caught:
                await call
            error = caught.value
            texts += ["".join(traceback.format_exception(error)), str(error), repr(error), repr(error.args)]
            texts += [repr(vars(error)), pickle.dumps(error, 0).decode("latin-1")]
            assert error.__cause__ is None
            assert error.__context__ is None
        with anyio.move_on_after(100):  # a run waits for a closed window for ever
            async with each.generate_many([GenerationRequest("gpt-5", "Hello")]) as outcomes:
                try:
                    texts += [repr(outcome) async for outcome in outcomes]
                except NeuralBoxError as error:
                    texts.append(repr(error))
    texts += [repr(event) for event in told] + [record.getMessage() for record in caplog.records] + [caplog.text]
    assert told
    assert [text for text in texts if KEY in text] == []


@pytest.mark.parametrize("case", TRANSPORTS)
async def test_the_key_is_in_no_text_of_the_other_calls(case: str) -> None:
    """Streams, uploads, and what must not be sent twice, keep the key to themselves too."""
    told: list[Event] = []
    own = httpx.AsyncClient(transport=TRANSPORTS[case])
    nb = AsyncNeuralBox(KEY, base_url="https://api.test/v2", http_client=own, timeout=2, observe=told.append)
    stream = nb.stream("gpt-5", "Hello")
    calls = [stream.__aenter__(), nb.transcribe(b"ID3"), nb.create_key("x"), nb.toggle_favorite(7), nb.revoke_key(7)]
    texts, behind = list[str](), list[BaseException | None]()
    for call in (*calls, nb.me(), nb.models(), nb.change_settings(language="en")):
        try:
            texts.append(repr(await call))  # what changes something may be answered with anything
        except NeuralBoxError as error:
            texts += ["".join(traceback.format_exception(error)), repr(error), repr(vars(error))]
            texts.append(pickle.dumps(error, 0).decode("latin-1"))
            behind += [error.__cause__, error.__context__]
    texts += [repr(event) for event in told]
    assert set(behind) <= {None}
    assert [text for text in texts if KEY in text] == []


async def test_a_stream_that_echoes_the_key_is_cleaned() -> None:
    """Events are cleaned one by one, before anybody reads them."""
    events = [
        {"type": "generation_start", "id": 7, "model": f"Bearer {KEY}"},
        {"type": "content_delta", "delta": f"You sent {KEY}."},
        {"type": "error", "message": f"You sent {KEY}", "headers": KEY},
    ]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    own = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, text=body)))
    async with AsyncNeuralBox(KEY, base_url="https://api.test/v2", http_client=own).stream("gpt-5", "Hello") as stream:
        with pytest.raises(GenerationFailedError) as caught:
            await stream.until_done()
    texts = [
        stream.text,
        repr(stream.generation),
        repr(vars(caught.value)),
        str(caught.value),
        repr(stream.generation.raw),
    ]
    assert "You sent [key]" in stream.text
    assert [text for text in texts if KEY in text] == []


def test_the_key_is_in_no_repr() -> None:
    """Neither the client nor any part of it shows the key."""
    nb = AsyncNeuralBox(KEY)
    parts = [nb, vars(nb), nb._http, nb._http.key, nb._looks, nb._http.slots]  # noqa: SLF001 - whatever a debugger shows
    assert [part for part in parts if KEY in repr(part) or KEY in str(part)] == []
    assert "https://neuralbox.top/api/v2" in repr(nb)


@pytest.mark.parametrize("how", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_client_cannot_be_pickled(how: Any) -> None:
    """A pickle would carry the key; the error says what to do instead."""
    nb = AsyncNeuralBox(KEY)
    with pytest.raises(TypeError, match="create one in each process"):
        how(nb)
    with pytest.raises(TypeError, match="cannot be pickled"):
        how(nb._http.key)  # noqa: SLF001 - nor a part of it


@pytest.mark.parametrize("key", [f"{KEY} x", f"{KEY}\nx", f"{KEY}\x00", f"{KEY}ё", KEY * 10, f"Bearer {KEY}"])
def test_a_key_that_is_refused_is_not_shown(key: str) -> None:
    """The error about a wrong key does not put it into a log."""
    with pytest.raises(UsageError) as caught:
        AsyncNeuralBox(key)
    assert KEY not in json.dumps([str(caught.value), repr(caught.value)])

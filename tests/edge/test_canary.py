"""The canary: every fault of the sandbox, every method, and the key is nowhere but in the header it is sent in."""

import gc
import inspect
import logging
import pickle
import traceback
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from types import TracebackType

import anyio
import pytest

from neuralbox_async import (
    AsyncNeuralBox,
    Event,
    Generation,
    GenerationRequest,
    NeuralBoxError,
    OutcomeUnknownError,
)
from neuralbox_async.sandbox import Sandbox, faults

pytestmark = pytest.mark.anyio
KEY = "nb_canary_9a8b7c6d5e4f39a8b7c6d5e4f39a8b7c6d5e4f"
PARTS = (KEY, KEY.encode().hex(), KEY[::-1])

FAULTS: dict[str, Callable[[], faults.Fault]] = {
    "none": lambda: faults.delay(0),
    "refuse": faults.refuse,
    "unreachable": faults.unreachable,
    "cut": faults.cut,
    "lost": faults.lost,
    "hang": faults.hang,
    "cut in body": faults.cut_in_body,
    "duplicate": faults.duplicate,
    "late": lambda: faults.delay(1_000),
    "rate limited": lambda: faults.rate_limited(100_000),
    "html": faults.html,
    "html as a reply": lambda: faults.html(200),
    "empty": faults.empty,
    "garbled": faults.garbled,
    "hang in body": faults.hang_in_body,
    **{f"{status}": partial(faults.status, status) for status in (400, 401, 402, 403, 404, 422, 500, 503)},
    "echo": lambda: faults.status(500, body={"error": f"Bearer {KEY}", "message": KEY, "details": {KEY: [KEY]}}),
    "echo in a reply": lambda: faults.status(200, body={"id": KEY, "status": KEY, "result_text": KEY, "error": KEY}),
}

# A storage cannot echo a key that it was never sent.
API = ("POST /generate", "GET /generate/{id}", "GET /balance", "GET /user/history")


def test_every_fault_is_driven() -> None:
    """A fault that the sandbox learns has to get its line here."""
    made = {name for name, each in inspect.getmembers(faults, inspect.isfunction) if each.__module__ == faults.__name__}
    driven = {"refuse", "unreachable", "cut", "lost", "hang", "cut_in_body", "duplicate", "delay", "rate_limited"}
    driven |= {"hang_in_body"}
    assert {name for name in made if not name.startswith("_")} == driven | {"html", "empty", "garbled", "status"}


def frames(trace: TracebackType | None) -> list[str]:
    """Return what a crash reporter shows of a traceback: each local, and what its attributes are."""
    shown = []
    while trace is not None:
        own = trace.tb_frame.f_code.co_filename == __file__  # the test knows the key
        for name, value in () if own else trace.tb_frame.f_locals.items():
            shown.append(f"{name}={value!r}")
            shown += [f"{name}.{inner}={held!r}" for inner, held in getattr(value, "__dict__", {}).items()]
        trace = trace.tb_next
    return shown


def texts(error: BaseException) -> list[str]:
    """Return everything that can be read from an error, and from what led to it."""
    found = [str(error), repr(error), repr(error.args), repr(vars(error)), "".join(traceback.format_exception(error))]
    found += frames(error.__traceback__)
    found.append(pickle.dumps(error, 0).decode("latin-1"))
    for inner in (error.__cause__, error.__context__):
        found += [] if inner is None else texts(inner)
    return found


async def calls(nb: AsyncNeuralBox, folder: Path) -> AsyncIterator[Awaitable[object]]:
    """Give one call of each method."""
    clip = Generation(id="7", status="completed", url=f"{Sandbox.base_url.removesuffix('/api/v2')}/generations/7.png")

    async def stream() -> None:
        async with nb.iter_bytes(clip) as pieces:
            async for _ in pieces:
                pass

    async def write() -> None:
        async with nb.stream("gpt-5", "Hello") as pieces:
            async for _ in pieces:
                pass

    async def run() -> None:
        requests = [GenerationRequest("gpt-5", "Hello")]
        async with nb.generate_many(requests, timeout=5, settle=0, ledger=folder / "run.db") as outcomes:
            async for outcome in outcomes:
                if outcome.error is not None:
                    raise outcome.error

    async def page() -> None:
        async for _ in nb.history():
            return

    yield nb.generate("gpt-5", "Hello")
    yield nb.submit("kling-v2.1", "A flower")
    yield nb.get(7)
    yield nb.wait(7)
    yield nb.balance()
    yield page()
    yield nb.download(clip, folder)
    yield nb.read(clip)
    yield stream()
    yield run()
    yield write()
    yield nb.transcribe(b"sound")
    yield nb.models()
    yield nb.price("gpt-5")
    yield nb.me()
    yield nb.settings()
    yield nb.create_key("a name")
    yield nb.reconcile(
        OutcomeUnknownError(request=GenerationRequest("gpt-5", "Hello"), sent_at=1.0), settle=0, timeout=5
    )


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_key_is_nowhere(fault: str, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """In no text, repr, argument, pickle, traceback, frame, event, log, warning or file, whatever goes wrong."""
    caplog.set_level(logging.DEBUG)
    told: list[Event] = []
    found: list[str] = []
    sandbox = Sandbox(key=KEY)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for observe in (told.append, None):
            for route in API if "echo" in fault else ["*"]:
                sandbox.order(FAULTS[fault](), on=route, times=None)
            async with sandbox.client(timeout=5, observe=observe) as nb:
                async for call in calls(nb, tmp_path):
                    try:
                        with anyio.move_on_after(50):  # a run waits for a closed window for ever
                            found.append(repr(await call))
                    except NeuralBoxError as error:
                        found += texts(error)
                found += [repr(nb), repr(vars(nb)), repr(nb.rate_limit)]
        gc.collect()
    found += [repr(event) for event in told] + [caplog.text] + [repr(each.__dict__) for each in caplog.records]
    found += [str(each.message) for each in warned]
    found += [path.name + path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
    assert len(found) > 20
    assert [text[:500] for text in found for part in PARTS if part in text] == []
    assert sandbox.requests.files_with_key == 0

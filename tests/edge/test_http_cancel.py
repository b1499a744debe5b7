"""Cancelled: nothing is sent that need not be, and what was paid for is heard of if it can be."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import httpx
import pytest

from neuralbox_async import (
    Abandoned,
    APITimeoutError,
    AsyncNeuralBox,
    Event,
    GenerationRequest,
    OutcomeUnknownError,
    Requested,
)
from neuralbox_async.sandbox import VirtualTimeLoop

pytestmark = pytest.mark.anyio
only_asyncio = pytest.mark.parametrize("anyio_backend", [("asyncio", {"loop_factory": VirtualTimeLoop})])


class Slow(httpx.AsyncBaseTransport):
    """Pulls a body `before` seconds after it came, and answers `after` seconds later."""

    def __init__(
        self, *, before: float = 0, after: float = 0, answer: Callable[[], httpx.Response] | None = None
    ) -> None:
        self.before, self.after = before, after
        self.answer = answer or (lambda: httpx.Response(200, json={"id": 18500, "status": "pending"}))
        self.begun = self.pulled = self.answered = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Accept the request, slowly."""
        self.begun += 1
        await anyio.sleep(self.before)
        await request.aread()
        self.pulled += 1
        await anyio.sleep(self.after)
        self.answered += 1
        return self.answer()


def client(wire: Slow, events: list[Event], **options: Any) -> AsyncNeuralBox:
    """Return a client of this transport that keeps its events."""
    own = httpx.AsyncClient(transport=wire)
    return AsyncNeuralBox(
        "nb_test_key", base_url="https://api.test/v2", http_client=own, observe=events.append, **options
    )


def abandoned(events: list[Event]) -> list[int | str | None]:
    """Return the ids of abandoned POSTs; None for one of which nothing was heard."""
    found = [event.generation for event in events if isinstance(event, Abandoned)]
    return [None if generation is None else generation.id for generation in found]


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    """Whatever a test cancels, no task of it goes on."""
    before = len(anyio.get_running_tasks())
    yield
    assert len(anyio.get_running_tasks()) == before


async def assert_all_free(nb: AsyncNeuralBox, wire: Slow) -> None:
    """Check that a client's only connection serves a further call."""
    wire.before = wire.after = 0
    assert (await nb.submit("gpt-5", "Hello", timeout=1)).id == 18500


@pytest.mark.parametrize(("after", "found", "seconds"), [(3, 18500, 3), (60, None, 6)], ids=["heard", "not heard"])
async def test_a_post_under_way_gets_a_grace_to_learn_its_id(after: float, found: int | None, seconds: float) -> None:
    """A call cancelled after the pull goes on for 5 s; the event tells the id, or that nobody knows."""
    events: list[Event] = []
    wire = Slow(after=after)
    nb = client(wire, events, max_connections=1)
    began = anyio.current_time()
    with anyio.move_on_after(1) as scope:
        await nb.submit("gpt-5", "Hello")
    assert scope.cancelled_caught
    assert anyio.current_time() - began == pytest.approx(seconds)
    assert (wire.pulled, abandoned(events)) == (1, [found])
    await assert_all_free(nb, wire)


async def test_an_abandoned_post_carries_its_request() -> None:
    """What may be charged can be looked for: the event has the request and when it left."""
    events: list[Event] = []
    with anyio.move_on_after(1):
        await client(Slow(after=60), events).generate("gpt-5", "Hello", {"max_tokens": 5})
    (event,) = [event for event in events if isinstance(event, Abandoned)]
    assert (event.request.model, event.request.prompt, event.request.params) == ("gpt-5", "Hello", {"max_tokens": 5})
    assert (event.sent_at or 0) > 1_700_000_000


async def test_an_abandoned_post_that_was_refused_is_nobody_s_loss() -> None:
    """A refusal that comes within the grace costs nothing: no event."""
    events: list[Event] = []
    with anyio.move_on_after(1):
        await client(Slow(after=2, answer=lambda: httpx.Response(402)), events).submit("gpt-5", "Hello")
    assert [event.status for event in events if isinstance(event, Requested)] == [402]
    assert abandoned(events) == []


async def test_the_grace_ends_with_the_deadline() -> None:
    """A call that had 3 s left does not take 5 more."""
    events: list[Event] = []
    began = anyio.current_time()
    with anyio.move_on_after(1):
        await client(Slow(after=60), events).submit("gpt-5", "Hello", timeout=4)
    assert anyio.current_time() - began == pytest.approx(4)
    assert abandoned(events) == [None]


async def test_cancelled_before_the_pull_nothing_is_sent() -> None:
    """While connecting, a cancellation ends the call at once: no grace, no event, nothing spent."""
    events: list[Event] = []
    wire = Slow(before=10)
    nb = client(wire, events, max_connections=1)
    began = anyio.current_time()
    with anyio.move_on_after(1):
        await nb.submit("gpt-5", "Hello")
    assert anyio.current_time() - began == pytest.approx(1)
    assert (wire.begun, wire.pulled, abandoned(events)) == (1, 0, [])
    await assert_all_free(nb, wire)


async def test_cancelled_in_the_queue_nothing_is_sent() -> None:
    """Calls that wait for a connection leave the queue without a trace."""
    events: list[Event] = []
    wire = Slow(after=20)
    nb = client(wire, events, max_connections=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(nb.submit, "gpt-5", "The one that goes on")
        await anyio.sleep(1)
        with anyio.move_on_after(1):
            async with anyio.create_task_group() as queue:
                for number in range(50):
                    queue.start_soon(nb.submit, "gpt-5", f"Number {number}")
    assert (wire.begun, wire.pulled, abandoned(events)) == (1, 1, [])
    await assert_all_free(nb, wire)


async def test_a_deadline_in_the_queue_is_a_timeout() -> None:
    """Queueing counts: 50 calls that never got a connection say that nothing was spent."""
    wire = Slow(after=20)
    nb = client(wire, [], max_connections=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(nb.submit, "gpt-5", "The one that goes on")
        await anyio.sleep(1)
        began = anyio.current_time()
        for call in (nb.submit("gpt-5", "Hello", timeout=5), nb.get(7, timeout=5), nb.balance(timeout=5)):
            with pytest.raises(APITimeoutError) as caught:
                await call
            assert caught.value.billed == "no"
        assert anyio.current_time() - began == pytest.approx(15)
    await assert_all_free(nb, wire)


async def test_a_thousand_cancelled_calls_lose_no_connection() -> None:
    """However many calls are cancelled at any moment of their lives, every connection is free again."""
    events: list[Event] = []
    wire = Slow(before=0.5, after=1.5)
    nb = client(wire, events, max_connections=7)
    for cut in (0.0, 0.4, 0.6, 1.0, 2.1, 4.0):
        with anyio.move_on_after(cut):
            async with anyio.create_task_group() as tasks:
                for number in range(150):
                    tasks.start_soon(nb.submit, "gpt-5", f"Number {number}")
    assert wire.pulled == wire.answered
    await assert_all_free(nb, wire)
    wire.after = 1
    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for _ in range(7):
            tasks.start_soon(nb.get, 18500)
    assert anyio.current_time() - began == pytest.approx(1)


@only_asyncio
@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize(("after", "found", "seconds"), [(3, 18500, 3), (60, None, 6)], ids=["heard", "not heard"])
async def test_asyncio_s_own_cancel_leaves_the_grace_alone(
    times: int, after: float, found: int | None, seconds: float
) -> None:
    """`task.cancel()` goes through any shield of the same task, even twice; the POST goes on in one of its own."""
    events: list[Event] = []
    wire = Slow(after=after)
    nb = client(wire, events, max_connections=1)
    began = anyio.current_time()
    task = asyncio.create_task(nb.submit("gpt-5", "Hello"))
    await asyncio.sleep(1)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0.1)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert anyio.current_time() - began == pytest.approx(seconds, abs=0.4)
    assert (wire.pulled, abandoned(events)) == (1, [found])
    await assert_all_free(nb, wire)


@only_asyncio
async def test_asyncio_s_own_cancel_before_the_pull_sends_nothing() -> None:
    """A native cancellation while connecting ends at once, with nothing sent."""
    events: list[Event] = []
    wire = Slow(before=10)
    nb = client(wire, events, max_connections=1)
    task = asyncio.create_task(nb.submit("gpt-5", "Hello"))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (wire.begun, wire.pulled, abandoned(events)) == (1, 0, [])
    await assert_all_free(nb, wire)


async def one(nb: AsyncNeuralBox) -> None:
    """Ask for one generation."""
    await nb.submit("gpt-5", "Hello")


async def many(nb: AsyncNeuralBox) -> None:
    """Ask for it in a run without a ledger."""
    async with nb.generate_many([GenerationRequest("gpt-5", "Hello")]) as outcomes:
        await anext(outcomes)


@only_asyncio
@pytest.mark.parametrize("ask", [one, many])
async def test_the_end_of_asyncio_s_loop_is_no_silence(ask: Callable[[AsyncNeuralBox], Awaitable[None]]) -> None:
    """`asyncio.run` ends by cancelling each task there is, the POST's own too: nobody heard its id, which is told."""
    events: list[Event] = []
    before = asyncio.all_tasks()
    task = asyncio.ensure_future(ask(client(Slow(after=60), events)))
    await asyncio.sleep(1)
    for each in asyncio.all_tasks() - before:
        each.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert abandoned(events) == [None]


@only_asyncio
async def test_asyncio_s_own_timeout_works() -> None:
    """`asyncio.timeout` around a call raises TimeoutError, and the id is still told."""
    events: list[Event] = []
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await client(Slow(after=2), events).submit("gpt-5", "Hello")
    assert abandoned(events) == [18500]


@pytest.mark.parametrize("instant", [0, 1, 2])
async def test_a_cancellation_in_the_very_moment_of_the_answer_loses_no_id(instant: int) -> None:
    """When answer and cancellation meet, the id comes back or is told, one of the two."""
    events: list[Event] = []
    nb = client(Slow(after=1), events)
    returned: list[int | str] = []
    with anyio.CancelScope(deadline=anyio.current_time() + 1):
        for _ in range(instant):
            await anyio.lowlevel.checkpoint()
        returned.append((await nb.submit("gpt-5", "Hello")).id)
    assert returned + abandoned(events) == [18500]


@pytest.mark.parametrize("instant", [0, 1, 2])
async def test_a_deadline_in_the_very_moment_of_the_answer_never_says_that_nothing_was_spent(instant: int) -> None:
    """When answer and deadline meet, the id comes back, or the outcome is unknown."""
    nb = client(Slow(after=1), [])
    for _ in range(instant):
        await anyio.lowlevel.checkpoint()
    with suppress(OutcomeUnknownError):
        assert (await nb.submit("gpt-5", "Hello", timeout=1)).id == 18500


@only_asyncio
async def test_a_storm_of_native_cancellations_loses_no_connection() -> None:
    """Tasks cancelled at every moment of queueing, connecting and answering give their connections back."""
    events: list[Event] = []
    wire = Slow(before=0.3, after=0.4)
    nb = client(wire, events, max_connections=3)
    tasks = []
    for number in range(200):
        tasks.append(asyncio.create_task(nb.submit("gpt-5", f"Number {number}") if number % 3 else nb.get(18500)))
        await asyncio.sleep(0.01)
        tasks[number // 2].cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(end).__name__ for end in ends} == {"CancelledError", "Generation"}
    assert wire.pulled == wire.answered
    wire.before, wire.after = 0, 1
    began = anyio.current_time()
    await asyncio.gather(*(nb.get(18500) for _ in range(3)))
    assert anyio.current_time() - began == pytest.approx(1)


class Interrupted(BaseException):
    """What no library may swallow, such as a program's own way out."""


async def test_an_interruption_of_a_post_leaves_as_itself() -> None:
    """Never in a group, which no `except` of the caller's would catch; and the POST had left, which is told."""

    def interrupt() -> httpx.Response:
        raise Interrupted

    events: list[Event] = []
    async with client(Slow(answer=interrupt), events) as nb:
        with pytest.raises(Interrupted):
            await nb.submit("gpt-5", "Hello")
    assert abandoned(events) == [None]

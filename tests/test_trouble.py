"""Waiting while looks fail, told as stories on the sandbox: what the history shows is not kept back."""

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import anyio
import httpx
import pytest

from neuralbox_async import (
    APITimeoutError,
    AsyncNeuralBox,
    Event,
    Generation,
    GenerationFailedError,
    GenerationTimeoutError,
    InternalServerError,
    Pacing,
    Requested,
)
from neuralbox_async.sandbox import Model, Sandbox, faults
from neuralbox_async.sandbox.transport import SandboxTransport

pytestmark = pytest.mark.anyio

LOOK, PAGE = "GET /generate/{id}", "GET /user/history"
DOWN = faults.status(500)


def service(seconds: float = 60, **options: Any) -> Sandbox:
    """Return a sandbox with no limits and one video that takes so many seconds."""
    models = {"clip": Model(slug="clip", kind="video", tokens=(1, 1), seconds=(seconds, seconds))}
    return Sandbox(**{"plan": "elite", "balance": 1_000_000, "models": models, **options})


class Asked:
    """An observer that notes when what was asked, in loop time."""

    def __init__(self) -> None:
        self.at: dict[str, list[float]] = {"get": [], "history": []}

    def __call__(self, event: Event) -> None:
        """Note a request that was answered, or failed."""
        if isinstance(event, Requested):
            self.at.setdefault(event.operation, []).append(anyio.current_time() - event.seconds)

    def gaps(self, operation: str) -> list[float]:
        """Return the seconds between its requests."""
        return [after - before for before, after in pairwise(self.at[operation])]


def late(sandbox: Sandbox, generation: Generation) -> float:
    """Return for how many seconds a result has lain there by now."""
    return anyio.current_time() - sandbox.world.jobs[str(generation.id)].due


class Away(SandboxTransport):
    """The way to a sandbox of which parts are away until a time (loop time)."""

    def __init__(self, sandbox: Sandbox, until: Mapping[str, float]) -> None:
        super().__init__(sandbox)
        self._until = until

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer, or say that this is away."""
        until = max((at for path, at in self._until.items() if request.url.path.startswith(path)), default=-math.inf)
        return httpx.Response(503) if anyio.current_time() < until else await super().handle_async_request(request)


def away(sandbox: Sandbox, until: Mapping[str, float]) -> AsyncNeuralBox:
    """Return a client to whom parts of a sandbox are away until a time."""
    return sandbox.client(http_client=httpx.AsyncClient(transport=Away(sandbox, until)))


# --- one generation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [DOWN, faults.cut(), faults.hang(), faults.html(200), faults.refuse(), faults.status(503, retry_after="3600")],
    ids=["500", "cut", "hangs", "a proxy's page", "refused", "away for an hour"],
)
@pytest.mark.parametrize("options", [{}, {"poll_interval": 5}], ids=["paced", "at an interval"])
async def test_what_the_history_shows_is_told_while_looks_fail(fault: faults.Fault, options: dict[str, Any]) -> None:
    """One who waits alone hears within two minutes of a result that no look at it shows."""
    sandbox = service()
    sandbox.order(fault, on=LOOK, times=None)
    async with sandbox.client(timeout=3_000, **options) as nb:
        clip = await nb.generate("clip", "A flower")
        assert clip.partial
        assert clip.url is not None
        assert late(sandbox, clip) < 120
    assert sandbox.requests.total < 60


async def test_what_only_its_id_is_known_of_is_found_in_the_history_too() -> None:
    """Whoever waits for an id, as a run does that is taken up again, reads a page as well."""
    sandbox = service()
    clip = sandbox.book("clip", "A flower")
    sandbox.order(DOWN, on=LOOK, times=None)
    async with sandbox.client() as nb:
        found = await nb.wait(clip)
        assert (found.id, found.partial) == (clip, True)
        assert late(sandbox, found) < 120


@pytest.mark.parametrize("timeout", [20, 80])
async def test_a_short_timeout_leaves_time_for_a_page(timeout: float) -> None:
    """Looks that fail do not use up all of it."""
    sandbox = service(seconds=10)
    sandbox.order(DOWN, on=LOOK, times=None)
    async with sandbox.client() as nb:
        assert (await nb.generate("clip", "A flower", timeout=timeout)).partial


async def test_each_page_that_stands_in_for_a_look_is_told() -> None:
    """`poll` goes on while looks fail, paced as before; the result is the last one told."""
    sandbox, asked = service(seconds=300), Asked()
    sandbox.order(DOWN, on=LOOK, times=None)
    async with sandbox.client(observe=asked, pacing=Pacing({"clip": (60, 300)})) as nb:
        looks = [look async for look in nb.poll(await nb.submit("clip", "A flower"))]
    assert [look.done for look in looks] == [False] * (len(looks) - 1) + [True]
    assert len(looks) == len(asked.at["history"]) > 3
    assert all(look.partial for look in looks)


async def test_the_whole_result_is_told_where_looks_succeed_again() -> None:
    """Once it has rested, a look completes what a page shows as done."""
    sandbox = service(seconds=400)
    async with away(sandbox, {"/api/v2/generate/": anyio.current_time() + 200}) as nb:
        clip = await nb.generate("clip", "A flower")
        assert not clip.partial
        assert late(sandbox, clip) < 60


async def test_a_failure_whose_reason_no_look_tells_is_a_failure_all_the_same() -> None:
    """The history's entry lacks the reason; while looks fail it is told without."""
    sandbox = service()
    sandbox.order(DOWN, on=LOOK, times=None)
    async with sandbox.client() as nb:
        with pytest.raises(GenerationFailedError, match="gives no reason") as caught:
            await nb.generate("clip", "Something forbidden")
        assert isinstance(caught.value.generation, Generation)
        assert late(sandbox, caught.value.generation) < 120


async def test_one_look_on_demand_is_repeated_until_its_timeout() -> None:
    """`get` asks for one generation by its id, and nothing else."""
    sandbox = service()
    clip = sandbox.book("clip", "A flower")
    sandbox.order(DOWN, on=LOOK, times=None)
    async with sandbox.client() as nb:
        with pytest.raises(InternalServerError):
            await nb.get(clip, timeout=300)
        assert anyio.current_time() > 280
    assert sandbox.requests.of("GET", "/user/history") == 0


# --- both are down ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"poll_interval": 5}, {"look_price": 20.0}], ids=["paced", "fixed", "dear"])
async def test_where_nothing_answers_little_is_asked(options: dict[str, Any]) -> None:
    """After the first minute a few requests a minute suffice; at the timeout the last failure is told."""
    sandbox, asked = service(), Asked()
    for route in (LOOK, PAGE):
        sandbox.order(DOWN, on=route, times=None)
    async with sandbox.client(observe=asked, **options) as nb:
        began = anyio.current_time()
        with pytest.raises(GenerationTimeoutError, match=r"The last look failed \(.*500") as caught:
            await nb.generate("clip", "A flower", timeout=1_800)
        assert caught.value.generation_id is not None
        assert 1_790 < anyio.current_time() - began <= 1_800
    assert sum(map(len, asked.at.values())) < 60 + 3 * 30
    assert {name: len(times) for name, times in asked.at.items()}["history"] > 5


async def test_what_the_service_says_of_when_to_come_again_is_kept_to() -> None:
    """No Retry-After is cut short, neither a look's nor a page's."""
    sandbox, asked = service(), Asked()
    sandbox.order(faults.status(503, retry_after="100"), on=LOOK, times=None)
    sandbox.order(faults.status(503, retry_after="200"), on=PAGE, times=None)
    async with sandbox.client(observe=asked, timeout=1_500) as nb:
        with pytest.raises(GenerationTimeoutError):
            await nb.generate("clip", "A flower")
    assert (len(asked.at["get"]), len(asked.at["history"])) == (15, 8)
    assert min(asked.gaps("get")) >= 100
    assert min(asked.gaps("history")) >= 200


async def test_nobody_waits_where_nothing_may_be_asked_in_time() -> None:
    """Once both are away for longer than the timeout, it is said at once."""
    sandbox = service()
    for route in (LOOK, PAGE):
        sandbox.order(faults.status(503, retry_after="3600"), on=route, times=None)
    async with sandbox.client() as nb:
        began = anyio.current_time()
        with pytest.raises(GenerationTimeoutError, match="503"):
            await nb.generate("clip", "A flower", timeout=1_000)
        assert anyio.current_time() - began < 100


async def test_a_scarce_plan_is_not_spent_on_what_fails() -> None:
    """Where each request is dear, looks give way sooner and all rest longer."""
    counts = []
    for price in (0.35, 10.0):
        sandbox, asked = service(), Asked()
        for route in (LOOK, PAGE):
            sandbox.order(DOWN, on=route, times=None)
        async with sandbox.client(observe=asked, look_price=price) as nb:
            with pytest.raises(GenerationTimeoutError):
                await nb.generate("clip", "A flower", timeout=3_600)
        counts.append(sum(map(len, asked.at.values())))
    assert counts[1] < counts[0] / 2
    assert counts[1] < 60


@pytest.mark.parametrize("route", ["/api/v2/generate/", "/api/v2/user/history"])
async def test_what_comes_back_is_heard_of_soon(route: str) -> None:
    """Whichever of the two answers again, after half an hour, tells the result within two minutes."""
    sandbox = service()
    outage = {"/api/v2/generate/": math.inf, "/api/v2/user/history": math.inf, route: anyio.current_time() + 1_800}
    async with away(sandbox, outage) as nb:
        await nb.generate("clip", "A flower", timeout=7_200)
        assert 0 < anyio.current_time() - outage[route] < 120


async def test_a_history_that_refuses_all_leaves_looks_their_turn() -> None:
    """Though each of its 429s pauses the client until both may be asked again, looks are made as well."""
    sandbox = service()
    sandbox.order(faults.rate_limited(90), on=PAGE, times=None)
    async with away(sandbox, {"/api/v2/generate/": anyio.current_time() + 900}) as nb:
        await nb.generate("clip", "A flower", timeout=3_000)
        assert anyio.current_time() < 1_300


# --- many -------------------------------------------------------------------------------------------------------------


async def test_many_hear_of_their_results_from_pages_alone() -> None:
    """Fifty whose looks fail are told by pages, and ask little by themselves."""
    sandbox, lates = service(seconds=120), list[float]()
    sandbox.order(DOWN, on=LOOK, times=None)
    async with sandbox.client() as nb, anyio.create_task_group() as tasks:

        async def wait(number: int) -> None:
            lates.append(late(sandbox, await nb.generate("clip", f"A flower {number}")))

        for number in range(50):
            tasks.start_soon(wait, number)
    assert len(lates) == 50
    assert max(lates) < 120
    assert sandbox.requests.of("GET", "/generate/{id}") < 50 * 25


async def test_a_waiter_whose_time_is_over_leaves_no_rest_to_the_others() -> None:
    """A blip that ends one waiter does not keep the next from looking soon."""
    sandbox, lates = service(seconds=30, history_lag=math.inf), list[float]()
    async with sandbox.client(pacing=Pacing({"clip": (28, 32)})) as nb, anyio.create_task_group() as tasks:
        clip = await nb.submit("clip", "A flower")

        async def wait() -> None:
            lates.append(late(sandbox, await nb.wait(clip)))

        tasks.start_soon(wait)
        sandbox.order(DOWN, on=LOOK, times=3)
        with pytest.raises(GenerationTimeoutError):
            await nb.wait(clip, timeout=25)
    assert lates[0] < 15


@pytest.mark.parametrize("options", [{}, {"poll_interval": 10}], ids=["paced", "fixed"])
@pytest.mark.parametrize("known", ["generation", "id alone"])
async def test_many_read_one_page_in_place_of_their_looks(options: dict[str, Any], known: str) -> None:
    """Forty whose looks fail do not ask for a page each, where pages fail too or show nothing of theirs."""
    for fault in (DOWN, faults.status(200, body={"items": [], "total": 0})):
        sandbox, asked = service(), Asked()
        for route, what in ((LOOK, DOWN), (PAGE, fault)):
            sandbox.order(what, on=route, times=None)
        async with (
            sandbox.client(observe=asked, timeout=600, **options) as nb,
            sandbox.client() as other,
            anyio.create_task_group() as tasks,
        ):

            async def wait(nb: AsyncNeuralBox = nb, other: AsyncNeuralBox = other) -> None:
                clip = await (nb if known == "generation" else other).submit("clip", "A flower")
                with pytest.raises((GenerationTimeoutError, InternalServerError)):
                    await nb.wait(clip if known == "generation" else clip.id)

            for _ in range(40):
                tasks.start_soon(wait)
        assert len(asked.at["history"]) < 100
        assert len(asked.at["get"]) < 40 * 35


async def test_a_waiter_whose_time_is_over_leaves_a_look_under_way_alone() -> None:
    """Nobody begins a second look at a generation while the first is being made."""
    sandbox, asked = service(), Asked()
    clip = sandbox.book("clip", "A flower")
    sandbox.order(faults.delay(25), on=LOOK, times=None)
    async with sandbox.client(observe=asked, poll_interval=1) as nb, anyio.create_task_group() as tasks:
        tasks.start_soon(nb.wait, clip)
        await anyio.sleep(1)
        tasks.start_soon(nb.wait, clip)
        with pytest.raises(APITimeoutError):
            await nb.wait(clip, timeout=10)
    assert min(asked.gaps("get")) >= 25


# --- entries that lack the result -------------------------------------------------------------------------------------


def client_of(answer: Callable[[httpx.Request], httpx.Response], **options: Any) -> AsyncNeuralBox:
    """Return a client of a service that is one function."""
    own = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return AsyncNeuralBox("nb_test_key", base_url="https://api.test", http_client=own, **options)


async def test_an_entry_without_its_result_is_taken_only_at_the_end() -> None:
    """What was made is worth waiting for, as long as a look may yet tell it."""
    looks = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal looks
        if request.url.path.endswith("/history"):
            return httpx.Response(200, json={"items": [{"id": 7, "status": "completed"}], "total": 1})
        looks += 1
        return httpx.Response(500)

    nb = client_of(answer)
    began = anyio.current_time()
    clip = await nb.wait(7, timeout=600)
    assert (clip.status, clip.partial, clip.url) == ("completed", True, None)
    assert 590 < anyio.current_time() - began <= 600
    assert looks < 40

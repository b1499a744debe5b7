"""Waiting, told as stories on the sandbox: when it looks, how often, and until when."""

import gc
import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import anyio
import anyio.abc
import httpx
import pytest
from attrs import evolve

from neuralbox_async import (
    AsyncNeuralBox,
    Event,
    Generation,
    GenerationRequest,
    GenerationTimeoutError,
    Looked,
    Pacing,
    Rate,
    RateLimitError,
    UsageError,
)
from neuralbox_async._watches import MOST_REMEMBERED, Jobs
from neuralbox_async.sandbox import Model, Sandbox, faults
from neuralbox_async.sandbox.transport import SandboxTransport

pytestmark = pytest.mark.anyio


def clip_of(seconds: float) -> dict[str, Model]:
    """Return a catalogue with one video that takes so many seconds."""
    return {"clip": Model(slug="clip", kind="video", tokens=(1, 1), seconds=(seconds, seconds))}


async def test_a_final_generation_is_yielded_once_without_a_look() -> None:
    """What is over needs no request, whether it went well or not."""
    sandbox = Sandbox()
    async with sandbox.client() as nb:
        for status in ("completed", "failed"):
            final = Generation(id=7, status=status)
            assert [look async for look in nb.poll(final)] == [final]
        assert await nb.wait(Generation(id=7, status="completed")) == Generation(id=7, status="completed")
    assert sandbox.requests.total == 0


@pytest.mark.parametrize("family", ["a", "b"])
async def test_an_id_is_looked_at_at_once(family: str) -> None:
    """An id, integer or text, gives its first look without waiting; the last one is final."""
    sandbox = Sandbox(family=family)
    async with sandbox.client() as nb:
        clip = await nb.submit("kling-v2.1", "A flower")
        assert isinstance(clip.id, int if family == "a" else str)
        began = anyio.current_time()
        looks = nb.poll(clip.id)
        assert not (await anext(looks)).done
        assert anyio.current_time() == began
        assert [look.done async for look in looks][-1]
        assert [look.done async for look in nb.poll(clip.id)] == [True]


async def test_a_look_that_shows_another_generation_is_made_again() -> None:
    """The caller gets the result that he has paid for, and not the one that a cache had at hand."""
    looks = iter([2, 1])

    def mixed_up(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(200, json={"id": 1, "status": "pending"})
        return httpx.Response(200, json={"id": next(looks), "status": "completed", "result_text": "Bees"})

    wire = httpx.AsyncClient(transport=httpx.MockTransport(mixed_up))
    async with wire, AsyncNeuralBox("nb_test_key", http_client=wire) as nb:
        assert (await nb.generate("luma-ray2-flash", "A flower")).id == 1


async def test_polling_may_be_left_at_any_look() -> None:
    """Breaking off leaves no task and no warning, and another poll goes on from there."""
    sandbox = Sandbox()
    async with sandbox.client() as nb:
        clip = await nb.submit("kling-v2.1", "A flower")
        async for look in nb.poll(clip):
            assert not look.done
            break
        assert (await nb.wait(clip)).done


async def test_a_finished_poll_stays_finished() -> None:
    """After the final look the iterator is at its end, for ever."""
    async with Sandbox().client() as nb:
        looks = nb.poll(Generation(id=7, status="completed"))
        await anext(looks)
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await anext(looks)


async def test_a_status_of_tomorrow_is_waited_on() -> None:
    """Words that this version does not know are yielded, and mean "not finished"."""
    words = iter(["queued", "upscaling", "completed"])

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"id": 7, "status": next(words)})

    own = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    nb = AsyncNeuralBox("nb_test_key", base_url="https://api.test", http_client=own)
    assert [look.status async for look in nb.poll(7)] == ["queued", "upscaling", "completed"]


async def test_a_job_is_looked_at_by_its_age() -> None:
    """Whoever begins to wait an hour after the submission gets the result at once."""
    sandbox = Sandbox()
    async with sandbox.client() as nb:
        clip = await nb.submit("kling-v2.1", "A flower")
        await anyio.sleep(3600)
        began = anyio.current_time()
        assert (await nb.wait(clip)).done
        assert anyio.current_time() - began == 0
    assert sandbox.requests.looks == 1


async def test_a_clip_is_found_soon_after_it_is_done_with_few_looks() -> None:
    """Fewer looks than a loop of 5 s takes, and the results lie there no longer."""
    sandbox = Sandbox(plan="elite", balance=10_000)
    late = 0.0
    async with sandbox.client() as nb:
        for _ in range(60):
            began = anyio.current_time()
            clip = await nb.generate("kling-v2.1", "A flower")
            assert clip.processing_ms is not None
            late += anyio.current_time() - began - clip.processing_ms / 1000
    assert sandbox.requests.looks < 60 * 9
    assert late / 60 <= 1.05 * 2.5


async def test_learning_reduces_looks() -> None:
    """A model that always takes about 61 s soon needs only a few looks."""
    sandbox = Sandbox(plan="elite", models=clip_of(61))
    counts = []
    async with sandbox.client(pacing=Pacing()) as nb:
        for _ in range(30):
            before = sandbox.requests.looks
            await nb.generate("clip", "A flower")
            counts.append(sandbox.requests.looks - before)
    assert counts[0] >= 8
    assert sum(counts[15:]) / 15 <= 4


async def test_a_dearer_look_means_fewer_looks() -> None:
    """look_price trades requests for seconds."""
    looks = []
    for price in (0.1, 1.0, 10.0):
        sandbox = Sandbox()
        async with sandbox.client(look_price=price) as nb:
            await nb.generate("kling-v2.1", "A flower")
        looks.append(sandbox.requests.looks)
    assert looks[0] > looks[1] > looks[2]


async def test_a_fixed_interval_is_kept() -> None:
    """With poll_interval, looks come at 5, 10, 15 s of the job's age, whatever is known."""
    sandbox = Sandbox(models=clip_of(22))
    async with sandbox.client(poll_interval=5) as nb:
        clip = await nb.submit("clip", "A flower")
        began = anyio.current_time()
        ages = [anyio.current_time() - began async for _ in nb.poll(clip)]
    assert ages == pytest.approx([5, 10, 15, 20, 25])


async def test_a_fixed_interval_counts_from_the_look_not_from_its_answer() -> None:
    """A slow answer does not shift nor double the looks."""
    sandbox = Sandbox(models=clip_of(22))
    sandbox.order(faults.delay(2), on="GET /generate/{id}", times=None)
    async with sandbox.client(poll_interval=5) as nb:
        await nb.generate("clip", "A flower")
    assert sandbox.requests.looks <= 5


async def test_there_is_a_last_look_just_before_the_deadline() -> None:
    """A clip that is done after 58 s is found within 60, though the next look was to come later."""
    sandbox = Sandbox(models=clip_of(58))
    async with sandbox.client(poll_interval=100) as nb:
        began = anyio.current_time()
        assert (await nb.generate("clip", "A flower", timeout=60)).done
        assert 58 <= anyio.current_time() - began <= 60
    assert sandbox.requests.looks == 1


async def test_a_job_that_is_not_finished_in_time_goes_on() -> None:
    """The error has the last look and the id; a later wait for it succeeds, and it is paid once."""
    sandbox = Sandbox(models=clip_of(100))
    async with sandbox.client() as nb:
        clip = await nb.submit("clip", "A flower")
        began = anyio.current_time()
        for subject in (clip, clip.id):
            with pytest.raises(GenerationTimeoutError, match="pending and did not finish") as caught:
                await nb.wait(subject, timeout=20)
            assert caught.value.generation_id == clip.id
            assert isinstance(caught.value.generation, Generation)
            assert (caught.value.billed, caught.value.retryable) == ("unknown", True)
        assert anyio.current_time() - began <= 40
        assert (await nb.wait(clip)).done
    assert (sandbox.requests.posts, len(sandbox.charges)) == (1, 1)


async def test_a_look_that_hangs_ends_with_the_deadline() -> None:
    """A look without an answer is given up in time, as a job that is not finished."""
    sandbox = Sandbox(models=clip_of(50))
    sandbox.order(faults.hang(), on="GET /generate/{id}", times=None)
    async with sandbox.client() as nb:
        began = anyio.current_time()
        with pytest.raises(GenerationTimeoutError):
            await nb.generate("clip", "A flower", timeout=70)
        assert anyio.current_time() - began == pytest.approx(70)


async def test_a_stalled_look_is_repeated() -> None:
    """A look whose answer hangs is given up after 30 s and made again."""
    sandbox = Sandbox(models=clip_of(50))
    sandbox.order(faults.hang(), on="GET /generate/{id}")
    async with sandbox.client() as nb:
        assert (await nb.generate("clip", "A flower")).done


async def test_every_look_is_told() -> None:
    """An observer hears of each look, the final one too."""
    sandbox = Sandbox()
    told: list[Event] = []
    async with sandbox.client(observe=told.append) as nb:
        await nb.generate("kling-v2.1", "A flower")
    looks = [event.generation for event in told if isinstance(event, Looked)]
    assert len(looks) == sandbox.requests.looks
    assert [look.done for look in looks] == [False] * (len(looks) - 1) + [True]


async def test_a_job_accepted_elsewhere_is_waited_for_by_its_own_date() -> None:
    """Another process's job has the age that its created_at says: an old one is looked at at once."""
    sandbox = Sandbox()
    async with sandbox.client() as here, sandbox.client() as there:
        clip = await here.submit("kling-v2.1", "A flower")
        began = anyio.current_time()
        assert (await there.wait(clip)).done
        assert 30 < anyio.current_time() - began < 150


async def test_cancelling_a_wait_ends_at_once() -> None:
    """Looks cost nothing: no grace, wherever the cancellation strikes."""
    sandbox = Sandbox()
    sandbox.order(faults.delay(20), on="GET /generate/{id}", times=None)
    async with sandbox.client(poll_interval=10, max_connections=1) as nb:
        clip = await nb.submit("kling-v2.1", "A flower")
        for seconds in (5, 15):
            began = anyio.current_time()
            with anyio.move_on_after(seconds) as scope:
                await nb.wait(clip)
            assert scope.cancelled_caught
            assert anyio.current_time() - began == pytest.approx(seconds)
        await nb.balance(timeout=1)


async def test_an_unfinished_result_is_not_downloaded() -> None:
    """The message says what to await first."""
    async with Sandbox().client() as nb:
        clip = await nb.submit("kling-v2.1", "A flower")
        for subject in (clip, clip.id):
            with pytest.raises(UsageError, match=rf"await nb.wait\({clip.id}\) first"):
                await nb.download(subject, "x")


async def test_submissions_that_nobody_waits_for_do_not_fill_the_memory() -> None:
    """The oldest are forgotten; what is forgotten is waited for by its own date."""
    jobs = Jobs()
    request = GenerationRequest("kling-v2.1", "A flower", {"duration": 5})
    for number in range(MOST_REMEMBERED + 10):
        jobs.remember(request, Generation(id=number, status="pending"))
    newest, oldest = (jobs.of(Generation(id=number, status="pending")) for number in (MOST_REMEMBERED, 0))
    assert (newest.model, oldest.model) == ("kling-v2.1", "")


async def test_waiting_late_teaches_nothing_wrong() -> None:
    """Jobs waited for an hour after they were done, whose replies have no processing_ms, are not learned as slow."""
    sandbox = Sandbox(family="b", plan="elite", balance=1_000_000)
    late = 0.0
    async with sandbox.client() as nb:
        clips = [await nb.submit("kling-v2.1", "A flower") for _ in range(60)]
        await anyio.sleep(3600)
        for clip in clips:
            await nb.wait(clip)
        for _ in range(20):
            began = anyio.current_time()
            clip = await nb.generate("kling-v2.1", "A flower")
            assert clip.completed_at is not None
            assert clip.created_at is not None
            late += anyio.current_time() - began - (clip.completed_at - clip.created_at).total_seconds()
    assert late / 20 < 3


@pytest.mark.parametrize("generation_id", ["\ud800", " ", ".."])
async def test_an_id_that_cannot_be_asked_for_is_an_error_of_ours(generation_id: str) -> None:
    """An id that is no part of a URL is refused before anything is sent."""
    sandbox = Sandbox()
    async with sandbox.client() as nb:
        with pytest.raises(UsageError):
            await nb.wait(Generation(id=generation_id, status="pending"))
    assert sandbox.requests.total == 0


async def test_a_short_timeout_leaves_time_for_a_look() -> None:
    """Even with half a second there is one look before giving up."""
    sandbox = Sandbox()
    async with sandbox.client() as nb:
        clip = await nb.submit("kling-v2.1", "A flower")
        began = anyio.current_time()
        with pytest.raises(GenerationTimeoutError):
            await nb.wait(clip, timeout=0.5)
        assert sandbox.requests.looks == 1
        assert anyio.current_time() - began <= 0.5


# --- several waiters ------------------------------------------------------------------------------------------------


async def wait_into(found: list[str], nb: AsyncNeuralBox, subject: Generation | int | str) -> None:
    """Wait, and say how it ended."""
    found.append((await nb.wait(subject)).status)


async def test_waiters_for_one_generation_share_its_looks() -> None:
    """Ten who wait cost as many looks as one, by id or by generation, and all get the result."""
    looks = []
    for waiters in (1, 10):
        sandbox = Sandbox()
        async with sandbox.client() as nb:
            clip = await nb.submit("kling-v2.1", "A flower")
            found: list[str] = []
            async with anyio.create_task_group() as tasks:
                for number in range(waiters):
                    tasks.start_soon(wait_into, found, nb, clip.id if number % 2 else clip)
            assert found == ["completed"] * waiters
            looks.append(sandbox.requests.looks)
    assert looks[1] <= looks[0] + 1  # an id is looked at once at the beginning


async def test_a_cancelled_waiter_leaves_the_look_to_the_others() -> None:
    """Whoever makes a look may go; another one makes it again."""
    sandbox = Sandbox()
    async with sandbox.client() as nb:
        clip = await nb.submit("kling-v2.1", "A flower")
        found: list[str] = []
        sandbox.order(faults.hang(), on="GET /generate/{id}")
        async with anyio.create_task_group() as tasks:
            with anyio.move_on_after(25):  # in the middle of the look that hangs
                async with anyio.create_task_group() as first:
                    first.start_soon(wait_into, found, nb, clip)
                    await anyio.sleep(1)
                    tasks.start_soon(wait_into, found, nb, clip)
            assert found == []
        assert found == ["completed"]


async def test_one_waiter_s_timeout_is_not_the_others() -> None:
    """A short timeout ends one waiter; the other one waits on."""
    sandbox = Sandbox()
    async with sandbox.client() as nb:
        clip = await nb.submit("kling-v2.1", "A flower")
        found: list[str] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait_into, found, nb, clip)
            with pytest.raises(GenerationTimeoutError):
                await nb.wait(clip, timeout=10)
        assert found == ["completed"]


async def test_a_final_generation_needs_no_look_though_others_wait_for_it() -> None:
    """What the caller already has is given at once, and takes nothing from those who wait for all of it."""
    sandbox = Sandbox()
    found: list[Generation] = []
    async with sandbox.client() as nb, anyio.create_task_group() as tasks:
        clip = await nb.submit("kling-v2.1", "A flower")

        async def wait() -> None:
            found.append(await nb.wait(clip))

        tasks.start_soon(wait)
        await anyio.sleep(1)
        entry = evolve(clip, status="completed", partial=True)
        assert [look async for look in nb.poll(entry)] == [entry]
        assert sandbox.requests.looks == 0
    assert [each.partial for each in found] == [False]


async def test_nothing_is_kept_of_who_has_gone() -> None:
    """A watch lives as long as somebody waits."""
    async with Sandbox().client() as nb:
        clip = await nb.submit("kling-v2.1", "A flower")
        async for _ in nb.poll(clip):
            break
        gc.collect()
        assert not nb._looks.watches  # noqa: SLF001 - what must not grow


async def test_what_the_service_expects_is_believed() -> None:
    """Pending replies that say eta_seconds save looks from the first job on, and results are found sooner."""
    sandbox = Sandbox(family="b", plan="elite", balance=100_000)
    late = 0.0
    async with sandbox.client() as nb:
        for _ in range(30):
            began = anyio.current_time()
            clip = await nb.generate("kling-v2.1", "A flower")
            job = sandbox.world.jobs[str(clip.id)]
            late += anyio.current_time() - began - (job.due - job.created)
    assert sandbox.requests.looks < 4.5 * 30
    assert late / 30 < 1


@pytest.mark.parametrize("where", ["header", "body"])
async def test_retry_after_moves_the_next_look(where: str) -> None:
    """A pending reply that asks to come again in 7 s is followed, from its header or its body."""
    asked: list[float] = []

    def answer(_: httpx.Request) -> httpx.Response:
        asked.append(anyio.current_time())
        if len(asked) == 3:
            return httpx.Response(200, json={"id": 7, "status": "completed"})
        pending = {"id": 7, "status": "pending", "model_slug": "kling-v2.1"}
        if where == "body":
            return httpx.Response(200, json={**pending, "retry_after": 7})
        return httpx.Response(200, json=pending, headers={"Retry-After": "7"})

    own = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    nb = AsyncNeuralBox("nb_test_key", base_url="https://api.test", http_client=own)
    await nb.wait(7)
    assert [after - before for before, after in pairwise(asked)] == pytest.approx([7, 7], abs=1.5)


async def test_early_failures_are_looked_for() -> None:
    """A model whose jobs fail within seconds gets a look within seconds."""
    sandbox = Sandbox(plan="elite", models=clip_of(4))
    ages = []
    async with sandbox.client(pacing=Pacing({"clip": (60, 90)})) as nb:
        for _ in range(20):
            began = anyio.current_time()
            clip = await nb.submit("clip", "Something forbidden")
            assert [look.failed async for look in nb.poll(clip)][-1]
            ages.append(anyio.current_time() - began)
    assert ages[0] > 20
    assert max(ages[10:]) < 8


async def test_what_was_learned_survives_the_program() -> None:
    """A client with a loaded pacing knows from its first job on what another one learned."""
    learned, looks = Pacing(), []
    async with Sandbox(plan="elite", models=clip_of(61)).client(pacing=learned) as nb:
        for _ in range(20):
            await nb.generate("clip", "A flower")
    for pacing in (Pacing(), Pacing.load(learned.export())):
        sandbox = Sandbox(models=clip_of(61))
        async with sandbox.client(pacing=pacing) as nb:
            await nb.generate("clip", "A flower")
        looks.append(sandbox.requests.looks)
    assert looks[1] <= 2 < looks[0]


# --- one look for many ----------------------------------------------------------------------------------------------


async def wait_for_many(nb: AsyncNeuralBox, clips: Sequence[Generation]) -> list[Generation]:
    """Wait for all of these at once; failed ones are among what is returned."""
    ended: list[Generation] = []

    async def follow(clip: Generation) -> None:
        ended.append([look async for look in nb.poll(clip)][-1])

    async with anyio.create_task_group() as tasks:
        for clip in clips:
            tasks.start_soon(follow, clip)
    return ended


async def looked_at(sandbox: Sandbox, count: int = 50, **options: Any) -> list[Generation]:
    """Let so many generations be waited for at once."""
    async with sandbox.client(timeout=3_000, **options) as nb:
        clips = [await nb.submit("kling-v2.1", f"A flower {number}") for number in range(count)]
        return await wait_for_many(nb, clips)


def pages_of(sandbox: Sandbox) -> int:
    """Return how many pages of the history were read."""
    return sandbox.requests.of("GET", "/user/history")


def rich(**options: Any) -> Sandbox:
    """Return a sandbox with no limits and tokens for everything."""
    return Sandbox(plan="elite", balance=1_000_000, **options)


@pytest.mark.parametrize("family", ["a", "b"])
async def test_one_page_answers_many(family: str) -> None:
    """Fifty who wait together take fewer requests than three each, and every result comes whole."""
    sandbox = rich(family=family)
    ended = await looked_at(sandbox)
    assert {each.status for each in ended} == {"completed"}
    assert len({each.id for each in ended}) == 50
    assert not any(each.partial for each in ended)
    assert pages_of(sandbox) > 0
    assert pages_of(sandbox) + sandbox.requests.looks < 3 * 50


async def test_where_requests_are_dear_the_history_s_entry_will_do() -> None:
    """From a look_price of 1 on, a result and its cost need no look of their own; `partial` says so."""
    sandbox = rich()
    ended = await looked_at(sandbox, look_price=2.0)
    assert sum(each.partial for each in ended) > 40
    assert all(each.url is not None and each.tokens_spent is not None for each in ended)
    assert pages_of(sandbox) + sandbox.requests.looks < 50


async def test_where_no_look_succeeds_the_history_s_entry_will_do() -> None:
    """A result that a page has shown is not kept back for longer than half a minute for what a look could add."""
    sandbox = rich()
    sandbox.order(faults.status(500), on="GET /generate/{id}", times=550)
    began = anyio.current_time()
    ended = await looked_at(sandbox)
    assert [each.url is None for each in ended] == [False] * 50
    assert sum(each.partial for each in ended) > 25
    assert anyio.current_time() - began < 600


async def test_a_failure_is_looked_at_for_its_reason() -> None:
    """The history's entry of a failed generation lacks the provider's words."""
    sandbox = rich()
    async with sandbox.client(look_price=2.0) as nb:
        clips = [await nb.submit("kling-v2.1", "Something forbidden") for _ in range(20)]
        ended = await wait_for_many(nb, clips)
    assert [each.error for each in ended] == ["Provider error: content policy violation"] * 20
    assert pages_of(sandbox) > 0


async def test_one_job_alone_reads_no_page() -> None:
    """Whoever waits for one generation looks at that one."""
    sandbox = rich()
    for number in range(30):
        sandbox.book("kling-v2.1", f"somebody else's {number}")
    assert len(await looked_at(sandbox, count=1)) == 1
    assert pages_of(sandbox) == 0


async def test_with_a_fixed_interval_no_page_is_read() -> None:
    """poll_interval is kept to the letter: each generation is looked at by itself."""
    sandbox = rich()
    assert len(await looked_at(sandbox, count=20, poll_interval=5)) == 20
    assert pages_of(sandbox) == 0


@pytest.mark.parametrize(
    "fault",
    [faults.status(500), faults.status(404, "not_found"), faults.hang(), faults.html(), faults.rate_limited(5)],
    ids=["500", "404", "hangs", "a proxy's page", "a limit of its own"],
)
async def test_a_history_that_fails_harms_nobody(fault: faults.Fault) -> None:
    """Everybody looks by themselves then, and the history is tried again only after a while."""
    sandbox = rich()
    sandbox.order(fault, on="GET /user/history", times=None)
    ended = await looked_at(sandbox)
    assert {each.status for each in ended} == {"completed"}
    assert not any(each.partial for each in ended)


@pytest.mark.parametrize("lag", [20.0, 60.0, 200.0, math.inf])
async def test_a_history_that_lags_harms_nobody(lag: float) -> None:
    """What the history does not show is looked at by itself; results come as before."""
    sandbox = rich(history_lag=lag)
    async with sandbox.client() as nb:
        clips = [await nb.submit("kling-v2.1", f"A flower {number}") for number in range(50)]
        ended = await wait_for_many(nb, clips)
    assert {each.status for each in ended} == {"completed"}
    assert pages_of(sandbox) + sandbox.requests.looks < 10 * 50


async def test_a_history_that_never_shows_ours_is_left_alone() -> None:
    """Hours of waiting cost only a few pages that help nobody."""
    sandbox = Sandbox(plan="elite", models=clip_of(4_000), history_lag=math.inf)
    async with sandbox.client(timeout=10_000, pacing=Pacing({"clip": (3_000, 5_000)})) as nb:
        await wait_for_many(nb, [await nb.submit("clip", f"A flower {number}") for number in range(10)])
    assert 1 <= pages_of(sandbox) <= 12


async def looks_alone(count: int) -> list[tuple[float, int]]:
    """Let so many be accepted at one instant and no page help; return when which one was looked at."""
    sandbox, looks = rich(history_lag=math.inf), list[tuple[float, int]]()

    def note(event: Event) -> None:
        if isinstance(event, Looked):
            looks.append((anyio.current_time(), int(event.generation.id)))

    assert len(await looked_at(sandbox, count, observe=note)) == count
    return looks


async def test_hundreds_accepted_together_are_not_looked_at_at_one_instant() -> None:
    """Where no page helps, their looks begin evenly within a quarter of the time since the last ones."""
    instants = Counter(round(when, 1) for when, _ in await looks_alone(200))
    assert max(instants.values()) < 200 / 4


async def test_a_few_accepted_together_are_looked_at_when_they_are_due() -> None:
    """Their looks begin within a fortieth of a second."""
    ages: dict[int, list[float]] = {}
    for when, generation_id in await looks_alone(3):
        ages.setdefault(generation_id, []).append(when)
    first, second, third = (each[:3] for each in ages.values())
    assert second == pytest.approx(first, abs=0.025)
    assert third == pytest.approx(first, abs=0.025)


async def test_others_of_the_same_account_only_shift_the_pages() -> None:
    """With 150 of somebody else's on top, ours are found on the second page."""
    sandbox = rich()
    async with sandbox.client(look_price=2.0) as nb:
        clips = [await nb.submit("kling-v2.1", f"A flower {number}") for number in range(50)]
        for number in range(60):
            sandbox.book("kling-v2.1", f"somebody else's {number}")
        ended = await wait_for_many(nb, clips)
    assert {each.id for each in ended} == {each.id for each in clips}
    assert pages_of(sandbox) + sandbox.requests.looks < 60


async def test_more_than_a_page_are_found_on_their_pages() -> None:
    """Three hundred that wait together need no look of their own."""
    sandbox = rich()
    ended = await looked_at(sandbox, count=300, look_price=2.0)
    assert {each.status for each in ended} == {"completed"}
    assert pages_of(sandbox) + sandbox.requests.looks < 0.6 * 300


async def test_a_cancelled_reader_of_a_page_leaves_it_to_another() -> None:
    """Whoever reads the page may go while it hangs; the others are answered all the same."""
    sandbox = rich(models=clip_of(61))
    sandbox.order(faults.hang(), on="GET /user/history")
    scopes = [anyio.CancelScope() for _ in range(10)]
    done: list[str] = []
    async with sandbox.client(pacing=Pacing({"clip": (55, 65)})) as nb:

        async def follow(clip: Generation, scope: anyio.CancelScope) -> None:
            with scope:
                done.append((await nb.wait(clip)).status)

        async with anyio.create_task_group() as tasks:
            for number, scope in enumerate(scopes):
                tasks.start_soon(follow, await nb.submit("clip", f"A flower {number}"), scope)
            for _ in range(600):
                await anyio.sleep(0 if pages_of(sandbox) else 0.1)
            assert pages_of(sandbox) == 1
            for scope in scopes[:5]:
                scope.cancel()
    assert done == ["completed"] * 5


async def test_a_cancelled_reader_of_others_page_leaves_its_own_look_to_who_waits_with_it() -> None:
    """The first in line may read a page on which it does not stand itself; when it goes, nothing of it is forgotten."""
    models = clip_of(100) | {"quick": Model(slug="quick", kind="video", tokens=(1, 1), seconds=(40, 40))}
    sandbox, done = rich(models=models), []
    sandbox.order(faults.hang(), on="GET /user/history")
    pacing = Pacing({"clip": (75, 110), "quick": (39, 41)})
    async with sandbox.client(pacing=pacing) as nb, anyio.create_task_group() as tasks:
        for number in range(60):
            tasks.start_soon(wait_into, [], nb, await nb.submit("clip", f"A flower {number}"))
        for number in range(100):  # nobody waits for these, and they fill the first page
            await nb.submit("clip", f"A stone {number}")
        quick = await nb.submit("quick", "A wink")

        async def wait(scope: anyio.CancelScope) -> None:
            with scope:
                await nb.wait(quick)
                done.append(anyio.current_time() - sandbox.world.jobs[str(quick.id)].due)

        scopes = [anyio.CancelScope() for _ in range(3)]
        for scope in scopes:
            tasks.start_soon(wait, scope)
        for _ in range(600):
            await anyio.sleep(0 if pages_of(sandbox) else 0.1)
        assert pages_of(sandbox) == 1
        assert not done
        scopes[0].cancel()
        await anyio.sleep(60)
        tasks.cancel_scope.cancel()
    assert done
    assert max(done) < 5


async def test_a_follower_hears_each_page_among_those_who_wait_for_the_end() -> None:
    """Pages wake only those who have asked for each look; they are told what each page says."""
    sandbox = rich()
    heard: list[Generation] = []
    ended: list[str] = []
    async with sandbox.client() as nb:
        clips = [await nb.submit("kling-v2.1", f"A flower {number}") for number in range(50)]
        async with anyio.create_task_group() as tasks:
            for clip in clips[1:]:
                tasks.start_soon(wait_into, ended, nb, clip)
            heard = [look async for look in nb.poll(clips[0])]
    assert ended == ["completed"] * 49
    assert len(heard) > 5
    assert [look.done for look in heard] == [False] * (len(heard) - 1) + [True]


async def one_of_twenty(nb: AsyncNeuralBox, tasks: anyio.abc.TaskGroup) -> Generation:
    """Submit twenty clips, let nineteen be waited for, and return the other one."""
    one, *others = [await nb.submit("clip", f"A flower {number}") for number in range(20)]
    for other in others:
        tasks.start_soon(wait_into, [], nb, other)
    return one


class Patient(Pacing):
    """Says when to look so many times, and then that somebody asks without end."""

    def __init__(self, ranges: dict[str, tuple[float, float]]) -> None:
        super().__init__(ranges)
        self.asked = 0

    def seconds_until_look(self, *args: Any, **options: Any) -> float:
        """Answer, and count."""
        self.asked += 1
        assert self.asked < 2_000
        return super().seconds_until_look(*args, **options)


@pytest.mark.parametrize("options", [{}, {"look_price": 0.1}, {"look_price": 8.0}])
async def test_those_who_wait_for_one_generation_may_want_it_at_other_times(options: dict[str, Any]) -> None:
    """With two timeouts, or two prices of a look, for each of two clips they do not wake each other without end."""
    sandbox, timeouts = rich(models=clip_of(60)), list[int | str | None]()
    async with sandbox.client(pacing=Patient({"clip": (45, 90)})) as nb:
        clips = [await nb.submit("clip", f"A flower {number}") for number in range(2)]

        async def wait(view: AsyncNeuralBox, clip: Generation, seconds: float) -> None:
            try:
                await view.wait(clip, timeout=seconds)
            except GenerationTimeoutError as error:
                timeouts.append(error.generation_id)

        async with anyio.create_task_group() as tasks:
            for number, clip in enumerate(clips):
                tasks.start_soon(wait, nb.with_options(**options), clip, 600.0 if options else 20.0 + number)
            for clip in clips:
                tasks.start_soon(wait, nb, clip, 600.0)
    assert timeouts == ([] if options else [clip.id for clip in clips])


@pytest.mark.parametrize(
    ("fault", "pages"),
    [
        (faults.status(403, "insufficient_plan"), 1),
        (faults.status(503, "model_unavailable", retry_after="30"), 1),
        (faults.rate_limited(30), 1),
        (faults.hang(), 2),
    ],
    ids=["refused", "away", "limited", "silent"],
)
async def test_a_page_that_fails_shortly_before_the_end_is_not_asked_for_again(fault: faults.Fault, pages: int) -> None:
    """Whoever has little time left looks by himself then, and ends with the timeout."""
    sandbox = rich(models=clip_of(300))
    sandbox.order(fault, on="GET /user/history", times=None)
    async with sandbox.client(pacing=Patient({"clip": (2, 9)})) as nb, anyio.create_task_group() as tasks:
        clips = [await nb.submit("clip", f"A flower {number}") for number in range(10)]

        async def wait(clip: Generation) -> None:
            with pytest.raises(GenerationTimeoutError):
                await nb.wait(clip, timeout=9)

        for clip in clips:
            tasks.start_soon(wait, clip)
    assert pages_of(sandbox) <= pages


async def test_the_last_look_is_at_the_generation_itself() -> None:
    """A page that comes too late leaves nobody asking for it again, beyond his time."""
    sandbox = rich(models=clip_of(100))
    sandbox.order(faults.delay(30), on="GET /user/history", times=None)
    async with sandbox.client(pacing=Patient({"clip": (60, 120)})) as nb, anyio.create_task_group() as tasks:
        clips = [await nb.submit("clip", f"A flower {number}") for number in range(3)]
        for clip in clips:
            tasks.start_soon(wait_into, [], nb, clip)
        began = anyio.current_time()
        with pytest.raises(GenerationTimeoutError):
            await nb.wait(clips[0], timeout=20)
        assert 19 <= anyio.current_time() - began <= 20.1
        tasks.cancel_scope.cancel()


async def test_whoever_is_not_due_first_keeps_a_deadline_of_its_own() -> None:
    """Among many that take long, one with a short timeout is looked at just before its end, and ends then."""
    sandbox = rich(models=clip_of(300))
    async with sandbox.client(pacing=Pacing({"clip": (280, 320)})) as nb, anyio.create_task_group() as tasks:
        clip = await one_of_twenty(nb, tasks)
        began = anyio.current_time()
        with pytest.raises(GenerationTimeoutError, match=str(clip.id)):
            await nb.wait(clip, timeout=60)
        assert 59 <= anyio.current_time() - began <= 60.1
        assert sandbox.requests.looks + pages_of(sandbox) == 1
        tasks.cancel_scope.cancel()


async def test_a_fixed_interval_is_kept_beside_those_who_share_pages() -> None:
    """A view's poll_interval is its own: somebody else's pages tell it more, and are no reason to look less often."""
    sandbox = rich(models=clip_of(300))
    async with sandbox.client(pacing=Pacing({"clip": (280, 320)})) as nb, anyio.create_task_group() as tasks:
        clip = await one_of_twenty(nb, tasks)
        began = anyio.current_time()
        async for _ in nb.with_options(poll_interval=10).poll(clip):
            if anyio.current_time() - began > 95:
                break
        assert sandbox.requests.looks == 10
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("lag", [0.0, math.inf])
@pytest.mark.parametrize("seed", range(5))
async def test_whoever_goes_somebody_watches_the_clock(seed: int, lag: float) -> None:
    """Waiters come and go at random; each that stays has its result soon after it is there."""
    sandbox, chance = rich(history_lag=lag), random.Random(f"{seed} {lag}")
    late: list[float] = []
    async with sandbox.client() as nb:

        async def follow(clip: Generation) -> None:
            await anyio.sleep(chance.uniform(0, 20))
            with anyio.move_on_after(chance.choice([chance.uniform(0, 60), math.inf])):
                await nb.wait(clip)
                late.append(anyio.current_time() - sandbox.world.jobs[str(clip.id)].due)

        async with anyio.create_task_group() as tasks:
            for number in range(60):
                tasks.start_soon(follow, await nb.submit("kling-v2.1", f"A flower {number}"))
                await anyio.sleep(chance.expovariate(2))
    assert len(late) > 20
    assert max(late) < 15


async def test_the_next_look_after_a_404_keeps_what_was_hinted() -> None:
    """A look that says nothing of the end leaves the hint where it was, instead of starting it anew."""
    sandbox = rich(family="b", models=clip_of(60))
    ages = []
    for unseen in (0, 1):
        if unseen:
            sandbox.order(faults.status(404, "not_found"), on="GET /generate/{id}", times=1)
        async with sandbox.client(pacing=Pacing({"clip": (20, 100)})) as nb:
            began = anyio.current_time()
            await nb.generate("clip", "A flower")
            ages.append(anyio.current_time() - began)
    assert max(ages) < 66


# --- ids as numbers and as texts --------------------------------------------------------------------------------------


class Told(SandboxTransport):
    """The way to a sandbox that tells ids as texts where one kind of request is answered, and as numbers elsewhere."""

    def __init__(self, sandbox: Sandbox, where: str) -> None:
        super().__init__(sandbox)
        self._where = where

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer with the ids of this place as texts."""
        response = await super().handle_async_request(request)
        if not re.search(self._where, f"{request.method} {request.url.path}"):
            return response
        body = re.sub(rb'"id": ?([0-9]+)', rb'"id":"\1"', await response.aread())
        return httpx.Response(response.status_code, content=body)


@pytest.mark.parametrize("where", ["POST .*/generate$", "GET .*/generate/", "GET .*/history"])
async def test_pages_find_what_is_waited_for_in_whichever_form_ids_come(where: str) -> None:
    """The text "7" in one reply is the number 7 in another: nothing is looked at by itself, or twice."""
    sandbox = rich()
    plain, told = rich(), httpx.AsyncClient(transport=Told(sandbox, where))
    ended = await looked_at(sandbox, look_price=2.0, http_client=told)
    await looked_at(plain, look_price=2.0)
    assert {str(each.id) for each in ended} == set(sandbox.world.jobs)
    assert {each.status for each in ended} == {"completed"}
    assert sandbox.requests.total == pytest.approx(plain.requests.total, abs=3)


async def test_a_number_and_its_text_are_one_generation_to_whoever_waits() -> None:
    """Waiting for 7 and for "7" costs the looks of one; each gets what the service says, its id as received."""
    looks = []
    for forms in ((int,), (int, str, int, str)):
        sandbox = rich(models=clip_of(60))
        clip = sandbox.book("clip", "A flower")
        found: list[Generation] = []
        async with sandbox.client() as nb, anyio.create_task_group() as tasks:

            async def wait(subject: int | str, nb: AsyncNeuralBox = nb, found: list[Generation] = found) -> None:
                found.append(await nb.wait(subject))

            for form in forms:
                tasks.start_soon(wait, form(clip))
        assert [each.id for each in found] == [clip] * len(forms)
        looks.append(sandbox.requests.looks)
    assert looks[0] == looks[1]


@pytest.mark.parametrize("other", ["07", "7.0", " 7", "+7", "seven"])
async def test_what_only_looks_like_a_number_is_another_generation(other: str) -> None:
    """Only the text that a number is written as stands for it."""
    sandbox = rich()
    async with sandbox.client() as nb:
        looks = nb._looks  # noqa: SLF001 - two of one watch cannot be told apart from outside
        watches = [looks.watch(7), looks.watch("7"), looks.watch(other)]
    assert watches[0] is watches[1] is not watches[2]


# --- scarce requests ------------------------------------------------------------------------------------------------


async def backlog(sandbox: Sandbox, hours: float, **options: Any) -> int:
    """Let a run of more clips than the plan allows go on for so long; return how many were finished."""
    finished = 0
    requests = (GenerationRequest("clip", f"A flower {number}") for number in range(100_000))
    async with (
        sandbox.client(timeout=100_000, observe=bool, **options) as nb,
        nb.generate_many(requests, max_concurrency=100) as outcomes,
    ):
        with anyio.move_on_after(hours * 3_600 - 1):
            async for outcome in outcomes:
                assert outcome.error is None
                finished += 1
    return finished


@pytest.mark.parametrize(("lag", "jobs"), [(math.inf, 45), (0.0, 80)], ids=["single looks", "with the history"])
async def test_a_backlog_makes_the_most_of_a_plan(lag: float, jobs: int) -> None:
    """Of 100 requests an hour nearly none is wasted, and none is refused."""
    sandbox = Sandbox(balance=100_000, models=clip_of(60), history_lag=lag)
    assert await backlog(sandbox, 2) >= 2 * jobs
    assert sandbox.requests.answered(429) == 0


async def test_a_scarce_request_is_not_spent_on_one_where_it_could_answer_many() -> None:
    """Whoever wakes at the same instant as others that are due looks at their page, not at one."""
    chance = random.Random(1)
    clip = Model(slug="clip", kind="video", tokens=(1, 1), seconds=(48, 75), draw=lambda _: chance.gauss(60, 8))
    sandbox = Sandbox(balance=100_000, models={"clip": clip})
    assert await backlog(sandbox, 2) >= 170
    assert sandbox.requests.looks <= 5


async def test_where_looks_do_not_count_every_request_submits() -> None:
    """Once a look has shown that it is free, submissions need not give way."""
    sandbox = Sandbox(balance=100_000, models=clip_of(60), count_gets=False)
    assert await backlog(sandbox, 2) >= 190
    assert sandbox.requests.answered(429) == 0


async def test_no_herd_sets_off_when_the_window_opens() -> None:
    """A thousand that wait for the window do not meet it with a thousand POSTs."""
    sandbox = Sandbox(balance=100_000)
    ended: list[str] = []
    async with sandbox.client(timeout=4_000, max_connections=1_000) as nb:

        async def submit() -> None:
            try:
                ended.append((await nb.submit("kling-v2.1", "A flower")).status)
            except RateLimitError:
                ended.append("too late")

        for _ in range(100):
            await nb.balance()
        async with anyio.create_task_group() as tasks:
            for _ in range(1_000):
                tasks.start_soon(submit)
    assert sandbox.requests.answered(429) == 0
    assert 40 <= ended.count("pending") <= 100
    assert len(ended) == 1_000


async def test_two_clients_of_one_account_share_what_is_left() -> None:
    """With one Rate, two runs at once are refused nothing and still make the most of the plan."""
    sandbox, rate = Sandbox(balance=100_000, models=clip_of(60)), Rate()
    finished: list[int] = []

    async def one() -> None:
        finished.append(await backlog(sandbox, 2, rate=rate))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        tasks.start_soon(one)
    assert sandbox.requests.answered(429) == 0
    assert sum(finished) >= 120


async def test_the_plan_is_shown() -> None:
    """`rate_limit` has what is left and how looks are stretched; nothing is, where there is plenty."""
    async with Sandbox().client() as nb:
        clip = await nb.submit("kling-v2.1", "A flower")
        assert (nb.rate_limit.left, nb.rate_limit.stretch) == (99, 1.0)
        await nb.wait(clip)
        assert nb.rate_limit.left == nb.rate_limit.remaining_hour

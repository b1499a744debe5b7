"""Many generations, told as stories on the sandbox: each request comes out once, whatever happens to its neighbours."""

import gc
import itertools
import math
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from neuralbox_async import (
    Abandoned,
    APIConnectionError,
    AsyncNeuralBox,
    AuthenticationError,
    ClientClosedError,
    Event,
    GenerationFailedError,
    GenerationRequest,
    GenerationTimeoutError,
    InsufficientTokensError,
    Ledger,
    NotFoundError,
    Outcome,
    OutcomeUnknownError,
    PermissionDeniedError,
    Rate,
    UnprocessableEntityError,
    UsageError,
)
from neuralbox_async._fan_out import fan_out
from neuralbox_async.sandbox import Model, Plan, Sandbox, faults

pytestmark = pytest.mark.anyio

DONE = {"id": 7, "status": "completed", "result_text": "Hello"}
HELLO = GenerationRequest("gpt-5-nano", "Hello")


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    """Whatever happens in a run, no task outlives its block."""
    before = len(anyio.get_running_tasks())
    yield
    assert len(anyio.get_running_tasks()) == before


def rich(**options: Any) -> Sandbox:
    """Return a sandbox with no limits but those asked for."""
    return Sandbox(**{"plan": "elite", "balance": 1_000_000, **options})


async def run(nb: AsyncNeuralBox, requests: Any, **options: Any) -> list[Outcome]:
    """Take all outcomes of a run."""
    async with nb.generate_many(requests, **options) as outcomes:
        return [outcome async for outcome in outcomes]


async def take(outcomes: AsyncIterator[Outcome], into: list[Outcome]) -> None:
    """Take outcomes into a list, up to the end or to an error."""
    async for outcome in outcomes:
        into.append(outcome)  # noqa: PERF401 - what came before an error must be seen


async def test_a_mixed_batch_of_two_hundred() -> None:
    """Texts, pictures, clips, songs and speech, some that fail: each is answered, and the books agree."""
    models = ["gpt-5", "dall-e-3", "kling-v2.1", "musicgen", "openai-tts", "luma-ray2-flash", "midjourney", "upscale"]
    requests = [
        GenerationRequest(models[number % 8], "Forbidden" if number % 10 == 9 else f"Prompt {number}", tag=number)
        for number in range(200)
    ]
    sandbox = rich()
    async with sandbox.client() as nb:
        before = (await nb.balance()).token_balance
        outcomes = await run(nb, requests, max_concurrency=50)
        after = (await nb.balance()).token_balance
    assert sorted(outcome.index for outcome in outcomes) == list(range(200))
    assert all(outcome.request is requests[outcome.index] for outcome in outcomes)
    failed = [outcome for outcome in outcomes if outcome.error]
    assert {outcome.request.tag for outcome in failed} == set(range(9, 200, 10))
    assert all(isinstance(each.error, GenerationFailedError) and each.generation for each in failed)
    spent = sum(outcome.generation.tokens_spent or 0 for outcome in outcomes if outcome.generation)
    assert spent == before - after == sum(charge.tokens for charge in sandbox.charges)
    assert (sandbox.requests.posts, sandbox.booked, len(sandbox.charges)) == (200, 200, 180)


async def test_a_thousand_one_minute_jobs() -> None:
    """A thousand clips at once are done in little more than the longest of them takes."""
    sandbox = rich()
    began = anyio.current_time()
    async with sandbox.client(max_connections=1000, poll_interval=20) as nb:
        outcomes = await run(nb, (GenerationRequest("kling-v2.1", f"{n}") for n in range(1000)), max_concurrency=1000)
    assert [outcome.error for outcome in outcomes] == [None] * 1000
    assert len(sandbox.charges) == sandbox.requests.posts == 1000
    assert anyio.current_time() - began < 240


async def test_outcomes_come_as_they_finish_with_key_tag_and_index() -> None:
    """The quick ones come first, and each knows its request."""
    requests = [
        GenerationRequest("kling-v2.1", "slow", key="clip", tag=["row", 1]),
        GenerationRequest("gpt-5-nano", "quick", key="text"),
    ]
    async with rich().client() as nb:
        first, second = await run(nb, requests)
    assert (first.key, first.index, first.request.tag) == ("text", 1, None)
    assert (second.key, second.index, second.request.tag) == ("clip", 0, ["row", 1])
    assert (first.error, second.error, first.path, second.path) == (None, None, None, None)


async def test_one_bad_item_never_raises() -> None:
    """Bad requests, refusals, lost answers and failures are values; their neighbours are answered."""
    sandbox = rich(history_lag=math.inf)
    sandbox.order(faults.status(422, "validation_error"), times=1)
    sandbox.order(faults.lost(), times=1)
    requests: list[Any] = [
        HELLO,
        HELLO,
        GenerationRequest("gpt-5-nano", ""),
        GenerationRequest("gpt-5-nano", "Hello", {"when": object()}),
        GenerationRequest("no-such-model", "Hello"),
        GenerationRequest("gpt-5-nano", "forbidden"),
        "a text",
        None,
        {"model": "gpt-5-nano", "prompt": "Hello"},
        GenerationRequest("gpt-5-nano", "Hello", key=7),  # type: ignore[arg-type]
        GenerationRequest("gpt-5-nano", "Hello", key=["x"]),  # type: ignore[arg-type]
        GenerationRequest("gpt-5-nano", "Hello", key=" "),
        HELLO,
    ]
    async with sandbox.client() as nb:
        outcomes = {outcome.index: outcome for outcome in await run(nb, requests, max_concurrency=1)}
    kinds = [type(outcomes[index].error) for index in range(len(requests))]
    assert kinds == [
        UnprocessableEntityError,
        OutcomeUnknownError,
        UsageError,
        UsageError,
        NotFoundError,
        GenerationFailedError,
        *[UsageError] * 6,
        type(None),
    ]
    assert all(outcomes[index].request is request for index, request in enumerate(requests))
    assert len(sandbox.charges) == 2


async def test_a_lost_answer_is_one_post_in_a_run_too() -> None:
    """Every other answer is lost, and the history does not have it: each request is sent once, and says so."""
    sandbox = rich(history_lag=math.inf)
    for skip in range(0, 20, 2):
        sandbox.order(faults.lost(), skip=skip - skip // 2)
    async with sandbox.client() as nb:
        outcomes = await run(nb, [GenerationRequest("gpt-5-nano", f"{n}") for n in range(20)], max_concurrency=1)
    lost = [outcome for outcome in outcomes if outcome.error]
    assert {type(outcome.error) for outcome in lost} == {OutcomeUnknownError}
    assert len(lost) == 10
    assert sandbox.requests.posts == sandbox.booked == 20


async def test_keys_are_unique_within_a_run() -> None:
    """The second item of a key is refused before it is sent; in another run the key is free again."""
    sandbox = rich()
    requests = [GenerationRequest("gpt-5-nano", f"{n}", key=key) for n, key in enumerate(["a", "b", "a", None, None])]
    async with sandbox.client() as nb:
        for _ in range(2):
            errors = {outcome.index: outcome.error for outcome in await run(nb, requests)}
            assert [index for index, error in errors.items() if error] == [2]
            assert isinstance(errors[2], UsageError)
    assert sandbox.requests.posts == 8


@pytest.mark.parametrize(
    ("code", "kind"), [(401, AuthenticationError), (402, InsufficientTokensError), (403, PermissionDeniedError)]
)
async def test_what_would_fail_every_item_ends_the_run(code: int, kind: type[Exception]) -> None:
    """What is under way comes out, then the error is raised; nothing new is sent."""
    sandbox = rich()
    sandbox.order(faults.status(code), times=None, skip=3)
    requests = (GenerationRequest("luma-ray2-flash", f"{n}") for n in range(1000))
    outcomes: list[Outcome] = []
    async with sandbox.client() as nb, nb.generate_many(requests, max_concurrency=4) as stream:
        with pytest.raises(kind):
            await take(stream, outcomes)
    assert Counter(type(outcome.error) for outcome in outcomes) == {type(None): 3, kind: 1}
    assert (sandbox.requests.posts, len(sandbox.charges)) == (4, 3)
    assert next(requests).prompt == "4"


async def test_an_empty_balance_ends_the_run() -> None:
    """Tokens for 10 of 100 texts: 10 outcomes that are paid, and a 402."""
    sandbox = Sandbox(plan="elite", balance=10)
    outcomes: list[Outcome] = []
    async with sandbox.client() as nb, nb.generate_many([HELLO] * 100, max_concurrency=3) as stream:
        with pytest.raises(InsufficientTokensError):
            await take(stream, outcomes)
    assert sum(outcome.error is None for outcome in outcomes) == len(sandbox.charges) == 10
    assert sandbox.requests.posts <= 13


# --- the plan's windows -----------------------------------------------------------------------------------------------


async def test_a_run_waits_for_a_closed_window_however_long() -> None:
    """A 429 of 5,000 s is beyond the items' 60 s and no item's fault: all are answered afterwards."""
    sandbox = rich()
    sandbox.order(faults.rate_limited(5_000), times=3, skip=2)
    began = anyio.current_time()
    async with sandbox.client() as nb:
        outcomes = await run(nb, [HELLO] * 20, timeout=60, max_concurrency=4)
    assert [outcome.error for outcome in outcomes] == [None] * 20
    assert anyio.current_time() - began > 5_000
    assert sandbox.booked == len(sandbox.charges) == 20


async def test_an_item_s_clock_starts_when_it_is_accepted() -> None:
    """A clip of 50 s has its 60 s after a window of 40 s, and after 100 s in line."""
    sandbox = rich(models={"clip": Model(slug="clip", kind="video", tokens=(1, 1), seconds=(50, 50))})
    sandbox.order(faults.rate_limited(40))
    async with sandbox.client(poll_interval=1) as nb:
        (outcome,) = await run(nb, [GenerationRequest("clip", "Hello")], timeout=60)
    assert outcome.error is None


async def test_a_small_plan_gets_through_a_long_list() -> None:
    """100 requests an hour, looks counted: 40 clips take a while, and none of them is lost to a timeout."""
    sandbox = Sandbox(plan="vip", balance=1_000_000)
    async with sandbox.client(look_price=5) as nb:
        outcomes = await run(nb, [GenerationRequest("kling-v2.1", f"{n}") for n in range(40)], max_concurrency=10)
    assert [outcome.error for outcome in outcomes] == [None] * 40
    assert len(sandbox.charges) == 40


async def test_the_daily_window_is_waited_for_too() -> None:
    """A day has no Reset header: its 429 says how long, and the run goes on tomorrow."""
    sandbox = Sandbox(plan=Plan(name="tiny", per_hour=None, per_day=5), balance=100, count_gets=False)
    async with sandbox.client() as nb:
        outcomes = await run(nb, [HELLO] * 12, timeout=60, max_concurrency=2)
    assert [outcome.error for outcome in outcomes] == [None] * 12


async def test_items_that_are_refused_together_wait_together() -> None:
    """Several POSTs meet the same closed window: all wait, none is lost, none is sent in vain meanwhile."""
    sandbox = rich()
    sandbox.order(faults.delay(1), times=4)
    sandbox.order(faults.rate_limited(1_000), times=4)
    async with sandbox.client(max_retries=0) as nb:
        outcomes = await run(nb, [HELLO] * 8, max_concurrency=4)
    assert [outcome.error for outcome in outcomes] == [None] * 8
    assert (sandbox.requests.posts, sandbox.booked) == (12, 8)


async def test_a_run_of_a_closed_client_says_so() -> None:
    """A run after aclose ends with the error, even of endless input, and nothing is sent."""
    sandbox = rich()
    nb = sandbox.client()
    await nb.aclose()
    found: list[Outcome] = []
    async with nb.generate_many((HELLO for _ in itertools.count()), max_concurrency=3) as outcomes:
        with pytest.raises(ClientClosedError):
            await take(outcomes, found)
    assert found
    assert {type(outcome.error) for outcome in found} == {ClientClosedError}
    assert sandbox.requests.total == 0


async def test_a_client_that_is_closed_leaves_doubts_as_doubts() -> None:
    """Nobody looks any more for what a POST has led to, whose answer was lost: that it costs nothing is not known."""
    sandbox = Sandbox()
    sandbox.order(faults.lost())
    sandbox.order(faults.html(), on="GET /user/history", times=None)
    async with sandbox.client() as nb, nb.generate_many([GenerationRequest("gpt-5", "Hello")]) as outcomes:
        await anyio.sleep(5)
        await nb.aclose()
        (outcome,) = [each async for each in outcomes]
    assert isinstance(outcome.error, OutcomeUnknownError)
    assert (outcome.error.billed, len(sandbox.charges)) == ("unknown", 1)


# --- input and reader -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_endless_input_is_pulled_as_the_reader_takes(kind: str) -> None:
    """Never more than max_concurrency requests ahead of what was taken, and none after the block."""
    pulled = 0

    def endless() -> Iterator[GenerationRequest]:
        nonlocal pulled
        while True:
            pulled += 1
            yield HELLO

    async def later() -> AsyncIterator[GenerationRequest]:
        for request in endless():
            await anyio.sleep(0.01)
            yield request

    sandbox = rich()
    requests = endless() if kind == "sync" else later()
    async with sandbox.client() as nb, nb.generate_many(requests, max_concurrency=7) as outcomes:
        for taken in range(50):
            await anyio.sleep(30)
            assert pulled <= taken + 7
            await anext(outcomes)
    assert sandbox.requests.posts <= 57
    if kind == "async":
        await requests.aclose()  # type: ignore[union-attr]


async def test_an_input_may_go_on_with_the_same_params(tmp_path: Path) -> None:
    """Each item is sent, and written down, with what they were when it was pulled."""
    sandbox = rich()

    def changing() -> Iterator[GenerationRequest]:
        params: dict[str, Any] = {}
        for seed in range(5):
            params["seed"] = seed
            yield GenerationRequest("gpt-5", "Hello", params)

    async with sandbox.client() as nb:
        outcomes = await run(nb, changing(), ledger=tmp_path / "run.db")
    with Ledger(tmp_path / "run.db") as ledger:
        written = {each.index: each.request.params for each in ledger.rows()}
    assert written == {each.index: each.request.params for each in outcomes}
    assert written == {seed: {"seed": seed} for seed in range(5)}
    assert sorted(each.params["seed"] for each in sandbox.world.jobs.values()) == [0, 1, 2, 3, 4]


async def test_memory_stays_flat() -> None:
    """Nothing is kept of an item whose outcome was taken: of 2,000 requests only those under way are alive."""
    alive: weakref.WeakSet[GenerationRequest] = weakref.WeakSet()

    def requests() -> Iterator[GenerationRequest]:
        for number in range(2000):
            request = GenerationRequest("gpt-5-nano", f"Number {number}")
            alive.add(request)
            yield request

    most = 0
    own = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=DONE)))
    async with rich().client(http_client=own) as nb, nb.generate_many(requests(), max_concurrency=10) as outcomes:
        async for outcome in outcomes:
            if outcome.index % 200 == 199:
                gc.collect()
                most = max(most, len(alive))
    assert 0 < most <= 12


async def test_leaving_the_block_stops_everything() -> None:
    """After `break` nothing new is sent, looks are cancelled, and the client goes on working."""
    sandbox = rich()
    async with sandbox.client(max_connections=2) as nb:
        began = anyio.current_time()
        async with nb.generate_many(
            (GenerationRequest("kling-v2.1", f"{n}") for n in range(1000)), max_concurrency=5
        ) as o:
            async for _ in o:
                break
        posts = sandbox.requests.posts
        await nb.balance(timeout=1)
        await anyio.sleep(1000)
        assert sandbox.requests.posts == posts <= 6
        assert anyio.current_time() - began < 1130


async def test_leaving_the_block_gives_posts_a_grace() -> None:
    """A POST under way may still learn its id; the event tells it, with its request."""
    told: list[Event] = []
    sandbox = rich()
    sandbox.order(faults.delay(3), skip=1)
    sandbox.order(faults.delay(300))
    requests = [GenerationRequest("luma-ray2", "slow"), GenerationRequest("luma-ray2", "heard of")]
    async with sandbox.client(observe=told.append) as nb, nb.generate_many(requests):
        await anyio.sleep(1)
    abandoned = [(event.request.prompt, event.generation is None) for event in told if isinstance(event, Abandoned)]
    assert sorted(abandoned) == [("heard of", False), ("slow", True)]
    assert sandbox.booked == 2


@pytest.mark.parametrize("error", [KeyError("mine"), OSError("disk full"), KeyboardInterrupt()])
async def test_the_body_s_own_error_leaves_as_itself(error: BaseException) -> None:
    """Whatever the reader raises is what comes out, and in no group."""

    async def take_one() -> None:
        async with rich().client() as nb, nb.generate_many([GenerationRequest("kling-v2.1", "x")] * 9) as outcomes:
            await anext(outcomes)
            raise error

    with pytest.raises(type(error)) as caught:
        await take_one()
    assert caught.value is error


async def test_an_input_that_raises_is_told_after_the_outcomes() -> None:
    """A broken line 3 does not lose lines 1 and 2, which are paid for."""

    def lines() -> Iterator[GenerationRequest]:
        yield GenerationRequest("luma-ray2-flash", "1")
        yield HELLO
        raise ValueError("line 3 is broken")

    taken: list[Outcome] = []
    sandbox = rich()
    async with sandbox.client() as nb, nb.generate_many(lines()) as outcomes:
        with pytest.raises(ValueError, match="line 3"):
            await take(outcomes, taken)
    assert sorted(outcome.index for outcome in taken) == [0, 1]
    assert len(sandbox.charges) == 2


async def test_a_cancelled_run_is_cancelled_as_such() -> None:
    """A timeout around a run is the caller's own, and ends within the grace."""
    async with rich().client() as nb:
        began = anyio.current_time()
        with anyio.move_on_after(10) as scope:
            await run(nb, [GenerationRequest("kling-v2.1", "x")] * 50)
        assert scope.cancelled_caught
        assert anyio.current_time() - began <= 15


# --- time, files, arguments -------------------------------------------------------------------------------------------


async def test_an_item_that_takes_too_long_is_a_value_with_its_id() -> None:
    """A timeout of one item: its outcome has the error and the pending generation, the others are done."""
    async with rich().client() as nb:
        clip, text = sorted(
            await run(nb, [GenerationRequest("kling-v2.1", "x"), HELLO], timeout=20), key=lambda outcome: outcome.index
        )
    assert isinstance(clip.error, GenerationTimeoutError)
    assert clip.generation is not None
    assert (clip.generation.status, clip.error.generation_id) == ("pending", clip.generation.id)
    assert text.error is None


async def test_looks_that_are_refused_keep_the_generation() -> None:
    """An outcome whose look failed still has the id of what was accepted, and its error does not say "no"."""
    sandbox = rich()
    sandbox.order(faults.status(403), on="GET /generate/{id}")
    async with sandbox.client() as nb:
        (outcome,) = await run(nb, [GenerationRequest("kling-v2.1", "x")])
    assert isinstance(outcome.error, PermissionDeniedError)
    assert outcome.generation is not None
    assert outcome.error.billed == "unknown"


async def test_an_item_s_time_is_one_total_from_its_post_on(tmp_path: Path) -> None:
    """The answer took 15 s of 20, so 5 s are left to wait; what it took to get a turn does not count."""
    models = {"clip": Model(slug="clip", kind="video", tokens=(1, 1), seconds=(12, 12))}
    sandbox = rich(models=models)
    sandbox.order(faults.delay(15), times=2)
    requests = [GenerationRequest("clip", f"{number}") for number in range(2)]
    async with sandbox.client() as nb:
        first, second = await run(nb, requests, timeout=20, max_concurrency=1, download_to=tmp_path)
        assert (first.error, second.error) == (None, None)
        sandbox.order(faults.delay(15))
        sandbox.order(faults.delay(15), on="GET /generate/{id}", times=None)
        began = anyio.current_time()
        (late,) = await run(nb, requests[:1], timeout=20)
    assert isinstance(late.error, GenerationTimeoutError)
    assert anyio.current_time() - began == pytest.approx(20, abs=0.5)


async def test_results_are_saved_under_key_or_id(tmp_path: Path) -> None:
    """Each result is a file named after its key, or its id; folders are made, and names are safe."""
    requests = [
        GenerationRequest("gpt-5", "Hello", key="text"),
        GenerationRequest("dall-e-3", "A shop", key="a/b ёж"),
        GenerationRequest("openai-tts", "Hello"),
        GenerationRequest("kling-v2.1", "forbidden", key="none"),
    ]
    async with rich().client() as nb:
        outcomes = {outcome.index: outcome for outcome in await run(nb, requests, download_to=tmp_path / "new" / "out")}
    folder = tmp_path / "new" / "out"
    assert outcomes[0].path == folder / "text.txt"
    assert outcomes[1].path is not None
    assert outcomes[1].path.name.startswith("a_b_-")
    assert outcomes[1].path.suffix == ".png"
    assert outcomes[2].generation is not None
    assert outcomes[2].path == folder / f"{outcomes[2].generation.id}.wav"
    assert (outcomes[3].path, type(outcomes[3].error)) == (None, GenerationFailedError)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        outcome.path.name for outcome in outcomes.values() if outcome.path
    )


@pytest.mark.parametrize("fault", [faults.cut_in_body(), faults.status(502), faults.refuse()])
async def test_a_download_that_fails_in_passing_is_repeated(fault: Any, tmp_path: Path) -> None:
    """A cut file is fetched again, the generation is not."""
    sandbox = rich()
    sandbox.order(fault, on="GET /generations/{name}", times=2)
    async with sandbox.client() as nb:
        (outcome,) = await run(nb, [GenerationRequest("dall-e-3", "A shop")], download_to=tmp_path)
    assert outcome.path is not None
    assert outcome.path.read_bytes().startswith(b"\x89PNG")
    assert len(sandbox.charges) == 1


async def test_a_file_that_cannot_be_had_is_a_value_with_its_generation(tmp_path: Path) -> None:
    """An expired file, and a disk that refuses: the generation is there, the path is not."""
    for kind in (NotFoundError, OSError):
        sandbox = rich()
        sandbox.order(faults.status(404), on="GET /generations/{name}", times=None)
        request = GenerationRequest("dall-e-3" if kind is NotFoundError else "gpt-5", "A shop", key="name")
        async with sandbox.client() as nb:
            run_of_one = nb.generate_many([request], download_to=tmp_path)
            (tmp_path / "name.txt").mkdir(exist_ok=True)
            async with run_of_one as outcomes:
                (outcome,) = [outcome async for outcome in outcomes]
        assert isinstance(outcome.error, kind)
        assert outcome.path is None
        assert outcome.generation is not None
        assert outcome.generation.done
        if isinstance(outcome.error, NotFoundError):
            assert (outcome.error.billed, outcome.error.generation_id) == ("yes", outcome.generation.id)


async def test_a_folder_that_cannot_be_used_is_refused_before_anything_is_paid_for(tmp_path: Path) -> None:
    """A run that could save nothing does not begin."""
    (tmp_path / "in the way").write_text("x")
    sandbox = rich()
    async with sandbox.client() as nb:
        with pytest.raises(UsageError, match="in the way"):
            nb.generate_many([HELLO], download_to=tmp_path / "in the way")
    assert sandbox.requests.total == 0


async def test_a_service_that_is_not_there_is_said_by_each_item() -> None:
    """Refused connections: after the retries each item says so, and that nothing was spent."""
    sandbox = rich()
    sandbox.order(faults.refuse(), times=None)
    async with sandbox.client() as nb:
        outcomes = await run(nb, [HELLO] * 5)
    assert [type(outcome.error) for outcome in outcomes] == [APIConnectionError] * 5
    assert sandbox.booked == 0


@pytest.mark.parametrize(
    "options",
    [
        {"max_concurrency": 0},
        {"max_concurrency": -1},
        {"max_concurrency": 2.5},
        {"timeout": 0},
        {"settle": -1},
        {"budget": "5"},
    ],
)
async def test_an_option_that_cannot_work_is_refused(options: dict[str, Any]) -> None:
    """Wrong options are errors where they are passed, before any request."""
    sandbox = rich()
    async with sandbox.client() as nb:
        with pytest.raises(UsageError, match=next(iter(options))):
            nb.generate_many([HELLO], **options)
    assert sandbox.requests.total == 0


@pytest.mark.parametrize("requests", ["prompts.txt", b"prompts.txt", 5, None])
async def test_what_is_no_batch_is_refused(requests: Any) -> None:
    """The name of a file is not taken for a batch of its letters."""
    async with rich().client() as nb:
        with pytest.raises(UsageError, match="iterable of GenerationRequests"):
            nb.generate_many(requests)


async def test_a_batch_begun_together_takes_fewer_looks_than_a_loop() -> None:
    """300 clips at once: the quick ones do not make the client look at the others all the time."""
    sandbox = Sandbox(plan="elite", balance=1_000_000)
    requests = (GenerationRequest("kling-v2.1", f"{n}") for n in range(300))
    async with (
        sandbox.client(max_connections=600) as nb,
        nb.generate_many(requests, max_concurrency=300) as outcomes,
    ):
        async for _ in outcomes:
            pass
    loop = sum(math.ceil((job.due - job.created) / 5) for job in sandbox.world.jobs.values())
    assert sandbox.requests.looks < 0.7 * loop


async def test_a_wrong_key_ends_a_run_whose_input_is_silent() -> None:
    """The run does not wait for the next item to say that no item can succeed."""
    sandbox = Sandbox()
    sandbox.order(faults.status(401, "not_authenticated"))

    async def requests() -> AsyncIterator[GenerationRequest]:
        yield HELLO
        await anyio.sleep_forever()

    found: list[Outcome] = []
    async with sandbox.client() as nb, nb.generate_many(requests()) as outcomes:
        with pytest.raises(AuthenticationError):
            await take(outcomes, found)
    assert [type(outcome.error) for outcome in found] == [AuthenticationError]


async def test_a_wrong_key_at_the_last_item_is_raised_too() -> None:
    """An input that ends with the item that ends the run makes no difference."""
    sandbox = Sandbox()
    sandbox.order(faults.status(401, "not_authenticated"))
    async with sandbox.client() as nb, nb.generate_many([HELLO]) as outcomes:
        with pytest.raises(AuthenticationError):
            await take(outcomes, [])


async def test_outcomes_end_with_their_block() -> None:
    """Iterating after the block finds nothing more, and does not fail."""
    async with Sandbox().client() as nb:
        async with nb.generate_many([HELLO]) as outcomes:
            pass
        assert [outcome async for outcome in outcomes] == []


async def test_what_was_pulled_goes_on_when_the_input_raises() -> None:
    """Items that still wait for the plan's window are submitted although the input broke off behind them."""

    def lines() -> Iterator[GenerationRequest]:
        yield HELLO
        yield HELLO
        raise ValueError("line 3 is broken")

    rate = Rate()
    rate.pause(5, now=anyio.current_time())
    taken: list[Outcome] = []
    async with rich().client(rate=rate) as nb, nb.generate_many(lines()) as outcomes:
        with pytest.raises(ValueError, match="line 3"):
            await take(outcomes, taken)
    assert [outcome.error for outcome in taken] == [None, None]


# --- nothing paid is lost silently ----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["gpt-5", "kling-v2.1"])
async def test_what_nobody_took_is_told(model: str) -> None:
    """Left after the first outcome, a run tells an Abandoned event for everything else that may cost tokens."""
    sandbox = rich()
    events: list[Event] = []
    requests = (GenerationRequest(model, f"{number}") for number in itertools.count())
    async with (
        sandbox.client(observe=events.append) as nb,
        nb.generate_many(requests, max_concurrency=10) as outcomes,
    ):
        first = await anext(outcomes)
        await anyio.sleep(100)
    abandoned = [event.generation for event in events if isinstance(event, Abandoned)]
    assert first.generation is not None
    assert None not in abandoned
    known = {str(each.id) for each in abandoned if each is not None} | {str(first.generation.id)}
    assert known == set(sandbox.world.jobs)


@pytest.mark.parametrize("hops", range(8))
async def test_a_cancelled_reader_loses_no_outcome(hops: int) -> None:
    """However a result and the cancellation of its reader meet, the next reader gets it."""
    done = anyio.Event()

    async def work(item: int) -> int:
        await done.wait()
        return item

    taken = []

    async def read() -> None:
        taken.append(await anext(results))

    async with fan_out([0, 1], work, limit=1) as results:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            done.set()
            for _ in range(hops):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        taken += [result async for result in results]
    assert taken == [0, 1]


async def test_a_service_that_says_again_in_no_time_is_asked_ever_less() -> None:
    """429s that ask for 0 seconds do not become a loop: an hour of them is a few posts a minute at most."""
    sandbox = rich()
    sandbox.order(faults.rate_limited(0), times=None)
    async with sandbox.client() as nb, nb.generate_many([HELLO] * 3) as outcomes:
        with anyio.move_on_after(3600):
            await take(outcomes, [])
    assert sandbox.requests.posts < 60 * 3 + 60


async def test_a_run_without_its_block_says_what_to_write() -> None:
    """Iterated or awaited without `async with`, a run says how to write it, and has sent nothing."""
    sandbox = rich()
    async with sandbox.client() as nb:
        outcomes: Any = nb.generate_many([HELLO])
        with pytest.raises(UsageError, match=r"`async with nb\.generate_many\(…\) as outcomes:`"):
            [outcome async for outcome in outcomes]
        with pytest.raises(UsageError, match="async with"):
            await outcomes
    assert not sandbox.charges


async def test_a_run_is_entered_once() -> None:
    """The same run entered again is an error of ours: it would cost tokens each time."""
    async with rich().client() as nb:
        run_once = nb.generate_many([HELLO])
        async with run_once as outcomes:
            assert len([outcome async for outcome in outcomes]) == 1
        with pytest.raises(UsageError, match="entered once"):
            await run_once.__aenter__()

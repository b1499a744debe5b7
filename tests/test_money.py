"""Where money could slip between two parts of the package: budgets, doubts and ledgers that meet in one client."""

import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from neuralbox_async import (
    APIConnectionError,
    APITimeoutError,
    AsyncNeuralBox,
    Budget,
    BudgetExceededError,
    GenerationFailedError,
    GenerationRequest,
    NeuralBoxError,
    OutcomeUnknownError,
    UsageError,
)
from neuralbox_async._spending import Prices
from neuralbox_async.sandbox import Sandbox, faults

pytestmark = pytest.mark.anyio
PRICE = "POST /models/{slug}/calculate-price"
CLIP = GenerationRequest("luma-ray2-flash", "A flower", key="clip")  # 15 tokens in the sandbox


def rich(**options: Any) -> Sandbox:
    """Return a sandbox with no limits but those asked for."""
    return Sandbox(**{"plan": "elite", "balance": 1_000_000, **options})


async def test_a_found_generation_is_settled_once() -> None:
    """The history shows it completed; its price is not given back twice."""
    sandbox, budget = rich(), Budget(100)
    sandbox.order(faults.lost())
    async with sandbox.client() as nb, nb.generate_many([GenerationRequest("gpt-5", "Hi")], budget=budget) as outcomes:
        (outcome,) = [each async for each in outcomes]
    assert outcome.error is None
    assert (budget.reserved, budget.spent) == (0, 2)


def two_forms(request: httpx.Request) -> httpx.Response:
    """Answer a POST with an id as a text and a look with the same as a number."""
    if request.url.path.endswith("/calculate-price"):
        return httpx.Response(200, json={"token_cost": 15})
    if request.method == "POST":
        return httpx.Response(200, json={"id": "18500", "status": "pending"})
    return httpx.Response(200, json={"id": 18500, "status": "completed", "result_text": "", "tokens_spent": 12})


async def test_a_price_is_settled_in_whatever_form_the_id_is_told() -> None:
    """What was set aside for "18500" has become what 18500 cost."""
    budget, wire = Budget(100), httpx.AsyncClient(transport=httpx.MockTransport(two_forms))
    async with wire, AsyncNeuralBox("nb_test_key", http_client=wire, budget=budget) as nb:
        await nb.generate("luma-ray2-flash", "A flower")
    assert (budget.reserved, budget.spent) == (0, 12)


async def test_two_posts_that_led_to_one_generation_give_both_prices_back() -> None:
    """A service that knows a request again answers both with one id: it costs once, and nothing stays set aside."""
    budget, wire = Budget(100), httpx.AsyncClient(transport=httpx.MockTransport(two_forms))
    async with wire, AsyncNeuralBox("nb_test_key", http_client=wire, budget=budget) as nb:
        clips = [await nb.submit("luma-ray2-flash", "A flower") for _ in range(2)]
        assert (budget.reserved, budget.spent) == (30, 0)
        await nb.wait(clips[0])
    assert (budget.reserved, budget.spent) == (0, 12)


async def test_one_budget_of_client_and_run_counts_once() -> None:
    """Handed to both, it is still one budget."""
    sandbox, budget = rich(), Budget(15)
    async with sandbox.client(budget=budget) as nb, nb.generate_many([CLIP], budget=budget) as outcomes:
        (outcome,) = [each async for each in outcomes]
    assert outcome.error is None
    assert (budget.reserved, budget.spent) == (0, 15)


async def test_what_a_run_has_claimed_and_not_written_is_found_by_the_next(tmp_path: Path) -> None:
    """It was left between the two: the same client, on the same ledger, finds it still."""
    sandbox = rich(history_lag=2.4)
    sandbox.order(faults.lost(), times=2)

    async def one_after_the_other() -> AsyncIterator[GenerationRequest]:
        for key in ("first", "second"):
            yield GenerationRequest("kling-v2.1", key, key=key)
            await anyio.sleep(0.5)

    options: dict[str, Any] = {"ledger": tmp_path / "run.db", "settle": 20.0}
    async with sandbox.client() as nb:
        async with nb.generate_many(one_after_the_other(), **options):
            await anyio.sleep(3.2)  # at 3 s the first reads the history for both, at 3.5 s the second would hear of it
        async with nb.generate_many([], **options) as outcomes:
            found = {each.key: each.error async for each in outcomes}
    assert found == {"first": None, "second": None}


async def test_the_doubts_of_one_run_are_not_those_of_another() -> None:
    """Two runs in memory at once lose the answer of the same request: each finds a generation of its own."""
    sandbox, found = rich(), set[int | str]()
    sandbox.order(faults.lost(), times=2)

    async def run() -> None:
        async with nb.generate_many([CLIP]) as outcomes:
            found.update([each.generation.id async for each in outcomes if each.generation])

    async with sandbox.client() as nb, anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        tasks.start_soon(run)
    assert len(found) == sandbox.booked == 2


async def test_those_who_begin_together_ask_for_one_price() -> None:
    """On a small plan each request counts."""
    sandbox, many = rich(), [GenerationRequest("gpt-5", f"text {number}") for number in range(20)]
    async with sandbox.client() as nb, nb.generate_many(many, budget=1_000) as outcomes:
        assert [each.error async for each in outcomes] == [None] * 20
    assert sandbox.requests.of("POST", PRICE.removeprefix("POST ")) == 1


async def test_prices_do_not_fill_the_memory() -> None:
    """Of more kinds of requests than are remembered the oldest is forgotten, and asked for again."""
    sandbox, prices = rich(), Prices(most=2)
    many = [GenerationRequest("kling-v2.1", "A flower", {"duration": seconds}) for seconds in (5, 10)]
    async with sandbox.client() as nb:

        async def asked_for(request: GenerationRequest) -> int:
            before = sandbox.requests.of("POST", PRICE.removeprefix("POST "))
            await prices.of(request, nb._steps.http, deadline=math.inf)  # noqa: SLF001 - no option makes it forget
            return sandbox.requests.of("POST", PRICE.removeprefix("POST ")) - before

        assert [await asked_for(each) for each in [*many, CLIP, many[1], CLIP, many[0]]] == [1, 1, 1, 0, 0, 1]


async def test_those_who_share_a_price_do_not_share_a_failure() -> None:
    """One has no time to wait for it: the other asks by itself."""
    sandbox = rich()
    sandbox.order(faults.hang(), on=PRICE)
    async with sandbox.client(budget=100) as nb:

        async def hasty() -> None:
            with pytest.raises(APITimeoutError):
                await nb.submit("luma-ray2-flash", "A flower", timeout=3)
            assert anyio.current_time() - began == pytest.approx(3)

        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hasty)
            await anyio.sleep(1)
            await nb.submit("luma-ray2-flash", "A flower")
    assert sandbox.booked == 1


async def test_a_price_waits_for_the_plan_s_window() -> None:
    """Used-up requests say nothing of what a model costs."""
    sandbox = rich()
    sandbox.order(faults.rate_limited(100), on=PRICE)
    async with sandbox.client(budget=100) as nb:
        await nb.submit("luma-ray2-flash", "A flower")
    assert sandbox.booked == 1


async def test_a_service_that_is_away_is_said_as_such() -> None:
    """That no price comes is no matter of the budget, and passes."""
    sandbox = rich()
    sandbox.order(faults.refuse(), on=faults.EVERYTHING, times=None)
    async with sandbox.client(budget=100) as nb:
        with pytest.raises(APIConnectionError) as caught:
            await nb.submit("luma-ray2-flash", "A flower")
    assert caught.value.retryable


async def test_a_budget_holds_for_streams() -> None:
    """The price is set aside before the POST leaves, and what the stream's end tells takes its place."""
    sandbox, budget = rich(), Budget(3)
    async with sandbox.client(budget=budget) as nb:
        async with nb.stream("gpt-5", "Hello") as stream:
            assert (budget.reserved, budget.spent) == (2, 0)
            await stream.until_done()
            assert (budget.reserved, budget.spent) == (0, 2)
        with pytest.raises(BudgetExceededError, match="1 left"):
            await nb.stream("gpt-5", "Hello").__aenter__()
    assert sandbox.booked == 1


async def test_a_stream_that_is_left_stays_set_aside_until_a_look() -> None:
    """Nobody knows yet what it will have cost."""
    sandbox, budget = rich(), Budget(100)
    async with sandbox.client(budget=budget) as nb:
        async with nb.stream("gpt-5", "Hello") as stream:
            await anext(stream)
        assert (budget.reserved, budget.spent) == (2, 0)
        await nb.wait(stream.generation)
        assert (budget.reserved, budget.spent) == (0, 2)


@pytest.mark.parametrize(("fault", "reserved"), [(faults.lost(), 2), (faults.status(422), 0)], ids=["lost", "refused"])
async def test_a_stream_that_did_not_begin_keeps_what_it_may_cost(fault: faults.Fault, reserved: int) -> None:
    """In doubt it stays set aside; refused it comes back."""
    sandbox, budget = rich(), Budget(100)
    sandbox.order(fault, on="POST /generate/stream")
    async with sandbox.client(budget=budget) as nb:
        with pytest.raises(NeuralBoxError):
            await nb.stream("gpt-5", "Hello").__aenter__()
    assert (budget.reserved, budget.spent) == (reserved, 0)


async def test_a_failed_stream_stays_set_aside_until_a_look() -> None:
    """Whether the words that came before are charged is not documented."""
    sandbox, budget = rich(), Budget(100)
    async with sandbox.client(budget=budget) as nb, nb.stream("gpt-5", "Forbidden") as stream:
        with pytest.raises(GenerationFailedError) as caught:
            await stream.until_done()
        assert (caught.value.billed, budget.reserved) == ("unknown", 2)
        assert (await nb.get(stream.generation)).failed
        assert (budget.reserved, budget.spent) == (0, 0)


async def test_a_budget_holds_for_speech() -> None:
    """The same rule again."""
    sandbox, budget = rich(), Budget(3)
    async with sandbox.client(budget=budget) as nb:
        await nb.transcribe(b"RIFF", filename="speech.wav")
        assert (budget.reserved, budget.spent) == (0, 2)
        with pytest.raises(BudgetExceededError, match="1 left"):
            await nb.transcribe(b"RIFF", filename="speech.wav")
    assert sandbox.booked == 1


async def test_a_stream_is_opened_once() -> None:
    """Opened again it would cost again, and give nothing."""
    sandbox = rich()
    async with sandbox.client() as nb:
        stream = nb.stream("gpt-5", "Hello")
        async with stream:
            await stream.until_done()
        with pytest.raises(UsageError, match="opened once"):
            await stream.__aenter__()
    assert sandbox.booked == 1


async def test_a_lost_stream_can_be_reconciled() -> None:
    """The history shows the message that it was asked with."""
    sandbox = rich()
    sandbox.order(faults.lost(), on="POST /generate/stream")
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
    async with sandbox.client() as nb:
        with pytest.raises(OutcomeUnknownError) as caught:
            await nb.stream("gpt-5", "Hello", messages=messages).__aenter__()
        found = await nb.reconcile(caught.value)
    assert found is not None
    assert [job.id for job in sandbox.world.jobs.values()] == [found.id]


async def test_what_was_made_elsewhere_before_is_not_taken_for_a_lost_one() -> None:
    """The client knows no id newer than one of long ago; the bot has made the same clip since then, an hour before."""
    sandbox = rich()
    old = sandbox.book(CLIP.model, "An older one")
    async with sandbox.client() as nb:
        await nb.get(old)
        sandbox.fast_forward(60)
        foreign = sandbox.book(CLIP.model, CLIP.prompt)
        sandbox.fast_forward(3600)
        sandbox.order(faults.lost())
        with pytest.raises(OutcomeUnknownError) as caught:
            await nb.generate(CLIP.model, CLIP.prompt)
        found = await nb.reconcile(caught.value)
    assert found is not None
    assert found.id not in (old, foreign)


@pytest.mark.parametrize("status", [None, "completed"], ids=["unreadable", "readable"])
async def test_an_entry_that_cannot_be_read_is_no_proof_of_absence(status: str | None) -> None:
    """The history has something, and nobody knows what; only what is known to be another's proves anything."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            raise httpx.ReadError("cut")
        entry = {"id": 18500, "status": status, "model_slug": "gpt-5", "prompt": "A tree"}
        return httpx.Response(200, json={"items": [entry], "total": 1})

    wire = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    async with wire, AsyncNeuralBox("nb_test_key", http_client=wire) as nb:
        with pytest.raises(OutcomeUnknownError) as caught:
            await nb.generate(CLIP.model, CLIP.prompt)
        if status is None:
            with pytest.raises(OutcomeUnknownError, match="does not tell"):
                await nb.reconcile(caught.value, settle=1)
        else:
            assert await nb.reconcile(caught.value, settle=1) is None


@pytest.mark.parametrize("named", [faults.lost(), faults.cut()], ids=["booked", "not booked"])
async def test_a_lost_transcription_is_not_called_absent(named: faults.Fault) -> None:
    """Something newer was heard with that model, and a recording has no prompt to tell them apart by."""
    sandbox = rich()
    async with sandbox.client() as nb:
        await nb.balance()
        sandbox.order(named, on="POST /stt")
        with pytest.raises(OutcomeUnknownError) as caught:
            await nb.transcribe(b"RIFF", filename="speech.wav")
        async with sandbox.client() as website:
            await website.transcribe(b"RIFF", filename="website.ogg")
        if named == faults.cut():
            with pytest.raises(OutcomeUnknownError, match="does not tell"):
                await nb.reconcile(caught.value)
        else:
            assert await nb.reconcile(caught.value) is not None


async def test_what_costs_nothing_cannot_be_reconciled() -> None:
    """No generation came of a new key: the error says where to look instead."""
    sandbox = rich()
    sandbox.order(faults.lost(), on="POST /keys")
    async with sandbox.client() as nb:
        with pytest.raises(OutcomeUnknownError) as caught:
            await nb.create_key("spare")
        assert (caught.value.billed, caught.value.request) == ("no", None)
        with pytest.raises(UsageError, match="profile"):
            await nb.reconcile(caught.value)


@pytest.mark.parametrize(("fault", "spent"), [(faults.lost(), 2), (faults.cut(), 0)], ids=["booked", "not booked"])
async def test_what_is_reconciled_is_settled(fault: faults.Fault, spent: int) -> None:
    """What the history shows takes the place of the price that was set aside; nothing costs nothing."""
    sandbox, budget = rich(), Budget(100)
    sandbox.order(fault)
    async with sandbox.client(budget=budget) as nb:
        with pytest.raises(OutcomeUnknownError) as caught:
            await nb.generate("gpt-5", "Hello")
        assert (budget.reserved, budget.spent) == (2, 0)
        for _ in range(2):
            await nb.reconcile(caught.value)
            assert (budget.reserved, budget.spent) == (0, spent)


async def test_what_a_run_in_memory_left_in_doubt_can_be_reconciled() -> None:
    """Two equal items sent at the same instant get a generation each, and the budget hears of both."""
    sandbox, budget = rich(history_lag=100), Budget(100)
    sandbox.order(faults.lost(), times=2)
    async with sandbox.client() as nb:
        twins = [GenerationRequest("gpt-5", "Hello")] * 2
        async with nb.generate_many(twins, budget=budget, settle=5) as outcomes:
            errors = [each.error async for each in outcomes]
        assert (budget.reserved, budget.spent) == (4, 0)
        await anyio.sleep(100)
        found = [await nb.reconcile(error) for error in errors if isinstance(error, OutcomeUnknownError)]
    assert {each.id for each in found if each} == {job.id for job in sandbox.world.jobs.values()}
    assert (len(found), budget.reserved, budget.spent) == (2, 0, 4)


async def test_what_was_waited_for_after_leaving_a_run_is_settled_once(tmp_path: Path) -> None:
    """The run's ledger knows nothing of it; a budget of another process hears of it from the ledger."""
    sandbox, path, budget, fresh = rich(), tmp_path / "run.db", Budget(100), Budget(100)
    async with sandbox.client() as nb:
        async with nb.generate_many([CLIP], ledger=path, budget=budget):
            await anyio.sleep(2)
        await nb.wait(18500)
        for each in (budget, fresh):
            async with nb.generate_many([CLIP], ledger=path, budget=each) as outcomes:
                assert [outcome.error async for outcome in outcomes] == [None]
            assert (each.reserved, each.spent) == (0, 15)


async def test_whoever_sees_the_end_settles_a_shared_budget() -> None:
    """One client submits, and another one, which has the same budget, waits."""
    sandbox, budget = rich(), Budget(100)
    async with sandbox.client(budget=budget) as one, sandbox.client(budget=budget) as other:
        clip = await one.submit(CLIP.model, CLIP.prompt)
        assert (budget.reserved, budget.spent) == (15, 0)
        await other.wait(clip.id)
        assert (budget.reserved, budget.spent) == (0, 15)
        await one.wait(clip.id)
    assert (budget.reserved, budget.spent) == (0, 15)


async def test_what_one_client_has_settled_another_s_run_does_not_settle_again(tmp_path: Path) -> None:
    """The first has seen what it cost before its ledger knew; a client of its own goes on with the run."""
    sandbox, budget = rich(), Budget(100)
    async with sandbox.client() as nb:
        async with nb.generate_many([CLIP], ledger=tmp_path / "run.db", budget=budget):
            await anyio.sleep(3)
        await nb.wait(18500)
    async with sandbox.client() as nb, nb.generate_many([CLIP], ledger=tmp_path / "run.db", budget=budget) as outcomes:
        assert [each.error async for each in outcomes] == [None]
    assert (budget.reserved, budget.spent) == (0, 15)


async def test_two_services_with_equal_ids_share_a_budget() -> None:
    """The end of one's generation says nothing of the other's."""
    budget = Budget(100)
    here, there = rich(), rich()
    async with (
        here.client(budget=budget) as one,
        there.client(budget=budget, base_url="https://there.test/api/v2") as two,
    ):
        clip = await one.submit(CLIP.model, CLIP.prompt)
        text = await two.generate("gpt-5", "Hello")
        assert clip.id == text.id
        assert (budget.reserved, budget.spent) == (15, 2)

"""Bulk runs with a ledger, told as stories on the sandbox: whoever runs again goes on where the last one was."""

import math
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from attrs import evolve

from neuralbox_async import (
    Abandoned,
    AsyncNeuralBox,
    Budget,
    BudgetExceededError,
    Event,
    GenerationFailedError,
    GenerationRequest,
    InsufficientTokensError,
    Ledger,
    LedgerError,
    NotFoundError,
    Outcome,
    OutcomeUnknownError,
    Requested,
    Surplus,
    UnprocessableEntityError,
    UsageError,
)
from neuralbox_async._bulk import Run
from neuralbox_async._core.rows import row_key
from neuralbox_async._edge.database import open_to_write
from neuralbox_async._edge.ledger import LedgerWriter, inline
from neuralbox_async._edge.ledger_table import MIGRATIONS
from neuralbox_async._life import Wishes
from neuralbox_async.sandbox import Sandbox, faults, http_client

pytestmark = pytest.mark.anyio

CLIPS = [GenerationRequest("luma-ray2-flash", f"clip {number}", key=f"clip-{number}") for number in range(6)]


def rich(**options: Any) -> Sandbox:
    """Return a sandbox with no limits but those asked for."""
    return Sandbox(**{"plan": "elite", "balance": 1_000_000, **options})


async def run(sandbox: Sandbox, requests: Sequence[GenerationRequest], path: Path, **options: Any) -> list[Outcome]:
    """Take all outcomes of a run by a client of its own, in the input's order."""
    async with sandbox.client() as nb, nb.generate_many(requests, ledger=path, **options) as outcomes:
        return sorted([outcome async for outcome in outcomes], key=lambda outcome: outcome.index)


async def leave_after(sandbox: Sandbox, seconds: float, path: Path, **options: Any) -> None:
    """Begin a run and leave it."""
    async with sandbox.client() as nb, nb.generate_many(CLIPS, ledger=path, **options):
        await anyio.sleep(seconds)


async def test_the_same_run_again_costs_nothing_and_gives_the_same(tmp_path: Path) -> None:
    """What is finished comes out as it was, from the ledger alone."""
    sandbox, path = rich(), tmp_path / "run.db"
    first = await run(sandbox, CLIPS, path, download_to=tmp_path)
    asked = sandbox.requests.total
    again = await run(sandbox, CLIPS, path, download_to=tmp_path)
    assert [(each.key, each.path, each.error) for each in again] == [(each.key, each.path, None) for each in first]
    assert [each.generation and each.generation.url for each in again] == [
        each.generation and each.generation.url for each in first
    ]
    assert sandbox.requests.total == asked
    assert len(sandbox.charges) == len(CLIPS)


async def test_a_run_that_was_left_goes_on(tmp_path: Path) -> None:
    """What was accepted is looked at, what was not begun is sent: six charges in two runs."""
    sandbox, path = rich(), tmp_path / "run.db"
    await leave_after(sandbox, 3, path, max_concurrency=3)
    with Ledger(path) as ledger:
        assert ledger.summary().counts["accepted"] == 3
    outcomes = await run(sandbox, CLIPS, path)
    assert [each.error for each in outcomes] == [None] * 6
    assert sandbox.booked == len(sandbox.charges) == 6


async def test_what_the_input_does_not_name_again_comes_last(tmp_path: Path) -> None:
    """Nothing that an earlier input has begun is forgotten, and its tag comes from the ledger."""
    sandbox, path = rich(), tmp_path / "run.db"
    asked = [GenerationRequest("kling-v2.1", "old", tag={"line": 7})]
    async with sandbox.client() as nb, nb.generate_many(asked, ledger=path):
        await anyio.sleep(1)
    async with sandbox.client() as nb, nb.generate_many([], ledger=path) as outcomes:
        (outcome,) = [each async for each in outcomes]
    assert (outcome.request.prompt, outcome.request.tag, outcome.error) == ("old", {"line": 7}, None)
    assert outcome.generation is not None
    assert sandbox.booked == 1


async def test_equal_requests_without_keys_are_told_apart_by_their_order(tmp_path: Path) -> None:
    """Three times the same prompt are three generations, in the second run too."""
    sandbox, path = rich(), tmp_path / "run.db"
    same = [GenerationRequest("gpt-5-nano", "A haiku")] * 3
    first = await run(sandbox, same, path)
    again = await run(sandbox, [*same, same[0]], path)
    assert len({each.key for each in again}) == 4
    assert [each.key for each in again[:3]] == [each.key for each in first]
    assert len(sandbox.charges) == 4


async def test_a_changed_request_under_an_old_key_is_an_error(tmp_path: Path) -> None:
    """An answer to another question must not be taken for this one's."""
    sandbox, path = rich(), tmp_path / "run.db"
    await run(sandbox, CLIPS[:1], path)
    (outcome,) = await run(sandbox, [GenerationRequest("luma-ray2-flash", "another", key="clip-0")], path)
    assert isinstance(outcome.error, UsageError)
    assert "clip-0" in str(outcome.error)
    assert sandbox.booked == 1


async def test_what_a_changed_request_has_begun_under_its_key_is_finished(tmp_path: Path) -> None:
    """The line was edited while its clip was being made: that is paid for, so it comes last, as it was asked for."""
    sandbox, path = rich(), tmp_path / "run.db"
    async with sandbox.client() as nb, nb.generate_many(CLIPS[:1], ledger=path):
        await anyio.sleep(3)
    changed, begun = await run(sandbox, [evolve(CLIPS[0], prompt="another")], path)
    assert isinstance(changed.error, UsageError)
    assert (begun.request, begun.error, sandbox.booked) == (CLIPS[0], None, 1)


async def test_what_was_changed_before_it_was_sent_is_not_sent_as_it_was(tmp_path: Path) -> None:
    """Nobody wants to pay for a prompt that he has mended."""
    sandbox, path = rich(), tmp_path / "run.db"
    sandbox.order(faults.status(402, "insufficient_tokens"))
    with pytest.raises(InsufficientTokensError):
        await run(sandbox, CLIPS[:1], path)
    (changed,) = await run(sandbox, [evolve(CLIPS[0], prompt="another")], path)
    assert isinstance(changed.error, UsageError)
    assert sandbox.booked == 0


@pytest.mark.parametrize("step", [1, -1])
async def test_an_item_may_be_named_by_the_key_that_it_was_given(tmp_path: Path, step: int) -> None:
    """Whoever feeds a run with what `export` says of it has the same items, each once."""
    sandbox, path = rich(), tmp_path / "run.db"
    plain = evolve(CLIPS[0], key=None)
    named = evolve(plain, key=row_key(plain, 0))
    first, second = [plain, named][::step]
    async with sandbox.client() as nb, nb.generate_many([first], ledger=path):
        await anyio.sleep(3)
    (outcome,) = await run(sandbox, [second], path)
    assert (outcome.key, outcome.error, sandbox.booked) == (named.key, None, 1)
    _, twin = await run(sandbox, [first, second], path)
    assert isinstance(twin.error, UsageError)


@pytest.mark.parametrize("fault", [faults.status(422), faults.hang()], ids=["refused", "silent"])
async def test_what_was_accepted_before_may_be_charged_whatever_its_look_says(
    tmp_path: Path, fault: faults.Fault
) -> None:
    """A resumed run cannot look at it: that says nothing of the generation, which goes on."""
    sandbox, path = rich(), tmp_path / "run.db"
    await leave_after(sandbox, 2, path)
    sandbox.order(fault, on="GET /generate/{id}", times=None)
    outcomes = await run(sandbox, CLIPS, path, timeout=30)
    assert [each.error and getattr(each.error, "billed", None) for each in outcomes] == ["unknown"] * len(CLIPS)
    assert sandbox.booked == len(CLIPS)


async def test_a_lost_answer_is_found_in_the_history(tmp_path: Path) -> None:
    """The run reconciles by itself: one POST, one charge, and the result."""
    sandbox, path = rich(), tmp_path / "run.db"
    sandbox.order(faults.lost(), times=3)
    outcomes = await run(sandbox, CLIPS, path)
    assert [each.error for each in outcomes] == [None] * 6
    assert [each.generation and each.generation.prompt for each in outcomes] == [None] * 6
    assert sandbox.requests.posts == sandbox.booked == len(sandbox.charges) == 6


@pytest.mark.parametrize("lag", [0.0, 40.0, 200.0])
async def test_a_history_that_lags_is_waited_for(tmp_path: Path, lag: float) -> None:
    """Absence proves nothing before `settle` is over."""
    sandbox, path = rich(history_lag=lag), tmp_path / "run.db"
    sandbox.order(faults.lost())
    (outcome, *_) = await run(sandbox, CLIPS, path, settle=300)
    assert outcome.error is None
    assert sandbox.booked == len(sandbox.charges) == 6


async def test_what_was_never_booked_stays_in_doubt_by_default(tmp_path: Path) -> None:
    """The history is silent: the item says so honestly, in every run, and is not sent again."""
    sandbox, path = rich(), tmp_path / "run.db"
    sandbox.order(faults.cut())
    for _ in range(2):
        (outcome, *others) = await run(sandbox, CLIPS, path)
        assert isinstance(outcome.error, OutcomeUnknownError)
        assert outcome.error.billed == "unknown"
        assert [each.error for each in others] == [None] * 5
    assert sandbox.requests.posts == 6


async def test_what_was_never_booked_is_sent_again_if_asked_to(tmp_path: Path) -> None:
    """With `resubmit_absent` everything gets done, and is charged once."""
    sandbox, path = rich(), tmp_path / "run.db"
    sandbox.order(faults.cut(), times=2)
    outcomes = await run(sandbox, CLIPS, path, resubmit_absent=True)
    assert [each.error for each in outcomes] == [None] * 6
    assert (sandbox.requests.posts, len(sandbox.charges)) == (8, 6)


async def test_a_duplicate_of_the_infrastructure_is_told(tmp_path: Path) -> None:
    """Two were booked for one POST whose answer was lost: one is taken, the other is reported."""
    told: list[Event] = []
    sandbox, path = rich(), tmp_path / "run.db"
    sandbox.order(faults.Fault(books=2, connection=faults.lost().connection))
    async with sandbox.client(observe=told.append) as nb, nb.generate_many(CLIPS[:1], ledger=path) as outcomes:
        (outcome,) = [each async for each in outcomes]
    assert outcome.error is None
    (surplus,) = [event for event in told if isinstance(event, Surplus)]
    assert outcome.generation is not None
    assert {each.id for each in surplus.generations} | {outcome.generation.id} == {18500, 18501}


async def test_a_foreign_twin_from_before_is_not_taken(tmp_path: Path) -> None:
    """Somebody of the same account asked for the same earlier: its id is below the floor."""
    sandbox, path = rich(), tmp_path / "run.db"
    foreign = sandbox.book("luma-ray2-flash", "clip 0")
    async with sandbox.client() as nb:
        await nb.balance()
        sandbox.fast_forward(60)
        sandbox.order(faults.cut())
        async with nb.generate_many(CLIPS[:1], ledger=path) as outcomes:
            (outcome,) = [each async for each in outcomes]
    assert isinstance(outcome.error, OutcomeUnknownError)
    assert outcome.generation is None
    assert foreign == 18500


async def test_an_empty_balance_pauses_the_run_and_leaves_the_rest_planned(tmp_path: Path) -> None:
    """Top up and run again: nothing is paid twice, and nothing is lost."""
    sandbox, path = Sandbox(plan="elite", balance=40), tmp_path / "run.db"
    with pytest.raises(InsufficientTokensError):
        await run(sandbox, CLIPS, path, max_concurrency=1)
    with Ledger(path) as ledger:
        paid = len(sandbox.charges)
        assert 0 < paid == ledger.summary().counts["completed"] < 6
    sandbox.world.account.tokens += 1000
    outcomes = await run(sandbox, CLIPS, path)
    assert [each.error for each in outcomes] == [None] * 6
    assert len(sandbox.charges) == 6


async def test_failures_are_reported_again_and_not_repeated(tmp_path: Path) -> None:
    """What failed or was refused is final until somebody says otherwise."""
    sandbox, path = rich(), tmp_path / "run.db"
    requests = [GenerationRequest("kling-v2.1", "forbidden"), GenerationRequest("no-such-model", "x")]
    for _ in range(2):
        failed, refused = await run(sandbox, requests, path)
        assert isinstance(failed.error, GenerationFailedError)
        assert failed.generation is not None
        assert isinstance(refused.error, NotFoundError)
    assert sandbox.requests.posts == 2
    with Ledger(path) as ledger:
        assert ledger.retry_failed() == 2
    await run(sandbox, requests, path)
    assert sandbox.requests.posts == 4


async def test_a_file_that_vanished_is_downloaded_again(tmp_path: Path) -> None:
    """Downloads are part of the promise."""
    sandbox, path = rich(), tmp_path / "run.db"
    (outcome,) = await run(sandbox, CLIPS[:1], path, download_to=tmp_path)
    assert outcome.path is not None
    outcome.path.unlink()
    (again,) = await run(sandbox, CLIPS[:1], path, download_to=tmp_path)
    assert again.path is not None
    assert again.path.exists()
    assert sandbox.booked == 1


async def test_another_account_s_ledger_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    """Its ids would mean nothing there."""
    path = tmp_path / "run.db"
    await run(rich(), CLIPS[:1], path)
    other = rich(key="nb_sandbox_another_key_of_somebody_else_entirely")
    with pytest.raises(LedgerError, match="account"):
        await run(other, CLIPS, path)
    assert other.requests.total == 0


async def test_a_run_goes_on_with_a_new_key_of_the_account(tmp_path: Path) -> None:
    """The old one was revoked: a person says that the new one is the same account's, and nothing is sent again."""
    sandbox, path = rich(), tmp_path / "run.db"
    await run(sandbox, CLIPS[:1], path)
    async with sandbox.client() as nb:
        secret = (await nb.create_key("new")).secret.reveal()

    async def go_on() -> Outcome:
        renewed = AsyncNeuralBox(secret, base_url=sandbox.base_url, http_client=http_client(sandbox))
        async with renewed as nb, nb.generate_many(CLIPS[:1], ledger=path) as outcomes:
            return await anext(outcomes)

    with pytest.raises(LedgerError, match="accept_new_key"):
        await go_on()
    with Ledger(path) as ledger:
        ledger.accept_new_key()
    assert (await go_on()).error is None
    assert sandbox.booked == 1


async def test_two_runs_on_one_ledger_at_once_are_refused(tmp_path: Path) -> None:
    """One owner at a time."""
    sandbox, path = rich(), tmp_path / "run.db"
    async with sandbox.client() as nb, nb.generate_many(CLIPS, ledger=path):
        with pytest.raises(LedgerError, match="use"):
            await run(sandbox, CLIPS, path)


async def lost(nb: AsyncNeuralBox, prompt: str = "A flower") -> OutcomeUnknownError:
    """Submit a request whose answer gets lost."""
    with pytest.raises(OutcomeUnknownError) as caught:
        await nb.submit("kling-v2.1", prompt)
    return caught.value


@pytest.mark.parametrize("family", ["a", "b"])
async def test_a_single_lost_answer_can_be_reconciled(family: str) -> None:
    """The history shows it; asking twice gives the same."""
    sandbox = rich(family=family)
    sandbox.order(faults.lost())
    async with sandbox.client() as nb:
        await nb.balance()
        error = await lost(nb)
        found, again = [await nb.reconcile(error) for _ in range(2)]
        assert found is not None
        assert again is not None
        assert found.id == again.id == next(iter(sandbox.world.jobs.values())).id
        assert (await nb.wait(found)).url is not None
    assert sandbox.booked == 1


@pytest.mark.parametrize("family", ["a", "b"])
async def test_what_is_reconciled_lacks_nothing(family: str) -> None:
    """An entry of the history has no text in one family: what is completed is looked at once more."""
    sandbox = rich(family=family)
    sandbox.order(faults.lost())
    async with sandbox.client() as nb:
        with pytest.raises(OutcomeUnknownError) as caught:
            await nb.generate("gpt-5", "Hello")
        found = await nb.reconcile(caught.value)
        assert found is not None
        assert (found.status, found.partial, found.text) == ("completed", False, (await nb.get(found)).text)


@pytest.mark.parametrize("fault", [faults.status(404, "not_found"), faults.hang()], ids=["refused", "no answer"])
async def test_what_is_reconciled_is_found_even_if_it_cannot_be_looked_at(fault: faults.Fault) -> None:
    """The history has shown it: what goes wrong afterwards is no reason to say that nobody knows."""
    sandbox = rich()
    sandbox.order(faults.lost())
    sandbox.order(fault, on="GET /generate/{id}", times=None)
    async with sandbox.client() as nb:
        with pytest.raises(OutcomeUnknownError) as caught:
            await nb.generate("gpt-5", "Hello")
        for timeout in (None, 10):
            found = await nb.reconcile(caught.value, timeout=timeout)
            assert found is not None
            assert (found.id, found.partial) == (18500, True)


async def test_two_lost_twins_are_two_generations() -> None:
    """Equal requests get one entry each, also when they are reconciled one after the other."""
    sandbox = rich()
    sandbox.order(faults.lost(), times=2)
    async with sandbox.client() as nb:
        errors = [await lost(nb), await lost(nb)]
        found = [await nb.reconcile(error) for error in errors]
    assert {each.id for each in found if each} == {18500, 18501}


async def test_an_answered_twin_is_never_taken() -> None:
    """The generation of another answer of ours is ours, and not the lost one."""
    sandbox = rich()
    sandbox.order(faults.cut())
    async with sandbox.client() as nb:
        error = await lost(nb)
        answered = await nb.submit("kling-v2.1", "A flower")
        assert answered.id == 18500
        assert await nb.reconcile(error) is None


async def test_absence_takes_time_to_prove() -> None:
    """Before `settle` is over nobody knows, and a timeout says just that."""
    sandbox = rich(history_lag=math.inf)
    sandbox.order(faults.lost())
    async with sandbox.client() as nb:
        error = await lost(nb)
        with pytest.raises(OutcomeUnknownError):
            await nb.reconcile(error, timeout=10)
        began = anyio.current_time()
        assert await nb.reconcile(error, settle=100) is None
        assert anyio.current_time() - began > 80


async def test_a_budget_is_kept_to_the_token(tmp_path: Path) -> None:
    """What does not fit is not sent and stays planned; a larger budget goes on, and counts what was spent before."""
    sandbox, path = rich(), tmp_path / "run.db"
    price = 15  # the sandbox's luma-ray2-flash
    outcomes = await run(sandbox, CLIPS, path, budget=3 * price + 1)
    errors = [each.error for each in outcomes if each.error]
    assert [type(error) for error in errors] == [BudgetExceededError] * 3
    assert len(sandbox.charges) == sandbox.booked == 3
    again = await run(sandbox, CLIPS, path, budget=5 * price)
    assert sum(each.error is None for each in again) == sandbox.booked == 5
    with Ledger(path) as ledger:
        assert ledger.summary().counts["planned"] == 1
        assert ledger.summary().tokens_reserved == 0
        assert ledger.summary().tokens_spent == 5 * price


async def test_what_is_in_doubt_stays_set_aside(tmp_path: Path) -> None:
    """It may have been charged, in this run and in the next."""
    sandbox, path, budget = rich(history_lag=math.inf), tmp_path / "run.db", Budget(40)
    sandbox.order(faults.lost())
    (outcome,) = await run(sandbox, CLIPS[:1], path, budget=budget, settle=5)
    assert isinstance(outcome.error, OutcomeUnknownError)
    assert (budget.reserved, budget.spent) == (15, 0)
    again = Budget(40)
    outcomes = await run(sandbox, CLIPS[:3], path, budget=again, settle=5, max_concurrency=1)
    assert [type(each.error) for each in outcomes] == [OutcomeUnknownError, type(None), BudgetExceededError]
    assert (again.reserved, again.spent, again.left) == (15, 15, 10)


SETTLED: dict[str, tuple[dict[str, Any], int]] = {
    "dropped": ({"decision": "drop"}, 0),
    "sent again": ({"decision": "resubmit"}, 15),
    "adopted": ({"adopt": 18500}, 15),
}


@pytest.mark.parametrize("how", SETTLED)
async def test_what_a_person_settles_the_next_run_tells_the_budget(tmp_path: Path, how: str) -> None:
    """The budget has room for one clip: what was set aside for the POST in doubt is not set aside twice."""
    decision, spent = SETTLED[how]
    sandbox, path, budget = rich(history_lag=math.inf), tmp_path / "run.db", Budget(15)
    sandbox.order(faults.lost())
    await run(sandbox, CLIPS[:1], path, budget=budget, settle=5)
    with Ledger(path) as ledger:
        ledger.resolve("clip-0", **decision)
    assert (budget.reserved, budget.spent) == (15, 0)
    outcomes = await run(sandbox, [], path, budget=budget)
    assert [each.error for each in outcomes] == [None] * (spent // 15)
    assert (budget.reserved, budget.spent) == (0, spent)


async def test_what_a_run_without_the_budget_finds_is_told_to_it(tmp_path: Path) -> None:
    """Only the ledger knows what became of it; a run later it is not counted again."""
    sandbox, path, budget = rich(history_lag=60), tmp_path / "run.db", Budget(100)
    sandbox.order(faults.lost())
    await run(sandbox, CLIPS[:1], path, budget=budget, settle=5)
    assert [each.error for each in await run(sandbox, CLIPS[:1], path, settle=100)] == [None]
    for _ in range(2):
        await run(sandbox, CLIPS[:1], path, budget=budget)
        assert (budget.reserved, budget.spent) == (0, 15)


@pytest.mark.parametrize("other", [None, 100], ids=["none", "another"])
async def test_a_budget_sets_aside_what_a_run_without_it_has_left_in_doubt(tmp_path: Path, other: int | None) -> None:
    """It knows the ledger already, and not that item: its price is set aside before it is settled."""
    sandbox, path, budget = rich(history_lag=math.inf), tmp_path / "run.db", Budget(100)
    await run(sandbox, [], path, budget=budget)
    sandbox.order(faults.lost())
    await run(sandbox, CLIPS[:1], path, budget=other, settle=5)
    await run(sandbox, [], path, budget=budget, settle=5)
    assert (budget.reserved, budget.spent) == (15, 0)
    with Ledger(path) as ledger:
        ledger.resolve("clip-0", "drop")
    await run(sandbox, [], path, budget=budget)
    assert (budget.reserved, budget.spent) == (0, 0)


@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
async def test_what_another_budget_has_under_way_is_set_aside_once(tmp_path: Path, known: bool) -> None:  # noqa: FBT001 - a table's column
    """However often a run meets it before it is done, and whether the budget knows the ledger or not."""
    sandbox, path, budget = rich(), tmp_path / "run.db", Budget(100)
    if known:
        await run(sandbox, [], path, budget=budget)
    await run(sandbox, CLIPS[:2], path, budget=100, timeout=5)
    for _ in range(2):
        async with sandbox.client() as nb, nb.generate_many([], ledger=path, budget=budget):
            assert (budget.reserved, budget.spent) == (30, 0)
    assert [each.error for each in await run(sandbox, [], path, budget=budget)] == [None, None]
    assert (budget.reserved, budget.spent) == (0, 30)


async def test_a_new_ledger_in_an_old_one_s_place_is_not_mistaken_for_it(tmp_path: Path) -> None:
    """Nobody knows what became of what was in doubt in the old one: it stays set aside."""
    sandbox, path, budget = rich(history_lag=math.inf), tmp_path / "run.db", Budget(100)
    sandbox.order(faults.lost())
    await run(sandbox, CLIPS[:1], path, budget=budget, settle=5)
    for file in tmp_path.iterdir():
        file.unlink()
    assert [each.error for each in await run(sandbox, CLIPS[1:2], path, budget=budget)] == [None]
    assert (budget.reserved, budget.spent) == (15, 15)


async def test_what_is_absent_comes_back_to_the_budget(tmp_path: Path) -> None:
    """A POST that led to nothing has cost nothing."""
    sandbox, path, budget = rich(), tmp_path / "run.db", Budget(15)
    sandbox.order(faults.cut())
    (outcome,) = await run(sandbox, CLIPS[:1], path, budget=budget, resubmit_absent=True)
    assert outcome.error is None
    assert (budget.reserved, budget.spent) == (0, 15)


async def test_a_run_that_was_left_settles_what_it_set_aside(tmp_path: Path) -> None:
    """The reservation of an accepted item outlives the process, and its real cost takes its place."""
    sandbox, path = rich(), tmp_path / "run.db"
    await leave_after(sandbox, 3, path, budget=100)
    with Ledger(path) as ledger:
        assert ledger.summary().tokens_reserved == 90
    budget = Budget(100)
    await run(sandbox, CLIPS, path, budget=budget)
    assert (budget.reserved, budget.spent) == (0, 90)


async def test_a_budget_counts_what_was_begun_without_one(tmp_path: Path) -> None:
    """The first run had no budget: what it left under way and in doubt may cost as much, and is set aside now."""
    sandbox, path, budget = rich(), tmp_path / "run.db", Budget(40)
    sandbox.order(faults.lost())
    async with sandbox.client() as nb, nb.generate_many(CLIPS[:2], ledger=path, settle=1_000):
        await anyio.sleep(0.5)
    async with sandbox.client() as nb, nb.generate_many(CLIPS[:3], ledger=path, budget=budget) as outcomes:
        assert (budget.reserved, budget.spent) == (30, 0)
        errors = [each.error async for each in outcomes if each.error]
    assert [type(error) for error in errors] == [BudgetExceededError]
    assert (budget.reserved, budget.spent) == (0, sum(each.tokens for each in sandbox.charges)) == (0, 30)


async def test_a_client_s_budget_holds_for_single_calls() -> None:
    """The same rule for generate and submit; a failed generation gives its price back."""
    sandbox, budget = rich(), Budget(40)
    async with sandbox.client(budget=budget) as nb:
        clip = await nb.submit("luma-ray2-flash", "A flower")
        assert (budget.reserved, budget.spent) == (15, 0)
        await nb.wait(clip)
        assert (budget.reserved, budget.spent) == (0, 15)
        with pytest.raises(GenerationFailedError):
            await nb.generate("luma-ray2-flash", "forbidden")
        sandbox.order(faults.status(422))
        with pytest.raises(UnprocessableEntityError):
            await nb.submit("luma-ray2-flash", "A flower")
        assert budget.left == 25
        with pytest.raises(BudgetExceededError, match="25 left"):
            await nb.submit("kling-v2.1", "A flower")
    assert sandbox.booked == 2


async def test_a_price_that_nobody_tells_is_the_model_s_dearest() -> None:
    """calculate-price is down: the model's maximum is set aside."""
    sandbox, budget = rich(), Budget(1_000)
    sandbox.order(faults.status(404), on="POST /models/{slug}/calculate-price", times=None)
    async with sandbox.client(budget=budget) as nb:
        await nb.submit("luma-ray2-flash", "A flower")
        dearest = (await nb.model("luma-ray2-flash")).max_token_cost
    assert budget.reserved == dearest == 93


async def test_a_price_that_nobody_knows_is_an_error_before_anything_is_paid() -> None:
    """No price, no model, nothing learned: a budget cannot be kept, and says so."""
    sandbox = rich()
    for route in ("POST /models/{slug}/calculate-price", "GET /models/{slug}"):
        sandbox.order(faults.status(404), on=route, times=None)
    async with sandbox.client(budget=100) as nb:
        with pytest.raises(BudgetExceededError, match="Nobody knows"):
            await nb.submit("luma-ray2-flash", "A flower")
    assert sandbox.booked == 0


async def test_a_doubt_waits_for_the_answer_of_an_equal_post(tmp_path: Path) -> None:
    """As long as one is on its way, what the history shows could be its own; then there is one for each."""
    sandbox, path = rich(), tmp_path / "run.db"
    sandbox.order(faults.lost())
    sandbox.order(faults.delay(300))
    outcomes = await run(sandbox, [GenerationRequest("kling-v2.1", "the same")] * 2, path, settle=10)
    assert [each.error for each in outcomes] == [None] * 2
    assert sandbox.booked == 2


async def test_what_another_item_in_doubt_could_own_is_nobody_s(tmp_path: Path) -> None:
    """Also if that item's turn has not come in this run: a wrong result is worse than an honest "unknown"."""
    sandbox, path = rich(history_lag=60), tmp_path / "run.db"
    sizes = [GenerationRequest("kling-v2.1", "the same", {"duration": seconds}) for seconds in (5, 10)]
    sandbox.order(faults.cut())
    sandbox.order(faults.lost())
    async with sandbox.client() as nb, nb.generate_many(sizes, ledger=path, max_concurrency=1, settle=5) as outcomes:
        first = await anext(outcomes)
        assert isinstance(first.error, OutcomeUnknownError)
        await anyio.sleep(2)
    await anyio.sleep(100)
    for outcome in await run(sandbox, sizes, path, max_concurrency=1):
        assert isinstance(outcome.error, OutcomeUnknownError)
        assert outcome.generation is None


async def test_what_a_post_lost_meanwhile_could_own_is_nobody_s(tmp_path: Path) -> None:
    """Its answer was lost while the history was being read for another item."""
    sandbox, path = rich(), tmp_path / "run.db"
    sizes = [GenerationRequest("dall-e-3", "the same", {"size": size}) for size in ("256x256", "512x512")]
    sandbox.order(faults.cut())
    sandbox.order(faults.lost())  # after the seconds that the picture takes
    sandbox.order(faults.delay(50), on="GET /user/history")
    for outcome in await run(sandbox, sizes, path, settle=0):
        assert isinstance(outcome.error, OutcomeUnknownError)
        assert outcome.generation is None


async def test_what_a_post_on_its_way_could_own_is_left_to_it(tmp_path: Path) -> None:
    """Its answer comes long after the other one's time to wait is over, and names what the history has shown."""
    sandbox, path = rich(), tmp_path / "run.db"
    sandbox.order(faults.cut())
    sandbox.order(faults.delay(300))
    lost, answered = await run(sandbox, [GenerationRequest("kling-v2.1", "the same")] * 2, path, settle=10)
    assert isinstance(lost.error, OutcomeUnknownError)
    assert answered.error is None
    assert sandbox.booked == 1


async def test_a_post_that_is_left_writes_down_its_id(tmp_path: Path) -> None:
    """It gets a grace to learn it, and whoever resumes need not search."""
    sandbox, path = rich(), tmp_path / "run.db"
    sandbox.order(faults.delay(3))
    async with sandbox.client() as nb, nb.generate_many(CLIPS[:1], ledger=path):
        await anyio.sleep(1)
    with Ledger(path) as ledger:
        (row,) = ledger.rows()
    assert row.state == "accepted"
    assert row.generation is not None
    assert row.generation.id == 18500


async def test_a_clock_that_was_set_back_delays_no_proof() -> None:
    """A POST that seems to be of next year is of now at the latest."""
    sandbox = rich()
    sandbox.order(faults.cut())
    async with sandbox.client() as nb:
        error = await lost(nb)
        with anyio.fail_after(120):
            assert await nb.reconcile(evolve(error, sent_at=error.sent_at + 1e7), settle=60) is None


@pytest.mark.parametrize("family", ["a", "b"])
async def test_a_clock_that_was_set_back_proves_no_absence(tmp_path: Path, family: str) -> None:
    """This machine's clock misses two hours between POST and resume: what was booked is not sent again."""
    sandbox, path = rich(family=family), tmp_path / "run.db"
    sandbox.order(faults.hang())
    async with sandbox.client() as nb:
        await nb.balance()  # any answer tells the service's time
        async with nb.generate_many(CLIPS[:1], ledger=path):
            await anyio.sleep(1)
    sandbox.fast_forward(7_200)
    (outcome,) = await run(sandbox, CLIPS[:1], path, settle=60, resubmit_absent=True)
    assert isinstance(outcome.error, OutcomeUnknownError)
    assert sandbox.booked == 1


async def test_what_was_claimed_for_an_item_that_was_left_is_found_again(tmp_path: Path) -> None:
    """Another's look found it just before the run was left; the next run of the same client takes it."""
    sandbox, path = rich(history_lag=1.5), tmp_path / "run.db"
    sandbox.order(faults.lost(), times=3)

    async def requests() -> AsyncIterator[GenerationRequest]:
        yield CLIPS[0]
        await anyio.sleep(2)
        yield CLIPS[1]  # its look at the history finds the first one's, who looks again after 3 s

    async with sandbox.client() as nb:
        async with nb.generate_many(requests(), ledger=path):
            await anyio.sleep(2.5)
        with Ledger(path) as ledger:
            assert ledger.summary().in_doubt == 2
        async with nb.generate_many(CLIPS[:2], ledger=path) as outcomes:
            assert [outcome.error async for outcome in outcomes] == [None, None]
    assert sandbox.booked == 2


# --- what a ledger cannot take ----------------------------------------------------------------------------------------


def answering(**completed: Any) -> AsyncNeuralBox:
    """Return a client whose service has one generation, which every POST is told of, and every look as completed."""

    def answer(request: httpx.Request) -> httpx.Response:
        told = {"status": "pending"} if request.method == "POST" else {"status": "completed", **completed}
        return httpx.Response(200, json={"id": 7, **told})

    return AsyncNeuralBox("nb_test_key", http_client=httpx.AsyncClient(transport=httpx.MockTransport(answer)))


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize(("tokens", "billed"), [(3, "yes"), (None, "yes"), (0, "no")])
async def test_what_cannot_be_written_says_what_it_is_about(tokens: int | None, billed: str, tmp_path: Path) -> None:
    """A disk that refuses a result has not made it free: the error has the generation's id, and whether it costs."""
    nb = answering(result_text="x" * 2_000_000, tokens_spent=tokens)
    async with nb, nb.generate_many(CLIPS[:1], ledger=tmp_path / "run.db") as outcomes:
        (outcome,) = [each async for each in outcomes]
    assert isinstance(outcome.error, LedgerError)
    assert (outcome.error.billed, outcome.error.generation_id) == (billed, 7)


async def test_an_id_of_another_item_may_cost(tmp_path: Path) -> None:
    """Two POSTs and one id: nobody knows what the second one cost."""
    nb = answering(result_text="")
    async with nb, nb.generate_many(CLIPS[:2], ledger=tmp_path / "run.db", max_concurrency=1) as outcomes:
        first, second = [each.error async for each in outcomes]
    assert first is None
    assert isinstance(second, LedgerError)
    assert (second.billed, second.generation_id) == ("unknown", 7)


async def test_an_id_that_is_another_item_s_is_no_result(tmp_path: Path) -> None:
    """A service that answers two POSTs with one id has made one generation: the second item fails, the run goes on."""
    sandbox, told = rich(), list[Event]()
    twin = {"id": 7, "status": "completed", "model_slug": "gpt-5", "result_text": "Hello", "tokens_spent": 2}
    sandbox.order(faults.status(200, body=twin), times=2)
    requests = [GenerationRequest("gpt-5", f"Hello {number}", key=f"{number}") for number in range(3)]
    async with (
        sandbox.client(observe=told.append) as nb,
        nb.generate_many(requests, ledger=tmp_path / "run.db", max_concurrency=1) as outcomes,
    ):
        taken = [outcome async for outcome in outcomes]
    assert [type(each.error) for each in taken] == [type(None), LedgerError, type(None)]
    assert "Generation 7 belongs to item '0'" in str(taken[1].error)
    assert [each.generation.id for each in told if isinstance(each, Abandoned) and each.generation] == [7]
    with Ledger(tmp_path / "run.db") as ledger:
        assert [row.state for row in ledger.rows()] == ["completed", "failed", "completed"]


async def test_what_a_full_disk_does_not_take_comes_out(tmp_path: Path) -> None:
    """A disk that is full when an answer comes loses nothing: the outcome has it, and nothing more is sent."""
    sandbox, database = rich(), open_to_write(tmp_path / "run.db", MIGRATIONS)
    told: list[Event] = []

    def hear(event: Event) -> None:
        told.append(event)
        if isinstance(event, Requested):
            (pages,) = database.execute("PRAGMA page_count").fetchone()
            database.execute(f"PRAGMA max_page_count = {pages}")

    requests = [GenerationRequest("gpt-5", f"{'long ' * 100_000}{number}") for number in range(3)]
    wishes = Wishes(seconds=600.0, folder=None, settle=None, absent="in_doubt")
    writer = LedgerWriter(database, inline)
    async with sandbox.client(observe=hear) as nb:
        run = Run(requests, steps=nb._steps, ledger=writer, wishes=wishes)  # noqa: SLF001 - no option fills a disk
        async with run.outcomes(limit=1) as outcomes:
            taken = [await anext(outcomes), await anext(outcomes)]
            with pytest.raises(LedgerError, match="Free space"):
                await anext(outcomes)
        await writer.aclose()
    assert [type(each.error) for each in taken] == [LedgerError, LedgerError]
    assert [each.generation is not None for each in taken] == [True, False]
    assert [each.generation for each in told if isinstance(each, Abandoned)] == [taken[0].generation]
    assert len(sandbox.charges) == 1


async def test_time_behind_a_closed_window_is_not_an_item_s(tmp_path: Path) -> None:
    """An item that the plan keeps from looking for longer than its timeout is still waited for, and not sent again."""
    sandbox = rich()
    sandbox.order(faults.rate_limited(100), on="GET /generate/{id}")
    (outcome,) = await run(sandbox, CLIPS[:1], tmp_path / "run.db", timeout=60)
    assert outcome.error is None
    assert len(sandbox.charges) == sandbox.booked == 1


async def test_a_history_without_end_proves_nothing() -> None:
    """One that never comes to the POST's time is left after 200 pages, and the POST stays in doubt."""
    asked: list[httpx.Request] = []

    async def page(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        entry = {"id": 1_000_000 - len(asked), "status": "completed", "model_slug": "other", "prompt": "other"}
        return httpx.Response(200, json={"items": [entry]})

    doubt = OutcomeUnknownError("lost", request=GenerationRequest("gpt-5", "Hello"), sent_at=1.0, after_id=7)
    async with AsyncNeuralBox("nb_test_key", http_client=httpx.AsyncClient(transport=httpx.MockTransport(page))) as nb:
        with pytest.raises(OutcomeUnknownError, match="does not reach back so far"):
            await nb.reconcile(doubt, settle=0)
    assert len(asked) == 200

"""The ledger: what a step says is durable when it returns, whoever else writes, is cancelled, or is killed."""

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import pytest
from attrs import define, evolve

from neuralbox_async import (
    Generation,
    GenerationRequest,
    Ledger,
    LedgerError,
    LedgerRow,
    NeuralBoxError,
    UsageError,
)
from neuralbox_async._edge.database import Database, open_to_write
from neuralbox_async._edge.ledger import LedgerWriter, inline
from neuralbox_async._edge.ledger_table import MIGRATIONS
from neuralbox_async._edge.lock import network_file_system

T = TypeVar("T")
ORIGIN = "https://api.test"
REQUEST = GenerationRequest("kling-v2.1", "A flower", {"duration": 5})
ROOT = Path(__file__).parent.parent.parent


def account(salt: bytes) -> str:
    """Return a fingerprint of an account."""
    assert len(salt) >= 16
    return f"fingerprint-{salt.hex()}"


@asynccontextmanager
async def opened(path: Path | None, **options: Any) -> AsyncIterator[LedgerWriter]:
    """Open a ledger to write and close it in the end."""
    wired = {"origin": ORIGIN, "account": account, "run": anyio.to_thread.run_sync, **options}
    writer = await LedgerWriter.open(path, **wired)
    try:
        yield writer
    finally:
        await writer.aclose()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run each async test on both real clocks: nothing sleeps, and trio's MockClock spins while a thread works."""
    backend: str = request.param
    return backend


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a ledger that does not exist."""
    return tmp_path / "run.db"


@pytest.fixture(params=["file", "memory"])
async def writer(request: pytest.FixtureRequest, path: Path) -> AsyncIterator[LedgerWriter]:
    """Open a new ledger, on the disk and in memory."""
    async with opened(path if request.param == "file" else None) as writer:
        yield writer


def generation(number: int | str, status: str = "pending", **fields: Any) -> Generation:
    """Return a generation."""
    return Generation(id=number, status=status, **fields)


async def planned(writer: LedgerWriter, count: int) -> list[LedgerRow]:
    """Plan that many items that ask for the same."""
    return [await writer.add(REQUEST, index=number, repeat=number) for number in range(count)]


async def accepted(writer: LedgerWriter, row: LedgerRow, number: int | str) -> LedgerRow:
    """Send an item and have it accepted."""
    row = await writer.move(row, "sending", sent_at=5.0)
    return await writer.move(row, "accepted", generation=generation(number))


def states(path: Path) -> dict[str, str]:
    """Return what an observer sees: key and state of each item."""
    with Ledger(path) as ledger:
        return {row.key: row.state for row in ledger.rows()}


def sql(path: Path, statement: str) -> list[Any]:
    """Run a statement on a file that no run has open."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(statement).fetchall()
        connection.commit()
        return found


# --- rows and steps ---------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_request_is_planned_once(writer: LedgerWriter) -> None:
    """Adding it again, as a resumed run does, gives the row that is there."""
    row = await writer.add(evolve(REQUEST, key="one", tag=[1]), index=4, repeat=0)
    assert (row.number, row.key, row.index, row.state, row.submissions) == (1, "one", 4, "planned", 0)
    assert (row.request, row.generation, row.error) == (evolve(REQUEST, key="one", tag=[1]), None, None)
    sent = await writer.move(row, "sending", sent_at=5.0)
    assert await writer.add(evolve(REQUEST, key="one"), index=4, repeat=0) == sent


@pytest.mark.anyio
async def test_each_repeat_of_a_request_is_an_item_of_its_own(writer: LedgerWriter) -> None:
    """Whoever asks for the same twice gets it twice."""
    rows = await planned(writer, 3)
    assert [row.number for row in rows] == [1, 2, 3]
    assert len({row.key for row in rows}) == 3
    assert rows[0].request.key is None


@pytest.mark.anyio
async def test_a_changed_request_needs_a_new_key(writer: LedgerWriter) -> None:
    """What was paid for under a key is not what is asked for now."""
    await writer.add(evolve(REQUEST, key="one"), index=0, repeat=0)
    with pytest.raises(UsageError, match=r"'one'.*another model, prompt or params.*new key"):
        await writer.add(evolve(REQUEST, key="one", prompt="A tree"), index=0, repeat=0)


@pytest.mark.anyio
@pytest.mark.parametrize("key", ["a\0b", "a\ud800"], ids=["nul", "surrogate"])
async def test_a_key_that_no_file_can_hold_is_refused(writer: LedgerWriter, key: str) -> None:
    """It fails for its own item, before it can harm the others in its commit."""
    with pytest.raises(UsageError, match="Item 3 has the key"):
        await writer.add(evolve(REQUEST, key=key), index=3, repeat=0)


@pytest.mark.anyio
async def test_a_row_keeps_what_each_step_says(path: Path) -> None:
    """A later process reads what the first one wrote."""
    error = NeuralBoxError("Busy", retryable=True)
    async with opened(path) as writer:
        row = await writer.add(REQUEST, index=0, repeat=0)
        row = await writer.move(row, "sending", sent_at=5.0, after_id=17, ahead=-1.5, reserved=30)
        row = await writer.move(row, "accepted", generation=generation(18))
        row = await writer.move(row, "completed", generation=generation(18, "completed", url="u", tokens_spent=26))
        row = await writer.move(row, "saved", path=Path("clips/\udcff.mp4"))
        other = await writer.add(REQUEST, index=1, repeat=1)
        other = await writer.move(other, "failed", error=error)
    async with opened(path) as writer:
        again, failed = await writer.rows()
    assert again == row
    assert (again.sent_at, again.after_id, again.ahead, again.submissions) == (5.0, 17, -1.5, 1)
    assert again.path == Path("clips/\udcff.mp4")
    assert again.generation == generation(18, "completed", url="u", tokens_spent=26)
    assert failed == other
    assert (type(failed.error), repr(failed.error)) == (NeuralBoxError, repr(error))


@pytest.mark.anyio
async def test_a_step_is_on_the_disk_when_it_returns(path: Path) -> None:
    """Whoever looks from outside sees it at once."""
    async with opened(path) as writer:
        row = await writer.add(evolve(REQUEST, key="one"), index=0, repeat=0)
        await writer.move(row, "sending", sent_at=5.0)
        assert states(path) == {"one": "sending"}


@pytest.mark.anyio
async def test_a_step_begins_where_the_row_is(writer: LedgerWriter) -> None:
    """Of two that move the same row, the second is refused and changes nothing."""
    row = await writer.add(evolve(REQUEST, key="one"), index=0, repeat=0)
    sent = await writer.move(row, "sending", sent_at=5.0)
    with pytest.raises(LedgerError, match=r"'one'.*is sending, not planned, so it cannot become sending"):
        await writer.move(row, "sending", sent_at=6.0)
    assert await writer.rows() == [sent]


@pytest.mark.anyio
async def test_a_generation_belongs_to_one_row(tmp_path: Path) -> None:
    """A second row never gets the id of another, not even of an attempt that was given up."""
    async with opened(tmp_path / "run.db") as writer:
        first, second = [await writer.add(evolve(REQUEST, key=key), index=0, repeat=0) for key in ("one", "two")]
        first = await accepted(writer, first, 18)
        first = await writer.move(first, "failed", generation=generation(18, "failed"))
        await writer.move(first, "planned")
        second = await writer.move(second, "sending", sent_at=5.0)
        with pytest.raises(LedgerError, match=r"Generation 18 belongs to item 'one'.*that of item 'two'"):
            await writer.move(second, "accepted", generation=generation(18))
        assert (await writer.rows("sending")) == [second]


@pytest.mark.anyio
async def test_in_memory_rows_may_share_a_generation() -> None:
    """Nobody claims anything there, and a test's service may answer every POST with the same id."""
    async with opened(None) as writer:
        for row in await planned(writer, 2):
            await accepted(writer, row, 18)
        assert [row.generation.id for row in await writer.rows("accepted") if row.generation] == [18, 18]


@pytest.mark.anyio
async def test_ids_of_any_kind_are_known(writer: LedgerWriter) -> None:
    """Integers, however large, and texts stay as they were; the highest integer is known."""
    assert await writer.highest_id() is None
    large = 2**70
    ids: list[int | str] = [18, "19", "gen_1", large]
    for row, number in zip(await planned(writer, 4), ids, strict=True):
        await accepted(writer, row, number)
    assert await writer.owned([18, "19", "gen_1", "gen_2", 20, large]) == {18, "19", "gen_1", large}
    assert await writer.highest_id() == 18
    assert [row.generation.id for row in await writer.rows() if row.generation] == ids


@pytest.mark.anyio
@pytest.mark.parametrize(("before", "later"), [("18", 18), (18, "18"), (str(2**70), 2**70)])
async def test_a_number_and_its_digits_are_one_id(path: Path, before: int | str, later: int | str) -> None:
    """In whatever form an id was written down: the row keeps it, and no other row gets it in the other form."""
    async with opened(path) as writer:
        first, second = [await writer.add(evolve(REQUEST, key=key), index=0, repeat=0) for key in ("one", "two")]
        first = await accepted(writer, first, before)
        assert await writer.owned([before, later, "018"]) == {before, later}
        second = await writer.move(second, "sending", sent_at=5.0)
        with pytest.raises(LedgerError, match=r"belongs to item 'one'"):
            await writer.move(second, "accepted", generation=generation(later))
        done = await writer.move(first, "completed", generation=generation(later, "completed"))
        assert done.generation is not None
        assert done.generation.id == later


@pytest.mark.anyio
async def test_a_ledger_that_has_given_one_id_to_two_rows_goes_on(path: Path) -> None:
    """An earlier version took the number and its digits for two: both rows still come to their end."""
    async with opened(path) as writer:
        first, second = [await writer.add(evolve(REQUEST, key=key), index=0, repeat=0) for key in ("one", "two")]
        await accepted(writer, first, "18")
        second = await accepted(writer, second, 19)
    sql(path, "UPDATE owner SET gen_id = 18 WHERE gen_id = 19")
    async with opened(path) as writer:
        for row in await writer.rows():
            await writer.move(row, "completed", generation=generation(18, "completed"))
    assert states(path) == {"one": "completed", "two": "completed"}


@pytest.mark.anyio
@pytest.mark.parametrize("tokens", [2**100, -(2**100)])
async def test_figures_beyond_sqlite_s_integers_are_kept(writer: LedgerWriter, tokens: int) -> None:
    """What a service may say by mistake must not harm the others in the commit."""
    row = await writer.add(REQUEST, index=0, repeat=0)
    row = await writer.move(row, "sending", sent_at=5.0, after_id=2**70, reserved=2**100)
    row = await writer.move(row, "completed", generation=generation(18, "completed", tokens_spent=tokens))
    assert await writer.rows() == [row]


@pytest.mark.anyio
async def test_rows_are_read_in_order_a_page_at_a_time(writer: LedgerWriter) -> None:
    """In the states asked for, behind a number, so many at most."""
    rows = await planned(writer, 7)
    for row in rows[::2]:
        await writer.move(row, "dropped")
    assert [row.number for row in await writer.rows()] == [1, 2, 3, 4, 5, 6, 7]
    assert [row.number for row in await writer.rows("planned")] == [2, 4, 6]
    assert [row.number for row in await writer.rows("dropped", "planned", after=2, limit=3)] == [3, 4, 5]
    assert await writer.rows("accepted") == []
    with pytest.raises(UsageError, match="No such state: pending"):
        await writer.rows("pending")


@pytest.mark.anyio
async def test_every_step_leaves_an_event_that_stays(path: Path) -> None:
    """What happened to an item can be read years later; nothing deletes or changes it."""
    async with opened(path) as writer:
        row = await writer.add(REQUEST, index=0, repeat=0)
        await accepted(writer, row, 18)
    events = sql(path, "SELECT number, before, after, gen_id FROM event ORDER BY id")
    assert events == [(1, None, "planned", None), (1, "planned", "sending", None), (1, "sending", "accepted", 18)]
    for statement in ("DELETE FROM event", "UPDATE event SET at = 0"):
        with pytest.raises(sqlite3.IntegrityError, match="only added"):
            sql(path, statement)


@pytest.mark.anyio
async def test_only_a_ledger_in_memory_forgets() -> None:
    """An endless run stays flat."""
    async with opened(None) as writer:
        row = await accepted(writer, (await planned(writer, 1))[0], 18)
        await writer.forget(await writer.move(row, "completed"))
        assert await writer.rows() == []
        assert await writer.owned([18]) == set()


@pytest.mark.anyio
async def test_a_file_never_forgets(path: Path) -> None:
    """What was paid for stays on record."""
    async with opened(path) as writer:
        (row,) = await planned(writer, 1)
        with pytest.raises(LedgerError, match="keeps every item"):
            await writer.forget(row)


# --- many at once -----------------------------------------------------------------------------------------------------


@define
class Counted:
    """An executor in a worker thread that counts how often it is asked."""

    runs: int = 0

    async def __call__(self, work: Callable[[], T], /) -> T:
        """Run it."""
        self.runs += 1
        return await anyio.to_thread.run_sync(work)


@pytest.mark.anyio
async def test_many_who_wait_share_a_commit(path: Path) -> None:
    """The first commits for all who queued behind it."""
    run = Counted()
    async with opened(path, run=run) as writer:
        rows = await planned(writer, 200)
        before = run.runs
        async with anyio.create_task_group() as tasks:
            for row in rows:
                tasks.start_soon(lambda row=row: writer.move(row, "sending", sent_at=5.0))  # type: ignore[misc]
        assert run.runs - before <= 3
    assert set(states(path).values()) == {"sending"}


@pytest.mark.anyio
async def test_a_step_that_is_refused_harms_no_other(path: Path) -> None:
    """In one commit, each gets its own answer."""
    refused: list[str] = []
    async with opened(path) as writer:
        rows = await planned(writer, 30)
        for row in rows[::3]:
            await writer.move(row, "dropped")

        async def send(row: LedgerRow) -> None:
            try:
                await writer.move(row, "sending", sent_at=5.0)
            except LedgerError:
                refused.append(row.key)

        async with anyio.create_task_group() as tasks:
            for row in rows:
                tasks.start_soon(send, row)
        assert sorted(refused) == sorted(row.key for row in rows[::3])
        assert len(await writer.rows("sending")) == 20


@pytest.mark.anyio
async def test_who_is_cancelled_still_gets_an_answer(path: Path) -> None:
    """A step that was asked for is carried out and its row returned: nobody is left to guess."""
    answers: list[LedgerRow] = []
    async with opened(path) as writer:
        rows = await planned(writer, 20)

        async def send(row: LedgerRow) -> None:
            answers.append(await writer.move(row, "sending", sent_at=5.0))

        async with anyio.create_task_group() as tasks:
            for row in rows:
                tasks.start_soon(send, row)
            await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert sorted(row.number for row in answers) == [row.number for row in rows]
        assert len(await writer.rows("sending")) == 20


async def sends_of_which_are_cancelled(path: Path, victims: list[int]) -> list[LedgerRow | BaseException]:
    """Send 8 items at once, cancel some natively while the first is being committed, and return what each got."""
    database = open_to_write(path, MIGRATIONS)
    writer = LedgerWriter(database, anyio.to_thread.run_sync)
    rows = await planned(writer, 8)
    committing, go_on = threading.Event(), threading.Event()

    def hold(statement: str) -> None:
        if statement == "COMMIT" and not committing.is_set():
            committing.set()
            assert go_on.wait(30)

    database.connection.set_trace_callback(hold)
    tasks = [asyncio.create_task(writer.move(rows[0], "sending", sent_at=5.0))]
    await anyio.to_thread.run_sync(committing.wait)
    tasks += [asyncio.create_task(writer.move(row, "sending", sent_at=5.0)) for row in rows[1:]]
    await anyio.wait_all_tasks_blocked()
    for victim in victims:
        tasks[victim].cancel()
    await asyncio.wait([tasks[victim] for victim in victims])
    asyncio.get_running_loop().call_later(0.05, go_on.set)
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    go_on.set()
    await writer.aclose()
    return answers


@pytest.mark.parametrize(
    "victims", [[0], [1, 2], [0, 1, 2, 3], list(range(8))], ids=["who commits", "who wait", "both", "all"]
)
def test_a_native_cancellation_harms_no_other(path: Path, victims: list[int]) -> None:
    """Asyncio's task.cancel() goes through shields: the thread goes on, and who is next, or closes, waits for it."""
    answers = asyncio.run(sends_of_which_are_cancelled(path, victims))
    cancelled = [place for place, answer in enumerate(answers) if isinstance(answer, asyncio.CancelledError)]
    assert cancelled == victims
    assert len([answer for answer in answers if isinstance(answer, LedgerRow)]) == 8 - len(victims)
    assert list(states(path).values()) == ["sending"] * 8


@pytest.mark.parametrize("steps", range(1, 4))
@pytest.mark.parametrize("run", [inline, anyio.to_thread.run_sync], ids=["inline", "thread"])
def test_a_native_cancellation_leaves_no_ledger_open(path: Path, run: Any, steps: int) -> None:
    """Whoever runs next in this process finds the file as closed as after any other end, however far closing was."""

    async def closed() -> None:
        writer = await LedgerWriter.open(path, origin=ORIGIN, account=account, run=run)
        task = asyncio.create_task(writer.aclose())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        open_to_write(path, MIGRATIONS).close()

    asyncio.run(closed())


def test_a_commit_waits_for_the_disk(path: Path) -> None:
    """Each survives a loss of power: WAL, synced at every commit."""
    database = open_to_write(path, MIGRATIONS)
    found = [database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "fullfsync")]
    database.close()
    assert found == ["wal", 2, 1]


@pytest.mark.anyio
async def test_a_closed_ledger_says_so(path: Path) -> None:
    """Closing twice is closing once."""
    async with opened(path) as writer:
        (row,) = await planned(writer, 1)
        await writer.aclose()
        with pytest.raises(LedgerError, match="is closed; open it anew"):
            await writer.move(row, "sending", sent_at=5.0)


@pytest.mark.anyio
async def test_inline_the_disk_takes_no_thread(path: Path) -> None:
    """On a virtual clock everything happens in the loop's own thread."""
    before = threading.active_count()
    async with opened(path, run=inline) as writer:
        await accepted(writer, (await planned(writer, 1))[0], 18)
        assert threading.active_count() <= before
    assert set(states(path).values()) == {"accepted"}


# --- a disk that fails ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def on_a_full_disk(path: Path, count: int) -> AsyncIterator[tuple[LedgerWriter, Database, list[LedgerRow]]]:
    """Open a ledger with items on their way and one planned, whose file cannot grow any more."""
    database = open_to_write(path, MIGRATIONS)
    writer = LedgerWriter(database, anyio.to_thread.run_sync)
    rows = await planned(writer, count + 1)
    rows = [*[await writer.move(row, "sending", sent_at=5.0) for row in rows[:count]], rows[count]]
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")
    try:
        yield writer, database, rows
    finally:
        await writer.aclose()


LONG = "long " * 100_000


@pytest.mark.anyio
async def test_a_full_disk_stops_new_submissions(path: Path) -> None:
    """Nothing is sent whose answer could not be kept; all can be read; what has no id is not tried again."""
    async with on_a_full_disk(path, 1) as (writer, database, rows):
        with pytest.raises(LedgerError, match=r"full.*Free space.*run the same command again"):
            await writer.move(rows[0], "in_doubt", error=NeuralBoxError(LONG))
        with pytest.raises(LedgerError, match="Free space"):
            await writer.move(rows[1], "sending", sent_at=5.0)
        assert await writer.rows() == rows
        database.execute("PRAGMA max_page_count = 100000")
    assert list(states(path).values()) == ["sending", "planned"]


@pytest.mark.anyio
async def test_an_id_that_cannot_be_written_is_kept_and_tried_again(path: Path) -> None:
    """As soon as there is space, the next who writes writes it too."""
    async with on_a_full_disk(path, 2) as (writer, database, rows):
        with pytest.raises(LedgerError, match="Free space"):
            await writer.move(rows[0], "accepted", generation=generation(18, text=LONG))
        await writer.move(rows[1], "in_doubt")
        assert list(states(path).values()) == ["sending", "in_doubt", "planned"]
        database.execute("PRAGMA max_page_count = 100000")
        assert await writer.highest_id() == 18
        assert list(states(path).values()) == ["accepted", "in_doubt", "planned"]
        with pytest.raises(LedgerError, match="Free space"):
            await writer.move(rows[2], "sending", sent_at=5.0)
    assert list(states(path).values()) == ["accepted", "in_doubt", "planned"]


@pytest.mark.anyio
async def test_what_is_still_unwritten_is_tried_once_more_on_closing(path: Path) -> None:
    """The last chance before only the log has it."""
    async with on_a_full_disk(path, 1) as (writer, database, rows):
        with pytest.raises(LedgerError, match="Free space"):
            await writer.move(rows[0], "accepted", generation=generation(18, text=LONG))
        database.execute("PRAGMA max_page_count = 100000")
    assert list(states(path).values()) == ["accepted", "planned"]


@pytest.mark.anyio
async def test_what_stays_unwritten_is_no_reason_not_to_close(path: Path) -> None:
    """Who wrote it has heard of it with its id; the rows stay where they were, for the next run to look for."""
    async with on_a_full_disk(path, 1) as (writer, _, rows):
        for status in ("accepted", "completed"):
            with pytest.raises(LedgerError, match="Free space"):
                await writer.move(rows[0], status, generation=generation(18, text=LONG))
    assert list(states(path).values()) == ["sending", "planned"]


@pytest.mark.anyio
async def test_all_that_is_unwritten_is_tried_again_in_order(path: Path) -> None:
    """An item may have got further than the disk has let it write; once it does, all of that is written."""
    async with on_a_full_disk(path, 1) as (writer, database, rows):
        reached, found = rows[0], generation(18)
        database.execute("PRAGMA query_only = ON")
        for status in ("accepted", "completed"):
            with pytest.raises(LedgerError, match="writable"):
                await writer.move(reached, status, generation=found)
            reached = evolve(reached, state=status, generation=found)
        database.execute("PRAGMA query_only = OFF")
        assert await writer.highest_id() == 18
        assert list(states(path).values()) == ["completed", "planned"]
    assert list(states(path).values()) == ["completed", "planned"]


@pytest.mark.anyio
async def test_all_who_share_a_failed_commit_hear_of_it(path: Path) -> None:
    """Nobody goes on in the belief that his step is durable; every id is kept."""
    heard: list[str] = []
    async with on_a_full_disk(path, 20) as (writer, database, rows):

        async def accept(row: LedgerRow) -> None:
            try:
                await writer.move(row, "accepted", generation=generation(row.number, text=LONG))
            except LedgerError:
                heard.append(row.key)

        async with anyio.create_task_group() as tasks:
            for row in rows[:20]:
                tasks.start_soon(accept, row)
        assert sorted(heard) == sorted(row.key for row in rows[:20])
        database.execute("PRAGMA max_page_count = 100000")
    assert list(states(path).values()) == ["accepted"] * 20 + ["planned"]


# --- which file it is -------------------------------------------------------------------------------------------------


def begun(path: Path) -> None:
    """Begin a ledger with one item."""
    Ledger.create(path).close()


@pytest.mark.anyio
async def test_a_ledger_of_an_older_version_goes_on(path: Path) -> None:
    """Its run renews it and has its rows; who only reads it says what to do until then."""
    async with opened(path) as writer:
        (row,) = await planned(writer, 1)
        await writer.move(row, "sending", sent_at=5.0)
    sql(path, "ALTER TABLE item DROP COLUMN ahead")
    sql(path, "PRAGMA user_version = 1")
    with pytest.raises(LedgerError, match="older version; resume its run first"):
        Ledger(path)
    async with opened(path) as writer:
        (row,) = await writer.rows("sending")
        assert (row.sent_at, row.ahead) == (5.0, None)
    assert states(path) == {row.key: "sending"}


def write(path: Path, data: bytes) -> None:
    """Put something else where the ledger should be."""
    path.write_bytes(data)


def make_foreign(path: Path) -> None:
    """Make a database of something else."""
    sql(path, "CREATE TABLE mine (a)")


def make_newer(path: Path) -> None:
    """Make a ledger of a version that does not exist yet."""
    begun(path)
    sql(path, f"PRAGMA user_version = {len(MIGRATIONS) + 1}")


def truncate(path: Path) -> None:
    """Cut a ledger in half."""
    begun(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


SHORT = (2, 15, 16, 99, 100)  # SQLite's header has 100 bytes, the first 16 of which say that it is one
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "random": (lambda path: write(path, os.urandom(20_000)), "no ledger, or damaged"),
    "text": (lambda path: write(path, b"hello\n"), "no ledger, or damaged"),
    "one byte": (lambda path: write(path, b"x"), "run.db holds a single byte, so it is no ledger"),
    **{f"{size} bytes": (partial(write, data=b"x" * size), "run.db.*no ledger, or damaged") for size in SHORT},
    "foreign": (make_foreign, "a database of something else"),
    "newer": (make_newer, "newer version; upgrade neuralbox_async"),
    "folder": (lambda path: path.mkdir(), "run.db is a folder, so it cannot be a ledger; name a file in it"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_ledger_is_left_alone(path: Path, kind: str) -> None:
    """A wrong name is refused, by whoever reads and whoever writes, and the file stays as it is."""
    make, words = BAD[kind]
    make(path)
    before = path.read_bytes() if path.is_file() else None
    mode = path.stat().st_mode
    for attempt in (Ledger, Ledger.create):
        with pytest.raises(LedgerError, match=words):
            attempt(path)
    assert path.stat().st_mode == mode
    assert before is None or path.read_bytes() == before


def test_a_damaged_ledger_is_not_written(path: Path) -> None:
    """A run never goes on with half of its items."""
    truncate(path)
    with pytest.raises(LedgerError, match="damaged"):
        Ledger.create(path)


def test_a_row_that_cannot_be_read_is_named(path: Path) -> None:
    """One whose text was changed by another program is no reason for a stack trace."""
    begun(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "INSERT INTO item (key, place, digest, state, request, submissions, began_at, changed_at) "
            "VALUES ('one', 0, 'd', 'planned', '{', 0, 0, 0)"
        )
        connection.commit()
    with Ledger(path) as ledger, pytest.raises(LedgerError, match=r"'one'.*is damaged"):
        list(ledger.rows())


async def read_whole(path: Path) -> None:
    """Read all that a ledger holds, as a run and from outside."""
    async with opened(path) as writer:
        await writer.rows()
    with Ledger(path) as ledger:
        assert ledger.settings == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE item SET state = 'compleued'", r"'a'.*is damaged"),
        ("INSERT OR REPLACE INTO job VALUES ('settings', '{')", "What was remembered .*is damaged"),
        ("INSERT OR REPLACE INTO job VALUES ('salt', '0x')", "The salt .*is damaged"),
    ],
)
@pytest.mark.anyio
async def test_a_flipped_bit_is_named(path: Path, change: str, said: str) -> None:
    """SQLite finds nothing wrong with another text in a column: it is an error of the ledger's, and no other."""
    async with opened(path) as writer:
        await writer.add(evolve(REQUEST, key="a"), index=0, repeat=0)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(change)
        connection.commit()
    with pytest.raises(LedgerError, match=said):
        await read_whole(path)


def test_a_damaged_schema_is_said_whatever_is_in_it(path: Path) -> None:
    """SQLite's own message quotes bytes that are no text."""
    begun(path)
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE item", b"CREATE \xff\xfeBLE item"))
    for opening in (Ledger, Ledger.create):
        with pytest.raises(LedgerError, match="damaged"):
            opening(path)


def test_an_empty_file_becomes_a_ledger(path: Path) -> None:
    """A temporary file may be made first, and a crash may leave one."""
    path.touch(mode=0o644)
    with pytest.raises(LedgerError, match="is empty"):
        Ledger(path)
    begun(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert states(path) == {}


def test_a_ledger_that_does_not_exist_is_not_made_by_looking(path: Path) -> None:
    """A wrong name is an error and leaves nothing behind."""
    with pytest.raises(LedgerError, match="no ledger"):
        Ledger(path)
    assert list(path.parent.iterdir()) == []


def test_a_folder_that_does_not_exist_is_named(path: Path) -> None:
    """The system's own reason is in the message."""
    with pytest.raises(LedgerError, match="cannot be written: No such file"):
        Ledger.create(path.parent / "missing" / "run.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_named(path: Path) -> None:
    """Reading still works there."""
    begun(path)
    path.parent.chmod(0o500)
    try:
        with pytest.raises(LedgerError, match="cannot be written"):
            Ledger.create(path.parent / "other.db")
        assert states(path) == {}
    finally:
        path.parent.chmod(0o700)


@pytest.mark.anyio
async def test_only_the_owner_of_the_files_reads_them(path: Path) -> None:
    """Prompts are private: the file and those beside it are for one user, whatever the umask."""
    async with opened(path) as writer:
        await planned(writer, 1)
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert modes == dict.fromkeys(("run.db", "run.db-wal", "run.db-shm", "run.db.lock"), 0o600)


MOUNTS = """/dev/sda / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb /home/local ext4 rw 0 0
//nas/share /mnt/my\\040nas cifs rw 0 0
me@host: /mnt/ssh fuse.sshfs rw 0 0
C: /mnt/c 9p rw 0 0
overlay /over fuse.fuse-overlayfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/run.db", None),
        ("/homely/run.db", None),
        ("/home/me/run.db", "nfs4"),
        ("/home/local/run.db", None),
        ("/mnt/my nas/run.db", "cifs"),
        ("/mnt/ssh/a/b/run.db", "fuse.sshfs"),
        ("/mnt/c/run.db", "9p"),
        ("/over/run.db", None),
    ],
)
def test_file_systems_of_the_network_are_known(path: str, kind: str | None) -> None:
    """The mount nearest to the file decides."""
    assert network_file_system(Path(path), MOUNTS) == kind


# --- whose ledger it is -----------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_ledger_goes_on_with_its_own_account_and_origin(path: Path) -> None:
    """Another account's generations cannot be looked at, and another origin's are not the same ones."""
    async with opened(path):
        pass
    async with opened(path):
        pass
    with pytest.raises(LedgerError, match=r"another base_url \(https://api.test, not https://b.test\)"):
        await LedgerWriter.open(path, origin="https://b.test", account=account, run=inline)
    with pytest.raises(LedgerError, match="another account's key"):
        await LedgerWriter.open(path, origin=ORIGIN, account=lambda _: "other", run=inline)
    async with opened(path):
        pass


@pytest.mark.anyio
async def test_each_ledger_salts_the_fingerprint_anew(path: Path) -> None:
    """Two ledgers do not tell that they are of one account."""
    salts: list[bytes] = []

    def fingerprint(salt: bytes) -> str:
        salts.append(salt)
        return salt.hex()

    for name in ("a.db", "b.db", "a.db"):
        async with opened(path.with_name(name), account=fingerprint):
            pass
    assert salts[0] == salts[2] != salts[1]


@pytest.mark.anyio
async def test_a_ledger_has_one_owner(path: Path) -> None:
    """A second run is refused while the first goes on, and lets the first go on."""
    async with opened(path) as writer:
        with pytest.raises(LedgerError, match="in use by this process"):
            await LedgerWriter.open(path, origin=ORIGIN, account=account, run=inline)
        changes: list[Callable[[Ledger], object]] = [
            lambda ledger: ledger.remember({}),
            lambda ledger: ledger.retry_failed(),
            lambda ledger: ledger.resolve("one", "drop"),
        ]
        for change in changes:
            with Ledger(path) as ledger, pytest.raises(LedgerError, match="in use by this process"):
                change(ledger)
        await planned(writer, 1)
    assert len(states(path)) == 1


# A run in a process of its own: it moves items as fast as it can and prints each step once it is durable.
RUN = """
import anyio, anyio.to_thread, sys
from pathlib import Path
from neuralbox_async import Generation, GenerationRequest
from neuralbox_async._edge.ledger import LedgerWriter

async def main():
    writer = await LedgerWriter.open(
        Path(sys.argv[1]), origin="https://api.test", account=lambda salt: "fingerprint-" + salt.hex(),
        run=anyio.to_thread.run_sync,
    )
    print("open", flush=True)

    async def work(number):
        for turn in range(1_000_000):
            key = f"{number}-{turn}"
            row = await writer.add(GenerationRequest("m", "p", key=key), index=0, repeat=0)
            row = await writer.move(row, "sending", sent_at=5.0)
            print(key, "sending", flush=True)
            await writer.move(row, "accepted", generation=Generation(id=key, status="pending"))
            print(key, "accepted", flush=True)

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(work, number)

anyio.run(main)
"""


@pytest.fixture
def run_elsewhere(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a run in a process of its own."""
    command = [sys.executable, "-c", RUN, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


def test_another_process_cannot_write(path: Path, run_elsewhere: subprocess.Popen[str]) -> None:
    """It is told who owns the ledger; reading goes on."""
    with pytest.raises(LedgerError, match=rf"in use by another process \(pid {run_elsewhere.pid}\)"):
        Ledger.create(path)
    assert run_elsewhere.poll() is None
    with Ledger(path) as ledger:
        assert ledger.summary().total >= 0


@pytest.mark.parametrize("lines", [1, 40, 400, 1500])
def test_a_kill_loses_nothing_that_was_durable(path: Path, run_elsewhere: subprocess.Popen[str], lines: int) -> None:
    """Whatever a killed run had said is there, the file is whole, and whoever comes next owns it at once."""
    assert run_elsewhere.stdout is not None
    said = [run_elsewhere.stdout.readline().split() for _ in range(lines)]
    run_elsewhere.send_signal(signal.SIGKILL)
    said += [line.split() for line in run_elsewhere.stdout if line.endswith("\n")]
    run_elsewhere.wait()
    found = states(path)
    for key, state in said:
        assert found[key] in ({"sending", "accepted"} if state == "sending" else {"accepted"})
    Ledger.create(path).close()
    assert sql(path, "PRAGMA integrity_check") == [("ok",)]
    assert found == states(path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_cannot_use_its_parent_s_ledger(path: Path) -> None:
    """Two processes on one connection would damage the file; the parent goes on."""
    script = """
import anyio, os, sys
from pathlib import Path
from neuralbox_async import GenerationRequest, Ledger, LedgerError
from neuralbox_async._edge.ledger import LedgerWriter, inline

writer = anyio.run(lambda: LedgerWriter.open(Path(sys.argv[1]), origin="o", account=bytes.hex, run=inline))
ledger = Ledger(sys.argv[1])

async def main():
    await writer.add(GenerationRequest("m", "p"), index=0, repeat=0)

child = os.fork()
if not child:
    refused = 0
    for attempt in (lambda: anyio.run(main), ledger.summary):
        try:
            attempt()
        except LedgerError as error:
            refused += "fork" in str(error)
    ledger.close()
    anyio.run(writer.aclose)
    os._exit(refused)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
anyio.run(main)
print(ledger.summary().total)
try:
    Ledger.create(sys.argv[1])
except LedgerError as error:
    print("in use" in str(error))
"""
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["1", "True"]


# --- from outside -----------------------------------------------------------------------------------------------------


async def story(path: Path) -> None:
    """Run a little: one of each state that a killed run leaves, by key."""
    async with opened(path) as writer:
        for key in ("planned", "sending", "in_doubt", "accepted", "completed", "failed", "refused"):
            row = await writer.add(evolve(REQUEST, key=key), index=0, repeat=0)
            if key == "refused":
                await writer.move(row, "failed", error=UsageError("no such model"))
            elif key != "planned":
                row = await writer.move(row, "sending", sent_at=5.0, reserved=30)
            if key == "in_doubt":
                await writer.move(row, "in_doubt")
            elif key in ("accepted", "completed", "failed"):
                row = await writer.move(row, "accepted", generation=generation(f"gen_{key}", tokens_spent=30))
            if key in ("completed", "failed"):
                spent = 26 if key == "completed" else 30
                await writer.move(row, key, generation=generation(f"gen_{key}", key, tokens_spent=spent))


@pytest.mark.anyio
async def test_a_summary_says_what_a_run_has_come_to(path: Path) -> None:
    """How many are in which state, and what it cost."""
    await story(path)
    with Ledger(path) as ledger:
        summary = ledger.summary()
    assert {state: count for state, count in summary.counts.items() if count} == {
        "planned": 1,
        "sending": 1,
        "in_doubt": 1,
        "accepted": 1,
        "completed": 1,
        "failed": 2,
    }
    assert (summary.total, summary.unfinished, summary.in_doubt) == (7, 4, 1)
    assert (summary.tokens_spent, summary.tokens_reserved) == (26, 90)
    assert (summary.began_at or 0) > 1_700_000_000
    assert (summary.changed_at or 0) >= (summary.began_at or 0)


def test_an_empty_ledger_has_a_summary(path: Path) -> None:
    """Nothing was spent, at no time."""
    with Ledger.create(path) as ledger:
        summary = ledger.summary()
    assert (summary.total, summary.tokens_spent, summary.began_at, summary.changed_at) == (0, 0, None, None)


@pytest.mark.anyio
async def test_rows_stream_while_the_run_goes_on(path: Path) -> None:
    """An observer holds no transaction between pages, and meets each item once."""
    async with opened(path) as writer:
        rows = await planned(writer, 1100)
        with Ledger(path) as ledger:
            seen = []
            for row in ledger.rows("planned", "dropped"):
                seen.append(row.number)
                if row.number == 2:
                    await writer.move(rows[1000], "dropped")
        assert seen == list(range(1, 1101))


def test_settings_are_remembered(path: Path) -> None:
    """A run can be resumed without its flags."""
    with Ledger.create(path) as ledger:
        assert ledger.settings == {}
        ledger.remember({"max_concurrency": 5})
        ledger.remember({"download_to": "clips", "nested": {"a": [1, None]}})
    with Ledger.create(path) as ledger:
        assert ledger.settings == {"download_to": "clips", "nested": {"a": [1, None]}}
        with pytest.raises(UsageError, match="plain JSON"):
            ledger.remember({"path": path})


@pytest.mark.anyio
@pytest.mark.parametrize("key", ["in_doubt", "sending"])
async def test_an_item_in_doubt_is_settled_by_hand(path: Path, key: str) -> None:
    """Adopted, sent again or dropped; what a dead run left as sending is in doubt too."""
    await story(path)
    with Ledger(path) as ledger:
        assert (row := ledger.resolve(key, adopt=18)).generation == generation(18, "unknown")
        assert row.state == states(path)[key] == "accepted"


@pytest.mark.anyio
@pytest.mark.parametrize("key", ["in_doubt", "sending"])
async def test_an_item_in_doubt_is_dropped_and_sent_again(path: Path, key: str) -> None:
    """Whoever drops may still think better of it."""
    await story(path)
    with Ledger(path) as ledger:
        assert ledger.resolve(key, "drop").state == states(path)[key] == "dropped"
        row = ledger.resolve(key, "resubmit")
        assert (row.state, row.reserved, row.submissions) == ("planned", None, 1)
        assert states(path)[key] == "planned"


@pytest.mark.anyio
async def test_an_accepted_item_is_dropped_or_adopts_another(path: Path) -> None:
    """Its generation was deleted at the service, or the id that a person gave it was wrong: no run can finish it."""
    await story(path)
    with Ledger(path) as ledger:
        assert ledger.resolve("accepted", adopt=18).generation == generation(18, "unknown")
        assert ledger.resolve("accepted", "drop").state == states(path)["accepted"] == "dropped"


@pytest.mark.anyio
async def test_what_cannot_be_settled_is_refused(path: Path) -> None:
    """An unknown item, one that is not in doubt, another's generation, no decision or two."""
    await story(path)
    wrong: list[tuple[type[NeuralBoxError], str, Callable[[Ledger], object]]] = [
        (LedgerError, "no item 'nobody'", lambda ledger: ledger.resolve("nobody", "drop")),
        (LedgerError, "is accepted and cannot", lambda ledger: ledger.resolve("accepted", "resubmit")),
        (LedgerError, "belongs to item 'completed'", lambda ledger: ledger.resolve("sending", adopt="gen_completed")),
        (UsageError, "Settle item", lambda ledger: ledger.resolve("sending")),
        (UsageError, "Settle item", lambda ledger: ledger.resolve("sending", "drop", adopt=18)),
        (UsageError, "Settle item", lambda ledger: ledger.resolve("sending", "forget")),  # type: ignore[arg-type]
        (UsageError, "id is an integer or a string", lambda ledger: ledger.resolve("sending", adopt="")),
    ]
    before = states(path)
    with Ledger(path) as ledger:
        for kind, words, attempt in wrong:
            with pytest.raises(kind, match=words):
                attempt(ledger)
    assert states(path) == before


@pytest.mark.anyio
async def test_failed_items_are_planned_again(path: Path) -> None:
    """All of them, with an event for each; the others stay as they are."""
    await story(path)
    before = states(path)
    with Ledger(path) as ledger:
        assert ledger.retry_failed() == 2
        assert ledger.retry_failed() == 0
        again = {row.key: row for row in ledger.rows("planned")}
    assert (again["failed"].generation, again["refused"].error, again["failed"].submissions) == (None, None, 1)
    assert states(path) == {**before, "failed": "planned", "refused": "planned"}
    assert len(sql(path, "SELECT 1 FROM event WHERE before = 'failed' AND after = 'planned'")) == 2
    async with opened(path) as writer:
        assert await writer.owned(["gen_failed"]) == {"gen_failed"}

"""A bulk run's ledger: what a step says is on the disk before the next one begins, and one process at a time writes it.

`LedgerWriter` is the run's own face of it, `Ledger` everybody else's. Whoever has a step to write queues it and waits
his turn; the first in turn commits for all who queued, so a thousand who wait cost a few commits, and no task or thread
is kept for that.
"""

import json
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, Unpack

import anyio
from attrs import define, evolve

from neuralbox_async._core import api, rows
from neuralbox_async._core.errors import LedgerError, NeuralBoxError, UsageError
from neuralbox_async._core.models import UNKNOWN, Generation, GenerationRequest, Id
from neuralbox_async._core.options import checked_path
from neuralbox_async._core.rows import Changes, Row, Summary
from neuralbox_async._edge import clock
from neuralbox_async._edge.database import Database, open_in_memory, open_to_read, open_to_write
from neuralbox_async._edge.ledger_table import MIGRATIONS, Table

T = TypeVar("T")
_PAGE = 500
_NUMBERS = count(1)  # of the ledgers in memory


class Executor(Protocol):
    """Runs work that blocks on the disk, such as in a worker thread, and gives what it returns or raises."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """Run it."""
        ...


async def inline(work: Callable[[], T], /) -> T:
    """Run work at once: in memory, or on a clock that does not wait for threads."""
    return work()


@define(eq=False)
class _Step:
    """One operation in the queue, and what came of it. `has_id` says that it writes a generation's id."""

    work: Callable[[], Any]
    has_id: bool = False
    value: Any = None
    error: NeuralBoxError | None = None
    settled: bool = False

    def attempt(self) -> None:
        try:
            self.value, self.error = self.work(), None
        except NeuralBoxError as error:
            self.error = error

    def result(self) -> Any:
        if self.error is not None:
            raise evolve(self.error)  # a copy: one error cannot be raised in several tasks
        return self.value


class LedgerWriter:
    """The ledger as its owner writes it: every method returns when what it wrote is durable.

    What was asked for is carried out, and waited for, even if the caller is cancelled meanwhile: so whoever gets an
    answer knows what is on disk. asyncio's own `task.cancel()` does end the wait, and the step is carried out still.

    After the disk has refused a write, no row becomes "sending" any more; a step that carries a generation's id is
    tried again with whatever is written later, and when this closes.

    Attributes:
        identity: What tells it from every other ledger of this process; a file has the same each time it is opened.
    """

    def __init__(self, database: Database, run: Executor) -> None:
        self.identity = database.name if database.path is not None else f"{database.name} {next(_NUMBERS)}"
        self._database = database
        self._table = Table(database)
        self._run = run if database.path is not None else inline
        self._turn = anyio.Lock()
        self._queue: deque[_Step] = deque()
        # A worker thread goes on when asyncio's task.cancel() hits the task that waits for it.
        self._one_at_a_time = threading.Lock()
        self._kept: dict[_Step, None] = {}  # in order: a later one begins where an earlier one ends
        self._refused: LedgerError | None = None
        self._closed = False

    @classmethod
    async def open(
        cls, path: Path | None, *, origin: str, account: Callable[[bytes], str], run: Executor
    ) -> "LedgerWriter":
        """Open a ledger to write, or begin one; with no path, one in memory.

        Args:
            path: The file; None for one that lasts as long as the process.
            origin: Where the API is. A ledger goes on with the origin and the account that it was begun with.
            account: Makes a fingerprint of the account from a salt; never the key itself.
            run: Where the disk is touched.

        Raises:
            LedgerError: it is in use, on the network, foreign, damaged, too new, or of another account or origin.
        """

        def opened() -> Database:
            database = open_in_memory(MIGRATIONS) if path is None else open_to_write(path, MIGRATIONS)
            try:
                with database.transaction():
                    Table(database).bind(origin, account)
            except BaseException:
                database.close()
                raise
            return database

        return cls(await (inline if path is None else run)(opened), run)

    @property
    def is_kept(self) -> bool:
        """Whether it outlasts the process: a file, and not one in memory."""
        return self._database.path is not None

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return self._database.name

    @property
    def is_broken(self) -> bool:
        """Whether the disk has refused a write, so that nothing may be sent any more."""
        return self._refused is not None

    async def add(self, request: GenerationRequest, *, index: int, repeat: int) -> Row:
        """Return the row of a request: a new one in "planned", or the one that is there.

        Raises UsageError if its key belongs to another request, or it cannot be written as JSON.
        """
        key = rows.row_key(request, repeat)
        if "\0" in key or key != key.encode("utf-8", "replace").decode():
            raise UsageError(f"Item {index} has the key {key!r}, which no file can hold; use letters and digits.")
        at = clock.wall()
        row = Row(number=0, key=key, index=index, state=rows.PLANNED, request=request, changed_at=at)
        digest, text = rows.digest(request), rows.written_request(request)
        added: Row = await self._do(_Step(lambda: self._table.add(row, digest, text)))
        return added

    async def move(self, row: Row, to: str, **changes: Unpack[Changes]) -> Row:
        """Take a step and return the row after it; see `rows.moved` for what becomes of each field.

        Raises LedgerError if no such step exists, if the row on disk is not in `row.state` any more, if the generation
        is another row's, or if the disk refuses.
        """
        after = rows.moved(row, to, at=clock.wall(), **changes)
        step = self._table.step(row, after)

        def write() -> Row:
            if self._refused is not None and to == rows.SENDING:
                raise self._refused
            return step()

        moved: Row = await self._do(_Step(write, has_id=changes.get("generation") is not None))
        return moved

    async def rows(self, *states: str, after: int = 0, limit: int = _PAGE) -> list[Row]:
        """Return up to `limit` rows in these states (in any, if none is named) behind a number, in order."""
        found: list[Row] = await self._do(_Step(lambda: self._table.rows(states, after, limit)))
        return found

    async def named(self, keys: Collection[str]) -> list[Row]:
        """Return the rows of those keys that there are."""
        found: list[Row] = await self._do(_Step(lambda: self._table.named(keys)))
        return found

    async def owned(self, ids: Collection[Id]) -> set[Id]:
        """Return those ids that are or once were a row's."""
        found: set[Id] = await self._do(_Step(lambda: self._table.owned(ids)))
        return found

    async def highest_id(self) -> int | None:
        """Return the highest integer id that is or once was a row's; None if there is none."""
        found: int | None = await self._do(_Step(self._table.highest_id))
        return found

    async def summary(self) -> Summary:
        """Return what the run has come to."""
        found: Summary = await self._do(_Step(self._table.summary))
        return found

    async def forget(self, row: Row) -> None:
        """Drop a finished row of a ledger in memory, so that an endless run stays flat.

        Raises LedgerError on a file: there, what was paid for is never forgotten.
        """
        if self._database.path is not None:
            raise LedgerError(f"The ledger {self._database.name} keeps every item; only one in memory can forget.")
        await self._do(_Step(lambda: self._table.forget(row)))

    async def aclose(self) -> None:
        """Try once more what could not be written, then close the file and let others own it."""
        try:
            with anyio.CancelScope(shield=True):
                async with self._turn:
                    await self._run(self._close)
        except anyio.get_cancelled_exc_class():  # asyncio's own: who comes next must not find the file in use
            self._close()
            raise

    async def _do(self, step: _Step) -> Any:
        self._database.check_process()
        self._queue.append(step)
        with anyio.CancelScope(shield=True):
            async with self._turn:
                if not step.settled:
                    await self._run(self._commit_the_queue)
        return step.result()

    def _commit_the_queue(self) -> None:
        with self._one_at_a_time:
            batch = [self._queue.popleft() for _ in range(len(self._queue))]
            if self._closed:
                self._settle(batch, LedgerError(f"The ledger {self._database.name} is closed; open it anew."))
            elif batch:
                self._try_the_kept()
                self._commit(batch)

    def _commit(self, batch: Sequence[_Step]) -> None:
        failure: LedgerError | None = LedgerError(f"The ledger {self._database.name} was interrupted; run it again.")
        try:
            with self._database.transaction():
                for step in batch:
                    step.attempt()
            failure = None
        except LedgerError as error:
            failure = self._refused = error
        finally:
            self._settle(batch, failure)

    def _settle(self, batch: Sequence[_Step], failure: LedgerError | None) -> None:
        for step in batch:
            if failure is not None:
                step.error = failure
            if step.has_id and failure is not None:
                self._kept.setdefault(step)
            elif step.has_id and step.error is None:
                self._kept.pop(step, None)
            step.settled = True

    def _try_the_kept(self) -> None:
        if self._kept:
            self._commit(list(self._kept))

    def _close(self) -> None:
        self._commit_the_queue()
        with self._one_at_a_time:
            if not self._closed:
                self._try_the_kept()
                self._database.close()
                self._closed = True


class Ledger:
    """A bulk run's ledger seen from outside, at any time, also while the run goes on.

    Reading never disturbs the run. What changes the ledger needs to own it for a moment, and raises LedgerError while
    a run does.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open it. Raises LedgerError if there is none, or it is foreign, damaged or of a newer version."""
        self._path = Path(checked_path("A ledger", path))
        self._database = open_to_read(self._path, MIGRATIONS)
        self._table = Table(self._database)

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> "Ledger":
        """Begin a ledger, or open the one that is there. Raises LedgerError as a run would."""
        open_to_write(Path(checked_path("A ledger", path)), MIGRATIONS).close()
        return cls(path)

    def summary(self) -> Summary:
        """Count the items by state, and the tokens."""
        with self._database.transaction():
            return self._table.summary()

    def rows(self, *states: str) -> Iterator[Row]:
        """Yield the items in these states (in any, if none is named), in order, some hundred at a time in memory.

        Raises UsageError for a state that does not exist.
        """
        last = 0
        while True:
            with self._database.transaction():
                page = self._table.rows(states, last, _PAGE)
            yield from page
            if len(page) < _PAGE:
                return
            last = page[-1].number

    @property
    def settings(self) -> Mapping[str, Any]:
        """What was remembered about the run, as plain JSON."""
        with self._database.transaction():
            return self._table.settings()

    def remember(self, settings: Mapping[str, Any]) -> None:
        """Keep the settings of the run, instead of those kept before; never put a key in them.

        Raises LedgerError while a run owns the ledger, UsageError if they are no plain JSON.
        """
        try:
            text = json.dumps(dict(settings), allow_nan=False)
        except (TypeError, ValueError) as error:
            reason = str(error)
        else:
            with self._owned() as table:
                table.set_job("settings", text)
            return
        raise UsageError(f"Settings must be plain JSON: {reason}.")

    def resolve(self, key: str, decision: Literal["resubmit", "drop"] | None = None, *, adopt: Id | None = None) -> Row:
        """Settle an item that stayed in doubt: adopt the generation that is its own, send it again, or drop it.

        One that failed or was dropped can be sent again, too. One that was accepted can be dropped, or adopt another
        generation: its own may have been deleted.

        Raises UsageError unless it is told exactly one of the three; LedgerError while a run owns the ledger, if there
        is no such item, if it stands where that cannot follow, or if the generation is another item's.
        """
        if (decision is None) == (adopt is None) or decision not in (None, "resubmit", "drop"):
            raise UsageError(f'Settle item {key!r} with one of "resubmit", "drop" and adopt=….')
        to = {"resubmit": rows.PLANNED, "drop": rows.DROPPED}[decision] if decision else rows.ACCEPTED
        adopted = None
        if adopt is not None:
            api.generation(adopt)  # raises for what cannot be an id
            adopted = Generation(id=adopt, status=UNKNOWN)
        at = clock.wall()
        with self._owned() as table:
            row = table.row(key)
            if row.state == rows.SENDING:  # nobody runs, so nobody learns any more what came of that POST
                row = table.step(row, rows.moved(row, rows.IN_DOUBT, at=at))()
            return table.step(row, rows.moved(row, to, at=at, generation=adopted))()

    def retry_failed(self) -> int:
        """Plan every failed item anew for the next run and return how many there were.

        Raises LedgerError while a run owns the ledger.
        """
        with self._owned() as table:
            return table.replan(rows.FAILED, clock.wall())

    def accept_new_key(self) -> None:
        """Let the next run go on with its own key, whatever key the ledger was begun with.

        It must be of the same account: in another one nothing that was paid for can be found, and all that is in doubt
        looks as if it had never been booked. Raises LedgerError while a run owns the ledger.
        """
        with self._owned() as table:
            table.unbind("account")

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _owned(self) -> Iterator[Table]:
        database = open_to_write(self._path, MIGRATIONS)
        try:
            with database.transaction():
                yield Table(database)
        finally:
            database.close()

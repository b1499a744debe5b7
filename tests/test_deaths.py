"""Whenever a run dies or is cancelled, and whatever goes wrong besides: nothing is paid twice, lost, or told wrongly.

Every step of one item's life is tried: before and after each turn of its ledger on the disk, before each request
leaves, when it is booked, and before each piece of its answer. At that step the process dies (nothing is written or
sent any more; the service lives on), or the run is cancelled. Then it is resumed, in a new client, until it ends.
"""

import asyncio
import os
import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import anyio
import httpx
import pytest
import sniffio
from attrs import define, evolve, field, frozen

from neuralbox_async import (
    Abandoned,
    APIStatusError,
    Event,
    GenerationFailedError,
    GenerationRequest,
    Ledger,
    LedgerRow,
    NeuralBoxError,
    Outcome,
    OutcomeUnknownError,
    Surplus,
)
from neuralbox_async._bulk import Run
from neuralbox_async._edge.database import open_to_write
from neuralbox_async._edge.ledger import LedgerWriter
from neuralbox_async._edge.ledger_table import MIGRATIONS
from neuralbox_async._life import Wishes
from neuralbox_async.plain import PlainClient
from neuralbox_async.sandbox import (
    Answer,
    Ask,
    Connection,
    Fault,
    Model,
    Sandbox,
    SandboxTransport,
    VirtualTimeLoop,
    faults,
    results,
)
from neuralbox_async.sandbox.account import Job

pytestmark = pytest.mark.anyio

T = TypeVar("T")
# Slow, and quickly painted.
SLOW = Model(slug="midjourney", kind="image", tokens=(1, 1), seconds=(5, 5.1), draw=lambda _: 5.0)
REQUEST = GenerationRequest("midjourney", "A flower", {"size": "8x8"}, key="flower")
SETTLE = 3.0
LAG = 2.0

POST, LOOK, HISTORY, FILE = "POST /generate", "GET /generate/{id}", "GET /user/history", "GET /generations/{name}"
LOST_TWICE = evolve(faults.lost(), books=2)
Orders = list[tuple[Fault, str]]

# One for each thing that a fault can make of a POST, or of what follows it: these meet every case.
KINDS: dict[str, Orders] = {
    "none": [],
    "refused": [(faults.refuse(), POST)],
    "cut": [(faults.cut(), POST)],
    "lost": [(faults.lost(), POST)],
    "hangs": [(faults.hang(), POST)],
    "doubled and lost": [(LOST_TWICE, POST)],
    "429": [(faults.rate_limited(7), POST)],
    "402": [(faults.status(402, "insufficient_tokens"), POST)],
    "404": [(faults.status(404, "not_found"), POST)],
    "a look is lost": [(faults.cut(), LOOK), (faults.html(), LOOK)],
    "lost, and so is the history": [(faults.lost(), POST), (faults.html(), HISTORY), (faults.cut_in_body(), HISTORY)],
    "the file is cut": [(faults.cut_in_body(), FILE)],
}
# Others that come to the same: these meet one case.
OTHERS: dict[str, Orders] = {
    "unreachable": [(faults.unreachable(), POST)],
    "cut in body": [(faults.cut_in_body(), POST)],
    "delayed": [(faults.delay(7), POST)],
    "500": [(faults.status(500, "internal"), POST)],
    "500 provider_error": [(faults.status(500), POST)],
    "503": [(faults.status(503, "overloaded"), POST)],
    "503 model_unavailable": [(faults.status(503, "model_unavailable"), POST)],
    "401": [(faults.status(401, "not_authenticated"), POST)],
    "409": [(faults.status(409, "conflict"), POST)],
    "a proxy's page": [(faults.html(502), POST)],
    "empty": [(faults.empty(), POST)],
    "garbled": [(faults.garbled(), POST)],
    "cut, and the history is garbled": [(faults.cut(), POST), (faults.garbled(), HISTORY)],
}


class Death(BaseException):
    """The process is gone."""


@define
class Fate:
    """Counts the steps of a life, and strikes at one of them.

    Attributes:
        at: Which; 0 for never.
        strike: What happens there.
        steps: How many have been taken.
        is_dead: Whether nothing is written or sent any more.
    """

    at: int = 0
    strike: Callable[[], object] = lambda: None
    steps: int = 0
    is_dead: bool = False

    def step(self) -> None:
        """Take a step."""
        if self.is_dead:
            raise Death
        self.steps += 1
        if self.steps == self.at:
            self.strike()

    def die(self) -> None:
        """End the process here."""
        self.is_dead = True
        raise Death

    async def run(self, work: Callable[[], T], /) -> T:
        """Touch the disk; a process may die before and after."""
        self.step()
        value = work()
        self.step()
        return value


@define
class Way:
    """The way to the service: a process may die when a request is read and booked, long before its answer."""

    sandbox: Sandbox
    fate: Fate
    accepted: list[int]

    def refusal(self, method: str, path: str) -> Connection | None:
        """Let the sandbox say whether it refuses."""
        return self.sandbox.refusal(method, path)

    def answer(self, ask: Ask, clock: float) -> Answer:
        """Let the sandbox answer, and count the POSTs that it accepts."""
        before = self.sandbox.booked
        answer = self.sandbox.answer(ask, clock)
        if self.sandbox.booked > before:
            self.accepted.append(self.sandbox.booked - before)
        self.fate.step()
        return answer


class MortalTransport(httpx.AsyncBaseTransport):
    """A transport whose process may die before a request leaves, and before a piece of its answer is taken in."""

    def __init__(self, way: Way) -> None:
        self._inner = SandboxTransport(way)
        self._fate = way.fate

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Carry one request."""
        self._fate.step()
        response = await self._inner.handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _MortalBody(response.stream, self._fate)
        return response


@define
class _MortalBody(httpx.AsyncByteStream):
    _body: httpx.AsyncByteStream
    _fate: Fate

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async with aclosing(aiter(self._body)) as parts:  # type: ignore[type-var]  # it is a generator
            async for part in parts:
                self._fate.step()
                yield part


@define
class Story:
    """A few items on their way through several processes, and what was seen of them.

    Attributes:
        sandbox: The service, which lives on.
        folder: Where the ledger and the results are.
        policy: The state of what the history has proved absent.
        requests: What is asked for.
        limit: How many at once.
        accepted: How many generations each accepted POST has booked.
        told: What observers have heard.
        outcomes: What the last run has given.
    """

    sandbox: Sandbox
    folder: Path
    policy: str
    requests: Sequence[GenerationRequest] = (REQUEST,)
    limit: int = 2
    accepted: list[int] = field(factory=list[int])
    told: list[Event] = field(factory=list[Event])
    outcomes: list[Outcome] = field(factory=list[Outcome])

    @property
    def path(self) -> Path:
        """The ledger's file."""
        return self.folder / "run.db"

    async def live(self, fate: Fate) -> None:
        """Run or resume in a process of its own, until it ends or dies."""
        wishes = Wishes(seconds=120, folder=self.folder, settle=SETTLE, absent=self.policy)
        way = Way(self.sandbox, fate, self.accepted)
        self.outcomes = []
        async with (
            PlainClient(MortalTransport(way)) as http_client,
            self.sandbox.client(http_client=http_client, observe=self.told.append) as nb,
        ):
            database = open_to_write(self.path, MIGRATIONS)
            database.execute("PRAGMA synchronous = OFF")  # real kills and real disks: nox -s kill
            ledger = LedgerWriter(database, fate.run)
            try:
                run = Run(self.requests, steps=nb._steps, ledger=ledger, wishes=wishes)  # noqa: SLF001 - with this executor
                async with run.outcomes(limit=self.limit) as outcomes:
                    self.outcomes = [each async for each in outcomes]
            finally:
                try:
                    await ledger.aclose()
                finally:
                    database.close()  # a dead process holds no locks, and what it had not written is not written

    async def end(self) -> None:
        """Resume until nothing is left to do; what ends a run early does so once."""
        for _ in range(4):
            try:
                await self.live(Fate())
            except APIStatusError:
                continue
            return

    @property
    def rows(self) -> list[LedgerRow]:
        """The items, in the input's order."""
        with Ledger(self.path) as ledger:
            return list(ledger.rows())

    def violations(self) -> list[str]:
        """Name what must not be, now that the last resume is over."""
        jobs, rows = list(self.sandbox.world.jobs.values()), self.rows
        known = {row.generation.id for row in rows if row.generation is not None}
        known |= {each.id for event in self.told if isinstance(event, Surplus) for each in event.generations}
        # Of items in doubt that differ in what the history does not show, nobody can tell whose a generation is.
        is_disputed = self._is_ambiguous and any(row.state == "in_doubt" for row in rows)
        wrong = [f"generation {job.id} is nobody's" for job in jobs if job.id not in known and not is_disputed]
        if len(self.accepted) > len(self.requests):
            wrong.append(f"{len(self.accepted)} submissions were accepted")
        outcomes = sorted(self.outcomes, key=lambda each: each.index)
        for row, outcome in zip(rows, outcomes, strict=True):
            wrong += [f"{row.key}: {each}" for each in _lies(outcome, row, jobs)]
            if row.state == "in_doubt" and (self.policy == "in_doubt" or self._is_ambiguous):
                continue
            if row.state not in ("saved", "failed"):
                wrong.append(f"{row.key} ended as {row.state}")
        return wrong

    @property
    def _is_ambiguous(self) -> bool:
        """Whether items differ in what the history does not show."""
        return any(one != two for one in self.requests for two in self.requests if one.prompt == two.prompt)


def _lies(outcome: Outcome, row: LedgerRow, jobs: list[Job]) -> list[str]:
    """Name what an outcome says that is not so."""
    error, generation = outcome.error, outcome.generation
    job = next((job for job in jobs if generation is not None and job.id == generation.id), None)
    asked = outcome.request.prompt, outcome.request.params
    if error is None:
        if job is None or outcome.path is None or outcome.path.read_bytes() != results.content(job):
            return [f"it says that all is well, with {generation} and {outcome.path}"]
        return [] if (job.prompt, job.params) == asked else ["it has another one's generation"]
    assert isinstance(error, NeuralBoxError)
    if isinstance(error, OutcomeUnknownError) != (row.state == "in_doubt"):
        return [f"it is {row.state}, and says {error!r}"]
    if isinstance(error, GenerationFailedError) and (job is None or job.error is None):
        return ["it says that what did not fail has failed"]
    paid = any(job.error is None and (job.prompt, job.params) == asked for job in jobs)
    is_alone = len(jobs) == 1  # of equal ones, another may have been paid
    return [f"{error!r} says that nothing was paid"] if paid and is_alone and error.billed == "no" else []


# --- what strikes -----------------------------------------------------------------------------------------------------


async def death(live: Callable[[], Coroutine[Any, Any, None]], fate: Fate) -> None:
    """End the process."""
    fate.strike = fate.die
    try:
        await live()
    except Death:
        pass
    except BaseExceptionGroup as group:
        if group.split(Death)[1] is not None:
            raise


async def cancellation(live: Callable[[], Coroutine[Any, Any, None]], fate: Fate) -> None:
    """Cancel the run, as a timeout around it does."""
    with anyio.CancelScope() as scope:
        fate.strike = scope.cancel
        await live()


async def interruption(live: Callable[[], Coroutine[Any, Any, None]], fate: Fate) -> None:
    """Cancel the task itself, as asyncio does on Ctrl-C: that goes straight through shields."""
    if sniffio.current_async_library() != "asyncio":
        return await cancellation(live, fate)
    task = asyncio.create_task(live())
    fate.strike = task.cancel
    await asyncio.wait([task])
    return None if task.cancelled() else task.result()


Strike = Callable[[Callable[[], Coroutine[Any, Any, None]], Fate], Awaitable[None]]


@frozen(kw_only=True)
class Case:
    """What strikes, what becomes of what is absent, and how late the history is."""

    strike: Strike
    policy: str
    lag: float


CASES = {
    "death, by default, lagging": Case(strike=death, policy="in_doubt", lag=LAG),
    "death, resubmitted": Case(strike=death, policy="planned", lag=0),
    "cancelled, resubmitted, lagging": Case(strike=cancellation, policy="planned", lag=LAG),
    "interrupted, by default": Case(strike=interruption, policy="in_doubt", lag=0),
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Give a folder in memory where the system has one: no story needs what it writes to outlast the machine."""
    memory = Path("/dev/shm")  # noqa: S108 - the folder made there has a name of its own, and is private
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir=memory) as own:
        yield Path(own)


@pytest.fixture(scope="module")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a ledger of no items, to be copied: making one takes longer than all else in a story."""
    path = tmp_path_factory.mktemp("empty") / "run.db"
    Ledger.create(path).close()
    return path


async def struck(case: Case, orders: Orders, folder: Path, at: int) -> tuple[bool, list[str]]:
    """Tell one story that is struck at a step: whether it was, and what must not be."""
    sandbox = Sandbox(plan="elite", models={SLOW.slug: SLOW}, history_lag=case.lag)
    for fault, on in orders:
        sandbox.order(fault, on=on)
    story = Story(sandbox, folder, case.policy)
    fate = Fate(at)
    with suppress(APIStatusError):  # 401 and 402 end a run
        await case.strike(lambda: story.live(fate), fate)
    await story.end()
    return fate.steps >= at, story.violations()


async def struck_at_every_step(case: Case, orders: Orders, folder: Path, empty: Path) -> dict[int, list[str]]:
    """Tell the story of each step, until it ends before it is struck; return what must not be, by the step."""
    wrong: dict[int, list[str]] = {}
    at, hit = 0, True
    while hit:
        at += 1
        home = folder / str(at)
        home.mkdir()
        shutil.copyfile(empty, home / "run.db")
        hit, wrong[at] = await struck(case, orders, home, at)
    assert at > 15  # so many steps has the shortest life: it is refused
    return {at: found for at, found in wrong.items() if found}


@pytest.mark.parametrize("fault", KINDS)
@pytest.mark.parametrize("case", CASES)
async def test_whenever_it_strikes(folder: Path, empty_ledger: Path, case: str, fault: str) -> None:
    """Nothing is paid twice, lost, or told wrongly: at every step, for each kind of fault, in each case."""
    assert await struck_at_every_step(CASES[case], KINDS[fault], folder, empty_ledger) == {}


@pytest.mark.parametrize("fault", OTHERS)
async def test_whatever_goes_wrong(folder: Path, empty_ledger: Path, fault: str) -> None:
    """Nothing is paid twice, lost, or told wrongly: at every step, for faults that come to the same as others."""
    case = CASES["death, by default, lagging"]
    assert await struck_at_every_step(case, OTHERS[fault], folder, empty_ledger) == {}


SIZES = [evolve(REQUEST, key=None, params={"size": size}) for size in ("8x8", "9x9")]
ASKED = {
    "equal": [SIZES[0]] * 2,
    "three equal": [SIZES[0]] * 3,
    "other params": SIZES,
    "equal, and other params": [*SIZES, SIZES[0]],
}
TWO: dict[str, Orders] = {
    **{name: KINDS[name] for name in ("none", "cut", "lost", "hangs", "doubled and lost", "429")},
    "both lost": [(faults.lost(), POST), (faults.lost(), POST)],
    "cut, then lost": [(faults.cut(), POST), (faults.lost(), POST)],
    "cut, then late": [(faults.cut(), POST), (faults.delay(9), POST)],
    "late, then lost": [(faults.delay(9), POST), (faults.lost(), POST)],
}
STRIKES = (death, cancellation, interruption)


@pytest.mark.parametrize("seed", range(60))
async def test_several_that_look_alike(folder: Path, empty_ledger: Path, seed: int) -> None:
    """Struck up to three times, at any step: nobody gets another's, and each that was booked is somebody's."""
    dice = random.Random(seed)
    sandbox = Sandbox(plan="elite", models={SLOW.slug: SLOW}, history_lag=dice.choice([0, LAG]))
    for fault, on in TWO[dice.choice(list(TWO))]:
        sandbox.order(fault, on=on)
    shutil.copyfile(empty_ledger, folder / "run.db")
    asked = ASKED[dice.choice(list(ASKED))]
    story = Story(sandbox, folder, dice.choice(["planned", "in_doubt"]), asked)
    for _ in range(dice.choice([1, 2, 3])):
        story.limit = dice.choice([1, 2, 3])
        fate = Fate(dice.randrange(1, 80))
        await dice.choice(STRIKES)(lambda fate=fate: story.live(fate), fate)  # type: ignore[misc]
    await story.end()
    assert story.violations() == []


# --- without a ledger ---------------------------------------------------------------------------------------------


class ShutDown(VirtualTimeLoop):
    """An event loop whose program ends at one of its turns."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left, self.over = at, asyncio.Event()

    def _run_once(self) -> None:
        self.left -= 1
        if not self.left:
            self.over.set()
        super()._run_once()  # type: ignore[misc]  # asyncio's own, at each turn


def untold_at_the_end(at: int) -> tuple[bool, set[str]]:
    """End a program amid a run, as `asyncio.run` does; return whether it had ended before, and what nobody was told."""
    sandbox, known = Sandbox(), set[str]()

    def hear(event: Event) -> None:
        if isinstance(event, Abandoned):
            known.add(event.request.prompt)

    async def program() -> None:
        requests = [GenerationRequest("gpt-5", "Hello"), GenerationRequest("kling-v2.1", "A flower")]
        async with sandbox.client(observe=hear) as nb, nb.generate_many(requests) as outcomes:
            async for outcome in outcomes:
                known.add(outcome.request.prompt)

    async def main() -> bool:
        tasks = [asyncio.create_task(each) for each in (program(), loop.over.wait())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].done()

    loop = ShutDown(at)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        ended = runner.run(main())
    return ended, {job.prompt for job in sandbox.world.jobs.values()} - known


# A task that is cancelled before its first turn leaves a coroutine of anyio's unawaited.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_a_program_that_ends_tells_of_each_generation() -> None:
    """Whichever turn of the loop is the last: what was accepted has come out, or is told."""
    at, ended, told = 0, False, []
    while not ended:
        at += 1
        ended, untold = untold_at_the_end(at)
        told.append(untold)
    assert at > 30
    assert set().union(*told) == set()

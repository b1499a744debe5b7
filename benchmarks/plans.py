"""Many generations waited for at once, and plans with few requests: rows 6 to 10 of waiting, in virtual time.

Under a plan every request counts, GETs too. The jobs of a backlog are lognormal with 48 to 75 s as 10 to 90 %; the
documentation's loop finishes 6.8 of them an hour. "Single looks" means that the history never shows ours.
"""

import math
import random
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

import anyio
from attrs import frozen

from benchmarks.laws import Law, Lognormal, documented
from benchmarks.optimum import best_ages, looks_and_delay
from benchmarks.rows import Row
from benchmarks.waiting import loop_of, run
from neuralbox_async import AsyncNeuralBox, GenerationRequest, Pacing, Rate
from neuralbox_async.sandbox import Model, Sandbox

SIXTY: Final = Lognormal(48, 75)
HOUR: Final = 3_600.0
MODEL: Final = "kling-v2.1"
KNOWN: Final = 50
SINGLE: Final = math.inf
LAGS: Final = (0.0, 30.0, 60.0, 120.0, 200.0, SINGLE)
# Multipliers among which the largest lower bound is sought.
PRICES: Final = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)


@frozen(kw_only=True)
class Ran:
    """What became of jobs waited for together: how many seconds each result lay there, and the requests."""

    late: list[float]
    looks: int
    pages: int
    posts: int
    refused: int

    @property
    def looks_a_job(self) -> float:
        """Return the requests that waiting took, a job."""
        return (self.looks + self.pages) / len(self.late)

    def __str__(self) -> str:
        kinds = f"{self.posts} POSTs, {self.looks} single looks, {self.pages} pages"
        return f"{kinds}, results {statistics.fmean(self.late):.1f} s late, at most {max(self.late):.0f} s"


def sandbox_of(law: Law, seed: int, *, plan: str, lag: float) -> Sandbox:
    """Return a sandbox whose one model takes times drawn from a law."""
    chance = random.Random(f"{seed} {lag}")
    clip = Model(slug=MODEL, kind="video", tokens=(1, 1), seconds=(45, 90), draw=lambda _: law(chance).seconds)
    return Sandbox(plan=plan, balance=10**9, models={MODEL: clip}, history_lag=lag)


def outcome(sandbox: Sandbox, late: list[float]) -> Ran:
    """Put together what became of the jobs."""
    asked = sandbox.requests
    pages = asked.of("GET", "/user/history")
    return Ran(late=late, looks=asked.looks, pages=pages, posts=asked.posts, refused=asked.answered(429))


def lateness(sandbox: Sandbox, generation_id: object) -> float:
    """Return how long a result lay there that is seen now."""
    return anyio.current_time() - sandbox.world.jobs[str(generation_id)].due


def knowing(law: Law, known: int) -> Pacing:
    """Return a pacing that has seen so many jobs of a law."""
    pacing, chance = Pacing({MODEL: (45, 90)}), random.Random(77)
    for _ in range(known):
        seconds = law(chance).seconds
        pacing.learn(MODEL, None, last=0, age=1_000, processing_ms=1_000 * seconds)
    return pacing


async def run_many(nb: AsyncNeuralBox, sandbox: Sandbox, late: list[float], count: int, at_once: int) -> None:
    """Run so many generations, at most so many at once, and note how late each is seen."""
    requests = (GenerationRequest(MODEL, f"Clip {number}") for number in range(count))
    async with nb.generate_many(requests, max_concurrency=at_once) as outcomes:
        async for each in outcomes:
            assert each.error is None  # noqa: S101 - a figure from another story would be worthless
            assert each.generation is not None  # noqa: S101 - as above
            late.append(lateness(sandbox, each.generation.id))


# --- under a plan ----------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Backlog:
    """An endless backlog worked off under VIP for some hours.

    Attributes:
        lag: After how many seconds the history lists a generation.
        hours: How long.
        limits: Requests an hour, one limit after the other, in equal parts of that time.
        rates: How many `Rate`s two clients of the account have between them; 0 for a single client.
        seed: Which of its fates.
    """

    lag: float
    hours: int
    seed: int = 1
    limits: tuple[int, ...] = (100,)
    rates: int = 0

    def ran(self) -> Ran:
        """Run it."""
        return run(self._run)

    async def _run(self) -> Ran:
        sandbox, late = sandbox_of(SIXTY, self.seed, plan="vip", lag=self.lag), list[float]()
        rates: Sequence[Rate | None] = [Rate() for _ in range(self.rates)] or [None]
        async with anyio.create_task_group() as tasks:
            for number in range(2 if self.rates else 1):
                tasks.start_soon(self._client, sandbox, late, rates[number % len(rates)])
            for limit in self.limits:
                sandbox.world.windows.hour.limit = limit
                await anyio.sleep(self.hours * HOUR / len(self.limits))
        return outcome(sandbox, late)

    async def _client(self, sandbox: Sandbox, late: list[float], rate: Rate | None) -> None:
        pacing = Pacing({MODEL: (45, 90)})
        async with sandbox.client(pacing=pacing, timeout=1e6, observe=bool, rate=rate) as nb:
            with anyio.move_on_after(self.hours * HOUR - 1):
                await run_many(nb, sandbox, late, 10**6, 100)


def offered(per_hour: int, hours: int) -> Ran:
    """Wait for jobs that come by chance, so many an hour, under VIP."""
    return run(_offered, per_hour, hours)


async def _offered(per_hour: int, hours: int) -> Ran:
    sandbox, chance, late = sandbox_of(SIXTY, 1, plan="vip", lag=0), random.Random(1), list[float]()
    async with sandbox.client(pacing=Pacing({MODEL: (45, 90)}), timeout=1e5) as nb:

        async def one(number: int) -> None:
            clip = await nb.generate(MODEL, f"Clip {number}")
            late.append(lateness(sandbox, clip.id))

        async with anyio.create_task_group() as tasks:
            for number in range(per_hour * hours):
                tasks.start_soon(one, number)
                await anyio.sleep(chance.expovariate(per_hour / HOUR))
    return outcome(sandbox, late)


# --- without a plan --------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Crowd:
    """So many jobs, so many at once, with requests to spare, by a client that knows nothing yet or fifty of them."""

    count: int
    at_once: int
    look_price: float
    lag: float = 0.0
    known: int = 0

    def ran(self) -> Ran:
        """Run it."""
        return run(self._run)

    async def _run(self) -> Ran:
        sandbox, late = sandbox_of(documented(MODEL), 1, plan="elite", lag=self.lag), list[float]()
        options: dict[str, Any] = {"look_price": self.look_price, "max_connections": 2 * self.at_once, "timeout": 1e6}
        async with sandbox.client(pacing=knowing(documented(MODEL), self.known), **options) as nb:
            await run_many(nb, sandbox, late, self.count, self.at_once)
        return outcome(sandbox, late)


@frozen(kw_only=True)
class Single:
    """Single looks at many jobs: what they took, the least delay that as many looks allow, and that of going round."""

    crowd: Crowd
    looks: float
    delay: float
    bound: float
    round_robin: float


def single(crowd: Crowd) -> Single:
    """Measure single looks.

    The bound is Lagrange's: for every price, delay ≥ J*(price) - price · looks. Going round looks at all jobs in turn.
    """
    law, ran, chance = documented(MODEL), crowd.ran(), random.Random(7)
    ends = [law(chance).seconds for _ in range(20_000)]
    bound = 0.0
    for price in PRICES:
        ages = best_ages(law, price)
        best = [looks_and_delay(ages, end) for end in ends]
        least = statistics.fmean(price * looks + delay for looks, delay in best)
        bound = max(bound, least - price * ran.looks_a_job)
    return Single(
        crowd=crowd,
        looks=ran.looks_a_job,
        delay=statistics.fmean(ran.late),
        bound=bound,
        round_robin=going_round(ends, ran.looks_a_job),
    )


def going_round(ends: Sequence[float], looks: float) -> float:
    """Return the delay of looking at every job each T seconds, with T such that it takes so many looks a job."""
    low, high = 0.5, 500.0
    for _ in range(40):
        middle = (low + high) / 2
        if statistics.fmean(math.ceil(end / middle) for end in ends) > looks:
            low = middle
        else:
            high = middle
    return statistics.fmean(math.ceil(end / high) * high - end for end in ends)


# --- rows ------------------------------------------------------------------------------------------------------------


def rows(pool: ProcessPoolExecutor) -> Iterator[Row]:
    """Measure row by row."""
    few = pool.submit(offered, 10, 24)
    yield single_looks_under_vip(fates(pool, SINGLE), 6)
    yield history_under_vip(fates(pool, 0.0), 6)
    yield few_under_vip(few.result())
    yield together("100 begun together", pool.submit(Crowd(count=100, at_once=100, look_price=2).ran).result())
    kept = pool.submit(Crowd(count=1_000, at_once=100, look_price=2).ran).result()
    yield together("100 kept pending, 1,000 jobs", kept)
    sizes = [(100, 2.0), (100, 1.0), (1_000, 2.0), (1_000, 1.0), (10_000, 2.0)]
    for found in pool.map(single, [many(size, price) for size, price in sizes]):
        yield many_row(found)
    yield from lagging(pool)
    yield from shared_and_changing(pool)


def fates(pool: ProcessPoolExecutor, lag: float) -> list[Ran]:
    """Work off a backlog for 6 h, once for each seed."""
    return list(pool.map(Backlog.ran, [Backlog(lag=lag, hours=6, seed=seed) for seed in range(1, 11)]))


def many(at_once: int, look_price: float) -> Crowd:
    """Return so many jobs at once that only single looks can see."""
    return Crowd(count=max(1_000, at_once), at_once=at_once, look_price=look_price, lag=SINGLE, known=KNOWN)


def single_looks_under_vip(ran: Sequence[Ran], hours: int) -> Row:
    """Make the row of a backlog without the history."""
    jobs, refused = slowest(ran, hours), max(each.refused for each in ran) / hours
    return Row(
        number="W6",
        work=f"VIP backlog, single looks only, {hours} h, the worst of {len(ran)} seeds",
        goal="≥ 45 jobs/h, ≤ 1 429/h",
        measured=f"{jobs:.1f} jobs/h, {refused:.1f} 429s/h",
        ok=jobs >= 45 and refused <= 1,
        detail=str(latest(ran)),
    )


def history_under_vip(ran: Sequence[Ran], hours: int) -> Row:
    """Make the row of a backlog with the history."""
    jobs, late, refused = slowest(ran, hours), max(latest(ran).late), sum(each.refused for each in ran)
    return Row(
        number="W7",
        work=f"VIP backlog, history fresh, {hours} h, the worst of {len(ran)} seeds",
        goal="≥ 80 jobs/h, ≤ 120 s late, no 429",
        measured=f"{jobs:.1f} jobs/h, ≤ {late:.0f} s late, {refused} 429s",
        ok=jobs >= 80 and not refused and late <= 120,
        detail=str(latest(ran)),
    )


def slowest(ran: Sequence[Ran], hours: int) -> float:
    """Return the fewest jobs an hour."""
    return min(len(each.late) for each in ran) / hours


def latest(ran: Sequence[Ran]) -> Ran:
    """Return the one with the result that lay there longest."""
    return max(ran, key=lambda each: max(each.late))


def few_under_vip(ran: Ran) -> Row:
    """Make the row of few jobs."""
    mean = statistics.fmean(ran.late)
    return Row(
        number="W8",
        work="VIP, 10 jobs/h offered, 24 h",
        goal="≤ 6 s late, no 429",
        measured=f"{mean:.1f} s late on average, {ran.refused} 429s",
        ok=mean <= 6 and not ran.refused,
        detail=str(ran),
    )


def together(work: str, ran: Ran) -> Row:
    """Make the row of a hundred that wait together."""
    looks, delay = ran.looks_a_job, statistics.fmean(ran.late)
    return Row(
        number="W9",
        work=f"{work}, history fresh, look_price 2",
        goal="≤ 0.5 looks/job, ≤ 1.2 s",
        measured=f"{looks:.2f} looks/job, {delay:.2f} s",
        ok=looks <= 0.5 and delay <= 1.2,
        detail=str(ran),
    )


def many_row(found: Single) -> Row:
    """Make the row of many single looks."""
    delay, bound, round_robin = found.delay, found.bound, found.round_robin
    return Row(
        number="W10",
        work=f"{found.crowd.at_once:,} pending, single looks, look_price {found.crowd.look_price:g}",
        goal="delay ≤ 1.15x bound, ≤ 0.55x going round",
        measured=f"{delay / bound:.2f}x, {delay / round_robin:.2f}x",
        ok=delay <= 1.15 * bound and delay <= 0.55 * round_robin,
        detail=f"{found.looks:.2f} looks/job; {delay:.2f} s late, bound {bound:.2f} s, going round {round_robin:.2f} s",
    )


def lagging(pool: ProcessPoolExecutor) -> Iterator[Row]:
    """Show histories that are late."""
    crowds = [Crowd(count=100, at_once=100, look_price=0.35, lag=lag) for lag in LAGS]
    for crowd, ran in zip(crowds, pool.map(Crowd.ran, crowds), strict=True):
        shown = "never shows ours" if crowd.lag == SINGLE else f"lags {crowd.lag:.0f} s"
        measured = f"{ran.looks_a_job:.2f} looks/job, {statistics.fmean(ran.late):.2f} s"
        yield beside(f"100 begun together, look_price 0.35, history {shown}", measured, ran)


def shared_and_changing(pool: ProcessPoolExecutor) -> Iterator[Row]:
    """Show a plan that changes, and two clients of one account."""
    told = {
        "VIP backlog, 100 an hour become 300 after 2 h": Backlog(lag=0.0, hours=4, limits=(100, 300)),
        "VIP backlog, 100 an hour become 30 after 2 h": Backlog(lag=0.0, hours=4, limits=(100, 30)),
        "two clients of one VIP account, one Rate": Backlog(lag=0.0, hours=4, rates=1),
        "two clients of one VIP account, a Rate each": Backlog(lag=0.0, hours=4, rates=2),
    }
    for work, ran in zip(told, pool.map(Backlog.ran, told.values()), strict=True):
        yield beside(f"{work}, 4 h", f"{len(ran.late) / 4:.1f} jobs/h, {ran.refused / 4:.1f} 429s/h", ran)


def beside(work: str, measured: str, ran: Ran) -> Row:
    """Make a row without a goal."""
    return Row(number="W+", work=work, goal="", measured=measured, ok=None, detail=f"{ran}, {ran.refused} 429s")


def jobs_an_hour_of_the_loop() -> float:
    """Work out how many jobs of a backlog the documentation's loop finishes in an hour of VIP: it looks on and on."""
    chance = random.Random(1)
    looks = statistics.fmean(each.looks for each in loop_of([SIXTY(chance).seconds for _ in range(10_000)]))
    return 100 / (1 + looks)

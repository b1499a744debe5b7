"""Rows 3, 4, 5 and 7: many looks at once: what each costs in CPU time and memory, and how evenly they are served."""

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median

import anyio
import httpx
from attrs import frozen

from benchmarks.clients import HEADERS, bounded, generation_url, look, ours, raw, raw_httpx
from benchmarks.measure import Call, at_once, compare, cpu_seconds, percentile, steady
from benchmarks.rows import Row, at_least, at_most, beside
from benchmarks.server import Server, running_server

WAITERS = 20_000
LATENCY_RUNS = 5
# Milliseconds the server takes, calls in flight, how many times less CPU we want, pairs, calls a pair.
AGAINST_A_SEMAPHORE = [
    (0, 2, 1, 30, 200),
    (0, 10, 1, 30, 200),
    (0, 100, 3, 9, 600),
    (0, 1_000, 1, 5, 2_000),
    (0, 5_000, 1, 3, 5_000),
    (20, 100, 4, 7, 600),
]


def rows() -> list[Row]:
    """Measure."""
    return anyio.run(measured)


async def measured() -> list[Row]:
    """Measure, in an event loop."""
    with running_server() as server:
        return [
            *await against_one_at_a_time(server),
            *await against_a_semaphore(server),
            *await launched_at_once(server),
            await memory_of_a_waiter(),
            await latency(server),
        ]


async def against_one_at_a_time(server: Server) -> list[Row]:
    """Row 3: a call costs the same however many there are. A thousand callers share 100 connections, or have 1,000."""
    made = []
    async with AsyncExitStack() as stack:
        one = look(await stack.enter_async_context(ours(server.url())))
        wide = look(await stack.enter_async_context(ours(server.url(), max_connections=1_000)))
        for call, in_flight, connections in ((one, 100, 100), (one, 1_000, 100), (wide, 1_000, 1_000)):
            ratio = await compare(call, one, pairs=15, calls=2_000, in_flight=in_flight, second_in_flight=1)
            work = f"nb.get, {in_flight:,} in flight, {connections:,} connections: CPU against 1 in flight"
            made.append(at_most("3", work, 1.25, ratio.middle, unit="x", detail=ratio))
    return made


async def against_a_semaphore(server: Server) -> list[Row]:
    """Row 4: raw httpx behind a semaphore of 100; it may keep all its 100 connections, which is not its default."""
    made = []
    for delay_ms, in_flight, goal, pairs, calls in AGAINST_A_SEMAPHORE:
        async with ours(server.url(delay_ms=delay_ms)) as nb, tuned_httpx(server, delay_ms) as theirs:
            ratio = await compare(theirs, look(nb), pairs=pairs, calls=calls, in_flight=in_flight)
        work = f"nb.get, {in_flight:,} in flight, {delay_ms} ms server: less CPU than httpx in a semaphore of 100"
        made.append(at_least("4", work, goal, ratio.middle, unit="x", detail=ratio))
    async with ours(server.url()) as nb, raw_httpx(server.url()) as plain:
        ratio = await compare(bounded(plain, 100), look(nb), pairs=3, calls=600, in_flight=100)
    work = "nb.get, 100 in flight, 0 ms server: less CPU than httpx with its default of 20 idle connections"
    return [*made, beside("4", work, ratio.middle, unit="x", detail=ratio)]


@asynccontextmanager
async def tuned_httpx(server: Server, delay_ms: int) -> AsyncIterator[Call]:
    """Give our GET by raw httpx as its users tune it."""
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
    async with httpx.AsyncClient(headers=HEADERS, limits=limits) as client:
        yield bounded(raw(client, generation_url(server.url(delay_ms=delay_ms))), 100)


async def launched_at_once(server: Server) -> list[Row]:
    """Row 5: cold, each call in a task of its own; the cost grows with the number of calls and no faster."""
    ratios, errors, seconds = [], 0, []
    for _ in range(3):
        few, failed_of_few = await cold(server, 1_000)
        many, failed_of_many = await cold(server, WAITERS)
        ratios.append(many / few)
        seconds.append(many)
        errors += failed_of_few + failed_of_many
    async with raw_httpx(server.url()) as plain:
        failed = await failures(plain, 1_000)
    cost = f"{median(seconds) / WAITERS * 1e6:.0f} µs a call; median of 3 cold pairs"
    return [
        at_most("5", "20,000 launched at once against 1,000, cold: CPU", 22, median(ratios), unit="x", detail=cost),
        at_most("5", "20,000 and 1,000 launched at once: errors", 0, errors, detail="three times each"),
        beside("5", "raw httpx, 1,000 launched at once: errors", failed, detail="of 1,000"),
    ]


async def cold(server: Server, calls: int) -> tuple[float, int]:
    """Launch calls on a new client; return the CPU time and how many failed."""
    async with ours(server.url()) as nb:
        failed: list[int] = []

        async def launch() -> None:
            failed.append(await failures(look(nb), calls))

        return await cpu_seconds(launch), sum(failed)


async def failures(call: Call, calls: int) -> int:
    """Launch calls at once and return how many failed."""
    failed = 0

    async def counted() -> None:
        nonlocal failed
        try:
            await call()
        except Exception:  # noqa: BLE001 - whatever it is, it is what this row counts
            failed += 1

    await at_once(counted, calls=calls)
    return failed


class Silent(httpx.AsyncBaseTransport):
    """Never answers."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Wait for ever."""
        await anyio.sleep_forever()
        raise AssertionError(request)


async def memory_of_a_waiter() -> Row:
    """Row 5: what a call holds while it waits in line, its asyncio task included."""
    async with httpx.AsyncClient(transport=Silent()) as client, ours("http://127.0.0.1/0", http_client=client) as nb:
        tracemalloc.start()
        tasks = [asyncio.create_task(nb.get(number)) for number in range(WAITERS)]
        await anyio.wait_all_tasks_blocked()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    work = f"memory of each of {WAITERS:,} calls waiting in line"
    return at_most("5", work, 3, held / WAITERS / 1_000, unit=" KB", detail="tracemalloc, asyncio tasks")


@frozen(kw_only=True)
class Latency:
    """The p99 of the latency, and the fair share: what all wait on average. In seconds."""

    p99: float
    fair: float

    @property
    def ratio(self) -> float:
        """Return how much longer the last in a hundred wait."""
        return self.p99 / self.fair


async def latency(server: Server) -> Row:
    """Row 7: of 100 callers, each gets its turn when it is due. The connections are open already.

    One in a hundred calls waits longer than the p99, and a hundred wait at a time: it is as long as the second longest
    delay of anything in a run, also of other work on the machine. So CPU time is shown beside it.
    """
    async with ours(server.url()) as nb:
        await steady(look(nb), calls=1_000, in_flight=100)
        waited, worked = zip(*[await latencies(look(nb)) for _ in range(LATENCY_RUNS)], strict=True)
    middle = sorted(waited, key=lambda run: run.ratio)[LATENCY_RUNS // 2]
    ratios = ", ".join(f"{run.ratio:.2f}" for run in waited)
    detail = (
        f"{middle.p99 * 1e3:.1f} ms against {middle.fair * 1e3:.1f} ms; {ratios}x in {LATENCY_RUNS} runs of 10,000 "
        f"calls; {median(run.ratio for run in worked):.2f}x by its own CPU time"
    )
    work = "nb.get, 100 in flight: p99 of the latency against the fair share"
    return at_most("7", work, 2, middle.ratio, unit="x", detail=detail)


async def latencies(call: Call) -> tuple[Latency, Latency]:
    """Measure one run: in time, and in CPU time of this process."""
    waited: list[float] = []
    worked: list[float] = []

    async def timed() -> None:
        began, before = time.perf_counter(), time.process_time()
        await call()
        waited.append(time.perf_counter() - began)
        worked.append(time.process_time() - before)

    began, before = time.perf_counter(), time.process_time()
    await steady(timed, calls=10_000, in_flight=100)
    rounds = 10_000 / 100
    in_all = ((waited, time.perf_counter() - began), (worked, time.process_time() - before))
    one, other = [Latency(p99=percentile(each, 0.99), fair=seconds / rounds) for each, seconds in in_all]
    return one, other

"""Rows 6 and 8: connections are kept, and none is lost to cancellations. The server counts."""

import random
from contextlib import suppress

import anyio
import httpx

from benchmarks.clients import HEADERS, generation_url, look, ours, raw
from benchmarks.measure import Call, steady
from benchmarks.rows import Row, at_least, at_most, beside
from benchmarks.server import Server, running_server

PLACES = 20
CALLS = 60
ROUNDS = 20
SLOW_MS = 20
PATIENCE_SECONDS = 10


def rows() -> list[Row]:
    """Measure."""
    with running_server() as server:
        return [
            *anyio.run(kept, server),
            *[after(backend, *anyio.run(ours_cancelled, server, backend=backend)) for backend in ("asyncio", "trio")],
            anyio.run(httpx_cancelled, server),
        ]


async def kept(server: Server) -> list[Row]:
    """Row 6."""
    return [await steady_state(server), await looks_apart(server)]


async def steady_state(server: Server) -> Row:
    """Row 6: once there are enough connections, no call makes another."""
    async with ours(server.url()) as nb:
        await steady(look(nb), calls=1_000, in_flight=100)
        before = server.stats().connections
        await steady(look(nb), calls=10_000, in_flight=100)
        made = server.stats().connections - before
    return at_most("6", "new connections in 10,000 calls, 100 in flight", 0, made, detail="counted by the server")


async def looks_apart(server: Server) -> Row:
    """Row 6: the longest time between two looks is 30 s; connections outlive it."""
    async with ours(server.url(delay_ms=SLOW_MS)) as nb:
        await steady(look(nb), calls=PLACES, in_flight=PLACES)
        before = server.stats().connections
        for _ in range(2):
            await anyio.sleep(30)
            await steady(look(nb), calls=PLACES, in_flight=PLACES)
        made = server.stats().connections - before
    return at_most(
        "6", f"new connections for {PLACES} looks, twice, 30 s apart", 0, made, detail="counted by the server"
    )


def after(backend: str, done: int, most: int) -> Row:
    """Row 8: all calls pass, over as many connections as there were before."""
    detail = f"{ROUNDS * CALLS:,} cancelled at random instants; {most} of {PLACES} connections at once afterwards"
    work = f"{CALLS} calls after random cancellations, {backend}: done"
    return at_least("8", work, CALLS, done if most == PLACES else 0, detail=detail)


async def ours_cancelled(server: Server) -> tuple[int, int]:
    """Cancel our looks."""
    async with ours(server.url(delay_ms=SLOW_MS), max_connections=PLACES) as nb:
        return await after_cancellations(look(nb), server)


async def httpx_cancelled(server: Server) -> Row:
    """Cancel the same GETs by raw httpx."""
    async with httpx.AsyncClient(headers=HEADERS, limits=httpx.Limits(max_connections=PLACES)) as client:
        done, most = await after_cancellations(raw(client, generation_url(server.url(delay_ms=SLOW_MS))), server)
    detail = f"{most} of {PLACES} connections at once afterwards"
    return beside("8", f"raw httpx, {CALLS} calls after random cancellations, asyncio: done", done, detail=detail)


async def after_cancellations(call: Call, server: Server) -> tuple[int, int]:
    """Cancel rounds of calls at random instants; return how many of the next calls get through, most at once."""
    chance = random.Random(0)
    for _ in range(ROUNDS):
        async with anyio.create_task_group() as tasks:
            for _ in range(CALLS):
                tasks.start_soon(cancelled_after, call, chance.uniform(0, 3 * SLOW_MS / 1000))
    await anyio.sleep(10 * SLOW_MS / 1000)
    server.stats()
    done = 0

    async def counted() -> None:
        nonlocal done
        with suppress(httpx.HTTPError):
            await call()
            done += 1

    with anyio.move_on_after(PATIENCE_SECONDS):
        async with anyio.create_task_group() as tasks:
            for _ in range(CALLS):
                tasks.start_soon(counted)
    return done, server.stats().most_at_once


async def cancelled_after(call: Call, seconds: float) -> None:
    """Cancel a call, unless it is done by then."""
    with anyio.move_on_after(seconds):
        await call()

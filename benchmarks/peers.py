"""Rows 9 and 10: the other clients on the same server, 50 in flight; and ours on aiohttp, 100 in flight."""

from contextlib import AsyncExitStack

import anyio

from benchmarks.clients import Peer, look, ours, ours_on_aiohttp, peers, raw_aiohttp
from benchmarks.measure import Call, compare, steady
from benchmarks.rows import Row, at_most, beside
from benchmarks.server import Server, running_server


def rows() -> list[Row]:
    """Measure."""
    return anyio.run(measured)


async def measured() -> list[Row]:
    """Measure, in an event loop."""
    with running_server() as server:
        async with AsyncExitStack() as stack:
            nb = look(await stack.enter_async_context(ours(server.url())))
            aiohttp = await stack.enter_async_context(raw_aiohttp(server.url()))
            on_aiohttp = await stack.enter_async_context(ours_on_aiohttp(server.url()))
            others = await stack.enter_async_context(peers(server.url()))
            return [
                await ceiling(server, aiohttp),
                *[await against_us(nb, peer) for peer in others],
                *[await against_its_raw_client(peer) for peer in others],
                *await with_aiohttp(nb, on_aiohttp, aiohttp),
            ]


async def ceiling(server: Server, quick: Call) -> Row:
    """Ask the server what CPU time an answer costs it: no client here is as fast as that."""
    await steady(quick, calls=500, in_flight=50)
    before = server.stats()
    await steady(quick, calls=10_000, in_flight=50)
    after = server.stats()
    rate = (after.requests - before.requests) / (after.cpu_seconds - before.cpu_seconds)
    return beside("-", "the server's ceiling", rate, unit=" answers/s", detail="by its own CPU time, asked by aiohttp")


async def against_us(nb: Call, peer: Peer) -> Row:
    """Row 9."""
    ratio = await compare(nb, peer.typed, pairs=15, calls=500, in_flight=50)
    work = f"nb.get, 50 in flight: CPU against {peer.name}"
    return at_most("9", work, 1, ratio.middle, unit="x", detail=ratio)


async def against_its_raw_client(peer: Peer) -> Row:
    """Show what a peer adds to its own raw client, as row 1 does for us."""
    ratio = await compare(peer.typed, peer.raw, pairs=30, calls=100)
    return beside(
        "1", f"{peer.name}, 1 in flight: CPU against its own raw client", ratio.middle, unit="x", detail=ratio
    )


async def with_aiohttp(nb: Call, on_aiohttp: Call, aiohttp: Call) -> list[Row]:
    """Row 10."""
    ratio = await compare(on_aiohttp, nb, pairs=30, calls=500, in_flight=100)
    work = "nb.get on aiohttp, 100 in flight: CPU against our default"
    plain = await compare(aiohttp, nb, pairs=10, calls=500, in_flight=100)
    return [
        at_most("10", work, 0.6, ratio.middle, unit="x", detail=ratio),
        beside("10", "raw aiohttp, 100 in flight: CPU against our default", plain.middle, unit="x", detail=plain),
    ]

"""Rows 1 and 2: what one look costs beside the same GET by raw httpx, one at a time: CPU time and function calls."""

from contextlib import AsyncExitStack

import anyio
from attrs import evolve

from benchmarks.clients import look, look_at_many, ours, raw_httpx
from benchmarks.measure import compare, function_calls
from benchmarks.rows import Row, at_most, beside
from benchmarks.server import running_server


def rows() -> list[Row]:
    """Measure."""
    return anyio.run(measured)


async def measured() -> list[Row]:
    """Measure, in an event loop."""
    with running_server() as server:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(ours(server.url()))
            nb = look(client)
            plain = await stack.enter_async_context(raw_httpx(server.url()))
            ratio = await compare(nb, plain, pairs=60, calls=150)
            many = await compare(look_at_many(client), plain, pairs=30, calls=150)
            at_1, top = await function_calls(nb, calls=1_000, in_flight=1)
            at_50, _ = await function_calls(nb, calls=2_000, in_flight=50)
            plain_at_1, _ = await function_calls(plain, calls=1_000, in_flight=1)
    drift = abs(at_50 / at_1 - 1) * 100
    return [
        evolve(
            at_most("1", "nb.get, 1 in flight: CPU against raw httpx", 1.05, ratio.middle, unit="x", detail=ratio),
            profile=top,
        ),
        beside("1", "the same, each look at another generation", many.middle, unit="x", detail=many),
        at_most("2", "nb.get, 1 in flight: function calls", 2_700, at_1, detail="cProfile"),
        beside("2", "raw httpx, 1 in flight: function calls", plain_at_1),
        at_most(
            "2", "nb.get, 50 in flight: function calls differ by", 2, drift, unit=" %", detail=f"{at_50:,.0f} calls"
        ),
    ]

"""A run over a network whose every connection breaks sooner or later: nothing is paid twice, and nothing is lost.

On real sockets and the real clock: a proxy between the client and a served sandbox cuts, by turns, before a byte, in
the request or in the answer, and sends what passes in pieces.
"""

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream
from anyio.from_thread import start_blocking_portal
from attrs import define

from neuralbox_async import AsyncNeuralBox, GenerationRequest, Outcome
from neuralbox_async.extras.aiohttp import aiohttp_client
from neuralbox_async.sandbox import Sandbox, serve

ITEMS = 30
MODELS = ("gpt-5", "kling-v2.1", "dall-e-3")
RUNS = 30
BROKEN = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


@define
class BadProxy:
    """Hands on what it gets, and cuts every connection after so many bytes of the request or of the answer."""

    server: tuple[str, int]
    connections: int = 0

    async def serve(self, client: SocketStream) -> None:
        """Serve one connection; the fourth of every four lives longest."""
        number = self.connections
        self.connections += 1
        sent, answered = [(0, 0), (number * 37 % 900, 10**6), (10**6, number * 53 % 700), (10**6, 200_000)][number % 4]
        async with client:
            if sent == 0:
                return
            async with await anyio.connect_tcp(*self.server) as server, anyio.create_task_group() as tasks:
                tasks.start_soon(self._pass, client, server, sent)
                await self._pass(server, client, answered)
                tasks.cancel_scope.cancel()

    async def _pass(self, source: SocketStream, target: SocketStream, most: int) -> None:
        with suppress(*BROKEN):
            while most > 0:
                piece = await source.receive(min(most, 1_000))
                most -= len(piece)
                await target.send(piece)
            for each in (source, target):  # close with a reset, as whatever stands between would
                each.extra(SocketAttribute.raw_socket).setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
                await each.aclose()


@asynccontextmanager
async def bad_network(sandbox: Sandbox) -> AsyncIterator[tuple[str, BadProxy]]:
    """Serve a sandbox in a thread, as its server needs asyncio, behind such a proxy; give the base URL."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serve(sandbox)) as base_url:
        url = urlsplit(base_url)
        proxy = BadProxy((url.hostname or "", url.port or 0))
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, proxy.serve)
            yield base_url.replace(str(url.port), str(listener.extra(SocketAttribute.local_port))), proxy
            tasks.cancel_scope.cancel()


async def run(nb: AsyncNeuralBox, folder: Path, *, resubmit_absent: bool) -> list[Outcome]:
    """Run all items, or what an earlier run has left of them; return their outcomes."""
    requests = [GenerationRequest(MODELS[number % 3], f"Number {number}", key=f"{number}") for number in range(ITEMS)]
    options: dict[str, Any] = {"ledger": folder / "ledger.db", "settle": 2, "resubmit_absent": resubmit_absent}
    async with nb.generate_many(requests, max_concurrency=ITEMS, download_to=folder, **options) as outcomes:
        return [outcome async for outcome in outcomes]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("anyio_backend", "over_aiohttp"),
    [("asyncio", False), ("trio", False), ("asyncio", True)],
    ids=["asyncio", "trio", "aiohttp"],
)
async def test_each_item_is_paid_for_once_and_comes_whole(tmp_path: Path, *, over_aiohttp: bool) -> None:
    """What a run leaves in doubt, the next one finds in the history, or sends if it is absent there."""
    sandbox = Sandbox(speed=200, plan="elite", balance=10**6)
    options: dict[str, Any] = {"pacing": sandbox.pacing(), "look_price": sandbox.look_price, "timeout": 60}
    async with bad_network(sandbox) as (base_url, proxy), aiohttp_client() as other:
        http_client = other if over_aiohttp else None
        async with AsyncNeuralBox(sandbox.key, base_url=base_url, http_client=http_client, **options) as nb:
            found = await run(nb, tmp_path, resubmit_absent=False)
            for _ in range(RUNS):
                if all(outcome.error is None for outcome in found):
                    break
                found = await run(nb, tmp_path, resubmit_absent=True)
    assert [outcome.error for outcome in found] == [None] * ITEMS
    assert len({outcome.generation.id for outcome in found if outcome.generation}) == ITEMS
    assert len(sandbox.charges) == ITEMS
    assert all(outcome.path is not None and outcome.path.stat().st_size for outcome in found)
    assert proxy.connections >= 12

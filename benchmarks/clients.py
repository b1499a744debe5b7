"""What is compared: one GET with a typed result, by each client, against the same server.

Each client is made as its documentation says, with its own defaults; only the base URL is ours. Peers are imported by
name, as they are installed for the benchmarks alone.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from importlib import import_module
from itertools import count

import anyio
import httpx
from attrs import frozen

from benchmarks.measure import Call
from benchmarks.server import GENERATION_ID
from neuralbox_async import AsyncNeuralBox
from neuralbox_async.extras.aiohttp import aiohttp_client

HEADERS = {"Authorization": "Bearer nb_benchmark"}


@frozen(kw_only=True)
class Peer:
    """Another client: its GET with a typed result, and the same GET by the raw client that it sits on."""

    name: str
    typed: Call
    raw: Call


def ours(url: str, *, http_client: httpx.AsyncClient | None = None, max_connections: int = 100) -> AsyncNeuralBox:
    """Return our client."""
    base_url = f"{url}/api/v2"
    return AsyncNeuralBox(
        "nb_benchmark", base_url=base_url, http_client=http_client, max_connections=max_connections, timeout=3600
    )


def look(nb: AsyncNeuralBox) -> Call:
    """Return our GET."""
    return lambda: nb.get(GENERATION_ID)


def look_at_many(nb: AsyncNeuralBox) -> Call:
    """Return our GET of ever other generations: nothing kept from the last look at one is of use for the next."""
    numbers = count(GENERATION_ID)
    return lambda: nb.get(next(numbers))


def generation_url(url: str) -> str:
    """Return what our GET asks for."""
    return f"{url}/api/v2/generate/{GENERATION_ID}"


def raw(client: httpx.AsyncClient, url: str) -> Call:
    """Return a GET of httpx (or of httpx2, which has the same interface), with its JSON."""

    async def get() -> object:
        return (await client.get(url)).json()

    return get


def bounded(call: Call, limit: int) -> Call:
    """Return a call of which at most so many are under way, by a semaphore, as httpx's users write it."""
    places = anyio.Semaphore(limit)

    async def one_of_a_few() -> object:
        async with places:
            return await call()

    return one_of_a_few


@asynccontextmanager
async def raw_httpx(url: str) -> AsyncIterator[Call]:
    """Give our GET by a plain httpx client, with httpx's defaults."""
    async with httpx.AsyncClient(headers=HEADERS) as client:
        yield raw(client, generation_url(url))


@asynccontextmanager
async def raw_aiohttp(url: str) -> AsyncIterator[Call]:
    """Give our GET by a plain aiohttp session."""
    async with import_module("aiohttp").ClientSession(headers=HEADERS) as session:

        async def get() -> object:
            async with session.get(generation_url(url)) as response:
                return await response.json()

        yield get


@asynccontextmanager
async def ours_on_aiohttp(url: str) -> AsyncIterator[Call]:
    """Give our GET by our client with the extra `aiohttp`."""
    async with aiohttp_client() as client, ours(url, http_client=client) as nb:
        yield look(nb)


@asynccontextmanager
async def peers(url: str) -> AsyncIterator[list[Peer]]:
    """Give the SDKs of this field that sit on httpx or httpx2."""
    async with AsyncExitStack() as stack:
        httpx2 = import_module("httpx2")
        plain = await stack.enter_async_context(httpx.AsyncClient(headers=HEADERS))
        plain2 = await stack.enter_async_context(httpx2.AsyncClient(headers=HEADERS))
        openai = import_module("openai").AsyncOpenAI(api_key="sk-benchmark", base_url=f"{url}/v1")
        await stack.enter_async_context(openai)
        anthropic = import_module("anthropic").AsyncAnthropic(api_key="sk-benchmark", base_url=url)
        await stack.enter_async_context(anthropic)
        replicate = import_module("replicate").Client(api_token="r8_benchmark", base_url=url)  # noqa: S106 - opens nothing
        fal = import_module("fal_client").AsyncClient(key="benchmark")
        # Its host comes from the environment, always with https://, so the handle gets its address by hand.
        status_url = f"{url}/fal-ai/flux/requests/764cabcf/status"
        handle = replace(await fal.get_handle("fal-ai/flux", "764cabcf"), status_url=status_url)
        model_url, prediction_url = f"{url}/v1/models/gpt-5", f"{url}/v1/predictions/1"
        yield [
            Peer(name="openai", typed=lambda: openai.models.retrieve("gpt-5"), raw=raw(plain2, model_url)),
            Peer(name="anthropic", typed=lambda: anthropic.models.retrieve("gpt-5"), raw=raw(plain2, model_url)),
            Peer(name="replicate", typed=lambda: replicate.predictions.async_get("1"), raw=raw(plain, prediction_url)),
            Peer(name="fal-client", typed=handle.status, raw=raw(plain, f"{status_url}?logs=false")),
        ]

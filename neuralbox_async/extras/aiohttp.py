"""The extra `aiohttp`: connections of aiohttp's for those to whom the CPU time of a request matters most.

    async with aiohttp_client() as http_client, AsyncNeuralBox(http_client=http_client) as nb:
        ...

The rules of money stay the same, since the witness in the body tells what left. What differs: asyncio only; one
connection pool of aiohttp's instead of our slots, so the gate alone keeps submissions from taking more than half; and
connections idle for 2 s are closed, looks' too, since aiohttp has one limit for all (a POST must not meet an idle one).
"""

from typing import Final
from urllib.request import getproxies

import httpx
from httpx_aiohttp import AiohttpTransport, HttpxAiohttpClient

from neuralbox_async.plain import PlainClient

# The same as for our own connections: below every common server's keep-alive timeout.
KEEPALIVE_SECONDS: Final = 2.0


def aiohttp_client(max_connections: int = 100) -> httpx.AsyncClient:
    """Return an `httpx.AsyncClient` that sends over aiohttp. It is yours to close, after the AsyncNeuralBox.

    Args:
        max_connections: Most connections at once; give AsyncNeuralBox the same number.
    """
    limits = httpx.Limits(max_connections=max_connections, keepalive_expiry=KEEPALIVE_SECONDS)
    if getproxies():  # httpx chooses among the environment's proxies for each URL
        return HttpxAiohttpClient(limits=limits, timeout=None)
    return PlainClient(AiohttpTransport(limits=limits))

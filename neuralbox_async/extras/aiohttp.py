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

from neuralbox_async.plain import PlainClient, environment_proxy

try:
    from aiohttp import ClientSession, DummyCookieJar, TCPConnector
    from httpx_aiohttp import AiohttpTransport
except ModuleNotFoundError as error:
    raise ModuleNotFoundError('aiohttp\'s connections need an extra: pip install "neuralbox-async[aiohttp]"') from error

# The same as for our own connections: below every common server's keep-alive timeout.
KEEPALIVE_SECONDS: Final = 2.0


def aiohttp_client(max_connections: int = 100) -> httpx.AsyncClient:
    """Return an `httpx.AsyncClient` that sends over aiohttp. It is yours to close, after the AsyncNeuralBox.

    Args:
        max_connections: Most connections at once; give AsyncNeuralBox the same number.
    """
    return PlainClient(_Pools(max_connections))


class _Pools(httpx.AsyncBaseTransport):
    """A pool of aiohttp's connections, and one for each proxy that the environment names. They keep no cookies."""

    def __init__(self, max_connections: int) -> None:
        self._most = max_connections
        self._trust = httpx.create_ssl_context()
        self._has_proxies = bool(getproxies())
        self._pools: dict[str | None, AiohttpTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request by the pool of its proxy."""
        proxy = environment_proxy(request.url) if self._has_proxies else None
        pool = self._pools.get(proxy)
        if pool is None:
            by = None if proxy is None else httpx.Proxy(proxy)
            pool = self._pools[proxy] = AiohttpTransport(verify=self._trust, proxy=by, client=self._session)
        return await pool.handle_async_request(request)

    def _session(self) -> ClientSession:
        connector = TCPConnector(limit=self._most, keepalive_timeout=KEEPALIVE_SECONDS, ssl=self._trust)
        return ClientSession(connector=connector, cookie_jar=DummyCookieJar())

    async def aclose(self) -> None:
        """Close all pools."""
        for pool in self._pools.values():
            await pool.aclose()

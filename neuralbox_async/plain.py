"""A plain httpx client sends each request as it is, once, by its transport: what AsyncNeuralBox asks of any client.

It takes the place of `httpx.AsyncClient` where nobody wants its auth, cookies, redirects and hooks, which cost a tenth
of the CPU time of a request. Whatever patches a transport, such as respx or a tracer, sees its requests. A transport of
one's own goes by the environment's proxy only where it asks for it.
"""

from urllib.request import getproxies, proxy_bypass

import httpx


class PlainClient(httpx.AsyncClient):
    """An `httpx.AsyncClient` with no auth, cookies, redirects, hooks or timeouts of its own; closes its transport."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        super().__init__(transport=transport, timeout=None)
        self._way = transport

    async def send(self, request: httpx.Request, *, stream: bool = False, **_: object) -> httpx.Response:
        """Send a request; the answer's body is read unless it is to be streamed. Takes httpx's options, to no effect.

        Raises RuntimeError once it is closed, and what the transport raises.
        """
        if self.is_closed:
            raise RuntimeError("Cannot send a request, as the client has been closed.")
        response = await self._way.handle_async_request(request)
        response.request = request
        if not stream:
            try:
                await response.aread()
            except BaseException:
                await response.aclose()
                raise
        return response


def environment_proxy(url: httpx.URL) -> str | None:
    """Return the proxy that the environment names for a URL (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY)."""
    if proxy_bypass(url.host):
        return None
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"

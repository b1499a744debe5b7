"""Result files: fetched from the hosts that results come from, by requests that never know the key.

Redirects are followed by hand, and each hop is checked as if it had been the address in the first place.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final, TypeVar

import anyio
import httpx

from neuralbox_async._core import api
from neuralbox_async._core.addresses import checked_result_url
from neuralbox_async._core.api import Answer, Call
from neuralbox_async._core.errors import APIError, NeuralBoxError
from neuralbox_async._core.models import Id
from neuralbox_async._edge.http import FREE_TIMEOUTS, Http, timed_out

T = TypeVar("T")
Consume = Callable[[Mapping[str, str], AsyncIterator[bytes]], Awaitable[T]]

MOST_REDIRECTS: Final = 3


async def fetch(http: Http, url: str, consume: Consume[T], *, generation_id: Id, deadline: float) -> T:
    """Fetch a result file without the key and hand its headers and bytes to `consume`, again from the start if cut.

    Raises ResponseError if the URL, or one it redirects to, is not on a host of results; else as `Http.send`.
    """
    call = api.download(generation_id)
    failures = 0
    while True:
        try:
            with anyio.CancelScope(deadline=deadline):
                gate = http.slots.gate(paid=False)
                await gate.acquire()
                try:
                    return await _fetch(http, call, url, consume)
                finally:
                    gate.release()
            raise timed_out(call)
        except NeuralBoxError as error:
            failure = error
        failures += 1
        await http.wait_to_retry(call, failure, failures, deadline)


async def _fetch(http: Http, call: Call[bytes], url: str, consume: Consume[T]) -> T:
    client = http.slots.client()
    for _ in range(MOST_REDIRECTS + 1):
        checked_result_url(url, base_url=http.base_url, file_hosts=http.file_hosts)
        came = await _fetch_once(http, call, client, url, consume)
        if not isinstance(came, httpx.URL):
            return came
        url = str(came)
    raise APIError(f"download {call.generation_id}: redirected more than {MOST_REDIRECTS} times, at last to {url}.")


async def _fetch_once(
    http: Http, call: Call[bytes], client: httpx.AsyncClient, url: str, consume: Consume[T]
) -> T | httpx.URL:
    """Fetch one URL; return what `consume` makes of it, or where it redirects to."""
    address = httpx.URL(url)
    headers = {"Host": address.netloc.decode("ascii"), "Accept": "*/*", "Accept-Encoding": "identity"}
    request = httpx.Request("GET", address, headers=headers, extensions={"timeout": FREE_TIMEOUTS})
    try:
        response = await client.send(request, auth=None, follow_redirects=False, stream=True)
        try:
            if response.has_redirect_location:
                return address.join(response.headers["location"])
            if response.is_success:
                return await consume(response.headers, response.aiter_bytes())
            failure: NeuralBoxError = api.status_error(
                call, Answer(status=response.status_code, headers=response.headers, body=b"")
            )
        finally:
            await response.aclose()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        failure = http.no_answer(call, error)
    raise failure

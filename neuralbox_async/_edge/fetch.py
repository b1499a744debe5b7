"""Result files: fetched piece by piece from the hosts that results come from, by requests that never know the key.

Redirects are followed by hand, and each hop is checked as if it had been the address in the first place. What is cut
goes on where it was, if the server can tell that it is still the same file, and else from the start.
"""

from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import httpx
from attrs import evolve, frozen

from neuralbox_async._core import api, ranges
from neuralbox_async._core.addresses import checked_result_url, must_be_public
from neuralbox_async._core.api import Answer
from neuralbox_async._core.errors import APIConnectionError, APIError, APIStatusError, NeuralBoxError, ResponseError
from neuralbox_async._core.models import Id
from neuralbox_async._edge import bodies, clock
from neuralbox_async._edge.http import FREE_TIMEOUTS, Http
from neuralbox_async._edge.once import timed_out
from neuralbox_async._edge.pinning import public_address
from neuralbox_async._edge.slots import CLOSE_SECONDS, DIRECT
from neuralbox_async.plain import environment_proxy

MOST_REDIRECTS: Final = 3
# A signed address may have expired before the file has: these are worth asking for a fresh one.
EXPIRED: Final = frozenset({403, 404, 410})
_NO_PROXY: Final = (
    "Result files are fetched without the environment's proxy; pass http_client=httpx.AsyncClient(), which uses it."
)
_RENEWAL_SECONDS: Final = 30.0


@frozen
class Piece:
    """Some bytes of a file and their place in it; none of them where a body begins."""

    at: int
    data: bytes

    @property
    def begins_anew(self) -> bool:
        """Whether the file begins here, perhaps once more."""
        return not self.at and not self.data


class Fetching:
    """The result file of one generation, as an async iterator of pieces; `aclose` it in any case.

    Whenever a body begins there is a piece without bytes, which says where. Raises from the iteration what went wrong
    for good: APIStatusError, APIConnectionError (APITimeoutError at the deadline), ResponseError for a file of more
    than `most` bytes, or one on a host that results do not come from.

    Attributes:
        total: The bytes of the whole file; None while nobody knows.
        validator: What tells whether the rest, asked for later, is of the same file; None if nothing does.
        digest: What the whole file must hash to; None if the server does not say.
    """

    def __init__(
        self,
        http: Http,
        generation_id: Id,
        url: str,
        *,
        deadline: float,
        most: int,
        at: int = 0,
        validator: str | None = None,
    ) -> None:
        self.total: int | None = None
        self.validator = validator
        self.digest: ranges.Digest | None = None
        self._http = http
        self._id = generation_id
        self._call = api.download(generation_id)
        self._url = url
        self._deadline = deadline
        self._most = most
        self._at = self._furthest = at
        self._failures = 0
        self._renewed = self._whole = self._is_page = False
        self._held = AsyncExitStack()
        self._unread: tuple[httpx.Response, AsyncIterator[bytes]] | None = None
        self._pieces: AsyncIterator[bytes] | None = None

    def __aiter__(self) -> "Fetching":
        return self

    async def __anext__(self) -> Piece:
        while not self._whole:
            try:
                with anyio.CancelScope(deadline=self._deadline):
                    piece = await self._pull()
                    if piece is None:
                        break
                    return piece
                failure: NeuralBoxError = timed_out(self._call)
            except NeuralBoxError as error:
                failure = error
            await self.aclose()
            await self._recover(failure)
        self._whole = True
        await self.aclose()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Give the connection back, or close it if its body was not read to the end."""
        unread, self._unread, self._pieces = self._unread, None, None
        if unread is not None and not self._whole:
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await bodies.leave(*unread)
        await self._held.aclose()

    # --- one body ----------------------------------------------------------------------------------------------------

    async def _pull(self) -> Piece | None:
        """Begin a body, or take its next piece; None at its end."""
        try:
            if self._pieces is None:
                await self._open()
                return Piece(self._at, b"")
            data = await anext(self._pieces, None)
        except Exception as error:  # noqa: BLE001 - a transport may raise anything
            failure = self._http.no_answer(self._call, error)
            if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) and environment_proxy(httpx.URL(self._url)):
                failure = evolve(failure, message=f"{failure.message} {_NO_PROXY}")
        else:
            return self._taken(data)
        raise failure

    def _taken(self, data: bytes | None) -> Piece | None:
        if self._is_page and self._at == 0 and (data or b"").removeprefix(BOM_UTF8).lstrip().startswith(b"<"):
            raise ResponseError(
                f"download {self._id}: a web page came in place of the file; see generation.url in a browser.",
                retryable=True,
            )
        if data is None and self.total in (None, self._at):
            return None
        self._at += len(data or b"")
        if data is None or self._at > (self.total or self._at):
            raise self._cut(f"{self._at} of {self.total} bytes came")
        self._check_size(self._at)
        return Piece(self._at - len(data), data)

    async def _open(self) -> None:
        client = await self._held.enter_async_context(self._http.slots.slot(paid=False))
        url = self._url
        for _ in range(MOST_REDIRECTS + 1):
            response = await self._send(client, url)
            self._held.push_async_callback(response.aclose)
            if not response.has_redirect_location:
                return self._begin(response)
            url = str(httpx.URL(url).join(response.headers["location"]))
            await response.aclose()
        raise APIError(f"download {self._id}: redirected more than {MOST_REDIRECTS} times, at last to {url[:200]}.")

    async def _send(self, client: httpx.AsyncClient, url: str) -> httpx.Response:
        base_url, file_hosts = self._http.base_url, self._http.file_hosts
        checked_result_url(url, base_url=base_url, file_hosts=file_hosts)
        address = httpx.URL(url)
        host = address.raw_host.decode("ascii")
        if urlsplit(url).hostname not in (host, address.host):  # then it was not this host that was checked
            raise ResponseError(
                f"The result's URL {url[:200]!r} can be read in two ways; fetch generation.url yourself."
            )
        headers = {"Host": address.netloc.decode("ascii"), "Accept": "*/*", "Accept-Encoding": "identity"}
        if self._at and self.validator is not None:
            headers |= {"Range": f"bytes={self._at}-", "If-Range": self.validator}
        extensions: dict[str, Any] = {"timeout": FREE_TIMEOUTS, DIRECT: host}
        if must_be_public(url, base_url=base_url, file_hosts=file_hosts):
            checked = await public_address(host, address.port or 443, attempt=self._failures)
            address = address.copy_with(host=checked)
            extensions["sni_hostname"] = host  # whose certificate is then checked
            headers["Connection"] = "close"  # a caller's pool knows connections by their address alone
        return await self._answered(client, httpx.Request("GET", address, headers=headers, extensions=extensions))

    async def _answered(self, client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
        started = clock.now()
        try:
            response = await client.send(request, auth=None, follow_redirects=False, stream=True)
        except Exception:
            self._http.tell_of_request(self._call, None, started)
            raise
        self._http.tell_of_request(self._call, response.status_code, started)
        return response

    def _begin(self, response: httpx.Response) -> None:
        """Judge an answer by its head: where in the file its body begins, and whether it is one at all."""
        status = response.status_code
        if status == 416 and self._at:
            self.validator = None
            raise self._cut("there is less of it than before")
        if not response.is_success:
            raise self._refused(response)
        facts = ranges.file_facts(status, response.headers) if status in (200, 206) else None
        if facts is None or not self._fits(facts, response.headers):
            self.validator = None
            raise self._cut(f"HTTP {status} came with a part that nobody asked for, or with none")
        if facts.start:  # what this answer leaves out, the first one said
            facts = evolve(facts, validator=self.validator, digest=facts.digest or self.digest)
        coding = bodies.coding(response)
        self._pieces = bodies.pieces(response)
        self._unread = response, self._pieces
        if coding not in bodies.INFLATABLE | {"identity"} and not response.is_stream_consumed:
            raise ResponseError(f"download {self._id}: the file came packed as {coding[:50]!r}.")
        if coding != "identity":  # what the headers say is then about the packed bytes
            facts = evolve(facts, total=None, validator=None, digest=None)
        self._at, self.total, self.validator, self.digest = facts.start, facts.total, facts.validator, facts.digest
        # What stands in front of a storage host may say that it is away with a 200.
        self._is_page = response.headers.get("content-type", "").lower().startswith("text/html")
        self._check_size(self.total or 0)

    def _fits(self, facts: ranges.FileFacts, headers: Mapping[str, str]) -> bool:
        if facts.start == 0:
            return True
        goes_on = facts.start == self._at and self.total in (None, facts.total)
        return goes_on and ranges.confirms(self.validator, headers)

    def _check_size(self, size: int) -> None:
        if size > self._most:
            raise ResponseError(
                f"download {self._id}: the file has more than {self._most:,} bytes; "
                "pass a larger max_bytes if you want it."
            )

    # --- what goes wrong ---------------------------------------------------------------------------------------------

    def _cut(self, how: str) -> APIConnectionError:
        message = f"download {self._id}: the file was cut: {how}; download it again."
        return APIConnectionError(message, retryable=True, generation_id=self._id)

    def _refused(self, response: httpx.Response) -> APIStatusError:
        error = api.status_error(self._call, Answer(status=response.status_code, headers=response.headers, body=b""))
        if error.status_code not in EXPIRED:
            return error
        message = (
            f"download {self._id}: HTTP {error.status_code}: the file is not there; results expire after some time."
        )
        return evolve(error, message=message)

    async def _recover(self, failure: NeuralBoxError) -> None:
        """Make ready for another body, now or after a wait; raise the failure if there shall be none."""
        if self.validator is None:
            self._at = 0
        if isinstance(failure, APIStatusError) and failure.status_code in EXPIRED and await self._renew():
            return
        if self._at > self._furthest:
            self._furthest, self._failures = self._at, 0
        self._failures += 1
        await self._http.wait_to_retry(self._call, failure, self._failures, self._deadline)

    async def _renew(self) -> bool:
        """Ask once, by a look at the generation, where the file lies now; say whether that is somewhere else."""
        if self._renewed:
            return False
        self._renewed = True
        try:
            deadline = min(self._deadline, clock.now() + _RENEWAL_SECONDS)
            found = await self._http.send(api.generation(self._id), deadline=deadline)
        except NeuralBoxError:
            return False
        before, self._url = self._url, found.url or self._url
        return self._url != before

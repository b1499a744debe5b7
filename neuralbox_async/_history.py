"""The history, newest first, each generation once: what arrives meanwhile shifts pages, and repeats are dropped."""

from collections import deque
from collections.abc import AsyncIterator

from neuralbox_async._core import api
from neuralbox_async._core.models import Generation, Id
from neuralbox_async._edge import clock
from neuralbox_async._edge.http import Http


class History:
    """The account's generations as an async iterator that may be left at any time; it reads pages as they are needed.

    Each page may take `timeout` seconds.
    """

    def __init__(self, http: Http, *, timeout: float) -> None:
        self._http = http
        self._timeout = timeout
        self._ready = deque[Generation]()
        self._known = set[Id]()
        self._page = 0
        self._entries = 0
        self._over = False

    def __aiter__(self) -> AsyncIterator[Generation]:
        return self

    async def __anext__(self) -> Generation:
        while not self._ready:
            if self._over:
                raise StopAsyncIteration
            await self._turn()
        return self._ready.popleft()

    async def _turn(self) -> None:
        """Read the next page."""
        page = await self._http.send(api.history(page=self._page + 1), deadline=clock.now() + self._timeout)
        self._page += 1
        self._entries += page.entries
        self._over = page.entries == 0 or (page.total is not None and self._entries >= page.total)
        new = [each for each in page.items if each.id not in self._known]
        self._known.update(each.id for each in new)
        self._ready.extend(new)

"""The history, newest first, each generation once: what arrives meanwhile shifts pages, and repeats are dropped.

Filters are sent, and every entry is held against them all the same: the documents disagree on their names, and a filter
that the service does not know lets everything through. What an entry does not say cannot be held against it.
"""

from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any

from attrs import frozen

from neuralbox_async._core import api
from neuralbox_async._core.models import Generation, Id
from neuralbox_async._edge import clock
from neuralbox_async._edge.http import Http


@frozen(kw_only=True)
class Filters:
    """Which entries are wanted; None: any."""

    model: str | None = None
    status: str | None = None
    category: str | None = None
    favorites_only: bool = False

    def sent(self) -> Mapping[str, str]:
        """Return the filters under the names of the service's first family."""
        named = {"model_slug": self.model, "status": self.status, "category": self.category}
        asked = {name: value for name, value in named.items() if value is not None}
        return {**asked, "favorites_only": "true"} if self.favorites_only else asked

    def passes(self, entry: Generation) -> bool:
        """Say whether nothing that an entry says is against it."""
        wanted: list[tuple[Any, Any]] = [
            (self.model, entry.model),
            (self.status, entry.status),
            (self.category, entry.category),
            (self.favorites_only or None, entry.is_favorited),
        ]
        return all(None in (asked, said) or asked == said for asked, said in wanted)


class History:
    """The account's generations as an async iterator that may be left at any time; it reads pages as they are needed.

    Each page may take `timeout` seconds.
    """

    def __init__(self, http: Http, *, timeout: float, filters: Filters) -> None:
        self._http = http
        self._filters = filters
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
        call = api.history(page=self._page + 1, filters=self._filters.sent())
        page = await self._http.send(call, deadline=clock.now() + self._timeout)
        self._page += 1
        self._entries += page.entries
        self._over = page.entries == 0 or (page.total is not None and self._entries >= page.total)
        new = [each for each in page.items if each.id not in self._known]
        self._known.update(each.id for each in new)
        self._ready.extend(each for each in new if self._filters.passes(each))

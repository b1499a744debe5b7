"""The service's models, each once, however the list comes: its envelope and its paging are not documented.

A first page that says how many there are in all, and holds fewer, is followed by further ones until one adds nothing.
"""

from neuralbox_async._core import api
from neuralbox_async._core.account import Model
from neuralbox_async._edge.http import Http


async def all_models(http: Http, *, deadline: float) -> tuple[Model, ...]:
    """Read all models; the deadline is loop time. Raises APIError if no good answer came."""
    found: dict[str, Model] = {}
    number, entries, total = 0, 0, 1
    while entries < total:
        number, before = number + 1, len(found)
        page = await http.send(api.models(page=number), deadline=deadline)
        found = {**{each.slug: each for each in page.items}, **found}
        entries, total = entries + page.entries, page.total or 0
        if len(found) == before:
            break
    return tuple(found.values())

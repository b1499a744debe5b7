"""The history shows the account's generations newest first, late if it lags, with prompts cut short if it is told to.

Filters go by either family's names (contract §7); one it does not know is ignored, as most services do.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import dropwhile, islice
from typing import Final

from attrs import field, frozen

from neuralbox_async.sandbox.account import Job
from neuralbox_async.sandbox.replies import Family, View

DEFAULT_LIMIT: Final = 20
MOST: Final = 100
FILTERS: Final = frozenset({"category", "type", "model_slug", "model", "status", "favorites_only"})
CATEGORIES: Final[Mapping[str, str]] = {"music": "audio", "speech": "tts"}
"""What the history calls a kind of model, where it has another word for it."""


@frozen(kw_only=True)
class History:
    """How the service keeps its history.

    Attributes:
        lag: Client seconds after which a generation is listed.
        prompt_length: Characters of a prompt that are shown, the rest replaced by "…"; None for all.
    """

    lag: float = 0.0
    prompt_length: int | None = None
    _written: dict[int | str, tuple[object, str]] = field(factory=dict, init=False, repr=False)

    def page(self, jobs: Iterable[Job], view: View, family: Family, query: Mapping[str, str]) -> str:
        """Return one page of the jobs, which come newest first, as JSON."""
        number, limit = _count(query, "page", 1), min(MOST, _count(query, "limit", DEFAULT_LIMIT))
        shown = list(dropwhile(lambda job: job.created + self.lag > view.now, jobs))
        if query.keys() & FILTERS:
            shown = list(filter(_filter(query, view), shown))
        entries = ", ".join([self._entry(job, view, family) for job in _slice(shown, number, limit)])
        return f'{{"items": [{entries}], {json.dumps(family.listed(len(shown), number, limit))[1:]}'

    def _entry(self, job: Job, view: View, family: Family) -> str:
        """Return an entry as JSON; written once for all pages that say the same of its job."""
        mark = view.mark(job)
        facts = job.status(view.now), mark.is_favorited, mark.user_rating, view.origin
        before, text = self._written.get(job.id, (None, ""))
        if before != facts:
            text = json.dumps(family.entry(job, self._prompt(job), category(job), view))
            self._written[job.id] = facts, text
        return text

    def _prompt(self, job: Job) -> str:
        short = self.prompt_length
        return job.prompt if short is None or len(job.prompt) <= short else f"{job.prompt[:short]}…"


def category(job: Job) -> str:
    """Return the history's word for what a job makes."""
    return CATEGORIES.get(job.model.kind, job.model.kind)


def _slice(jobs: Iterable[Job], page: int, limit: int) -> Iterable[Job]:
    return islice(jobs, (page - 1) * limit, page * limit)


def _count(query: Mapping[str, str], name: str, usual: int) -> int:
    value = query.get(name, "")
    return max(1, int(value)) if value.isdecimal() else usual


def _filter(query: Mapping[str, str], view: View) -> Callable[[Job], bool]:
    kind = query.get("category") or query.get("type")
    model = query.get("model_slug") or query.get("model")
    status = query.get("status")
    favorites_only = query.get("favorites_only") == "true"
    return lambda job: (
        (kind is None or category(job) == kind)
        and (model is None or job.model.slug == model)
        and (status is None or job.status(view.now) == status)
        and (not favorites_only or view.mark(job).is_favorited)
    )

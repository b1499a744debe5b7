"""Which page of the history shows whom, as tables; how pages are used is told in `test_looks.py`."""

from typing import Any

import pytest

from neuralbox_async import Generation, Pacing
from neuralbox_async._core.models import HistoryPage
from neuralbox_async._pages import Page, Pages, page_down_to
from neuralbox_async._watches import Job, Jobs, Watch


@pytest.mark.parametrize("position", [*range(0, 100, 7), *range(95, 105), *range(195, 205), 444, 999])
def test_a_page_shows_the_oldest_and_as_many_newer_ones_as_it_can(position: int) -> None:
    """It has at most a hundred entries, and where the hundreds cut a crowd in two, it is laid around the older ones."""
    page = page_down_to(position)
    assert page.shows(position)
    assert 1 <= page.limit <= 100
    assert page.shows(max(0, position - 45))
    assert page.begins + page.limit - position > 3 or page.limit == 100


@pytest.mark.parametrize(
    ("position", "page"),
    [
        (0, Page(1, 100)),
        (99, Page(1, 100)),
        (145, Page(2, 75)),  # 75 to 149: those of a hundred kept pending that are likely to be done
        (199, Page(2, 100)),
        (440, Page(5, 89)),
    ],
)
def test_a_page_ends_soon_behind_the_oldest(position: int, page: Page) -> None:
    """The first page is always a whole one, as the history may have others on top."""
    assert page_down_to(position) == page


def test_a_page_begins_where_the_one_before_it_ends() -> None:
    """Places count from 0 for the newest."""
    assert [Page(3, 40).shows(place) for place in (79, 80, 119, 120)] == [False, True, True, False]


def test_a_few_thousand_entries_are_kept() -> None:
    """The latest ones that pages have shown, where nobody waits."""
    pages = Pages(Jobs(), Pacing())
    for first in range(0, 2_300, 100):
        entries = tuple(Generation(id=number, status="completed") for number in range(first, first + 100))
        pages.take(Page(1, 100), HistoryPage(items=entries, entries=100), [], others=True, now=0.0)
    assert list(pages.entries) == list(range(300, 2_300))


def watch_of(
    *,
    model: str = "kling-v2.1",
    params: dict[str, Any] | None = None,
    accepted_at: float = 100.0,
    last: float = 20.0,
    hint: float | None = 9.0,
) -> Watch:
    """Return a watch of a job."""
    return Watch(7, job=Job(model=model, params=params, accepted_at=accepted_at), last=last, hint=hint)


@pytest.mark.parametrize("options", [{"accepted_at": 100.1}, {"last": 20.1}, {"params": {"seed": 3}}])
def test_jobs_of_one_kind_and_one_moment_are_alike(options: dict[str, Any]) -> None:
    """They are thought of once: those accepted and looked at within a quarter of the floor (half a second)."""
    pages = Pages(Jobs(), Pacing())
    assert pages.alike(watch_of(**options)) == pages.alike(watch_of())


@pytest.mark.parametrize(
    "options",
    [
        {"accepted_at": 100.2},
        {"last": 21.0},
        {"hint": 10.0},
        {"hint": None},
        {"model": "luma-ray2"},
        {"params": {"duration": 10}},
    ],
)
def test_jobs_of_other_kinds_and_moments_are_not_alike(options: dict[str, Any]) -> None:
    """What may end otherwise is thought of by itself."""
    pages = Pages(Jobs(), Pacing())
    assert pages.alike(watch_of(**options)) != pages.alike(watch_of())


def test_a_second_failure_does_not_shorten_what_the_service_has_asked_for() -> None:
    """Of several pages under way one may be told to wait five minutes, and the next merely be cut."""
    pages = Pages(Jobs(), Pacing())
    pages.rest(now=100.0, least=300.0)
    pages.rest(now=105.0)
    assert pages.rests_until(most=60.0) == 400.0


def test_a_history_that_rested_on_one_event_loop_does_not_on_the_next() -> None:
    """A clock that shows less is another loop's, so what was to be waited for on the old one is over."""
    pages = Pages(Jobs(), Pacing())
    watches = [watch_of(accepted_at=accepted_at) for accepted_at in (-90.0, -80.0, -85.0)]
    for watch in watches:
        pages.next_look(watch, 2.0, own=50.0, now=900.0)
    asked = [pages.next_look(watches[0], 2.0, own=0.0, now=now)[1] for now in (1_000.0, 1_000.0)]
    pages.rest(now=1_000.0)
    asked += [pages.next_look(watches[0], 2.0, own=0.0, now=now)[1] for now in (1_001.0, 10.0)]
    assert [len(group) for group in asked] == [3, 3, 0, 3]

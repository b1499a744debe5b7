"""Which page of the history shows whom, as tables; how pages are used is told in `test_looks.py`."""

import pytest

from neuralbox_async._pages import Page, page_down_to


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

"""Looks that fail: for how long they are repeated, and how long they rest, as tables."""

import math

import pytest

from neuralbox_async import InternalServerError
from neuralbox_async._core.trouble import Trouble, longest_rest, patience


@pytest.mark.parametrize(
    ("price", "repeated", "rest"),
    [
        (0.0, 60, 60),
        (0.35, 60, 60),
        (1.0, 60, 60),
        (2.0, 30, 120),
        (4.0, 15, 240),
        (50.0, 15, 240),
        (math.inf, 15, 240),
    ],
)
def test_the_dearer_a_request_the_fewer_are_spent_on_what_fails(price: float, repeated: float, rest: float) -> None:
    """It is repeated for a minute and rests for one; from a price of 1 s on for less, and for more."""
    assert (patience(price), longest_rest(price)) == (repeated, rest)


@pytest.mark.parametrize(
    ("since", "price", "asked", "rest"),
    [
        (100.0, 0.35, None, 1),
        (90.0, 0.35, None, 10),
        (-9_000.0, 0.35, None, 60),
        (90.0, 3.0, None, 30),
        (-9_000.0, math.inf, None, 240),
        (90.0, 0.35, 5, 10),
        (90.0, 0.35, 500, 500),
    ],
)
def test_a_look_rests_for_as_long_as_it_has_failed(
    since: float, price: float, asked: float | None, rest: float
) -> None:
    """A second at least, a minute at most, longer where requests are dear or the service says so."""
    trouble = Trouble(failure=InternalServerError(retry_after=asked), since=since, failed_at=100.0)
    assert trouble.rests_until(price) == 100 + rest
    assert trouble.forbidden_until == 100 + (asked or 0)

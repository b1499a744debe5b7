"""The words that all commands share."""

import pytest

from neuralbox_async.extras.cli.wording import duration, many


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.04, "0 s"),
        (0.84, "0.8 s"),
        (3, "3 s"),
        (9.6, "10 s"),
        (89.4, "89 s"),
        (89.5, "90 s"),
        (91, "2 min"),
        (600, "10 min"),
        (5_400, "1.5 h"),
        (7_200, "2.0 h"),
        (200_000, "2.3 days"),
    ],
)
def test_duration(seconds: float, words: str) -> None:
    """One number, of a size that a person can picture."""
    assert duration(seconds) == words


@pytest.mark.parametrize(("number", "words"), [(0, "0 lines"), (1, "1 line"), (2, "2 lines"), (1_000, "1,000 lines")])
def test_many(number: int, words: str) -> None:
    """One is not many."""
    assert many(number, "line") == words

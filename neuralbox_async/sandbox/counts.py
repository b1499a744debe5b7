"""What was asked is counted by method, path template and status, and nothing of it is kept."""

from collections import Counter

from attrs import define, field

UNANSWERED = 0
"""Stands for the status of a request whose connection was cut, or hangs, without an answer."""


@define
class Requests:
    """How often each request was read; `counts` is by (method, path template, HTTP status or `UNANSWERED`)."""

    counts: Counter[tuple[str, str, int]] = field(factory=Counter[tuple[str, str, int]])
    refused: int = 0
    """Connections refused or never made: their requests were not read, and are in no other number."""
    files_with_key: int = 0
    """Requests for result files that carried an Authorization header. It has no business there."""

    def note(self, method: str, template: str, status: int) -> None:
        """Count one request."""
        self.counts[method, template, status] += 1

    def of(self, method: str, template: str) -> int:
        """Return how often this was asked, whatever the answer: `of("GET", "/balance")`."""
        return sum(count for asked, count in self.counts.items() if asked[:2] == (method, template))

    def answered(self, status: int) -> int:
        """Return how many requests got this HTTP status."""
        return sum(count for asked, count in self.counts.items() if asked[2] == status)

    @property
    def total(self) -> int:
        """Return how many requests were read."""
        return self.counts.total()

    @property
    def posts(self) -> int:
        """Return how many generations were asked for."""
        return self.of("POST", "/generate")

    @property
    def looks(self) -> int:
        """Return how many times a single generation was looked at."""
        return self.of("GET", "/generate/{id}")

    @property
    def downloads(self) -> int:
        """Return how many times a result file was asked for."""
        return self.of("GET", "/generations/{name}")

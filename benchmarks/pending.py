"""Row 12: many generations pending in one run: what each holds in memory, and how late it is looked at.

No HTTP: a transport in this process accepts and answers at once. The pacing is a stand-in that spreads the first looks
evenly over a span and notes when each is due, so that lateness is known exactly.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from subprocess import run
from sys import executable
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import httpx
from attrs import define, field

from benchmarks.measure import percentile, resident_bytes
from benchmarks.rows import Row, at_most
from neuralbox_async import AsyncNeuralBox, GenerationRequest, Pacing

SIZES = (10_000, 100_000)
LOOKS_PER_SECOND = 300
WATCHED_SECONDS = 20


@define
class Due(Pacing):
    """A pacing that spreads looks evenly after a beginning, and knows when each is due."""

    begins: float = 0.0
    span: float = 0.0
    due: dict[int, float] = field(factory=dict)

    def seconds_until_look(self, model: str, params: Any, **known: Any) -> float:
        """Draw when to look at a job; asked again before it is due, say the same."""
        number, now = int(params["number"]), anyio.current_time()
        if number not in self.due:
            self.due[number] = max(now, self.begins) + random.uniform(0, self.span)
        return max(0.0, self.due[number] - now)

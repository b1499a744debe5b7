"""Row 12: many generations pending in one run: what each holds in memory, and how late it is looked at.

No HTTP: a transport in this process accepts and answers at once. The pacing is a stand-in that asks for so many looks a
second in all, at random, and knows when each is due. Each size has a fresh Python, as memory is what the system says.
"""

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
from attrs import define, field

from benchmarks.measure import percentile, resident_bytes
from benchmarks.rows import Row, at_most
from neuralbox_async import AsyncNeuralBox, GenerationRequest, Pacing
from neuralbox_async.sandbox import VirtualTimeLoop

SIZES = (10_000, 100_000)
LOOKS_PER_SECOND = 300  # in the long run; at first half as many
WATCHED_SECONDS = 20.0
SUBMITTED_AT_ONCE = 2_000


@define
class Due(Pacing):
    """A pacing that wants a look at a job after a random time, and knows when each is due."""

    span: float = 1.0
    due: dict[int, float] = field(factory=dict)

    def seconds_until_look(self, model: str, params: Any, **known: Any) -> float:  # noqa: ARG002 - the pacing's own
        """Draw when to look at a job; asked again before the look, say the same."""
        number, now = int(params["number"]), anyio.current_time()
        if number not in self.due:
            self.due[number] = now + random.uniform(0, self.span)
        return max(0.0, self.due[number] - now)


@define(eq=False)
class Accepting(httpx.AsyncBaseTransport):
    """Takes every generation, lets none finish, and notes when it was asked for what."""

    expected: int
    all_accepted: anyio.Event = field(factory=anyio.Event)
    asked: list[tuple[int, float]] = field(factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer at once; there is no history, so that all looks are single ones."""
        if request.url.path.endswith("/history"):
            return httpx.Response(404)
        if request.method == "POST":
            self.expected -= 1
            number = json.loads(await request.aread())["params"]["number"]
            if not self.expected:
                self.all_accepted.set()
        else:
            number = int(request.url.path.rpartition("/")[2])
            self.asked.append((number, anyio.current_time()))
        return httpx.Response(200, json={"id": number, "status": "pending", "model_slug": "kling-v2.1"})


@define(eq=False)
class Late(Accepting):
    """Knows of each look how late it comes, and lets the pacing draw anew."""

    pacing: Due = field(kw_only=True)
    seconds: list[float] = field(factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer at once."""
        if request.method == "GET" and not request.url.path.endswith("/history"):
            number = int(request.url.path.rpartition("/")[2])
            self.seconds.append(anyio.current_time() - self.pacing.due.pop(number))
        return await Accepting.handle_async_request(self, request)


def rows() -> list[Row]:
    """Measure."""
    return [*[row for size in SIZES for row in of_size(size)], anyio.run(herd, backend_options=VIRTUAL)]


VIRTUAL = {"loop_factory": VirtualTimeLoop}


def of_size(size: int) -> Iterator[Row]:
    """Measure one size in a fresh Python."""
    command = [sys.executable, "-m", "benchmarks.pending", str(size)]
    root = Path(__file__).parent.parent
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout  # noqa: S603 - itself
    kilobytes, lag_ms, looks = json.loads(said)
    yield at_most(
        "12", f"{size:,} pending in generate_many: memory of each", 10, kilobytes, unit=" KB", detail="resident"
    )
    detail = f"{looks:,} looks in {WATCHED_SECONDS:.0f} s"
    yield at_most(
        "12", f"{size:,} pending in generate_many: p99 of how late a look is", 60, lag_ms, unit=" ms", detail=detail
    )


def client(http_client: httpx.AsyncClient, **options: Any) -> AsyncNeuralBox:
    """Return a client that is silent about what is left pending at the end."""
    wired: dict[str, Any] = {
        "base_url": "https://a.test",
        "http_client": http_client,
        "observe": bool,
        "timeout": 86_400,
    }
    return AsyncNeuralBox("nb_benchmark", **wired, **options)


async def watched(size: int) -> tuple[float, float, int]:
    """Let so many be pending for a while; return kilobytes of each, the p99 of the lag in ms, and the looks."""
    pacing = Due(span=2 * size / LOOKS_PER_SECOND)
    transport = Late(size, pacing=pacing)
    requests = (GenerationRequest("kling-v2.1", "A blooming flower", {"number": number}) for number in range(size))
    async with httpx.AsyncClient(transport=transport) as http_client:
        nb = client(http_client, pacing=pacing)
        async with nb.generate_many([]):  # loads what a run needs
            before = resident_bytes()
        async with nb.generate_many(requests, max_concurrency=size):
            await transport.all_accepted.wait()
            await anyio.sleep(1)
            held = resident_bytes() - before
            await anyio.sleep(2)  # what fell due while the memory was counted is late
            transport.seconds.clear()
            await anyio.sleep(WATCHED_SECONDS)
            late = list(transport.seconds)
    return held / size / 1_000, percentile(late, 0.99) * 1_000, len(late)


async def herd() -> Row:
    """Accept many at one instant of virtual time, with the usual pacing: how many looks come at one instant."""
    transport = Accepting(SUBMITTED_AT_ONCE)
    requests = (
        GenerationRequest("kling-v2.1", "A blooming flower", {"number": number}) for number in range(SUBMITTED_AT_ONCE)
    )
    async with httpx.AsyncClient(transport=transport) as http_client:
        nb = client(http_client)
        async with nb.generate_many(requests, max_concurrency=SUBMITTED_AT_ONCE):
            await anyio.sleep(120)
    instants = Counter(round(when, 1) for _, when in transport.asked)
    share = max(instants.values()) / SUBMITTED_AT_ONCE * 100
    work = f"{SUBMITTED_AT_ONCE:,} accepted at one instant: looked at in the busiest 0.1 s"
    return at_most("12", work, 25, share, unit=" %", detail=f"{len(transport.asked):,} looks in 120 s of virtual time")


if __name__ == "__main__":
    print(json.dumps(anyio.run(watched, int(sys.argv[1]))))

"""Plans with few requests, told as stories on the sandbox: whatever a window has left, no result waits for the next."""

import math
import random
from collections import deque
from collections.abc import Sequence

import anyio
import pytest
from attrs import define, field

from neuralbox_async import GenerationRequest, Pacing
from neuralbox_async.sandbox import Model, Plan, Sandbox
from neuralbox_async.sandbox.calendar import Calendar
from neuralbox_async.sandbox.plans import Window

pytestmark = pytest.mark.anyio

HOUR = 3_600.0


@define(kw_only=True)
class SlidingWindow(Window):
    """Each request comes free an hour after it was made; the reset is when the next one does."""

    made: deque[float] = field(factory=deque[float])
    now: float = 0.0

    def roll(self, calendar: Calendar, now: float) -> None:  # noqa: ARG002 - a sliding one needs no calendar
        """Take in what was used since, and let go what is an hour old."""
        self.made.extend([self.now] * (self.used - len(self.made)))
        self.now = now
        while self.made and self.made[0] <= now - self.length + 1e-6:
            self.made.popleft()
        self.used, self.next_opens = len(self.made), (self.made[0] if self.made else now) + self.length


def lasting(seconds: Sequence[float] | float, *, seed: int = 0) -> dict[str, Model]:
    """Return a catalogue with one video that takes these times in turn, or about so many seconds."""
    chance, turns = random.Random(seed), iter(seconds if isinstance(seconds, Sequence) else ())

    def draw(_: random.Random) -> float:
        return next(turns) if isinstance(seconds, Sequence) else chance.lognormvariate(math.log(seconds), 0.174)

    return {"clip": Model(slug="clip", kind="video", tokens=(1, 1), seconds=(45, 90), draw=draw)}


async def lateness(sandbox: Sandbox, pacing: Pacing, *, count: int, hours: float, at_once: int = 100) -> list[float]:
    """Work off a backlog for some hours; return how many seconds each result lay there, seen or not."""
    late: dict[str, float] = {}
    requests = (GenerationRequest("clip", f"A flower {number}") for number in range(count))
    jobs = sandbox.world.jobs
    async with (
        sandbox.client(timeout=1e6, observe=bool, pacing=pacing) as nb,
        nb.generate_many(requests, max_concurrency=at_once) as outcomes,
    ):
        with anyio.move_on_after(hours * HOUR):
            async for outcome in outcomes:
                assert outcome.generation is not None
                job = str(outcome.generation.id)
                late[job] = anyio.current_time() - jobs[job].due
    assert sandbox.requests.answered(429) == 0
    return [late.get(name, max(0.0, hours * HOUR - job.due)) for name, job in jobs.items()]


def knowing(seconds: float) -> Pacing:
    """Return a pacing that has seen fifty jobs of about so many seconds."""
    pacing, chance = Pacing({"clip": (45, 90)}), random.Random(1)
    for _ in range(50):
        took = chance.uniform(0.95, 1.05) * seconds
        pacing.learn("clip", None, last=0, age=1_000, processing_ms=1_000 * took)
    return pacing


@pytest.mark.parametrize("lag", [0.0, math.inf], ids=["with the history", "single looks"])
@pytest.mark.parametrize("longer", [4, 6, 7, 8])
async def test_the_last_pending_one_of_a_window_is_fetched_in_it(lag: float, longer: int) -> None:
    """The job that a window's last requests are for takes longer than any before it, and is not left until the next."""
    plan = Plan(name="few", per_hour=12, per_day=1_000)
    seconds = [70.0 if number == longer else 60.0 for number in range(40)]
    sandbox = Sandbox(plan=plan, balance=1_000, models=lasting(seconds), history_lag=lag)
    late = await lateness(sandbox, knowing(60), count=40, hours=0.9)
    assert len(late) > 4
    assert max(late) <= 120


@pytest.mark.parametrize("seed", [1, 56])
@pytest.mark.parametrize("window", [Window, SlidingWindow], ids=["clock-aligned", "sliding"])
async def test_a_backlog_s_results_do_not_wait_for_the_window(window: type[Window], seed: int) -> None:
    """Jobs of about a minute, 100 requests an hour: eighty jobs an hour, and none lies there for long."""
    sandbox = Sandbox(balance=100_000, models=lasting(60.0, seed=seed))
    sandbox.world.windows.hour = window(length=HOUR, limit=100)
    late = await lateness(sandbox, Pacing({"clip": (45, 90)}), count=100_000, hours=2.5)
    assert len(late) >= 80 * 2.5
    assert max(late) <= 120


async def test_what_a_small_plan_keeps_is_used_in_the_end() -> None:
    """Three requests an hour are enough for one job an hour: nothing is kept for ever."""
    plan = Plan(name="tiny", per_hour=3, per_day=100)
    sandbox = Sandbox(plan=plan, balance=1_000, models=lasting([60.0] * 5))
    late = await lateness(sandbox, knowing(60), count=4, hours=6, at_once=1)
    assert (len(late), sandbox.requests.looks) == (4, 4)
    assert max(late) <= 120

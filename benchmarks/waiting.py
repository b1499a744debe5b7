"""Jobs waited for through the public client, on the sandbox and in virtual time: looks taken, seconds lain there."""

import math
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import cache
from typing import Final, TypeVar, TypeVarTuple

import anyio
from attrs import frozen

from benchmarks.laws import DOCUMENTED, End, Law
from benchmarks.optimum import best_ages, looks_and_delay
from neuralbox_async import AsyncNeuralBox, GenerationRequest, Pacing
from neuralbox_async.sandbox import Model, Sandbox, VirtualTimeLoop

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

LOOP_SECONDS: Final = 5.0


@frozen
class Waited:
    """What waiting for one job took: its length, the looks, and how many seconds the result lay there."""

    seconds: float
    looks: int
    delay: float


@frozen(kw_only=True)
class Story:
    """Jobs of one model, each begun when the one before it was seen to end; `ends` may change its law on the way."""

    model: str
    laws: tuple[tuple[int, Law], ...]
    seed: int
    look_price: float = 0.35
    family: str = "a"

    def ends(self) -> list[End]:
        """Draw how long the jobs take."""
        chance = random.Random(f"{self.model} {self.seed}")  # else one seed would be one fate for all models
        return [law(chance) for count, law in self.laws for _ in range(count)]

    def waited(self) -> list[Waited]:
        """Wait for the jobs with a client of its own, which knows nothing yet."""
        return run(_one_by_one, self)

    def best(self) -> list[Waited]:
        """Return what the optimum takes for the very same jobs."""
        ends, best = iter(self.ends()), []
        for count, law in self.laws:
            ages = _best_ages(law, self.look_price)
            best += [_by_schedule(ages, next(ends)) for _ in range(count)]
        return best


def run(function: Callable[[*Arguments], Awaitable[T]], *args: *Arguments) -> T:
    """Run an async function in virtual time."""
    return anyio.run(function, *args, backend_options={"loop_factory": VirtualTimeLoop})


def loop_of(ends: Sequence[float], seconds: float = LOOP_SECONDS) -> list[Waited]:
    """Return what the documentation's loop takes, which looks at 0, 5, 10 … seconds."""
    return [Waited(end, math.ceil(end / seconds) + 1, math.ceil(end / seconds) * seconds - end) for end in ends]


def cost(waited: Sequence[Waited], look_price: float) -> float:
    """Return look_price · looks + delay, in seconds a job."""
    return sum(look_price * each.looks + each.delay for each in waited) / len(waited)


def sandbox_of(model: str, ends: Sequence[End], *, family: str = "a") -> Sandbox:
    """Return a sandbox whose one model takes these times, one after the other."""
    seconds: Iterator[float] = iter([end.seconds for end in ends])
    span = DOCUMENTED.get(model, (15, 120))
    clip = Model(slug=model, kind="video", tokens=(1, 1), seconds=span, draw=lambda _: next(seconds))
    return Sandbox(plan="elite", balance=10_000_000, models={model: clip}, family=family)


async def _one_by_one(story: Story) -> list[Waited]:
    ends = story.ends()
    sandbox = sandbox_of(story.model, ends, family=story.family)
    async with sandbox.client(pacing=Pacing(), look_price=story.look_price, timeout=1e9) as nb:
        return [await _one(nb, story.model, end) for end in ends]


async def _one(nb: AsyncNeuralBox, model: str, end: End) -> Waited:
    began = anyio.current_time()
    clip = await nb.submit(model, "Something forbidden" if end.fails else "A flower")
    looks = [look async for look in nb.poll(clip)]
    assert looks[-1].failed == end.fails  # noqa: S101 - a figure from another story would be worthless
    return Waited(end.seconds, len(looks), anyio.current_time() - began - end.seconds)


async def begun_together(model: str, law: Law, count: int) -> list[int]:
    """Begin many jobs at once with a client that knows nothing yet; return its looks, and those of the 5 s loop."""
    chance = random.Random(5)
    ends = [law(chance) for _ in range(count)]
    sandbox = sandbox_of(model, ends)
    requests = (GenerationRequest(model, f"{number}") for number in range(count))
    async with (
        sandbox.client(pacing=Pacing(), max_connections=2 * count) as nb,
        nb.generate_many(requests, max_concurrency=count) as outcomes,
    ):
        async for outcome in outcomes:
            assert outcome.error is None  # noqa: S101 - as above
    looks = sandbox.requests.looks + sandbox.requests.of("GET", "/user/history")
    return [looks, sum(each.looks for each in loop_of([end.seconds for end in ends]))]


def _by_schedule(ages: Sequence[float], end: End) -> Waited:
    looks, delay = looks_and_delay(ages, end.seconds)
    return Waited(end.seconds, looks, delay)


@cache
def _best_ages(law: Law, look_price: float) -> list[float]:
    return best_ages(law, look_price)

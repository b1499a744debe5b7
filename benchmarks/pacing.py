"""How few looks does waiting take, and how long do results lie there? `nox -s bench -- pacing` tells.

Single looks at one job after another here, many at once and plans with few requests in `plans`: through the public
client, on the sandbox and in virtual time, with fixed seeds. Units: looks a job; seconds a result lay there until it
was seen ("delay"); and J = look_price · looks + delay, in seconds a job. The plain alternative is the documentation's
loop, which looks at 0, 5, 10 … s; J* is what the exact optimum takes for the very same jobs, with their law known
(`benchmarks/optimum.py`). Jobs are lognormal with the documented ranges as 10 to 90 %, unless a row says otherwise. The
spread shown is from the best model or law to the worst.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Final

from benchmarks import laws, plans
from benchmarks.laws import DOCUMENTED, End, Law, documented
from benchmarks.rows import Row, at_most
from benchmarks.waiting import Story, Waited, begun_together, cost, loop_of, run, sandbox_of
from neuralbox_async import GenerationTimeoutError, Pacing

LOOK_PRICE: Final = 0.35
LEARNED: Final = 50
WORKERS: Final = 2
Pair = tuple[list[Waited], list[Waited]]


def main() -> None:
    """Measure, and print each row as it is there."""
    with ProcessPoolExecutor(WORKERS) as pool:
        for row in measured(pool):
            print(row.number, row.work, row.goal, row.measured, {True: "yes", False: "NO", None: ""}[row.ok], sep=" | ")


def rows() -> list[Row]:
    """Measure all."""
    with ProcessPoolExecutor(WORKERS) as pool:
        return list(measured(pool))


def measured(pool: ProcessPoolExecutor) -> Iterator[Row]:
    """Measure row by row."""
    usual = pairs(pool, learned_stories(LOOK_PRICE, seeds=2), skip=LEARNED)
    yield against_the_loop("W1", [ours for ours, _ in usual], LOOK_PRICE, (0.42, 1.05, 0.65))
    for price, goals in ((0.25, (0.50, 0.90)), (1.0, (0.26, 1.75))):
        waited = [pair[0] for pair in pairs(pool, learned_stories(price, seeds=1), skip=LEARNED)]
        yield against_the_loop("W2", waited, price, goals)
    yield optimum_row("W3", "documented ranges, jobs 51-400", usual, 1.05)
    for law, goal in (
        (laws.gamma, 1.10),
        (laws.heavy_tail, 1.10),
        (laws.queueing, 1.10),
        (laws.bimodal, 1.10),
        (laws.early_failures, 1.15),
    ):
        name = f"{law.__name__.replace('_', ' ')}, jobs 51-400"
        yield against_the_optimum(
            "W3", name, pool, [story(("kling-v2.1", [(400, law)]), seed) for seed in range(5)], goal
        )
    for times, goal in ((1.0, 1.30), (0.4, 2.5), (2.0, 2.5)):
        yield from fresh_starts(pool, times, goal)
    for times in (1.8, 0.5):
        stepping = [
            story((model, [(100, documented(model)), (200, documented(model, times=times))]), seed)
            for model in DOCUMENTED
            for seed in (1, 2, 3, 4)
        ]
        yield against_the_optimum("W5", f"durations step x{times}, next 200 jobs", pool, stepping, 1.12, skip=100)
    yield from plans.rows(pool)
    yield cost_of_a_decision()
    yield together(pool)
    yield never_ends()
    yield hinted(pool)


def story(jobs: tuple[str, Sequence[tuple[int, Law]]], seed: int, *, look_price: float = LOOK_PRICE) -> Story:
    """Return a story of these jobs."""
    return Story(model=jobs[0], laws=tuple(jobs[1]), seed=seed, look_price=look_price)


def learned_stories(look_price: float, *, seeds: int) -> list[Story]:
    """Return 400 jobs of each of the five models, once for each seed."""
    return [
        story((model, [(400, documented(model))]), seed, look_price=look_price)
        for model in DOCUMENTED
        for seed in range(seeds)
    ]


def pairs(pool: ProcessPoolExecutor, stories: Iterable[Story], *, skip: int = 0) -> list[Pair]:
    """Return what each story took, and what the optimum takes, without the first jobs."""
    return [(waited[skip:], best[skip:]) for waited, best in pool.map(_pair, stories)]


def _pair(told: Story) -> Pair:
    return told.waited(), told.best()


# --- the rows --------------------------------------------------------------------------------------------------------


def against_the_loop(number: str, waited: Sequence[Sequence[Waited]], look_price: float, goals: Sequence[float]) -> Row:
    """Compare looks, delay and J with the documentation's loop."""

    def shares(ours: Sequence[Waited]) -> list[float]:
        loop = loop_of([each.seconds for each in ours])
        measures: list[Callable[[Sequence[Waited]], float]] = [looks_of, delay_of, partial(cost, look_price=look_price)]
        return [measure(ours) / measure(loop) for measure in measures]

    found = shares([each for one in waited for each in one])[: len(goals)]
    looks = [shares(one)[0] for one in waited]
    return Row(
        number=number,
        work=f"documented ranges, jobs 51-400, look_price {look_price}",
        goal=" ".join(f"{name} ≤ {goal:.2f}x" for name, goal in zip(("looks", "delay", "J"), goals, strict=False)),
        measured=" ".join(f"{share:.3f}x" for share in found),
        ok=all(share <= goal for share, goal in zip(found, goals, strict=True)),
        detail=f"looks {min(looks):.2f}-{max(looks):.2f}x",
    )


def looks_of(waited: Sequence[Waited]) -> float:
    """Return the looks a job."""
    return statistics.fmean(each.looks for each in waited)


def delay_of(waited: Sequence[Waited]) -> float:
    """Return how long a result lay there, in seconds."""
    return statistics.fmean(each.delay for each in waited)


def against_the_optimum(
    number: str, on: str, pool: ProcessPoolExecutor, stories: Sequence[Story], goal: float, *, skip: int = LEARNED
) -> Row:
    """Compare J with that of the optimum."""
    return optimum_row(number, on, pairs(pool, stories, skip=skip), goal)


def optimum_row(number: str, on: str, found: Sequence[Pair], goal: float) -> Row:
    """Make the row of what stories took and what the optimum takes: the mean over them, and the spread."""
    ratios = [cost(ours, LOOK_PRICE) / cost(best, LOOK_PRICE) for ours, best in found]
    ours, best = ([each for pair in found for each in pair[side]] for side in (0, 1))
    mean = statistics.fmean(ratios)
    detail = f"{min(ratios):.2f}-{max(ratios):.2f}; J {cost(ours, LOOK_PRICE):.2f} s, J* {cost(best, LOOK_PRICE):.2f} s"
    return Row(
        number=number, work=on, goal=f"J/J* ≤ {goal:.2f}", measured=f"{mean:.3f}", ok=mean <= goal, detail=detail
    )


def fresh_starts(pool: ProcessPoolExecutor, times: float, goal: float) -> Iterable[Row]:
    """Compare the first job of all, and jobs 6 to 20, when the documented range is right or wrong."""
    what = "range right" if times == 1 else f"truth {times}x the range"
    for name, starts, first, last, limit in (("first job", 60, 0, 1, goal), ("jobs 6-20", 15, 5, 20, 1.20)):
        found = []
        for model in DOCUMENTED:
            fresh = [story((model, [(last, documented(model, times=times))]), seed) for seed in range(starts)]
            taken = pairs(pool, fresh, skip=first)
            found.append(([one for ours, _ in taken for one in ours], [one for _, best in taken for one in best]))
        yield optimum_row("W4", f"{name}, {what}", found, limit)


def cost_of_a_decision() -> Row:
    """Time decisions about jobs of a model with 50 known durations, learning each job's end in between."""
    pacing, chance, law = Pacing(), random.Random(1), documented("kling-v2.1")
    taken: list[float] = []
    for number in range(500):
        seconds, age, last, decisions = law(chance).seconds, 0.0, 0.0, 0
        began = time.perf_counter()
        while age < seconds:
            last, decisions = age, decisions + 1
            age += pacing.seconds_until_look("kling-v2.1", None, age=age, last=age, look_price=LOOK_PRICE)
        pacing.learn("kling-v2.1", None, last=last, age=age, processing_ms=1000 * seconds)
        if number >= LEARNED:
            taken.append((time.perf_counter() - began) / decisions * 1e6)
    ordered = sorted(taken)
    median = statistics.median(ordered)
    detail = f"{ordered[len(ordered) // 10]:.0f}-{ordered[-len(ordered) // 10]:.0f} µs, with learning"
    return at_most("W11", "one decision, 50 durations known", 50, median, unit=" µs", detail=detail)


def together(pool: ProcessPoolExecutor) -> Row:
    """Begin 1,000 jobs of a model at once and count all looks."""
    found = list(pool.map(_together, DOCUMENTED))
    share = sum(ours for ours, _ in found) / sum(loop for _, loop in found)
    shares = sorted(ours / loop for ours, loop in found)
    work, spread = (
        "1,000 jobs of a model begun together, cold: looks",
        f"{shares[0]:.2f}-{shares[-1]:.2f}x, pages counted",
    )
    return at_most("W+", work, 0.62, share, unit="x", detail=spread)


def _together(model: str) -> tuple[int, int]:
    ours, loop = run(begun_together, model, documented(model), 1_000)
    return ours, loop


def never_ends() -> Row:
    """Wait 900 s for a job that never ends."""
    looks, told = run(_never_ends)
    share = looks / (900 / 5 + 1)
    found = f"{share:.2f}x, {'GenerationTimeoutError with the id' if told else 'no error with the id'}"
    goal = "looks ≤ 0.40x, then TimeoutError"
    return Row(number="W+", work="a job that never ends, 900 s", goal=goal, measured=found, ok=share <= 0.4 and told)


async def _never_ends() -> tuple[int, bool]:
    sandbox = sandbox_of("kling-v2.1", [End(1e9)])
    async with sandbox.client(pacing=Pacing(), timeout=900) as nb:
        clip = await nb.submit("kling-v2.1", "A flower")
        try:
            await nb.wait(clip)
        except GenerationTimeoutError as error:
            return sandbox.requests.looks, error.generation_id == clip.id
    return sandbox.requests.looks, False


def hinted(pool: ProcessPoolExecutor) -> Row:
    """Wait for jobs whose pending replies say `eta_seconds`."""
    told = [Story(model=model, laws=((100, documented(model)),), seed=1, family="b") for model in DOCUMENTED]
    waited = [each for pair in pairs(pool, told, skip=10) for each in pair[0]]
    looks, delay = looks_of(waited), delay_of(waited)
    work, found = "replies with a true eta_seconds, jobs 11-100", f"{looks:.2f} looks, {delay:.2f} s"
    return Row(number="W+", work=work, goal="", measured=found, ok=None)


if __name__ == "__main__":
    main()

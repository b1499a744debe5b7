"""Draw docs/waiting.svg: looks against delay, and jobs in an hour of VIP. `nox -s curves` runs it.

All is measured or worked out here, with fixed seeds, in virtual time: our points through the public client; loops and
the optimum for the very same jobs. The same code draws the same bytes. matplotlib is imported by name: the tools that
check types need not have it.
"""

import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from benchmarks.laws import DOCUMENTED, documented
from benchmarks.plans import HOUR, SINGLE, Backlog, jobs_an_hour_of_the_loop
from benchmarks.waiting import Story, Waited, loop_of

PICTURE: Final = Path(__file__).parent.parent / "docs" / "waiting.svg"
LEARNED: Final = 50
PRICES: Final = (0.1, 0.2, 0.35, 0.7, 1.0, 2.0)
OURS, LOOPS, BEST = "#2f6fbb", "#b0483c", "#7a7a7a"
Point = tuple[float, float]


def main() -> None:
    """Measure and draw."""
    with ProcessPoolExecutor(2) as pool:
        backlogs = [pool.submit(Backlog(lag=lag, hours=6).ran) for lag in (SINGLE, 0.0)]
        ours, best = zip(*pool.map(point_of_ours, PRICES), strict=True)
        jobs = [jobs_an_hour_of_the_loop(), *(len(each.result().late) / 6 for each in backlogs)]
    import_module("matplotlib").rcParams.update({"svg.hashsalt": "waiting", "svg.fonttype": "none", "font.size": 9})
    figure = import_module("matplotlib.figure").Figure(figsize=(9.2, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    draw_curves(left, ours, best)
    draw_jobs(right, jobs)
    figure.savefig(PICTURE, metadata={"Date": None, "Creator": None})
    print(f"{PICTURE.name}: {jobs}")


def stories(look_price: float) -> list[Story]:
    """Return jobs of all models; the first ones only teach."""
    told = [(model, ((150, documented(model)),)) for model in DOCUMENTED]
    return [Story(model=model, laws=laws, seed=3, look_price=look_price) for model, laws in told]


def point_of_ours(look_price: float) -> tuple[Point, Point]:
    """Return looks and delay of ours and of the optimum."""
    told = stories(look_price)
    return (
        point([each for story in told for each in story.waited()[LEARNED:]]),
        point([each for story in told for each in story.best()[LEARNED:]]),
    )


def point(waited: Sequence[Waited]) -> Point:
    """Return the looks a job and the delay."""
    return statistics.fmean(each.looks for each in waited), statistics.fmean(each.delay for each in waited)


def point_of(way: Callable[[Sequence[float]], list[Waited]]) -> Point:
    """Return what a loop takes for the same jobs."""
    return point(way([end.seconds for story in stories(1.0) for end in story.ends()[LEARNED:]]))


def backing_off(ends: Sequence[float], longest: float = 30.0) -> list[Waited]:
    """Return what exponential backoff takes: looks after 1, 2, 4 … seconds, at most 30 s apart."""
    taken = []
    for end in ends:
        age, step, looks = 0.0, 1.0, 0
        while age < end:
            age, step, looks = age + step, min(longest, 2 * step), looks + 1
        taken.append(Waited(end, looks, age - end))
    return taken


def draw_curves(axes: Any, ours: Sequence[Point], best: Sequence[Point]) -> None:
    """Draw looks against delay."""
    axes.plot(*zip(*best, strict=True), color=BEST, linestyle="--", label="the optimum, with the law known")
    axes.plot(*zip(*ours, strict=True), color=OURS, marker="o", label="neuralbox_async, by look_price")
    for price, (looks, delay) in zip(PRICES, ours, strict=True):
        axes.annotate(f"{price:g}", (looks, delay), xytext=(5, 4), textcoords="offset points", color=OURS)
    loops = {
        "a look every 5 s (the docs)": point_of(loop_of),
        "every 1 s": point_of(partial(loop_of, seconds=1.0)),
        "backoff 1, 2, 4 … 30 s": point_of(backing_off),
    }
    for name, (looks, delay) in loops.items():
        axes.plot([looks], [delay], color=LOOPS, marker="s")
        side = -6 if looks > 30 else 6
        axes.annotate(
            name, (looks, delay), xytext=(side, 5), textcoords="offset points", ha="right" if side < 0 else "left"
        )
    axes.set(xscale="log", yscale="log", xlabel="looks a job", ylabel="seconds until a result is seen")
    axes.set_title("Waiting for one job: fewer looks, sooner", loc="left")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.set_xticks([1, 2, 5, 10, 20, 50, 100])
    axes.set_yticks([0.5, 1, 2, 5, 10, 20])
    axes.grid(color="#dddddd")
    axes.legend(frameon=False, loc="lower left")


def draw_jobs(axes: Any, jobs: Sequence[float]) -> None:
    """Draw how many one-minute jobs an hour of VIP allows."""
    names = ["a look\nevery 5 s", "ours,\nsingle looks", "ours, with\nthe history"]
    bars = axes.bar(names, jobs, color=[LOOPS, OURS, OURS])
    axes.bar_label(bars, fmt="{:.0f}")
    axes.set_title(f"One-minute jobs in an hour\nof VIP (100 requests, {HOUR:.0f} s)", loc="left")
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()

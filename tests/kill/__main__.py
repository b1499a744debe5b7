"""Kill it whenever you like: a bulk run is killed (SIGKILL) again and again, and nothing is paid twice or lost.

    nox -s kill                                    # or python -m tests.kill
    nox -s kill -- --kills 40 --seconds 0.2

A real process over real sockets, with its ledger and results on a real disk. The sandbox, in this process, books every
POST that it has read and answers it later, whoever has died meanwhile. Two runs at the same time, one for each policy.
Six kills of seven come a random while after a POST, of which the answer is then still due as a rule; the others a
random while after the process was started: they hit the opening of the ledger and the reading of the history too.
"""

import argparse
import logging
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from subprocess import DEVNULL
from tempfile import TemporaryDirectory

import anyio
from anyio.abc import Process
from attrs import define, evolve, field

from neuralbox_async.sandbox import Sandbox, serve
from tests.kill import service, verdict
from tests.kill.plan import Plan

ROOT = Path(__file__).parent.parent.parent
AT_ONCE = 4
AT_ONCE_IN_THE_END = 50
# How long it takes a busy machine to hand the server what a killed client had sent.
SETTLE = 3.0
LONGEST_START = 1.0
LONGEST_RUN = 300.0


@define
class Tally:
    """What was seen of one run.

    Attributes:
        policy: Its name.
        resubmit_absent: What it does with what the history does not show.
        kills: How many times it was killed.
        in_flight: How many of these while the service held at least one POST unanswered.
        lost: How many POSTs were unanswered then, in all.
        damaged: Verdicts of `PRAGMA integrity_check` other than "ok".
        code: The exit code of the last resume.
        in_doubt: How many items it reported in doubt.
        items: How many items its ledger has.
        booked: How many generations the service has booked.
        twice: What was booked more often than it was asked for.
        unbound: What was paid for and is no item's.
        seconds: How long all of it took.
        wrong: What must not be.
    """

    policy: str
    resubmit_absent: bool = field(kw_only=True)
    kills: int = 0
    in_flight: int = 0
    lost: int = 0
    damaged: list[str] = field(factory=list[str])
    code: int | None = None
    in_doubt: int = 0
    items: int = 0
    booked: int = 0
    twice: list[str] = field(factory=list[str])
    unbound: list[str] = field(factory=list[str])
    seconds: float = 0.0
    wrong: list[str] = field(factory=list[str])


@asynccontextmanager
async def started(plan: Plan) -> AsyncIterator[Process]:
    """Start the process that runs the bulk run; it does not outlive the block."""
    command = [sys.executable, "-m", "tests.kill.worker", plan.written()]
    process = await anyio.open_process(command, cwd=ROOT, stdout=DEVNULL, stderr=None)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.aclose()


async def set_or_ended(event: anyio.Event, process: Process) -> None:
    """Wait for an event, but no longer than a process lives."""
    async with anyio.create_task_group() as tasks:

        async def end() -> None:
            await process.wait()
            tasks.cancel_scope.cancel()

        tasks.start_soon(end)
        await event.wait()
        tasks.cancel_scope.cancel()


async def kill_once(plan: Plan, sandbox: service.Service, tally: Tally, dice: random.Random, posts: int) -> None:
    """Start the run and kill it at a random instant, unless it ends before."""
    sandbox.new_client(dice.randint(1, posts))
    async with started(plan) as process:
        longest = LONGEST_START
        if dice.random() < 6 / 7:
            await set_or_ended(sandbox.posted, process)
            longest = sandbox.seconds
        with anyio.move_on_after(dice.uniform(0, longest)):
            await process.wait()
        if process.returncode is not None:
            tally.wrong.append(f"it ended by itself before kill {tally.kills + 1}, with {process.returncode}")
            return
        unanswered = sandbox.unanswered()
        process.kill()
        await process.wait()
    tally.kills += 1
    tally.lost += unanswered
    tally.in_flight += unanswered > 0
    found = verdict.integrity(Path(plan.folder, "run.db"))
    if found != "ok":
        tally.damaged.append(found)


async def resume(plan: Plan) -> int | None:
    """Let the run come to its end; None if it does not."""
    async with started(plan) as process:
        with anyio.move_on_after(LONGEST_RUN):
            await process.wait()
        return process.returncode


async def prove(tally: Tally, *, kills: int, jobs: int, seconds: float, seed: int) -> None:
    """Kill one run so many times, resume it a last time, and judge."""
    began = time.monotonic()
    dice = random.Random(seed)
    sandbox = Sandbox(plan=service.PLAN, balance=10 * jobs, models=service.models(seconds))
    asked = service.Service(sandbox, seconds)
    posts = max(1, round(0.8 * jobs / kills))  # so few that the jobs outlast the kills
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        async with serve(asked) as base_url:
            plan = Plan(
                base_url=base_url,
                folder=folder,
                jobs=jobs,
                at_once=AT_ONCE,
                settle=SETTLE,
                resubmit_absent=tally.resubmit_absent,
            )
            while tally.kills < kills and not tally.wrong:
                await kill_once(plan, asked, tally, dice, posts)
            tally.code = await resume(evolve(plan, at_once=AT_ONCE_IN_THE_END))
        judge(tally, Path(folder, "run.db"), sandbox, jobs)
    tally.seconds = time.monotonic() - began


def judge(tally: Tally, path: Path, sandbox: Sandbox, jobs: int) -> None:
    """Add what must not be."""
    items, booked = verdict.rows(path), list(sandbox.world.jobs.values())
    tally.items = len(items)
    unsettled = [row for row in items if row.state != "saved"]
    tally.booked, tally.in_doubt = len(booked), len([row for row in unsettled if row.state in verdict.IN_DOUBT])
    tally.twice, tally.unbound = verdict.charged_twice(items, booked), verdict.unbound(items, booked)
    tally.wrong += [*tally.twice, *tally.unbound, *tally.damaged, *verdict.untrue(items, sandbox)]
    may_doubt = not tally.resubmit_absent
    tally.wrong += [f"{row.key} is {row.state}" for row in unsettled if not (may_doubt and row.state == "in_doubt")]
    expected = 3 if tally.in_doubt else 0
    for what, found, wanted in (
        ("items", len(items), jobs),
        ("the exit code", tally.code, expected),
        ("charges", len(sandbox.charges), len(booked)),
    ):
        if found != wanted:
            tally.wrong.append(f"{what}: {found}, not {wanted}")
    if 2 * tally.in_flight < tally.kills:
        tally.wrong.append(f"only {tally.in_flight} of {tally.kills} kills caught a POST in flight")


def table(tallies: Sequence[Tally]) -> str:
    """Return what happened, one column for each policy."""
    lines: list[tuple[str, Callable[[Tally], object]]] = [
        ("", lambda tally: tally.policy),
        ("kills", lambda tally: tally.kills),
        ("of these with a POST in flight", lambda tally: tally.in_flight),
        ("POSTs whose answer was lost by that", lambda tally: tally.lost),
        ("integrity_check not ok", lambda tally: len(tally.damaged)),
        ("items", lambda tally: tally.items),
        ("booked and charged", lambda tally: tally.booked),
        ("charged twice", lambda tally: len(tally.twice)),
        ("paid, and no item's", lambda tally: len(tally.unbound)),
        ("reported in doubt", lambda tally: tally.in_doubt),
        ("exit code of the last resume", lambda tally: tally.code),
        ("seconds", lambda tally: f"{tally.seconds:.0f}"),
        ("proved", lambda tally: "NO" if tally.wrong else "yes"),
    ]
    return "\n".join(f"{name:38}" + "".join(f"{shown(tally)!s:>18}" for tally in tallies) for name, shown in lines)


async def main(arguments: argparse.Namespace) -> int:
    """Prove both policies at the same time and print what happened."""
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of answers to processes that are dead
    tallies = [Tally("by default", resubmit_absent=False), Tally("--resubmit-absent", resubmit_absent=True)]
    seed = random.randrange(10**6) if arguments.seed is None else arguments.seed
    print(f"{arguments.kills} kills over {arguments.jobs} jobs, answers after {arguments.seconds} s, --seed {seed}")
    async with anyio.create_task_group() as tasks:
        for tally in tallies:
            work = partial(prove, tally, kills=arguments.kills, jobs=arguments.jobs)
            tasks.start_soon(partial(work, seconds=arguments.seconds, seed=seed))
    print(table(tallies))
    for tally in tallies:
        print(*(f"{tally.policy}: {wrong}" for wrong in tally.wrong), sep="\n")
    return int(any(tally.wrong for tally in tallies))


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description="Kill bulk runs again and again.")
    parser.add_argument("--kills", type=int, default=200, help="how often each run is killed")
    parser.add_argument("--jobs", type=int, help="items of each run; 7.5 for each kill by default")
    parser.add_argument("--seconds", type=float, default=0.5, help="after which the service answers a POST")
    parser.add_argument("--seed", type=int, help="of the random instants")
    found = parser.parse_args()
    found.jobs = found.jobs or round(7.5 * found.kills)
    return found


if __name__ == "__main__":
    sys.exit(anyio.run(main, options()))

"""`neuralbox sandbox`: a service on a port until Ctrl-C; what to paste into another shell is on stdout."""

import contextlib
import shlex
import sys
from collections.abc import AsyncIterator
from typing import Final

import anyio
from rich.console import Console

from neuralbox_async import UsageError
from neuralbox_async.extras.cli.exits import USAGE
from neuralbox_async.extras.cli.figures import LOOP_SECONDS
from neuralbox_async.extras.cli.screen import Screen
from neuralbox_async.extras.cli.signals import Work, carry_out
from neuralbox_async.extras.cli.wording import many
from neuralbox_async.sandbox import Sandbox, serve

PATIENCE_SECONDS: Final = 3.0
SHORTEST_POLL_SECONDS: Final = 0.2


def make_sandbox(*, plan: str, speed: float, balance: int) -> Sandbox:
    """Make a sandbox. Raises UsageError for a value that makes no sense."""
    try:
        return Sandbox(plan=plan, speed=speed, balance=balance)
    except ValueError as error:
        raise UsageError(f"{error}.") from error


def run_sandbox(sandbox: Sandbox, *, port: int) -> int:
    """Serve the sandbox until a signal comes and return the exit code."""
    screen = Screen(Console(stderr=True))

    async def run() -> int:
        async with _served(sandbox, port) as base_url:
            sys.stdout.write(f"export NEURALBOX_BASE_URL={shlex.quote(base_url)}\n")
            sys.stdout.write(f"export NEURALBOX_API_KEY={shlex.quote(sandbox.key)}\n")
            sys.stdout.flush()
            screen.say(greeting(sandbox))
            await anyio.sleep_forever()
        return 0

    def last_words(code: int) -> int:
        spent = sum(charge.tokens for charge in sandbox.charges)
        if code != USAGE:
            charges = f"{many(len(sandbox.charges), 'charge')}, {many(spent, 'token')}"
            screen.say(f"{many(sandbox.requests.total, 'request')}, {charges}")
        return code

    return carry_out(
        Work(run=run, say=screen.say, last_words=last_words, patience=PATIENCE_SECONDS, on_signal="closing the sandbox")
    )


@contextlib.asynccontextmanager
async def _served(sandbox: Sandbox, port: int) -> AsyncIterator[str]:
    async with contextlib.AsyncExitStack() as stack:
        try:
            base_url = await stack.enter_async_context(serve(sandbox, port=port))
        except OSError as error:
            raise UsageError(f"Port {port} cannot be used: {error.strerror}. Give another, or 0 for any.") from error
        yield base_url


def greeting(sandbox: Sandbox) -> str:
    """Return what a sandbox that has opened says of itself."""
    plan, speed = sandbox.world.plan.name, sandbox.speed
    opened = f"A sandbox is open: plan {plan}, {many(sandbox.balance, 'token')}, speed {speed:g}. Ctrl-C closes it."
    if speed <= 1:
        return opened
    # Commands expect the real service's durations, and would look at a result long after it is there.
    seconds = max(SHORTEST_POLL_SECONDS, LOOP_SECONDS / speed)
    return f"{opened}\nAdd --poll-interval {seconds:.2g} to generate, wait and bulk: they expect the real durations."

"""The first Ctrl-C lets the work end in order, the second ends it at once; both times the last words are said."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType
from typing import NoReturn

import anyio
from attrs import define, field, frozen

from neuralbox_async import NeuralBoxError
from neuralbox_async.extras.cli.exits import DONE, FAILED, NOBODY_READS, SIGNALLED, code_of
from neuralbox_async.extras.cli.wording import in_our_words


@frozen(kw_only=True)
class Work:
    """One command's work.

    Attributes:
        run: Does it and returns the exit code.
        say: Tells the person one line.
        last_words: Called once, at the very end: writes what must not get lost, gets the exit code and may change it.
        patience: Seconds from the first signal on after which the process ends anyway.
        cut_short: Called before the last words where the client had no time to say which requests had left.
        on_signal: What to tell at the first signal.
    """

    run: Callable[[], Awaitable[int]]
    say: Callable[[str], None]
    last_words: Callable[[int], int]
    patience: float = 15.0
    cut_short: Callable[[], None] = lambda: None
    on_signal: str = "stopping: nothing new is started; Ctrl-C again leaves at once"


def carry_out(work: Work) -> int:
    """Do the work and return the exit code of the command. Only mistakes of ours come out as exceptions."""
    code = FAILED
    try:
        code = anyio.run(_until_signal, work)
    except BrokenPipeError:
        code = NOBODY_READS
    except (NeuralBoxError, OSError) as error:
        work.say(f"error: {in_our_words(error)}")
        code = code_of(error)
    finally:
        if code == NOBODY_READS:
            drop_stdout()
        final = work.last_words(code)
    return final


def drop_stdout() -> None:
    """Let nobody have what is still buffered: it would raise once more when Python flushes stdout on its way out."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _until_signal(work: Work) -> int:
    code = DONE
    signals = _Signals(work, asyncio.get_running_loop())
    with signals.scope, signals.caught():
        code = await work.run()
    return code if signals.first is None or not signals.scope.cancelled_caught else SIGNALLED + signals.first


@define
class _Signals:
    """Counts the signals: one cancels the work, two end the process, three end it even if nothing moves any more."""

    work: Work
    loop: asyncio.AbstractEventLoop
    scope: anyio.CancelScope = field(factory=anyio.CancelScope, init=False)
    first: int | None = field(default=None, init=False)
    _number: int = field(default=0, init=False)

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        # Runs between any two steps of the program, so it only leaves a note to the loop.
        self._number += 1
        if self._number == 1:
            self.first = number
            self.loop.call_soon_threadsafe(self._stop, number)
        elif self._number == 2:
            self.loop.call_soon_threadsafe(self._leave, number)
        else:
            os._exit(SIGNALLED + number)

    def _stop(self, number: int) -> None:
        self.work.say(self.work.on_signal)
        self.loop.call_later(self.work.patience, self._leave, number)
        self.scope.cancel()

    def _leave(self, number: int) -> NoReturn:
        code = SIGNALLED + number
        try:
            self.work.cut_short()
            code = self.work.last_words(code)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)

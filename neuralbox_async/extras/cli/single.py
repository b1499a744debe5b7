"""One answer and nothing else on stdout, everything about it on stderr: `generate`, `stream`, `wait` and their like.

A place that cannot take the result is refused before the first request, and every error names what was paid for.
"""

import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import anyio
from attrs import evolve, frozen
from rich.console import Console

from neuralbox_async import AsyncNeuralBox, Balance, Event, Generation, GenerationRequest, NeuralBoxError
from neuralbox_async.extras.cli.exits import DONE, IN_DOUBT, REFUSALS, STOPPED, code_of
from neuralbox_async.extras.cli.options import Service, read_id
from neuralbox_async.extras.cli.places import as_folder, ready_place
from neuralbox_async.extras.cli.report import (
    Problem,
    Record,
    as_json,
    cut_off,
    interrupted,
    problem_of,
    request_record,
    result_record,
)
from neuralbox_async.extras.cli.screen import Screen
from neuralbox_async.extras.cli.signals import Work, carry_out, drop_stdout
from neuralbox_async.extras.cli.unfinished import Taken, Unfinished
from neuralbox_async.extras.cli.wording import many


@frozen(kw_only=True)
class SingleOptions:
    """What `generate` and `wait` are to do with a result: where to save it, how to write what came of it."""

    out: str | None
    timeout: float | None
    show: Callable[[Record], str]
    service: Service


@frozen(kw_only=True)
class Item:
    """One generation to get: what is asked for, or the last that is known of one begun already; and the call for it."""

    request: GenerationRequest | None = None
    begun: Generation | None = None
    get: Callable[[AsyncNeuralBox], Awaitable[Generation]]

    @property
    def model(self) -> str:
        """Return the model's slug, as far as it is known."""
        return "" if self.request is None else self.request.model


def as_text(record: Record) -> str:
    """Return what a person wants of a result: where it is, or what it says; nothing if there is none."""
    return "" if record["error"] else str(record["path"] or record["text"] or record["url"] or record["id"])


def as_nothing(_record: Record) -> str:
    """Return nothing: the text is written already, piece by piece."""
    return ""


def write_piece(piece: str) -> None:
    """Write a piece of a text at once."""
    sys.stdout.write(piece)
    sys.stdout.flush()


def as_numbered_text(record: Record) -> str:
    """Return the same with the id in front, for several results."""
    text = as_text(record)
    return text and f"{record['id']}\t{text}"


def generate(request: GenerationRequest, options: SingleOptions) -> int:
    """Generate one result and return the exit code. Raises UsageError before any request if it could not be saved."""
    if options.out is not None:
        ready_place(options.out)

    async def get(nb: AsyncNeuralBox) -> Generation:
        return await nb.generate(request.model, request.prompt, request.params, timeout=options.timeout)

    return SingleRun(options, [Item(request=request, get=get)]).carry_out()


def stream(request: GenerationRequest, options: SingleOptions, write: Callable[[str], object]) -> int:
    """Generate a text, hand each piece to `write` as it comes, and return the exit code."""

    async def get(nb: AsyncNeuralBox) -> Generation:
        opened = nb.stream(request.model, request.prompt, request.params, timeout=options.timeout)
        async with opened as pieces:
            try:
                async for piece in pieces:
                    write(piece)
            finally:
                write("\n" if pieces.text else "")
        return pieces.generation

    # Bars that move would write into the text.
    quiet = Screen(Console(stderr=True, force_interactive=False))
    return SingleRun(options, [Item(request=request, get=get)], screen=quiet).carry_out()


def transcribe(audio: str, request: GenerationRequest, options: SingleOptions) -> int:
    """Turn a file of speech into text and return the exit code. Raises UsageError as `generate` does."""
    if options.out is not None:
        ready_place(options.out)
    params = request.params or {}

    async def get(nb: AsyncNeuralBox) -> Generation:
        return await nb.transcribe(audio, model=request.model, timeout=options.timeout, **params)

    return SingleRun(options, [Item(request=request, get=get)]).carry_out()


def wait(ids: Sequence[str], options: SingleOptions) -> int:
    """Wait for generations by their ids and return the exit code. Raises UsageError as `generate` does."""
    different = list(dict.fromkeys(ids))
    if options.out is not None and len(different) > 1:
        options = evolve(options, out=as_folder(options.out))
    if options.out is not None:
        ready_place(options.out)
    return SingleRun(options, [_waiting(read_id(each), options.timeout) for each in different]).carry_out()


def _waiting(generation_id: int | str, timeout: float | None) -> Item:
    async def get(nb: AsyncNeuralBox) -> Generation:
        return await nb.wait(generation_id, timeout=timeout)

    return Item(begun=Generation(id=generation_id, status="unknown"), get=get)


class SingleRun:
    """Gets a few generations, each by itself, and writes what came of each."""

    def __init__(self, options: SingleOptions, items: Sequence[Item], screen: Screen | None = None) -> None:
        self.screen = screen or Screen(Console(stderr=True))
        self._options = options
        self._items = items
        self._unfinished = Unfinished()
        self._code = DONE

    def carry_out(self) -> int:
        """Do it and return the exit code."""
        cut_short = self._unfinished.cut_short
        return carry_out(Work(run=self._run, say=self.screen.say, last_words=self._last_words, cut_short=cut_short))

    async def _run(self) -> int:
        async with self._options.service.client(self._hear) as nb:
            begun = [item.begun for item in self._items if item.begun is not None]
            self._unfinished.taken |= {each.id: Taken(request=None, generation=each) for each in begun}
            with self.screen, _as_itself():
                async with anyio.create_task_group() as tasks:
                    for item in self._items:
                        self.screen.begun(item.model)
                        tasks.start_soon(self._finish, item, nb)
        return self._code if len(self._items) == 1 else self.screen.tally.code()

    async def _finish(self, item: Item, nb: AsyncNeuralBox) -> None:
        generation, path, error = None, None, None
        if item.request is not None:
            self._unfinished.ask(item.request)
        try:
            generation = await item.get(nb)
            if self._options.out is not None:
                path = await nb.download(generation, self._options.out, timeout=self._options.timeout)
        except BrokenPipeError:  # of stdout: nobody is there to be told
            raise
        except (NeuralBoxError, OSError) as failure:
            error, generation = failure, generation or getattr(failure, "generation", None)
        self._report(item, generation, path, error)

    def _report(self, item: Item, generation: Generation | None, path: Path | None, error: Exception | None) -> None:
        problem = None if error is None else problem_of(error, generation, self._options.out)
        self.screen.settled(item.model, error, None if generation is None else generation.tokens_spent)
        if error is not None:
            self._code = code_of(error, generation)
        if isinstance(error, REFUSALS) and self._code == STOPPED:
            self.screen.tally.stopped_by = error
        self._write(item.request, result_record(generation, problem, path), problem)
        self._unfinished.forget(item.request, generation)
        self._unfinished.forget(None, item.begun)
        if problem is not None and problem.generation_id is not None:
            self._unfinished.taken.pop(problem.generation_id, None)

    def _write(self, request: GenerationRequest | None, result: Record, problem: Problem | None) -> None:
        shown = self._options.show({**({} if request is None else request_record(request)), **result})
        if shown:
            try:
                write_piece(shown + "\n")
            except BrokenPipeError:
                raise
            except OSError:  # on a full disk: what was paid for must be somewhere
                drop_stdout()
                self.screen.say(shown)
                raise
        if problem is not None:
            self.screen.say(f"error: {problem}")

    def _hear(self, event: Event) -> None:
        self._unfinished.hear(event)
        self.screen.hear(event)

    def _last_words(self, code: int) -> int:
        self.screen.stop()
        for taken in self._unfinished.taken.values():
            problem = interrupted(taken.generation, self._options.out)
            self._write(taken.request, result_record(taken.generation, problem, None), problem)
        for request in self._unfinished.in_doubt:
            problem = cut_off(request)
            self._write(request, result_record(None, problem, None), problem)
        return IN_DOUBT if self._unfinished.in_doubt else code


@contextlib.contextmanager
def _as_itself() -> Iterator[None]:
    """Let an error of a task leave as itself, not in a group."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None


def balance(show: Callable[[Balance], str], service: Service, *, timeout: float) -> int:
    """Write what the account can still spend and return the exit code; `timeout` is in seconds."""
    screen = Screen(Console(stderr=True))

    async def run() -> int:
        async with service.client(screen.hear) as nb:
            sys.stdout.write(show(await nb.balance(timeout=timeout)) + "\n")
        return DONE

    return carry_out(Work(run=run, say=screen.say, last_words=lambda code: code))


def balance_as_text(balance: Balance) -> str:
    """Return a balance as a person reads it."""
    until = "" if balance.plan_expires_at is None else f" until {balance.plan_expires_at:%Y-%m-%d}"
    return many(balance.token_balance, "token") + (f", plan {balance.plan}{until}" if balance.plan else "")


def balance_as_json(balance: Balance) -> str:
    """Return a balance as JSON."""
    ends = balance.plan_expires_at
    record = {"token_balance": balance.token_balance, "plan": balance.plan}
    return as_json({**record, "plan_expires_at": None if ends is None else ends.isoformat()})

"""`neuralbox bulk`: lines in as they are needed, outcomes out as they finish, every paid id on record at the end."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from attrs import frozen
from rich.console import Console

from neuralbox_async import Event, Generation, GenerationRequest, Outcome, UsageError
from neuralbox_async.extras.cli.exits import FAILED, REFUSALS, USAGE
from neuralbox_async.extras.cli.options import Service
from neuralbox_async.extras.cli.places import ready_folder
from neuralbox_async.extras.cli.prompts import Defaults, Line, check_model, read_prompts
from neuralbox_async.extras.cli.report import (
    Lines,
    Problem,
    Record,
    as_json,
    cut_off,
    interrupted,
    line_record,
    problem_of,
    request_record,
    result_record,
)
from neuralbox_async.extras.cli.screen import Screen
from neuralbox_async.extras.cli.signals import Work, carry_out
from neuralbox_async.extras.cli.source import Source, opened
from neuralbox_async.extras.cli.unfinished import Unfinished
from neuralbox_async.extras.cli.wording import in_our_words

OUTCOMES: Final = "outcomes.jsonl"


@frozen(kw_only=True)
class BulkOptions:
    """What `neuralbox bulk` was asked to do."""

    file: str
    out: str | None
    defaults: Defaults
    max_concurrency: int
    timeout: float | None
    service: Service


def bulk(options: BulkOptions) -> int:
    """Run a file of prompts and return the exit code. Raises UsageError before any request if it cannot begin."""
    check_model(options.file, options.defaults)
    with opened(options.file) as source, _outcomes_file(options.out) as file:
        run = BulkRun(options, source, Lines(file))
        work = Work(run=run.run, say=run.screen.say, last_words=run.last_words, cut_short=run.unfinished.cut_short)
        return carry_out(work)


class BulkRun:
    """One run: reads, reports, and knows at every moment what is paid for and not reported yet."""

    def __init__(self, options: BulkOptions, source: Source, lines: Lines) -> None:
        self.screen = Screen(Console(stderr=True))
        self._options = options
        self._source = source
        self._lines = lines
        self.unfinished = Unfinished()
        self._last_line = 0

    async def run(self) -> int:
        """Run all lines and return the exit code."""
        options = self._options
        async with options.service.client(self._hear) as nb:
            many = nb.generate_many(
                self._requests(),
                max_concurrency=options.max_concurrency,
                download_to=options.out,
                timeout=options.timeout,
            )
            with self.screen:
                try:
                    async with many as outcomes:
                        async for outcome in outcomes:
                            self._report(outcome)
                except REFUSALS as error:
                    self.screen.tally.stopped_by = error
        return self.screen.tally.code()

    def last_words(self, code: int) -> int:
        """Report what was begun and is not finished, sum up, and return the exit code."""
        self.screen.stop()
        taken, in_doubt = [*self.unfinished.taken.values()], [*self.unfinished.in_doubt]
        for each in taken:
            self._report_rest(each.request, each.generation, interrupted(each.generation, self._options.out))
        for request in in_doubt:
            self._report_rest(request, None, cut_off(request))
        self._sum_up()
        # An input that cannot be read on is a usage error only as long as nothing was sent.
        code = FAILED if code == USAGE and self._last_line else code
        return self.screen.tally.code(otherwise=code)

    async def _requests(self) -> AsyncIterator[GenerationRequest]:
        options = self._options
        async for line in read_prompts(self._source.lines(), self._source.name, options.defaults):
            self._last_line = line.number
            if line.request is None:
                self._report_bad(line)
            else:
                self.screen.begun(line.request.model)
                self.unfinished.ask(line.request)
                yield line.request

    def _hear(self, event: Event) -> None:
        self.unfinished.hear(event)
        self.screen.hear(event)

    def _report(self, outcome: Outcome) -> None:
        request, generation, error = outcome.request, outcome.generation, outcome.error
        problem = None if error is None else problem_of(error, generation, self._options.out)
        self.unfinished.forget(request, generation)
        self._write(request.tag, request_record(request), result_record(generation, problem, outcome.path))
        self.screen.settled(request.model, error, None if generation is None else generation.tokens_spent)
        if problem is not None:
            self.screen.say(f"line {request.tag['line']}, {request.model}: {problem}")

    def _report_rest(
        self, request: GenerationRequest | None, generation: Generation | None, problem: Problem | None
    ) -> None:
        if request is None:
            return
        self.screen.tally.note_rest(generation, problem)
        with contextlib.suppress(OSError):  # one that cannot be written must not keep back the others
            self._write(request.tag, request_record(request), result_record(generation, problem, None))

    def _report_bad(self, line: Line) -> None:
        problem = Problem(type=UsageError.__name__, message=line.problem, billed="no")
        asked = {name: line.found.get(name) for name in ("key", "model", "prompt", "params")}
        self._write(line.tag, asked, result_record(None, problem, None))
        self.screen.tally.bad_lines += 1
        self.screen.say(line.problem)

    def _write(self, tag: object, asked: Record, result: Record) -> None:
        record = line_record(tag, asked, result)
        try:
            self._lines.write(record)
        except OSError:
            if self._lines.file is None:
                self.screen.say(as_json(record))  # stdout is gone, and an id must be on record somewhere
            raise

    def _sum_up(self) -> None:
        tally = self.screen.tally
        if tally.stopped_by is not None:
            self.screen.say(f"stopped: {in_our_words(tally.stopped_by)} No line after {self._last_line} was read.")
        if self._last_line:
            self.screen.say(f"{tally}" + (f"; results in {self._options.out}" if self._options.out else ""))
        if tally.interrupted:
            self.screen.say("What goes on at the service: neuralbox wait ID, with the ids above.")


@contextlib.contextmanager
def _outcomes_file(out: str | None) -> Iterator[BinaryIO | None]:
    if out is None:
        yield None
        return
    ready_folder(out)
    path = Path(out, OUTCOMES)
    try:
        file = path.open("ab")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
    with file:
        yield file

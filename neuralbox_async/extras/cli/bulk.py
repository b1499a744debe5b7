"""`neuralbox bulk` and `resume`: lines in as they are needed, outcomes out as they finish, every paid id on record.

With a ledger, what is not finished is in there. Without one it is written to stdout at the end.
"""

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from attrs import evolve
from rich.console import Console

from neuralbox_async import (
    AsyncNeuralBox,
    Balance,
    BudgetExceededError,
    Event,
    Generation,
    GenerationRequest,
    LedgerError,
    Outcome,
    UsageError,
)
from neuralbox_async.extras.cli.books import balance_after, balance_before, compared
from neuralbox_async.extras.cli.exits import FAILED, REFUSALS, USAGE
from neuralbox_async.extras.cli.kept import Kept, Outcomes, in_doubt, what_is_left
from neuralbox_async.extras.cli.outcomes import Lines, has_ended, opened_lines
from neuralbox_async.extras.cli.prompts import Line, check_input, read_prompts
from neuralbox_async.extras.cli.report import (
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
from neuralbox_async.extras.cli.settings import BulkOptions, absolute_folder
from neuralbox_async.extras.cli.signals import Work, carry_out
from neuralbox_async.extras.cli.source import STDIN, Source, opened
from neuralbox_async.extras.cli.unfinished import Unfinished
from neuralbox_async.extras.cli.wording import in_our_words


def bulk(options: BulkOptions) -> int:
    """Run a file of prompts and return the exit code. Raises UsageError before any request if it cannot begin."""
    check_input(options.file, options.defaults)
    with opened(options.file) as source:
        return _carry_out(options, source)


def resume(options: BulkOptions) -> int:
    """Go on with a run, and return the exit code as `bulk` does."""
    if options.file != STDIN:
        return bulk(options)
    with opened(os.devnull) as nothing:
        return _carry_out(options, nothing, "stdin cannot be read again: going on with what was read of it.")


def _carry_out(options: BulkOptions, source: Source, greeting: str = "") -> int:
    with opened_lines(options.out) as lines:
        run = BulkRun(options, source, lines)
        if greeting:
            run.screen.say(greeting)
        work = Work(run=run.run, say=run.screen.say, last_words=run.last_words, cut_short=run.unfinished.cut_short)
        return carry_out(work)


class BulkRun:
    """One run: reads, reports, and knows at every moment what is paid for and not reported yet."""

    def __init__(self, options: BulkOptions, source: Source, lines: Lines) -> None:
        self.screen = Screen(Console(stderr=True))
        self.unfinished = Unfinished()
        self._options = options
        self._source = source
        self._lines = lines
        self._kept = None if options.ledger is None else Kept(options.ledger)
        self._pulled = set[int]()
        self._last_line = 0
        self._began = False
        self._has_ended = False
        self._all_read = False
        self._compared: str | None = None

    async def run(self) -> int:
        """Run all lines and return the exit code."""
        async with self._options.service.client(self._hear) as nb:
            self.screen.limits = lambda: nb.rate_limit
            many = self._many(nb)  # raises for what cannot work, before anything is sent
            before = await balance_before(nb)
            many = many if self._kept is None else self._kept.remembering(self._options, before, many)
            with self.screen:
                try:
                    async with many as outcomes:
                        self._began = True
                        self._lines.read()
                        async for outcome in outcomes:
                            self._report(outcome)
                            if self.screen.tally.stopped_by is not None and not self._pulled:
                                break  # beyond the budget, with nothing under way; a pipe may be silent for ever
                except REFUSALS as error:
                    self.screen.tally.stopped_by = error
            self._has_ended = self.screen.tally.stopped_by is None
            await self._compare(nb, before)
        return self.screen.tally.code()

    def _many(self, nb: AsyncNeuralBox) -> AbstractAsyncContextManager[Outcomes]:
        options = self._options
        return nb.generate_many(
            self._requests(),
            max_concurrency=options.max_concurrency,
            ledger=options.ledger,
            budget=options.budget,
            settle=options.settle,
            resubmit_absent=options.resubmit_absent,
            download_to=_folder(options),
            timeout=options.timeout,
        )

    # --- lines in ----------------------------------------------------------------------------------------------------

    async def _requests(self) -> AsyncIterator[GenerationRequest]:
        options = self._options
        async for line in read_prompts(self._source.lines(), self._source.name, options.defaults):
            if self.screen.tally.stopped_by is not None:  # by the budget: what is under way comes out
                return
            self._last_line = line.number
            if line.request is None:
                self._report_bad(line)
            else:
                self._begin(line.request)
                yield line.request
        self._all_read = True

    def _begin(self, request: GenerationRequest) -> None:
        self._pulled.add(id(request))
        self.screen.begun(request.model)
        if self._kept is None:
            self.unfinished.ask(request)

    def _hear(self, event: Event) -> None:
        if self._kept is None:
            self.unfinished.hear(event)
        self.screen.hear(event)

    # --- outcomes out ------------------------------------------------------------------------------------------------

    def _report(self, outcome: Outcome) -> None:
        request, generation, error = outcome.request, outcome.generation, outcome.error
        problem = None if error is None else problem_of(error, generation, self._options.out)
        record = self._record(request, outcome.key, result_record(generation, problem, outcome.path))
        if isinstance(error, BudgetExceededError):
            self.screen.tally.stopped_by = error
        if id(request) not in self._pulled:  # what an earlier input has begun
            self.screen.begun(request.model)
        self._pulled.discard(id(request))
        self.unfinished.forget(request, generation)
        if has_ended(outcome) and self._lines.has(record):
            self.screen.settled(request.model, error, None)
            self.screen.tally.earlier += 1
            return
        self._write(record, self._lines.keep if has_ended(outcome) or self._kept is None else self._lines.tell)
        self.screen.settled(request.model, error, None if generation is None else generation.tokens_spent)
        if problem is not None:
            self.screen.say(f"line {record['line']}, {request.model}: {problem}")

    def _record(self, request: GenerationRequest, key: str | None, result: Record) -> Record:
        asked = request if self._kept is None else evolve(request, key=key)  # the ledger's, also where we gave none
        return line_record(request.tag, request_record(asked), result)

    def _report_bad(self, line: Line) -> None:
        problem = Problem(type=UsageError.__name__, message=line.problem, billed="no")
        asked = {name: line.found.get(name) for name in ("key", "model", "prompt", "params")}
        record = line_record(line.tag, asked, result_record(None, problem, None))
        if not self._lines.has(record):
            self._write(record, self._lines.keep)
        self.screen.tally.bad_lines += 1
        self.screen.say(line.problem)

    def _write(self, record: Record, write: Callable[[Record], None]) -> None:
        try:
            write(record)
        except OSError:
            if self._kept is None:
                self.screen.say(as_json(record))  # stdout is gone, and an id must be on record somewhere
            raise

    # --- the end -----------------------------------------------------------------------------------------------------

    async def _compare(self, nb: AsyncNeuralBox, before: Balance | None) -> None:
        after = await balance_after(nb)
        if self._kept is None:
            first = None if before is None else before.token_balance
            self._compared = compared(first, after, self.screen.tally.tokens, witness="this run")
        else:  # all of its runs: what one has begun, another may have seen the end of
            spent = self._kept.summary().tokens_spent
            self._compared = compared(self._kept.balance_before(), after, spent, witness="the ledger")

    def last_words(self, code: int) -> int:
        """Report what was begun and is not finished, sum up, and return the exit code."""
        self.screen.stop()
        if self._kept is None:
            self._report_unfinished()
        self._sum_up()
        # An input that cannot be read on is a usage error only as long as nothing was sent.
        code = FAILED if code == USAGE and self._last_line else code
        return self.screen.tally.code(otherwise=code)

    def _report_unfinished(self) -> None:
        for taken in [*self.unfinished.taken.values()]:
            problem = interrupted(taken.generation, self._options.out)
            assert taken.request is not None  # noqa: S101 - nothing is followed here that this run did not ask for
            self._report_rest(taken.request, taken.generation, problem)
        for request in [*self.unfinished.in_doubt]:
            self._report_rest(request, None, cut_off(request))

    def _report_rest(self, request: GenerationRequest, generation: Generation | None, problem: Problem | None) -> None:
        self.screen.tally.note_rest(generation, problem)
        with contextlib.suppress(OSError):  # one that cannot be written must not keep back the others
            self._write(self._record(request, None, result_record(generation, problem, None)), self._lines.keep)

    def _sum_up(self) -> None:
        tally, say = self.screen.tally, self.screen.say
        if tally.stopped_by is not None:
            say(f"stopped: {in_our_words(tally.stopped_by)} No line after {self._last_line} was read.")
        left = [] if self._kept is None or not self._began else self._left(self._kept)
        if self._last_line or self._began:
            say(f"{tally}" + (f"; results in {self._options.out}" if self._options.out else ""))
        for line in [*filter(None, [self._compared]), *left]:
            say(line)
        if tally.interrupted:
            say("What goes on at the service: neuralbox wait ID, with the ids above.")

    def _left(self, kept: Kept) -> list[str]:
        """Count what is in doubt, and say how to go on."""
        try:
            summary = kept.summary()
        except LedgerError as error:
            return [f"What is left is not known: {in_our_words(error)}"]
        self.screen.tally.in_doubt = in_doubt(summary)
        left = what_is_left(summary, wants_files=self._options.out is not None)
        left += [] if self._all_read else ["lines not read"]
        said = []
        if left:
            said.append(f"Left: {', '.join(left)}. Go on with: {kept.command('resume')}")
        if self.screen.tally.in_doubt and self._has_ended:
            said.append(f"What is in doubt: {kept.command('resolve')}")
        if summary.counts["failed"] and self._has_ended:
            said.append(f"Try what failed again: {kept.command('retry-failed')}")
        return said


def _folder(options: BulkOptions) -> str | None:
    """Return where files go; a ledger keeps their paths for whoever resumes from elsewhere."""
    if options.out is None or options.ledger is None:
        return options.out
    return absolute_folder(options.out)

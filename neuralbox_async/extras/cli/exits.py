"""One exit code for each thing that a script should do next; where several fit, the one about money wins."""

from typing import Final

from attrs import define

from neuralbox_async import (
    AuthenticationError,
    BudgetExceededError,
    Generation,
    InsufficientTokensError,
    LedgerError,
    NeuralBoxError,
    OutcomeUnknownError,
    PermissionDeniedError,
    UsageError,
)
from neuralbox_async.extras.cli.wording import many

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
IN_DOUBT: Final = 3
STOPPED: Final = 4
SIGNALLED: Final = 128
NOBODY_READS: Final = 141

REFUSALS: Final = (AuthenticationError, InsufficientTokensError, PermissionDeniedError)

TABLE: Final = """\
    0    all done
    1    some failed, or some lines of the input cannot be used
    2    usage: an argument or a file that cannot work; nothing was sent
    3    in doubt: a request was sent, its answer is lost, it may be charged
    4    stopped: key refused (401), no tokens (402), plan too small (403),
         or the --budget is used up
    130  stopped by Ctrl-C (SIGINT); 143 by SIGTERM
    141  stopped because nobody reads stdout any more"""


def code_of(error: Exception, generation: Generation | None = None) -> int:
    """Return the exit code of a command that one error ended; `generation` is what it had got until then."""
    if isinstance(error, OutcomeUnknownError):
        return IN_DOUBT
    if generation is not None:
        return FAILED  # a 403 of the storage host, say, is about this file and not about the account
    if isinstance(error, REFUSALS):
        return STOPPED
    return USAGE if isinstance(error, UsageError | LedgerError) and error.generation_id is None else FAILED


@define
class Tally:
    """What came of the items so far."""

    done: int = 0
    failed: int = 0
    not_sent: int = 0
    bad_lines: int = 0
    in_doubt: int = 0
    interrupted: int = 0
    earlier: int = 0
    tokens: int = 0
    stopped_by: NeuralBoxError | None = None

    def note(self, error: Exception | None, tokens: int | None) -> None:
        """Count one item."""
        self.tokens += tokens or 0
        if error is None:
            self.done += 1
        elif isinstance(error, OutcomeUnknownError):
            self.in_doubt += 1
        elif isinstance(error, BudgetExceededError) or (isinstance(error, REFUSALS) and error.generation_id is None):
            self.not_sent += 1  # nothing is wrong with the item: a later run sends it
        else:
            self.failed += 1

    def note_rest(self, generation: Generation | None, problem: object | None) -> None:
        """Count an item that the end of the run left as it was; without a generation it is in doubt."""
        self.tokens += (generation and generation.tokens_spent) or 0
        if problem is None:
            self.done += 1
        elif generation is None:
            self.in_doubt += 1
        elif generation.failed:
            self.failed += 1
        else:
            self.interrupted += 1

    @property
    def settled(self) -> int:
        """Return how many items are no longer under way."""
        return self.done + self.failed + self.in_doubt + self.not_sent

    def code(self, otherwise: int = DONE) -> int:
        """Return the exit code; `otherwise` is what it is when these counts have no say."""
        if self.in_doubt:
            return IN_DOUBT
        if otherwise >= SIGNALLED:
            return otherwise
        if self.stopped_by is not None:
            return STOPPED
        return FAILED if self.failed or self.bad_lines else otherwise

    def __str__(self) -> str:
        parts = [f"{self.done:,} done", f"{self.failed:,} failed"]
        parts += [f"{self.not_sent:,} not sent"] if self.not_sent else []
        parts += [f"{self.in_doubt:,} in doubt"] if self.in_doubt else []
        parts += [f"{self.interrupted:,} interrupted"] if self.interrupted else []
        parts += [f"{many(self.bad_lines, 'line')} not usable"] if self.bad_lines else []
        earlier = f" ({self.earlier:,} of these before this run)" if self.earlier else ""
        return f"{', '.join(parts)}{earlier}, {many(self.tokens, 'token')}"

"""What a run leaves behind is in its ledger: how many items are where, and the commands that go on from there."""

import shlex
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from attrs import frozen

from neuralbox_async import Balance, Ledger, LedgerError, LedgerSummary, Outcome
from neuralbox_async.extras.cli.settings import BulkOptions, to_remember

Outcomes = AsyncIterator[Outcome]


@frozen
class Kept:
    """The ledger of one run, beside the run itself."""

    path: str

    @asynccontextmanager
    async def remembering(
        self, options: BulkOptions, balance: Balance | None, many: AbstractAsyncContextManager[Outcomes]
    ) -> AsyncIterator[Outcomes]:
        """Remember what is asked for, then run it. Raises LedgerError if the ledger cannot be used."""
        with Ledger.create(self.path) as ledger:
            before = ledger.settings
            ledger.remember(to_remember(options, before, balance))
        async with AsyncExitStack() as stack:
            try:
                outcomes = await stack.enter_async_context(many)
            except LedgerError:  # another account's: its own settings must stay
                with Ledger(self.path) as ledger:
                    ledger.remember(before)
                raise
            yield outcomes

    def summary(self) -> LedgerSummary:
        """Count what is where."""
        with Ledger(self.path) as ledger:
            return ledger.summary()

    def balance_before(self) -> int | None:
        """Return the balance that the first run has met."""
        with Ledger(self.path) as ledger:
            return ledger.settings.get("balance_before")

    def command(self, name: str) -> str:
        """Return a command line about this ledger."""
        return shlex.join(["neuralbox", name, self.path])

    def resume(self, settings: Mapping[str, Any]) -> str | None:
        """Return the command that goes on; None if a program began the run: it alone knows what it asks for.

        `settings` are those of the ledger.
        """
        return self.command("resume") if "file" in settings else None


def go_on_with(resume: str | None) -> str:
    """Say in words how a run goes on."""
    return f"Go on with: {resume or 'the program that began it'}"


def in_doubt(summary: LedgerSummary) -> int:
    """Return how many items may have been paid for, and nobody who runs would know."""
    return summary.counts["in_doubt"] + summary.counts["sending"]


def what_is_left(summary: LedgerSummary, *, wants_files: bool) -> list[str]:
    """Say in short words what a resumed run has to do."""
    counts = summary.counts
    left = {
        "not sent": counts["planned"],
        "under way": counts["accepted"],
        "in doubt": in_doubt(summary),
        "not saved": counts["completed"] if wants_files else 0,
    }
    return [f"{number:,} {words}" for words, number in left.items() if number]

"""`neuralbox retry-failed` and `resolve`: a person decides what no program may, and the next run carries it out."""

import sys
from collections.abc import Callable

from rich.console import Console

from neuralbox_async import Ledger, LedgerRow, UsageError
from neuralbox_async.extras.cli.exits import DONE
from neuralbox_async.extras.cli.kept import Kept, go_on_with
from neuralbox_async.extras.cli.options import read_id
from neuralbox_async.extras.cli.page import draw_doubts
from neuralbox_async.extras.cli.report import as_json
from neuralbox_async.extras.cli.status import as_doubt
from neuralbox_async.extras.cli.wording import many

Decision = Callable[[Ledger, str], LedgerRow]


def retry_failed(path: str) -> int:
    """Plan what failed anew, say how much that is, and return the exit code."""
    with Ledger(path) as ledger:
        count, resume = ledger.retry_failed(), Kept(path).resume(ledger.settings)
    said = f"{many(count, 'failed item')} planned anew. {go_on_with(resume)}" if count else "Nothing has failed."
    Console().print(said, soft_wrap=True, markup=False, highlight=False)
    return DONE


def list_doubts(path: str, *, as_records: bool) -> int:
    """Write what is in doubt, and return the exit code."""
    with Ledger(path) as ledger:
        rows = tuple(ledger.rows("sending", "in_doubt"))
    if as_records:
        sys.stdout.writelines(f"{as_json(as_doubt(row))}\n" for row in rows)
    else:
        draw_doubts(Console(), path, rows)
    return DONE


def settle(path: str, key: str, decide: Decision) -> int:
    """Settle one item, say what becomes of it, and return the exit code."""
    with Ledger(path) as ledger:
        row, resume = decide(ledger, key), Kept(path).resume(ledger.settings)
    becomes = {"planned": "is sent again", "accepted": "is that generation"}.get(row.state, "is given up")
    Console().print(f"{key} {becomes}. {go_on_with(resume)}", soft_wrap=True, markup=False, highlight=False)
    return DONE


def decision(*, adopt: str | None, resubmit: bool, drop: bool) -> Decision | None:
    """Return what was decided; None if nothing was. Raises UsageError for two decisions at once."""
    given: list[Decision] = []
    if adopt is not None:
        given.append(lambda ledger, key: ledger.resolve(key, adopt=read_id(adopt)))
    if resubmit:
        given.append(lambda ledger, key: ledger.resolve(key, "resubmit"))
    if drop:
        given.append(lambda ledger, key: ledger.resolve(key, "drop"))
    if len(given) > 1:
        raise UsageError("An item is settled by one of --adopt, --resubmit and --drop.")
    return given[0] if given else None

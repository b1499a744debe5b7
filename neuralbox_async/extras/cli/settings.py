"""All that a run needs to go on is remembered in its ledger, so that `resume` wants no flag; the key never is.

Places are remembered as absolute paths: whoever resumes may be in another folder.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from attrs import asdict, evolve, frozen

from neuralbox_async import Balance, Ledger, UsageError
from neuralbox_async.extras.cli.options import Service
from neuralbox_async.extras.cli.places import as_folder
from neuralbox_async.extras.cli.prompts import Defaults
from neuralbox_async.extras.cli.source import STDIN

LEDGER_NAME: Final = "run.db"


@frozen(kw_only=True)
class BulkOptions:
    """What a bulk run was asked to do; `ledger` is None for one that only writes to stdout."""

    file: str
    out: str | None
    ledger: str | None
    defaults: Defaults
    max_concurrency: int
    timeout: float | None
    settle: float | None
    resubmit_absent: bool
    budget: int | None
    service: Service


def with_ledger(options: BulkOptions) -> BulkOptions:
    """Put the ledger beside the results, unless it has a place or nothing is saved."""
    if options.ledger is not None or options.out is None:
        return options
    return evolve(options, ledger=str(Path(as_folder(options.out), LEDGER_NAME)))


def to_remember(options: BulkOptions, before: Mapping[str, Any], balance: Balance | None) -> dict[str, Any]:
    """Return what a ledger keeps of a run; what it cost is counted from the balance that its first run has met."""
    service = options.service
    settings = {
        **asdict(options),
        "file": options.file if options.file == STDIN else str(Path(options.file).absolute()),
        "out": None if options.out is None else absolute_folder(options.out),
        "service": {**asdict(service), "base_url": service.base_url or os.environ.get("NEURALBOX_BASE_URL")},
        "plan": before.get("plan") if balance is None else balance.plan,
        "balance_before": before.get("balance_before", None if balance is None else balance.token_balance),
    }
    del settings["ledger"]
    return settings


def recalled(ledger: str) -> BulkOptions:
    """Return what the run of a ledger was asked to do. Raises UsageError if nobody remembers, LedgerError."""
    with Ledger(ledger) as file:
        settings = dict(file.settings)
    try:
        return BulkOptions(
            file=settings["file"],
            out=settings["out"],
            ledger=ledger,
            defaults=Defaults(**settings["defaults"]),
            max_concurrency=settings["max_concurrency"],
            timeout=settings["timeout"],
            settle=settings["settle"],
            resubmit_absent=settings["resubmit_absent"],
            budget=settings["budget"],
            service=Service(**settings["service"]),
        )
    except (KeyError, TypeError) as missing:
        reason = str(missing)
    raise UsageError(
        f"The ledger {ledger} does not say what its run was asked to do ({reason}): go on with the program that began "
        "it, or with neuralbox bulk FILE --ledger."
    )


def absolute_folder(out: str) -> str:
    """Return a folder as an absolute path."""
    return as_folder(str(Path(as_folder(out)).absolute()))

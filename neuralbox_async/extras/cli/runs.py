"""The commands of a bulk run, from its first line of input to its last item in doubt: what may be asked of each."""

import sys
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

from attrs import evolve
from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.console import Console

from neuralbox_async import UsageError
from neuralbox_async.extras.cli import bulk as bulk_run
from neuralbox_async.extras.cli import dry_run as estimating
from neuralbox_async.extras.cli import export as exporting
from neuralbox_async.extras.cli import settle as settling
from neuralbox_async.extras.cli.exits import DONE
from neuralbox_async.extras.cli.options import ANYWHERE, AsJson, Params, PollInterval, Service, read_params
from neuralbox_async.extras.cli.page import draw_status
from neuralbox_async.extras.cli.prompts import Defaults
from neuralbox_async.extras.cli.report import as_json as record_as_json
from neuralbox_async.extras.cli.settings import BulkOptions, recalled, with_ledger
from neuralbox_async.extras.cli.source import STDIN
from neuralbox_async.extras.cli.status import as_record, read_status


def _no_option(_type: type, file: str) -> None:
    if file.startswith("-") and file != STDIN:
        raise ValueError(f"there is no option {file}; a file of that name is ./{file}.")


# A lone hyphen is stdin; cyclopts lets it pass only together with everything else that begins with one.
File = Annotated[
    str, Parameter(allow_leading_hyphen=True, validator=_no_option, help="A .jsonl, .csv or .txt file; - is stdin.")
]


LedgerPath = Annotated[str, Parameter(name="LEDGER", help="The ledger of a run: OUT/run.db, or what --ledger named.")]
AtOnce = Parameter(name="--max-concurrency", validator=Number(gte=1), help="Most generations under way at once.")
Settle = Annotated[
    float | None,
    Parameter(
        help="Seconds after which a request whose answer was lost, and that the history does not show, was not booked. "
        "Default: as long as its model may take, and 30."
    ),
]
Tokens = Annotated[
    int | None,
    Parameter(
        name="--budget",
        validator=Number(gte=0),
        help="Most tokens that the run may spend in all: it stops before a line that might cost more than is left.",
    ),
]
StepTimeout = Annotated[
    float | None,
    Parameter(
        name="--timeout",
        help="Seconds for each generation, from its request to its file. Default: 600.",
    ),
]
RESUBMIT: Final = (
    "Send again what was not booked by the history. Should that show it later still, it is paid twice; by default it "
    "stays in doubt."
)


def bulk(
    file: File,
    /,
    *,
    out: Annotated[
        str | None, Parameter(help="A folder for the results, named after key or id, and for outcomes.jsonl.")
    ] = None,
    ledger: Annotated[
        str | None,
        Parameter(help="The file that records the run, so that it can go on. Default: run.db in --out; without, none."),
    ] = None,
    max_concurrency: Annotated[int, AtOnce] = 16,
    model: Annotated[str | None, Parameter(help="The model of lines that name none.")] = None,
    param: Params = (),
    timeout: StepTimeout = None,
    settle: Settle = None,
    resubmit_absent: Annotated[bool, Parameter(negative="", show_default=False, help=RESUBMIT)] = False,
    budget: Tokens = None,
    dry_run: Annotated[
        bool,
        Parameter(negative="", show_default=False, help="Only tell items, cost, requests and time; with --json too."),
    ] = False,
    as_json: AsJson = False,
    service: Service = ANYWHERE,
) -> int:
    """Generate every line of a file, many at once; the same command again goes on where it was.

    FILE has JSON lines (.jsonl), a table whose first row names the columns
    (.csv), or one prompt per line (.txt) with --model; - is stdin. It is read
    as it is needed and may be endless. A JSON line has "model" and "prompt",
    and may have "params" and "key", after which its file is named; a table has
    columns of these names, or "param.duration" for one of the params. Other
    fields are echoed:

        {"model": "kling-v2.1", "prompt": "A flower", "key": "a", "scene": 3}

    stdout gets one JSON line per outcome as it finishes, with or without
    --json: index, line, key, model, prompt, params, your other fields, id,
    status, text, url, path, tokens_spent, error. An error has type, message,
    billed ("no", "yes", "unknown"), generation_id and retryable, and hint: the
    command that gets it yet. A line that cannot be used becomes an outcome
    with an error, and the rest goes on.

        neuralbox bulk prompts.jsonl --out results/ --dry-run
        neuralbox bulk prompts.jsonl --out results/ --max-concurrency 16
        shuf ideas.txt | neuralbox bulk - --model musicgen --out songs/

    With --out or --ledger the run may be killed at any moment: the same
    command, or `neuralbox resume LEDGER`, goes on. What is finished is not
    repeated, what was accepted is looked at, what was lost on the way is
    looked for in the history, and only what was never sent is sent. So the
    same line again is the same item; another run wants another ledger.
    OUT/outcomes.jsonl gets the outcome of each item once, when it has come to
    its end, in whichever run that is; stdout what is new in this one.

    Ctrl-C starts nothing new and gives requests on their way 5 seconds to
    learn their id; again, it leaves at once. Without a ledger, what goes on at
    the service becomes an outcome of type "Interrupted" with its id, for
    `neuralbox wait ID`.
    """
    options = BulkOptions(
        file=file,
        out=out,
        ledger=ledger,
        defaults=Defaults(model=model, params=read_params(param)),
        max_concurrency=max_concurrency,
        timeout=timeout,
        settle=settle,
        resubmit_absent=resubmit_absent,
        budget=budget,
        service=service,
    )
    if dry_run:
        return estimating.dry_run(with_ledger(options), estimating.show_record if as_json else estimating.show_page)
    return bulk_run.bulk(with_ledger(options))


def resume(
    ledger: LedgerPath,
    /,
    *,
    max_concurrency: Annotated[int | None, AtOnce] = None,
    timeout: StepTimeout = None,
    settle: Settle = None,
    resubmit_absent: Annotated[bool | None, Parameter(help=RESUBMIT)] = None,
    budget: Tokens = None,
    poll_interval: PollInterval = None,
    _as_json: AsJson = False,
) -> int:
    """Go on with a run that was stopped or killed; its ledger remembers all of its options.

    What is given here counts instead, and is remembered too. The input is read
    again from its file; stdin cannot be, so of that, what was read is finished.
    stdout, outcomes.jsonl and the exit code are those of `bulk`.

        neuralbox resume results/run.db
    """
    given = {
        "max_concurrency": max_concurrency,
        "timeout": timeout,
        "settle": settle,
        "resubmit_absent": resubmit_absent,
        "budget": budget,
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    options = evolve(recalled(ledger), **changes)
    if poll_interval is not None:
        options = evolve(options, service=evolve(options.service, poll_interval=poll_interval))
    return bulk_run.resume(options)


def status(ledger: LedgerPath, /, *, as_json: AsJson = False) -> int:
    """Show how a run stands, while it runs or after it was killed.

    Counts items by state, and tells the tokens spent, the time left, what is
    in doubt, and what lies at the service only and expires there. Asks the
    service nothing.

        neuralbox status results/run.db
    """
    found = read_status(ledger)
    if as_json:
        sys.stdout.write(record_as_json(as_record(found)) + "\n")
    else:
        draw_status(Console(), found)
    return DONE


def retry_failed(ledger: LedgerPath, /) -> int:
    """Plan everything that failed anew; `resume` then sends it again.

    That costs what it costs: failed generations were not charged.

        neuralbox retry-failed results/run.db && neuralbox resume results/run.db
    """
    return settling.retry_failed(ledger)


def resolve(
    ledger: LedgerPath,
    key: Annotated[str | None, Parameter(name="KEY", help="The item; without it, those in doubt are listed.")] = None,
    /,
    *,
    adopt: Annotated[str | None, Parameter(help="It became the generation of this id.")] = None,
    resubmit: Annotated[bool, Parameter(negative="", show_default=False, help="Send it again.")] = False,
    drop: Annotated[bool, Parameter(negative="", show_default=False, help="Give it up.")] = False,
    as_json: AsJson = False,
) -> int:
    """Settle an item that stayed in doubt, by what you have found in your account's history.

    An item that failed or was dropped can be resubmitted as well. One whose
    generation the service does not know can be dropped, or adopt another.

        neuralbox resolve results/run.db
        neuralbox resolve results/run.db clip-7 --adopt 18502
    """
    decision = settling.decision(adopt=adopt, resubmit=resubmit, drop=drop)
    if key is None and decision is None:
        return settling.list_doubts(ledger, as_records=as_json)
    if key is None or decision is None:
        raise UsageError("resolve wants the KEY of an item, and one of --adopt ID, --resubmit and --drop.")
    return settling.settle(ledger, key, decision)


def export(
    ledger: LedgerPath,
    /,
    *,
    form: Annotated[
        Literal["jsonl", "csv"] | None,
        Parameter(name="--format", help="How to write it. Default: as --out ends, else jsonl."),
    ] = None,
    out: Annotated[str | None, Parameter(help="The file to write, .jsonl or .csv; else stdout.")] = None,
) -> int:
    """Write every item of a run as it stands, once, with your own columns.

    The fields are those of outcomes.jsonl, and state: planned, sending,
    in_doubt, accepted, completed, failed, saved or dropped.

        neuralbox export results/run.db --out results.csv
    """
    return exporting.export(ledger, exporting.FORMS[form or exporting.form_of(out)], out)


COMMANDS: Final[tuple[Callable[..., int], ...]] = (bulk, resume, status, retry_failed, resolve, export)


def add_to(app: App) -> None:
    """Add these commands to the program."""
    for command in COMMANDS:
        app.command(command)

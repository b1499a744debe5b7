"""`neuralbox export`: one record for each item of a ledger, as it stands, with the input's own columns beside ours."""

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePath
from typing import Any, Final, TextIO

from attrs import evolve, frozen

from neuralbox_async import Ledger, LedgerRow, UsageError
from neuralbox_async.extras.cli.exits import DONE
from neuralbox_async.extras.cli.report import Record, as_json, line_record, problem_of, request_record, result_record

_NESTED: Final = "input."


Writer = Callable[[TextIO, Callable[[], Iterator[Record]]], None]


@frozen
class Form:
    """How records are written, and in which encoding to a file."""

    write: Writer
    encoding: str = "utf-8"


def export(path: str, form: Form, out: str | None) -> int:
    """Write every item of a ledger, and return the exit code. Raises UsageError if the file cannot be written."""
    with Ledger(path) as ledger, _opened(out, form.encoding, ledger=path) as file:
        form.write(file, lambda: map(as_record, ledger.rows()))
        file.flush()
    return DONE


def as_record(row: LedgerRow) -> Record:
    """Describe an item as outcomes.jsonl does, with its state."""
    problem = None if row.error is None else problem_of(row.error, row.generation)
    result = {"state": row.state, **result_record(row.generation, problem, row.path)}
    record = line_record(row.request.tag, request_record(evolve(row.request, key=row.key)), result)
    return record if record["index"] is not None else {**record, "index": row.index}


def write_jsonl(file: TextIO, records: Callable[[], Iterator[Record]]) -> None:
    """Write a line of JSON for each."""
    file.writelines(f"{as_json(record)}\n" for record in records())


def write_csv(file: TextIO, records: Callable[[], Iterator[Record]]) -> None:
    """Write a table; its columns are all that any of them has, so they are read twice."""
    columns: dict[str, None] = {}
    for record in records():
        columns.update(dict.fromkeys(_flat(record)))
    table = csv.DictWriter(file, list(columns), restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(map(_flat, records()))


# Excel takes a file for UTF-8 only with a mark; what reads JSON does not expect it.
FORMS: Final[Mapping[str, Form]] = {"jsonl": Form(write_jsonl), "csv": Form(write_csv, encoding="utf-8-sig")}


def form_of(out: str | None) -> str:
    """Return the form that a file's name asks for. Raises UsageError if its ending is that of another."""
    suffix = PurePath(out or "").suffix.lower()
    form = suffix.removeprefix(".") or "jsonl"
    if form not in FORMS:
        raise UsageError(
            f"--out {out}: {suffix} cannot be written; name a file that ends in .jsonl or .csv, or say --format."
        )
    return form


def _flat(record: Record) -> dict[str, Any]:
    """Return a record as cells: an error as its message, other objects as JSON."""
    inputs = record.get("input", {})
    flat = {name: value for name, value in record.items() if name != "input"}
    flat["error"] = record["error"] and record["error"]["message"]
    flat |= {f"{_NESTED}{name}": value for name, value in inputs.items()}
    return {name: _cell(value) for name, value in flat.items()}


def _cell(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | bool) else value


@contextmanager
def _opened(out: str | None, encoding: str, *, ledger: str) -> Iterator[TextIO]:
    if out is None:
        yield sys.stdout
        return
    if not out:
        raise UsageError("--out wants the name of a file.")
    with ExitStack() as stack:
        try:
            if Path(out).exists() and Path(out).samefile(ledger):
                raise UsageError(f"--out {out} is the ledger itself; name another file.")
            file = stack.enter_context(Path(out).open("w", encoding=encoding, errors="backslashreplace", newline=""))
        except OSError as error:
            raise UsageError(f"--out {out} cannot be written: {error.strerror}.") from error
        yield file

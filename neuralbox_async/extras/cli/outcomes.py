"""An item has one line in outcomes.jsonl, from the moment it has come to its end, whoever was killed in between.

The file itself is the truth: a run reads it when it begins, takes away a last line that a kill has cut, and writes no
line that it has. So a kill between the ledger's commit and the line costs nothing: the next run writes it. What has not
come to its end goes to stdout alone; it is in the ledger, and gets its line from the run that settles it.
"""

import json
import os
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, Final

from attrs import define, field

from neuralbox_async import APIStatusError, GenerationFailedError, Outcome, RateLimitError, UsageError
from neuralbox_async.extras.cli.exits import REFUSALS
from neuralbox_async.extras.cli.places import ready_folder
from neuralbox_async.extras.cli.report import Record, as_json

NAME: Final = "outcomes.jsonl"


def has_ended(outcome: Outcome) -> bool:
    """Say whether a later run would find the same: done, failed, or refused for what it asks."""
    error = outcome.error
    if error is None or isinstance(error, GenerationFailedError | UsageError):
        return True
    if outcome.generation is not None or not isinstance(error, APIStatusError):
        return False
    return 400 <= error.status_code < 500 and not isinstance(error, (*REFUSALS, RateLimitError))


@define
class Lines:
    """Where outcome lines go: stdout, and a file if there is one."""

    _file: FileIO | None = None
    _told: "array[int]" = field(factory=lambda: array("Q"), init=False)

    def read(self) -> None:
        """Learn what the file tells already; only whoever owns the ledger may do so."""
        if self._file is not None:
            with Path(self._file.name).open("rb") as file:
                self._told = array("Q", sorted(map(_identity, _whole_records(file, self._file))))

    def has(self, record: Record) -> bool:
        """Say whether the file had this outcome when it was read."""
        identity = _identity(record)
        place = bisect_left(self._told, identity)
        return place < len(self._told) and self._told[place] == identity

    def tell(self, record: Record) -> None:
        """Write a record to stdout."""
        sys.stdout.write(as_json(record) + "\n")
        sys.stdout.flush()

    def keep(self, record: Record) -> None:
        """Write a record to stdout and the file; that one of them fails does not keep it from the other."""
        try:
            self.tell(record)
        finally:
            if self._file is not None:
                _write_whole(self._file, f"{as_json(record)}\n".encode("utf-8", "backslashreplace"))


@contextmanager
def opened_lines(out: str | None) -> Iterator[Lines]:
    """Open the file of outcomes in a folder; None: stdout is all. Raises UsageError if it cannot be written."""
    if out is None:
        yield Lines()
        return
    ready_folder(out)
    path = Path(out, NAME)
    try:
        file = path.open("ab", buffering=0)  # what a full disk has refused must not be tried again by the closing
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
    with file:
        yield Lines(file)


def _write_whole(file: FileIO, line: bytes) -> None:
    left = memoryview(line)
    while left:
        left = left[file.write(left) :]


def _whole_records(reader: BinaryIO, writer: FileIO) -> Iterator[Mapping[str, Any]]:
    """Yield the records of a file, and mend its end."""
    whole = 0
    for line in reader:
        record = _record(line)
        if line.endswith(b"\n"):
            whole += len(line)
        elif record is None:
            writer.truncate(whole)
            writer.seek(0, os.SEEK_END)
        else:  # an editor has taken the last line's end away
            writer.write(b"\n")
        if record is not None:
            yield record


def _record(line: bytes) -> Mapping[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _identity(record: Mapping[str, Any]) -> int:
    """Return a number that stands for one end of one item; one that is tried again and comes to another has another.

    64 bits: of 200,000 lines, two are mistaken for the same once in a billion runs.
    """
    key, known, error = record.get("key"), record.get("id"), record.get("error")
    kind = error.get("type") if isinstance(error, dict) else None
    end = [key, known] if known is not None else [key, None, record.get("line"), kind]
    return int.from_bytes(blake2b(json.dumps(end).encode(), digest_size=8).digest())

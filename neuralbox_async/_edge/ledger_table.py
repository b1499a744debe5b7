"""The ledger's table: a row changes together with the event that says so, and the id of one is never another's."""

import json
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import evolve

from neuralbox_async._core import rows
from neuralbox_async._core.errors import LedgerError, NeuralBoxError, UsageError
from neuralbox_async._core.models import Id, identity
from neuralbox_async._core.rows import Row, Summary
from neuralbox_async._edge.database import Database, Migrations


def _first_schema(execute: Callable[[str], object]) -> None:
    """Make the tables.

    `owner` has every id that was ever a row's, also of attempts that were given up: a row never takes another's.
    """
    for statement in (
        "CREATE TABLE job (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        """CREATE TABLE item (
            number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, place INTEGER NOT NULL, digest TEXT NOT NULL,
            state TEXT NOT NULL, request TEXT NOT NULL, generation TEXT, error TEXT, path BLOB, sent_at REAL,
            after_id, submissions INTEGER NOT NULL, reserved INTEGER, tokens_spent INTEGER,
            began_at REAL NOT NULL, changed_at REAL NOT NULL)""",
        "CREATE INDEX item_state ON item (state, number)",
        "CREATE TABLE owner (gen_id NOT NULL PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID",
        """CREATE TABLE event (
            id INTEGER PRIMARY KEY, number INTEGER NOT NULL, before TEXT, after TEXT NOT NULL, at REAL NOT NULL,
            gen_id)""",
        "CREATE INDEX event_number ON event (number)",
        """CREATE TRIGGER event_is_never_changed BEFORE UPDATE ON event
            BEGIN SELECT RAISE(ABORT, 'events are only added'); END""",
        """CREATE TRIGGER event_is_never_deleted BEFORE DELETE ON event
            WHEN EXISTS (SELECT 1 FROM item WHERE number = old.number)
            BEGIN SELECT RAISE(ABORT, 'events are only added'); END""",
    ):
        execute(statement)


def _with_clocks(execute: Callable[[str], object]) -> None:
    """Keep with each POST how far the service's clock was ahead."""
    execute("ALTER TABLE item ADD COLUMN ahead REAL")


MIGRATIONS: Final[Migrations] = (_first_schema, _with_clocks)

_COLUMNS: Final = (
    "number, key, place, state, request, generation, error, path, sent_at, after_id, ahead, submissions, reserved,"
    " changed_at"
)


class Table:
    """The rows of one run; every method runs inside of a transaction of its database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def job(self, name: str) -> str | None:
        """Return a fact about the whole run."""
        found = self.database.execute("SELECT value FROM job WHERE name = ?", (name,)).fetchone()
        return None if found is None else str(found[0])

    def set_job(self, name: str, value: str) -> None:
        """Keep a fact about the whole run."""
        self.database.execute("INSERT OR REPLACE INTO job VALUES (?, ?)", (name, value))

    def settings(self) -> Mapping[str, Any]:
        """Return what was remembered about the run."""
        try:
            found = json.loads(self.job("settings") or "{}")
        except ValueError as error:
            reason = str(error)
        else:
            return found if isinstance(found, dict) else {}
        raise self._damaged("What was remembered", reason)

    def bind(self, origin: str, account: Callable[[bytes], str]) -> None:
        """Bind a new ledger to an API and an account; raise LedgerError for one that is bound to others."""
        salt = self.job("salt") or os.urandom(16).hex()
        if not _SALT.fullmatch(salt):
            raise self._damaged("The salt", repr(salt))
        ours = {"origin": origin, "account": account(bytes.fromhex(salt))}
        for name, value in ours.items():
            theirs = self.job(name)
            if theirs is not None and theirs != value:
                seen = f" ({theirs}, not {value})" if name == "origin" else ""
                raise LedgerError(
                    f"The ledger {self.database.name} was begun with another {_BOUND[name]}{seen}; "
                    f"go on with that one, or begin a new ledger.{_WAY_OUT[name]}"
                )
        for name, value in {**ours, "salt": salt}.items():
            if self.job(name) is None:
                self.set_job(name, value)

    def unbind(self, name: str) -> None:
        """Let the next owner say anew what a ledger is bound to."""
        self.database.execute("DELETE FROM job WHERE name = ?", (name,))

    # --- rows --------------------------------------------------------------------------------------------------------

    def add(self, row: Row, digest: str, request: str) -> Row:
        """Add a row (its number is chosen here), or return the one that has its key and asks for the same."""
        found = self.database.execute("SELECT digest FROM item WHERE key = ?", (row.key,)).fetchone()
        if found is not None and found[0] != digest:
            raise UsageError(
                f"Item {row.key!r} is in the ledger {self.database.name} with another model, prompt or params; "
                "give the changed request a new key, or begin a new ledger."
            )
        if found is not None:
            return self.row(row.key)
        columns = "key, place, digest, state, request, submissions, began_at, changed_at"
        values = (row.key, row.index, digest, row.state, request, 0, row.changed_at, row.changed_at)
        places = ", ".join("?" * len(values))
        number = self.database.execute(f"INSERT INTO item ({columns}) VALUES ({places})", values).lastrowid  # noqa: S608
        assert number is not None  # noqa: S101 - a row was inserted
        self._add_event(number, None, row.state, row.changed_at, None)
        return evolve(row, number=number)

    def row(self, key: str) -> Row:
        """Return the row of a key, or raise LedgerError."""
        for row in self.named([key]):
            return row
        raise LedgerError(f"The ledger {self.database.name} has no item {key!r}; check the key.")

    def named(self, keys: Collection[str]) -> list[Row]:
        """Return the rows of those keys that there are."""
        query = f"SELECT {_COLUMNS} FROM item WHERE key = ?"  # noqa: S608 - our own names
        return [self._read(found) for key in keys for found in self.database.execute(query, (key,))]

    def rows(self, states: Collection[str], after: int, limit: int) -> list[Row]:
        """Return rows in these states (in any, if none is named) behind a number, in order."""
        unknown = set(states).difference(rows.STATES)
        if unknown:
            raise UsageError(f"No such state: {', '.join(sorted(unknown))}; there are {', '.join(rows.STATES)}.")
        behind = f"SELECT {_COLUMNS} FROM item WHERE number > ?"  # noqa: S608 - our own names
        # Each state comes in order from the index; SQLite merges them without sorting.
        query = " UNION ALL ".join([f"{behind} AND state = ?"] * len(states)) if states else behind
        values = [value for state in states for value in (after, state)] if states else [after]
        return [
            self._read(found) for found in self.database.execute(f"{query} ORDER BY number LIMIT ?", (*values, limit))
        ]

    def step(self, before: Row, after: Row) -> Callable[[], Row]:
        """Prepare to write a step; what is returned writes it, and returns the row after it.

        That raises LedgerError if the row is not where the step began, or the id is another row's; nothing is written.
        """
        values = _changing(after)  # before the transaction: what cannot be written must not harm the others in it

        def write() -> Row:
            self._write(before, after, values)
            return after

        return write

    def _write(self, before: Row, after: Row, values: Sequence[Any]) -> None:
        gen_id = None if after.generation is None else _stored_id(after.generation.id)
        owners = [] if gen_id is None else self._owners(gen_id)
        # Nobody claims from a ledger in memory, and a test's service may answer every POST with the same id.
        if owners and after.number not in owners and self.database.path is not None:
            raise LedgerError(
                f"Generation {gen_id} belongs to item {self._key(owners[0])!r} of the ledger {self.database.name}, "
                f"so it cannot be that of item {after.key!r}; look for another one."
            )
        done = self.database.execute(
            """UPDATE item SET state = ?, generation = ?, error = ?, path = ?, sent_at = ?, after_id = ?, ahead = ?,
            submissions = ?, reserved = ?, tokens_spent = ?, changed_at = ? WHERE number = ? AND state = ?""",
            (*values, before.number, before.state),
        )
        if not done.rowcount:
            now = self.database.execute("SELECT state FROM item WHERE number = ?", (before.number,)).fetchone()
            raise LedgerError(
                f"Item {before.key!r} of the ledger {self.database.name} is {now[0] if now else 'gone'}, "
                f"not {before.state}, so it cannot become {after.state} now; read it again."
            )
        if gen_id is not None and not owners:
            self.database.execute("INSERT INTO owner VALUES (?, ?)", (gen_id, after.number))
        self._add_event(after.number, before.state, after.state, after.changed_at, gen_id)

    def replan(self, state: str, at: float) -> int:
        """Plan every row in a state anew and return how many there were."""
        self.database.execute(
            "INSERT INTO event (number, before, after, at) SELECT number, state, ?, ? FROM item WHERE state = ?",
            (rows.PLANNED, at, state),
        )
        return self.database.execute(
            """UPDATE item SET state = ?, generation = NULL, error = NULL, path = NULL, reserved = NULL,
            tokens_spent = NULL, changed_at = ? WHERE state = ?""",
            (rows.PLANNED, at, state),
        ).rowcount

    def forget(self, row: Row) -> None:
        """Drop a finished row."""
        self.database.execute("DELETE FROM item WHERE number = ?", (row.number,))
        self.database.execute("DELETE FROM event WHERE number = ?", (row.number,))
        self.database.execute("DELETE FROM owner WHERE number = ?", (row.number,))

    def owned(self, ids: Collection[Id]) -> set[Id]:
        """Return those ids that are or were a row's."""
        return {each for each in ids if self._owners(each)}

    def highest_id(self) -> int | None:
        """Return the highest integer id that is or was a row's."""
        # Every integer sorts before every text.
        found = self.database.execute("SELECT max(gen_id) FROM owner WHERE gen_id < ''").fetchone()[0]
        return None if found is None else int(found)

    def summary(self) -> Summary:
        """Count."""
        counts = dict.fromkeys(rows.STATES, 0)
        counts.update(self.database.execute("SELECT state, count(*) FROM item GROUP BY state"))
        totals = "SELECT total(tokens_spent), total(reserved), min(began_at), max(changed_at) FROM item"
        spent, reserved, began_at, changed_at = self.database.execute(totals).fetchone()
        return Summary(
            counts=counts,
            tokens_spent=int(spent),
            tokens_reserved=int(reserved),
            began_at=began_at,
            changed_at=changed_at,
        )

    def _owners(self, gen_id: Id) -> Sequence[int]:
        """Return whose an id is, in whatever form it was written; earlier versions may have let two rows have it."""
        forms = _stored_id(identity(gen_id)), str(gen_id)
        found = self.database.execute("SELECT number FROM owner WHERE gen_id IN (?, ?)", forms)
        return [int(number) for (number,) in found]

    def _key(self, number: int) -> str:
        found = self.database.execute("SELECT key FROM item WHERE number = ?", (number,)).fetchone()
        return str(found[0]) if found else f"number {number}"

    def _add_event(self, number: int | None, before: str | None, after: str, at: float, gen_id: Id | None) -> None:
        self.database.execute(
            "INSERT INTO event (number, before, after, at, gen_id) VALUES (?, ?, ?, ?, ?)",
            (number, before, after, at, gen_id),
        )

    def _read(self, found: Sequence[Any]) -> Row:
        number, key, index, state, request, generation, error, path, sent_at, after_id, ahead, sends, reserved, at = (
            found
        )
        try:
            asked = rows.read_request(request)
            known = None if generation is None else rows.read_generation(generation)
            return Row(
                number=number,
                key=key,
                index=index,
                state=_known_state(state),
                request=asked,
                generation=known,
                error=None if error is None else rows.read_error(error, request=asked, generation=known),
                path=None if path is None else Path(os.fsdecode(path)),
                sent_at=sent_at,
                after_id=None if after_id is None else int(after_id),
                ahead=ahead,
                submissions=sends,
                reserved=reserved,
                changed_at=at,
            )
        except (KeyError, TypeError, ValueError, NeuralBoxError) as unreadable:
            reason = f"{type(unreadable).__name__}: {unreadable}"
        raise self._damaged(f"Item {key!r}", reason)

    def _damaged(self, what: str, reason: str) -> LedgerError:
        return LedgerError(
            f"{what} of the ledger {self.database.name} is damaged ({reason}); restore a copy of it: what was sent "
            "after that was made is sent again."
        )


_SALT: Final = re.compile(r"([0-9a-f]{2})+")
_BOUND: Final[Mapping[str, str]] = {"origin": "base_url", "account": "account's key"}
_WAY_OUT: Final[Mapping[str, str]] = {
    "origin": "",
    "account": " If this is a new key of the same account, Ledger(path).accept_new_key() lets the next run use it.",
}


_LARGEST: Final = 2**63 - 1  # of SQLite's integers


def _known_state(state: str) -> str:
    if state not in rows.STATES:
        raise ValueError(f"{state!r} is no state")
    return state


def _stored_id(generation_id: Id) -> Id:
    if isinstance(generation_id, int) and abs(generation_id) > _LARGEST:
        return str(generation_id)
    return generation_id


def _stored_count(tokens: int | None) -> int | None:
    return None if tokens is None else max(-_LARGEST, min(tokens, _LARGEST))


def _changing(row: Row) -> tuple[Any, ...]:
    after_id = None if row.after_id is None else _stored_id(row.after_id)
    return (
        row.state,
        None if row.generation is None else rows.written_generation(row.generation),
        None if row.error is None else rows.written_error(row.error),
        None if row.path is None else os.fsencode(row.path),
        row.sent_at,
        after_id,
        row.ahead,
        row.submissions,
        _stored_count(row.reserved),
        _stored_count(rows.spent(row)),
        row.changed_at,
    )

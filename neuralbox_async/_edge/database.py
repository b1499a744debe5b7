"""A SQLite file of ours: opened only if it is whole and ours, written by one owner, and durable once a block has ended.

The only importer of `sqlite3`. SQLite up to 3.51.2 can lose commits in WAL mode when two connections write
(sqlite.org/wal.html, "the WAL-reset bug"), so there is one that writes, and its process holds the lock beside the file.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from neuralbox_async._core.errors import LedgerError
from neuralbox_async._edge.lock import Lock, check_file_system

_APPLICATION_ID: Final = 0x4E424C47  # "NBLG"
_BUSY_SECONDS: Final = 10.0
# Its own words may quote a damaged schema, which Python then cannot decode.
_SQLITE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)


# The nth makes version n of an older file; what has been released is never changed.
Migrations = Sequence[Callable[[Callable[[str], object]], None]]


class Database:
    """An open file, or one in memory. What is executed belongs into a `transaction`."""

    def __init__(self, path: Path | None, connection: sqlite3.Connection, lock: Lock | None) -> None:
        self.path = path
        self.connection = connection
        self._lock = lock
        self._process = os.getpid()

    @property
    def name(self) -> str:
        """What messages call it."""
        return "in memory" if self.path is None else str(self.path)

    def execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        return self.connection.execute(statement, values)

    def check_process(self) -> None:
        """Raise LedgerError in a process that was forked off after the ledger was opened."""
        if os.getpid() != self._process:
            raise LedgerError(
                f"The ledger {self.name} was opened by process {self._process} and cannot be used in its fork "
                f"{os.getpid()}; open it anew there."
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all that the block writes durable together, or nothing of it. Raises LedgerError as the disk refuses."""
        self.check_process()
        try:
            self.connection.execute("BEGIN" if self._lock is None else "BEGIN IMMEDIATE")
            yield
            self.connection.execute("COMMIT")
        except _SQLITE_ERRORS as error:
            self._roll_back()
            failure = _explained(self.name, error)
        except BaseException:
            self._roll_back()
            raise
        else:
            return
        raise failure

    def _roll_back(self) -> None:
        if self.connection.in_transaction:  # SQLite rolls back by itself after some errors
            with suppress(sqlite3.Error):  # a failing disk: what is not committed is not there for the next reader
                self.connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file, after moving what the WAL holds into it, and let others own it."""
        if os.getpid() != self._process:
            return  # what a fork closes would take the parent's locks away
        with suppress(sqlite3.Error):  # what is committed is safe in the WAL too
            self.connection.close()
        if self._lock is not None:
            self._lock.release()


# --- opening ---------------------------------------------------------------------------------------------------------


def open_in_memory(migrations: Migrations) -> Database:
    """Open a ledger that lasts as long as this process."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    file = Database(None, connection, None)
    _migrate(file, migrations)
    return file


def open_to_write(path: Path, migrations: Migrations) -> Database:
    """Open a file as its only owner, or make it. Raises LedgerError if it is in use, foreign, damaged or too new."""
    try:
        path = path.resolve()
        check_file_system(path)
        lock = Lock(path)
        try:
            _make_private(path)
            return _opened(path, lock, migrations)
        except BaseException:
            lock.release()
            raise
    except OSError as error:
        reason = error.strerror or str(error)
    raise LedgerError(f"The ledger {path} cannot be written: {reason}. Name a file in a folder that you may write to.")


def open_to_read(path: Path, migrations: Migrations) -> Database:
    """Open a ledger that may be in use. Raises LedgerError if there is none, or it is foreign, damaged or too new."""
    path = path.resolve()
    _check_may_be_file(path)
    if not path.exists():
        raise LedgerError(f"There is no ledger {path}; check the name.")
    return _opened(path, None, migrations)


def _check_may_be_file(path: Path) -> None:
    if path.is_dir():
        raise LedgerError(f"{path} is a folder, so it cannot be a ledger; name a file in it, such as run.db.")
    if path.exists() and not path.is_file():
        raise LedgerError(f"{path} is no file, so it cannot be a ledger; name another one.")


def _make_private(path: Path) -> None:
    # Never opened where it exists: closing would drop the locks that SQLite has on it in this process.
    _check_may_be_file(path)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    if not path.stat().st_size:
        path.chmod(0o600)  # SQLite makes the files beside it like the file itself


def _opened(path: Path, lock: Lock | None, migrations: Migrations) -> Database:
    if path.stat().st_size == 1:  # which SQLite takes for an empty file, and writes over (os_unix.c, ticket 3260)
        raise LedgerError(f"{path} holds a single byte, so it is no ledger; name another file.")
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(
            f"{path.as_uri()}?mode={'ro' if lock is None else 'rw'}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=_BUSY_SECONDS,
        )
        file = Database(path, connection, lock)
        _check(file, oldest=0 if lock else len(migrations), newest=len(migrations))
        if lock is not None:
            _settle(connection, path)
            _migrate(file, migrations)
    except _SQLITE_ERRORS as error:
        failure = _explained(str(path), error)
    except BaseException:
        _close(connection)
        raise
    else:
        return file
    _close(connection)
    raise failure


def _close(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        connection.close()


def _check(file: Database, *, oldest: int, newest: int) -> None:
    """Raise LedgerError for what is no file of ours, or of a version that we cannot use; an empty file is version 0."""
    connection = file.connection
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != _APPLICATION_ID and (application or version or tables):
        raise LedgerError(f"{file.name} is a database of something else, not a ledger; name another file.")
    if version > newest:
        raise LedgerError(f"The ledger {file.name} was made by a newer version; upgrade neuralbox_async.")
    if version < oldest:
        raise LedgerError(f"The ledger {file.name} is empty, or was made by an older version; resume its run first.")


def _settle(connection: sqlite3.Connection, path: Path) -> None:
    """Check that a file is whole, and let a commit last whatever happens."""
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise LedgerError(f"The ledger {path} is damaged ({verdict}). {_RESTORE}")
    (journal,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if journal != "wal":
        raise LedgerError(f"The ledger {path} lies where SQLite's WAL does not work; put it on a disk of this machine.")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone leaves data in the disk's cache
    connection.execute("PRAGMA checkpoint_fullfsync = ON")


def _migrate(file: Database, migrations: Migrations) -> None:
    (version,) = file.execute("PRAGMA user_version").fetchone()
    for number, migrate in enumerate(migrations[version:], version + 1):
        with file.transaction():
            migrate(file.execute)
            file.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            file.execute(f"PRAGMA user_version = {number}")


_RESTORE: Final = "Restore a copy of it, or name another file: what that does not know of is sent and paid for again."
_ADVICE: Final[Mapping[int, str]] = {
    sqlite3.SQLITE_FULL: "Free space on that disk, then run the same command again: it goes on where it was.",
    sqlite3.SQLITE_IOERR: "Check that disk, then run the same command again: it goes on where it was.",
    sqlite3.SQLITE_NOTADB: f"It is no ledger, or damaged. {_RESTORE}",
    sqlite3.SQLITE_CORRUPT: f"It is damaged. {_RESTORE}",
    sqlite3.SQLITE_READONLY: "Make it and its folder writable.",
    sqlite3.SQLITE_CANTOPEN: "Make it and its folder readable and writable.",
    sqlite3.SQLITE_BUSY: "Another program holds it: end that one, then try again.",
}


def _explained(name: str, error: Exception) -> LedgerError:
    usual = sqlite3.SQLITE_CORRUPT if isinstance(error, UnicodeDecodeError) else 0
    code = getattr(error, "sqlite_errorcode", usual) & 0xFF  # the low byte is the kind, the rest says where
    advice = _ADVICE.get(code, "Check the file and its disk.")
    return LedgerError(f"The ledger {name} cannot be used: {error}. {advice}")

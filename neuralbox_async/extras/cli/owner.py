"""Who owns a ledger is told without touching its lock: to try it could refuse a run that begins at that moment.

The owner's process id stands in the file beside the ledger. Linux lists who holds which lock; elsewhere on POSIX a
process of that id counts as the owner; on Windows nobody can tell.
"""

import os
import sys
from pathlib import Path
from typing import Final

from attrs import frozen

_LOCKS: Final = Path("/proc/locks")


@frozen(kw_only=True)
class Owner:
    """Whether a process owns a ledger now (None: that cannot be told), and its process id."""

    is_there: bool | None
    pid: int | None = None

    def __str__(self) -> str:
        if self.is_there is None:
            return "whether it runs cannot be told here"
        return f"running, process {self.pid}" if self.is_there else "not running"


def owner_of(ledger: str) -> Owner:
    """Look who owns a ledger."""
    beside = Path(f"{Path(ledger).resolve()}.lock")
    try:
        written = beside.read_text(encoding="ascii", errors="replace").strip()
        inode = beside.stat().st_ino
    except FileNotFoundError:
        return Owner(is_there=False)
    except OSError:
        return Owner(is_there=None)
    pid = int(written) if written.isdecimal() else None
    there = _is_there(pid, inode)
    return Owner(is_there=there, pid=pid if there else None)


def _is_there(pid: int | None, inode: int) -> bool | None:
    if sys.platform == "win32" or pid is None:
        return None if pid else False
    try:
        return is_locked(inode, _LOCKS.read_text(encoding="ascii"))
    except OSError:
        return _lives(pid)


def is_locked(inode: int, locks: str) -> bool:
    """Say whether somebody holds the lock of a file, by the text of /proc/locks."""
    return any(
        fields[1] == "FLOCK" and fields[5].endswith(f":{inode}") for fields in map(str.split, locks.splitlines())
    )


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

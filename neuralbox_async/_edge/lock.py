"""One process at a time owns a file: it holds the lock of another file beside it, until it ends, however it ends.

A lock on the file itself would not do: on POSIX, closing any handle of a file drops the locks that SQLite has on it.
"""

import os
import re
import sys
from pathlib import Path
from typing import Final

from neuralbox_async._core.errors import LedgerError

# Their locks cannot be trusted, and SQLite's WAL needs memory that all its users share (sqlite.org/wal.html, 2.1).
_NETWORK: Final = re.compile(
    r"nfs\d?|cifs|smb\w*|ncpfs|9p|afs|ceph|lustre|beegfs|gpfs|ocfs2|gfs2|davfs\d?|vboxsf|prl_fs"
    r"|fuse\.(sshfs|rclone|s3fs|s3ql|goofys|mount-s3|gcsfuse|blobfuse2?|glusterfs|ceph\S*|davfs2?|curlftpfs|vmhgfs\S*|smbnetfs)"
)
_MOUNTS: Final = Path("/proc/mounts")

if sys.platform == "win32":
    import msvcrt

    def try_to_lock(handle: int) -> None:
        """Lock an open file until it is closed; raise OSError if somebody else has it locked."""
        # The last place that this lock can be at: Windows lets nobody read a byte that is locked.
        os.lseek(handle, 0x7FFFFFFE, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def try_to_lock(handle: int) -> None:
        """Lock an open file until it is closed; raise OSError if somebody else has it locked."""
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Lock:
    """The owner's right to write a file, from the moment this is made until `release`.

    Raises LedgerError if another owner has it, in this process or another one.
    """

    def __init__(self, path: Path) -> None:
        beside = path.with_name(f"{path.name}.lock")
        # Never deleted: whoever deletes a lock file may delete the one that somebody else has just locked.
        self._file = os.fdopen(os.open(beside, os.O_RDWR | os.O_CREAT, 0o600), "r+")
        try:
            try_to_lock(self._file.fileno())
        except OSError:
            owner = self._file.read(20).strip()
            self._file.close()
            who = f"another process (pid {owner})" if owner.isdigit() and owner != str(os.getpid()) else "this process"
            raise LedgerError(
                f"The ledger {path} is in use by {who}; wait until that run has ended, or stop it."
            ) from None
        self._file.seek(0)
        self._file.truncate()
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        """Let others have it."""
        self._file.close()


def check_file_system(path: Path) -> None:
    """Raise LedgerError if the path lies on a file system of the network, where that can be told (Linux)."""
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return
    kind = network_file_system(path, mounts)
    if kind is not None:
        raise LedgerError(
            f"The ledger {path} lies on a file system of the network ({kind}), where locks cannot be trusted; "
            "put it on a disk of this machine."
        )


def network_file_system(path: Path, mounts: str) -> str | None:
    """Name the network file system that an absolute path lies on, by the text of /proc/mounts; None if on no such."""
    above = {str(folder): len(folder.parts) for folder in path.parents} | {str(path): len(path.parts)}
    longest, found = 0, ""
    for line in mounts.splitlines():
        _, place, kind, *_ = [*line.split(" "), "", "", ""]
        parts = above.get(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), place), -1)
        if parts >= longest:  # of mounts at one place, the last counts
            longest, found = parts, kind
    return found if _NETWORK.fullmatch(found) else None

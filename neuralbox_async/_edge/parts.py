"""A part file belongs to one writer at a time, survives an interruption, and becomes the file only when it is whole.

It lies in the folder of the file, under a name that the next try finds again, with a note beside it of what it is a
part of. Nothing is written through a link, and without a note that allows to go on nothing is left behind. All of this
blocks: run it where that harms nobody.
"""

import hashlib
import json
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from neuralbox_async._core.names import SNIFFED_BYTES, extension
from neuralbox_async._core.ranges import Digest
from neuralbox_async._edge.lock import try_to_lock

# Flags that only some systems have. A pipe in the way must not make the opening wait.
_SAFELY: Final[int] = sum(
    getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT")
)
_RIGHTS: Final = 0o666  # less the umask, as any file
_BLOCK: Final = 1_000_000

_RENAMES_OPEN_FILES: Final = sys.platform != "win32"


class Part:
    """A file in the making.

    Attributes:
        size: How many of its bytes are here.
        validator: What tells whether the rest still belongs to them; None if nothing does.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        """Take up the part that lies there; begin one if there is none, or another one if somebody is at work on it."""
        # asyncio's task.cancel() does not wait for a thread: what comes next waits for it here.
        self._turn = threading.Lock()
        self._path = folder / f".{stem}.part"
        handle = _owned(self._path)
        if handle is None:
            self._path = folder / f".{stem}-{os.urandom(4).hex()}.part"
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFELY, _RIGHTS)
        self._handle = handle
        self._note = self._path.with_suffix(".json")
        self.validator = _noted(self._note)
        # The last byte is asked for again: a range of nothing is an error to servers, even if the file is whole.
        self.size = max(0, os.fstat(handle).st_size - 1) if self.validator is not None else 0

    def restart(self, validator: str | None) -> None:
        """Begin with nothing; if there is a validator, note it, so that an interruption loses nothing."""
        with self._turn:
            self._note.unlink(missing_ok=True)
            os.ftruncate(self._handle, 0)
            self.size, self.validator = 0, validator
            if validator is not None:
                handle = os.open(self._note, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFELY, _RIGHTS)
                with os.fdopen(handle, "w", encoding="utf-8") as note:
                    json.dump({"validator": validator}, note)

    def write(self, pieces: Iterable[bytes]) -> None:
        """Add bytes."""
        with self._turn:
            os.lseek(self._handle, self.size, os.SEEK_SET)
            for piece in pieces:
                left = memoryview(piece)
                while left:
                    left = left[os.write(self._handle, left) :]
                self.size += len(piece)

    def finish(self, name: Callable[[str], Path], digest: Digest | None) -> Path:
        """Give the file its name, which may depend on its extension, once every byte of it is on the disk.

        Raises APIConnectionError if its bytes do not have the digest that they should.
        """
        with self._turn:
            return self._finish(name, digest)

    def _finish(self, name: Callable[[str], Path], digest: Digest | None) -> Path:
        os.ftruncate(self._handle, self.size)
        if digest is not None:
            noted, self.validator = self.validator, None  # what is damaged is not kept
            digest.check(self._hashed(digest))
            self.validator = noted
        os.lseek(self._handle, 0, os.SEEK_SET)
        path = name(extension(os.read(self._handle, SNIFFED_BYTES)))
        os.fsync(self._handle)
        if not _RENAMES_OPEN_FILES:
            self._close()
        self._path.replace(path)
        self._note.unlink(missing_ok=True)
        self._close()  # and only now another writer may take the name up
        _sync_folder(path.parent)
        return path

    def leave(self) -> None:
        """Keep the part if a later try can go on with it; else remove it."""
        with self._turn:
            if self._handle < 0:
                return
            keep = self.validator is not None and self.size > 0
            if not keep and _RENAMES_OPEN_FILES:
                self._remove()
            self._close()
            if not keep and not _RENAMES_OPEN_FILES:
                self._remove()

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._close()

    def _remove(self) -> None:
        with suppress(OSError):
            self._note.unlink(missing_ok=True)
            self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def _hashed(self, digest: Digest) -> "hashlib._Hash":
        hashed = digest.new()
        os.lseek(self._handle, 0, os.SEEK_SET)
        while block := os.read(self._handle, _BLOCK):
            hashed.update(block)
        return hashed


def _owned(path: Path) -> int | None:
    """Open a part under its stable name and lock it; None if it is not ours alone: in use, a link, foreign, no file."""
    for _ in range(3):
        if path.is_symlink():
            return None
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | _SAFELY, _RIGHTS)
        except OSError:
            return None
        try:
            try_to_lock(handle)
            ours = _is_plain(os.fstat(handle))
            there = os.path.samestat(os.fstat(handle), path.stat(follow_symlinks=False))
        except FileNotFoundError:
            ours, there = True, False
        except OSError:
            ours = there = False
        if ours and there:
            return handle
        os.close(handle)
        if not ours:
            return None
        # Its writer finished between our opening and our lock: what we hold has another name now. Once more.
    return None


def _is_plain(found: os.stat_result) -> bool:
    """Whether this is a file with one name, of our own user: what is written to it appears nowhere else."""
    own: Any = getattr(os, "geteuid", lambda: found.st_uid)
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and found.st_uid == own()


def _noted(note: Path) -> str | None:
    try:
        if note.is_symlink():
            return None
        handle = os.open(note, os.O_RDONLY | _SAFELY)
        with os.fdopen(handle, encoding="utf-8") as file:
            found = json.loads(file.read(1_000))
    except (OSError, ValueError, RecursionError):
        return None
    validator = found.get("validator") if isinstance(found, dict) else None
    return validator if isinstance(validator, str) and validator else None


def _sync_folder(folder: Path) -> None:
    """Put the new name on the disk too; Windows opens no folders, and some file systems sync none."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

"""Results on the disk: a result appears under its name only when it is whole.

Bytes go to a part file in the same folder, the length is checked, then it is renamed. Names come from your key or the
generation's id and from the bytes themselves, never from the server.
"""

import hashlib
import os
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from neuralbox_async._core.errors import APIConnectionError, ResponseError, UsageError
from neuralbox_async._core.models import Generation
from neuralbox_async._edge.fetch import fetch
from neuralbox_async._edge.http import Http

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
# Windows opens a device, not a file, under these names, whatever their extension.
_DEVICES: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_LONGEST_NAME: Final = 100
# Offset, the bytes there, the extension. Sources: the formats' own specifications.
_MAGIC: Final = (
    (0, b"\x89PNG\r\n\x1a\n", ".png"),
    (0, b"\xff\xd8\xff", ".jpg"),
    (0, b"GIF8", ".gif"),
    (8, b"WEBP", ".webp"),
    (8, b"WAVE", ".wav"),
    (4, b"ftyp", ".mp4"),
    (0, b"\x1aE\xdf\xa3", ".webm"),
    (0, b"ID3", ".mp3"),
    (0, b"\xff\xfb", ".mp3"),
    (0, b"\xff\xf3", ".mp3"),
    (0, b"\xff\xf2", ".mp3"),
    (0, b"OggS", ".ogg"),
    (0, b"fLaC", ".flac"),
)


def extension(first: bytes) -> str:
    """Tell a file's extension from its first bytes; ".bin" if they say nothing."""
    return next((name for at, magic, name in _MAGIC if first[at : at + len(magic)] == magic), ".bin")


def safe_name(name: str) -> str:
    """Make a file name of a key or an id; a name that had to be changed carries a digest, so that two never meet."""
    cleaned = _UNSAFE.sub("_", name)[:_LONGEST_NAME].strip(".")
    is_device = _DEVICES.fullmatch(cleaned) is not None
    if cleaned == name and not is_device:
        return name
    if is_device:
        cleaned = cleaned.replace(".", "_")
    return f"{cleaned}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}".lstrip("-")


def checked_folder(to: str | os.PathLike[str]) -> Path:
    """Make a folder for results, or raise UsageError before anything is paid for."""
    folder = Path(to)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK | os.X_OK) else "it cannot be written to"
    except OSError as error:
        reason = str(error)
    if reason:
        raise UsageError(f"Results cannot be saved in {os.fspath(to)!r}: {reason}. Name another folder.")
    return folder


@frozen(kw_only=True)
class _Place:
    """Where a result goes: a folder, and a file name there if the caller gave one."""

    folder: Path
    stem: str
    name: str | None

    def path(self, suffix: str) -> Path:
        return self.folder / (self.name or self.stem + suffix)


def _place(to: str | os.PathLike[str], stem: str) -> _Place:
    path = Path(to)
    is_folder = path.is_dir() or os.fspath(to).endswith(("/", os.sep))
    folder = path if is_folder else path.parent
    folder.mkdir(parents=True, exist_ok=True)
    if not is_folder and path.exists() and not path.is_file():
        raise UsageError(f"{os.fspath(to)!r} is neither a file nor a folder; name another place for the result.")
    return _Place(folder=folder, stem=safe_name(stem), name=None if is_folder else path.name)


async def save(
    http: Http, generation: Generation, to: str | os.PathLike[str], *, key: str | None, deadline: float
) -> Path:
    """Save the result of a completed generation and return the path of the file.

    Raises ResponseError if the generation has no result; OSError as the disk raises it; else what `fetch` raises.
    """
    place = _place(to, key or str(generation.id))
    if generation.url is not None:

        async def keep(headers: Mapping[str, str], chunks: AsyncIterator[bytes]) -> Path:
            return await _write(place, headers, chunks)

        return await fetch(http, generation.url, keep, generation_id=generation.id, deadline=deadline)
    if generation.text is not None:
        with _Part(place) as part:
            part.write(generation.text.encode("utf-8", "replace"))
            return part.finish(".txt")
    raise ResponseError(
        f"Generation {generation.id} is completed and has neither text nor a URL; see generation.raw.",
        billed="yes",
        generation_id=generation.id,
    )


async def _write(place: _Place, headers: Mapping[str, str], chunks: AsyncIterator[bytes]) -> Path:
    with _Part(place) as part:
        async for chunk in chunks:
            part.write(chunk)
        promised = headers.get("content-length", "")
        if promised.isdigit() and "content-encoding" not in headers and part.size != int(promised):
            raise APIConnectionError(f"the file was cut: {part.size} of {promised} bytes came", retryable=True)
        return part.finish(extension(part.first))


class _Part:
    """A file in the making; it vanishes unless it is finished."""

    def __init__(self, place: _Place) -> None:
        self._place = place
        self.size = 0
        self.first = b""

    def __enter__(self) -> "_Part":
        self._path = self._place.folder / f".{self._place.stem}-{secrets.token_hex(4)}.part"
        self._file = self._path.open("xb")
        return self

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.size += len(data)
        if len(self.first) < 16:
            self.first = (self.first + data)[:16]

    def finish(self, suffix: str) -> Path:
        self._file.close()
        path = self._place.path(suffix)
        self._path.replace(path)
        return path

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

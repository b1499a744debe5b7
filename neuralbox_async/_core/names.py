"""Files are named after your key or the generation's id and after what their bytes are, never by the server.

No two names meet in one file, also where a disk takes upper and lower case for the same: whatever is not plain lower
case, might be an id of another generation, or had to be changed, carries a digest.
"""

import hashlib
import re
from typing import Final

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
# Windows opens a device, not a file, under these names, whatever their extension.
_DEVICES: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
# What ids look like in both families of replies.
_AN_ID: Final = re.compile(r"-?\d+|gen_.*", re.DOTALL)
_WITH_DIGEST: Final = re.compile(r".*-[0-9a-f]{8}", re.DOTALL)
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
SNIFFED_BYTES: Final = 16


def extension(first: bytes) -> str:
    """Tell a file's extension from its first bytes; ".bin" if they say nothing."""
    return next((name for at, magic, name in _MAGIC if first[at : at + len(magic)] == magic), ".bin")


def stem(key: str | None, generation_id: int | str) -> str:
    """Name the file of a generation: after its key, if it has one, else after its id."""
    if key is None:
        return safe_name(str(generation_id))
    return _with_digest(key) if _AN_ID.fullmatch(key) else safe_name(key)


def part_stem(*whose: object) -> str:
    """Name what is not finished: the same name for the same generation of the same service under the same key."""
    return hashlib.sha256(repr(whose).encode("utf-8", "surrogatepass")).hexdigest()[:24]


def safe_name(name: str) -> str:
    """Make a file name of a key or an id: itself if it is plain, else what is left of it and a digest."""
    plain = name == _cleaned(name) == name.lower() and not _DEVICES.fullmatch(name) and not _WITH_DIGEST.fullmatch(name)
    return name if plain else _with_digest(name)


def _cleaned(name: str) -> str:
    return _UNSAFE.sub("_", name)[:_LONGEST_NAME].strip(".")


def _with_digest(name: str) -> str:
    cleaned = _cleaned(name)
    if _DEVICES.fullmatch(cleaned):
        cleaned = cleaned.replace(".", "_")
    return f"{cleaned}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}".lstrip("-")

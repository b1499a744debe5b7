"""A form with a file is a head, the file's bytes as they are, and a tail: only the framing is made here (RFC 7578)."""

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Final

from attrs import frozen

# Source: the formats that the service documents for speech to text. Any other is sent as bytes without a type.
_TYPES: Final[Mapping[str, str]] = {
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".wav": "audio/wav",
    ".m4a": "audio/mp4",
    ".ogg": "audio/ogg",
    ".flac": "audio/flac",
    ".webm": "video/webm",
}
# What browsers do with names that would end the header (WHATWG HTML, multipart form data).
_ESCAPED: Final[Mapping[str, str]] = {'"': "%22", "\r": "%0D", "\n": "%0A"}


@frozen(kw_only=True, eq=False, repr=False)
class Form:
    """The framing of one form: what comes before the file's bytes, what comes after, and the Content-Type of it all."""

    content_type: str
    head: bytes
    tail: bytes


def form(fields: Mapping[str, str], *, file_field: str, file_name: str, boundary: str) -> Form:
    """Frame a file, after these fields. The boundary must not occur in any of it: take a random one."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{_escaped(name)}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    media_type = _TYPES.get(PurePath(file_name).suffix.lower(), "application/octet-stream")
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{_escaped(file_field)}"; '
        f'filename="{_escaped(file_name)}"\r\nContent-Type: {media_type}\r\n\r\n'
    )
    return Form(
        content_type=f"multipart/form-data; boundary={boundary}",
        head="".join(parts).encode("utf-8", "replace"),
        tail=f"\r\n--{boundary}--\r\n".encode(),
    )


def _escaped(text: str) -> str:
    return re.sub(r'["\r\n]', lambda found: _ESCAPED[found[0]], text)

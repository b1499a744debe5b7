"""What the headers of a file's answer say: where it begins, how long it is, how to know it again, what it hashes to.

Read as RFC 9110 (ranges, validators) and RFC 9530 (digests) define them; what is malformed says nothing. Without a
validator that compares strongly a download is never resumed: the same length does not make the same file.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from typing import Final

from attrs import frozen

from neuralbox_async._core.api import http_date
from neuralbox_async._core.errors import APIConnectionError

_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_STRONG_ETAG: Final = re.compile(r'"[\x21\x23-\x7e]{1,200}"')
# Older than this when it was sent, a Last-Modified date compares strongly (RFC 9110, 8.8.2.2, asks for a second).
_SETTLED_SECONDS: Final = 60
_BYTES_OF: Final = {"sha-512": 64, "sha-256": 32, "md5": 16}


@frozen(kw_only=True)
class Digest:
    """What a whole file must hash to; `algorithm` as hashlib names it."""

    algorithm: str
    value: bytes

    def new(self) -> "hashlib._Hash":
        """Begin to hash."""
        return hashlib.new(self.algorithm, usedforsecurity=False)

    def check(self, hashed: "hashlib._Hash") -> None:
        """Raise APIConnectionError if the bytes that were hashed are not those of the file."""
        if hashed.digest() != self.value:
            raise APIConnectionError(
                f"the file was damaged on its way: its {self.algorithm} is not the one that the server gave; "
                "download it again."
            )


@frozen(kw_only=True)
class FileFacts:
    """What an answer with a file, or the rest of one, says of it.

    Attributes:
        start: The place in the file where the body begins.
        total: The bytes of the whole file; None if nobody knows.
        validator: What `If-Range` may carry to get the rest of this very file; None if there is no such thing.
        digest: What the whole file must hash to; None if it is not said.
    """

    start: int
    total: int | None
    validator: str | None
    digest: Digest | None


def file_facts(status: int, headers: Mapping[str, str]) -> FileFacts | None:
    """Read the headers of a 200 or a 206; None if a 206 does not say which part of the file it is."""
    length = headers.get("content-length", "")
    start, total = 0, int(length) if _LENGTH.fullmatch(length) else None
    if status == 206:
        found = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
        if found is None:
            return None
        start, total = int(found[1]), None if found[3] == "*" else int(found[3])
        if total is None or int(found[2]) >= total:
            return None
    return FileFacts(start=start, total=total, validator=_validator(headers), digest=_digest(status, headers))


def confirms(asked: str | None, headers: Mapping[str, str]) -> bool:
    """Say whether a part is of the file that was asked for, by what `If-Range` carried and the part's own headers.

    A server that does not know `If-Range` sends a part of whatever lies there by now. An ETag comes with every part, a
    date may be left out (RFC 9110, 15.3.7); one that compares weakly is another file's all the same.
    """
    etag, modified = headers.get("etag"), headers.get("last-modified")
    if asked is None or _STRONG_ETAG.fullmatch(asked):
        return asked is not None and etag == asked
    return etag is None and modified in (None, asked)


def _validator(headers: Mapping[str, str]) -> str | None:
    etag = headers.get("etag", "")
    if headers.get("accept-ranges", "").lower() == "none":
        return None
    if _STRONG_ETAG.fullmatch(etag):
        return etag
    modified = headers.get("last-modified", "")
    then, now = http_date(modified), http_date(headers.get("date", ""))
    settled = not etag and then is not None and now is not None and now - then >= _SETTLED_SECONDS
    return modified if settled and modified.isascii() and modified.isprintable() else None


def _digest(status: int, headers: Mapping[str, str]) -> Digest | None:
    """Take the strongest digest of the whole file; those of a body alone count where the body is the whole file."""
    said = f"{headers.get('repr-digest', '')},{headers.get('digest', '')}"
    if status == 200:
        said += f",{headers.get('content-digest', '')},md5={headers.get('content-md5', '')}"
    pairs = (each.strip().partition("=") for each in said.split(","))
    values = {name.lower(): _decoded(value) for name, _, value in pairs}
    for name, size in _BYTES_OF.items():
        value = values.get(name)
        if value is not None and len(value) == size:
            return Digest(algorithm=name.replace("-", ""), value=value)
    return None


def _decoded(value: str) -> bytes | None:
    try:
        return base64.b64decode(value.strip(":"), validate=True)
    except (binascii.Error, ValueError):
        return None

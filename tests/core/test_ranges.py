"""What the headers of a file say, as tables; what is malformed says nothing."""

from base64 import b64encode
from hashlib import md5, sha256, sha512

import pytest

from neuralbox_async import APIConnectionError
from neuralbox_async._core.ranges import Digest, FileFacts, confirms, file_facts

DATE = "Tue, 10 Mar 2026 12:00:00 GMT"
OLDER = "Tue, 10 Mar 2026 11:58:00 GMT"
NOW = "Tue, 10 Mar 2026 11:59:30 GMT"
BODY = b"Hello"
SHA256, SHA512 = b64encode(sha256(BODY).digest()).decode(), b64encode(sha512(BODY).digest()).decode()
MD5 = b64encode(md5(BODY, usedforsecurity=False).digest()).decode()


def facts(headers: dict[str, str], status: int = 200) -> FileFacts:
    """Read headers, written with underscores."""
    found = file_facts(status, {name.replace("_", "-"): value for name, value in headers.items()})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("length", "total"), [("5", 5), ("0", 0), ("", None), ("-5", None), ("5.0", None), ("²", None), ("9" * 5000, None)]
)
def test_a_length_is_a_plain_number(length: str, total: int | None) -> None:
    """Anything else is no length."""
    assert facts({"content_length": length}) == FileFacts(start=0, total=total, validator=None, digest=None)


@pytest.mark.parametrize(
    ("content_range", "start", "total"),
    [("bytes 5-9/10", 5, 10), ("bytes 5-7/10", 5, 10), ("bytes 0-9/10", 0, 10)],
)
def test_a_part_says_where_it_begins(content_range: str, start: int, total: int) -> None:
    """The length of a part's body is not the length of the file."""
    found = facts({"content_range": content_range, "content_length": "3"}, 206)
    assert (found.start, found.total) == (start, total)


@pytest.mark.parametrize(
    "content_range",
    ["", "bytes */10", "bytes 5-9/*", "bytes 5-9", "bytes 5-10/10", "items 5-9/10", "bytes=5-9/10", "bytes 5-9/10, x"],
)
def test_a_part_that_does_not_say_where_it_begins_is_none(content_range: str) -> None:
    """Nobody can tell what such bytes are."""
    assert file_facts(206, {"content-range": content_range}) is None


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        ({"etag": '"v1"'}, '"v1"'),
        ({"etag": '"v1"', "last_modified": OLDER, "date": DATE}, '"v1"'),
        ({"etag": 'W/"v1"'}, None),
        ({"etag": 'W/"v1"', "last_modified": OLDER, "date": DATE}, None),
        ({"etag": "v1"}, None),
        ({"etag": '""'}, None),
        ({"etag": '"a" "b"'}, None),
        ({"etag": '"v\n1"'}, None),
        ({"etag": '"' + "v" * 300 + '"'}, None),
        ({"etag": '"v1"', "accept_ranges": "none"}, None),
        ({"last_modified": OLDER, "date": DATE}, OLDER),
        ({"last_modified": NOW, "date": DATE}, None),
        ({"last_modified": OLDER}, None),
        ({"last_modified": "yesterday", "date": DATE}, None),
        ({}, None),
    ],
)
def test_only_what_compares_strongly_is_a_validator(headers: dict[str, str], validator: str | None) -> None:
    """A weak or young validator may be that of another file with the same meaning, or of the same second."""
    assert facts(headers).validator == validator


@pytest.mark.parametrize(
    ("asked", "headers", "fits"),
    [
        ('"v1"', {"etag": '"v1"'}, True),
        ('"v1"', {"etag": '"v1"', "last-modified": NOW}, True),
        ('"v1"', {"etag": '"v2"'}, False),
        ('"v1"', {"etag": 'W/"v1"'}, False),
        ('"v1"', {}, False),
        (OLDER, {"last-modified": OLDER, "date": DATE}, True),
        (OLDER, {}, True),
        (OLDER, {"last-modified": DATE}, False),
        (OLDER, {"last-modified": NOW, "date": DATE}, False),  # too young to be a validator, and another all the same
        (OLDER, {"last-modified": OLDER, "etag": 'W/"v2"'}, False),
        (None, {}, False),
    ],
)
def test_a_part_is_of_the_file_that_was_asked_for(asked: str | None, headers: dict[str, str], fits: bool) -> None:  # noqa: FBT001 - a table's column
    """What a part says of its file is what was asked for; only a date may be left out."""
    assert confirms(asked, headers) is fits


@pytest.mark.parametrize(
    ("headers", "algorithm"),
    [
        ({"repr_digest": f"sha-256=:{SHA256}:"}, "sha256"),
        ({"repr_digest": f"sha-256=:{SHA256}:, sha-512=:{SHA512}:"}, "sha512"),
        ({"digest": f"SHA-256={SHA256}"}, "sha256"),
        ({"content_digest": f"sha-256=:{SHA256}:"}, "sha256"),
        ({"content_md5": MD5}, "md5"),
        ({"content_md5": MD5, "repr_digest": f"sha-256=:{SHA256}:"}, "sha256"),
        ({"repr_digest": "sha-256=:AAAA:"}, None),
        ({"repr_digest": "sha-256=:not base64:"}, None),
        ({"digest": "crc32c=AAAAAA=="}, None),
        ({"content_md5": SHA256}, None),
        ({"repr_digest": ",,=,sha-256"}, None),
        ({}, None),
    ],
)
def test_the_strongest_digest_counts(headers: dict[str, str], algorithm: str | None) -> None:
    """Algorithms that nobody knows, and values that cannot be theirs, say nothing."""
    found = facts(headers).digest
    assert (found and found.algorithm) == algorithm


def test_a_digest_of_a_part_is_not_one_of_the_file() -> None:
    """Content-MD5 and Content-Digest are about the body; Repr-Digest is about the whole."""
    part = {"content_range": "bytes 2-4/5", "content_md5": MD5, "content_digest": f"sha-256=:{SHA256}:"}
    assert facts(part, 206).digest is None
    assert facts({**part, "repr_digest": f"sha-256=:{SHA256}:"}, 206).digest is not None


def test_a_digest_is_checked() -> None:
    """The right bytes pass, others are an error that says so."""
    digest = facts({"repr_digest": f"sha-256=:{SHA256}:"}).digest
    assert isinstance(digest, Digest)
    right, wrong = digest.new(), digest.new()
    right.update(BODY)
    digest.check(right)
    with pytest.raises(APIConnectionError, match="damaged"):
        digest.check(wrong)

"""What an answer that says no comes to: its class, its words, its seconds."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from neuralbox_async import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    InsufficientTokensError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    UnprocessableEntityError,
)
from neuralbox_async._core import api
from neuralbox_async._core.api import Answer, http_date

SAMPLES = Path(__file__).parent.parent / "samples"
NOON = "Sun, 08 Mar 2026 12:00:00 GMT"
FIVE_PAST = "Sun, 08 Mar 2026 12:05:00 GMT"


def refusal(status: int, body: bytes = b"", **headers: str) -> APIStatusError:
    """Return the error that an answer to a look at generation 7 comes to."""
    call = api.generation(7)
    answer = Answer(status=status, headers={name.replace("_", "-"): text for name, text in headers.items()}, body=body)
    with pytest.raises(APIStatusError) as caught:
        api.read(call, answer)
    return caught.value


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (402, InsufficientTokensError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (422, UnprocessableEntityError),
        (429, RateLimitError),
        (500, InternalServerError),
        (502, InternalServerError),
        (503, InternalServerError),
        (599, InternalServerError),
        (100, APIStatusError),
        (302, APIStatusError),
        (409, APIStatusError),
        (418, APIStatusError),
    ],
)
def test_each_status_has_its_class(status: int, kind: type[APIStatusError]) -> None:
    """Errors are told apart by class, and carry the status and the id they are about."""
    error = refusal(status)
    assert type(error) is kind
    assert (error.status_code, error.generation_id, error.billed) == (status, 7, "no")


def test_the_service_s_own_words_are_kept() -> None:
    """Code, message and whole body of the documented envelope can be read from the error."""
    error = refusal(404, (SAMPLES / "error_envelope.json").read_bytes())
    assert error.code == "error_code"
    assert error.body == {"error": "error_code", "message": "Human-readable description", "details": {}}
    assert "error_code: Human-readable description" in str(error)
    assert str(error).startswith("get 7: HTTP 404: ")


def test_a_404_may_be_about_the_address() -> None:
    """A base_url without its path answers 404 to everything, also to what has neither id nor slug."""
    assert "that base_url points to the API" in str(refusal(404))


def test_the_documented_429_says_when_to_come_back() -> None:
    """The flat extras of a 429 are read: how long to wait, and which limit it was."""
    error = refusal(429, (SAMPLES / "error_429.json").read_bytes())
    assert (error.code, error.retry_after) == ("rate_limit_exceeded", 847)
    assert error.body is not None
    assert error.body["limit_hour"] == 100


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"message": "Only words"}', "Only words"),
        (b'{"error": "only_code"}', "only_code"),
        (b'{"error": {"nested": true}, "message": ["x"]}', 'it begins \'{"error": {'),
        (b"<html>\n<h1>Bad   gateway</h1>", "it begins '<html> <h1>Bad gateway</h1>'"),
        (b"\xff\xfe\x00\x1b[31m", "it begins"),
        (b"", "it is empty"),
        (b"[1, 2]", "it begins '[1, 2]'"),
    ],
)
def test_any_body_gives_one_printable_line(body: bytes, said: str) -> None:
    """HTML, control characters and missing words end up in one line that can be shown anywhere."""
    error = refusal(502, body)
    assert said in str(error)
    assert str(error).isprintable()


def test_a_message_stays_short() -> None:
    """A megabyte of words from a server does not become a megabyte of log."""
    assert len(str(refusal(400, json.dumps({"error": "x", "message": "y" * 1_000_000}).encode()))) <= 500


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_says_where_the_api_has_gone(status: int) -> None:
    """Redirects are not followed, so the message names the address to set."""
    assert "set base_url to https://elumenta.ru/api/v2/generate" in str(
        refusal(status, location="https://elumenta.ru/api/v2/generate")
    )


@pytest.mark.parametrize("status", [301, 307, 308])
def test_a_redirect_names_a_base_url_that_works(status: int) -> None:
    """The call's own path is not part of it, or the next call would go to …/generate/7/generate/7."""
    moved = str(refusal(status, location="https://elumenta.ru/api/v2/generate/7"))
    assert moved.endswith("set base_url to https://elumenta.ru/api/v2.")


@pytest.mark.parametrize(
    ("body", "headers", "seconds"),
    [
        ({"retry_after": 847}, {}, 847),
        ({"retry_after": 2.5}, {}, 2.5),
        ({"retry_after": "30"}, {}, 30),
        ({"retry_after": 0}, {}, 0),
        ({"retry_after": 5}, {"retry_after": "9"}, 5),
        ({"retry_after": None}, {"retry_after": "9"}, 9),
        ({"retry_after": -1}, {"retry_after": "9"}, 9),
        ({"retry_after": "soon"}, {"retry_after": "9"}, 9),
        ({"retry_after": True}, {"retry_after": "9"}, 9),
        ({"retry_after": [5]}, {}, None),
        ({}, {"retry_after": "120"}, 120),
        ({}, {"retry_after": " 1.5 "}, 1.5),
        ({}, {"retry_after": "-3"}, None),
        ({}, {"retry_after": "inf"}, None),
        ({}, {"retry_after": "nan"}, None),
        ({}, {"retry_after": "soon"}, None),
        ({}, {"retry_after": ""}, None),
        ({}, {"retry_after": FIVE_PAST, "date": NOON}, 300),
        ({}, {"retry_after": NOON, "date": FIVE_PAST}, 0),
        ({}, {"retry_after": FIVE_PAST}, None),
        ({}, {"retry_after": FIVE_PAST, "date": "today"}, None),
        ({}, {"retry_after": "Sun, 99 Mar 2026 12:05:00 GMT", "date": NOON}, None),
        ({}, {}, None),
    ],
)
def test_how_long_the_service_asks_to_wait(
    body: dict[str, Any], headers: dict[str, str], seconds: float | None
) -> None:
    """The body's number comes first, then the header's; a date counts from the answer's own date."""
    assert refusal(429, json.dumps(body).encode(), **headers).retry_after == seconds


@pytest.mark.parametrize(
    "text", ["Sun, 08 Mar 2026 12:00:00 GMT", "Sun Mar  8 12:00:00 2026", "Sun, 08 Mar 2026 12:00:00 -0000"]
)
def test_dates_are_utc_wherever_this_machine_stands(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A date without a zone is UTC (RFC 9110), in Tokyo too."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert http_date(text) == 1_772_971_200.0
    finally:
        monkeypatch.undo()
        time.tzset()

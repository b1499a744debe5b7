"""Server-sent events: whatever the network does to the bytes, the events are the same, or an error."""

from pathlib import Path

import pytest

from neuralbox_async._core.sse import (
    LONGEST_EVENT,
    Closed,
    Delta,
    Ended,
    Failed,
    Parser,
    Started,
    StreamEvent,
    Unreadable,
)

SAMPLES = Path(__file__).parent.parent / "samples"
A: list[StreamEvent] = [
    Started(reply={"id": 18473, "model": "gpt-5"}),
    Delta(text="Once"),
    Delta(text=" upon"),
    Ended(reply={"id": 18473, "tokens_spent": 3}),
    Closed(),
]
B: list[StreamEvent] = [
    Started(reply={"id": "gen_01j9x2abc123", "model": "gpt-5"}),
    Delta(text="Here"),
    Ended(reply={"id": "gen_01j9x2abc123", "tokens_used": 3, "balance_remaining": 297}),
    Closed(),
]


def parsed(*pieces: bytes) -> list[StreamEvent]:
    """Parse pieces as they come, and then the end."""
    parser = Parser()
    return [*(event for piece in pieces for event in parser.feed(piece)), *parser.end()]


def sample(family: str) -> bytes:
    """Return a documented stream."""
    return (SAMPLES / f"stream.{family}.txt").read_bytes()


@pytest.mark.parametrize(("family", "events"), [("a", A), ("b", B)])
def test_the_documented_streams_are_read(family: str, events: list[StreamEvent]) -> None:
    """Start, pieces, end and [DONE], in the words of both families."""
    assert parsed(sample(family)) == events


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([r"a\ud83d", r"\ude00b"], ["a", "\U0001f600b"]),
        ([r"\ud83d", "", r"\ude00"], ["", "", "\U0001f600"]),
        ([r"\ud83d", "b"], ["", "\ufffdb"]),
        ([r"\ude00", r"b\ud83d"], ["\ufffd", "b"]),
    ],
)
def test_a_character_whose_halves_come_apart_is_one(pieces: list[str], text: list[str]) -> None:
    """No piece has half a character, which no file and no screen could take."""
    events = [b'data: {"type": "content_delta", "delta": "%s"}\n\n' % piece.encode() for piece in pieces]
    assert parsed(*events) == [Delta(text=each) for each in text]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_stream_may_be_cut_anywhere(end: bytes, size: int) -> None:
    """Pieces of any size and each kind of line end give the same events."""
    whole = sample("a").replace(b"\n", end)
    assert parsed(*(whole[start : start + size] for start in range(0, len(whole), size))) == A


@pytest.mark.parametrize("at", range(len(sample("a"))))
def test_a_stream_that_breaks_off_gives_what_was_whole(at: int) -> None:
    """Cut after any byte, no event is made up and none that was whole is lost."""
    found = parsed(sample("a")[:at])
    assert found == A[: len(found)]
    assert len(found) >= sample("a")[:at].count(b"\n\n")


def test_letters_may_be_cut_in_their_middle() -> None:
    """A letter of several bytes comes out whole."""
    line = 'data: {"type": "content_delta", "delta": "Ёж ☕"}\n\n'.encode()
    assert parsed(*(bytes([each]) for each in line)) == [Delta(text="Ёж ☕")]


@pytest.mark.parametrize(
    "ignored",
    [
        b": a comment\n\n",
        b":\n",
        b"event: message\n",
        b"id: 5\nretry: 3000\n\n",
        b"\n\n\n",
        b'data: {"type": "ping"}\n\n',
        b'data: {"hello": 1}\n\n',
        b"\xef\xbb\xbf",
    ],
)
def test_what_has_no_meaning_is_ignored(ignored: bytes) -> None:
    """Comments, other fields, types of a later version and a byte order mark change nothing."""
    assert parsed(ignored + sample("a")) == A


def test_data_may_have_several_lines_and_no_space() -> None:
    """The lines of one event belong together; the space after the colon is optional."""
    assert parsed(b'data:{"type": "content_delta",\ndata: "delta": "x"}\n\n') == [Delta(text="x")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"type": "error", "message": "Provider error"}', "Provider error"),
        (b'{"type": "error"}', "the service gives no reason"),
        (b'{"error": "provider_error", "message": "Gone"}', "Gone"),
        (b'{"error": "provider_error"}', "provider_error"),
    ],
)
def test_an_error_event_has_the_service_s_words(line: bytes, reason: str) -> None:
    """The documented event, and the error envelope of every other endpoint."""
    (event,) = parsed(b"data: " + line + b"\n\n")
    assert isinstance(event, Failed)
    assert event.reason == reason


@pytest.mark.parametrize(
    "line",
    [
        b"<html>",
        b'{"type": "content_delta", "delta": "x"',
        b"[1]",
        b"5",
        b'{"type": "content_delta"}',
        b'{"type": "content_delta", "delta": {"content": "x"}}',
        b'{"type": "content_delta", "delta": null}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_an_event_that_cannot_be_read_is_an_error(line: bytes) -> None:
    """A piece of the text must not vanish unseen: what came before stands, what comes after does not."""
    *before, wrong = parsed(
        sample("a").partition(b'{"type": "content_delta", "delta": " upon"}')[0][:-6],
        b"data: " + line + b"\n\n" + sample("b"),
    )
    assert before == A[:2]
    assert isinstance(wrong, Unreadable)


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 1000, b"data: " + b"x" * 1000 + b"\n"], ids=["line", "lines"])
def test_an_event_without_end_is_an_error(piece: bytes) -> None:
    """The memory that a server can fill is bounded."""
    parser = Parser()
    for _ in range(LONGEST_EVENT // 1_200):
        assert parser.feed(piece) == []
    (wrong,) = parser.feed(piece * 1_000)
    assert isinstance(wrong, Unreadable)
    assert parser.feed(b"\n\n" + sample("a")) == []


def test_an_unknown_type_that_is_a_list_is_ignored() -> None:
    """A type that is no text is one that this version does not know."""
    assert parsed(b'data: {"type": ["x"]}\n\n') == []

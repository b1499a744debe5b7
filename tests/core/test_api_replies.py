"""What is received: both documented families, every oddity, and never a guess where money is at stake."""

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from neuralbox_async import Balance, Generation, ResponseError
from neuralbox_async._core import api
from neuralbox_async._core.api import Answer
from neuralbox_async._core.models import HistoryPage

SAMPLES = Path(__file__).parent.parent / "samples"
STORAGE = "https://storage.neuralbox.top"
VIDEO = {"duration": 5, "width": 1920, "height": 1080}


def at(text: str) -> datetime:
    """Return a moment of 8 March 2026, UTC."""
    return datetime.fromisoformat(f"2026-03-08T{text}+00:00")


def read(body: bytes, status: int = 200, *, of: int | str = 7) -> Generation:
    """Read a body as what a look at this generation shows."""
    return api.read(api.generation(of), Answer(status=status, headers={}, body=body))


def read_page(body: bytes) -> HistoryPage:
    """Read a body as a page of the history."""
    return api.read(api.history(page=1), Answer(status=200, headers={}, body=body))


def reply(**fields: Any) -> Generation:
    """Read a reply that has an id, a status and these fields."""
    told = {"id": 7, "status": "pending", **fields}
    return read(json.dumps(told).encode(), of=told["id"])


GENERATIONS: list[tuple[str, dict[str, Any]]] = [
    (
        "generate_text_completed.a",
        {
            "id": 18473,
            "status": "completed",
            "model": "gpt-5",
            "text": "Quantum computing uses qubits that can exist in multiple states simultaneously...",
            "tokens_spent": 3,
            "processing_ms": 1842,
        },
    ),
    (
        "generate_image_completed.a",
        {
            "id": 18491,
            "status": "completed",
            "model": "dall-e-3",
            "url": f"{STORAGE}/generations/18491.webp",
            "tokens_spent": 7,
            "metadata": {"width": 1024, "height": 1024},
        },
    ),
    (
        "generate_music_completed.b",
        {
            "id": "gen_01j9x2abc123",
            "status": "completed",
            "model": "elevenlabs-music",
            "url": "https://cdn.elumenta.ru/audio/gen_01j9x2abc123.mp3",
            "tokens_spent": 58,
            "metadata": {"duration": 30},
            "created_at": datetime(2026, 3, 1, 12, tzinfo=UTC),
            "category": "audio",
        },
    ),
    (
        "generate_video_completed.a",
        {
            "id": 18500,
            "status": "completed",
            "model": "kling-v2.1",
            "url": f"{STORAGE}/generations/18500.mp4",
            "tokens_spent": 26,
            "metadata": VIDEO,
            "created_at": at("12:05:00"),
            "completed_at": at("12:05:55"),
        },
    ),
    (
        "generate_video_pending.a",
        {"id": 18500, "status": "pending", "model": "kling-v2.1", "created_at": at("12:05:00")},
    ),
    (
        "status_completed.a",
        {
            "id": 18502,
            "status": "completed",
            "model": "kling-v2.1-pro",
            "url": f"{STORAGE}/generations/18502.mp4",
            "thumbnail_url": f"{STORAGE}/thumbnails/18502.jpg",
            "tokens_spent": 60,
            "processing_ms": 87420,
            "metadata": VIDEO,
        },
    ),
    (
        "status_completed.b",
        {
            "id": "gen_01j9x2vid001",
            "status": "completed",
            "model": "kling-v2.1-pro",
            "url": f"{STORAGE}/generations/gen_01j9x2vid001.mp4",
            "tokens_spent": 60,
            "metadata": VIDEO,
            "created_at": at("12:05:00"),
            "completed_at": at("12:06:02"),
            "extra": {"balance_remaining": 229},
        },
    ),
    (
        "status_failed.a",
        {"id": 18503, "status": "failed", "error": "Provider error: content policy violation", "tokens_spent": 0},
    ),
    (
        "status_failed.b",
        {
            "id": "gen_01j9x2vid002",
            "status": "failed",
            "model": "kling-v2.1-pro",
            "error": "Provider error: content policy violation",
            "tokens_spent": 0,
            "created_at": at("12:10:00"),
        },
    ),
    ("status_pending.a", {"id": 18502, "status": "pending", "model": "kling-v2.1-pro", "tokens_spent": 0}),
    (
        "status_pending.b",
        {
            "id": "gen_01j9x2vid001",
            "status": "pending",
            "model": "kling-v2.1-pro",
            "progress": 45,
            "eta_seconds": 32,
            "created_at": at("12:05:00"),
        },
    ),
    (
        "stt_completed.a",
        {
            "id": 18510,
            "status": "completed",
            "model": "whisper",
            "text": "...",
            "tokens_spent": 2,
            "processing_ms": 3420,
        },
    ),
]


@pytest.mark.parametrize(("name", "fields"), GENERATIONS, ids=[name for name, _ in GENERATIONS])
def test_every_documented_generation_is_read(name: str, fields: dict[str, Any]) -> None:
    """Each sample of both families comes out with our names, and nothing but what it says."""
    body = (SAMPLES / f"{name}.json").read_bytes()
    found = read(body, of=fields["id"])
    assert found == Generation(**fields)
    assert found.raw == json.loads(body)
    assert found.done == (found.status != "pending")
    assert found.failed == (found.status == "failed")


@pytest.mark.parametrize(
    ("name", "tokens", "extra"),
    [
        ("balance.a", 283, {}),
        (
            "balance.b",
            1247,
            {"plan_tokens_remaining": 1247, "bonus_tokens": 0, "next_refill_at": "2026-04-08T00:00:00Z"},
        ),
    ],
)
def test_every_documented_balance_is_read(name: str, tokens: int, extra: dict[str, Any]) -> None:
    """Both families' balances come out the same, the second with more in `extra`."""
    found = api.read(api.balance(), Answer(status=200, headers={}, body=(SAMPLES / f"{name}.json").read_bytes()))
    expires = datetime(2026, 4, 8, tzinfo=UTC)
    assert found == Balance(token_balance=tokens, plan="vip", plan_expires_at=expires, extra=extra)


@pytest.mark.parametrize("name", [name for name, _ in GENERATIONS])
def test_a_reply_cut_anywhere_is_not_believed(name: str) -> None:
    """However many bytes of a reply arrive, fewer than all are no generation: half an id leads to another's job."""
    body = (SAMPLES / f"{name}.json").read_bytes().strip()
    for length in range(len(body)):
        with pytest.raises(ResponseError):
            read(body[:length])


NOT_A_GENERATION = {
    "empty": b"",
    "white space": b" \n",
    "HTML": b"<html><body>Bad gateway</body></html>",
    "null": b"null",
    "a list": b'[{"id": 7, "status": "pending"}]',
    "a text": b'"completed"',
    "a number": b"7",
    "two objects": b'{"id": 7, "status": "pending"}{"id": 8, "status": "pending"}',
    "not UTF-8": b'{"id": "\xff\xfe", "status": "pending"}',
    "nothing in it": b"{}",
    "no id": b'{"status": "pending"}',
    "no status": b'{"id": 7}',
    "null id": b'{"id": null, "status": "pending"}',
    "true id": b'{"id": true, "status": "pending"}',
    "float id": b'{"id": 7.5, "status": "pending"}',
    "list id": b'{"id": [7], "status": "pending"}',
    "object id": b'{"id": {"id": 7}, "status": "pending"}',
    "empty id": b'{"id": "", "status": "pending"}',
    "NaN id": b'{"id": NaN, "status": "pending"}',
    "null status": b'{"id": 7, "status": null}',
    "number status": b'{"id": 7, "status": 1}',
    "empty status": b'{"id": 7, "status": ""}',
    "endless id": b'{"id": ' + b"9" * 5000 + b', "status": "pending"}',
    "deep": b'{"id": 7, "status": "pending", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("body", NOT_A_GENERATION.values(), ids=NOT_A_GENERATION)
def test_what_has_no_readable_id_and_status_is_an_error(body: bytes) -> None:
    """A good status with anything else than a generation is a ResponseError that says what came."""
    with pytest.raises(ResponseError, match="HTTP 200 came with a body that is no Generation") as caught:
        read(body)
    error = caught.value
    assert (error.status_code, error.generation_id, error.retryable) == (200, 7, True)
    assert len(str(error)) < 400


@pytest.mark.parametrize(("asked", "told"), [(7, 8), ("gen_1", "gen_2"), (7, "8"), ("7", 8)])
def test_another_generation_is_no_answer(asked: int | str, told: int | str) -> None:
    """A cache in between may mix answers up; a wrong result is worse than none, and another look may be right."""
    with pytest.raises(ResponseError, match=f"no Generation {asked}") as caught:
        read(json.dumps({"id": told, "status": "completed"}).encode(), of=asked)
    assert (caught.value.generation_id, caught.value.retryable) == (asked, True)


@pytest.mark.parametrize(("asked", "told"), [(7, "7"), ("7", 7), ("gen_7", 7), (7, "gen_7")])
def test_a_generation_is_itself_in_either_form(asked: int | str, told: int | str) -> None:
    """A number and its digits are one id, and an id of the other family may be the one that was asked for."""
    assert read(json.dumps({"id": told, "status": "completed"}).encode(), of=asked).id == told


@pytest.mark.parametrize("status", [200, 201, 202, 203, 299])
def test_any_good_status_may_bring_a_generation(status: int) -> None:
    """The status of a pending answer is not documented: any 2xx will do."""
    assert read(b'{"id": 7, "status": "pending"}', status).id == 7


@pytest.mark.parametrize("status", ["queued", "processing", "COMPLETED", "canceled", "успех"])
def test_an_unknown_status_means_not_finished(status: str) -> None:
    """A word this version does not know is kept as it is and waited on."""
    found = reply(status=status)
    assert (found.status, found.done, found.failed) == (status, False, False)


@pytest.mark.parametrize("generation_id", [0, -5, 7, 10**30, "7", "gen_01j9x2abc123", "ёж"])
def test_an_id_is_kept_as_received(generation_id: int | str) -> None:
    """Ids are never converted: the type is part of the name."""
    found = reply(id=generation_id).id
    assert found == generation_id
    assert type(found) is type(generation_id)


def test_an_empty_address_is_none() -> None:
    """A text that comes with an empty address is a text, and not a file that nobody can fetch."""
    found = reply(result_text="", result_url="", thumbnail_url="")
    assert (found.text, found.url, found.thumbnail_url) == ("", None, None)
    assert reply(result_url="", url=f"{STORAGE}/7.png").url == f"{STORAGE}/7.png"


def test_unknown_fields_stay_reachable() -> None:
    """What a newer service adds can be read from `extra` and from `raw`."""
    found = reply(seed=42, safety={"level": 3})
    assert found.extra == {"seed": 42, "safety": {"level": 3}}
    assert found.raw == {"id": 7, "status": "pending", "seed": 42, "safety": {"level": 3}}


WRONG_TYPES: list[Any] = [5, True, "text", ["x"], {"x": 1}, -1, math.inf, math.nan, 10**400, "NaN", "1e999", ""]
OPTIONAL = ["model_slug", "result_text", "result_url", "thumbnail_url", "error", "tokens_spent", "processing_ms"]
OPTIONAL += ["result_metadata", "progress", "eta_seconds", "created_at", "completed_at"]


@pytest.mark.parametrize("name", OPTIONAL)
@pytest.mark.parametrize("value", WRONG_TYPES, ids=repr)
def test_a_field_of_a_wrong_type_costs_nothing_but_itself(name: str, value: Any) -> None:
    """The id of a paid generation is never lost because some other field looks odd."""
    found = reply(**{name: value})
    assert found.id == 7
    assert found.raw[name] is value or name in found.raw


@pytest.mark.parametrize(
    ("value", "tokens"),
    [(3, 3), (3.0, 3), ("3", 3), (0, 0), (None, None), (True, None), ("three", None), (math.nan, None), ([3], None)],
)
def test_tokens_are_a_whole_number_or_unknown(value: Any, tokens: int | None) -> None:
    """A charge that cannot be read is None, not 0."""
    assert reply(tokens_spent=value).tokens_spent == tokens


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2026-03-08T12:05:00Z", at("12:05:00")),
        ("2026-03-08T12:05:00", at("12:05:00")),
        ("2026-03-08T12:05:00.250+00:00", at("12:05:00.250")),
        ("2026-03-08T15:05:00+03:00", datetime(2026, 3, 8, 15, 5, tzinfo=timezone(timedelta(hours=3)))),
        ("2026-03-08", at("00:00:00")),
        ("yesterday", None),
        ("", None),
        (1772971500, None),
        (None, None),
        ("2026-13-45T99:99:99Z", None),
    ],
)
def test_dates_are_aware_or_none(value: Any, moment: datetime | None) -> None:
    """A date without a zone is UTC; what is no date is None."""
    assert reply(created_at=value).created_at == moment


def test_the_first_family_wins_where_a_reply_has_both() -> None:
    """The quickstart's names come first; a null there gives way to the other family's name."""
    found = reply(model_slug="a", model="b", result_text=None, content="text", tokens_spent=3, tokens_used=4)
    assert (found.model, found.text, found.tokens_spent) == ("a", "text", 3)


@pytest.mark.parametrize("value", [None, True, "many", [], {}, math.nan, math.inf, 10**400])
def test_a_balance_needs_its_number(value: Any) -> None:
    """A balance without a readable number of tokens is an error, not 0."""
    with pytest.raises(ResponseError, match="no Balance"):
        api.read(api.balance(), Answer(status=200, headers={}, body=json.dumps({"token_balance": value}).encode()))


HISTORY = [
    (
        "history.a",
        Generation(
            id=18491,
            status="completed",
            model="dall-e-3",
            url="https://storage.neuralbox.top/generations/18491.webp",
            tokens_spent=8,
            created_at=at("12:02:30"),
            prompt="A cozy coffee shop",
            category="image",
            is_favorited=False,
            partial=True,
            extra={"model_name": "DALL-E 3"},
        ),
    ),
    (
        "history.b",
        Generation(
            id="gen_01j9x2img789",
            status="completed",
            model="flux-1.1-pro",
            url="https://storage.neuralbox.top/generations/gen_01j9x2img789.webp",
            tokens_spent=8,
            created_at=at("12:02:30"),
            prompt="Portrait of a CEO in a modern office",
            category="image",
            partial=True,
        ),
    ),
]


@pytest.mark.parametrize(("name", "entry"), HISTORY, ids=[name for name, _ in HISTORY])
def test_a_page_of_the_history_is_read(name: str, entry: Generation) -> None:
    """Each sample of both families comes out as generations that say they are partial."""
    page = read_page((SAMPLES / f"{name}.json").read_bytes())
    assert page == HistoryPage(items=(entry,), entries=1, total=142)


def test_entries_that_cannot_be_read_are_left_out_and_counted() -> None:
    """One odd entry must not hide the others, and must not look like the end of the history."""
    page = read_page(b'{"items": [{"id": 1, "status": "pending"}, {"status": "pending"}, "odd", {"id": 2}]}')
    assert [each.id for each in page.items] == [1]
    assert page.entries == 4


def test_an_entry_that_has_not_changed_is_not_read_again() -> None:
    """What was read of a page stays what it is as long as the service says the same; the rest is read anew."""
    entries = [{"id": number, "status": "pending", "progress": 5} for number in (1, 2, 3)]
    before = {each.id: each for each in read_page(json.dumps(entries).encode()).items}
    before[3] = reply(id=3, status="pending", progress=5)  # from a look of its own, which tells more
    entries[1]["progress"] = 6
    call = api.history(page=1, known=before.get)
    page = api.read(call, Answer(status=200, headers={}, body=json.dumps(entries).encode()))
    assert page.items[0] is before[1]
    assert [each.progress for each in page.items] == [5, 6, 5]
    assert page.items[2].partial


@pytest.mark.parametrize("generation_id", [[1], {"id": 1}, True, None, ""])
def test_an_entry_without_an_id_is_never_asked_for(generation_id: object) -> None:
    """What is no id is not looked up among what is known, and its entry is left out."""
    body = json.dumps([{"id": generation_id, "status": "pending"}, {"id": 2, "status": "pending"}]).encode()
    asked: list[object] = []
    page = api.read(api.history(page=1, known=asked.append), Answer(status=200, headers={}, body=body))
    assert asked == [each.id for each in page.items] == [2]


def test_a_history_without_a_list_is_an_error() -> None:
    """A reply that is no history must not look like an empty one: absence there is taken for proof."""
    with pytest.raises(ResponseError, match="history"):
        read_page(b'{"detail": "moved"}')


def test_a_reply_cannot_call_itself_partial() -> None:
    """`partial` is ours: it says where a generation was read."""
    assert read(b'{"id": 7, "status": "pending", "partial": true}').partial is False

"""Whatever a server sends, a reply is read into a value that is right, or is one of our errors: nothing else."""

import json
import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from neuralbox_async import Generation, NeuralBoxError, ResponseError
from neuralbox_async._core import api, strict_json
from neuralbox_async._core.api import Answer, Call
from neuralbox_async._core.models import HistoryPage

SAMPLES = sorted((Path(__file__).parent.parent / "samples").glob("*.json"))
BODIES = [path.read_bytes() for path in SAMPLES]
# Of any id: another one's would be refused before anything was shown, kept or sent on.
LOOK = evolve(api.generation(7), generation_id=None)
CALLS: list[Call[Any]] = [LOOK, api.balance(), api.history(page=1)]
STATUSES = [200, 201, 204, 400, 401, 402, 404, 422, 429, 500, 502, 503]
PATIENTLY = settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])

odd = some.one_of(
    some.none(),
    some.booleans(),
    some.integers(),
    some.floats(),
    some.text(),
    # Copied, as the tests put such values into each other.
    some.sampled_from([10**400, -(2**63), "\ud800", "\x00", [], {}, [[]], {"id": True}, "NaN", "1e999"]).map(deepcopy),
)


def check(answer: Answer) -> None:
    """Read an answer to each call; making up an answer costs more than reading it."""
    for call in CALLS:
        check_reading(call, answer)


def check_reading(call: Call[Any], answer: Answer) -> None:
    """Read an answer; whatever comes of it must be able to be shown, kept and sent on."""
    try:
        found = api.read(call, answer)
    except NeuralBoxError as error:
        found = error
    assert not isinstance(found, NeuralBoxError) or (str(found).isprintable() and len(str(found)) < 600)
    repr(found)
    pickle.dumps(found)
    for generation in found.items if isinstance(found, HistoryPage) else [found]:
        if isinstance(generation, Generation):
            assert type(generation.id) in (int, str)
            assert isinstance(generation.status, str)
            assert generation.status
            json.dumps(generation.raw, allow_nan=False, ensure_ascii=False).encode()
            assert generation.id == generation.raw["id"]


@given(body=some.sampled_from(BODIES), data=some.data(), status=some.sampled_from(STATUSES))
@PATIENTLY
def test_bytes_changed_anywhere(body: bytes, data: some.DataObject, status: int) -> None:
    """Bytes lost, doubled, flipped or put in."""
    for _ in range(data.draw(some.integers(1, 4))):
        at = data.draw(some.integers(0, len(body)))
        to = data.draw(some.integers(at, min(len(body), at + 20)))
        body = body[:at] + data.draw(some.binary(max_size=8)) + body[to:]
    check(Answer(status=status, headers={}, body=body))


@given(body=some.sampled_from(BODIES), data=some.data(), status=some.sampled_from(STATUSES))
@PATIENTLY
def test_values_of_any_type_anywhere(body: bytes, data: some.DataObject, status: int) -> None:
    """Any field may hold anything; the headers too."""
    reply = json.loads(body)
    for name in data.draw(some.lists(some.sampled_from(sorted(reply)), max_size=3)):
        reply[name] = data.draw(odd)
    if isinstance(reply.get("items"), list):
        reply["items"].append(data.draw(odd))
    headers = {"retry-after": data.draw(some.text(max_size=20)), "date": data.draw(some.text(max_size=30))}
    check(Answer(status=status, headers=headers, body=json.dumps(reply).encode()))


@given(
    reply=some.recursive(
        odd,
        lambda inner: some.lists(inner) | some.dictionaries(some.sampled_from(["id", "status", "items", "x"]), inner),
    )
)
@PATIENTLY
def test_any_json_at_all(reply: Any) -> None:
    """Lists, texts, objects in objects."""
    check(Answer(status=200, headers={}, body=json.dumps(reply).encode()))


@pytest.mark.parametrize("body", BODIES, ids=[path.stem for path in SAMPLES])
def test_a_body_cut_at_any_byte(body: bytes) -> None:
    """A cut reply is an error of ours at every byte, whatever was asked."""
    for length in range(len(body.strip())):
        for call in CALLS:
            with pytest.raises(ResponseError):
                api.read(call, Answer(status=200, headers={}, body=body[:length]))


AMBIGUOUS = {
    "the id twice": b'{"id": 7, "id": 8, "status": "pending"}',
    "the same twice": b'{"id": 7, "id": 7, "status": "pending"}',
    "twice by an escape": b'{"id": 7, "\\u0069d": 8, "status": "pending"}',
    "twice inside": b'{"id": 7, "status": "pending", "x": [{"y": 1, "y": 2}]}',
    "deep lists": b'{"id": 7, "status": "pending", "x": ' + b"[" * 150 + b"]" * 150 + b"}",
    "deep objects": b'{"id": 7, "status": "pending", "x": ' + b'{"x":' * 150 + b"1" + b"}" * 150 + b"}",
    "a lone surrogate for an id": b'{"id": "gen_\\ud800", "status": "pending"}',
    "a long id": b'{"id": "' + b"g" * 256 + b'", "status": "pending"}',
    "surrogates that meet": b'{"id": 7, "status": "pending", "\\ud800": 1, "\\ud801": 2}',
    "an HTML page": b"<!doctype html><title>502</title>",
    "a page of text with an id": b'ok {"id": 7, "status": "pending"}',
}


@pytest.mark.parametrize("body", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_could_be_read_in_two_ways_is_an_error(body: bytes) -> None:
    """Two parsers in a row could act on two different replies; we act on none."""
    with pytest.raises(ResponseError):
        api.read(LOOK, Answer(status=200, headers={}, body=body))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"NaN", None),
        (b"-Infinity", None),
        (b"1e999", None),
        (b"1.5", 1.5),
        (b'"\\ud83d\\ude00"', "😀"),
        (b'"\\ud83d"', "\ufffd"),
        (b'"a\\uDC00b"', "a\ufffdb"),
        (b'{"a": ["\\ud83d\\ude00", {"\\ud800": "b"}]}', {"a": ["😀", {"\ufffd": "b"}]}),
        (b'{"a": [{"b": 1}, "\\ude00\\ud83d"]}', {"a": [{"b": 1}, "\ufffd\ufffd"]}),
        (b"[" * 100 + b"]" * 100, None),
        (b"[" + b"[]," * 500 + b"[]]", [[]] * 501),
    ],
)
def test_what_is_harmless_is_read(text: bytes, value: Any) -> None:
    """What no JSON can hold becomes nothing, or the sign for what was lost; width is not depth."""
    found = strict_json.loads(text)
    assert found == value or isinstance(found, list)


def test_an_integer_is_kept_to_its_last_digit() -> None:
    """A float would round what a large integer says."""
    found = api.read(
        api.balance(), Answer(status=200, headers={}, body=b'{"token_balance": 9007199254740993, "plan": "vip"}')
    )
    assert found.token_balance == 9_007_199_254_740_993

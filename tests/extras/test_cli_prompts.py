"""Lines become requests or problems: rules as tables, and the reading of files that never end."""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from neuralbox_async import GenerationRequest, UsageError
from neuralbox_async.extras.cli.options import read_params
from neuralbox_async.extras.cli.prompts import Defaults, Line, check_input, is_plain_text, read_prompts
from neuralbox_async.extras.cli.source import LONGEST_LINE_BYTES, Source, opened


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio in real time, as the command line does."""
    return "asyncio"


def read(text: bytes, name: str = "p.jsonl", **defaults: Any) -> list[Line]:
    """Read lines from memory."""

    async def lines() -> AsyncIterator[bytes]:
        for line in text.split(b"\n"):
            yield line

    async def main() -> list[Line]:
        return [line async for line in read_prompts(lines(), name, Defaults(**defaults))]

    return anyio.run(main)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "not JSON"),
        (b"nonsense", "not JSON"),
        (b'["gpt-5", "Hello"]', "not a JSON object"),
        (b'"Hello"', "not a JSON object"),
        (b'{"prompt": "Hello"}', '"model" is missing, and no --model is given'),
        (b'{"model": "gpt-5"}', '"prompt" is missing'),
        (b'{"model": "gpt-5", "prompt": ""}', '"prompt" must be text that is not empty'),
        (b'{"model": "gpt-5", "prompt": "  "}', '"prompt" must be text that is not empty'),
        (b'{"model": 5, "prompt": "Hello"}', '"model" must be text that is not empty, not 5'),
        (b'{"model": "gpt-5", "prompt": "Hello", "params": [1]}', '"params" must be an object'),
        (b'{"model": "gpt-5", "prompt": "Hello", "key": 7}', '"key" must be text'),
        (b'{"model": "gpt-5", "prompt": "Hello", "params": {"seed": NaN}}', "NaN is not JSON"),
        (b'{"model": "gpt-5", "prompt": "\xff"}', "not UTF-8: byte 0xff at 30"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_broken_line(line: bytes, problem: str) -> None:
    """A line that makes no request says why, and where it stands."""
    (_, found) = read(b'{"model": "gpt-5", "prompt": "Hello"}\n' + line)
    assert found.request is None
    assert found.problem.startswith("p.jsonl, line 2: ")
    assert problem in found.problem


def test_json_line() -> None:
    """A line's model, prompt, params and key make the request; other fields are kept."""
    (line,) = read(b'{"model": "m", "prompt": "p", "params": {"a": 1}, "key": "k", "scene": 3}')
    assert line.request == GenerationRequest(
        "m", "p", {"a": 1}, key="k", tag=line.request.tag if line.request else None
    )
    assert line.tag == {"index": 0, "line": 1, "fields": {"scene": 3}}


def test_places_count_as_an_editor_does() -> None:
    """Blank lines count as lines and are no items; CR LF and a byte order mark are no part of a line."""
    lines = read(b'\xef\xbb\xbf{"model": "m", "prompt": "a"}\r\n\r\n{"model": "m", "prompt": "b"}\r\n')
    assert [(line.index, line.number, line.found["prompt"]) for line in lines] == [(0, 1, "a"), (1, 3, "b")]
    assert not any(line.problem for line in lines)


def test_defaults() -> None:
    """--model and --param fill in what a line does not say itself."""
    one, two = read(
        b'{"prompt": "a"}\n{"model": "own", "prompt": "b", "params": {"size": 2}}',
        model="m",
        params={"size": 1, "x": 3},
    )
    assert one.request is not None
    assert two.request is not None
    assert (one.request.model, one.request.params) == ("m", {"size": 1, "x": 3})
    assert (two.request.model, two.request.params) == ("own", {"size": 2, "x": 3})


def test_text_lines() -> None:
    """In a text file each line is a prompt, whatever it looks like."""
    lines = read(b"A red fox\n{not JSON}\n", name="ideas.txt", model="dall-e-3")
    assert [line.request.prompt for line in lines if line.request] == ["A red fox", "{not JSON}"]


@pytest.mark.parametrize(
    ("name", "first", "model", "plain"),
    [
        ("p.txt", b'{"prompt": 1}', "m", True),
        ("P.TXT", b"A fox", "m", True),
        ("p.jsonl", b"A fox", "m", False),
        ("p.ndjson", b"A fox", "m", False),
        ("stdin", b"A fox", "m", True),
        ("stdin", b'{"prompt": 1}', "m", False),
        ("stdin", b"A fox", None, False),
        ("/dev/fd/63", b"A fox", "m", True),
    ],
)
def test_kind_of_file(name: str, first: bytes, model: str | None, plain: bool) -> None:  # noqa: FBT001 - a table's column
    """A file's name says whether it is text, else its first line does; without --model only JSON makes sense."""
    assert is_plain_text(name, first, Defaults(model=model)) is plain


def test_text_file_needs_a_model() -> None:
    """A text file without --model is refused before anything is read."""
    with pytest.raises(UsageError, match="say which --model"):
        check_input("ideas.txt", Defaults())


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("n=5", 5),
        ("n=true", True),
        ("n=[1, 2]", [1, 2]),
        ('n="5"', "5"),
        ("n=16:9", "16:9"),
        ("n=", ""),
        ("n=a=b", "a=b"),
        ("n=NaN", "NaN"),
        ("n=1024x1024", "1024x1024"),
    ],
)
def test_param(param: str, value: object) -> None:
    """A value that is JSON is JSON, any other is text."""
    assert read_params([param]) == {"n": value}


@pytest.mark.parametrize("param", ["n", "=5", ""])
def test_param_without_name_or_value(param: str) -> None:
    """A --param that is no pair says what it should look like."""
    with pytest.raises(UsageError, match="--param wants NAME=VALUE"):
        read_params([param])


@pytest.mark.anyio
async def test_lines_of_a_pipe_come_as_they_are_written() -> None:
    """A line of a pipe that stays open is there before the next one is written."""
    reader, writer = os.pipe()
    source = Source("pipe", reader)
    lines = source.lines()
    for text in (b"one", b"two"):
        os.write(writer, text + b"\n")
        assert await anext(lines) == text
    os.write(writer, b"no end of line")
    os.close(writer)
    assert await anext(lines) == b"no end of line"
    with pytest.raises(StopAsyncIteration):
        await anext(lines)
    os.close(reader)


@pytest.mark.anyio
async def test_a_read_under_way_can_be_left() -> None:
    """Whoever waits for a silent pipe can be cancelled."""
    reader, writer = os.pipe()
    with anyio.move_on_after(0.05) as scope:
        await anext(Source("pipe", reader).lines())
    assert scope.cancelled_caught
    os.close(writer)  # lets the thread's read end before its descriptor is closed
    os.close(reader)


@pytest.mark.anyio
async def test_endless_line() -> None:
    """A line without end is refused before it fills the memory."""
    longest = f"a line of over {LONGEST_LINE_BYTES:,} bytes"
    with opened("/dev/zero") as source, pytest.raises(UsageError, match=longest):
        await anext(source.lines())


@pytest.mark.parametrize("name", ["ideas.pdf", "ideas.XLSX", "ideas.docx"])
def test_a_file_that_may_be_no_text_is_refused(name: str) -> None:
    """The lines of a PDF are no prompts to pay for; the error names what is read."""
    with pytest.raises(UsageError, match=r"is not read; name a file that ends in \.jsonl, \.csv, \.tsv or \.txt\.$"):
        check_input(name, Defaults(model="gpt-5"))


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.JSON", "a.csv", "a.tsv", "a.txt", "a", "-", "/dev/fd/63"])
def test_what_the_table_of_the_docs_names_is_read(name: str) -> None:
    """A file that ends so, or has no ending, may be read."""
    check_input(name, Defaults(model="gpt-5"))


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "stdin"])
def test_an_array_is_refused_whole(name: str) -> None:
    """Of an array over several lines the last object stands alone: nothing of it may be paid for."""
    with pytest.raises(UsageError, match="is one JSON array: write an object on each line"):
        read(b'[\n{"model": "a", "prompt": "b"},\n{"model": "a", "prompt": "c"}\n]\n', name=name)


def test_a_prompt_may_begin_with_a_bracket() -> None:
    """A line of a text file is a prompt, whatever it begins with."""
    assert [line.problem for line in read(b"[Verse 1]\nOh\n", name="song.txt", model="musicgen")] == ["", ""]


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_file_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    """A missing file and a folder are usage errors that name it."""
    with pytest.raises(UsageError, match="cannot be read"), opened(str(tmp_path / name)):
        pass


def test_examples_are_good() -> None:
    """The prompts that the project ships all make requests, each with a name of its own."""
    text = (Path(__file__).parents[2] / "examples" / "prompts.jsonl").read_bytes()
    lines = read(text)
    assert [line.problem for line in lines if line.problem] == []
    assert len({json.loads(line)["key"] for line in text.splitlines()}) == len(lines) == 40

"""CSV rows become what JSON lines would have said: rules as tables, and one run of a file as Excel writes it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from neuralbox_async import UsageError
from neuralbox_async.extras.cli.columns import is_table
from neuralbox_async.extras.cli.prompts import Defaults, Line, read_prompts


def read(text: str | bytes, name: str = "p.csv", **defaults: Any) -> list[Line]:
    """Read rows from memory, cut at the line ends as a file is."""

    async def lines() -> AsyncIterator[bytes]:
        for line in (text.encode() if isinstance(text, str) else text).split(b"\n"):
            yield line

    async def main() -> list[Line]:
        return [line async for line in read_prompts(lines(), name, Defaults(**defaults))]

    return anyio.run(main)


def asked(line: Line) -> tuple[object, ...]:
    """Return what a line asks for."""
    assert line.request is not None, line.problem
    request = line.request
    return request.model, request.prompt, request.params, request.key


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("model,prompt\ngpt-5,Hello", ("gpt-5", "Hello", None, None)),
        ("\ufeffmodel,prompt\r\ngpt-5,Hello\r\n", ("gpt-5", "Hello", None, None)),
        ("key;prompt\na;Hello, you", ("m", "Hello, you", None, "a")),
        ("prompt\tkey\nHello\ta", ("m", "Hello", None, "a")),
        (" prompt , key \nHello,", ("m", "Hello", None, None)),
        ('prompt\n"She said ""no"", twice"', ("m", 'She said "no", twice', None, None)),
        ('prompt,key\n"two\nlines",a', ("m", "two\nlines", None, "a")),
        ('prompt\n5" disk', ("m", '5" disk', None, None)),
        (
            "prompt,param.duration,param.size\nHello,5,1024x1024",
            ("m", "Hello", {"duration": 5, "size": "1024x1024"}, None),
        ),
        ("prompt,param.duration\nHello,", ("m", "Hello", None, None)),
        ('prompt,params,param.b\nHello,"{""a"": 1, ""b"": 1}",2', ("m", "Hello", {"a": 1, "b": 2}, None)),
        ("prompt,key\nHello", ("m", "Hello", None, None)),
    ],
)
def test_row(text: str, request_: tuple[object, ...]) -> None:
    """The header names the fields, whatever the delimiter; quotes, byte order marks and empty cells are understood."""
    (line,) = read(text, model="m")
    assert asked(line) == request_


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("Hello,1,2,3", "4 cells, and 2 columns"),
        (",{}", '"prompt" is missing'),
        ("Hello,{", '"params" is not JSON'),
        ('Hello,"{""a"": NaN}"', "NaN is not JSON"),
        ("Hello,[1]", '"params" must be an object'),
        ('"a"b,{}', "not CSV"),
        ('Hello,"never closed', "not CSV"),
        (b"\xff,{}", "not UTF-8"),
    ],
)
def test_broken_row(row: str | bytes, problem: str) -> None:
    """A row that makes no request says why and in which line it begins, and the others go on."""
    text = row.encode() if isinstance(row, str) else row
    fine, broken = read(b"prompt,params\nFine,\n" + text, model="m")
    assert fine.request is not None
    assert broken.problem.startswith("p.csv, line 3: ")
    assert problem in broken.problem


def test_lines_count_as_an_editor_does() -> None:
    """A row of several lines is one item, with the number of its first; blank lines are none."""
    lines = read('model,prompt\n\nm,"a\n\nb"\n\nm,c\n')
    assert [(line.index, line.number, line.found["prompt"]) for line in lines] == [(0, 3, "a\n\nb"), (1, 7, "c")]


def test_other_columns_are_kept() -> None:
    """What is no field of ours comes back as it was, also where it is empty; a column without a name does not."""
    (line,) = read("model,prompt,scene,note,\nm,p,03,,x")
    assert line.tag["fields"] == {"scene": "03", "note": ""}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model,text\nm,p", 'p.csv has no column "prompt"'),
        ("prompt,key,key\np,a,b", "p.csv has two columns of the name 'key'"),
        ('prompt\n"' + ("y" * 1_000 + "\n") * 17_000, "p.csv, line 2: a quote is never closed."),
    ],
)
def test_a_file_that_cannot_be_read_as_rows(text: str, says: str) -> None:
    """What spoils every row is a usage error, not as many bad lines."""
    with pytest.raises(UsageError, match=says):
        read(text)


@pytest.mark.parametrize(
    ("name", "first", "table"),
    [
        ("p.csv", b"anything", True),
        ("p.TSV", b"anything", True),
        ("p.jsonl", b"model,prompt", False),
        ("stdin", b"key;prompt;model", True),
        ("stdin", b'{"model": "gpt-5", "prompt": "Hello"}', False),
        ("stdin", b"A model, a prompt", False),
    ],
)
def test_what_is_a_table(name: str, first: bytes, table: bool) -> None:  # noqa: FBT001 - an expected value
    """A suffix says it, or on stdin a first line with both names."""
    assert is_table(name, first) is table


@pytest.mark.usefixtures("service")
def test_a_run_of_rows(cli: Any, tmp_path: Path) -> None:
    """`bulk` takes CSV as it takes JSON lines, and echoes its other columns."""
    path = tmp_path / "prompts.csv"
    path.write_text('model,prompt,key,scene\ngpt-5,"Hello\nyou",a,7\n', encoding="utf-8-sig")
    ended = cli.run("bulk", path)
    (record,) = ended.records
    assert ended.code == 0, ended.err
    assert (record["line"], record["key"], record["prompt"], record["scene"]) == (2, "a", "Hello\nyou", "7")

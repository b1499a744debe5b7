"""`models`, `model`, `price`, `history`, `me`, `stats`, `stream` and `transcribe`: for people and for machines."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neuralbox_async.extras.cli.commands import app
from neuralbox_async.sandbox import CATALOGUE, Sandbox, faults


@pytest.mark.usefixtures("service")
def test_models(cli: Any) -> None:
    """A table has a line for each model, with what it costs; --category keeps some."""
    ended = cli.run("models")
    assert (ended.code, ended.err) == (0, "")
    lines = {line.split()[0]: line for line in ended.out.splitlines() if line.split()}
    assert lines.keys() >= CATALOGUE.keys()
    assert "26-94" in lines["kling-v2.1"]
    records = cli.run("models", "--category", "video", "--json").records
    assert {record["slug"] for record in records} == {each.slug for each in CATALOGUE.values() if each.kind == "video"}


@pytest.mark.usefixtures("service")
def test_a_category_that_no_model_has(cli: Any) -> None:
    """A mistyped category is an error that names those there are, and no empty table."""
    ended = cli.run("models", "--category", "films")
    assert (ended.code, ended.out) == (2, "")
    assert "No model has the category films; there are audio, image," in ended.err


@pytest.mark.usefixtures("service")
def test_one_model_and_its_price(cli: Any) -> None:
    """Options are listed; a price is a line."""
    assert "1024x1024, 1024x1792" in cli.run("model", "dall-e-3").out
    (record,) = cli.run("model", "dall-e-3", "--json").records
    assert record["config"]["quality_options"] == ["standard", "hd"]
    assert cli.run("price", "dall-e-3", "--param", "quality=hd").out == "13 tokens (5 to 13, matrix)\n"
    assert cli.run("price", "gpt-5-nano").out == "1 token (fixed)\n"
    (record,) = cli.run("price", "dall-e-3", "--json").records
    assert (record["tokens"], record["max_tokens"]) == (5, 13)


def test_history(cli: Any, service: Sandbox) -> None:
    """Newest first, one line each whatever the prompt holds, at most as many as wanted."""
    for prompt in ("first", "A \x1b[31mred\nfox", "Forbidden"):
        service.book("gpt-5", prompt)
    service.book("kling-v2.1", "A clip")
    service.fast_forward(1_000)
    ended = cli.run("history", "--model", "gpt-5", "--limit", 2)
    assert ended.code == 0
    assert "\x1b" not in ended.out
    rows = [line for line in ended.out.splitlines() if "gpt-5" in line]
    assert [row.split()[4] for row in rows] == ["failed", "completed"]
    assert rows[1].rstrip().endswith("[31mred fox")
    records = cli.run("history", "--json").records
    assert [record["prompt"] for record in records] == ["A clip", "Forbidden", "A \x1b[31mred\nfox", "first"]
    assert cli.run("history", "--favorites-only", "--json").records == []


@pytest.mark.usefixtures("service")
def test_an_empty_list_is_said(cli: Any) -> None:
    """A table without rows leaves a person in doubt whether it is all there; machines get no line."""
    ended = cli.run("history", "--model", "gpt-5")
    assert (ended.code, ended.out, ended.err) == (0, "", "Nothing was found.\n")
    ended = cli.run("history", "--model", "gpt-5", "--json")
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_a_narrow_window_cuts_the_prompt_alone(cli: Any, service: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids and models stay whole."""
    monkeypatch.setenv("COLUMNS", "70")
    service.book("midjourney-turbo", "A very long prompt " * 5)
    ended = cli.run("history")
    assert "18500" in ended.out
    assert "midjourney-turbo" in ended.out
    assert max(map(len, ended.out.splitlines())) <= 70


def test_ids_stay_whole_in_half_a_window(cli: Any, service: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """What other commands take can be read, whatever becomes of the rest."""
    monkeypatch.setenv("COLUMNS", "44")
    service.book("midjourney-turbo", "A very long prompt " * 5)
    assert "18500" in cli.run("history").out
    assert "claude-sonnet-4.5 " in cli.run("models").out


def test_me_and_stats(cli: Any, service: Sandbox) -> None:
    """Whose account, and what it did."""
    service.book("gpt-5", "Hello")
    assert "elite" in cli.run("me").out
    (record,) = cli.run("me", "--json").records
    assert (record["plan"], record["plan_expires_at"]) == ("elite", "2026-04-08T00:00:00+00:00")
    assert "last 30 days" in cli.run("stats").out
    (record,) = cli.run("stats", "--json").records
    assert set(record["breakdown"]["text"]) == {"generations", "tokens"}


@pytest.mark.usefixtures("service")
def test_stream(cli: Any) -> None:
    """Stdout gets the text and a line's end; with --json one object when all is there."""
    ended = cli.run("stream", "gpt-5", "Hello", "--param", "max_tokens=5")
    assert (ended.code, ended.err) == (0, "")
    (record,) = cli.run("stream", "gpt-5", "Hello", "--json").records
    assert ended.out == record["text"] + "\n"
    assert (record["status"], record["tokens_spent"], record["error"]) == ("completed", 2, None)


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [(faults.lost(), 3, "its outcome is unknown"), (faults.status(402, "insufficient_tokens"), 4, "402")],
)
def test_stream_meets_an_error(cli: Any, service: Sandbox, fault: faults.Fault, code: int, says: str) -> None:
    """The error is one line on stderr, and the exit codes are those of `generate`."""
    service.order(fault, on="POST /generate/stream")
    ended = cli.run("stream", "gpt-5", "Hello")
    assert (ended.code, ended.out) == (code, "")
    assert says in ended.err
    assert ended.err.startswith("error: ")


@pytest.mark.usefixtures("service")
def test_stream_fails_half_way(cli: Any) -> None:
    """What came stays, with a line's end."""
    ended = cli.run("stream", "gpt-5", "Forbidden")
    assert ended.code == 1
    assert "content policy" in ended.err
    assert ended.out.endswith("\n")
    assert len(ended.out) > 10


def test_stream_that_breaks_off(cli: Any, service: Sandbox) -> None:
    """The rest comes by a look; the text is whole."""
    service.order(faults.cut_in_body(), on="POST /generate/stream")
    ended = cli.run("stream", "gpt-5", "Hello")
    assert ended.code == 0
    assert "“Hello”" in ended.out
    assert ended.out.count("\n") == 1
    assert len(service.charges) == 1


@pytest.mark.usefixtures("service")
def test_transcribe(cli: Any, tmp_path: Path) -> None:
    """A file becomes a text, on stdout or in a file."""
    audio = tmp_path / "talk.mp3"
    audio.write_bytes(b"ID3 and so on")
    assert "talk.mp3" in cli.run("transcribe", audio).out
    ended = cli.run("transcribe", audio, "--model", "elevenlabs-scribe", "--diarize", "--out", tmp_path / "talk.txt")
    assert ended.out == f"{tmp_path}/talk.txt\n"
    assert "[Speaker 2]" in (tmp_path / "talk.txt").read_text(encoding="utf-8")
    (record,) = cli.run("transcribe", audio, "--language", "en", "--json").records
    assert (record["model"], record["params"]) == ("whisper", {"language": "en"})


def test_transcribe_refuses_before_it_sends(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """A file that is not there is a usage error."""
    ended = cli.run("transcribe", tmp_path / "missing.mp3")
    assert ended.code == 2
    assert "cannot be read" in ended.err
    assert service.requests.total == 0


@pytest.mark.parametrize("command", ["models", "me", "stats", "history"])
def test_a_refused_key(cli: Any, service: Sandbox, command: str) -> None:
    """The exit code of a refused key is the same everywhere."""
    service.order(faults.status(401, "not_authenticated"), on="*", times=None)
    ended = cli.run(command)
    assert (ended.code, ended.out) == (4, "")
    assert ended.err.startswith("error: ")


@pytest.mark.usefixtures("service")
def test_an_unknown_model(cli: Any) -> None:
    """What the service does not know, it says."""
    ended = cli.run("price", "nope")
    assert ended.code == 1
    assert "nope" in ended.err


def test_every_command_says_what_it_does() -> None:
    """The list of commands has a line for each of these."""
    described = {name: app[name].help for name in ("models", "model", "price", "history", "me", "stats", "stream")}
    assert all(described.values()), json.dumps(list(described))


def test_stream_interrupted(cli: Any, service: Sandbox, until: Callable[[Callable[[], bool]], None]) -> None:
    """Ctrl-C keeps what came, and leaves with the id of what goes on."""
    service.order(faults.hang_in_body(), on="POST /generate/stream")
    process = cli.start("stream", "gpt-5", "Hello")
    until(lambda: service.booked == 1)
    first = process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    ended = cli.end(process)
    (job,) = service.world.jobs.values()
    assert ended.code == 130
    assert (first.decode() + ended.out).endswith("\n")
    assert f"neuralbox wait {job.id}" in ended.err

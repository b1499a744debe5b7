"""`neuralbox bulk` against a sandbox on a port: outcomes, broken lines, exit codes, and every way to end early."""

import json
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neuralbox_async.extras.cli.source import LONGEST_LINE_BYTES
from neuralbox_async.sandbox import Sandbox, faults

EXAMPLES = str(Path(__file__).parents[2] / "examples" / "prompts.jsonl")
TEXT = {"model": "gpt-5", "prompt": "Hello"}
CLIP = {"model": "kling-v2.1", "prompt": "A flower"}
FIELDS = ["index", "line", "key", "model", "prompt", "params"]
FIELDS += ["id", "status", "text", "url", "path", "tokens_spent", "error"]
Until = Callable[[Callable[[], bool]], None]


def write(tmp_path: Path, *lines: object, name: str = "prompts.jsonl") -> Path:
    """Write a file of prompts, a JSON line for each that is not text."""
    path = tmp_path / name
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def test_outcomes_and_files(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """Each line becomes an outcome on stdout and in outcomes.jsonl, and a file named after its key or id."""
    file = write(tmp_path, {**TEXT, "key": "hello"}, {**CLIP, "params": {"duration": 5}})
    ended = cli.run("bulk", file, "--out", tmp_path / "out", "--poll-interval", 0.05)
    text, clip = sorted(ended.records, key=lambda record: record["index"])
    assert ended.code == 0
    assert list(text) == list(clip) == FIELDS
    assert (text["line"], text["key"], text["status"], text["tokens_spent"]) == (1, "hello", "completed", 2)
    assert Path(text["path"]) == tmp_path / "out" / "hello.txt"
    assert Path(text["path"]).read_text() == text["text"]
    assert Path(clip["path"]).name == f"{clip['id']}.gif"
    assert clip["error"] is None
    assert clip["params"] == {"duration": 5}
    assert (tmp_path / "out" / "outcomes.jsonl").read_text() == ended.out
    assert "2 done, 0 failed, 28 tokens" in ended.err
    assert len(service.charges) == 2


@pytest.mark.usefixtures("service")
def test_broken_lines(cli: Any, tmp_path: Path) -> None:
    """A broken line becomes an outcome with an error and a line on stderr, and the rest goes on."""
    file = write(tmp_path, "{oops", TEXT, {"model": "gpt-5"})
    ended = cli.run("bulk", file)
    broken, good, without = sorted(ended.records, key=lambda record: record["index"])
    assert ended.code == 1
    assert list(broken) == FIELDS
    assert (broken["line"], broken["id"], broken["error"]["type"], broken["error"]["billed"]) == (
        1,
        None,
        "UsageError",
        "no",
    )
    assert without["model"] == "gpt-5"
    assert good["status"] == "completed"
    assert f"{file}, line 1: not JSON" in ended.err
    assert f'{file}, line 3: "prompt" is missing' in ended.err
    assert "1 done, 0 failed, 2 lines not usable" in ended.err


@pytest.mark.usefixtures("service")
def test_other_fields_are_echoed(cli: Any, tmp_path: Path) -> None:
    """What a line says besides comes back; what is named like a field of ours comes back under "input"."""
    (record,) = cli.run("bulk", write(tmp_path, {**TEXT, "scene": [3], "id": "mine"})).records
    assert record["scene"] == [3]
    assert record["input"] == {"id": "mine"}
    assert isinstance(record["id"], int)


@pytest.mark.usefixtures("service")
def test_any_text_survives(cli: Any, tmp_path: Path) -> None:
    """Other scripts stay readable, and a lone surrogate stays what it was."""
    (record,) = cli.run("bulk", write(tmp_path, '{"model": "gpt-5", "prompt": "ёж \\ud800"}')).records
    assert record["prompt"] == "ёж \ud800"
    assert record["error"]["type"] == "UsageError"


@pytest.mark.usefixtures("service")
def test_failure_and_duplicate_key(cli: Any, tmp_path: Path) -> None:
    """A generation that fails and a key that comes twice are outcomes with an error, and exit code 1."""
    lines = [{**TEXT, "prompt": "forbidden", "key": "a"}, {**TEXT, "key": "a"}]
    ended = cli.run("bulk", write(tmp_path, *lines), "--out", tmp_path)
    failed, twice = sorted(ended.records, key=lambda record: record["index"])
    assert ended.code == 1
    assert failed["status"] == "failed"
    assert failed["error"]["type"] == "GenerationFailedError"
    assert failed["error"]["generation_id"] == failed["id"]
    assert twice["error"]["type"] == "UsageError"


@pytest.mark.usefixtures("service")
def test_numbers_agree(cli: Any, tmp_path: Path) -> None:
    """A problem is told with one number: the line of the file, whatever was counted elsewhere."""
    ended = cli.run("bulk", write(tmp_path, "{oops", "", {**TEXT, "key": "a"}, {**TEXT, "key": "a"}))
    (twice,) = [each["error"]["message"] for each in ended.records if each["index"] == 2]
    assert twice.startswith("This line has the key 'a' of an earlier item")
    assert f"line 4, gpt-5: {twice}" in ended.err


def test_defaults_are_told(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """An outcome has the model and the params that were really sent, also where --model and --param gave them."""
    file = write(tmp_path, {"prompt": "A fox"}, {"prompt": "A cat", "params": {"size": "512x512"}})
    ended = cli.run("bulk", file, "--model", "dall-e-3", "--param", "quality=hd")
    fox, cat = sorted(ended.records, key=lambda record: record["index"])
    assert (fox["model"], fox["params"]) == ("dall-e-3", {"quality": "hd"})
    assert (cat["model"], cat["params"]) == ("dall-e-3", {"quality": "hd", "size": "512x512"})
    assert [charge.tokens for charge in service.charges] == [13, 13]


@pytest.mark.usefixtures("service")
def test_json_may_be_asked_for(cli: Any, tmp_path: Path) -> None:
    """--json is how it always is."""
    ended = cli.run("bulk", write(tmp_path, TEXT), "--json")
    assert ended.code == 0
    assert list(ended.records[0]) == FIELDS


@pytest.mark.parametrize("status", [401, 403])
def test_storage_that_refuses_stops_nothing(cli: Any, service: Sandbox, tmp_path: Path, status: int) -> None:
    """A file that cannot be fetched is one line's error, which names the generation and how to get it yet."""
    service.order(faults.status(status), on="GET /generations/{name}")
    file = write(tmp_path, *[{"model": "dall-e-3", "prompt": "A fox"}] * 3)
    ended = cli.run("bulk", file, "--out", tmp_path / "out", "--max-concurrency", 1)
    refused, *others = sorted(ended.records, key=lambda record: record["index"])
    assert ended.code == 1
    assert refused["error"]["message"].startswith(f"generation {refused['id']}: ")
    assert refused["error"]["hint"] == f"neuralbox wait {refused['id']} --out {tmp_path}/out"
    assert f"Get it with: {refused['error']['hint']}" in ended.err
    assert [each["error"] for each in others] == [None, None]
    assert "stopped" not in ended.err


def test_input_that_breaks_off(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """What cannot be read on ends the run; it is no usage error any more when something was sent."""
    file = write(tmp_path, TEXT, "x" * (LONGEST_LINE_BYTES + 70_000))
    ended = cli.run("bulk", file)
    assert ended.code == 1
    assert [each["status"] for each in ended.records] == ["completed"]
    assert "has a line of over" in ended.err
    assert len(service.charges) == 1


def test_text_from_stdin(cli: Any, service: Sandbox) -> None:  # noqa: ARG001 - a fixture to have
    """With --model stdin may have one prompt per line, and --param goes for all of them."""
    process = cli.start("bulk", "-", "--model", "dall-e-3", "--param", "quality=hd")
    ended = cli.end(process, b"A fox\n\nA cat\n")
    assert ended.code == 0, ended.err
    assert sorted((each["line"], each["prompt"], each["tokens_spent"]) for each in ended.records) == [
        (1, "A fox", 13),
        (3, "A cat", 13),
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["missing.jsonl"], "missing.jsonl cannot be read: No such file or directory."),
        ([EXAMPLES, "--max-concurrency", "-1"], "Must be >= 1."),
        ([EXAMPLES, "--max-concurrency", "many"], "many"),
        ([EXAMPLES, "--param", "x"], "--param wants NAME=VALUE"),
        ([EXAMPLES, "--base-url", "http://example.com/"], "would send the key unencrypted"),
        ([EXAMPLES, "--out", f"{__file__}/x"], "cannot be written: Not a directory."),
        ([EXAMPLES, "--out", ""], "--out wants the name of a folder"),
        ([EXAMPLES, "--file-host", "https://cdn.example.com/"], "is not the name of a host"),
        ([EXAMPLES, "--poll-interval", "0"], "--poll-interval must be a number of seconds above 0"),
        ([EXAMPLES, "--timeout", "0"], "--timeout must be a number of seconds above 0"),
        ([], "FILE"),
    ],
)
def test_usage_errors(cli: Any, service: Sandbox, arguments: list[str], says: str) -> None:
    """What cannot work is one line on stderr and exit code 2, before any request."""
    ended = cli.run("bulk", *arguments)
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert says in ended.err
    assert ended.err.count("\n") == 1
    assert service.requests.total == 0


def test_no_key(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key nothing begins."""
    monkeypatch.delenv("NEURALBOX_API_KEY", raising=False)
    ended = cli.run("bulk", EXAMPLES)
    assert ended.code == 2
    assert "set NEURALBOX_API_KEY (create one" in ended.err
    assert "api_key=" not in ended.err


def test_refused_key_ends_the_run(cli: Any, service: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a 401 nothing is read or sent, even from a pipe that stays open and silent."""
    monkeypatch.setenv("NEURALBOX_API_KEY", "nb_a_key_that_nobody_knows")
    process = cli.start("bulk", "-")
    assert process.stdin is not None
    process.stdin.write(json.dumps(TEXT).encode() + b"\n")
    process.stdin.flush()
    process.wait(30)
    ended = cli.end(process)
    assert (ended.code, ended.out) == (4, "")
    assert "NEURALBOX_API_KEY" in ended.err
    assert service.requests.total == 1


def test_empty_account_ends_the_run(cli: Any, tmp_path: Path, service: Sandbox) -> None:
    """After a 402 the lines under way still come out, and no other is begun."""
    service.world.account.tokens = 5
    ended = cli.run("bulk", write(tmp_path, *[TEXT] * 50), "--max-concurrency", 1)
    assert ended.code == 4
    assert [bool(each["error"]) for each in ended.records] == [False, False, True]


def test_lost_answer(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """A lost answer that the history cannot tell of is exit code 3, and one POST."""
    service.order(faults.lost())
    service.order(faults.status(404), on="GET /user/history", times=None)
    ended = cli.run("bulk", write(tmp_path, TEXT))
    (record,) = ended.records
    assert ended.code == 3
    assert (record["error"]["type"], record["error"]["billed"]) == ("OutcomeUnknownError", "unknown")
    assert len(service.charges) == 1
    assert "1 in doubt" in ended.err


def test_timeout(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """What does not finish in time comes out with its id and how to get it."""
    service.order(faults.delay(30), on="GET /generate/{id}", times=None)
    (record,) = cli.run("bulk", write(tmp_path, CLIP), "--timeout", 0.3, "--poll-interval", 0.05).records
    assert record["status"] == "pending"
    assert record["error"]["type"] == "GenerationTimeoutError"
    assert record["error"]["hint"] == f"neuralbox wait {record['id']}"


def test_waiting_for_the_window_shows(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """A 429 is one line on stderr, however many lines wait for it."""
    service.order(faults.rate_limited(0.3))
    ended = cli.run("bulk", write(tmp_path, *[TEXT] * 5), "--max-concurrency", 2)
    assert ended.code == 0
    assert re.findall(r"waiting 0\.\d s for the plan's window", ended.err) == re.findall("waiting.*", ended.err)
    assert ended.err.count("waiting") == 1


def test_endless_input_is_read_as_it_is_needed(cli: Any, service: Sandbox, until: Until) -> None:
    """Of an endless stdin no more is taken than what is under way and one chunk; Ctrl-C ends it."""
    service.order(faults.delay(60), on="GET /generate/{id}", times=None)
    process = cli.start("bulk", "-", "--max-concurrency", 3, "--poll-interval", 60)
    assert process.stdin is not None
    line, written = json.dumps(CLIP).encode() + b"\n", [0]

    def write_on(pipe: Any) -> None:
        try:
            while True:
                pipe.write(line)
                written[0] += len(line)
        except (OSError, ValueError):
            pass  # the command is gone

    threading.Thread(target=write_on, args=(process.stdin,), daemon=True).start()
    until(lambda: service.booked == 3)
    process.send_signal(signal.SIGINT)
    out = process.stdout.read().decode() if process.stdout else ""
    assert process.wait(30) == 130
    assert len(out.splitlines()) == service.booked == 3
    assert written[0] < 400_000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal(cli: Any, service: Sandbox, tmp_path: Path, until: Until, number: signal.Signals) -> None:
    """A signal ends the run; without a ledger, what was accepted is an outcome with its id."""
    service.order(faults.delay(60), on="GET /generate/{id}", times=None)
    process = cli.start("bulk", write(tmp_path, CLIP, CLIP))
    until(lambda: service.booked == 2)
    process.send_signal(number)
    ended = cli.end(process)
    assert ended.code == 128 + number
    assert sorted(each["line"] for each in ended.records) == [1, 2]
    for each in ended.records:
        assert str(each["id"]) in service.world.jobs
        assert each["status"] == "pending"
        assert each["error"]["type"] == "Interrupted"
        assert each["error"]["hint"] == f"neuralbox wait {each['id']}"
    assert "2 interrupted" in ended.err


def test_signal_during_a_post(cli: Any, service: Sandbox, tmp_path: Path, until: Until) -> None:
    """A POST under way gets a moment to learn its id."""
    service.order(faults.delay(1.0))
    process = cli.start("bulk", write(tmp_path, CLIP))
    until(lambda: service.booked == 1)
    process.send_signal(signal.SIGINT)
    ended = cli.end(process)
    assert ended.code == 130
    assert [each["error"]["type"] for each in ended.records] == ["Interrupted"]


def test_signal_when_all_is_known(cli: Any, service: Sandbox, tmp_path: Path, until: Until) -> None:
    """A text that came within the grace is a result like any other, where no file was asked for."""
    service.order(faults.delay(1.0))
    process = cli.start("bulk", write(tmp_path, TEXT))
    until(lambda: service.booked == 1)
    process.send_signal(signal.SIGINT)
    ended = cli.end(process)
    (record,) = ended.records
    assert ended.code == 130
    assert record["status"] == "completed"
    assert record["text"]
    assert record["error"] is None
    assert "1 done, 0 failed, 2 tokens" in ended.err


def test_second_signal_leaves_at_once(cli: Any, service: Sandbox, tmp_path: Path, until: Until) -> None:
    """The second Ctrl-C waits for nothing: known ids are written, and what has no answer is in doubt."""
    service.order(faults.hang(), skip=1, times=None)
    service.order(faults.delay(60), on="GET /generate/{id}", times=None)
    process = cli.start("bulk", write(tmp_path, CLIP, CLIP), "--poll-interval", 0.05)
    until(lambda: service.booked == 2 and service.requests.looks == 1)  # the first is known by its id
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert b"Ctrl-C again" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.wait(3)
    ended = cli.end(process)
    assert ended.code == 3
    assert sorted(each["error"]["type"] for each in ended.records) == ["Interrupted", "OutcomeUnknownError"]


def test_nobody_reads(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """When stdout's reader is gone the run stops without a traceback, and outcomes.jsonl has every id."""
    process = cli.start("bulk", write(tmp_path, *[TEXT] * 200), "--out", tmp_path, "--max-concurrency", 1)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read().decode()
    assert process.wait(30) == 141
    assert "Traceback" not in err
    written = [json.loads(line) for line in (tmp_path / "outcomes.jsonl").read_text().splitlines()]
    assert sorted(each["id"] for each in written) == sorted(each.id for each in service.world.jobs.values())

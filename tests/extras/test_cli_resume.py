"""A run with a ledger, stopped and killed in every way: the same command or `resume` goes on, each item ends once."""

import json
import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neuralbox_async import Ledger
from neuralbox_async.extras.cli.books import compared
from neuralbox_async.sandbox import Sandbox, faults

CLIPS = [{"model": "kling-v2.1", "prompt": f"clip {number}", "scene": number} for number in range(4)]
TEXT = {"model": "gpt-5", "prompt": "Hello", "key": "hello"}
OFTEN = ("--poll-interval", 0.05)
Until = Callable[[Callable[[], bool]], None]


def write(tmp_path: Path, *lines: object, name: str = "prompts.jsonl") -> Path:
    """Write a file of JSON lines."""
    path = tmp_path / name
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def outcomes(tmp_path: Path) -> list[dict[str, Any]]:
    """Return the lines of outcomes.jsonl, by their place in the input."""
    lines = (tmp_path / "out" / "outcomes.jsonl").read_text().splitlines()
    return sorted(map(json.loads, lines), key=lambda record: record["index"])


def test_the_same_command_again_costs_nothing(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """What is finished is neither paid nor told again, and counts as done."""
    file = write(tmp_path, TEXT, TEXT | {"key": "b", "prompt": "forbidden"}, {"prompt": "no model"})
    first = cli.run("bulk", file, "--out", tmp_path / "out")
    again = cli.run("bulk", file, "--out", tmp_path / "out")
    assert (first.code, again.code, again.out) == (1, 1, "")
    assert (tmp_path / "out" / "outcomes.jsonl").read_text() == first.out
    assert "1 done, 1 failed, 1 line not usable (2 of these before this run), 0 tokens" in again.err
    assert len(service.charges) == 1


def test_a_full_disk_is_one_line_of_error(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """outcomes.jsonl takes half a line more: the run stops, and the next one mends that."""
    resource = pytest.importorskip("resource")
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "outcomes.jsonl"
    path.write_text("[]\n" * 200_000)  # larger than whatever else is written
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    file = write(tmp_path, TEXT)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_050, before[1]))
    try:
        ended = cli.run("bulk", file, "--out", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (ended.code, ended.records[0]["key"]) == (1, "hello")
    assert ended.err.startswith("error: ")
    assert cli.run("resume", tmp_path / "out" / "run.db").code == 0
    assert json.loads(path.read_text().splitlines()[200_000])["key"] == "hello"
    assert len(service.charges) == 1


def test_a_killed_run_goes_on(cli: Any, service: Sandbox, tmp_path: Path, until: Until, monkeypatch: Any) -> None:
    """After kill -9, `resume` needs no flag and no folder: each item is paid once, saved, and has one line."""
    file = write(tmp_path, *CLIPS)
    process = cli.start("bulk", file, "--out", tmp_path / "out", "--max-concurrency", 2)
    until(lambda: service.booked >= 2)
    process.kill()
    cli.end(process)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    ended = cli.run("resume", "../out/run.db", *OFTEN)
    assert ended.code == 0, ended.err
    assert [(each["index"], each["scene"]) for each in outcomes(tmp_path)] == [(n, n) for n in range(4)]
    assert all(Path(each["path"]).read_bytes() for each in outcomes(tmp_path))
    assert service.booked == len(service.charges) == 4
    assert cli.run("resume", "../out/run.db").code == 0
    assert len(outcomes(tmp_path)) == 4


@pytest.mark.usefixtures("service")
def test_a_line_that_a_kill_has_cut_is_written_whole(cli: Any, tmp_path: Path) -> None:
    """Between the ledger's commit and the line anything may happen: the next run writes what is missing."""
    file = write(tmp_path, *[{**TEXT, "key": f"{number}"} for number in range(3)])
    first = cli.run("bulk", file, "--out", tmp_path / "out", "--max-concurrency", 1)
    path = tmp_path / "out" / "outcomes.jsonl"
    whole = path.read_text()
    path.write_text(whole[: -len(whole.splitlines()[-1]) // 2])  # the third is cut
    again = cli.run("bulk", file, "--out", tmp_path / "out")
    assert again.out == whole.splitlines(keepends=True)[-1]
    assert path.read_text() == whole == first.out


@pytest.mark.usefixtures("service")
def test_an_editor_that_takes_the_last_line_end_away(cli: Any, tmp_path: Path) -> None:
    """A last line that is whole stays, and the next one gets its own."""
    path = tmp_path / "out" / "outcomes.jsonl"
    cli.run("bulk", write(tmp_path, TEXT), "--out", tmp_path / "out")
    path.write_text(path.read_text().rstrip("\n"))
    cli.run("bulk", write(tmp_path, TEXT, TEXT | {"key": "b"}), "--out", tmp_path / "out")
    assert [each["key"] for each in outcomes(tmp_path)] == ["hello", "b"]


def test_what_is_in_doubt_has_no_line_until_it_is_settled(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """It is said, on stdout and by exit code 3; the file has the outcome when there is one."""
    service.order(faults.lost())
    service.order(faults.status(404), on="GET /user/history")
    file = write(tmp_path, TEXT)
    first = cli.run("bulk", file, "--out", tmp_path / "out")
    assert (first.code, outcomes(tmp_path)) == (3, [])
    assert first.records[0]["error"]["type"] == "OutcomeUnknownError"
    assert f"Left: 1 in doubt. Go on with: neuralbox resume {tmp_path}/out/run.db" in first.err
    again = cli.run("resume", tmp_path / "out" / "run.db")
    assert (again.code, [each["error"] for each in outcomes(tmp_path)]) == (0, [None])
    assert service.requests.posts == len(service.charges) == 1


def test_a_duplicate_of_the_infrastructure(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """One POST was booked twice: one is the item's, the other is told with its id."""
    service.order(faults.Fault(books=2, connection=faults.lost().connection))
    ended = cli.run("bulk", write(tmp_path, TEXT), "--out", tmp_path / "out", "--settle", 1)
    (record,) = ended.records
    (other,) = {18500, 18501} - {record["id"]}
    assert ended.code == 0
    assert f"surplus, booked and perhaps paid besides what was asked for: neuralbox wait {other}" in ended.err
    assert "2 more than the ledger says" in ended.err


def test_a_changed_request_under_an_old_key(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """An answer to another question is not taken for this one's: the line is an error."""
    cli.run("bulk", write(tmp_path, TEXT), "--out", tmp_path / "out")
    ended = cli.run("bulk", write(tmp_path, TEXT | {"prompt": "Bye"}), "--out", tmp_path / "out")
    assert ended.code == 1
    assert "Item 'hello' is in the ledger" in ended.records[0]["error"]["message"]
    assert service.requests.posts == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal(cli: Any, service: Sandbox, tmp_path: Path, until: Until, number: signal.Signals) -> None:
    """A signal leaves everything in the ledger, and says the command that goes on."""
    ledger = tmp_path / "my run.db"
    process = cli.start("bulk", write(tmp_path, *CLIPS), "--ledger", ledger, "--max-concurrency", 2)
    until(lambda: service.booked == 2)
    process.send_signal(number)
    ended = cli.end(process)
    assert (ended.code, ended.out) == (128 + number, "")
    assert f"Left: 2 under way, lines not read. Go on with: neuralbox resume '{ledger}'" in ended.err
    resumed = cli.run("resume", ledger, "--max-concurrency", 4, *OFTEN)
    assert (resumed.code, len(resumed.records), len(service.charges)) == (0, 4, 4)


def test_second_signal_leaves_at_once(cli: Any, service: Sandbox, tmp_path: Path, until: Until) -> None:
    """A POST without an answer is in doubt, in the ledger and by exit code 3, and the next run finds it."""
    service.order(faults.hang())
    process = cli.start("bulk", write(tmp_path, TEXT), "--out", tmp_path / "out")
    until(lambda: service.booked == 1)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert b"Ctrl-C again" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.wait(3)
    ended = cli.end(process)
    assert ended.code == 3
    assert "Left: 1 in doubt." in ended.err
    assert cli.run("resume", tmp_path / "out" / "run.db").code == 0
    assert service.requests.posts == len(service.charges) == 1


def test_empty_account(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """After a 402 the run says how to go on; with new tokens `resume` does the rest."""
    service.world.account.tokens = 5
    file = write(tmp_path, *[{**TEXT, "key": f"{number}"} for number in range(4)])
    first = cli.run("bulk", file, "--out", tmp_path / "out", "--max-concurrency", 1)
    assert first.code == 4
    assert "Go on with: neuralbox resume" in first.err
    assert "2 done, 0 failed, 1 not sent, 4 tokens" in first.err
    assert "Balance 5 before, 1 after: 4 tokens less, as the ledger says." in first.err
    service.world.account.tokens = 100
    assert cli.run("resume", tmp_path / "out" / "run.db").code == 0
    assert [each["key"] for each in outcomes(tmp_path)] == ["0", "1", "2", "3"]


def test_budget(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """What might cost more than is left stops the run, over all runs together; a larger budget goes on."""
    file = write(tmp_path, *[{**TEXT, "key": f"{number}"} for number in range(9)])
    ledger = tmp_path / "out" / "run.db"
    stopped = cli.run("bulk", file, "--out", tmp_path / "out", "--max-concurrency", 1, "--budget", 5)
    assert stopped.code == 4
    assert "stopped: gpt-5 may cost 2 tokens, and the budget of 5 has 1 left" in stopped.err
    assert "resume with a larger --budget. No line after 3 was read." in stopped.err
    assert "2 done, 0 failed, 1 not sent, 4 tokens" in stopped.err
    assert (cli.run("resume", ledger).code, service.requests.posts) == (4, 2)
    assert (cli.run("resume", ledger, "--budget", 18).code, service.requests.posts) == (0, 9)


def test_budget_and_a_silent_pipe(cli: Any, service: Sandbox) -> None:
    """A run that may spend no more ends, though its input stays open."""
    process = cli.start("bulk", "-", "--budget", 1)
    assert process.stdin is not None
    process.stdin.write(json.dumps(TEXT).encode() + b"\n")
    process.stdin.flush()
    assert process.wait(30) == 4
    assert service.requests.posts == 0


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (100, 90, "Balance 100 before, 90 after: 10 tokens less, as the ledger says."),
        (100, 80, "20 tokens less, 10 more than the ledger says: what goes on, or something else, has spent them."),
        (100, 95, "5 tokens less, 5 fewer than the ledger says: tokens were added, or are not booked yet."),
        (100, 400, "400 after: 300 tokens more, though the ledger says that 10 were spent: tokens were added."),
        (None, 90, None),
        (100, None, None),
    ],
)
def test_a_difference_is_told(before: int | None, after: int | None, says: str | None) -> None:
    """The balance is held against what is known to be spent, here 10 tokens; what nobody tells is not compared."""
    said = compared(before, after, 10, witness="the ledger")
    assert said == says if says is None else said is not None and says in said


def test_the_bill_adds_up_over_all_runs(cli: Any, service: Sandbox, tmp_path: Path, until: Until) -> None:
    """What was done while nobody looked is counted too; what somebody else has spent is told."""
    process = cli.start("bulk", write(tmp_path, *CLIPS), "--out", tmp_path / "out")
    until(lambda: service.booked == 4)
    process.kill()
    cli.end(process)
    ended = cli.run("resume", tmp_path / "out" / "run.db", *OFTEN)
    assert "Balance 1,500 before, 1,396 after: 104 tokens less, as the ledger says." in ended.err
    service.world.account.tokens -= 7
    again = cli.run("resume", tmp_path / "out" / "run.db")
    assert "111 tokens less, 7 more than the ledger says" in again.err


def test_stdin_cannot_be_read_again(cli: Any, service: Sandbox, tmp_path: Path, until: Until) -> None:
    """What was read of it is in the ledger with its own fields, and is finished."""
    process = cli.start("bulk", "-", "--out", tmp_path / "out")
    assert process.stdin is not None
    process.stdin.write(b"".join(json.dumps(each).encode() + b"\n" for each in CLIPS[:2]))
    process.stdin.flush()
    until(lambda: service.booked == 2)
    process.kill()
    cli.end(process)
    ended = cli.run("resume", tmp_path / "out" / "run.db", *OFTEN)
    assert ended.code == 0, ended.err
    assert "stdin cannot be read again" in ended.err
    assert [(each["line"], each["scene"]) for each in outcomes(tmp_path)] == [(1, 0), (2, 1)]


@pytest.mark.usefixtures("service")
def test_everything_is_remembered_but_the_key(cli: Any, service: Sandbox, tmp_path: Path, monkeypatch: Any) -> None:
    """The ledger knows each option and where the service is; what `resume` is given counts instead."""
    cli.run(*f"bulk {write(tmp_path, TEXT)} --out {tmp_path}/out --param a=1 --timeout 50 --settle 3".split())
    ledger = tmp_path / "out" / "run.db"
    monkeypatch.delenv("NEURALBOX_BASE_URL")
    assert cli.run("resume", ledger, "--max-concurrency", 3, "--resubmit-absent").code == 0
    with Ledger(ledger) as file:
        settings = dict(file.settings)
    assert settings["file"] == str(tmp_path / "prompts.jsonl")
    assert (settings["timeout"], settings["settle"], settings["max_concurrency"]) == (50, 3, 3)
    assert settings["defaults"] == {"model": None, "params": {"a": 1}}
    assert settings["resubmit_absent"] is True
    assert settings["plan"] == "elite"
    with sqlite3.connect(ledger) as connection:
        assert service.key not in "\n".join(connection.iterdump())
    connection.close()


@pytest.mark.usefixtures("service")
def test_another_accounts_ledger(cli: Any, tmp_path: Path, monkeypatch: Any, sandbox: Sandbox) -> None:
    """It is refused before anything is sent, and keeps its own settings."""
    cli.run("bulk", write(tmp_path, TEXT), "--out", tmp_path / "out")
    monkeypatch.setenv("NEURALBOX_BASE_URL", os.environ["NEURALBOX_BASE_URL"].replace("127.0.0.1", "localhost"))
    posts = sandbox.requests.posts
    ended = cli.run("bulk", write(tmp_path, TEXT, name="other.jsonl"), "--out", tmp_path / "out")
    assert ended.code == 2
    assert "was begun with another base URL" in ended.err
    with Ledger(tmp_path / "out" / "run.db") as ledger:
        assert ledger.settings["file"] == str(tmp_path / "prompts.jsonl")
    assert sandbox.requests.posts == posts


def test_a_ledger_in_use(cli: Any, service: Sandbox, tmp_path: Path, until: Until) -> None:
    """Two runs never share one: the second says which process has it."""
    file = write(tmp_path, *CLIPS)
    process = cli.start("bulk", file, "--out", tmp_path / "out")
    until(lambda: service.booked == 4)
    ended = cli.run("bulk", file, "--out", tmp_path / "out")
    assert (ended.code, ended.out) == (2, "")
    assert f"is in use by another process (pid {process.pid})" in ended.err


def test_what_resume_cannot_do(cli: Any, tmp_path: Path) -> None:
    """No ledger, or one of another program: one line, exit code 2."""
    missing = cli.run("resume", tmp_path / "run.db")
    Ledger.create(tmp_path / "run.db").close()
    foreign = cli.run("resume", tmp_path / "run.db")
    assert (missing.code, foreign.code) == (2, 2)
    assert "There is no ledger" in missing.err
    assert "does not say what its run was asked to do" in foreign.err
    assert missing.err.count("\n") == foreign.err.count("\n") == 1


def test_an_input_that_is_gone(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """It must be put back: nobody knows which of its lines were not read."""
    file = write(tmp_path, TEXT)
    cli.run("bulk", file, "--out", tmp_path / "out")
    file.unlink()
    asked = service.requests.total
    ended = cli.run("resume", tmp_path / "out" / "run.db")
    assert (ended.code, service.requests.total) == (2, asked)
    assert f"{file} cannot be read: No such file or directory." in ended.err

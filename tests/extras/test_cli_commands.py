"""`generate`, `wait`, `balance` and `sandbox`, and the way in: what stdout gets, and which exit code."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from neuralbox_async import AsyncNeuralBox
from neuralbox_async.extras.cli.commands import app
from neuralbox_async.extras.cli.server import greeting
from neuralbox_async.sandbox import Sandbox, faults

RESULT = ["id", "status", "text", "url", "path", "tokens_spent", "error"]
Until = Callable[[Callable[[], bool]], None]


def submit(sandbox: Sandbox, *prompts: str) -> list[int | str]:
    """Submit clips as another program does, and return their ids."""

    async def main() -> list[int | str]:
        async with AsyncNeuralBox() as nb:
            return [(await nb.submit("kling-v2.1", prompt)).id for prompt in prompts]

    ids = anyio.run(main)
    assert len(sandbox.world.jobs) >= len(ids)
    return ids


@pytest.mark.usefixtures("service")
def test_generate_text(cli: Any) -> None:
    """A text is all that stdout gets."""
    ended = cli.run("generate", "gpt-5", "Hello")
    assert ended.code == 0
    assert "Hello" in ended.out
    assert ended.err == ""


def test_generate_a_file(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """With --out stdout gets the path of the file; --param reaches the service."""
    ended = cli.run("generate", "dall-e-3", "A fox", "--param", "quality=hd", "--out", tmp_path / "fox.png")
    assert ended.code == 0
    assert ended.out == f"{tmp_path}/fox.png\n"
    assert (tmp_path / "fox.png").read_bytes().startswith(b"\x89PNG")
    assert service.charges[0].tokens == 13


@pytest.mark.usefixtures("service")
def test_generate_json(cli: Any) -> None:
    """--json writes one object with all there is to know."""
    (record,) = cli.run("generate", "dall-e-3", "A fox", "--json").records
    assert list(record) == ["key", "model", "prompt", "params", *RESULT]
    assert record["url"].endswith(".png")
    assert record["error"] is None


@pytest.mark.parametrize(
    ("fault", "code", "says"),
    [
        (faults.lost(), 3, "its outcome is unknown"),
        (faults.lost(), 3, "look for it in the history, with neuralbox history, before"),
        (faults.status(422, "validation_error"), 1, "422"),
        (faults.status(402, "insufficient_tokens"), 4, "402"),
        (faults.status(403, "insufficient_plan"), 4, "403"),
    ],
)
def test_generate_meets_an_error(cli: Any, service: Sandbox, fault: faults.Fault, code: int, says: str) -> None:
    """An error is one line on stderr, and its exit code says what to do next."""
    service.order(fault)
    ended = cli.run("generate", "gpt-5", "Hello")
    assert ended.code == code
    assert ended.out == ""
    assert ended.err.startswith("error: ")
    assert says in ended.err


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize(("prompt", "code", "says"), [("forbidden", 1, "content policy violation"), ("", 2, "prompt")])
def test_generate_fails(cli: Any, prompt: str, code: int, says: str) -> None:
    """A generation that fails is exit code 1, one that cannot be asked for is 2."""
    ended = cli.run("generate", "gpt-5", prompt)
    assert ended.code == code
    assert ended.out == ""
    assert ended.err.startswith("error: ")
    assert says in ended.err
    assert "Traceback" not in ended.err


FOREIGN = {"id": 7, "status": "completed", "result_url": "https://cdn.example.com/7.png", "tokens_spent": 5}


def test_result_on_a_foreign_host(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """What was paid for and cannot be fetched is no usage error: its id and the way to it are told."""
    service.order(faults.status(200, body=FOREIGN))
    ended = cli.run("generate", "dall-e-3", "A fox", "--out", f"{tmp_path}/a b/", "--json")
    (record,) = ended.records
    assert ended.code == 1
    assert (record["id"], record["error"]["generation_id"]) == (7, 7)
    assert record["error"]["message"].startswith("generation 7: The result lies on cdn.example.com")
    assert "add --file-host cdn.example.com." in ended.err
    assert f"Get it with: neuralbox wait 7 --out '{tmp_path}/a b/'" in ended.err


def test_file_host(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """With --file-host a host that we do not know may be asked; its 403 is about the file alone."""
    service.order(faults.status(200, body={**FOREIGN, "result_url": "https://no-such-host.invalid/7.png"}))
    hosts = ["--file-host", "other.invalid", "--file-host", "No-Such-Host.invalid"]
    ended = cli.run("generate", "dall-e-3", "A fox", "--out", f"{tmp_path}/", *hosts, "--timeout", 2)
    assert ended.code == 1
    assert "host this client does not know" not in ended.err
    assert "generation 7: " in ended.err


def test_storage_that_refuses(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """A 403 of the storage host is about one file: exit code 1, not 4."""
    service.order(faults.status(403), on="GET /generations/{name}")
    ended = cli.run("generate", "dall-e-3", "A fox", "--out", f"{tmp_path}/")
    (job,) = service.world.jobs.values()
    assert ended.code == 1
    assert ended.err.startswith(f"error: generation {job.id}: ")
    assert f"neuralbox wait {job.id} --out {tmp_path}/" in ended.err


@pytest.mark.parametrize("command", [["generate", "gpt-5", "Hello"], ["wait", "18500"], ["wait", "18500", "18501"]])
@pytest.mark.parametrize("out", [f"{__file__}/x/", f"{__file__}/x"])
def test_place_that_cannot_be_written(cli: Any, service: Sandbox, command: list[str], out: str) -> None:
    """A result that could not be saved is not asked for."""
    ended = cli.run(*command, "--out", out)
    assert ended.code == 2
    assert ended.err.startswith(f"error: --out {out}")
    assert ended.err.count("\n") == 1
    assert service.requests.total == 0


@pytest.mark.parametrize("command", [["generate", "gpt-5", "Hello"], ["bulk", "-"]])
@pytest.mark.parametrize("out", ["~", "~/clips", "~/clips/"])
def test_a_home_that_the_shell_did_not_fill_in(cli: Any, service: Sandbox, command: list[str], out: str) -> None:
    """After `--out=` a shell leaves `~` as it is: no folder of that name is made, and nothing is paid for."""
    ended = cli.run(*command, f"--out={out}")
    assert ended.code == 2
    assert "has a ~ that the shell did not fill in" in ended.err
    assert service.requests.total == 0
    assert not Path("~").exists()


def test_what_is_no_file_is_not_replaced(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """A result takes the place of a file, and of nothing else: not of a pipe or a device."""
    os.mkfifo(tmp_path / "pipe")
    ended = cli.run("generate", "gpt-5", "Hello", "--out", tmp_path / "pipe")
    assert ended.code == 2
    assert "is neither a file nor a folder" in ended.err
    assert (tmp_path / "pipe").is_fifo()
    assert service.requests.total == 0


@pytest.mark.usefixtures("service")
def test_nothing_is_left_beside_the_result(cli: Any, tmp_path: Path) -> None:
    """Trying the folder leaves no trace in it."""
    assert cli.run("generate", "gpt-5", "Hello", "--out", f"{tmp_path}/new/answer.txt").code == 0
    assert [each.name for each in (tmp_path / "new").iterdir()] == ["answer.txt"]


def test_prompt_that_begins_with_a_hyphen(cli: Any, service: Sandbox) -> None:
    """A prompt that looks like an option leads to the two hyphens that go before it."""
    ended = cli.run("generate", "gpt-5", "- Hello")
    assert ended.code == 2
    assert "A prompt that begins with a hyphen wants -- before it" in ended.err
    assert ended.err.count("\n") == 1
    assert "wants --" not in cli.run("balance", "--nonsense").err
    assert cli.run("generate", "gpt-5", "--", "- Hello").code == 0
    assert [job.prompt for job in service.world.jobs.values()] == ["- Hello"]


def test_http_elsewhere(cli: Any, service: Sandbox) -> None:
    """What the library lets a program do and the command line does not is not advised."""
    ended = cli.run("generate", "gpt-5", "Hello", "--base-url", "http://example.com/")
    assert ended.code == 2
    assert "does not support http:// on another host" in ended.err
    assert "allow_insecure_http" not in ended.err
    assert service.requests.total == 0


def test_generate_interrupted(cli: Any, service: Sandbox, until: Until) -> None:
    """Ctrl-C leaves with the id of what goes on, for `neuralbox wait`."""
    service.order(faults.delay(60), on="GET /generate/{id}", times=None)
    process = cli.start("generate", "kling-v2.1", "A flower", "--json")
    until(lambda: service.booked == 1)
    process.send_signal(signal.SIGINT)
    ended = cli.end(process)
    (record,) = ended.records
    assert ended.code == 130
    assert str(record["id"]) in service.world.jobs
    assert record["error"]["type"] == "Interrupted"
    assert f"goes on at the service. Get it with: neuralbox wait {record['id']}" in ended.err


def test_generate_cut_short(cli: Any, service: Sandbox, until: Until) -> None:
    """A POST that hangs when Ctrl-C comes twice is in doubt, and says so."""
    service.order(faults.hang())
    process = cli.start("generate", "gpt-5", "Hello", "--json")
    until(lambda: service.requests.posts == 1)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert b"Ctrl-C again" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.wait(3)
    ended = cli.end(process)
    assert ended.code == 3
    assert ended.records[0]["error"]["type"] == "OutcomeUnknownError"


@pytest.mark.parametrize("command", ["generate", "stream"])
@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.usefixtures("service")
def test_nobody_reads(cli: Any, command: str, options: list[str]) -> None:
    """When stdout's reader is gone a command ends as a pipe's part does: with 141, without a word of the pipe."""
    process = cli.start(command, "gpt-5", "Hello", *options)
    process.stdout.close()
    err = process.stderr.read().decode()
    assert process.wait(30) == 141
    assert "Traceback" not in err
    assert "Broken pipe" not in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full is Linux's")
@pytest.mark.parametrize(
    "command", [("balance",), ("generate", "gpt-5", "Hello"), ("generate", "gpt-5", "Hello", "--json")]
)
def test_a_stdout_that_is_full(cli: Any, service: Sandbox, command: tuple[str, ...]) -> None:
    """It is one line on stderr, behind what was paid for."""
    with Path("/dev/full").open("w") as full:
        ended = cli.end(cli.start(*command, stdout=full))
    *said, error = ended.err.splitlines()
    assert ended.code == 1
    assert error.startswith("error: [Errno 28]")
    assert [bool(each) for each in said[-1:]] == [True for _ in service.charges]


def test_wait_for_one(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """A generation begun elsewhere is waited for and saved."""
    (clip,) = submit(service, "A flower")
    ended = cli.run("wait", clip, "--out", f"{tmp_path}/", "--poll-interval", 0.05)
    assert ended.code == 0
    assert ended.out == f"{tmp_path}/{clip}.gif\n"
    assert service.requests.posts == 1


def test_wait_for_several(cli: Any, service: Sandbox) -> None:
    """Each of several comes with its id in front; one that failed makes exit code 1."""
    good, bad = submit(service, "A flower", "forbidden")
    ended = cli.run("wait", good, bad, good, "--poll-interval", 0.05)
    assert ended.code == 1
    assert ended.out == f"{good}\thttp{ended.out.partition('http')[2]}"
    assert ended.out.count("\n") == 1
    assert f"Generation {bad} failed" in ended.err


def test_wait_json(cli: Any, service: Sandbox) -> None:
    """--json writes one object for each, unknown ids as well."""
    (clip,) = submit(service, "A flower")
    ended = cli.run("wait", clip, "gen_unknown", "--json", "--poll-interval", 0.05)
    found = {record["id"]: record for record in ended.records}
    assert list(found[clip]) == RESULT
    assert found[clip]["status"] == "completed"
    assert found[None]["error"]["type"] == "NotFoundError"
    assert ended.code == 1


@pytest.mark.parametrize(
    "options",
    [["18500", "--timeout", 0], ["18500", "--poll-interval", 0], ["18500", "--base-url", "ftp://x"], [""]],
    ids=["timeout", "poll interval", "base URL", "id"],
)
@pytest.mark.usefixtures("service")
def test_wait_that_cannot_begin(cli: Any, options: list[object]) -> None:
    """One line says why; nobody was interrupted in waiting."""
    ended = cli.run("wait", *options)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["wait"], "wait wants ID."),
        (["retry-failed"], "retry-failed wants LEDGER."),
        (["wait", "1", "--timeout"], "--timeout wants a value."),
        (["wait", "1", "--out", "a", "--out", "b"], "--out is given more than once."),
        (["generate", "gpt-5", "Hi", "there"], "More than is wanted: 'there'. What belongs together goes in quotes."),
    ],
)
def test_arguments_that_do_not_fit(cli: Any, arguments: list[str], said: str) -> None:
    """What is missing, or too much, is said in a person's words."""
    ended = cli.run(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == f"error: {said} See neuralbox {arguments[0]} --help.\n"


@pytest.mark.usefixtures("service")
def test_balance(cli: Any) -> None:
    """The balance is a line for a person, or JSON."""
    assert cli.run("balance").out.startswith("1,500 tokens, plan elite")
    (record,) = cli.run("balance", "--json").records
    assert (record["token_balance"], record["plan"]) == (1500, "elite")
    assert list(record) == ["token_balance", "plan", "plan_expires_at"]


def test_balance_in_time(cli: Any, service: Sandbox) -> None:
    """A balance is not waited for longer than --timeout."""
    service.order(faults.delay(30), on="GET /balance", times=None)
    ended = cli.run("balance", "--timeout", 0.2)
    assert ended.code == 1
    assert "give a longer --timeout" in ended.err
    assert "[default: 30" in cli.run("balance", "--help").out


def test_balance_with_a_refused_key(cli: Any, service: Sandbox) -> None:
    """A refused key is exit code 4."""
    service.key = service.world.key = "nb_another_key"
    assert cli.run("balance").code == 4


def test_nobody_answers(cli: Any, service: Sandbox) -> None:
    """A network that is down shows on stderr while it is retried."""
    service.order(faults.refuse(), on="GET /balance", times=2)
    ended = cli.run("balance")
    assert ended.code == 0
    assert "balance: retry 1 in " in ended.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_sandbox(cli: Any, monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    """The sandbox's two lines, pasted, lead every command there; a signal closes it and says what it was asked."""
    process = cli.start("sandbox", "--port", 0, "--plan", "vip", "--speed", 200, "--balance", 77)
    assert process.stdout is not None
    for _ in range(2):
        name, _, value = process.stdout.readline().decode().strip().removeprefix("export ").partition("=")
        monkeypatch.setenv(name, value)
    assert cli.run("balance").out.startswith("77 tokens, plan vip")
    assert cli.run("generate", "gpt-5", "Hello").code == 0
    process.send_signal(number)
    ended = cli.end(process)
    assert ended.code == 128 + number
    assert "2 requests, 1 charge, 2 tokens" in ended.err
    assert "Add --poll-interval 0.2 to generate, wait and bulk" in ended.err


def test_wait_with_a_refused_key(cli: Any, service: Sandbox) -> None:
    """A refused key is exit code 4 for one id and for several."""
    service.key = service.world.key = "nb_another_key"
    assert cli.run("wait", 1).code == 4
    assert cli.run("wait", 1, 2).code == 4


@pytest.mark.parametrize(("speed", "advice"), [(1, None), (20, "0.25"), (1000, "0.2")])
def test_sandbox_greets(speed: float, advice: str | None) -> None:
    """A sandbox whose time runs faster says how often to look."""
    said = greeting(Sandbox(speed=speed))
    assert said.startswith("A sandbox is open: plan vip, 1,500 tokens, ")
    assert said.count("\n") == (advice is not None)
    assert advice is None or f"Add --poll-interval {advice} to" in said


@pytest.mark.parametrize(
    "arguments", [["--port", "99999"], ["--speed", "0"], ["--balance", "-1"], ["--plan", "gold"], ["--port", "x"]]
)
def test_sandbox_that_cannot_be(cli: Any, arguments: list[str]) -> None:
    """A sandbox that cannot be opened is a usage error of one line."""
    ended = cli.run("sandbox", *arguments)
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1


def test_help_teaches(cli: Any) -> None:
    """Help has the exit codes, an example to begin with, and the only place of the key."""
    ended = cli.run("--help")
    assert ended.code == 0
    for part in ("neuralbox demo", "NEURALBOX_API_KEY", "130", "it may be charged", "stdout"):
        assert part in ended.out
    assert "outcomes.jsonl" in cli.run("bulk", "--help").out


@pytest.mark.parametrize("command", sorted(name for name in app if not name.startswith("-")))
def test_examples_stand_out(cli: Any, command: str) -> None:
    """Every command's help sets its examples off from its sentences."""
    lines = cli.run(command, "--help").out.splitlines()
    assert [line for line in lines if line.startswith("neuralbox ")] == []


def test_version(cli: Any) -> None:
    """--version is one line."""
    assert cli.run("--version").out.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "leads_to"),
    [
        (["nonsense"], "neuralbox --help"),
        (["--nonsense"], "neuralbox --help"),
        (["generate"], "neuralbox generate --help"),
        (["generate", "gpt-5", "Hello", "--nonsense"], "neuralbox generate --help"),
        (["retry-failed", "no.db"], "neuralbox retry-failed --help"),
    ],
)
def test_unknown_arguments(cli: Any, arguments: list[str], leads_to: str) -> None:
    """What the command line does not know is a usage error of one line that leads to the help of its command."""
    ended = cli.run(*arguments)
    assert ended.code == 2
    assert ended.err.endswith(f"See {leads_to}.\n")
    assert ended.err.count("\n") == 1


def test_missing_extra() -> None:
    """Without the extra the command says what to install, and nothing else."""
    script = "import sys; sys.modules['cyclopts'] = None; from neuralbox_async.__main__ import main; sys.exit(main())"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == 'error: the command line needs cyclopts: pip install "neuralbox-async[cli]"\n'


def test_the_way_in_is_light() -> None:
    """Whoever imports the way in loads nothing of the extra yet."""
    script = "import sys, neuralbox_async.__main__; print(json.dumps(sorted(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", f"import json, {script[7:]}"], capture_output=True, check=True)
    assert not {"cyclopts", "neuralbox_async.extras.cli"} & set(json.loads(ended.stdout))

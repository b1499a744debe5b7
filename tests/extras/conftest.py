"""A sandbox on a real port in a thread of its own, and the command line beside it, in this process or its own."""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest
from attrs import define, field, frozen

from neuralbox_async.extras.cli import run_command
from neuralbox_async.sandbox import Sandbox, serve

SECONDS_TO_START = 20


@frozen(kw_only=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """Return the JSON lines of stdout."""
        return [json.loads(line) for line in self.out.splitlines()]


@define
class Cli:
    """Runs commands against the sandbox."""

    capsys: pytest.CaptureFixture[str]
    running: list["subprocess.Popen[bytes]"] = field(factory=list["subprocess.Popen[bytes]"])

    def run(self, *arguments: object) -> Ended:
        """Run a command in this process."""
        code = run_command([str(each) for each in arguments])
        out, err = self.capsys.readouterr()
        return Ended(code=code, out=out, err=err)

    def start(self, *arguments: object, stdout: Any = subprocess.PIPE) -> "subprocess.Popen[bytes]":
        """Start a command in a process of its own."""
        command = [sys.executable, "-W", "error", "-m", "neuralbox_async", *map(str, arguments)]
        pipe = subprocess.PIPE
        self.running.append(subprocess.Popen(command, stdin=pipe, stdout=stdout, stderr=pipe))
        return self.running[-1]

    def end(self, process: "subprocess.Popen[bytes]", given: bytes | None = None) -> Ended:
        """Wait for a process and return what it wrote from now on."""
        out, err = process.communicate(given, timeout=60)
        return Ended(code=process.returncode, out=(out or b"").decode(), err=err.decode())


@pytest.fixture
def sandbox() -> Sandbox:
    """Return a sandbox in which a minute takes 0.3 s."""
    return Sandbox(speed=200, plan="elite")


@pytest.fixture
def service(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """Serve the test's sandbox, and let the environment lead there."""
    with served(sandbox) as base_url:
        monkeypatch.setenv("NEURALBOX_BASE_URL", base_url)
        monkeypatch.setenv("NEURALBOX_API_KEY", sandbox.key)
        yield sandbox


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """Return a runner of commands; what still runs at the end is killed."""
    cli = Cli(capsys)
    yield cli
    for process in cli.running:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def served(sandbox: Sandbox) -> Iterator[str]:
    """Serve a sandbox in a thread and give its base URL."""
    ready, found = threading.Event(), list[Any]()

    async def main() -> None:
        stop = anyio.Event()
        async with serve(sandbox) as base_url:
            found.extend([base_url, anyio.lowlevel.current_token(), stop])
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=anyio.run, args=(main,))
    thread.start()
    assert ready.wait(SECONDS_TO_START)
    base_url, token, stop = found
    try:
        yield base_url
    finally:
        anyio.from_thread.run_sync(stop.set, token=token)
        thread.join()


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], None]:
    """Return a function that waits until something is so."""

    def wait(so: Callable[[], bool]) -> None:
        for _ in range(1_000):
            if so():
                return
            threading.Event().wait(0.02)
        raise AssertionError("it never came about")

    return wait

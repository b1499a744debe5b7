"""Every Python example of the README and of docs/ runs, as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from neuralbox_async.sandbox import Sandbox, serve

ROOT = Path(__file__).parents[1]
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))))
EXAMPLES = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: str(EXAMPLES.index(example)))
def test_example(example: str, tmp_path: Path) -> None:
    """A copy of the example into a file runs without a warning, against a sandbox where it names no service."""

    async def run() -> subprocess.CompletedProcess[bytes]:
        sandbox = Sandbox(speed=60)
        async with serve(sandbox) as base_url:
            service = {"NEURALBOX_BASE_URL": base_url, "NEURALBOX_API_KEY": sandbox.key}
            command = [sys.executable, "-W", "error", "-c", example]
            return await anyio.run_process(command, cwd=tmp_path, env=os.environ | service, check=False)

    ended = anyio.run(run)
    assert (ended.returncode, ended.stderr.decode()) == (0, "")
    assert ended.stdout


def test_there_are_examples() -> None:
    """The pattern finds the examples; a README without any would pass everything."""
    assert len(EXAMPLES) >= 6


def test_the_page_on_security_names_tests_that_exist() -> None:
    """Each rule's test can be found under the name that the page gives it."""
    tests = ROOT / "tests"
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`[^`]*?(test_\w+)`", page)) - {path.stem for path in tests.rglob("*.py")}
    everything = "".join(path.read_text(encoding="utf-8") for path in tests.rglob("*.py"))
    assert len(names) > 20
    assert [name for name in names if f"def {name}(" not in everything] == []

"""What is written beside the code is true: examples run as they stand there, and what they name exists."""

import os
import re
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

import neuralbox_async
from neuralbox_async import AsyncNeuralBox
from neuralbox_async.sandbox import Sandbox, serve

ROOT = Path(__file__).parents[1]
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))))
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
TESTS = [block for block in BLOCKS if "import pytest" in block]
EXAMPLES = [block for block in BLOCKS if block not in TESTS]


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


@pytest.mark.parametrize("example", TESTS, ids=lambda example: str(TESTS.index(example)))
def test_example_of_a_test(example: str, tmp_path: Path) -> None:
    """A copy of a test into a file passes under pytest."""
    (tmp_path / "test_yours.py").write_text(example, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "test_yours.py"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, "1 passed" in ended.stdout) == (0, True), ended.stdout


def test_there_are_examples() -> None:
    """The pattern finds the examples; a README without any would pass everything."""
    assert len(EXAMPLES) >= 6
    assert TESTS


def test_the_page_on_security_names_tests_that_exist() -> None:
    """Each rule's test can be found under the name that the page gives it."""
    tests = ROOT / "tests"
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`[^`]*?(test_\w+)`", page)) - {path.stem for path in tests.rglob("*.py")}
    everything = "".join(path.read_text(encoding="utf-8") for path in tests.rglob("*.py"))
    assert len(names) > 20
    assert [name for name in names if f"def {name}(" not in everything] == []


def test_the_pages_name_all_that_is_public() -> None:
    """A public name, or a method of the client, that no page tells of is one that nobody finds."""
    methods = [name for name in vars(AsyncNeuralBox) if not name.startswith("_")]
    words = set(re.findall(r"\w+", TEXT))
    assert len(methods) > 20
    assert [name for name in (*neuralbox_async.__all__, *methods) if name not in words] == []


def test_every_page_is_in_the_readme_s_table() -> None:
    """A page of docs/ that the README does not lead to is one that nobody reads."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = [path.name for path in ROOT.glob("docs/*.md")]
    assert pages
    assert [name for name in pages if f"(docs/{name})" not in readme] == []


def test_links_between_the_pages_lead_somewhere() -> None:
    """A link to a file of this repository names one that is there."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    links = [
        (page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    ]
    assert len(links) > 10
    assert [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()] == []


def test_the_map_names_every_file_of_the_house() -> None:
    """CONTRIBUTING's map has each file in its folder, and none that is gone."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    house = re.search(r"^neuralbox_async/\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert house is not None
    folders, named = [""], set[str]()
    for line in house[1].splitlines():
        depth = len(line[: line.index("─")]) // 4
        folders[depth + 1 :] = []
        folder = re.match(r"[│├└─ ]+(\w+/)", line)
        if folder:
            folders.append(folders[-1] + folder[1])
        named |= {folders[depth] + name for name in re.findall(r"\w+\.py", line)}
    package = ROOT / "neuralbox_async"
    files = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    assert {name for name in files if not name.endswith("/__init__.py")} == named

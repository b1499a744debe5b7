"""What can be run on this project, each in an environment of its own: `nox -l` lists it.

Needs Python with pip and nothing else. Versions come from `constraints.txt`, so that a run today and a run next year
install the same; `nox -s constraints` renews it.
"""

import json
import re
import sys
from itertools import chain
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.sessions = ["tests", "lint"]
nox.options.default_venv_backend = "virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False  # test on what this machine has, in CI too

PROJECT = nox.project.load_toml("pyproject.toml")
PINNED = "constraints.txt"
LOWEST = "constraints-lowest.txt"
PEERS = "constraints-bench.txt"
WHEEL = Path(".nox", "dist")
CURRENT = f"{sys.version_info.major}.{sys.version_info.minor}"
BESIDE = ("-n", "auto")  # as many tests beside each other as the machine has cores
# The running Python stands in the list even when it is newer than the list, so there is always one to test on.
PYTHONS = list(dict.fromkeys(["3.11", "3.12", "3.13", "3.14", CURRENT]))


def group(name: str) -> tuple[str, ...]:
    """Read a PEP 735 dependency group (pip learnt `--group` only in 25.1)."""
    return nox.project.dependency_groups(PROJECT, name)


@nox.session
def demo(session: nox.Session) -> None:
    """Generate a mixed batch against the sandbox, on this machine: no account, no key."""
    session.install("-c", PINNED, ".[cli]")
    session.run("neuralbox", "demo", *session.posargs, interrupt_timeout=5)


@nox.session(reuse_venv=True)  # it holds what builds, nothing of ours
def wheel(session: nox.Session) -> None:
    """Build the wheel that the tests install."""
    session.install("-c", PINNED, *PROJECT["build-system"]["requires"])
    for old in WHEEL.glob("*.whl"):
        old.unlink()
    session.run("pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(WHEEL), ".")


@nox.session(python=PYTHONS, requires=["wheel"], reuse_venv=False)
def tests(session: nox.Session) -> None:
    """Test the built wheel on every Python found, with branch coverage on the oldest; arguments go to pytest."""
    install_tests(session, PINNED)
    if session.posargs or session.python != PYTHONS[0]:
        session.run("pytest", *BESIDE, *session.posargs)
        return
    data = Path(session.virtualenv.location, "coverage").resolve()
    session.env.update(COVERAGE_FILE=str(data))
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *BESIDE)
    session.run("coverage", "combine", "-q")
    session.run("coverage", "report", "--fail-under=95")


@nox.session(requires=["wheel"], reuse_venv=False)
def lowest(session: nox.Session) -> None:
    """Test the built wheel with the lowest versions that pyproject.toml allows."""
    install_tests(session, LOWEST)
    session.run("pytest", *BESIDE, *session.posargs)


def install_tests(session: nox.Session, constraints: str) -> None:
    """Install the wheel and what tests it, with nothing imported from the work tree.

    The environment is never reused: pip would keep an installed wheel of the same version.
    """
    (built,) = WHEEL.glob("*.whl")
    session.install("-c", constraints, f"{built}[cli,aiohttp]", *group("test"))
    session.env.update(PYTHONSAFEPATH="1", NEURALBOX_TEST_WHEEL="1")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting, docstrings and types."""
    session.install("-c", PINNED, "-e", ".[cli,aiohttp]", *group("test"), *group("lint"), "nox")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("pyright", env={"PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"})


@nox.session
def kill(session: nox.Session) -> None:
    """Kill bulk runs again and again, and show that nothing is paid twice or lost; -- --kills 20 for a short one."""
    session.install("-c", PINNED, ".[sandbox]")
    session.run("python", "-m", "tests.kill", *session.posargs, interrupt_timeout=5)


@nox.session
def mutants(session: nox.Session) -> None:
    """Break our own code in many ways, one after the other, and show which test notices; arguments name some."""
    session.install("-c", PINNED, ".[cli,aiohttp]", *group("test"))
    session.run("python", "-m", "tests.mutants", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed beside other clients, on this machine; arguments name groups."""
    session.install("-c", PEERS, ".[aiohttp]", *group("bench"))
    session.run("python", "-m", "benchmarks", *session.posargs, interrupt_timeout=5)


@nox.session
def picture(session: nox.Session) -> None:
    """Draw the picture of the demo that the README shows."""
    session.install("-c", PINNED, ".[cli]")
    session.run("python", "docs/picture.py")


@nox.session
def curves(session: nox.Session) -> None:
    """Draw the picture of waiting that docs/waiting.md shows, measured anew."""
    session.install("-c", PEERS, ".[aiohttp]", *group("bench"))
    session.run("python", "-m", "benchmarks.curves")


@nox.session(python=PYTHONS[0])
def constraints(session: nox.Session) -> None:
    """Renew all files of pins: the newest versions, the lowest of what pyproject.toml names directly, the peers'."""
    build, project = PROJECT["build-system"]["requires"], PROJECT["project"]
    direct = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    lowest = [re.sub(r">=([\w.]+).*", r"==\1", requirement) for requirement in direct]
    pin(session, PINNED, *direct, *build, *group("test"), *group("lint"), "nox")
    pin(session, LOWEST, *lowest, *group("test"))
    pin(session, PEERS, *project["dependencies"], *project["optional-dependencies"]["aiohttp"], *group("bench"))


def pin(session: nox.Session, target: str, *requirements: str) -> None:
    """Write the versions that pip would install in an empty environment."""
    report = Path(session.create_tmp(), "report.json")
    session.run("pip", "install", "-q", "--dry-run", "--ignore-installed", "--report", str(report), *requirements)
    found = [item["metadata"] for item in json.loads(report.read_text(encoding="utf-8"))["install"]]
    pins = sorted(f"{package['name'].lower()}=={package['version']}" for package in found)
    Path(target).write_text("\n".join(["# Written by `nox -s constraints`.", *pins, ""]), encoding="utf-8")

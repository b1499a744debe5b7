"""Run groups of rows, each in a fresh Python, one after the other; print one table and write it down.

`nox -s bench` runs all, `nox -s bench -- http fan-out` some.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import asdict

from benchmarks.rows import Row, table

GROUPS = [
    "http",
    "load",
    "connections",
    "peers",
    "files",
    "fan-out",
    "pending",
    "ledger",
    "virtual-time",
    "imports",
    "pacing",
]
ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).with_name("results")
SHOWN_VERSIONS = ["httpx", "httpcore", "anyio", "aiohttp", "httpx-aiohttp", "openai", "anthropic", "replicate"]
SHOWN_VERSIONS += ["fal-client", "trio"]


def main(arguments: Sequence[str]) -> int:
    """Run the groups named, or all; return 0 even where a goal is missed: a figure is no test."""
    unknown = [name for name in arguments if name not in GROUPS]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; the groups are {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    rows = [row for name in arguments or GROUPS for row in in_a_fresh_python(name)]
    rows.sort(key=lambda row: int(row.number) if row.number.isdigit() else 0)
    about = circumstances()
    print(f"\n{describe(about)}\n\n{table(rows)}\n\n{verdict(rows)}")
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    file.write_text(json.dumps({**about, "rows": [asdict(row) for row in rows]}, indent=1), encoding="utf-8")
    print(f"written to {file}")
    return 0


def in_a_fresh_python(group: str) -> list[Row]:
    """Run a group where no other has left memory or threads behind."""
    print(f"{group} …", file=sys.stderr, flush=True)
    with TemporaryDirectory() as folder:
        file = Path(folder, "rows.json")
        command = [sys.executable, "-m", "benchmarks", "--only", group, str(file)]
        # As after an installation, Python finds bytecode, even of the package in the work tree.
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        kept["PYTHONPYCACHEPREFIX"] = folder
        subprocess.run(command, check=True, cwd=ROOT, env=kept)  # noqa: S603 - this very Python
        return [Row(**row) for row in json.loads(file.read_text(encoding="utf-8"))]


def only(group: str, file: str) -> int:
    """Run one group here and write its rows to a file."""
    rows: list[Row] = import_module(f"benchmarks.{group.replace('-', '_')}").rows()
    Path(file).write_text(json.dumps([asdict(row) for row in rows]), encoding="utf-8")
    return 0


def circumstances() -> dict[str, object]:
    """Return what a figure depends on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: found for name in SHOWN_VERSIONS if (found := installed(name))},
    }


def installed(name: str) -> str | None:
    """Return the version of a distribution, None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def describe(about: dict[str, object]) -> str:
    """Return the circumstances in two lines."""
    versions = about["versions"]
    named = ", ".join(f"{name} {found}" for name, found in versions.items()) if isinstance(versions, dict) else ""
    return f"{about['date']}, {about['machine']}, Python {about['python']}\n{named}"


def verdict(rows: Sequence[Row]) -> str:
    """Count the goals that are met."""
    goals = [row.ok for row in rows if row.ok is not None]
    return f"{sum(goals)} of {len(goals)} goals met"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--only"]:
        sys.exit(only(*sys.argv[2:4]))
    sys.exit(main(sys.argv[1:]))

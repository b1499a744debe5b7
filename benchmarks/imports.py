"""Row 14: what importing the package, and its client, costs beside the libraries it stands on: CPU time and modules.

Each import has a fresh Python, by turns, and finds its bytecode, as after an installation, even where the package is
imported from the work tree. And how many distributions an installation brings.
"""

import subprocess
import sys
from importlib.metadata import requires
from statistics import median, quantiles

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks.rows import Row, at_most, beside

BASE = "import anyio, attrs, cattrs, httpx, sniffio"
# anyio loads these when they are first used, as every program with a task and a lock does.
USED = f"{BASE}, anyio.abc, anyio.lowlevel, anyio.streams.memory"
# Public names are loaded when they are asked for: so this is what comes before any, and what a program really loads.
BARE = "import neuralbox_async"
CLIENT = "from neuralbox_async import AsyncNeuralBox"
PEERS = ("openai", "anthropic", "replicate", "fal_client")
PAIRS = 20
PROBE = """
import sys, time
began = time.process_time()
{statement}
print(time.process_time() - began, len(sys.modules))
"""


def rows() -> list[Row]:
    """Measure."""
    for statement in (BARE, CLIENT, BASE, USED):
        cost(statement)  # leaves the bytecode behind
    named = sorted(distributions("neuralbox-async"))
    base, base_modules = cost(BASE)
    loaded = cost(CLIENT)[1]
    return [
        against_the_base(BARE),
        against_the_base(CLIENT),
        at_most("14", f"{CLIENT}: modules beyond the base", 60, loaded - base_modules, detail=f"{loaded}"),
        at_most("14", "distributions of an installation", 11, len(named), detail=", ".join(named)),
        beside("14", "import of what we use of the base: CPU against the base", cost(USED)[0] / base, unit="x"),
        *[peer(name, base) for name in PEERS],
    ]


def against_the_base(statement: str) -> Row:
    """Show what a statement costs beside importing the base libraries, by turns."""
    spent = [(cost(statement)[0], cost(BASE)[0]) for _ in range(PAIRS)]
    ratios = [ours / base for ours, base in spent]
    low, _, high = quantiles(ratios, n=4)
    ours, base = median(ours for ours, _ in spent), median(base for _, base in spent)
    detail = f"{ours * 1e3:.0f} against {base * 1e3:.0f} ms; {PAIRS} pairs, quartiles {low:.2f} and {high:.2f}"
    work = f"{statement}: CPU against its base libraries"
    return at_most("14", work, 1.15, median(ratios), unit="x", detail=detail)


def peer(name: str, base: float) -> Row:
    """Show what importing another client costs."""
    seconds, modules = min(cost(f"import {name}") for _ in range(3))
    return beside(
        "14", f"import {name}: CPU against our base libraries", seconds / base, unit="x", detail=f"{modules:,} modules"
    )


def cost(statement: str) -> tuple[float, int]:
    """Return the CPU seconds of an import and the modules that are loaded after it."""
    command = [sys.executable, "-c", PROBE.format(statement=statement)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()  # noqa: S603 - this Python
    return float(said[0]), int(said[1])


def distributions(name: str) -> set[str]:
    """Return the names of a distribution and of all that it requires, without extras, on this Python and system."""
    found: set[str] = set()
    left = [name]
    while left:
        distribution = canonicalize_name(left.pop())
        if distribution in found:
            continue
        found.add(distribution)
        needed = [Requirement(line) for line in requires(distribution) or []]
        left += [each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found

"""The public names: there from the start, and each loaded when it is first asked for."""

import ast
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import neuralbox_async

TREE = ast.parse(Path(neuralbox_async.__file__).read_text(encoding="utf-8"))
# Asks for all names in many threads at once, each in an order of its own, and prints how many different things it got.
RACE = """
import random, sys, threading
import neuralbox_async

sys.setswitchinterval(1e-6)
names, start, got, failed = neuralbox_async.__all__, threading.Barrier(16), [], []
threading.excepthook = failed.append

def ask(seed):
    mine = random.Random(seed).sample(names, len(names))
    start.wait()
    got.append({name: getattr(neuralbox_async, name) for name in mine})

threads = [threading.Thread(target=ask, args=(seed,), daemon=True) for seed in range(16)]
for each in threads:
    each.start()
for each in threads:
    each.join(60)
print(len(failed), len(got), all(found[name] is got[0][name] for found in got for name in names))
"""


def run(script: str) -> list[str]:
    """Return the words that a script prints in a fresh Python."""
    command = [sys.executable, "-P", "-c", script]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def imported() -> dict[str, str]:
    """Return what type checkers take each name of the package for: the dotted name of what it is imported from."""
    found = [node for node in ast.walk(TREE) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in found if node.module and node.module.startswith("neuralbox_async.")]
    return {alias.asname or alias.name: f"{node.module}.{alias.name}" for node in ours for alias in node.names}


def test_what_is_loaded_is_what_type_checkers_see() -> None:
    """The table, the imports for type checkers and `__all__` have the same names, each from the same place, sorted."""
    table = neuralbox_async._LOADED_FROM  # noqa: SLF001 - the table itself is under test
    assert table == imported()
    assert list(table) == neuralbox_async.__all__ == sorted(neuralbox_async.__all__)


def test_import_loads_nothing_until_a_name_is_asked_for() -> None:
    """Whoever imports the package pays for the names that they use, and for no others."""
    script = "import sys, neuralbox_async; print(*[name for name in sys.modules if name.startswith('neuralbox_async')])"
    assert run(script) == ["neuralbox_async"]


def test_requests_and_errors_load_no_network() -> None:
    """A program that only makes requests, or only handles errors, does not load what sends them."""
    script = "import sys; from neuralbox_async import GenerationRequest, NeuralBoxError; print(*sys.modules)"
    ours = {"neuralbox_async._client", "neuralbox_async._edge.database"}
    assert not {"anyio", "cattrs", "httpx", *ours} & set(run(script))


def test_a_name_is_looked_up_once() -> None:
    """From its first use on a name is an ordinary global of the package."""
    script = """
import neuralbox_async
before = "Pacing" in vars(neuralbox_async)
asked = neuralbox_async.Pacing
print(before, vars(neuralbox_async)["Pacing"] is asked)
"""
    assert run(script) == ["False", "True"]


def test_dir_names_what_was_not_asked_for_yet() -> None:
    """Whoever explores the package finds every public name at once."""
    assert run("import neuralbox_async; print(set(neuralbox_async.__all__) <= set(dir(neuralbox_async)))") == ["True"]


def test_everything_can_be_imported_at_once() -> None:
    """`from neuralbox_async import *` brings every public name."""
    script = """
import neuralbox_async
from neuralbox_async import *
print(set(neuralbox_async.__all__) <= set(globals()))
"""
    assert run(script) == ["True"]


def test_help_shows_the_client_and_the_errors() -> None:
    """`help(neuralbox_async)` describes what was not asked for yet, too."""
    shown = run("import neuralbox_async; help(neuralbox_async)")
    assert {"AsyncNeuralBox", "OutcomeUnknownError", "Outcome"} <= {word.partition("(")[0] for word in shown}


def test_a_wrong_name_is_an_attribute_error_that_names_it() -> None:
    """A slip of the pen is told as in any other module."""
    with pytest.raises(AttributeError, match="module 'neuralbox_async' has no attribute 'Client'"):
        neuralbox_async.Client  # type: ignore[attr-defined] # noqa: B018


def test_an_error_unpickles_where_nothing_was_asked_for() -> None:
    """An error of another process can be read by whoever has the package, before they use any name of it."""
    pickled = pickle.dumps(neuralbox_async.LedgerError("broken"))
    assert run(f"import pickle; print(pickle.loads({pickled!r}).message)") == ["broken"]


def test_threads_that_ask_at_once_get_the_same() -> None:
    """The imports of the package form no circle, so threads can wait for each other's without harm."""
    assert run(RACE) == ["0", "16", "True"]

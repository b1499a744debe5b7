"""The house stands: its layers, its homes and its sizes, read from the package's own source."""

import ast
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import neuralbox_async

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "neuralbox_async"
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}

# From the ground up: a module imports only from lines above its own line. Every new module gets a place here.
LAYERS = [
    "_core.models _core.params",
    "_core.account",
    "_core.errors _core.strict_json",
    "_core.addresses _core.budget _core.multipart _core.names _core.replies _core.sse",
    "_blocks _core.options",
    "_core.api",
    "_core.events _core.herd _core.idle _core.known _core.ranges _core.windows",
    "_core.retry _core.pacing _core.limits _core.claims _core.rows _core.trouble",
    "_edge.clock _edge.log _edge.lock plain",
    "_edge.slots _edge.database _edge.bodies _edge.parts _edge.pinning _edge.turns",
    "_edge.ledger_table",
    "_edge.ledger",
    "_edge.once",
    "_edge.http",
    "_edge.fetch",
    "_edge.files _edge.stream _edge.upload _fan_out _history _models _reconcile _watches",
    "_pages",
    "_looks",
    "_following",
    "_spending",
    "_steps",
    "_life _stream",
    "_bulk _wiring",
    "_client",
    "__init__",
    "sandbox",
    "extras",
    "__main__",
]
LEVELS = {module: level for level, line in enumerate(LAYERS) for module in line.split()}

# The only files that may import an outside thing.
HOMES = {
    "httpx": {
        "_edge/bodies.py",
        "_edge/fetch.py",
        "_edge/http.py",
        "_edge/once.py",
        "_edge/slots.py",
        "_edge/stream.py",
        "plain.py",
        "sandbox/transport.py",
        "extras/aiohttp.py",
    },
    "sqlite3": {"_edge/database.py"},
    "time": {"_edge/clock.py"},
    "logging": {"_edge/log.py"},
}

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
BASE = ("anyio", "attrs", "cattrs", "httpx", "sniffio")
EXTRAS = ("aiohttp", "cyclopts", "httpx_aiohttp", "pytest", "rich", "trio", "uvicorn")


@cache
def imports(path: Path) -> list[tuple[str, str]]:
    """Return "file:line" and the dotted name of everything a file imports, typing-only and local imports too."""
    return list(_imports(path))


def _imports(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(TREES[path]):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        where = f"{path.relative_to(ROOT)}:{node.lineno}"
        if isinstance(node, ast.Import):
            yield from ((where, alias.name) for alias in node.names)
        else:
            above = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            source = ".".join([*above, *filter(None, [node.module])])
            yield from ((where, f"{source}.{alias.name}") for alias in node.names)


def layer(name: str) -> str:
    """Return the entry of LAYERS that a dotted name belongs to, "" if it is not ours; the package itself by default."""
    first, *rest = name.split(".")
    if first != "neuralbox_async":
        return ""
    return next((entry for entry in (".".join(rest[:2]), *rest[:1]) if entry in LEVELS), "__init__")


def layer_of_file(path: Path) -> str:
    """Return the entry of LAYERS that a file belongs to."""
    return layer(".".join(path.relative_to(ROOT).with_suffix("").parts))


@cache
def code_lines(path: Path) -> set[int]:
    """Return the numbers of a file's lines that are neither blank, nor comment, nor docstring."""
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    code = {number for number, line in lines if line.strip() and not line.lstrip().startswith("#")}
    for node in ast.walk(TREES[path]):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node):
            code -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return code


def loaded_by(statement: str) -> list[str]:
    """Return the modules that a statement loads in a fresh Python, beyond those that the base libraries load."""
    probe = f"""
import sys, {", ".join(BASE)}
for name in [name for name in sys.modules if name.partition(".")[0] in {EXTRAS}]:
    del sys.modules[name]  # httpx loads rich for its own command where it finds it
before = set(sys.modules)
{statement}
print(*sorted(set(sys.modules) - before))
"""
    command = [sys.executable, "-P", "-c", probe]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_every_module_has_a_place_in_the_layers() -> None:
    """A module without a layer could import anything, so only inner packages' bare docstrings go without."""
    public = PACKAGE / "__init__.py"
    lost = [path for path in TREES if layer_of_file(path) == "__init__" and path != public]
    lost = [path for path in lost if path.name != "__init__.py" or len(TREES[path].body) > 1]
    names = [str(path.relative_to(ROOT)) for path in lost]
    assert not names, f"give each of these a place in LAYERS, in tests/test_house.py: {names}"


def test_imports_point_down() -> None:
    """Nothing knows of what is built on top of it, so each layer can be read without those above."""
    up = []
    for path in TREES:
        here = layer_of_file(path)
        for where, name in imports(path):
            there = layer(name)
            within = there == here and here in {"sandbox", "extras"}
            if there and not within and LEVELS[there] >= LEVELS[here]:
                up.append(f"{where} imports {name}")
    assert not up, f"imports point down LAYERS; hand the thing in as a value, or move it to a lower module: {up}"


def test_sandbox_and_extras_use_public_names_only() -> None:
    """What the sandbox and the extras can do, any user's program can do."""
    private = [
        f"{where} imports {name}"
        for path in TREES
        if layer_of_file(path) in {"sandbox", "extras"}
        for where, name in imports(path)
        if layer(name) and not name.startswith(f"neuralbox_async.{layer_of_file(path)}.")
        if any(part.startswith("_") and not part.endswith("__") for part in name.split("."))
    ]
    assert not private, f"import the public name from neuralbox_async, or make the thing public there: {private}"


def test_main_only_hands_over_to_the_extras() -> None:
    """`python -m neuralbox_async` must be able to say which extra is missing, so it imports one only when it runs."""
    main = PACKAGE / "__main__.py"
    other = [f"{where} imports {name}" for where, name in imports(main) if layer(name) not in {"", "extras"}]
    tops = [ast.unparse(node) for node in TREES[main].body if isinstance(node, ast.Import | ast.ImportFrom)]
    early = [statement for statement in tops if "extras" in statement]
    assert not other, f"__main__.py imports nothing of the package but extras: {other}"
    assert not early, f"__main__.py imports an extra inside a function, not at its top: {early}"


def test_the_core_never_awaits() -> None:
    """Rules decide on values, so they are tested as tables without an event loop."""
    awaits = [
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', '?')}"
        for path in TREES
        if path.is_relative_to(PACKAGE / "_core")
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith | ast.Await)
        or (isinstance(node, ast.comprehension) and node.is_async)
    ]
    assert not awaits, f"_core decides and _edge touches: return a value and await in the caller: {awaits}"


@pytest.mark.parametrize("module", HOMES)
def test_each_outside_thing_has_one_home(module: str) -> None:
    """Whoever wants to know how the package meets the network, the disk, the clock or the log reads one file."""
    strays = [
        f"{where} imports {name}"
        for path in TREES
        if path.relative_to(PACKAGE).as_posix() not in HOMES[module]
        for where, name in imports(path)
        if name.split(".")[0] == module
    ]
    assert not strays, f"{module} is imported only in {sorted(HOMES[module])}; call what they offer: {strays}"


def test_files_are_short() -> None:
    """A file fits in one's head: at most 300 lines of code; docstrings, comments and blank lines do not count."""
    sizes = {str(path.relative_to(ROOT)): len(code_lines(path)) for path in TREES}
    long = {name: size for name, size in sizes.items() if size > 300}
    assert not long, f"split by rule, each part with a docstring that states its own: {long}"


def test_functions_are_short() -> None:
    """A function does one thing: at most 40 lines of code; docstrings, comments and blank lines do not count."""
    long = {}
    for path, tree in TREES.items():
        code = code_lines(path)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = len(code & set(range(node.lineno, (node.end_lineno or 0) + 1)))
                if size > 40:
                    long[f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"] = size
    assert not long, f"give a part of the function a name of its own: {long}"


@pytest.mark.parametrize("statement", ["from neuralbox_async import *", "from neuralbox_async.sandbox import *"])
def test_import_loads_no_extra(statement: str) -> None:
    """Whoever installs the package alone can ask for every public name, and pays for nothing that they do not use."""
    extras = [name for name in loaded_by(statement) if name.partition(".")[0] in EXTRAS]
    assert not extras, f"import these where they are used, not at the top of a module: {extras}"


def test_import_is_light() -> None:
    """Importing the client loads at most 60 modules more than the base libraries bring."""
    loaded = loaded_by("from neuralbox_async import AsyncNeuralBox")
    assert "neuralbox_async._client" in loaded
    assert len(loaded) <= 60, f"importing AsyncNeuralBox loads {len(loaded)} modules: {loaded}"


def test_each_mutant_meets_the_code_that_it_changes(tmp_path: Path) -> None:
    """`nox -s mutants` takes minutes, so a line that has moved away from its mutant is told here."""
    mutants = runpy.run_path(str(ROOT / "tests" / "mutants.py"))
    shutil.copytree(PACKAGE, tmp_path / PACKAGE.name)
    for mutant in mutants["MUTANTS"]:
        for changed in mutants["mutate"](tmp_path, mutant):
            shutil.copyfile(ROOT / changed, tmp_path / changed)


@pytest.mark.skipif("NEURALBOX_TEST_WHEEL" not in os.environ, reason="only nox tests the wheel: nox -s tests")
def test_the_wheel_is_what_is_tested() -> None:
    """Tests import the installed wheel, so a file that the wheel lacks fails here and not at a user's."""
    origin = Path(neuralbox_async.__file__)
    assert "site-packages" in origin.parts, f"{origin} is not the installed wheel: is PYTHONSAFEPATH=1 set?"
    assert (origin.parent / "py.typed").exists(), "the wheel lacks py.typed: type checkers would ignore the package"

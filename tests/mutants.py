"""Each way of breaking what keeps money safe is caught by the suite: a list of broken variants of our own code.

    nox -s mutants                      # or python -m tests.mutants; arguments name some

A mutant replaces a text, which must be there exactly once, in a copy of the package; the tests named with it run
against the copy and must fail. First they all run against a copy that is whole, and must pass.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import frozen

ROOT = Path(__file__).parent.parent
PACKAGE = "neuralbox_async"
LONGEST = 300  # seconds; a mutant may run for ever, which is being caught too

CLAIMS, RETRY, MONEY = "tests/core/test_claims.py", "tests/core/test_retry.py", "tests/test_money.py"
LEDGER, LEDGERS, DEATHS = "tests/edge/test_ledger.py", "tests/test_ledgers.py", "tests/test_deaths.py"
LOOKS = "tests/test_looks.py"
POSTS, CANCEL = "tests/edge/test_http_posts.py", "tests/edge/test_http_cancel.py"


@frozen
class Mutant:
    """A broken variant: what each text becomes, and where that must be noticed (a file, or a file and a -k)."""

    name: str
    changes: dict[str, str]
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "a timeout counts as not sent",
        {"not pulled and not isinstance(error, ResponseError)": "not isinstance(error, ResponseError)"},
        (RETRY, POSTS),
    ),
    Mutant(
        "no row before the POST: it is written with the answer",
        {
            "async def _sending(self, after_id: int | None) -> None:\n": (
                "async def _sending(self, after_id: int | None) -> None:\n        return\n"
            ),
            "        if self.row.state != rows.SENDING:\n            return\n": (
                "        await self._move(rows.SENDING, sent_at=clock.wall())\n"
            ),
        },
        (DEATHS, "asyncio and default and none"),
    ),
    Mutant(
        "a bare 502 is sent again",
        {'(500, "provider_error")}': '(500, "provider_error"), (502, None)}'},
        (RETRY, POSTS),
    ),
    Mutant(
        "a resumed run plans anew what was being sent",
        {"await self._ledger.move(row, rows.IN_DOUBT)": "await self._ledger.move(row, rows.PLANNED)"},
        (DEATHS, "asyncio and default and none"),
    ),
    Mutant(
        "no floor of ids",
        {"if entry.id <= intent.after_id:": "if False:"},
        (CLAIMS,),
    ),
    Mutant(
        "an older date does not count against a newer id",
        {"return None if is_later is False else True": "return True"},
        (CLAIMS,),
    ),
    Mutant(
        "no floor of dates",
        {"return None if earliest <= created < latest else created >= latest": "return True"},
        (CLAIMS,),
    ),
    Mutant(
        "no settling time: absent at the first look is absent",
        {"proof_at=clock.now() + max(0.0, settle - max(0.0, min(passed)))": "proof_at=clock.now()"},
        (DEATHS, "asyncio and lagging and lost"),
    ),
    Mutant(
        "the history's own end is not waited for: what was not read is absent",
        {"    if reading.whole:\n        return True\n": "    return True\n"},
        (CLAIMS,),
    ),
    Mutant(
        "an accepted id is not written before going on",
        {
            "        to, changes = _after_post(came)\n": (
                "        to, changes = _after_post(came)\n"
                "        if isinstance(came, Generation):\n"
                "            self.row = rows.moved(self.row, to, at=clock.wall(), **changes)\n"
                "            return\n"
            )
        },
        (DEATHS, "asyncio and default and none"),
    ),
    Mutant(
        "claims take what is somebody's",
        {"[each for each in reading.entries if identity(each.id) not in owned]": "reading.entries"},
        (CLAIMS,),
    ),
    Mutant(
        "claims take what a POST on its way could own",
        {"on_their_way=list(self.http.known.on_their_way.values()),": "on_their_way=(),"},
        (LEDGERS,),
    ),
    Mutant(
        "claims forget who else is in doubt",
        {"            others=others,\n": "            others=(),\n"},
        (LEDGERS,),
    ),
    Mutant(
        "a disputed entry goes to whoever comes first",
        {"        if group.is_disputed:\n": "        if False:\n"},
        (CLAIMS,),
    ),
    Mutant(
        "a 429 is in doubt",
        {"if error.status_code == 429 or": "if"},
        (RETRY,),
    ),
    Mutant(
        "a lost answer is planned again",
        {'return rows.IN_DOUBT, {"error": came}': 'return rows.PLANNED, {"error": came}'},
        (DEATHS, "asyncio and default and lost"),
    ),
    Mutant(
        "what is absent is always sent again",
        {"if resubmit_absent else": "if resubmit_absent or True else"},
        (LEDGERS,),
    ),
    Mutant(
        "what does not say its prompt proves absence",
        {"elif group.is_vague or group.could_own(silent, reading.skew):": "elif False:"},
        (CLAIMS, MONEY),
    ),
    Mutant(
        "a ledger that is opened again does not know what was claimed for it",
        {"self.identity = database.name if database.path is not None else": "self.identity ="},
        (MONEY,),
    ),
    Mutant(
        "a stream is not kept to the budget",
        {"deadline=self._deadline, trail=trail)": "deadline=self._deadline, trail=NO_TRAIL)"},
        (MONEY,),
    ),
    Mutant(
        "a cancelled POST gets no grace",
        {"clock.now() + GRACE_SECONDS) if witness.pulled else -math.inf": "clock.now()) if True else -math.inf"},
        (CANCEL,),
    ),
    Mutant(
        "what a cancelled POST learns in its grace is not written",
        {
            "trail.settled(judged)": (
                "trail.settled(judged) if scope.deadline > anyio.current_time() + GRACE_SECONDS else None"
            )
        },
        (LEDGERS, "left"),
    ),
    Mutant(
        "the witness never saw its body pulled",
        {"        self.pulled = True\n": "        self.pulled = self.sent_at > 0\n"},
        (POSTS,),
    ),
    Mutant(
        "sent though the disk refuses",
        {"if self._refused is not None and to == rows.SENDING:": "if False:"},
        (LEDGER,),
    ),
    Mutant(
        "an id that could not be written is forgotten",
        {"self._kept.setdefault(step)": "pass"},
        (LEDGER,),
    ),
    Mutant(
        "two rows may have one generation",
        {"if owners and after.number not in owners and": "if owners and False and"},
        (LEDGER,),
    ),
    Mutant(
        "a step begins wherever the row is",
        {"if not done.rowcount:": "if False:"},
        (LEDGER,),
    ),
    Mutant(
        "a commit does not wait for the disk",
        {"PRAGMA synchronous = FULL": "PRAGMA synchronous = NORMAL"},
        (LEDGER,),
    ),
    Mutant(
        "repeats of a request are one item",
        {"self._repeats[number] += 1": "self._repeats[number] += 0"},
        (LEDGERS,),
    ),
    Mutant(
        "requests with other params have the same key",
        {"asked = [request.model, request.prompt, request.params or None]": "asked = [request.model, request.prompt]"},
        ("tests/core/test_rows.py",),
    ),
    Mutant(
        "whoever leaves the line wakes nobody",
        {
            "            self._line.leave(each)\n        self._wake_first()\n": "            self._line.leave(each)\n",
        },
        (LOOKS, "watches_the_clock and asyncio"),
    ),
    Mutant(
        "an entry of the history suffices, whatever it lacks",
        {"return self.price() >= DEAR and not lacks_result(entry) and entry.tokens_spent is not None": "return True"},
        (LOOKS, "one_page_answers_many and asyncio"),
    ),
    Mutant(
        "each page is read as if none had been read before",
        {"        self._keep(read.items)\n": ""},
        ("tests/edge/test_load.py", "wait_together"),
    ),
    Mutant(
        "a herd of looks sets off at one instant",
        {"return ahead if ahead > MOST_APART else 0.0": "return 0.0"},
        (LOOKS, "hundreds_accepted_together and asyncio"),
    ),
    Mutant(
        "jobs are alike whenever they were looked at",
        {", watch.last // moment": ""},
        ("tests/test_pages.py",),
    ),
)


@cache
def sources() -> dict[Path, str]:
    """Read the package's own files, but the sandbox and the extras."""
    apart = ("sandbox", "extras")
    paths = sorted(Path(ROOT, PACKAGE).rglob("*.py"))
    return {path: path.read_text(encoding="utf-8") for path in paths if path.relative_to(ROOT).parts[1] not in apart}


def mutate(copy: Path, mutant: Mutant) -> list[Path]:
    """Change the copy and return which files; raise ValueError if a text is not there, or is there twice."""
    changed = []
    for old, new in mutant.changes.items():
        found = [path for path, text in sources().items() for _ in range(text.count(old))]
        if len(found) != 1:
            raise ValueError(f"{mutant.name!r}: {old!r} is there {len(found)} times; bring the list up to date")
        changed.append(found[0].relative_to(ROOT))
        target = copy / changed[-1]
        target.write_text(target.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    return changed


def tested(copy: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Run tests against a copy and return pytest's exit code (1: some failed) and its words."""
    files = [name for name in tests if name.endswith(".py")]
    chosen = [part for name in tests if name not in files for part in ("-k", name)]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *files, *chosen]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=LONGEST
        )
    except subprocess.TimeoutExpired:
        return 1, "FAILED it runs for ever\n"
    return done.returncode, done.stdout + done.stderr


def judge(mutant: Mutant) -> tuple[str, bool, str]:
    """Return a mutant's name, whether it was caught, and by what."""
    with TemporaryDirectory() as folder:
        shutil.copytree(ROOT / PACKAGE, Path(folder, PACKAGE), ignore=shutil.ignore_patterns("__pycache__"))
        mutate(Path(folder), mutant)
        code, words = tested(Path(folder), mutant.tests)
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", words, re.MULTILINE)
    if code == 1 and failed:
        return mutant.name, True, failed[1].partition("::")[2] or failed[1]
    return mutant.name, False, "NOBODY" if code == 0 else f"pytest ended with {code}: {words[-500:]}"


def check_whole(mutants: Sequence[Mutant]) -> None:
    """Raise RuntimeError unless the tests pass against a copy that is whole."""
    files = sorted({test for mutant in mutants for test in mutant.tests if test.endswith(".py") and test != DEATHS})
    with TemporaryDirectory() as folder:
        shutil.copytree(ROOT / PACKAGE, Path(folder, PACKAGE), ignore=shutil.ignore_patterns("__pycache__"))
        for tests in (files, [DEATHS, "asyncio and default and (none or lost)"]):
            code, words = tested(Path(folder), tests)
            if code:
                raise RuntimeError(f"the tests fail without any mutant:\n{words}")


def main(names: Sequence[str]) -> int:
    """Judge the mutants that have one of the names in theirs, two at a time, and print a table."""
    began = time.monotonic()
    mutants = [each for each in MUTANTS if not names or any(name in each.name for name in names)]
    check_whole(mutants)
    width = max(len(each.name) for each in mutants)
    survivors = 0
    with ThreadPoolExecutor(2) as pool:
        for name, is_caught, by in pool.map(judge, mutants):
            survivors += not is_caught
            print(f"{name:{width}}  {'killed by' if is_caught else 'SURVIVED:'}  {by}", flush=True)
    print(f"{len(mutants) - survivors} of {len(mutants)} killed, in {time.monotonic() - began:.0f} s")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

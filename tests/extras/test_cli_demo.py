"""`neuralbox demo`, once as a whole in a process of its own, and the arithmetic of what it claims."""

import re
import signal
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from neuralbox_async.extras.cli.batch import make_batch
from neuralbox_async.extras.cli.demo import totals
from neuralbox_async.extras.cli.figures import as_frugal_loop, loop_way
from neuralbox_async.sandbox import CATALOGUE

Until = Callable[[Callable[[], bool]], None]


def test_demo(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo needs no account, saves files that open, shows the 429, and its sums are right."""
    monkeypatch.delenv("NEURALBOX_API_KEY", raising=False)
    ended = cli.end(cli.start("demo", "--out", tmp_path))
    assert ended.code == 0, ended.err
    files = sorted(tmp_path.iterdir())
    assert len(files) == 37
    assert {file.suffix for file in files} == {".txt", ".png", ".gif", ".wav"}
    assert all(opens(file) for file in files)
    assert "waiting 0.8 s for the plan's window" in ended.err
    assert ended.err.count("failed: Provider error: content policy violation") == 3
    assert "37 results are in" in ended.out
    assert re.search(r"Balance 1,500 before, (\d+) after: (\d+) tokens less, as the outcomes say", ended.out)
    assert re.search(r"all +37 +3", ended.out)
    ways = re.findall(r"(?:neuralbox_async|a loop of [\d.]+ s) +41 +(\d+) +([\d.]+) s", ended.out)
    ours, loop, frugal = [(int(looks), float(unseen)) for looks, unseen in ways]
    assert ours[0] < loop[0]
    assert ours[1] < frugal[1]


def opens(file: Path) -> bool:
    """Say whether a file is what its name says."""
    if file.suffix == ".txt":
        return bool(file.read_text(encoding="utf-8"))
    if file.suffix == ".wav":
        with wave.open(str(file)) as sound:
            return bool(sound.getnframes() > 0)
    with Image.open(file) as picture:
        picture.load()
        return picture.format == file.suffix[1:].upper()


def test_demo_interrupted(cli: Any, tmp_path: Path, until: Until) -> None:
    """Ctrl-C ends the demo at once, and what was saved stays."""
    process = cli.start("demo", "--out", tmp_path)
    until(lambda: any(tmp_path.glob("*.txt")))
    process.send_signal(signal.SIGINT)
    process.wait(5)
    ended = cli.end(process)
    assert ended.code == 130
    assert f"saved in {tmp_path}" in ended.err
    assert not list(tmp_path.glob("*.part"))


def test_demo_where_it_cannot_write(cli: Any) -> None:
    """A folder that cannot be made is a usage error."""
    assert cli.run("demo", "--out", f"{__file__}/x").code == 2


def test_batch() -> None:
    """Forty requests of five kinds for models that the sandbox has, three of which are meant to fail."""
    batch = make_batch()
    assert len(batch) == sum(totals().values()) == 40
    assert set(totals()) == {"text", "image", "video", "music", "speech"}
    assert {request.model for request in batch} <= set(CATALOGUE)
    assert sum("forbidden" in request.prompt for request in batch) == 3


@pytest.mark.parametrize(
    ("durations", "every", "looks", "unseen"),
    [([5.0], 5.0, 1, 0.0), ([5.1], 5.0, 2, 4.9), ([7.0, 12.0], 5.0, 5, 3.0), ([], 5.0, 0, 0.0)],
)
def test_loop(durations: list[float], every: float, looks: int, unseen: float) -> None:
    """A loop looks every so many seconds, and finds the result at the first look after its end."""
    way = loop_way(durations, every=every, posts=1)
    assert (way.posts, way.looks, way.requests) == (1, looks, looks + 1)
    assert way.unseen_seconds == pytest.approx(unseen)


def test_as_frugal_loop() -> None:
    """The loop to compare with is the quickest one that takes no more looks."""
    durations = [float(each) for each in range(20, 90, 7)]
    ours = loop_way(durations, every=9.0, posts=10)
    found = as_frugal_loop(durations, ours=ours)
    assert found.looks <= ours.looks
    assert found.unseen_seconds <= ours.unseen_seconds + 1

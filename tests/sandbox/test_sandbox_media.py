"""Result files: other people's readers open them."""

import io
import wave
from itertools import pairwise

import pytest
from attrs import evolve
from PIL import Image, ImageSequence

from neuralbox_async.sandbox import CATALOGUE, media, results
from neuralbox_async.sandbox.account import Job

JOB = Job(id=7, model=CATALOGUE["dall-e-3"], prompt="A cat", params={}, price=5, created=0.0, due=9.0, error=None)


@pytest.mark.parametrize(
    ("size", "pixels"),
    [
        (None, (256, 256)),
        ("64x32", (64, 32)),
        ("1024x1792", (585, 1024)),
        ("9999999x1", (1024, 1)),
        ("huge", (256, 256)),
        ("0x0", (256, 256)),
    ],
)
def test_a_picture_has_the_size_asked_for_within_bounds(size: str | None, pixels: tuple[int, int]) -> None:
    """A picture is a PNG of the size asked for, shrunk to 1024 pixels a side, and the metadata says the same."""
    job = evolve(JOB, params={"size": size} if size else {})
    opened = Image.open(io.BytesIO(results.content(job)))
    opened.load()
    assert (opened.format, opened.size) == ("PNG", pixels)
    assert results.metadata(job) == {"width": pixels[0], "height": pixels[1]}


def test_a_picture_is_not_one_colour() -> None:
    """There is something to see."""
    assert len(set(Image.open(io.BytesIO(media.picture("seed", 64, 64))).tobytes())) > 50


def test_a_clip_is_an_animated_gif_that_moves() -> None:
    """Each of the eight frames differs from the one before."""
    opened = Image.open(io.BytesIO(media.clip("seed")))
    frames = [frame.convert("RGB").tobytes() for frame in ImageSequence.Iterator(opened)]
    assert (opened.format, opened.size, len(frames)) == ("GIF", media.CLIP_SIZE, 8)
    assert all(before != after for before, after in pairwise(frames))


def test_a_clips_pixels_survive_its_encoding() -> None:
    """The uncompressed codes decode to the very pixels that went in."""
    first = Image.open(io.BytesIO(media.clip("seed")))
    first.load()
    dice = media._dice("seed")  # noqa: SLF001 - the encoder's input has no other way out
    rows = media._waves(dice, *media.CLIP_SIZE, 128, 0.0)  # noqa: SLF001 - the same
    assert first.tobytes() == b"".join(rows)


@pytest.mark.parametrize(("model", "seconds"), [("musicgen", 1.75), ("openai-tts", 1.0)])
def test_a_sound_is_a_wav_of_one_or_two_seconds(model: str, seconds: float) -> None:
    """Music and speech are real, audible sound."""
    content = results.content(evolve(JOB, model=CATALOGUE[model]))
    with wave.open(io.BytesIO(content)) as sound:
        assert sound.getnframes() / sound.getframerate() == seconds
        assert len(set(sound.readframes(1000))) > 50


@pytest.mark.parametrize("model", ["dall-e-3", "kling-v2.1", "musicgen", "openai-tts"])
def test_a_job_has_one_file_for_ever(model: str) -> None:
    """A file asked for twice is the same twice; another job's differs."""
    job = evolve(JOB, model=CATALOGUE[model])
    assert results.content(job) == results.content(job) != results.content(evolve(job, id=8))


def test_a_text_mentions_its_prompt() -> None:
    """The text answers what was asked, always alike."""
    job = evolve(JOB, model=CATALOGUE["gpt-5"], prompt="Why is the sky blue?")
    text = results.text(job)
    assert text is not None
    assert "Why is the sky blue?" in text
    assert text == results.text(job)

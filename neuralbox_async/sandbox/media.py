"""A result is a real file made from a seed text by the standard library alone: the same seed, the same bytes."""

import colorsys
import io
import math
import random
import struct
import wave
import zlib
from array import array
from collections.abc import Iterator
from functools import lru_cache

CLIP_SIZE = (96, 64)
"""Width and height of a video clip, in pixels."""

_CLIP_FRAMES = 8
_SAMPLE_RATE = 8_000
_PENTATONIC = (0, 2, 4, 7, 9, 12)

# GIF codes of our colour depth: 128 colours, then "clear the table" and "end of picture".
_GIF_COLOURS, _GIF_CLEAR, _GIF_END = 128, b"\x80", b"\x81"


def words(model: str, prompt: str) -> str:
    """Write the short text that a language model answers with."""
    chance = _dice(f"{model}:{prompt}")
    opening = chance.choice(("Here is a short answer", "In a few words", "Let us take it step by step"))
    closing = chance.choice(
        ("Ask on, and the next step becomes clear.", "The rest follows from this.", "Try it: a small case shows why.")
    )
    return f"{opening} to “{prompt.strip()}”: begin with what is known, change one thing, and look again. {closing}"


def transcript(name: str, *, speakers: bool) -> str:
    """Write what a speech-to-text model hears in a file of this name."""
    said = [f"This is what was said in {name}.", "Nobody heard it."]
    return (
        " ".join(f"[Speaker {number}]: {each}" for number, each in enumerate(said, 1)) if speakers else " ".join(said)
    )


def picture(seed: str, width: int, height: int) -> bytes:
    """Paint coloured waves as a PNG of this many pixels."""
    chance = _dice(seed)
    colours = _palette(chance, 256)
    pixels = b"".join(b"\0" + row for row in _waves(chance, width, height, 256, 0.0))
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = (b"IHDR", header), (b"PLTE", colours), (b"IDAT", zlib.compress(pixels, 1)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(kind, data) for kind, data in parts)


def clip(seed: str) -> bytes:
    """Film moving waves as an endless animated GIF."""
    width, height = CLIP_SIZE
    colours = _palette(_dice(seed), _GIF_COLOURS)
    screen = struct.pack("<HHBBB", width, height, 0b1111_0110, 0, 0)
    endless = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"
    frames = b"".join(_gif_frame(seed, frame / _CLIP_FRAMES) for frame in range(_CLIP_FRAMES))
    return b"GIF89a" + screen + colours + endless + frames + b";"


def tune(seed: str, notes: int) -> bytes:
    """Play so many notes, a quarter of a second each, as a mono WAV."""
    chance = _dice(seed)
    samples = array("h")
    for _ in range(notes):
        samples.extend(_note(220 * 2 ** (chance.choice(_PENTATONIC) / 12)))
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, _SAMPLE_RATE, 0, "NONE", "not compressed"))
        sound.writeframes(samples.tobytes())
    return file.getvalue()


def _dice(seed: str) -> random.Random:
    return random.Random(seed)


def _waves(chance: random.Random, width: int, height: int, colours: int, phase: float) -> Iterator[bytes]:
    """Yield rows of colour numbers: one long band, pushed left and right from row to row (slices are cheap)."""
    swing = max(1, width // chance.randint(3, 8))
    stretch, turns = chance.uniform(1.0, 2.5), chance.uniform(0.7, 2.0)
    band = bytes(
        int((1 + math.sin(stretch * math.tau * x / width)) / 2 * (colours - 1)) for x in range(width + 2 * swing + 1)
    )
    for y in range(height):
        start = swing + round(swing * math.sin(math.tau * (turns * y / height + phase)))
        yield band[start : start + width]


def _palette(chance: random.Random, size: int) -> bytes:
    return _colours(chance.random(), chance.uniform(0.15, 0.4), size)


@lru_cache(maxsize=100)  # a result is asked for more than once, and these take longer than a small picture's pixels
def _colours(hue: float, span: float, size: int) -> bytes:
    steps = (i / size for i in range(size))
    colours = (colorsys.hsv_to_rgb(hue + span * step, 0.75 - 0.4 * step, 0.35 + 0.6 * step) for step in steps)
    return bytes(round(255 * part) for colour in colours for part in colour)


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _gif_frame(seed: str, phase: float) -> bytes:
    width, height = CLIP_SIZE
    pixels = b"".join(_waves(_dice(seed), width, height, _GIF_COLOURS, phase))
    tenth_of_a_second = b"\x21\xf9\x04\0" + struct.pack("<H", 10) + b"\0\0"
    place = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0)
    return tenth_of_a_second + place + b"\x07" + _gif_blocks(_gif_codes(pixels))


def _gif_codes(pixels: bytes) -> bytes:
    """Encode without compressing: clearing the table before it holds 256 codes keeps every code at one byte."""
    runs = (pixels[start : start + 120] for start in range(0, len(pixels), 120))
    return b"".join(_GIF_CLEAR + run for run in runs) + _GIF_END


def _gif_blocks(data: bytes) -> bytes:
    blocks = (data[start : start + 255] for start in range(0, len(data), 255))
    return b"".join(bytes((len(block),)) + block for block in blocks) + b"\0"


def _note(pitch: float) -> Iterator[int]:
    length = _SAMPLE_RATE // 4
    for i in range(length):
        # Fades to silence within the note, so that no note ends with a click.
        yield int(12_000 * (1 - i / length) ** 2 * math.sin(math.tau * pitch * i / _SAMPLE_RATE))

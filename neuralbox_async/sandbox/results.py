"""What a job's model is decides what file its result is, and what the reply says about that file."""

from typing import Any

from attrs import frozen

from neuralbox_async.sandbox import media
from neuralbox_async.sandbox.account import Job
from neuralbox_async.sandbox.catalogue import Kind, clip_seconds, image_size

# Pixels of a picture for which no size was asked, and the most that one is wide or high.
_PICTURE_SIZE = (256, 256)
_LARGEST_SIDE = 1024


@frozen(kw_only=True)
class Medium:
    """A file format: its extension and its content type."""

    extension: str
    content_type: str


PNG = Medium(extension="png", content_type="image/png")
GIF = Medium(extension="gif", content_type="image/gif")
WAV = Medium(extension="wav", content_type="audio/wav")

MEDIA: dict[Kind, Medium] = {"image": PNG, "tool": PNG, "video": GIF, "music": WAV, "speech": WAV}
"""The format of each kind's result; text has no file."""


def text(job: Job) -> str | None:
    """Return the text that a text model answers with, or hears; None for other kinds."""
    if job.model.kind == "stt":
        return media.transcript(job.prompt, speakers=bool(job.params.get("diarize")))
    return media.words(job.model.slug, job.prompt) if job.model.writes else None


def file_name(job: Job) -> str | None:
    """Return the name of the result file, None for a text."""
    medium = MEDIA.get(job.model.kind)
    return f"{job.id}.{medium.extension}" if medium else None


def content(job: Job) -> bytes:
    """Make the bytes of the result file of a job that has one; the same job, the same bytes."""
    seed = f"{job.id}:{job.prompt}"
    match job.model.kind:
        case "video":
            return media.clip(seed)
        case "music":
            return media.tune(seed, notes=7)
        case "speech":
            return media.tune(seed, notes=4)
        case _:
            return media.picture(seed, *_picture_size(job))


def thumbnail(job: Job) -> bytes:
    """Make a still picture for a video, as PNG."""
    return media.picture(f"{job.id}:{job.prompt}", *media.CLIP_SIZE)


def metadata(job: Job) -> dict[str, Any] | None:
    """Return `result_metadata`: pixels as in the file, seconds as they were ordered."""
    match job.model.kind:
        case "video":
            return {"duration": clip_seconds(job.params), **_pixels(media.CLIP_SIZE)}
        case "music":
            return {"duration": clip_seconds(job.params, default=30)}
        case "image" | "tool":
            return _pixels(_picture_size(job))
        case _:
            return None


def _picture_size(job: Job) -> tuple[int, int]:
    width, height = image_size(job.params, _PICTURE_SIZE)
    shrink = min(1.0, _LARGEST_SIDE / max(width, height))
    return max(1, round(width * shrink)), max(1, round(height * shrink))


def _pixels(size: tuple[int, int]) -> dict[str, Any]:
    width, height = size
    return {"width": width, "height": height}

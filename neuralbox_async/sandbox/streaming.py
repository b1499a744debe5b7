"""A streamed text is events spread evenly over the generation's duration, in the documented words (contract §4)."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from neuralbox_async.sandbox import results
from neuralbox_async.sandbox.account import INSTANT, Job
from neuralbox_async.sandbox.replies import Family, View
from neuralbox_async.sandbox.wire import Answer


def stream_answer(job: Job, family: Family, view: View) -> Answer:
    """Answer with a text piece by piece, from now until it is due; one that fails breaks off with an error event."""
    events = [_line(json.dumps(event)) for event in _events(job, family, view)]
    if job.error is None:
        events.append(_line("[DONE]"))
    spacing = (job.due - job.created + INSTANT) / (len(events) - 1)
    return Answer(headers={"Content-Type": "text/event-stream"}, chunks=tuple(events), spacing=spacing)


def _events(job: Job, family: Family, view: View) -> Iterator[Mapping[str, Any]]:
    pieces = re.findall(r"\s*\S+\s*$|\s*\S+", results.text(job) or "")
    yield {"type": "generation_start", "id": job.id, "model": job.model.slug}
    for piece in pieces if job.error is None else pieces[: len(pieces) // 2]:
        yield {"type": "content_delta", "delta": piece}
    if job.error is None:
        yield {"type": "generation_end", **family.streamed(job, view)}
    else:
        yield {"type": "error", "message": job.error}


def _line(data: str) -> bytes:
    return f"data: {data}\n\n".encode()

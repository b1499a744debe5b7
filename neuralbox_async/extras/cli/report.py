"""What came of an item is one JSON object on one line, on stdout and in a file alike, as soon as it is known.

The fields are `index`, `line`, `key`, `model`, `prompt`, `params`, the input's other fields, `id`, `status`, `text`,
`url`, `path`, `tokens_spent` and `error`. An input's field that is named like one of ours goes under `input` instead.
"""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from attrs import frozen

from neuralbox_async import (
    Generation,
    GenerationFailedError,
    GenerationRequest,
    NeuralBoxError,
    NotFoundError,
    OutcomeUnknownError,
)
from neuralbox_async.extras.cli.wording import in_our_words

Record = dict[str, Any]


@frozen(kw_only=True)
class Problem:
    """Why an item has no result; `hint` names the command that gets it yet."""

    type: str
    message: str
    billed: str
    generation_id: int | str | None = None
    retryable: bool = False
    hint: str | None = None

    def record(self) -> Record:
        """Return it as JSON has it."""
        record: Record = {
            "type": self.type,
            "message": self.message,
            "billed": self.billed,
            "generation_id": self.generation_id,
            "retryable": self.retryable,
        }
        return record if self.hint is None else {**record, "hint": self.hint}

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message} Get it with: {self.hint}"


def problem_of(error: Exception, generation: Generation | None, out: str | None = None) -> Problem:
    """Describe an error of this library, or of the disk after a generation was paid for."""
    said, known = in_our_words(error), None if generation is None else generation.id
    if not isinstance(error, NeuralBoxError):
        billed = "unknown" if generation is None else "yes"
        return Problem(
            type=type(error).__name__,
            message=_about(known, said),
            billed=billed,
            generation_id=known,
            hint=how_to_get(known, out),
        )
    found = known if error.generation_id is None else error.generation_id
    seen = generation is not None and generation.status != "unknown"  # one that was only named may not be there
    nothing_there = isinstance(error, GenerationFailedError) or (isinstance(error, NotFoundError) and not seen)
    return Problem(
        type=type(error).__name__,
        message=_about(found, said),
        billed=error.billed,
        generation_id=found,
        retryable=error.retryable,
        hint=None if nothing_there else how_to_get(found, out),
    )


def how_to_get(generation_id: int | str | None, out: str | None) -> str | None:
    """Return the command that gets a generation yet; None without an id."""
    if generation_id is None:
        return None
    return shlex.join(["neuralbox", "wait", str(generation_id), *([] if out is None else ["--out", out])])


def _about(generation_id: int | str | None, said: str) -> str:
    if generation_id is None or f"generation {generation_id}".lower() in said.lower():
        return said
    return f"generation {generation_id}: {said}"


def interrupted(generation: Generation, out: str | None) -> Problem | None:
    """Describe a generation that nobody waits for any more; None if all that was asked for is known."""
    if generation.failed:
        return problem_of(GenerationFailedError(f"Generation {generation.id} failed: {generation.error}."), generation)
    if generation.done and out is None:
        return None
    state = "is completed and perhaps not saved yet" if generation.done else "goes on at the service"
    return Problem(
        type="Interrupted",
        message=f"interrupted; generation {generation.id} {state}.",
        billed="yes" if generation.done else "unknown",
        generation_id=generation.id,
        retryable=True,
        hint=how_to_get(generation.id, out),
    )


def cut_off(request: GenerationRequest) -> Problem:
    """Describe a request that was cut off before its answer came."""
    return Problem(
        type=OutcomeUnknownError.__name__,
        message=f"interrupted after the request for {request.model} was sent and before its answer came: it may be "
        "charged. It was not sent again; look for it in the history before you repeat it.",
        billed="unknown",
    )


def result_record(generation: Generation | None, problem: Problem | None, path: Path | None) -> Record:
    """Describe a generation, or the lack of one."""
    return {
        "id": generation and generation.id,
        "status": generation and generation.status,
        "text": generation and generation.text,
        "url": generation and generation.url,
        "path": None if path is None else str(path),
        "tokens_spent": generation and generation.tokens_spent,
        "error": problem and problem.record(),
    }


def request_record(request: GenerationRequest) -> Record:
    """Describe what was asked for."""
    return {"key": request.key, "model": request.model, "prompt": request.prompt, "params": request.params}


def line_record(tag: object, asked: Record, result: Record) -> Record:
    """Describe one line of the input by its tag, what was asked for, and what came of it."""
    known: Mapping[str, Any] = cast("Mapping[str, Any]", tag) if isinstance(tag, Mapping) else {}
    own = {"index": known.get("index"), "line": known.get("line"), **asked, **result}
    others = known.get("fields", {})
    clashing = {name: value for name, value in others.items() if name in own or name == "input"}
    free = {name: value for name, value in others.items() if name not in clashing}
    return {**own, **free, **({"input": clashing} if clashing else {})}


def as_json(record: Mapping[str, Any]) -> str:
    """Write a record as one line of JSON."""
    return json.dumps(record, ensure_ascii=False, default=str)

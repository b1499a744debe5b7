"""A create request is either understood whole, or turned away with the documented envelope (contract §11)."""

import json
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from neuralbox_async.sandbox.wire import Answer, error_answer


@frozen(kw_only=True)
class Wanted:
    """What a create request asks for."""

    model: str
    prompt: str
    params: Mapping[str, Any]


def read_body(body: bytes, **kinds: Any) -> dict[str, Any] | Answer:
    """Read a JSON object that has these fields, of these types: 400 if it is none or lacks one, 422 for a wrong one."""
    try:
        read = json.loads(body)
    except ValueError:
        read = None
    if not isinstance(read, dict):
        return error_answer(400, "bad_request", "The body must be a JSON object")
    missing = [name for name in kinds if name not in read]
    if missing:
        details = dict.fromkeys(missing, "required")
        return error_answer(400, "bad_request", f"Missing required field: {missing[0]}", details)
    wrong = {name: "has the wrong type" for name, kind in kinds.items() if not isinstance(read[name], kind)}
    return error_answer(422, "validation_error", "Validation failed", wrong) if wrong else read


def read_wanted(body: bytes) -> Wanted | Answer:
    """Read a create request: 400 if it is no JSON object or lacks a field, 422 if a field has the wrong type."""
    read = read_body(body, model=object, prompt=object)
    if isinstance(read, Answer):
        return read
    wrong = _wrong_fields(read)
    if wrong:
        return error_answer(422, "validation_error", "Validation failed", wrong)
    return Wanted(model=read["model"], prompt=read["prompt"], params=read.get("params") or {})


def _wrong_fields(read: Mapping[str, Any]) -> dict[str, str]:
    rules = {
        "model": _is_text(read["model"]) or "must be a non-empty string",
        "prompt": _is_text(read["prompt"]) or "must be a non-empty string",
        "params": isinstance(read.get("params"), dict | None) or "must be an object",
    }
    return {name: rule for name, rule in rules.items() if isinstance(rule, str)}


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())

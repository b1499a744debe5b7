"""A create request is either understood whole, or turned away with the documented envelope (contract §11)."""

import email
import json
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from neuralbox_async.sandbox.wire import Answer, error_answer

MOST_AUDIO = 25 * 1024 * 1024


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


def read_audio(body: bytes, content_type: str) -> Wanted | Answer:
    """Read a form with audio: 400 if it is none or has none, 413 if the audio is too large."""
    form = email.message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    parts = {part.get_param("name", header="content-disposition"): part for part in form.walk()}
    audio = parts.pop("audio", None)
    if audio is None:
        return error_answer(400, "bad_request", "Missing required field: audio")
    content = audio.get_payload(decode=True)
    if not isinstance(content, bytes) or not content:
        return error_answer(400, "bad_request", "The audio is empty")
    if len(content) > MOST_AUDIO:
        return error_answer(413, "bad_request", "The audio has more than 25 MB")
    fields = {name: part.get_payload() for name, part in parts.items() if isinstance(name, str)}
    model = fields.pop("model", "whisper")
    params = {**fields, "diarize": fields.get("diarize") == "true", "bytes": len(content)}
    return Wanted(model=str(model), prompt=audio.get_filename() or "audio", params=params)


def _wrong_fields(read: Mapping[str, Any]) -> dict[str, str]:
    rules = {
        "model": _is_text(read["model"]) or "must be a non-empty string",
        "prompt": _is_text(read["prompt"]) or "must be a non-empty string",
        "params": isinstance(read.get("params"), dict | None) or "must be an object",
    }
    return {name: rule for name, rule in rules.items() if isinstance(rule, str)}


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())

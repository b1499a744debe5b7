"""Typed options: mappings of what was set, that never close the set."""

import json
import pickle
from collections.abc import Mapping
from typing import Any

import pytest
from attrs.exceptions import FrozenInstanceError

from neuralbox_async import (
    GenerationRequest,
    ImageParams,
    MusicParams,
    SpeechParams,
    TextParams,
    VideoParams,
)
from neuralbox_async._core import api

CASES: list[tuple[Mapping[str, Any], dict[str, Any]]] = [
    (TextParams(), {}),
    (TextParams(temperature=0, max_tokens=500), {"temperature": 0, "max_tokens": 500}),
    (TextParams(messages=[{"role": "user", "content": "Hi"}]), {"messages": [{"role": "user", "content": "Hi"}]}),
    (ImageParams(size="1024x1792", quality="hd", seed=7), {"size": "1024x1792", "quality": "hd", "seed": 7}),
    (VideoParams(duration=10, image_url="https://x.test/a.png"), {"duration": 10, "image_url": "https://x.test/a.png"}),
    (MusicParams(duration=30), {"duration": 30}),
    (SpeechParams(voice_id="nova", speed=1.5), {"voice_id": "nova", "speed": 1.5}),
    (VideoParams(duration=5, extra={"camera": "pan", "loop": None}), {"duration": 5, "camera": "pan", "loop": None}),
    (ImageParams(size="1024x1024", extra={"size": "2048x2048"}), {"size": "2048x2048"}),
]


@pytest.mark.parametrize(("params", "sent"), CASES)
def test_what_is_set_is_sent(params: Mapping[str, Any], sent: dict[str, Any]) -> None:
    """Nothing else is, and `extra` has the last word."""
    assert isinstance(params, Mapping)
    assert params == sent
    assert (dict(params), len(params), bool(params)) == (sent, len(sent), bool(sent))
    body = api.generate(GenerationRequest("any-slug", "Hello", params)).body
    assert body is not None
    assert json.loads(body).get("params", {}) == sent
    asked = api.price("any-slug", params, 1).body
    assert asked is not None
    assert json.loads(asked)["params"] == sent


@pytest.mark.parametrize(("params", "sent"), CASES)
def test_options_are_frozen_and_pickle(params: Mapping[str, Any], sent: dict[str, Any]) -> None:
    """They travel between processes with their requests."""
    with pytest.raises(FrozenInstanceError):
        params.extra = {}  # type: ignore[attr-defined]
    assert pickle.loads(pickle.dumps(GenerationRequest("m", "p", params))).params == sent  # noqa: S301 - our own bytes


def test_a_misspelled_option_is_python_s_error() -> None:
    """That is what they are for."""
    with pytest.raises(TypeError, match="sise"):
        ImageParams(sise="1024x1024")  # type: ignore[call-arg]

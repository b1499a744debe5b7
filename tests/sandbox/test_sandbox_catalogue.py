"""The catalogue: prices and durations are the documented ones."""

import random
from typing import Any

import pytest

from neuralbox_async.sandbox import CATALOGUE, Model, Sandbox


def test_the_starter_tier_is_the_documented_one() -> None:
    """The smallest plan that may use a model is told as the documentation has it, whatever the model costs."""
    starter = {slug for slug, model in CATALOGUE.items() if model.min_plan == "free"}
    texts = {"gpt-5-nano", "claude-haiku-4.5", "gemini-2.5-flash", "deepseek-v3", "grok-4-fast"}
    assert starter == texts | {"photon-flash", "dall-e-3", "luma-ray2-flash", "musicgen", "whisper"}


@pytest.mark.parametrize(
    ("model", "params", "tokens"),
    [
        ("gpt-5", {}, 2),
        ("dall-e-3", {}, 5),
        ("dall-e-3", {"size": "1024x1024"}, 5),
        ("dall-e-3", {"size": "1024x1792"}, 9),
        ("dall-e-3", {"quality": "hd"}, 13),
        ("kling-v2.1", {}, 26),
        ("kling-v2.1", {"duration": 10}, 94),
        ("kling-v2.1", {"duration": 7.5}, 60),
        ("kling-v2.1", {"duration": "long"}, 26),
        ("kling-v2.1", {"duration": 60}, 94),
        ("musicgen", {"duration": 120}, 9),
    ],
)
def test_prices(model: str, params: dict[str, Any], tokens: int) -> None:
    """A price lies in the documented range, and duration, size and quality say where."""
    assert CATALOGUE[model].price(params) == tokens


@pytest.mark.parametrize("slug", ["luma-ray2-flash", "kling-v2.1", "kling-v2.1-pro", "mj-video-720p", "gpt-5"])
def test_durations_fall_into_the_documented_range(slug: str) -> None:
    """A tenth of the durations is shorter than the range, a tenth longer."""
    model, chance = CATALOGUE[slug], random.Random(1)
    drawn = [model.draw_seconds(chance) for _ in range(20_000)]
    assert sum(seconds < model.seconds[0] for seconds in drawn) / len(drawn) == pytest.approx(0.1, abs=0.01)
    assert sum(seconds > model.seconds[1] for seconds in drawn) / len(drawn) == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize(
    ("slug", "seconds"),
    [
        ("luma-ray2-flash", (20, 35)),
        ("luma-flash2", (20, 35)),
        ("kling-v2.1", (45, 90)),
        ("kling-v2.1-pro", (60, 90)),
        ("luma-ray2", (60, 120)),
        ("mj-video-720p", (90, 180)),
    ],
)
def test_documented_ranges(slug: str, seconds: tuple[float, float]) -> None:
    """The slow models take what the documentation says."""
    assert CATALOGUE[slug].seconds == seconds


def test_video_music_and_midjourney_are_slow() -> None:
    """Exactly these start pending."""
    slow = {model.kind for model in CATALOGUE.values() if model.slow}
    assert slow == {"video", "music", "image"}
    assert {model.slug for model in CATALOGUE.values() if model.slow and model.kind == "image"} == {
        "midjourney",
        "midjourney-v6",
        "midjourney-turbo",
    }


def test_a_sandbox_tells_its_durations_in_the_callers_seconds() -> None:
    """The ranges handed to a pacing shrink with the speed."""
    assert Sandbox(speed=10).durations["kling-v2.1"] == (4.5, 9)


def test_a_model_draws_durations_as_it_is_told() -> None:
    """A law of one's own replaces the lognormal one, and gets the sandbox's chance."""
    model = Model(slug="clip", kind="video", tokens=(1, 1), seconds=(45, 90), draw=lambda chance: chance.uniform(1, 2))
    assert [model.draw_seconds(random.Random(7))] == [random.Random(7).uniform(1, 2)]

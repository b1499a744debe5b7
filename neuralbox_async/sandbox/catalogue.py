"""A model is a frozen value with a price in tokens and the range of seconds that its generations take."""

import math
import random
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from attrs import field, frozen

Kind = Literal["text", "image", "video", "music", "speech", "stt", "tool"]

# Source: EL concepts/tokens, where these are marked as the Starter tier's.
_STARTER: Final = frozenset(
    {
        "gpt-5-nano",
        "claude-haiku-4.5",
        "gemini-2.5-flash",
        "deepseek-v3",
        "grok-4-fast",
        "photon-flash",
        "dall-e-3",
        "luma-ray2-flash",
        "musicgen",
        "whisper",
    }
)
# The 90 % quantile of the standard normal law.
_Z90 = 1.2815515655446004


@frozen(kw_only=True)
class Model:
    """One model of the service.

    `tokens` is the cheapest and the dearest price; `seconds` is the documented range of durations, of which the
    durations drawn fall 80 % inside. `draw`, if given, draws the durations instead, in seconds.
    """

    slug: str
    kind: Kind
    tokens: tuple[int, int]
    seconds: tuple[float, float]
    draw: Callable[[random.Random], float] | None = field(default=None, repr=False)

    @property
    def slow(self) -> bool:
        """Say whether a generation starts pending: video, music and Midjourney (contract §2.4)."""
        return self.kind in ("video", "music") or self.slug.startswith("midjourney")

    @property
    def writes(self) -> bool:
        """Say whether its results are texts."""
        return self.kind in ("text", "stt")

    @property
    def min_plan(self) -> str:
        """Return the smallest plan that may use it: "free" for the Starter tier."""
        return "free" if self.slug in _STARTER else "basic"

    def price(self, params: Mapping[str, Any]) -> int:
        """Return the tokens a generation with these parameters costs.

        Prices of a range are ours, as the service's tables are not published: video grows with `duration` from 5 to
        10 seconds; images cost the middle above 1024x1024 and the most with `quality` hd.
        """
        low, high = self.tokens
        return round(low + (high - low) * _share_of_range(self.kind, params))

    def draw_seconds(self, chance: random.Random) -> float:
        """Draw a duration: by `draw`, else lognormal with the documented range as its 10-90 % span."""
        if self.draw is not None:
            return self.draw(chance)
        low, high = map(math.log, self.seconds)
        return math.exp(chance.gauss((low + high) / 2, (high - low) / 2 / _Z90))


def _share_of_range(kind: Kind, params: Mapping[str, Any]) -> float:
    if kind == "video":
        return min(1.0, max(0.0, (clip_seconds(params) - 5) / 5))
    if params.get("quality") == "hd":
        return 1.0
    return 0.5 if math.prod(image_size(params, (1024, 1024))) > 1024 * 1024 else 0.0


def clip_seconds(params: Mapping[str, Any], default: float = 5) -> float:
    """Return the length asked for in `duration`, or the default where it is no number."""
    duration = params.get("duration", default)
    return duration if isinstance(duration, int | float) else default


def image_size(params: Mapping[str, Any], default: tuple[int, int]) -> tuple[int, int]:
    """Return width and height asked for in `size` ("1024x1792"), or the default where it is nothing of the kind."""
    width, _, height = str(params.get("size", "")).partition("x")
    if width.isdecimal() and height.isdecimal() and int(width) and int(height):
        return int(width), int(height)
    return default


def _models(kind: Kind, *rows: tuple[str, int, int, float, float]) -> dict[str, Model]:
    return {
        slug: Model(slug=slug, kind=kind, tokens=(cheapest, dearest), seconds=(shortest, longest))
        for slug, cheapest, dearest, shortest, longest in rows
    }


# Tokens: EL concepts/tokens, and NB concepts/tokens for slugs that only it has (contract §8).
# Seconds: NB generations/status where it names the model (contract §3), plausible ones elsewhere.
CATALOGUE: Mapping[str, Model] = {
    **_models(
        "text",
        ("gpt-5-nano", 1, 1, 0.5, 2),
        ("claude-haiku-4.5", 1, 1, 0.5, 2),
        ("gemini-2.5-flash", 1, 1, 0.5, 2),
        ("deepseek-v3", 1, 1, 0.8, 4),
        ("grok-4-fast", 1, 1, 0.5, 2),
        ("gpt-5", 2, 2, 0.8, 4),
        ("deepseek-r1", 1, 1, 2, 8),
        ("gpt-5.2", 4, 4, 0.8, 4),
        ("claude-sonnet-4.5", 4, 4, 0.8, 4),
        ("gemini-3-pro", 3, 3, 0.8, 4),
        ("claude-opus-4.5", 6, 6, 1, 5),
        ("gpt-5.2-pro", 39, 39, 4, 20),
    ),
    **_models(
        "image",
        ("photon-flash", 1, 1, 2, 5),
        ("photon", 1, 2, 4, 10),
        ("photon-1", 3, 3, 4, 10),
        ("dall-e-3", 5, 13, 6, 15),
        ("gpt-image-1.5", 1, 21, 8, 25),
        ("flux-1.1-pro", 4, 4, 4, 9),
        ("flux-kontext-pro", 3, 3, 4, 9),
        ("sd-3.5-large", 7, 7, 4, 9),
        ("recraft-v3", 4, 4, 5, 12),
        ("nano-banana-pro", 16, 32, 8, 20),
        ("midjourney", 2, 35, 25, 60),
        ("midjourney-v6", 14, 14, 25, 60),
        ("midjourney-turbo", 28, 28, 10, 25),
    ),
    **_models(
        "video",
        ("luma-ray2-flash", 15, 93, 20, 35),
        ("luma-flash2", 15, 93, 20, 35),
        ("kling-v2.1", 26, 94, 45, 90),
        ("kling-v2.1-pro", 60, 88, 60, 90),
        ("minimax-video", 88, 88, 60, 90),
        ("luma-ray2", 42, 180, 60, 120),
        ("luma-ray2-1080p", 151, 151, 60, 120),
        ("midjourney-video", 50, 320, 60, 120),
        ("mj-video-480p", 84, 84, 60, 120),
        ("mj-video-720p", 269, 269, 90, 180),
        ("sora-2", 42, 125, 60, 150),
        ("veo-3.1", 83, 334, 60, 150),
    ),
    **_models("music", ("musicgen", 9, 9, 15, 60), ("elevenlabs-music", 58, 58, 15, 60)),
    **_models(
        "speech",
        ("minimax-tts", 1, 1, 1, 4),
        ("openai-tts", 3, 3, 1, 4),
        ("openai-tts-hd", 6, 6, 1, 4),
        ("gpt-4o-mini-tts", 3, 3, 1, 4),
        ("elevenlabs-flash", 18, 18, 1, 2),
        ("elevenlabs-v2", 35, 35, 1, 4),
    ),
    **_models("stt", ("whisper", 2, 2, 1, 6), ("gpt-4o-transcribe", 2, 2, 1, 6), ("elevenlabs-scribe", 2, 2, 1, 6)),
    **_models(
        "tool",
        ("upscale", 1, 1, 2, 8),
        ("face-swap", 1, 1, 3, 10),
        ("remove-bg", 1, 1, 1, 4),
        ("style-transfer", 1, 1, 3, 10),
        ("colorize", 1, 1, 2, 8),
        ("inpaint", 3, 3, 4, 12),
    ),
}
"""Every model of the sandbox by its slug; pass a larger or smaller mapping to `Sandbox(models=...)`."""

"""The documented options of each kind of model, for whoever wants them completed and checked while writing.

Each is a mapping of what was set, to be passed as `params=`; what is not set is not sent. None of them closes the set:
`extra` takes any other option, any mapping will do in their place, and no value is checked here.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import field, fields, frozen


def _sent(self: Any) -> dict[str, Any]:
    named = {each.name: getattr(self, each.name) for each in fields(type(self)) if each.name != "extra"}
    return {**{name: value for name, value in named.items() if value is not None}, **self.extra}


def _get(self: Any, name: str) -> Any:
    return _sent(self)[name]


def _names(self: Any) -> Iterator[str]:
    return iter(_sent(self))


def _count(self: Any) -> int:
    return len(_sent(self))


@frozen(kw_only=True, eq=False)
class TextParams(Mapping[str, Any]):
    """Options of text models.

    Attributes:
        system_prompt: What the model is told of its part.
        temperature: From 0 (always the same) to 2 (anything goes); 0.7 if not given.
        max_tokens: The model's own tokens, at most; not those of the account.
        messages: Earlier turns, as `{"role": …, "content": …}`.
        extra: Any other option.
    """

    system_prompt: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    messages: Sequence[Mapping[str, Any]] | None = None
    extra: Mapping[str, Any] = field(factory=dict)

    __getitem__, __iter__, __len__ = _get, _names, _count


@frozen(kw_only=True, eq=False)
class ImageParams(Mapping[str, Any]):
    """Options of image models.

    Attributes:
        size: Pixels, such as "1024x1024", "1024x1792", "768x1344".
        aspect_ratio: Such as "16:9", for models without sizes (Midjourney).
        format: "webp" (if not given), "png" or "jpeg".
        quality: "standard" (if not given) or "hd".
        style: "vivid" or "natural" (DALL-E 3).
        negative_prompt: What is not to be seen (Flux, Stable Diffusion).
        seed: The same seed, the same picture.
        image_url: A picture to start from (Flux Kontext, Stable Diffusion).
        extra: Any other option.
    """

    size: str | None = None
    aspect_ratio: str | None = None
    format: str | None = None
    quality: str | None = None
    style: str | None = None
    negative_prompt: str | None = None
    seed: int | None = None
    image_url: str | None = None
    extra: Mapping[str, Any] = field(factory=dict)

    __getitem__, __iter__, __len__ = _get, _names, _count


@frozen(kw_only=True, eq=False)
class VideoParams(Mapping[str, Any]):
    """Options of video models.

    Attributes:
        duration: Seconds, 5 (if not given) or 10, as the model has it.
        aspect_ratio: "16:9" (if not given), "9:16" or "1:1".
        negative_prompt: What is not to be seen.
        image_url: A picture to start from.
        extra: Any other option.
    """

    duration: int | None = None
    aspect_ratio: str | None = None
    negative_prompt: str | None = None
    image_url: str | None = None
    extra: Mapping[str, Any] = field(factory=dict)

    __getitem__, __iter__, __len__ = _get, _names, _count


@frozen(kw_only=True, eq=False)
class MusicParams(Mapping[str, Any]):
    """Options of music models.

    Attributes:
        duration: Seconds, 15 to 120; 30 if not given.
        extra: Any other option.
    """

    duration: int | None = None
    extra: Mapping[str, Any] = field(factory=dict)

    __getitem__, __iter__, __len__ = _get, _names, _count


@frozen(kw_only=True, eq=False)
class SpeechParams(Mapping[str, Any]):
    """Options of models that speak a text.

    Attributes:
        voice_id: Such as "nova" (OpenAI), "rachel" (ElevenLabs), "male-qn-qingse" (MiniMax).
        speed: 0.5 to 2.0; 1.0 if not given.
        format: "mp3" (if not given), "wav" or "ogg".
        extra: Any other option.
    """

    voice_id: str | None = None
    speed: float | None = None
    format: str | None = None
    extra: Mapping[str, Any] = field(factory=dict)

    __getitem__, __iter__, __len__ = _get, _names, _count

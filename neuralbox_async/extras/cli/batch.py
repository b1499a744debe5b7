"""What the demo asks for: forty requests as people make them, three of which the service is going to refuse."""

from collections import Counter
from typing import Any, Final

from neuralbox_async import GenerationRequest
from neuralbox_async.extras.cli.screen import kind_of

_ASKED: Final[tuple[tuple[str, str, dict[str, Any]], ...]] = (
    ("kling-v2.1-pro", "A blooming flower, macro, morning light", {"duration": 5}),
    ("musicgen", "Calm piano over soft rain", {"duration": 30}),
    ("luma-ray2-flash", "Waves roll over a black sand beach at dusk", {"duration": 5}),
    ("gpt-5", "Explain quantum computing in simple terms", {}),
    ("dall-e-3", "A futuristic city at sunset, cyberpunk style", {"size": "1024x1024"}),
    ("luma-ray2-flash", "A kite rises over a green hill", {"duration": 5}),
    ("kling-v2.1-pro", "A cat stretches on a warm window sill", {"duration": 5}),
    ("openai-tts", "Welcome aboard. We depart in five minutes.", {"voice_id": "nova"}),
    ("luma-ray2-flash", "Snow falls on a quiet railway station", {"duration": 5}),
    ("musicgen", "Slow cello in a large hall", {"duration": 30}),
    ("kling-v2.1-pro", "A sailing boat turns into the wind", {"duration": 5}),
    ("luma-ray2-flash", "Fireflies over a meadow at night", {"duration": 5}),
    ("claude-sonnet-4.5", "Make this sound friendly: send the file now", {}),
    ("kling-v2.1-pro", "Steam rises from a cup of tea", {"duration": 5}),
    ("luma-ray2-flash", "A tram passes in the evening sun", {"duration": 5}),
    ("musicgen", "Eight bars of a happy ukulele", {"duration": 30}),
    ("luma-ray2-flash", "A forbidden scene", {"duration": 5}),
    ("flux-1.1-pro", "Product photo of a green glass bottle on white", {"size": "768x1344"}),
    ("luma-ray2-flash", "A paper boat drifts down a rainy street", {"duration": 5}),
    ("gemini-3-pro", "Compare three ways to store energy at home", {}),
    ("luma-ray2-flash", "Flight through a canyon, slow and steady", {"duration": 5}),
    ("elevenlabs-flash", "Your order is on its way.", {"voice_id": "rachel"}),
    ("luma-ray2-flash", "A lighthouse in a storm, seen from the sea", {"duration": 5}),
    ("gpt-5", "Name a bakery on the corner of Mill Street", {}),
    ("luma-ray2-flash", "A fox walks through fresh snow", {"duration": 5}),
    ("dall-e-3", "A forbidden picture", {"size": "1024x1024"}),
    ("luma-ray2-flash", "Hot air balloons over a valley at dawn", {"duration": 5}),
    ("claude-sonnet-4.5", "Summarise: the meeting moved from Monday to Thursday", {}),
    ("luma-ray2-flash", "Rain runs down a window, city lights behind", {"duration": 5}),
    ("openai-tts", "The museum closes in ten minutes.", {"voice_id": "alloy"}),
    ("luma-ray2-flash", "A potter shapes a bowl, close up", {"duration": 5}),
    ("flux-1.1-pro", "A castle on a cliff, ink drawing", {}),
    ("luma-ray2-flash", "Leaves swirl in a quiet courtyard", {"duration": 5}),
    ("gpt-5", "Write a forbidden recipe", {}),
    ("elevenlabs-flash", "Turn left, then keep right.", {"voice_id": "adam"}),
    ("flux-1.1-pro", "An isometric tiny kitchen", {}),
    ("gemini-3-pro", "How many squares are on a chess board?", {}),
    ("dall-e-3", "A red balloon over the roofs of Lisbon", {"size": "1792x1024"}),
    ("openai-tts", "Once upon a time there was a very small dragon.", {"voice_id": "fable"}),
    ("claude-sonnet-4.5", "Draft a polite reminder for an unpaid invoice", {}),
)


def make_batch() -> list[GenerationRequest]:
    """Return the requests, each named after its kind: "video-01", "text-07"."""
    numbers: Counter[str] = Counter()
    batch = []
    for model, prompt, params in _ASKED:
        kind = kind_of(model)
        numbers[kind] += 1
        batch.append(GenerationRequest(model, prompt, params or None, key=f"{kind}-{numbers[kind]:02}"))
    return batch

"""What is sent: the quickstart's own words, and nothing that no service could take."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest

from neuralbox_async import GenerationRequest, UsageError
from neuralbox_async._core import api


def sent(request: GenerationRequest) -> dict[str, Any]:
    """Return the JSON object that a request becomes."""
    body = api.generate(request).body
    assert body is not None
    content: dict[str, Any] = json.loads(body)
    return content


def test_a_request_is_what_the_quickstart_sends() -> None:
    """Model and prompt stand at the top, options in `params`; key and tag stay here."""
    request = GenerationRequest("dall-e-3", "A shop", {"size": "1024x1024"}, key="shop", tag=object())
    assert sent(request) == {"model": "dall-e-3", "prompt": "A shop", "params": {"size": "1024x1024"}}


@pytest.mark.parametrize("params", [None, {}])
def test_no_params_are_left_out(params: Mapping[str, Any] | None) -> None:
    """A request without options has no `params`, as in the quickstart's first example."""
    assert sent(GenerationRequest("gpt-5", "Hello", params)) == {"model": "gpt-5", "prompt": "Hello"}


def test_only_a_generation_is_paid_for() -> None:
    """What costs tokens carries its request; nothing else does."""
    request = GenerationRequest("gpt-5", "Hello")
    assert api.generate(request).request is request
    assert (api.generation(7).request, api.balance().request, api.download(7).request) == (None, None, None)


def test_any_text_survives_the_wire() -> None:
    """Prompts in any script, with any white space and any quotes, arrive as they were."""
    prompt = 'Кофейня "уют"\n\t☕ 咖啡\u2028\\ \x00'
    assert sent(GenerationRequest("any slug/ёлка", prompt)) == {"model": "any slug/ёлка", "prompt": prompt}


def test_any_mapping_and_sequence_can_be_params() -> None:
    """Options may be any mapping and hold tuples; JSON knows only objects and lists."""
    params = MappingProxyType({"messages": ({"role": "user"},), "more": MappingProxyType({"seed": 1})})
    wanted = {"messages": [{"role": "user"}], "more": {"seed": 1}}
    assert sent(GenerationRequest("gpt-5", "Hello", params))["params"] == wanted


CIRCULAR: dict[str, Any] = {}
CIRCULAR["self"] = CIRCULAR


def test_a_conversation_is_no_prompt() -> None:
    """Who passes messages, as to openai's SDK, is told where they go; what they say is not repeated."""
    messages: Any = [{"role": "user", "content": "private"}]
    with pytest.raises(UsageError, match=r"params=\{'messages': \[…\]\}") as caught:
        sent(GenerationRequest("gpt-5", messages))
    assert "private" not in str(caught.value)


@pytest.mark.parametrize("field", ["model", "prompt"])
@pytest.mark.parametrize("value", ["", "  \n", None, 5, b"bytes", ["x"]])
def test_model_and_prompt_must_be_text(field: str, value: Any) -> None:
    """An empty or missing prompt is refused here, with the name of the argument."""
    words = {"model": "gpt-5", "prompt": "Hello", field: value}
    with pytest.raises(UsageError, match=f"^{field} must be a text") as caught:
        api.generate(GenerationRequest(**words))
    assert (caught.value.billed, caught.value.retryable) == ("no", False)


@pytest.mark.parametrize("params", [5, "duration=5", ["duration"], [("duration", 5)]])
def test_params_must_be_a_mapping(params: Any) -> None:
    """Options that are no mapping are refused here."""
    with pytest.raises(UsageError, match=r"^params must be a mapping"):
        api.generate(GenerationRequest("gpt-5", "Hello", params))


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), b"bytes", {1, 2}, object(), datetime.now(UTC), "\ud800", {("a", "b"): 1}, CIRCULAR],
    ids=["nan", "inf", "bytes", "set", "object", "datetime", "lone surrogate", "tuple as name", "circle"],
)
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    """An option that JSON cannot hold is a usage error, before anything is sent."""
    with pytest.raises(UsageError, match="cannot be written as JSON"):
        api.generate(GenerationRequest("gpt-5", "Hello", {"option": value}))


@pytest.mark.parametrize(
    ("generation_id", "path"),
    [
        (18473, "/generate/18473"),
        ("gen_01j9x2abc123", "/generate/gen_01j9x2abc123"),
        (10**30, f"/generate/{10**30}"),
        ("../balance", "/generate/..%2Fbalance"),
        ("a b?c#d", "/generate/a%20b%3Fc%23d"),
        ("ёж", "/generate/%D1%91%D0%B6"),
    ],
)
def test_an_id_is_one_part_of_the_path(generation_id: int | str, path: str) -> None:
    """Ids are integers or texts, and a text cannot lead to another path."""
    assert api.generation(generation_id).path == path


@pytest.mark.parametrize("generation_id", [True, False, None, 1.5, b"x", "", "  ", ["1"]])
def test_what_cannot_be_an_id_is_refused(generation_id: Any) -> None:
    """A wrong id is a usage error, before anything is sent."""
    with pytest.raises(UsageError, match="id is an integer or a string"):
        api.generation(generation_id)


def test_what_was_passed_instead_is_shown_in_a_short_line() -> None:
    """An error shows the beginning of a long value, and says of a call that nobody awaited it."""

    async def submit() -> None:
        """Stand for a call of a client."""

    not_awaited = submit()
    with pytest.raises(UsageError, match=r"^An id is .*submit\(…\), which was not awaited\.$"):
        api.checked_id(not_awaited)
    not_awaited.close()
    with pytest.raises(UsageError, match=r"^An id is .*, not \['a{90,100}…\.$"):
        api.checked_id(["a" * 10_000])

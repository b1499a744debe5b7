"""What is passed to the client is checked here, before anything is sent: an argument that cannot work is a UsageError.

Each check returns the value it was given, names the argument, and says what it takes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from neuralbox_async._core.budget import Budget
from neuralbox_async._core.errors import UsageError
from neuralbox_async._core.models import GenerationRequest


def checked_seconds(name: str, value: float) -> float:
    """Return a number of seconds above 0, or raise UsageError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise UsageError(f"{name} must be a number of seconds above 0, not {value!r}.")
    return value


def checked_wait(name: str, value: float) -> float:
    """Return a number of seconds, 0 or more, or raise UsageError."""
    return value if value == 0 and not isinstance(value, bool) else checked_seconds(name, value)


def checked_count(name: str, value: int, *, least: int) -> int:
    """Return a whole number that is large enough, or raise UsageError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{name} must be a whole number of {least} or more, not {value!r}.")
    return value


def checked_budgets(budget: object) -> Sequence[Budget]:
    """Return the budgets that an option names: none, or one. Raises UsageError for anything else."""
    if budget is None:
        return ()
    if isinstance(budget, Budget):
        return (budget,)
    if isinstance(budget, int) and not isinstance(budget, bool):
        return (Budget(budget),)
    raise UsageError(f"budget= takes a number of tokens, a Budget, or None, not {budget!r}.")


def check_kinds(kinds: Mapping[str, Any], **options: object) -> None:
    """Raise UsageError if an option is neither None nor of the kind that `kinds` has for it."""
    for name, value in options.items():
        if value is not None and not isinstance(value, kinds[name]):
            raise UsageError(f"{name}= takes a value of the kind {kinds[name].__name__}, or None, not {value!r}.")


def conversation(
    model: str, prompt: str | None, params: Mapping[str, Any] | None, messages: Sequence[Mapping[str, Any]] | None
) -> GenerationRequest:
    """Return the request of a conversation: its last message is the prompt, what came before is `params.messages`.

    `prompt`, if given, is the last message, and `messages` all that came before. Raises UsageError if there is no last
    message of the user's, as a text, or `params` has messages too.
    """
    if messages is None:
        return GenerationRequest(model, prompt or "", params)
    if isinstance(messages, str | Mapping) or not all(isinstance(each, Mapping) for each in messages):
        raise UsageError("messages must be a list of mappings such as {'role': 'user', 'content': 'Hello'}.")
    if params is not None and "messages" in params:
        raise UsageError("Pass messages= or params={'messages': …}, not both.")
    earlier = list(messages)
    if prompt is None:
        last = earlier.pop() if earlier else {}
        prompt = last.get("content")
        if last.get("role") != "user" or not isinstance(prompt, str):
            raise UsageError("The last of messages must be the user's, with a text as its content; or pass prompt=….")
    return GenerationRequest(model, prompt, {**(params or {}), "messages": earlier})

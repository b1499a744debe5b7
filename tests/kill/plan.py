"""One run as both sides know it: the process that is killed makes its requests of this, and whoever kills it counts."""

import json
from collections.abc import Iterator

from attrs import asdict, frozen

from neuralbox_async import GenerationRequest

MODELS = ("text", "picture", "clip")


@frozen(kw_only=True)
class Plan:
    """A bulk run.

    Attributes:
        base_url: Where the sandbox listens.
        folder: Where the ledger and the results go.
        jobs: How many items there are.
        at_once: Most of them under way.
        settle: Seconds after a lost POST that its absence from the history proves something.
        resubmit_absent: Whether what that has proved of is sent again.
    """

    base_url: str
    folder: str
    jobs: int
    at_once: int
    settle: float
    resubmit_absent: bool

    def written(self) -> str:
        """Write it for the command line."""
        return json.dumps(asdict(self))


def read(text: str) -> Plan:
    """Read what `written` wrote."""
    return Plan(**json.loads(text))


def requests(count: int) -> Iterator[GenerationRequest]:
    """Yield so many requests, the same each time: 80 of every 200 repeat an earlier one, half of them with a key.

    One of five repeats the item right before it, so that equal ones are under way together, and one a much earlier one.
    """
    asked: list[tuple[str, str]] = []
    for number in range(count):
        match number % 5:
            case 3:
                model, prompt = asked[-1]
            case 4:
                model, prompt = asked[len(asked) // 3]
            case _:
                model, prompt = MODELS[number % 3], f"prompt {number}"
        asked.append((model, prompt))
        yield GenerationRequest(model, prompt, key=f"item-{number}" if number % 2 else None)

"""Options are read once, here, into values; what cannot be read is a usage error before anything is sent."""

import json
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from attrs import frozen
from cyclopts import Parameter

from neuralbox_async import AsyncNeuralBox, Event, UsageError

Params = Annotated[
    tuple[str, ...],
    Parameter(
        name="--param",
        negative="",
        show_default=False,
        help="An option of the model as NAME=VALUE, such as duration=5; may be repeated. "
        "A value that is JSON is sent as JSON (5, true, [1]), anything else as text.",
    ),
]
AsJson = Annotated[bool, Parameter(name="--json", negative="", show_default=False, help="Write JSON lines to stdout.")]
Timeout = Annotated[
    float | None,
    Parameter(name="--timeout", help="Seconds for each generation in all: queueing, retries, waiting. Default: 600."),
]
AnswerTimeout = Annotated[float, Parameter(name="--timeout", help="Seconds for the answer, with retries.")]
BaseUrl = Annotated[
    str | None,
    Parameter(name="--base-url", help="Where the API is; else NEURALBOX_BASE_URL, else https://neuralbox.top/api/v2."),
]

PollInterval = Annotated[
    float | None,
    Parameter(name="--poll-interval", help="Look every so many seconds, instead of when a result can be expected."),
]


def _checked_host(_type: type, host: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9._-]+", host):
        raise ValueError(f"{host!r} is not the name of a host, such as cdn.example.com.")


@Parameter(name="*")
@frozen(kw_only=True)
class Service:
    """Where the service is, and how to wait for it."""

    base_url: BaseUrl = None
    file_hosts: Annotated[
        tuple[Annotated[str, Parameter(validator=_checked_host)], ...],
        Parameter(
            name="--file-host",
            negative="",
            show_default=False,
            help="A host besides the service's own from which results may be fetched; may be repeated.",
        ),
    ] = ()
    poll_interval: PollInterval = None

    def client(self, observe: Callable[[Event], None]) -> AsyncNeuralBox:
        """Make the client. Raises UsageError if the address or the key in the environment cannot work."""
        hosts = [host.lower() for host in self.file_hosts]
        return AsyncNeuralBox(
            base_url=self.base_url, file_hosts=hosts, poll_interval=self.poll_interval, observe=observe
        )


ANYWHERE = Service()


def read_params(params: Sequence[str]) -> dict[str, Any]:
    """Read NAME=VALUE pairs. Raises UsageError for one without a name or a value."""
    read = {}
    for param in params:
        name, equals, value = param.partition("=")
        if not name or not equals:
            raise UsageError(f"--param wants NAME=VALUE, such as duration=5, not {param!r}.")
        read[name] = read_value(value)
    return read


def read_value(text: str) -> Any:
    """Return what a text means: what JSON says, if it is JSON, else the text itself."""
    try:
        return json.loads(text, parse_constant=_not_json)
    except (ValueError, RecursionError):
        return text


def read_id(text: str) -> int | str:
    """Return a generation's id: a number where it is written as one, as the service's first family has it."""
    return int(text) if text.isdecimal() and text.isascii() else text


def _not_json(constant: str) -> Any:
    raise ValueError(constant)

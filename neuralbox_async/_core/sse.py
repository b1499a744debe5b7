"""Text in, stream events out, however the network cuts it: what cannot be read is said to be so, and never guessed.

The format is that of server-sent events (WHATWG HTML, 9.2.6). Of it this API uses `data` lines alone, each event one
JSON object with a `type`, and `[DONE]` at the end. Comments, other fields and types without a meaning here are ignored.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import define, field, frozen

from neuralbox_async._core import strict_json

# A server that never ends its line must not fill the memory. The events documented have a hundred bytes.
LONGEST_EVENT: Final = 1_048_576
_LINE_END: Final = re.compile(rb"\r\n|\n|\r(?!\Z)")  # a return at the very end may yet be followed by its line feed
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


@frozen(kw_only=True)
class Started:
    """The service took the request; `reply` has its id."""

    reply: Mapping[str, Any]


@frozen(kw_only=True)
class Delta:
    """The next piece of the text."""

    text: str


@frozen(kw_only=True)
class Ended:
    """The text is whole; `reply` has what it cost."""

    reply: Mapping[str, Any]


@frozen(kw_only=True)
class Failed:
    """The service gave up; `reason` is its words."""

    reason: str
    reply: Mapping[str, Any]


@frozen(kw_only=True)
class Closed:
    """The service said that nothing more comes."""


@frozen(kw_only=True)
class Unreadable:
    """Something came that is no event, so nothing after it can be trusted; `what` says what is wrong with it."""

    what: str


StreamEvent = Started | Delta | Ended | Failed | Closed | Unreadable


@define(eq=False, repr=False)
class Parser:
    """Turns the bytes of one answer into events, as soon as each is whole; nothing follows what is unreadable.

    `cleaned` takes out of an event what nobody is to see, before it is read.
    """

    cleaned: Callable[[bytes], bytes] = bytes
    _rest: bytes = b""
    _data: list[bytes] = field(factory=list[bytes])
    _begun: bool = False
    _over: bool = False
    _half: str = ""

    def feed(self, received: bytes) -> list[StreamEvent]:
        """Take in some bytes and return the events that they complete."""
        events: list[StreamEvent] = []
        searched = max(0, len(self._rest) - 1)  # a return at the very end may have been waiting for what follows
        self._rest += received
        if _LINE_END.search(self._rest, searched):
            *lines, self._rest = _LINE_END.split(self._rest)
            for line in lines:
                self._take(self._line(line), events)
        if len(self._rest) + sum(map(len, self._data)) > LONGEST_EVENT:
            self._take(Unreadable(what=f"an event has more than {LONGEST_EVENT} bytes"), events)
        return events

    def end(self) -> list[StreamEvent]:
        """Return the event that the end of the answer completes, if any; one that was cut is no event."""
        return [each for each in (*self.feed(b"\n"), *self.feed(b"\n")) if not isinstance(each, Unreadable)]

    def _take(self, event: StreamEvent | None, events: list[StreamEvent]) -> None:
        if self._over:
            self._rest, self._data = b"", []
        elif event is not None:
            events.append(event)
            self._over = isinstance(event, Unreadable)

    def _line(self, line: bytes) -> StreamEvent | None:
        if not self._begun:
            self._begun, line = True, line.removeprefix(_BYTE_ORDER_MARK)
        if line:
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
            return None
        data, self._data = b"\n".join(self._data), []
        event = _event(self.cleaned(data)) if data else None
        return self._joined(event.text) if isinstance(event, Delta) else event

    def _joined(self, text: str) -> Delta:
        """Keep half a character back for its other half: a service that counts in UTF-16 may send them apart."""
        text = self._half + text
        self._half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return Delta(text=strict_json.whole_characters(text.removesuffix(self._half)))


def _event(data: bytes) -> StreamEvent | None:
    if data.strip() == b"[DONE]":
        return Closed()
    try:
        reply = json.loads(data)
    except (ValueError, RecursionError):
        reply = None
    if not isinstance(reply, dict):
        return Unreadable(what=f"an event is no JSON object; it begins {data[:80]!r}")
    return _meaning(reply.pop("type", "error" if "error" in reply else None), reply)


def _meaning(kind: object, reply: Mapping[str, Any]) -> StreamEvent | None:
    match kind:
        case "generation_start":
            return Started(reply=reply)
        case "content_delta":
            return _delta(reply)
        case "generation_end":
            return Ended(reply=reply)
        case "error":
            return Failed(reason=_reason(reply), reply=reply)
        case _:
            return None


def _delta(reply: Mapping[str, Any]) -> Delta | Unreadable:
    text = reply.get("delta")
    return Delta(text=text) if isinstance(text, str) else Unreadable(what="a piece of the text is no text")


def _reason(reply: Mapping[str, Any]) -> str:
    words = [reply.get(name) for name in ("message", "error")]
    return next((each for each in words if isinstance(each, str) and each), "the service gives no reason")

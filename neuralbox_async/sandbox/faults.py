"""A fault is plain data: how often the world does what was asked, and what the client gets to see of it.

    sandbox.order(faults.lost())                                        the next POST is booked, its answer is lost
    sandbox.order(faults.status(503, "model_unavailable"), times=2)     the next two are turned away
    sandbox.order(faults.delay(2.5), on="GET /generate/{id}", skip=1)   the second look takes 2.5 s longer

What a fault answers comes from in front of the service: no plan window counts it and it shows no X-RateLimit header.
Seconds are client seconds, whatever the sandbox's speed.
"""

from collections.abc import Mapping
from typing import Any

from attrs import define, evolve, field, frozen

from neuralbox_async.sandbox.plans import PLANS, Plan, rate_limit_answer
from neuralbox_async.sandbox.wire import JSON, Answer, Connection, error_answer, file_answer, json_answer

EVERYTHING = "*"
"""What to order a fault on, to meet every request."""


@frozen(kw_only=True)
class Fault:
    """One thing that goes wrong; make one with the functions of this module.

    `books` is how many times the request is carried out (0, 1 or 2), `answer` stands in for the world's own answer.
    """

    books: int = 1
    answer: Answer | None = None
    delay: float = 0.0
    connection: Connection = Connection.KEPT

    @property
    def before_reading(self) -> bool:
        """Say whether it strikes before the request's body is read."""
        return self.connection in (Connection.REFUSED, Connection.UNREACHABLE)

    def applied_to(self, own: Answer) -> Answer:
        """Return what the client gets instead of the world's own answer, after the same time."""
        answer = self.answer or own
        return evolve(answer, delay=own.delay + self.delay, connection=self.connection)


def refuse() -> Fault:
    """Refuse the connection: the request's body is never read (on a port: closed before the body is read)."""
    return Fault(books=0, connection=Connection.REFUSED)


def unreachable() -> Fault:
    """Let connecting take for ever, until the client's connect timeout (on a port: accepted, never answered)."""
    return Fault(books=0, connection=Connection.UNREACHABLE)


def cut() -> Fault:
    """Read the request, do nothing, and drop the connection."""
    return Fault(books=0, connection=Connection.CUT)


def lost() -> Fault:
    """Do what was asked (book, charge) and drop the connection when the answer was due."""
    return Fault(connection=Connection.CUT)


def hang() -> Fault:
    """Do what was asked (book, charge) and never answer."""
    return Fault(connection=Connection.HANGS)


def cut_in_body() -> Fault:
    """Do what was asked and drop the connection in the middle of the answer's body."""
    return Fault(connection=Connection.CUT_IN_BODY)


def hang_in_body() -> Fault:
    """Do what was asked, stop in the middle of the answer's body, and keep the connection open."""
    return Fault(connection=Connection.HANGS_IN_BODY)


def duplicate() -> Fault:
    """Do what was asked twice, as infrastructure that replays a POST does, and answer once, for the second."""
    return Fault(books=2)


def delay(seconds: float) -> Fault:
    """Answer so many seconds later than usual."""
    return Fault(delay=seconds)


def rate_limited(retry_after: float, plan: Plan = PLANS["vip"]) -> Fault:
    """Answer 429 in the documented words, with `retry_after` seconds in the body and rounded up in the header."""
    message = f"Hourly limit reached: {plan.per_hour} requests/hour on {plan.name.upper()} plan"
    return Fault(books=0, answer=rate_limit_answer(plan, retry_after, message))


def status(
    code: int,
    error: str = "provider_error",
    *,
    body: Mapping[str, Any] | None = None,
    retry_after: str | None = None,
) -> Fault:
    """Answer with this HTTP status and the error envelope, or with `body` in its place; nothing is booked.

    `retry_after` is the header's text: "7", or a date.
    """
    answer = error_answer(code, error, f"Ordered from the sandbox: {code}")
    if body is not None:
        answer = json_answer(body, status=code)
    if retry_after is not None:
        answer = answer.with_headers({"Retry-After": retry_after})
    return Fault(books=0, answer=answer)


def html(code: int = 502) -> Fault:
    """Answer with a proxy's HTML page; nothing is booked."""
    page = f"<html><head><title>{code}</title></head><body><h1>{code}</h1><hr>proxy</body></html>"
    return Fault(books=0, answer=file_answer(page.encode(), "text/html", status=code))


def empty() -> Fault:
    """Do what was asked and answer 200 without a body."""
    return Fault(answer=file_answer(b"", JSON))


def garbled() -> Fault:
    """Do what was asked and answer 200 with JSON that breaks off."""
    return Fault(answer=file_answer(b'{"id": 185', JSON))


@define(kw_only=True)
class Order:
    """A fault that waits for its requests: lets `skip` of them pass, then strikes `left` times (None: always)."""

    fault: Fault
    on: str
    left: int | None
    skip: int

    def takes(self, request: str) -> bool:
        """Say whether the fault strikes this request ("POST /generate"), and count it."""
        if self.left == 0 or self.on not in (EVERYTHING, request):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.left = None if self.left is None else self.left - 1
        return True


@define
class Orders:
    """The faults ordered, oldest first. Each request is offered to them in turn until one takes it."""

    orders: list[Order] = field(factory=list[Order])

    def take(self, request: str) -> Fault | None:
        """Return the fault that strikes this request, if any."""
        return next((order.fault for order in self.orders if order.takes(request)), None)

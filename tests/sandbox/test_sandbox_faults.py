"""Faults: what each one books, and what it lets the client see."""

import json
from typing import Any

import pytest

from neuralbox_async.sandbox import UNANSWERED, Answer, Ask, Connection, Fault, Sandbox, faults


def post(sandbox: Sandbox, *, now: float = 0.0) -> Answer:
    """Ask for a text."""
    body = json.dumps({"model": "gpt-5", "prompt": "Hello"}).encode()
    headers = {"authorization": f"Bearer {sandbox.key}"}
    return sandbox.world.answer(Ask(method="POST", path="/api/v2/generate", headers=headers, body=body), now)


@pytest.mark.parametrize(
    ("fault", "booked", "status", "connection"),
    [
        (faults.cut(), 0, UNANSWERED, Connection.CUT),
        (faults.lost(), 1, UNANSWERED, Connection.CUT),
        (faults.hang(), 1, UNANSWERED, Connection.HANGS),
        (faults.cut_in_body(), 1, 200, Connection.CUT_IN_BODY),
        (faults.duplicate(), 2, 200, Connection.KEPT),
        (faults.delay(3), 1, 200, Connection.KEPT),
        (faults.rate_limited(7), 0, 429, Connection.KEPT),
        (faults.status(503, "model_unavailable"), 0, 503, Connection.KEPT),
        (faults.html(502), 0, 502, Connection.KEPT),
        (faults.empty(), 1, 200, Connection.KEPT),
        (faults.garbled(), 1, 200, Connection.KEPT),
    ],
)
def test_what_a_fault_books_and_shows(fault: Fault, booked: int, status: int, connection: Connection) -> None:
    """Each fault books and charges so many generations, and leaves the connection so."""
    sandbox = Sandbox()
    sandbox.order(fault)
    answer = post(sandbox)
    assert answer.connection is connection
    assert (sandbox.booked, len(sandbox.charges)) == (booked, booked)
    assert sandbox.requests.counts == {("POST", "/generate", status): 1}


@pytest.mark.parametrize(
    ("fault", "connection"),
    [(faults.refuse(), Connection.REFUSED), (faults.unreachable(), Connection.UNREACHABLE)],
)
def test_a_refused_request_is_never_read(fault: Fault, connection: Connection) -> None:
    """A refusal strikes before the body is read, once, and no request is counted."""
    sandbox = Sandbox()
    sandbox.order(fault)
    assert [sandbox.refusal("POST", "/api/v2/generate") for _ in range(2)] == [connection, None]
    assert post(sandbox).status == 200
    assert (sandbox.requests.refused, sandbox.requests.total) == (1, 1)


@pytest.mark.parametrize(
    ("fault", "body"),
    [
        (faults.empty(), b""),
        (faults.garbled(), b'{"id": 185'),
        (faults.status(500, body={"oops": 1}), b'{"oops": 1}'),
    ],
)
def test_what_a_fault_says_instead(fault: Fault, body: bytes) -> None:
    """Some faults bring an answer of their own."""
    sandbox = Sandbox()
    sandbox.order(fault)
    assert post(sandbox).body == body


def test_a_proxys_page_is_html() -> None:
    """An HTML fault looks like a proxy's page."""
    answer = faults.html(502).answer
    assert answer is not None
    assert answer.headers["Content-Type"] == "text/html"
    assert answer.body.startswith(b"<html>")


def test_an_ordered_429_has_the_documented_words() -> None:
    """A 429 out of turn says in body and header how long to wait."""
    answer = faults.rate_limited(2.5).answer
    assert answer is not None
    assert json.loads(answer.body)["retry_after"] == 2.5
    assert json.loads(answer.body)["error"] == "rate_limit_exceeded"
    assert answer.headers["Retry-After"] == "3"


def test_retry_after_may_be_any_text() -> None:
    """A status can carry a Retry-After, a date too."""
    answer = faults.status(503, "model_unavailable", retry_after="Sun, 08 Mar 2026 12:00:10 GMT").answer
    assert answer is not None
    assert answer.headers["Retry-After"] == "Sun, 08 Mar 2026 12:00:10 GMT"


def test_an_answer_comes_later() -> None:
    """A delay adds to what the answer takes anyway."""
    usual, late = Sandbox(), Sandbox()
    late.order(faults.delay(3))
    assert post(late).delay == pytest.approx(post(usual).delay + 3)


def test_half_a_body_is_let_through_before_the_cut() -> None:
    """A cut in mid body leaves some of it, and not all."""
    sandbox = Sandbox()
    sandbox.order(faults.cut_in_body())
    answer = post(sandbox)
    assert 0 < len(b"".join(answer.chunks_before_cut)) < len(answer.body)


def test_faults_strike_in_the_order_they_were_ordered() -> None:
    """The oldest order that fits takes the request; `skip` lets some pass, `times` ends it."""
    sandbox = Sandbox()
    sandbox.order(faults.status(503), skip=1, times=2)
    sandbox.order(faults.status(500))
    assert [post(sandbox).status for _ in range(5)] == [500, 503, 503, 200, 200]


def test_a_fault_may_last_for_ever() -> None:
    """Without a number of times it strikes every request of the route."""
    sandbox = Sandbox()
    sandbox.order(faults.html(), on="*", times=None)
    assert {post(sandbox).status for _ in range(10)} == {502}


def test_a_fault_leaves_other_routes_alone() -> None:
    """An order for looks does not touch POSTs."""
    sandbox = Sandbox()
    sandbox.order(faults.status(500), on="GET /generate/{id}")
    assert post(sandbox).status == 200


def test_an_unknown_route_says_which_there_are() -> None:
    """A mistyped route is refused with the right ones named."""
    with pytest.raises(ValueError, match=r"POST /generate, GET /generate/\{id\}"):
        Sandbox().order(faults.cut(), on="POST /generation")


def test_a_fault_without_its_parentheses_says_so() -> None:
    """What is no fault is refused when it is ordered, and not when the request comes."""
    fault: Any = faults.lost
    with pytest.raises(TypeError, match=r"such as faults\.lost\(\), not <function lost"):
        Sandbox().order(fault)

"""The sandbox as an ASGI app: the same answers on a real port, bodies in pieces, and no wait outlives its client.

ASGI has no word for dropping a connection. `serve` gives the app one: the scope's extension `DROP`, a function without
arguments that closes the connection after what was sent. On a server that lacks it, an ordered cut raises.
"""

import math
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

import anyio

from neuralbox_async.sandbox.wire import Answer, Ask, Connection, Service

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

DROP = "neuralbox_async.drop"


def asgi_app(sandbox: Service) -> App:
    """Return an ASGI application (HTTP only) that answers as this sandbox does."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError(f"the sandbox speaks http, not {scope['type']}: switch that off in the ASGI server")
        match sandbox.refusal(scope["method"], scope["path"]):
            case None:
                ask = await _read(scope, receive)
                if ask is not None:
                    await _deliver(sandbox.answer(ask, anyio.current_time()), scope, receive, send)
            case Connection.UNREACHABLE:
                await _until_client_leaves(receive)
            case _:
                await _drop(scope, receive)

    return app


async def _read(scope: Scope, receive: Receive) -> Ask | None:
    """Read the request to its end; None if the client left before."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    return Ask(
        method=scope["method"],
        path=scope["path"],
        headers=headers,
        body=bytes(body),
        query=dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"))),
        scheme=scope["scheme"],
    )


async def _deliver(answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
    delay = math.inf if answer.connection is Connection.HANGS else answer.delay
    with anyio.move_on_after(delay):
        await _until_client_leaves(receive)
        return
    if answer.connection is not Connection.CUT:
        await _send(answer, receive, send)
    if answer.connection is Connection.HANGS_IN_BODY:
        await _until_client_leaves(receive)
    elif answer.connection is not Connection.KEPT:
        await _drop(scope, receive)


async def _send(answer: Answer, receive: Receive, send: Send) -> None:
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    for number, chunk in enumerate(answer.sent_chunks):
        with anyio.move_on_after(answer.spacing if number else 0):
            await _until_client_leaves(receive)
            return
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    if answer.connection is Connection.KEPT:
        await send({"type": "http.response.body", "body": b""})


async def _drop(scope: Scope, receive: Receive) -> None:
    drop = scope.get("extensions", {}).get(DROP)
    if drop is None:
        raise ConnectionAbortedError("this ASGI server cannot drop a connection: use neuralbox_async.sandbox.serve")
    drop()
    await _until_client_leaves(receive)


async def _until_client_leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

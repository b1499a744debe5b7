"""`async with serve(sandbox) as base_url`: a real server on a real port, gone when the block ends.

uvicorn is imported only here, and only when a server starts: it belongs to the extra `sandbox`.
"""

import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import anyio
import sniffio

from neuralbox_async.sandbox.asgi import DROP, Receive, Scope, Send, asgi_app
from neuralbox_async.sandbox.routes import PREFIX
from neuralbox_async.sandbox.wire import Service

if TYPE_CHECKING:
    import uvicorn


@contextlib.asynccontextmanager
async def serve(sandbox: Service, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve a sandbox over HTTP and yield its base URL; port 0 takes a free one.

    Leaving the block drops whatever is still open. Signals and the event loop stay the program's own.
    Raises RuntimeError outside asyncio or without uvicorn, and OSError where the port is taken.
    """
    ready, leaving = anyio.Event(), anyio.Event()
    server = _make_server(sandbox, ready, leaving)
    listener = socket.create_server((host, port))
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_run, server, listener)
            try:
                await ready.wait()
                yield f"http://{host}:{listener.getsockname()[1]}{PREFIX}"
            finally:
                leaving.set()
                _close_connections(server)
    except BaseExceptionGroup as group:
        # What the block raised comes wrapped by the task group; it leaves as itself.
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise


def _make_server(sandbox: Service, ready: anyio.Event, leaving: anyio.Event) -> "uvicorn.Server":
    if sniffio.current_async_library() != "asyncio":
        raise RuntimeError("uvicorn needs asyncio: run this with anyio.run(main), or meet the sandbox in process")
    try:
        import uvicorn  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise RuntimeError('a sandbox on a port needs uvicorn: pip install "neuralbox-async[sandbox]"') from error

    class Server(uvicorn.Server):
        """Tells when it listens, is told when to end, and leaves signals alone."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready.set()

        async def main_loop(self) -> None:
            await leaving.wait()  # uvicorn's own looks ten times a second whether it should exit

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    answer = asgi_app(sandbox)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"] = {DROP: lambda: _close_connections(server, scope["client"])}
        await answer(scope, receive, send)

    server = Server(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            date_header=False,  # the world tells its own time
            server_header=False,
            proxy_headers=False,  # they would change scope["client"], by which a connection is found
            timeout_graceful_shutdown=1,
        )
    )
    return server


async def _run(server: "uvicorn.Server", listener: socket.socket) -> None:
    # Cancelled half-way uvicorn would leave its sockets open; told to exit it closes them and is gone at once.
    with anyio.CancelScope(shield=True):
        await server.serve(sockets=[listener])


def _close_connections(server: "uvicorn.Server", client: tuple[str, int] | None = None) -> None:
    """Close the connection to this client, or all; what was written is still sent."""
    for connection in list(server.server_state.connections):
        if client in (None, connection.transport.get_extra_info("peername")[:2]):
            connection.transport.close()

"""The fast clock: hours pass in milliseconds, and sockets still work."""

import asyncio
import socket
import subprocess
import sys

import anyio

from neuralbox_async.sandbox import VirtualTimeLoop

FAST = {"loop_factory": VirtualTimeLoop}


def test_sleeping_takes_no_time_and_keeps_its_order() -> None:
    """Tasks wake in the order of their timers, the clock showing when."""
    woken = []

    async def sleep(seconds: float) -> None:
        await anyio.sleep(seconds)
        woken.append((seconds, anyio.current_time()))

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for seconds in (86_400.0, 0.5, 3_600.0):
                tasks.start_soon(sleep, seconds)

    anyio.run(main, backend_options=FAST)
    assert woken == [(0.5, 0.5), (3_600.0, 3_600.0), (86_400.0, 86_400.0)]


def test_a_timeout_strikes_in_virtual_time() -> None:
    """A deadline of a day passes at once."""

    async def main() -> float:
        with anyio.move_on_after(86_400):
            await anyio.sleep_forever()
        return anyio.current_time()

    assert anyio.run(main, backend_options=FAST) == 86_400


def test_sockets_still_work() -> None:
    """What is ready to be read is read before the clock jumps."""

    async def main() -> bytes:
        near, far = socket.socketpair()
        with near, far:
            far.send(b"hello")
            near.setblocking(False)  # noqa: FBT003
            return await asyncio.get_running_loop().sock_recv(near, 5)

    assert anyio.run(main, backend_options=FAST) == b"hello"


def test_a_thread_is_waited_for() -> None:
    """With no timer set but for those that never come, the loop waits for a thread as any loop does."""

    async def main() -> int:
        answer = 0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            answer = await anyio.to_thread.run_sync(lambda: 42)
            tasks.cancel_scope.cancel()
        return answer

    assert anyio.run(main, backend_options=FAST) == 42


def test_a_deadlock_is_an_error() -> None:
    """Where nothing can ever happen any more, the loop says so instead of hanging."""
    # In a process of its own: a thread that an earlier test left idle could, as far as the loop knows, wake it.
    program = """
import anyio
from neuralbox_async.sandbox import VirtualTimeLoop
anyio.run(anyio.sleep_forever, backend_options={"loop_factory": VirtualTimeLoop})
"""
    ended = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert "RuntimeError: deadlock: every task waits" in ended.stderr

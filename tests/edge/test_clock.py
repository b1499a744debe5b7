"""Time passes in the event loop; what is written down is this machine's time, unless the loop's is virtual."""

import threading
import time

import anyio
import pytest

from neuralbox_async._edge import clock

pytestmark = pytest.mark.anyio


async def test_on_a_virtual_clock_written_times_pass_with_it() -> None:
    """An hour on a clock that jumps is an hour between two dates, and takes no time of this machine."""
    really, began, wall = time.time(), clock.now(), clock.wall()
    await clock.sleep(3600)
    assert clock.now() - began == pytest.approx(3600)
    assert clock.wall() - wall == pytest.approx(3600)
    assert time.time() - really < 60


async def test_on_a_virtual_clock_blocking_work_is_done_at_once() -> None:
    """A clock that jumps would not wait for a thread."""
    assert await clock.run_blocking(threading.get_ident) == threading.get_ident()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_on_a_real_clock_written_times_are_this_machine_s_and_work_goes_to_a_thread(backend: str) -> None:
    """No virtual clock: Unix time, and the event loop goes on while a thread waits for the disk."""

    async def main() -> None:
        assert not clock.is_virtual()
        assert abs(clock.wall() - time.time()) < 60
        assert await clock.run_blocking(threading.get_ident) != threading.get_ident()

    anyio.run(main, backend=backend)


def test_outside_of_an_event_loop_written_times_are_this_machine_s() -> None:
    """A ledger is looked at by plain programs too."""
    assert abs(clock.wall() - time.time()) < 60

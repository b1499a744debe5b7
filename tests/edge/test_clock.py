"""Time passes in the event loop; what is written down is this machine's time."""

import time

import pytest

from neuralbox_async._edge import clock

pytestmark = pytest.mark.anyio


async def test_sleeping_takes_the_loop_s_time_only() -> None:
    """An hour on a clock that jumps takes no time of this machine."""
    began, wall = clock.now(), clock.wall()
    await clock.sleep(3600)
    assert clock.now() - began == pytest.approx(3600)
    assert clock.wall() - wall < 60
    assert abs(clock.wall() - time.time()) < 60

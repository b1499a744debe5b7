"""Both event loops, on clocks that jump: no test waits for real unless it says so."""

import pytest
import trio.testing

from neuralbox_async.sandbox import VirtualTimeLoop


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    """Run each async test on asyncio and on trio, in virtual time."""
    if request.param == "trio":
        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return "asyncio", {"loop_factory": VirtualTimeLoop}

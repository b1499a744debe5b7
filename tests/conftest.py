"""Both event loops, on clocks that jump: no test waits for real unless it says so. And a disk that is soon full."""

from collections.abc import Iterator

import pytest
import trio.testing

from neuralbox_async.sandbox import VirtualTimeLoop


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    """Run each async test on asyncio and on trio, in virtual time."""
    if request.param == "trio":
        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return "asyncio", {"loop_factory": VirtualTimeLoop}


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Let no file of this process grow beyond a megabyte."""
    resource = pytest.importorskip("resource")  # POSIX has it
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)

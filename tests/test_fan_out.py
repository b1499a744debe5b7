"""Many at once: lazy input, results as they finish, flat memory, and errors that leave as themselves."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

from neuralbox_async._fan_out import fan_out

pytestmark = pytest.mark.anyio


async def wait(seconds: float) -> float:
    """Take so many seconds and return them."""
    await anyio.sleep(seconds)
    return seconds


async def take(results: AsyncIterator[float], into: list[float]) -> None:
    """Take results into a list, up to the end or to an error."""
    async for result in results:
        into.append(result)  # noqa: PERF401 - what came before an error must be seen


async def from_async(items: Any) -> AsyncIterator[Any]:
    """Yield items, with a pause before each."""
    for item in items:
        await anyio.sleep(0.01)
        yield item


class Counted:
    """An endless input that counts how much was pulled of it, sync or async."""

    def __init__(self) -> None:
        self.pulled = 0

    def numbers(self) -> Iterator[int]:
        """Yield whole numbers from 1 on."""
        while True:
            self.pulled += 1
            yield self.pulled

    async def later(self) -> AsyncIterator[int]:
        """Yield whole numbers from 1 on, with a pause before each."""
        while True:
            await anyio.sleep(0.001)
            self.pulled += 1
            yield self.pulled


@pytest.fixture(autouse=True)
async def no_task_is_left() -> AsyncIterator[None]:
    """Whatever happens in a block, no task outlives it."""
    before = len(anyio.get_running_tasks())
    yield
    assert len(anyio.get_running_tasks()) == before


@pytest.mark.parametrize("source", [list, iter, tuple, from_async], ids=["list", "iterator", "tuple", "async"])
async def test_results_come_as_they_finish(source: Any) -> None:
    """Any iterable, sync or async; the fastest result first."""
    async with fan_out(source([3.0, 1.0, 2.0]), wait, limit=10) as results:
        assert [result async for result in results] == [1, 2, 3]


async def test_nothing_in_nothing_out() -> None:
    """An empty input ends at once."""
    async with fan_out([], wait, limit=10) as results:
        assert [result async for result in results] == []


@pytest.mark.parametrize("limit", [1, 3, 50])
async def test_no_more_than_the_limit_at_once(limit: int) -> None:
    """100 items of a second take 100/limit seconds."""
    now = most = 0

    async def work(_: int) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await anyio.sleep(1)
        now -= 1

    began = anyio.current_time()
    async with fan_out(range(100), work, limit=limit) as results:
        assert len([result async for result in results]) == 100
    assert most == limit
    assert anyio.current_time() - began == pytest.approx(-(-100 // limit))


@pytest.mark.parametrize("source", ["numbers", "later"])
async def test_an_endless_input_is_pulled_no_further_than_the_limit(source: str) -> None:
    """However slow the reader, never more than `limit` items ahead of it; leaving the block ends it."""
    counted = Counted()
    async with fan_out(getattr(counted, source)(), lambda _: wait(0.001), limit=5) as results:
        for taken in range(1, 50):
            await anyio.sleep(10)
            assert counted.pulled <= taken - 1 + 5
            await anext(results)
        assert counted.pulled <= 49 + 5
    stopped = counted.pulled
    await anyio.sleep(10)
    assert counted.pulled == stopped


async def test_breaking_off_cancels_what_is_under_way() -> None:
    """After `break`, nothing goes on and nobody waits."""
    began = anyio.current_time()
    async with fan_out([1.0, 1000.0, 2000.0], wait, limit=3) as results:
        async for _ in results:
            break
    assert anyio.current_time() - began == pytest.approx(1)


@pytest.mark.parametrize("error", [KeyError("mine"), ExceptionGroup("mine", [ValueError()]), KeyboardInterrupt()])
async def test_the_body_s_own_error_leaves_as_itself(error: BaseException) -> None:
    """Not in a group of one, and not changed."""

    async def take_one() -> None:
        async with fan_out([1.0, 1000.0], wait, limit=3) as results:
            await anext(results)
            raise error

    with pytest.raises(type(error)) as caught:
        await take_one()
    assert caught.value is error


async def test_a_cancelled_reader_is_cancelled_as_such() -> None:
    """A timeout around the block is the caller's timeout, and no result that came is lost before it."""
    taken: list[float] = []
    with anyio.move_on_after(2.5) as scope:
        async with fan_out([1.0, 2.0, 3.0], wait, limit=3) as results:
            await take(results, taken)
    assert scope.cancelled_caught
    assert taken == [1, 2]


async def test_a_cancelled_take_loses_no_result() -> None:
    """Whoever waits for the next result for a while only, gets it the next time."""
    taken: list[float] = []
    async with fan_out([1.0, 2.0, 3.0], wait, limit=3) as results:
        while len(taken) < 3:
            with anyio.move_on_after(0.4):
                taken.append(await anext(results))
    assert taken == [1, 2, 3]


@pytest.mark.parametrize("limit", [1, 2, 10])
async def test_an_input_that_raises_is_told_after_what_had_begun(limit: int) -> None:
    """All items pulled before the error give their results; then it is raised, as itself, once."""

    def items() -> Iterator[float]:
        yield 3.0
        yield 1.0
        raise RuntimeError("line 3 is broken")

    taken: list[float] = []
    async with fan_out(items(), wait, limit=limit) as results:
        with pytest.raises(RuntimeError, match="line 3 is broken"):
            await take(results, taken)
        with pytest.raises(StopAsyncIteration):
            await anext(results)
    assert sorted(taken) == [1, 3]


async def test_an_async_input_that_raises_is_told_too() -> None:
    """The same for async inputs."""

    async def items() -> AsyncIterator[float]:
        yield 1.0
        raise RuntimeError("the queue is gone")

    async with fan_out(items(), wait, limit=5) as results:
        assert await anext(results) == 1
        with pytest.raises(RuntimeError, match="the queue is gone"):
            await anext(results)


async def test_several_readers_share_the_results() -> None:
    """Each result goes to one reader."""
    taken: list[list[float]] = [[], []]

    async with fan_out(map(float, range(40)), wait, limit=4) as results, anyio.create_task_group() as readers:
        readers.start_soon(take, results, taken[0])
        readers.start_soon(take, results, taken[1])
    assert sorted(taken[0] + taken[1]) == list(range(40))
    assert all(taken)


@pytest.mark.parametrize("items", [5, None, object()])
async def test_an_input_that_is_no_iterable_is_a_type_error(items: Any) -> None:
    """A wrong input is said where it was passed, and not in a group."""
    with pytest.raises(TypeError):
        async with fan_out(items, wait, limit=5) as results:
            await anext(results)

"""Many at once: any iterable in, results out as they finish, never more than `limit` under way or waiting to be taken.

An item is pulled only when a slot is free, and a slot is free again only when its result was taken: however endless the
input and however slow the reader, memory stays flat. Knows nothing of NeuralBox.
"""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

Item = TypeVar("Item")
Result = TypeVar("Result")


class Each(Generic[Item]):
    """Any iterable, sync or async, as one async iterator. The caller's own iterator is never closed."""

    def __init__(self, items: Iterable[Item] | AsyncIterable[Item]) -> None:
        self._source = aiter(items) if isinstance(items, AsyncIterable) else iter(items)

    def __aiter__(self) -> AsyncIterator[Item]:
        return self

    async def __anext__(self) -> Item:
        if isinstance(self._source, AsyncIterator):
            return await anext(self._source)
        try:
            return next(self._source)
        except StopIteration:
            pass
        raise StopAsyncIteration


class Ending:
    """Why nothing new is begun any more, before the input has ended; the first reason counts."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.feeding = anyio.CancelScope()

    def because(self, error: Exception) -> None:
        """Stop pulling; what is under way comes out, then the reader gets this error."""
        if self.error is None:
            self.error = error
        self.feeding.cancel()


class Results(Generic[Result]):
    """An async iterator over results as they finish; the error that ended the run early, if any, comes last."""

    def __init__(self, results: MemoryObjectReceiveStream[Result], slots: anyio.Semaphore, ending: Ending) -> None:
        self._results = results
        self._slots = slots
        self._ending = ending

    def __aiter__(self) -> AsyncIterator[Result]:
        return self

    async def __anext__(self) -> Result:
        try:
            result = await self._results.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            pass
        else:
            self._slots.release()
            return result
        error, self._ending.error = self._ending.error, None
        raise StopAsyncIteration if error is None else error


@asynccontextmanager
async def fan_out(
    items: Iterable[Item] | AsyncIterable[Item],
    work: Callable[[Item], Awaitable[Result]],
    *,
    limit: int,
    ending: Ending | None = None,
) -> AsyncIterator[Results[Result]]:
    """Run `work` on each item, at most `limit` at once; leaving the block cancels what is still under way.

    What the input raises ends the run early, and so does `ending.because(error)`, which `work` may call; `work` itself
    must not raise. An error of the body leaves as itself, never in a group of one.
    """
    slots, ending = anyio.Semaphore(limit), ending or Ending()
    send, receive = anyio.create_memory_object_stream[Result](limit)
    body_error: BaseException | None = None
    async with receive, anyio.create_task_group() as tasks:

        async def feed() -> None:
            async with send, anyio.create_task_group() as workers:
                with ending.feeding:
                    try:
                        await _feed(Each(items), slots, lambda item: workers.start_soon(run, item))
                    except Exception as error:  # noqa: BLE001 - raised to the reader, after what had begun
                        ending.because(error)

        async def run(item: Item) -> None:
            send.send_nowait(await work(item))

        tasks.start_soon(feed)
        try:
            yield Results(receive, slots, ending)
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # noqa: BLE001 - raised again below, outside of the group
            body_error = error
        tasks.cancel_scope.cancel()
    if body_error is not None:
        raise body_error


async def _feed(items: AsyncIterable[Item], slots: anyio.Semaphore, start: Callable[[Item], object]) -> None:
    source = aiter(items)
    while True:
        await slots.acquire()
        try:
            start(await anext(source))
        except StopAsyncIteration:
            return

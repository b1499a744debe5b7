"""Many at once: any iterable in, results out as they finish, never more than `limit` under way or waiting to be taken.

An item is pulled only when a slot is free, and a slot is free again only when its result was taken: however endless the
input and however slow the reader, memory stays flat. Knows nothing of NeuralBox.
"""

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel

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
    """An async iterator over results as they finish; the error that ended the run early, if any, comes last.

    A result is taken without an await between finding it and handing it over, so a cancelled reader loses none.
    """

    def __init__(self, slots: anyio.Semaphore, ending: Ending) -> None:
        self._slots = slots
        self._ending = ending
        self._ended = False
        self._changed = anyio.Event()
        self.ready: deque[Result] = deque()

    def put(self, result: Result) -> None:
        """Add a result."""
        self.ready.append(result)
        self._changed.set()

    def end(self) -> None:
        """Say that nothing more will come."""
        self._ended = True
        self._changed.set()

    def __aiter__(self) -> AsyncIterator[Result]:
        return self

    async def __anext__(self) -> Result:
        await anyio.lowlevel.checkpoint()
        while not self.ready:
            if self._ended:
                error, self._ending.error = self._ending.error, None
                raise StopAsyncIteration if error is None else error
            if self._changed.is_set():
                self._changed = anyio.Event()
            await self._changed.wait()
        self._slots.release()
        return self.ready.popleft()


@asynccontextmanager
async def fan_out(
    items: Iterable[Item] | AsyncIterable[Item],
    work: Callable[[Item], Awaitable[Result]],
    *,
    limit: int,
    untaken: Callable[[Result], None] = lambda _: None,
    ending: Ending | None = None,
) -> AsyncIterator[Results[Result]]:
    """Run `work` on each item, at most `limit` at once; leaving the block cancels what is still under way.

    What the input raises ends the run early, and so does `ending.because(error)`, which `work` may call; `work` itself
    must not raise. `untaken` gets each result that nobody took. An error of the body leaves as itself, never in a group
    of one.
    """
    ending = ending or Ending()
    slots = anyio.Semaphore(limit)
    results = Results[Result](slots, ending)
    body_error: BaseException | None = None

    async def feed() -> None:
        async with anyio.create_task_group() as workers:
            with ending.feeding:
                try:
                    await _feed(Each(items), slots, lambda item: workers.start_soon(run, item, name="fan_out item"))
                except Exception as error:  # noqa: BLE001 - raised to the reader, after what had begun
                    ending.because(error)
        results.end()

    async def run(item: Item) -> None:
        results.put(await work(item))

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(feed)
            try:
                yield results
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:  # noqa: BLE001 - raised again below, outside of the group
                body_error = error
            tasks.cancel_scope.cancel()
    finally:
        results.end()
        while results.ready:
            untaken(results.ready.popleft())
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

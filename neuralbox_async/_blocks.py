"""What is to be entered by `async with` says so when it is iterated, awaited or entered twice instead."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import wraps
from types import TracebackType
from typing import Generic, NoReturn, ParamSpec, TypeVar

from neuralbox_async._core.errors import UsageError

P = ParamSpec("P")
T = TypeVar("T")


class Block(Generic[T]):
    """An async context manager that may be entered once; nothing has begun before that."""

    def __init__(self, usage: str, manager: AbstractAsyncContextManager[T]) -> None:
        self._usage = usage
        self._manager = manager
        self._entered = False

    async def __aenter__(self) -> T:
        if self._entered:
            raise UsageError(f"A block is entered once; make another one, with `async with {self._usage}:`.")
        self._entered = True
        return await self._manager.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._manager.__aexit__(kind, error, trace)

    # Callers see an AbstractAsyncContextManager, so type checkers still refuse these two.

    def __aiter__(self) -> NoReturn:
        self._refuse()

    def __await__(self) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UsageError(f"Nothing has begun yet: write `async with {self._usage}:`, and inside of it `async for …`.")


def block(
    usage: str,
) -> Callable[[Callable[P, AsyncIterator[T]]], Callable[P, AbstractAsyncContextManager[T]]]:
    """Make an async context manager of a function that yields once, as `asynccontextmanager` does.

    `usage` is what stands after `async with`.
    """

    def decorate(function: Callable[P, AsyncIterator[T]]) -> Callable[P, AbstractAsyncContextManager[T]]:
        manage = asynccontextmanager(function)

        @wraps(function)
        def made(*args: P.args, **kwargs: P.kwargs) -> Block[T]:
            return Block(usage, manage(*args, **kwargs))

        return made

    return decorate

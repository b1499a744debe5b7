"""Results on the disk or in memory: a file appears under its name only when it is whole.

Bytes go to a part file in the same folder, and what is known of their length and hash is checked before the renaming.
Whatever blocks on the disk runs beside the event loop, in few threads.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
from anyio.lowlevel import RunVar
from attrs import evolve, frozen

from neuralbox_async._core import api, names
from neuralbox_async._core.errors import APIConnectionError, NeuralBoxError, ResponseError, UsageError
from neuralbox_async._core.models import Generation
from neuralbox_async._core.options import checked_path
from neuralbox_async._edge import bodies, clock
from neuralbox_async._edge.fetch import Fetching
from neuralbox_async._edge.http import Http
from neuralbox_async._edge.once import timed_out
from neuralbox_async._edge.parts import Part

T = TypeVar("T")
Progress = Callable[[int, int | None], object]

# Written at once: few enough bytes that a hundred downloads fit in memory, many enough to be worth a thread's turn.
_BLOCK: Final = 262_144
# The event loop stands still while a thread starts, longer on a busy machine, and shares one lock with all of them.
MOST_THREADS: Final = 4
_THREADS: Final = RunVar[anyio.CapacityLimiter]("neuralbox_async: threads that save results")


def checked_folder(to: str | os.PathLike[str]) -> Path:
    """Make a folder for results, or raise UsageError before anything is paid for."""
    folder = Path(checked_path("download_to", to))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK | os.X_OK) else "it cannot be written to"
    except OSError as error:
        in_the_way = [each for each in (folder, *folder.parents) if each.is_file()]
        reason = f"{os.fspath(in_the_way[0])!r} is a file" if in_the_way else error.strerror or str(error)
    if reason:
        raise UsageError(f"Results cannot be saved in {os.fspath(to)!r}: {reason}. Name another folder.")
    return folder


@frozen(kw_only=True)
class _Place:
    """Where a result goes: a folder, and a file name there if the caller gave one."""

    folder: Path
    stem: str
    name: str | None

    def path(self, suffix: str) -> Path:
        return self.folder / (self.name or self.stem + suffix)


def _place(to: str | os.PathLike[str], stem: str) -> _Place:
    path = Path(checked_path("to", to))
    is_folder = path.is_dir() or os.fspath(to).endswith(("/", os.sep))
    folder = path if is_folder else path.parent
    folder.mkdir(parents=True, exist_ok=True)
    if not is_folder and path.exists() and not path.is_file():
        raise UsageError(f"{os.fspath(to)!r} is neither a file nor a folder; name another place for the result.")
    return _Place(folder=folder, stem=stem, name=None if is_folder else path.name)


@frozen(kw_only=True, eq=False, repr=False)
class Source:
    """A result to fetch: of which generation, through what, until when (loop time), and of how many bytes at most."""

    http: Http
    generation: Generation
    deadline: float
    most: int

    def fetching(self, at: int = 0, validator: str | None = None) -> Fetching:
        """Begin to fetch the file, or the rest of it."""
        url = self.generation.url or ""
        return Fetching(
            self.http, self.generation.id, url, deadline=self.deadline, most=self.most, at=at, validator=validator
        )

    def text(self) -> bytes | None:
        """Return a result that is a text; None if it is a file. Raises ResponseError if there is neither."""
        if self.generation.url is not None:
            return None
        if self.generation.text is not None:
            return self.generation.text.encode("utf-8", "replace")
        raise ResponseError(
            f"Generation {self.generation.id} is completed and has neither text nor a URL; see generation.raw.",
            billed="yes",
            generation_id=self.generation.id,
        )


@contextmanager
def _paid_for(generation: Generation) -> Iterator[None]:
    """Say of what goes wrong which generation it is about: the download costs nothing, what it is of is paid for."""
    try:
        yield
    except NeuralBoxError as error:
        failure = error
    else:
        return
    raise evolve(failure, billed="no" if generation.tokens_spent == 0 else "yes", generation_id=generation.id)


@asynccontextmanager
async def _lane(source: Source) -> AsyncIterator[None]:
    """Wait in line before anything is opened: of thousands of downloads at once, few have a file and a connection."""
    lane = source.http.slots.file_lane()
    with anyio.CancelScope(deadline=source.deadline) as scope:
        await lane.acquire()
    if scope.cancelled_caught:
        raise timed_out(api.download(source.generation.id))
    try:
        yield
    finally:
        lane.release()


# --- on the disk -----------------------------------------------------------------------------------------------------


async def save(
    source: Source, to: str | os.PathLike[str], *, key: str | None, progress: Progress | None = None
) -> Path:
    """Save a result and return the path of the file.

    Raises ResponseError if there is no result; OSError as the disk raises it; else what `Fetching` raises.
    """
    generation = source.generation
    with _paid_for(generation):
        text = source.text()
        stem, unfinished = names.stem(key, generation.id), names.part_stem(source.http.base_url, generation.id, key)
        begin = partial(_begin, to, stem, unfinished)
        if text is not None:
            return await _in_a_thread(partial(_save_text, begin, text))
        async with (
            _lane(source),
            _saving(begin) as saving,
            aclosing(source.fetching(saving.part.size, saving.part.validator)) as fetching,
        ):
            return await _write(fetching, saving, progress)


async def _in_a_thread(work: Callable[[], T]) -> T:
    try:
        threads = _THREADS.get()
    except LookupError:
        threads = anyio.CapacityLimiter(MOST_THREADS)
        _THREADS.set(threads)
    return await clock.run_blocking(work, threads)


@frozen
class _Saving:
    """A result on its way to its place."""

    part: Part
    place: _Place


def _begin(to: str | os.PathLike[str], stem: str, unfinished: str) -> _Saving:
    place = _place(to, stem)
    return _Saving(Part(place.folder, unfinished), place)


@asynccontextmanager
async def _saving(begin: Callable[[], _Saving]) -> AsyncIterator[_Saving]:
    saving = await _in_a_thread(begin)
    try:
        with _naming_the_file(saving):
            yield saving
    finally:
        with anyio.CancelScope(shield=True):
            await _in_a_thread(saving.part.leave)


@contextmanager
def _naming_the_file(saving: _Saving) -> Iterator[None]:
    """Name the file in what the disk raises."""
    try:
        yield
    except NeuralBoxError:  # of which one, at the deadline, is an OSError too
        raise
    except OSError as error:
        saving.part.validator = None  # a part that is kept would take the room that is missing
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(saving.place.path(""))) from None


def _save_text(begin: Callable[[], _Saving], text: bytes) -> Path:
    saving = begin()
    try:
        with _naming_the_file(saving):
            saving.part.restart(None)
            saving.part.write([text])
            return saving.part.finish(lambda _: saving.place.path(".txt"), None)
    finally:
        saving.part.leave()


async def _write(fetching: Fetching, saving: _Saving, progress: Progress | None) -> Path:
    part, pieces, size = saving.part, list[bytes](), 0
    async for piece in fetching:
        if piece.begins_anew:
            pieces, size = [], 0
            await _in_a_thread(partial(part.restart, fetching.validator))
        pieces.append(piece.data)
        size += len(piece.data)
        if size >= _BLOCK:
            block, pieces, size = pieces, [], 0
            await _in_a_thread(partial(part.write, block))
        if progress is not None:
            progress(piece.at + len(piece.data), fetching.total)

    def finish() -> Path:
        part.write(pieces)
        return part.finish(saving.place.path, fetching.digest)

    return await _in_a_thread(finish)


# --- in memory -------------------------------------------------------------------------------------------------------


async def read(source: Source) -> bytes:
    """Return a result's bytes; raises what `save` raises, but for the disk."""
    with _paid_for(source.generation):
        text = source.text()
        if text is not None:
            return text
        data = bytearray()
        async with _lane(source), aclosing(source.fetching()) as fetching:
            async for piece in fetching:
                if piece.begins_anew:
                    data.clear()
                data += piece.data
            if fetching.digest is not None:
                hashed = fetching.digest.new()
                await _in_a_thread(partial(hashed.update, data))
                fetching.digest.check(hashed)
        return bytes(data)


@asynccontextmanager
async def streamed(source: Source) -> AsyncIterator[AsyncIterator[bytes]]:
    """Give a result's bytes as they come; leaving closes the connection. Raises as `read`, from the iteration."""
    with _paid_for(source.generation):
        text = source.text()
    if text is not None:
        async with aclosing(bodies.once(text)) as whole:
            yield whole
        return
    async with _lane(source), aclosing(source.fetching()) as fetching:
        yield _Given(source.generation, fetching)


class _Given:
    """The bytes of a file in their order, each once: what was given cannot be taken back."""

    def __init__(self, generation: Generation, fetching: Fetching) -> None:
        self._generation = generation
        self._fetching = fetching
        self._size = 0
        self._hashed: Any = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        with _paid_for(self._generation):
            async for piece in self._fetching:
                if piece.begins_anew:
                    self._begin()
                if piece.data:
                    return self._given(piece.data)
            if self._fetching.digest is not None and self._hashed is not None:
                self._fetching.digest.check(self._hashed)
        raise StopAsyncIteration

    def _given(self, data: bytes) -> bytes:
        self._size += len(data)
        if self._hashed is not None:
            self._hashed.update(data)
        return data

    def _begin(self) -> None:
        if self._size:
            raise APIConnectionError(
                f"the file was cut after {self._size} bytes, and its server cannot go on from there; "
                "take nb.download() or nb.read(), which can begin again."
            )
        self._hashed = self._fetching.digest and self._fetching.digest.new()

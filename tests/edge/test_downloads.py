"""Downloads over real sockets: what is interrupted goes on, what is not the same file begins again, nothing is half."""

import gzip
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import pytest

from neuralbox_async import (
    APIConnectionError,
    APITimeoutError,
    AsyncNeuralBox,
    Event,
    Generation,
    Requested,
    ResponseError,
    UsageError,
)
from neuralbox_async._core.names import part_stem

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])]
SIZE = 2_000_000
FILE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * (SIZE // 256)
OTHER = FILE[:8] + bytes(len(FILE) - 8)


class Server(ThreadingHTTPServer):
    """Serves one file as object storage does, with ranges and validators, and cuts it where it is told to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = FILE
        self.etag: str | None = '"v1"'
        self.more: dict[str, str] = {}
        self.cuts: list[int] = []
        self.asked: list[str] = []
        self.at: Callable[[int], object] = int
        self.ranges = True
        self.announced = True

    @property
    def origin(self) -> str:
        """Return where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def client(self, **options: Any) -> AsyncNeuralBox:
        """Return a client whose API is here too, so that results of this host are fetched."""
        return AsyncNeuralBox("nb_test_key", base_url=f"{self.origin}/api", **options)

    def result(self, **fields: Any) -> Generation:
        """Return a completed generation whose file is here."""
        return Generation(**{"id": 7, "status": "completed", "url": f"{self.origin}/7", **fields})

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Send the file, or the rest of it."""
        server, headers = self.server, self.headers
        assert isinstance(server, Server)
        server.asked.append(headers.get("Range", ""))
        start = 0
        if server.ranges and headers.get("If-Range") == server.etag and "Range" in headers:
            start = int(headers["Range"].removeprefix("bytes=").removesuffix("-"))
        body = server.content[start:]
        self.send_response(200 if not start else 206 if body else 416)
        if server.announced:
            self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        if server.etag is not None:
            self.send_header("ETag", server.etag)
        for name, value in server.more.items():
            self.send_header(name, value)
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else len(body)
        for at in range(0, min(cut, len(body)), 50_000):
            server.at(start + at)
            self.wfile.write(body[at : min(at + 50_000, cut)])
        self.close_connection = cut < len(body) or not server.announced

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    """Run a server in threads."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=[0.01])
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def names(folder: Path) -> list[str]:
    """Return what lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def offset(asked: str) -> int:
    """Read the start of a Range header; 0 without one."""
    return int(asked.removeprefix("bytes=").removesuffix("-") or 0)


async def fetched(nb: AsyncNeuralBox, how: str, generation: Generation, folder: Path, **options: Any) -> bytes:
    """Get a result in one of the three ways."""
    if how == "download":
        return (await nb.download(generation, folder, **options)).read_bytes()
    if how == "read":
        return await nb.read(generation, **options)
    async with nb.iter_bytes(generation, **options) as pieces:
        return b"".join([piece async for piece in pieces])


async def until(condition: Callable[[], bool]) -> None:
    """Wait, in a thread, for something outside of the event loop."""

    def wait() -> None:
        patience = iter(range(2_000))
        while not condition():
            next(patience)
            threading.Event().wait(0.01)

    await anyio.to_thread.run_sync(wait)


# --- cut and gone on --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["download", "read", "iter_bytes"])
async def test_each_request_for_a_file_is_told(server: Server, tmp_path: Path, how: str) -> None:
    """An observer counts what goes to the storage: what was refused, what was cut and what came whole."""
    server.cuts = [700_000]
    events: list[Event] = []
    async with server.client(observe=events.append) as nb:
        await fetched(nb, how, server.result(), tmp_path)
        with pytest.raises(APIConnectionError):
            await nb.read(server.result(url="http://127.0.0.1:9/7"), timeout=0.2)
    told = [event for event in events if isinstance(event, Requested)]
    assert [(event.operation, event.status) for event in told[:3]] == [
        ("download", 200),
        ("download", 206),
        ("download", None),
    ]
    assert all(event.seconds >= 0 for event in told)


async def test_a_cut_download_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    """Three cuts cost no byte twice: the rest is asked for, on the condition that it is still the same file."""
    server.cuts = [700_000, 600_000, 100]
    async with server.client() as nb:
        path = await nb.download(server.result(), tmp_path)
    assert path.read_bytes() == FILE
    assert [offset(each) for each in server.asked] == [0, 700_000, 1_300_000, 1_300_100]
    assert names(tmp_path) == ["7.png"]


async def test_without_a_validator_a_cut_download_begins_again(server: Server, tmp_path: Path) -> None:
    """The same length does not make the same file: what cannot be told apart is fetched from the start."""
    server.cuts, server.etag = [700_000], None
    async with server.client() as nb:
        path = await nb.download(server.result(), tmp_path)
    assert path.read_bytes() == FILE
    assert server.asked == ["", ""]


@pytest.mark.parametrize("etag", ['W/"v1"', "v1", '"'])
async def test_a_weak_validator_is_none(etag: str, server: Server, tmp_path: Path) -> None:
    """If-Range needs a validator that compares strongly."""
    server.cuts, server.etag = [700_000], etag
    async with server.client() as nb:
        assert (await nb.download(server.result(), tmp_path)).read_bytes() == FILE
    assert server.asked == ["", ""]


async def test_a_file_that_shrank_begins_again(server: Server, tmp_path: Path) -> None:
    """A server that has less than what is here already is not asked for the rest for ever."""
    server.cuts = [700_000]
    server.at = lambda at: setattr(server, "content", FILE[:500_000]) if at == 650_000 else None
    async with server.client() as nb:
        path = await nb.download(server.result(), tmp_path)
    assert path.read_bytes() == FILE[:500_000]
    assert [offset(each) for each in server.asked] == [0, 700_000, 0]


async def test_what_follows_packed_bytes_is_no_part_of_the_file(server: Server, tmp_path: Path) -> None:
    """A file that came packed unasked is what its packing holds, whatever the server sends behind that."""
    server.content, server.more = gzip.compress(FILE) + b"\0" * 200_000, {"Content-Encoding": "gzip"}
    async with server.client() as nb:
        path = await nb.download(server.result(), tmp_path)
    assert path.read_bytes() == FILE
    assert path.suffix == ".png"


async def test_packed_bytes_that_are_damaged_are_no_file(server: Server, tmp_path: Path) -> None:
    """What cannot be unpacked is an error that says so, and leaves nothing behind."""
    server.content, server.more = gzip.compress(FILE)[:100] + bytes(100_000), {"Content-Encoding": "gzip"}
    async with server.client() as nb:
        with pytest.raises(APIConnectionError, match="DecodingError"):
            await nb.download(server.result(), tmp_path)
    assert names(tmp_path) == []


async def test_a_file_that_changed_begins_again(server: Server, tmp_path: Path) -> None:
    """The rest of another file is never sewn to the beginning of the first."""

    def change(at: int) -> None:
        if at >= 600_000:
            server.content, server.etag = OTHER, '"v2"'

    server.cuts, server.at = [700_000], change
    async with server.client() as nb:
        assert (await nb.download(server.result(), tmp_path)).read_bytes() == OTHER


@pytest.mark.parametrize("field", ["Content-Range", "ETag"])
async def test_a_part_that_nobody_asked_for_is_not_taken(field: str, server: Server, tmp_path: Path) -> None:
    """A 206 of another place, or of another file, begins again, and a whole file comes of it."""
    server.cuts = [700_000]

    class Lying(Handler):
        def send_header(self, keyword: str, value: str) -> None:
            partial_answer = bool(self.headers.get("Range")) and keyword == field
            super().send_header(keyword, {"ETag": '"v9"'}.get(field, "bytes 5-9/10") if partial_answer else value)

    server.RequestHandlerClass = Lying
    async with server.client() as nb:
        assert (await nb.download(server.result(), tmp_path)).read_bytes() == FILE
    assert [offset(each) for each in server.asked] == [0, 700_000, 0]


@pytest.mark.parametrize("told", ["no ETag", "another length"])
async def test_a_part_of_who_knows_which_file_is_not_taken(told: str, server: Server, tmp_path: Path) -> None:
    """A server that takes no notice of If-Range sends the rest of another file: a whole one comes all the same."""

    class Heedless(Handler):
        def do_GET(self) -> None:
            if self.headers.get("Range"):
                server.content, server.etag = (OTHER, None) if told == "no ETag" else (OTHER + b"!", '"v1"')
                del self.headers["If-Range"]
                if server.etag is not None:
                    self.headers["If-Range"] = server.etag
            super().do_GET()

    server.cuts, server.RequestHandlerClass = [700_000], Heedless
    async with server.client() as nb:
        assert (await nb.download(server.result(), tmp_path)).read_bytes() == server.content
    assert [offset(each) for each in server.asked] == [0, 700_000, 0]


PAGE = b"\n<!doctype html><title>Be right back</title>"


@pytest.mark.parametrize("content", [PAGE, b"\xef\xbb\xbf" + PAGE, FILE], ids=["page", "marked as UTF-8", "file"])
async def test_a_web_page_is_no_result(content: bytes, server: Server, tmp_path: Path) -> None:
    """What came in place of the file is asked for again; a file that is called a page is a file."""

    class Away(Handler):
        def do_GET(self) -> None:
            server.content = FILE if server.asked else content
            server.more = {} if server.asked else {"Content-Type": "text/html; charset=utf-8"}
            super().do_GET()

    server.RequestHandlerClass = Away
    async with server.client() as nb:
        assert (await nb.download(server.result(), tmp_path)).read_bytes() == FILE
    assert len(server.asked) == 1 + (content != FILE)
    assert names(tmp_path) == ["7.png"]


async def test_a_cancelled_download_goes_on_in_the_next_call(server: Server, tmp_path: Path) -> None:
    """What is on the disk is not fetched again; the progress begins where it was."""
    heard: list[tuple[int, int | None]] = []
    async with server.client() as nb:
        with anyio.CancelScope() as scope:

            def stop(size: int, _: int | None) -> None:
                if size > 1_000_000:
                    scope.cancel()

            await nb.download(server.result(), tmp_path, progress=stop)
        assert scope.cancelled_caught
        assert len(names(tmp_path)) == 2
        assert all(re.fullmatch(r"\.[0-9a-f]+\.(part|json)", name) for name in names(tmp_path))
        path = await nb.download(server.result(), tmp_path, progress=lambda size, total: heard.append((size, total)))
    assert path.read_bytes() == FILE
    assert names(tmp_path) == ["7.png"]
    assert offset(server.asked[1]) > 700_000
    assert heard[0] == (offset(server.asked[1]), len(FILE))
    assert heard[-1] == (len(FILE), len(FILE))
    assert heard == sorted(heard)


async def test_the_deadline_keeps_the_part(server: Server, tmp_path: Path) -> None:
    """A download that is out of time goes on in the next call, with more time."""
    go_on = threading.Event()
    server.at = lambda at: at < 1_000_000 or go_on.wait(20)
    async with server.client() as nb:
        with pytest.raises(APITimeoutError):
            await nb.download(server.result(), tmp_path, timeout=1)
        go_on.set()
        assert (await nb.download(server.result(), tmp_path)).read_bytes() == FILE
    assert offset(server.asked[-1]) > 500_000


async def test_a_part_of_another_generation_is_not_gone_on_with(server: Server, tmp_path: Path) -> None:
    """The part's name is of the generation, the key and the service; a second one in the same folder has its own."""
    async with server.client() as nb:
        with anyio.CancelScope() as scope:

            def stop(size: int, _: int | None) -> None:
                if size > 600_000:
                    scope.cancel()

            await nb.download(server.result(), tmp_path, progress=stop)
        server.asked.clear()
        server.content, server.etag = OTHER, '"v1"'
        assert (await nb.download(server.result(id=8), tmp_path)).read_bytes() == OTHER
    assert server.asked == [""]


async def test_a_part_that_is_whole_already_needs_one_byte_more(server: Server, tmp_path: Path) -> None:
    """Killed between the last byte and the renaming: the file is finished without fetching it again."""
    stem = part_stem(f"{server.origin}/api", 7, None)
    (tmp_path / f".{stem}.part").write_bytes(FILE)
    (tmp_path / f".{stem}.json").write_text('{"validator": "\\"v1\\""}')
    async with server.client() as nb:
        assert (await nb.download(server.result(), tmp_path)).read_bytes() == FILE
    assert server.asked == [f"bytes={len(FILE) - 1}-"]
    assert names(tmp_path) == ["7.png"]


@pytest.mark.parametrize("note", ["", "{", "[]", '{"validator": 7}', '{"validator": ""}', "\x00", "[" * 900])
async def test_a_damaged_note_is_no_note(note: str, server: Server, tmp_path: Path) -> None:
    """Without a readable note the part counts for nothing."""
    stem = part_stem(f"{server.origin}/api", 7, None)
    (tmp_path / f".{stem}.part").write_bytes(OTHER)
    (tmp_path / f".{stem}.json").write_text(note)
    async with server.client() as nb:
        assert (await nb.download(server.result(), tmp_path)).read_bytes() == FILE
    assert server.asked == [""]
    assert names(tmp_path) == ["7.png"]


KILLED = """
import sys, anyio
from neuralbox_async import AsyncNeuralBox, Generation
async def main(origin, folder):
    async with AsyncNeuralBox("nb_test_key", base_url=origin + "/api") as nb:
        await nb.download(Generation(id=7, status="completed", url=origin + "/7"), folder)
anyio.run(main, *sys.argv[1:])
"""


async def test_a_killed_download_goes_on_in_the_next_process(server: Server, tmp_path: Path) -> None:
    """SIGKILL in the middle loses what was not yet on the disk, and nothing else."""
    there, go_on = threading.Event(), threading.Event()

    def wait(at: int) -> None:
        if at >= 1_500_000:
            there.set()
            go_on.wait(20)

    server.at = wait
    command = [sys.executable, "-c", KILLED, server.origin, str(tmp_path)]
    process = await anyio.to_thread.run_sync(partial(subprocess.Popen, command))
    await until(there.is_set)
    await until(lambda: sum(path.stat().st_size for path in tmp_path.glob("*.part")) >= 1_000_000)
    process.kill()
    assert await anyio.to_thread.run_sync(process.wait) == -signal.SIGKILL
    go_on.set()
    async with server.client() as nb:
        assert (await nb.download(server.result(), tmp_path)).read_bytes() == FILE
    assert offset(server.asked[-1]) >= 999_999
    assert names(tmp_path) == ["7.png"]


# --- whole or not at all ----------------------------------------------------------------------------------------------


def digest(name: str, content: bytes) -> str:
    """Return a digest as headers carry it."""
    return b64encode(hashlib.new(name, content).digest()).decode()


DIGESTS = {
    "Repr-Digest": lambda content: f"sha-256=:{digest('sha256', content)}:",
    "Digest": lambda content: f"unknown=x, SHA-512={digest('sha512', content)}",
    "Content-Digest": lambda content: f"sha-256=:{digest('sha256', content)}:",
    "Content-MD5": lambda content: digest("md5", content),
}


@pytest.mark.parametrize("field", DIGESTS)
@pytest.mark.parametrize("how", ["download", "read", "iter_bytes"])
async def test_a_file_must_have_the_digest_that_the_server_gives(
    field: str, how: str, server: Server, tmp_path: Path
) -> None:
    """With the right one the file is taken; with another one it is an error, and no file."""
    (tmp_path / "7.png").write_bytes(b"the first")

    async with server.client() as nb:
        server.more = {field: DIGESTS[field](OTHER)}
        with pytest.raises(APIConnectionError, match="damaged") as caught:
            await fetched(nb, how, server.result(), tmp_path)
        assert (caught.value.generation_id, caught.value.billed) == (7, "yes")
        assert names(tmp_path) == ["7.png"]
        assert (tmp_path / "7.png").read_bytes() == b"the first"
        server.more = {field: DIGESTS[field](FILE)}
        assert await fetched(nb, how, server.result(), tmp_path) == FILE


async def test_a_digest_covers_what_an_earlier_process_wrote(server: Server, tmp_path: Path) -> None:
    """A part that was damaged on this disk is found out."""
    stem = part_stem(f"{server.origin}/api", 7, None)
    (tmp_path / f".{stem}.part").write_bytes(OTHER[:1_000_000])
    (tmp_path / f".{stem}.json").write_text('{"validator": "\\"v1\\""}')
    server.more = {"Repr-Digest": DIGESTS["Repr-Digest"](FILE)}
    async with server.client() as nb:
        with pytest.raises(APIConnectionError, match="damaged"):
            await nb.download(server.result(), tmp_path)
        assert (await nb.download(server.result(), tmp_path)).read_bytes() == FILE
    assert names(tmp_path) == ["7.png"]


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("how", ["download", "read", "iter_bytes"])
async def test_a_file_that_is_too_large_is_an_error(announced: bool, how: str, server: Server, tmp_path: Path) -> None:  # noqa: FBT001
    """By its announced length at once, without one as soon as too much came; nothing is left on the disk."""
    server.announced = announced
    async with server.client() as nb:
        with pytest.raises(ResponseError, match="more than 500,000 bytes; pass a larger max_bytes"):
            await fetched(nb, how, server.result(), tmp_path, max_bytes=500_000)
        assert len(server.asked) == 1
        assert (await nb.download(server.result(), tmp_path, max_bytes=len(FILE))).read_bytes() == FILE
    assert names(tmp_path) == ["7.png"]


async def test_two_downloads_of_one_result_do_not_meet(server: Server, tmp_path: Path) -> None:
    """At once and to the same name: each writes a part of its own, and the last renaming leaves a whole file."""
    async with server.client() as nb, anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(partial(nb.download, server.result(), tmp_path))
    assert (tmp_path / "7.png").read_bytes() == FILE
    assert names(tmp_path) == ["7.png"]


@pytest.mark.parametrize("way", ["symlink", "hard link", "pipe", "folder", "dangling"])
async def test_what_stands_in_the_part_s_place_is_not_written_through(way: str, server: Server, tmp_path: Path) -> None:
    """A link, a pipe or a folder under the part's name is left alone, and the download goes on beside it."""
    victim, folder = tmp_path / "victim", tmp_path / "results"
    victim.write_bytes(b"precious")
    folder.mkdir()
    part = folder / f".{part_stem(f'{server.origin}/api', 7, None)}.part"
    match way:
        case "symlink":
            part.symlink_to(victim)
        case "hard link":
            part.hardlink_to(victim)
        case "pipe":
            os.mkfifo(part)
        case "folder":
            part.mkdir()
        case _:
            part.symlink_to(tmp_path / "nothing")
    async with server.client() as nb:
        assert (await nb.download(server.result(), folder)).read_bytes() == FILE
    assert victim.read_bytes() == b"precious"
    assert names(folder) == [part.name, "7.png"]
    assert names(tmp_path) == ["results", "victim"]


async def test_a_link_under_the_result_s_name_is_replaced(server: Server, tmp_path: Path) -> None:
    """The name is given to the new file; what the link pointed to stays as it is."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "7.png").symlink_to(victim)
    async with server.client() as nb:
        path = await nb.download(server.result(), tmp_path)
    assert not path.is_symlink()
    assert (path.read_bytes(), victim.read_bytes()) == (FILE, b"precious")


async def test_a_full_disk_names_the_file_and_keeps_nothing(server: Server, tmp_path: Path) -> None:
    """The error is the disk's own, with the path; a part would take the room that is missing."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        async with server.client() as nb:
            with pytest.raises(OSError, match="File too large") as caught:
                await nb.download(server.result(), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(tmp_path / "7")
    assert names(tmp_path) == []


# --- in memory --------------------------------------------------------------------------------------------------------


async def test_a_result_is_read_into_memory(server: Server) -> None:
    """`read` goes on after a cut too, or begins again where the server cannot go on."""
    async with server.client() as nb:
        server.cuts = [700_000]
        assert await nb.read(server.result()) == FILE
        server.cuts, server.etag = [700_000], None
        assert await nb.read(server.result()) == FILE
        assert await nb.read(Generation(id=7, status="completed", text="Цветок")) == "Цветок".encode()


async def test_a_result_is_streamed(server: Server) -> None:
    """`iter_bytes` gives each byte once, over cuts."""
    server.cuts = [700_000, 100]
    async with server.client() as nb:
        async with nb.iter_bytes(server.result()) as pieces:
            assert b"".join([piece async for piece in pieces]) == FILE
        async with nb.iter_bytes(Generation(id=7, status="completed", text="Hello")) as pieces:
            assert [piece async for piece in pieces] == [b"Hello"]
    assert [offset(each) for each in server.asked] == [0, 700_000, 700_100]


async def test_pieces_without_their_block_say_what_to_write(server: Server) -> None:
    """Iterated without `async with`, `iter_bytes` says how to write it, and has asked for nothing."""
    async with server.client() as nb:
        pieces: Any = nb.iter_bytes(server.result())
        with pytest.raises(UsageError, match=r"`async with nb\.iter_bytes\(…\) as pieces:`"):
            [piece async for piece in pieces]
    assert not server.asked


async def test_a_stream_that_cannot_go_on_is_an_error(server: Server, tmp_path: Path) -> None:
    """What was given cannot be taken back, so a file that would begin again is not sewn on."""
    server.cuts, server.etag = [700_000], None
    async with server.client() as nb:
        with pytest.raises(APIConnectionError, match=r"cut after \d+ bytes") as caught:
            await fetched(nb, "iter_bytes", server.result(), tmp_path)
    assert caught.value.generation_id == 7


async def test_a_stream_may_be_left_at_any_point(server: Server) -> None:
    """Leaving gives the place back and closes the connection: with one place only, the next call has it."""
    async with server.client(max_connections=1) as nb:
        for _ in range(3):
            async with nb.iter_bytes(server.result()) as pieces:
                async for _ in pieces:
                    break
        async with nb.iter_bytes(server.result()):
            pass
        with suppress(ZeroDivisionError):
            async with nb.iter_bytes(server.result()) as pieces:
                await anext(pieces)
                raise ZeroDivisionError
        assert await nb.read(server.result(), timeout=20) == FILE


async def test_waiting_for_a_place_ends_with_the_deadline(server: Server, tmp_path: Path) -> None:
    """A download behind another one that hangs gives up in time, and nothing of it was opened."""
    async with server.client(max_connections=1) as nb, nb.iter_bytes(server.result()):
        with pytest.raises(APITimeoutError) as caught:
            await nb.download(server.result(id=8), tmp_path, timeout=0.2)
    assert (caught.value.generation_id, caught.value.billed) == (8, "yes")
    assert names(tmp_path) == []


async def test_downloads_leave_room_for_looks(server: Server, tmp_path: Path) -> None:
    """They take a quarter of the places: twenty that hang keep no look waiting, and hold few files open."""
    go_on = threading.Event()
    server.at = lambda _: go_on.wait(20)
    try:
        async with server.client(max_connections=4) as nb, anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(partial(nb.download, server.result(id=number), tmp_path))
            await until(lambda: bool(server.asked))
            assert len([name for name in names(tmp_path) if name.endswith(".part")]) == 1
            server.asked.clear()
            server.content, content = b'{"id": 7, "status": "pending"}', server.content
            server.at = int
            assert (await nb.get(7, timeout=10)).id == 7
            server.content = content
            tasks.cancel_scope.cancel()
    finally:
        go_on.set()


def worker_threads() -> set[threading.Thread]:
    """Return the threads that anyio and trio have started."""
    return {each for each in threading.enumerate() if re.match("anyio|trio", each.name, re.IGNORECASE)}


async def test_many_results_at_once_start_few_threads(server: Server, tmp_path: Path) -> None:
    """The event loop stands still while a thread starts: forty files and forty texts share a few.

    Four are at work; those that have given their result and are not back yet are replaced by new ones.
    """
    server.content = FILE[:400_000]
    before = worker_threads()
    async with server.client(max_connections=160) as nb, anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(nb.download, server.result(id=number), tmp_path)
            text = Generation(id=100 + number, status="completed", text="A story.")
            tasks.start_soon(nb.download, text, tmp_path)
    assert len(worker_threads() - before) < 12
    assert len(names(tmp_path)) == 80

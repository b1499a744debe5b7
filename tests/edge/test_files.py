"""Results on the disk: whole or not at all, under a safe name, fetched without the key from hosts we know."""

import gzip
import os
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import respx

from neuralbox_async import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    AsyncNeuralBox,
    Generation,
    GenerationFailedError,
    Ledger,
    NeuralBoxError,
    NotFoundError,
    ResponseError,
    UsageError,
)
from neuralbox_async._core.names import extension, safe_name, stem

pytestmark = pytest.mark.anyio

STORAGE = "https://storage.neuralbox.top/generations"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(1000)


def client(**options: Any) -> AsyncNeuralBox:
    """Return a client with connections of its own, which respx answers in the network's place."""
    return AsyncNeuralBox("nb_test_key", base_url="https://api.test/v2", **options)


def done(url: str | None = f"{STORAGE}/7.webp", **fields: Any) -> Generation:
    """Return a completed generation."""
    return Generation(**{"id": 7, "status": "completed", "url": url, **fields})


@pytest.fixture(autouse=True)
def no_part_is_left(tmp_path: Path) -> Any:
    """Whatever happens to a download, no part file of it stays behind."""
    yield
    assert [path.name for path in tmp_path.rglob("*") if path.name.startswith(".") or path.suffix == ".part"] == []


async def test_a_file_has_the_rights_that_files_have_here(tmp_path: Path) -> None:
    """The umask decides who may read a result, as with any file."""
    usual = tmp_path / "usual"
    usual.touch()
    async with client() as nb:
        path = await nb.download(Generation(id=7, status="completed", text="Hello"), tmp_path)
    assert path.stat().st_mode == usual.stat().st_mode


# --- what is fetched --------------------------------------------------------------------------------------------------


async def test_a_result_is_saved_under_its_id_and_what_it_is(tmp_path: Path) -> None:
    """The name is the id with the extension of the bytes, whatever the server calls them; the key stays at home."""
    with respx.mock:
        route = respx.get(f"{STORAGE}/7.webp").respond(content=PNG, headers={"Content-Disposition": "../evil.exe"})
        async with client() as nb:
            path = await nb.download(done(), tmp_path)
    assert (path, path.read_bytes()) == (tmp_path / "7.png", PNG)
    sent = route.calls.last.request
    assert "authorization" not in sent.headers
    assert "nb_test_key" not in str(sent.headers.raw)


async def test_an_id_is_looked_up_first(tmp_path: Path) -> None:
    """`download` takes an id too: one look with the key, then the file without it."""
    with respx.mock:
        look = respx.get("https://api.test/v2/generate/7").respond(
            json={"id": 7, "status": "completed", "result_url": "https://api.test/files/7"}
        )
        file = respx.get("https://api.test/files/7").respond(content=PNG)
        async with client() as nb:
            assert (await nb.download(7, tmp_path)).name == "7.png"
    assert "authorization" in look.calls.last.request.headers
    assert "authorization" not in file.calls.last.request.headers


@pytest.mark.parametrize(
    ("to", "path"),
    [
        ("", "7.png"),
        ("clips/", "clips/7.png"),
        ("a/b/c/", "a/b/c/7.png"),
        ("song.mp4", "song.mp4"),
        ("new/clip", "new/clip"),
    ],
)
@pytest.mark.parametrize("kind", [str, Path])
async def test_a_folder_or_a_file(to: str, path: str, kind: type, tmp_path: Path) -> None:
    """An existing folder or a trailing slash is a folder, all else is the file; missing folders are made."""
    if kind is Path and to.endswith("/"):
        (tmp_path / to).mkdir(parents=True)
    with respx.mock:
        respx.get(f"{STORAGE}/7.webp").respond(content=PNG)
        async with client() as nb:
            assert await nb.download(done(), kind(f"{tmp_path}/{to}")) == tmp_path / path
    assert (tmp_path / path).read_bytes() == PNG


async def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    """A second download replaces the first; one that fails leaves the first as it is."""
    (tmp_path / "7.png").write_bytes(b"the first")
    with respx.mock:
        respx.get(f"{STORAGE}/7.webp").mock(side_effect=[httpx.Response(404), httpx.Response(200, content=PNG)])
        async with client() as nb:
            with pytest.raises(NotFoundError):
                await nb.download(done(), tmp_path)
            assert (tmp_path / "7.png").read_bytes() == b"the first"
            await nb.download(done(), tmp_path)
    assert (tmp_path / "7.png").read_bytes() == PNG


async def test_a_text_becomes_a_text_file(tmp_path: Path) -> None:
    """A text result is written as UTF-8 `.txt`, without a request."""
    async with client() as nb:
        path = await nb.download(done(None, text="Цветок\n"), tmp_path)
    assert (path.name, path.read_text("utf-8")) == ("7.txt", "Цветок\n")


@pytest.mark.parametrize(
    ("generation", "error"),
    [
        (Generation(id=7, status="pending", url=f"{STORAGE}/7.webp"), UsageError),
        (Generation(id=7, status="queued"), UsageError),
        (Generation(id=7, status="failed", error="policy"), GenerationFailedError),
        (done(None), ResponseError),
        (done("http://storage.neuralbox.top/7.webp"), ResponseError),
        (done("https://evil.test/7.webp"), ResponseError),
        (done("file:///etc/passwd"), ResponseError),
        (done("http://127.0.0.1/7.webp"), ResponseError),
    ],
)
async def test_what_cannot_be_downloaded_is_said_without_a_request(
    generation: Generation, error: type[NeuralBoxError], tmp_path: Path
) -> None:
    """Unfinished, failed, empty, unencrypted and unknown: each an error that names the generation or the host."""
    with respx.mock:
        async with client() as nb:
            with pytest.raises(error):
                await nb.download(generation, tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- what goes wrong --------------------------------------------------------------------------------------------------


class Cut(httpx.AsyncByteStream):
    """Half of a file, and then an error, or silence, or just the end."""

    def __init__(self, error: Exception | None = None, *, hangs: bool = False) -> None:
        self.error, self.hangs = error, hangs

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield PNG[:500]
        if self.hangs:
            await anyio.sleep_forever()
        if self.error is not None:
            raise self.error


FAILURES: dict[str, list[httpx.Response | Exception]] = {
    "cut": [httpx.Response(200, stream=Cut(httpx.ReadError("cut")))],
    "short": [httpx.Response(200, stream=Cut(), headers={"Content-Length": "1008"})],
    "stalled": [httpx.Response(200, stream=Cut(httpx.ReadTimeout("slow")))],
    "protocol": [httpx.Response(200, stream=Cut(httpx.RemoteProtocolError("incomplete body")))],
    "refused": [httpx.ConnectError("refused")],
    "502": [httpx.Response(502)],
    "429": [httpx.Response(429, headers={"Retry-After": "5"})],
    "all of them": [httpx.Response(503), httpx.ReadError("cut"), httpx.Response(200, stream=Cut(httpx.ReadError("x")))],
}


@pytest.mark.parametrize("case", FAILURES)
async def test_a_download_that_fails_begins_again(case: str, tmp_path: Path) -> None:
    """Cut in the middle, too short, refused: fetched again from the start, and whole in the end."""
    fails = [
        httpx.Response(each.status_code, headers=each.headers, stream=each.stream)
        if isinstance(each, httpx.Response)
        else each
        for each in FAILURES[case]
    ]
    with respx.mock:
        route = respx.get(f"{STORAGE}/7.webp").mock(side_effect=[*fails, httpx.Response(200, content=PNG)])
        async with client() as nb:
            path = await nb.download(done(), tmp_path)
    assert path.read_bytes() == PNG
    assert route.call_count == len(fails) + 1


async def test_a_file_that_never_comes_whole_is_an_error(tmp_path: Path) -> None:
    """When the time is over nothing is left on the disk, and the error says how much had come."""
    with respx.mock:
        respx.get(f"{STORAGE}/7.webp").mock(
            side_effect=lambda _: httpx.Response(200, stream=Cut(), headers={"Content-Length": "1008"})
        )
        async with client() as nb:
            with pytest.raises(APIConnectionError, match="500 of 1008 bytes"):
                await nb.download(done(), tmp_path, timeout=20)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("by", ["deadline", "cancellation"])
async def test_a_download_that_is_stopped_leaves_nothing(by: str, tmp_path: Path) -> None:
    """The deadline and a cancellation reach into the middle of a body."""
    with respx.mock:
        respx.get(f"{STORAGE}/7.webp").mock(return_value=httpx.Response(200, stream=Cut(hangs=True)))
        async with client() as nb:
            began = anyio.current_time()
            if by == "deadline":
                with pytest.raises(APITimeoutError):
                    await nb.download(done(), tmp_path, timeout=7)
            else:
                with anyio.move_on_after(7):
                    await nb.download(done(), tmp_path)
            assert anyio.current_time() - began == pytest.approx(7)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
async def test_a_result_that_has_expired_is_said_at_once(status: int, tmp_path: Path) -> None:
    """What asking again cannot change is asked once."""
    with respx.mock:
        route = respx.get(f"{STORAGE}/7.webp").respond(status)
        async with client() as nb:
            with pytest.raises(APIError) as caught:
                await nb.download(done(), tmp_path)
    assert (route.call_count, caught.value.generation_id) == (1, 7)


class Long(httpx.AsyncByteStream):
    """Ten megabytes."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(10):
            yield bytes(1_000_000)


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # on trio, httpx leaves generators of its own unfinished
async def test_a_full_disk_is_an_os_error(tmp_path: Path) -> None:
    """The disk's own words reach the caller, at once, with nothing left behind."""
    with respx.mock:
        route = respx.get(f"{STORAGE}/7.webp").mock(return_value=httpx.Response(200, stream=Long()))
        async with client() as nb:
            with pytest.raises(OSError, match="File too large"):
                await nb.download(done(), tmp_path)
    assert route.call_count == 1
    assert list(tmp_path.iterdir()) == []


async def test_a_file_in_the_way_is_an_os_error(tmp_path: Path) -> None:
    """A file where a folder should be is the disk's own error, before the file is fetched."""
    (tmp_path / "clips").write_bytes(b"in the way")
    with respx.mock:
        async with client() as nb:
            with pytest.raises(OSError, match="clips"):
                await nb.download(done(), f"{tmp_path}/clips/7.png")


HALF = pytest.param("\ud800", marks=pytest.mark.skipif(os.name == "nt", reason="a name may have it there"))


@pytest.mark.parametrize("to", ["a\0b", HALF, b"clips", 7])
async def test_what_no_path_can_be_is_refused(to: Any) -> None:
    """A place that no file can have is an error that names the argument, before the file is fetched."""
    with respx.mock:
        async with client() as nb:
            with pytest.raises(UsageError, match=r"^to "):
                await nb.download(done(), to)
            with pytest.raises(UsageError, match=r"^ledger must|^ledger .* has a character"):
                nb.generate_many([], ledger=to)
            with pytest.raises(UsageError, match=r"^download_to "):
                nb.generate_many([], download_to=to)
    with pytest.raises(UsageError, match=r"^A ledger "):
        Ledger(to)


@pytest.mark.parametrize("path", ["~", "~/clips/", Path("~/clips/a.png")], ids=str)
async def test_no_folder_is_called_as_the_home_is(
    path: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a shell knows what `~` stands for: a folder of that name would be removed as the home."""
    monkeypatch.chdir(tmp_path)
    async with client() as nb:
        for use in (nb.transcribe(path), nb.download(done(), path)):
            with pytest.raises(UsageError, match=r"'~.*expanduser"):
                await use
        for option in ("ledger", "download_to"):
            with pytest.raises(UsageError, match=r"'~.*expanduser"):
                nb.generate_many([], **{option: path})  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["./~/", "~a.txt"])
async def test_names_that_begin_so_serve(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a person names on purpose is taken as it is."""
    monkeypatch.chdir(tmp_path)
    async with client() as nb:
        assert (await nb.download(done(None, text="Hello"), path)).read_text() == "Hello"


async def test_a_file_in_the_way_of_a_run_is_said_before_it_pays(tmp_path: Path) -> None:
    """A run whose folder is a file is refused in plain words, with the file's name."""
    (tmp_path / "clips").write_bytes(b"in the way")
    async with client() as nb:
        with pytest.raises(UsageError, match=r"clips' is a file\. Name another folder\."):
            nb.generate_many([], download_to=tmp_path / "clips" / "new")


# --- redirects --------------------------------------------------------------------------------------------------------


def hops(*targets: str) -> None:
    """Let each address redirect to the next, and the last one give the file."""
    for here, there in pairwise(targets):
        respx.get(here).respond(302, headers={"Location": there})
    respx.get(targets[-1]).respond(content=PNG)


async def test_up_to_three_redirects_are_followed(tmp_path: Path) -> None:
    """Storage may redirect to other known hosts, without the key all the way."""
    with respx.mock:
        hops(f"{STORAGE}/7.webp", "https://cdn.elumenta.ru/7", "https://storage.elumenta.ru/7", "https://api.test/7")
        async with client() as nb:
            assert (await nb.download(done(), tmp_path)).read_bytes() == PNG
        assert [call for call in respx.calls if "authorization" in call.request.headers] == []


async def test_a_relative_redirect_stays_on_its_host(tmp_path: Path) -> None:
    """A Location without a host is read against the address that sent it."""
    with respx.mock:
        respx.get(f"{STORAGE}/7.webp").respond(301, headers={"Location": "../cold/7?sig=1"})
        respx.get("https://storage.neuralbox.top/cold/7?sig=1").respond(content=PNG)
        async with client() as nb:
            assert (await nb.download(done(), tmp_path)).read_bytes() == PNG


async def test_a_fourth_redirect_is_not_followed(tmp_path: Path) -> None:
    """A circle of redirects ends."""
    with respx.mock:
        route = respx.get(f"{STORAGE}/7.webp").respond(302, headers={"Location": f"{STORAGE}/7.webp"})
        async with client() as nb:
            with pytest.raises(APIError, match="more than 3 times"):
                await nb.download(done(), tmp_path)
    assert route.call_count == 4


@pytest.mark.parametrize(
    "location",
    [
        "https://evil.test/7",
        "http://storage.neuralbox.top/7",
        "http://127.0.0.1/7",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "https://storage.neuralbox.top@evil.test/7",
        "//evil.test/7",
        "https://user:secret@storage.neuralbox.top/7",
    ],
)
async def test_every_hop_is_checked(location: str, tmp_path: Path) -> None:
    """A redirect leads to nothing that could not have been the address in the first place."""
    with respx.mock:
        respx.get(f"{STORAGE}/7.webp").respond(302, headers={"Location": location})
        async with client() as nb:
            with pytest.raises(ResponseError):
                await nb.download(done(), tmp_path)
        assert respx.calls.call_count == 1


async def test_hosts_of_one_s_own_are_allowed(tmp_path: Path) -> None:
    """`file_hosts` names further hosts, by https only."""
    with respx.mock:
        respx.get("https://files.test/7").respond(content=PNG)
        async with client(file_hosts=["files.test"]) as nb:
            assert (await nb.download(done("https://files.test/7"), tmp_path)).name == "7.png"
            with pytest.raises(ResponseError, match="not https"):
                await nb.download(done("http://files.test/7"), tmp_path)


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "name"),
    [
        (PNG, ".png"),
        (b"\xff\xd8\xff\xe0", ".jpg"),
        (b"GIF89a", ".gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", ".webp"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", ".wav"),
        (b"\x00\x00\x00\x20ftypisom", ".mp4"),
        (b"\x1aE\xdf\xa3", ".webm"),
        (b"ID3\x04", ".mp3"),
        (b"\xff\xfb\x90", ".mp3"),
        (b"OggS", ".ogg"),
        (b"fLaC", ".flac"),
        (b"<html>", ".bin"),
        (b"GIF", ".bin"),
        (b"", ".bin"),
    ],
)
def test_the_extension_comes_from_the_bytes(first: bytes, name: str) -> None:
    """Each documented format is known by its first bytes; all else is `.bin`."""
    assert extension(first) == name


@pytest.mark.parametrize("name", ["18473", "gen_01j9x2abc123", "clip-7", "clip.v2", "a" * 100, "-", "_"])
def test_a_good_name_is_kept(name: str) -> None:
    """Ids and plain keys are file names as they are."""
    assert safe_name(name) == name


BAD_NAMES = ["../x", "a/b", "a\\b", "..", ".", ".hidden", "x.", "кот", "a b", "a:b", "a\x00b", "a\nb", "😀", "x" * 5000]
BAD_NAMES += ["con", "CON", "nul.txt", "COM1", "lpt9.tar.gz", "\ud800", "~", "$HOME", "%2e%2e", "a*?", " ", "C:\\x"]


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_a_bad_name_is_made_safe(name: str) -> None:
    """Whatever a key holds, its file lies in the folder, is visible, and opens no device."""
    safe = safe_name(name)
    assert Path("folder", safe).resolve().parent == Path("folder").resolve()
    assert safe.isascii()
    assert 0 < len(safe) < 120
    assert safe[0] not in "-."
    assert not safe.endswith(".")
    assert safe.partition(".")[0].lower() not in {"con", "nul", "com1", "lpt9"}


def test_different_names_stay_different() -> None:
    """What is cleaned away is kept in a digest: no two keys share a file."""
    names = [*BAD_NAMES, "a_b", "a__b", "x" * 4999, "x" * 101, "___"]
    assert len({safe_name(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("Clip", 7), ("clip", 7)),
        (("7", 8), (None, 7)),
        (("gen_1", 8), (None, "gen_1")),
        ((None, "gen_A"), (None, "gen_a")),
        ((safe_name("Clip").lower(), 7), ("Clip", 7)),
        (("ü", 7), ("Ü", 7)),
    ],
)
def test_no_two_results_meet_in_one_file(one: tuple[str | None, Any], other: tuple[str | None, Any]) -> None:
    """Keys that differ only by case, that equal another's id, or another's file name, have files of their own."""
    assert stem(*one).lower() != stem(*other).lower()


async def test_what_is_neither_file_nor_folder_is_left_alone(tmp_path: Path) -> None:
    """A device or a pipe is not replaced by a result."""
    os.mkfifo(tmp_path / "pipe")
    async with client() as nb:
        with pytest.raises(UsageError, match="neither"):
            await nb.download(Generation(id=7, status="completed", text="Hello"), tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()


# --- addresses that expire --------------------------------------------------------------------------------------------

LOOK = "https://api.test/v2/generate/7"


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_an_expired_address_is_asked_for_anew_once(status: int, tmp_path: Path) -> None:
    """A signed URL may expire before its file: one look gives a fresh one, the key stays at home."""
    with respx.mock:
        respx.get(f"{STORAGE}/7.webp").respond(status)
        look = respx.get(LOOK).respond(
            json={"id": 7, "status": "completed", "result_url": f"{STORAGE}/8.webp?sig=2"},
        )
        fresh = respx.get(f"{STORAGE}/8.webp?sig=2").respond(content=PNG)
        async with client() as nb:
            assert (await nb.download(done(), tmp_path)).read_bytes() == PNG
    assert (look.call_count, fresh.call_count) == (1, 1)
    assert "authorization" not in fresh.calls.last.request.headers


async def test_a_second_expired_address_is_the_end(tmp_path: Path) -> None:
    """The fresh address is tried once; a look that fails, or gives the same address, changes nothing."""
    again = {"id": 7, "status": "completed", "result_url": f"{STORAGE}/8.webp?sig=2"}
    without = {"id": 7, "status": "completed"}
    for answer in (httpx.Response(200, json=again), httpx.Response(404), httpx.Response(200, json=without)):
        with respx.mock:
            respx.get(f"{STORAGE}/7.webp").respond(404)
            respx.get(f"{STORAGE}/8.webp?sig=2").respond(410)
            look = respx.get(LOOK).mock(return_value=answer)
            async with client() as nb:
                with pytest.raises(APIStatusError, match=r"download 7: HTTP 4\d\d: .* expire") as caught:
                    await nb.download(done(), tmp_path)
        assert look.call_count == 1
        assert (caught.value.generation_id, caught.value.billed) == (7, "yes")


async def test_a_fresh_address_is_checked_as_the_first(tmp_path: Path) -> None:
    """What the look gives may not lead anywhere else either."""
    with respx.mock:
        respx.get(f"{STORAGE}/7.webp").respond(403)
        respx.get(LOOK).respond(json={"id": 7, "status": "completed", "result_url": "https://evil.test/7"})
        async with client() as nb:
            with pytest.raises(ResponseError, match=r"evil\.test"):
                await nb.download(done(), tmp_path)


async def test_a_single_place_is_enough_for_a_fresh_address(tmp_path: Path) -> None:
    """The look has the place that the file gave back."""
    with respx.mock:
        respx.get(f"{STORAGE}/7.webp").respond(403)
        respx.get(LOOK).respond(json={"id": 7, "status": "completed", "result_url": f"{STORAGE}/8.webp"})
        respx.get(f"{STORAGE}/8.webp").respond(content=PNG)
        async with client(max_connections=1) as nb:
            assert (await nb.download(done(), tmp_path)).read_bytes() == PNG


@pytest.mark.parametrize("status", [202, 204, 206])
async def test_a_status_without_a_file_is_an_error(status: int, tmp_path: Path) -> None:
    """Accepted, empty, or a part that does not say which: none of them is saved as a result."""
    with respx.mock:
        respx.get(f"{STORAGE}/7.webp").respond(status)
        async with client() as nb:
            with pytest.raises(APIConnectionError, match=f"HTTP {status}"):
                await nb.download(done(), tmp_path, timeout=20)


async def test_a_packed_file_is_unpacked_in_pieces(tmp_path: Path) -> None:
    """A storage that packs though it was not asked to is understood; a cut or unknown packing is an error."""
    packed = gzip.compress(PNG * 1_000)
    with respx.mock:
        route = respx.get(f"{STORAGE}/7.webp")
        async with client() as nb:
            for body, coding, total in (
                (packed, "gzip", PNG * 1_000),
                (packed, "GZip", PNG * 1_000),
                (packed[:-9], "gzip", None),
                (PNG, "br", None),
            ):
                route.mock(side_effect=lambda _, b=body, c=coding: packed_answer(b, c))
                if total is not None:
                    assert await nb.read(done()) == total
                    continue
                with pytest.raises(APIError):
                    await nb.download(done(), tmp_path, timeout=5)
            route.mock(side_effect=lambda _: packed_answer(gzip.compress(bytes(50_000_000)), "gzip"))
            with pytest.raises(ResponseError, match="max_bytes"):
                await nb.read(done(), max_bytes=1_000_000)


def packed_answer(body: bytes, coding: str) -> httpx.Response:
    """Answer with packed bytes that httpx has not read."""

    class Stream(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield body

    return httpx.Response(200, headers={"Content-Encoding": coding}, stream=Stream())

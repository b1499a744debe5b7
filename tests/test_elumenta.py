"""The service's other domain works by its address alone, and the key goes to no other host."""

from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from neuralbox_async import AsyncNeuralBox, ResponseError
from neuralbox_async.sandbox import Sandbox, http_client

pytestmark = pytest.mark.anyio
ELUMENTA = "https://elumenta.ru/api/v2"


async def test_everything_works_at_the_other_domain(tmp_path: Path) -> None:
    """Generating, streaming, the account and downloads, with nothing but another base URL."""
    sandbox = Sandbox()
    async with AsyncNeuralBox(sandbox.key, base_url=ELUMENTA, http_client=http_client(sandbox)) as nb:
        picture = await nb.generate("dall-e-3", "A fox")
        assert picture.url is not None
        assert picture.url.startswith("https://elumenta.ru/")
        assert (await nb.download(picture, tmp_path)).read_bytes().startswith(b"\x89PNG")
        async with nb.stream("gpt-5", "Hello") as stream:
            await stream.until_done()
        assert (await nb.me()).plan == "vip"
        assert len([each async for each in nb.history()]) == 2
    assert sandbox.requests.files_with_key == 0


class Hosts(httpx.AsyncBaseTransport):
    """Says that the result lies at an address, and keeps which hosts were asked with a key."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[tuple[str, bool]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        await anyio.lowlevel.checkpoint()
        self.asked.append((request.url.host, "authorization" in request.headers))
        if request.url.path.startswith("/api/v2/"):
            return httpx.Response(200, json={"id": 7, "status": "completed", "result_url": self.url})
        return httpx.Response(200, content=b"ID3")


def client(wire: Hosts, **options: Any) -> AsyncNeuralBox:
    """Return a client of this transport."""
    return AsyncNeuralBox("nb_test_key", http_client=httpx.AsyncClient(transport=wire), **options)


@pytest.mark.parametrize("base_url", [ELUMENTA, "https://neuralbox.top/api/v2"])
@pytest.mark.parametrize(
    "host", ["storage.neuralbox.top", "storage.elumenta.ru", "cdn.neuralbox.top", "cdn.elumenta.ru"]
)
async def test_results_of_both_domains_are_fetched_without_the_key(host: str, base_url: str, tmp_path: Path) -> None:
    """Either domain may name either one's hosts, as the documentation does."""
    wire = Hosts(f"https://{host}/audio/7.mp3")
    assert (await client(wire, base_url=base_url).download(7, tmp_path)).suffix == ".mp3"
    assert wire.asked == [(httpx.URL(base_url).host, True), (host, False)]


@pytest.mark.parametrize("host", ["elumenta.ru.evil.test", "evil-elumenta.ru", "cdn.elumenta.com"])
async def test_a_host_that_only_looks_like_it_is_not_asked(host: str, tmp_path: Path) -> None:
    """Hosts are compared whole."""
    wire = Hosts(f"https://{host}/audio/7.mp3")
    with pytest.raises(ResponseError, match="file_hosts"):
        await client(wire, base_url=ELUMENTA).download(7, tmp_path)
    assert [asked for asked, _ in wire.asked] == ["elumenta.ru"]

"""The sandbox through the real client: what the SDK's users and tests will do with it."""

import inspect
from pathlib import Path

import anyio
import httpx
import pytest

from neuralbox_async import AsyncNeuralBox, GenerationFailedError, OutcomeUnknownError, RateLimitError
from neuralbox_async.sandbox import PLANS, Plan, Sandbox, faults

pytest_plugins = ["neuralbox_async.sandbox.fixtures"]
pytestmark = pytest.mark.anyio


async def test_a_text(nb: AsyncNeuralBox, sandbox: Sandbox) -> None:
    """The fixtures give a client and its sandbox: one text, one charge."""
    answer = await nb.generate("gpt-5", "Explain tides")
    assert answer.text is not None
    assert "Explain tides" in answer.text
    assert [charge.tokens for charge in sandbox.charges] == [answer.tokens_spent]


async def test_what_was_answered_stays_as_it_was_answered() -> None:
    """However clocks round, what a POST or a stream has told completed is so in the very moment after."""
    sandbox = Sandbox(plan="elite", balance=10_000)
    async with sandbox.client() as nb:
        for _ in range(50):
            image = await nb.generate("dall-e-3", "A cat")
            assert (await nb.read(image))[:4] == b"\x89PNG"
            async with nb.stream("gpt-5", "Hello") as stream:
                text = await stream.until_done()
            assert [(await nb.get(each)).status for each in (image, text)] == ["completed"] * 2
            await anyio.sleep(0.37)


@pytest.mark.parametrize("family", ["a", "b"])
async def test_a_video_is_waited_for_and_saved(family: str, tmp_path: Path) -> None:
    """Both reply families lead to the same finished video, and its file is fetched without the key."""
    sandbox = Sandbox(family=family)
    async with sandbox.client() as nb:
        clip = await nb.generate("kling-v2.1", "A blooming flower")
        path = await nb.download(clip, f"{tmp_path}/")
    assert clip.tokens_spent == 26
    assert path.suffix == ".gif"
    assert (sandbox.requests.posts, sandbox.requests.downloads, sandbox.requests.files_with_key) == (1, 1, 0)


async def test_the_clients_pacing_is_the_sandboxs() -> None:
    """Without being told, a client looks less often than every 5 s of the world, however fast that is."""
    sandbox = Sandbox(plan="elite", speed=60)
    async with sandbox.client(look_price=0.35 / sandbox.speed) as nb:
        clips = [await nb.generate("kling-v2.1", "A blooming flower") for _ in range(20)]
    every_5_s = sum((clip.processing_ms or 0) / 1000 * sandbox.speed / 5 for clip in clips)
    assert sandbox.requests.looks < 0.8 * every_5_s


async def test_a_look_costs_what_it_costs_anywhere() -> None:
    """At speed 1 the sandbox's price of a look is the client's own."""
    usual = inspect.signature(AsyncNeuralBox).parameters["look_price"].default
    assert (Sandbox().look_price, Sandbox(speed=7).look_price) == (usual, usual / 7)


async def test_a_failure_costs_nothing(nb: AsyncNeuralBox, sandbox: Sandbox) -> None:
    """A forbidden prompt fails and is not charged."""
    with pytest.raises(GenerationFailedError):
        await nb.generate("kling-v2.1", "Something forbidden")
    assert sandbox.charges == []


async def test_a_lost_answer_is_not_sent_again(nb: AsyncNeuralBox, sandbox: Sandbox) -> None:
    """An answer lost after booking is one POST, one charge, and an honest error."""
    sandbox.order(faults.lost())
    with pytest.raises(OutcomeUnknownError):
        await nb.generate("gpt-5", "Hello")
    assert (sandbox.requests.posts, len(sandbox.charges)) == (1, 1)


async def test_a_refused_connection_is_tried_again(nb: AsyncNeuralBox, sandbox: Sandbox) -> None:
    """A connection that was never made is made again, and paid once."""
    sandbox.order(faults.refuse())
    await nb.generate("gpt-5", "Hello")
    assert (sandbox.requests.refused, len(sandbox.charges)) == (1, 1)


async def test_options_reach_the_client() -> None:
    """Every option of the client can be set, its timeouts and retries too."""
    sandbox = Sandbox()
    sandbox.order(faults.rate_limited(3), times=None)
    async with sandbox.client(max_retries=0) as nb:
        with pytest.raises(RateLimitError):
            await nb.generate("gpt-5", "Hello")
    assert sandbox.requests.posts == 1


async def test_a_pacing_knows_the_sandboxs_durations() -> None:
    """The pacing shrinks with the speed."""
    pacing = Sandbox(speed=10).pacing()
    assert pacing.ranges["kling-v2.1"] == (4.5, 9)
    assert (pacing.floor, pacing.cap) == (0.05, 12)


async def test_a_spent_hour_is_waited_out() -> None:
    """With five requests an hour, ten texts take more than an hour of virtual time and none is lost."""
    plan = Plan(name="vip", per_hour=5, per_day=PLANS["vip"].per_day)
    sandbox = Sandbox(plan=plan)
    async with sandbox.client(timeout=10 * 3600) as nb:
        began = anyio.current_time()
        for number in range(10):
            await nb.generate("gpt-5", f"Text {number}")
    assert anyio.current_time() - began > 3600
    assert len(sandbox.charges) == 10


async def test_an_http_client_of_ones_own(sandbox: Sandbox) -> None:
    """Whoever has an httpx client already may hand it in instead."""
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(418))) as http:
        nb = sandbox.client(http_client=http)
        assert isinstance(nb, AsyncNeuralBox)
        await nb.aclose()
    assert sandbox.requests.total == 0

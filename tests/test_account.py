"""The account, its models and its keys, asked and changed from the client, in both families of replies."""

from collections import Counter

import httpx
import pytest

from neuralbox_async import AsyncNeuralBox, AuthenticationError, NotFoundError, OutcomeUnknownError, UsageError
from neuralbox_async.sandbox import CATALOGUE, Sandbox, SandboxTransport, faults, http_client

pytestmark = pytest.mark.anyio
FAVORITE, RATE = "POST /user/history/{id}/favorite", "POST /user/history/{id}/rate"


@pytest.fixture(params=["a", "b"])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    """Return a sandbox of either family."""
    return Sandbox(family=request.param, balance=10_000)


async def test_models_and_their_prices(sandbox: Sandbox) -> None:
    """What the list says of a model, the model itself and its price agree."""
    async with sandbox.client() as nb:
        models = {each.slug: each for each in await nb.models()}
        assert models.keys() == CATALOGUE.keys()
        assert await nb.model("dall-e-3") == models["dall-e-3"]
        price = await nb.price("dall-e-3", {"quality": "hd"})
        assert (price.tokens, price.pricing_type) == (models["dall-e-3"].max_token_cost, "matrix")
        assert sandbox.charges == []
        assert (await nb.generate("dall-e-3", "A fox", {"quality": "hd"})).tokens_spent == price.tokens


async def test_a_model_that_is_not_there() -> None:
    """A wrong slug is the service's to refuse."""
    async with Sandbox().client() as nb:
        for call in (nb.model("gpt-99"), nb.price("gpt-99")):
            with pytest.raises(NotFoundError):
                await call
        with pytest.raises(UsageError, match="count"):
            await nb.price("gpt-5", count=0)


async def test_a_list_of_models_that_goes_round_ends() -> None:
    """Where further pages bring nothing new, what the first one said of the whole is not believed."""
    sandbox = Sandbox()
    sandbox.order(faults.status(200, body={"models": ["gpt-5", "dall-e-3"], "total": 50}), on="GET /models", times=None)
    async with sandbox.client() as nb:
        assert [each.slug for each in await nb.models()] == ["gpt-5", "dall-e-3"]
    assert sandbox.requests.of("GET", "/models") == 2


async def test_whose_account_it_is_and_what_it_did(sandbox: Sandbox) -> None:
    """Profile and statistics add up with what was charged."""
    async with sandbox.client() as nb:
        await nb.generate("gpt-5", "Hello")
        await nb.generate("openai-tts", "Hello")
        me, stats, balance = await nb.me(), await nb.stats(), await nb.balance()
    spent = sum(charge.tokens for charge in sandbox.charges)
    assert (me.plan, me.token_balance, me.tokens_used_this_period) == ("vip", balance.token_balance, spent)
    assert (stats.total_generations, stats.tokens_spent_total) == (2, spent)
    assert stats.breakdown["audio"].generations == 1
    assert stats.recent_30d is not None
    assert stats.recent_30d.tokens == spent


async def test_profile_and_settings_can_be_changed() -> None:
    """What was changed is what is read next; what cannot be changed is refused."""
    async with Sandbox().client() as nb:
        await nb.change_settings(image_format="png", notifications_enabled=False)
        await nb.change_me(name="Ёж")
        settings = await nb.settings()
        assert (settings.image_format, settings.notifications_enabled, settings.language) == ("png", False, "en")
        assert (await nb.me()).name == "Ёж"
        with pytest.raises(UsageError, match="JSON"):
            await nb.change_settings(language=object())


async def test_marks_show_in_the_history(sandbox: Sandbox) -> None:
    """A favourite and a rating are seen where the history shows them; a deleted entry is gone."""
    first, second, third = (sandbox.book("gpt-5", f"text {number}") for number in range(3))
    async with sandbox.client() as nb:
        assert await nb.toggle_favorite(first) is True
        await nb.rate_generation(first, 5)
        await nb.delete_generation(second)
        assert [each.id async for each in nb.history()] == [third, first]
        assert [each.id async for each in nb.history(favorites_only=True)] == [first]
        assert await nb.toggle_favorite(first) is False
        assert [each.id async for each in nb.history(favorites_only=True)] == []
        with pytest.raises(NotFoundError):
            await nb.delete_generation(second)


async def test_a_lost_toggle_is_not_repeated() -> None:
    """Twice is as good as never, so the client says that it does not know."""
    sandbox = Sandbox()
    clip = sandbox.book("gpt-5", "Hello")
    sandbox.order(faults.lost(), on=FAVORITE)
    async with sandbox.client() as nb:
        with pytest.raises(OutcomeUnknownError) as caught:
            await nb.toggle_favorite(clip)
        assert (caught.value.billed, caught.value.generation_id) == ("no", clip)
        assert sandbox.requests.of("POST", "/user/history/{id}/favorite") == 1
        assert [each.id async for each in nb.history(favorites_only=True)] == [clip]


async def test_a_toggle_that_was_refused_for_now_is_repeated() -> None:
    """A closed window is certain to have changed nothing."""
    sandbox = Sandbox()
    clip = sandbox.book("gpt-5", "Hello")
    sandbox.order(faults.rate_limited(3), on=FAVORITE)
    sandbox.order(faults.refuse(), on=FAVORITE)
    async with sandbox.client() as nb:
        assert await nb.toggle_favorite(clip) is True


@pytest.mark.parametrize("fault", [faults.lost(), faults.html(502), faults.refuse(), faults.rate_limited(2)])
async def test_what_may_be_repeated_is(fault: faults.Fault) -> None:
    """A rating, a setting, a name and a deletion are sent again until they are answered."""
    sandbox = Sandbox()
    clip = sandbox.book("gpt-5", "Hello")
    async with sandbox.client() as nb:
        key = await nb.create_key("app")
        sandbox.order(fault, on="*", times=1)
        await nb.rate_generation(clip, 4)
        sandbox.order(fault, on="*", times=1)
        await nb.change_settings(language="ru")
        sandbox.order(fault, on="*", times=1)
        await nb.rename_key(key.id, "other")
        sandbox.order(fault, on="*", times=1)
        await nb.delete_generation(clip)
        sandbox.order(fault, on="*", times=1)
        await nb.revoke_key(key.id)
        assert [each async for each in nb.history()] == []
    assert sandbox.world.desk.keys == {}


async def test_keys_are_made_renamed_and_revoked() -> None:
    """A new key opens the account, and opens nothing once it is revoked."""
    sandbox = Sandbox()
    async with sandbox.client() as nb:
        key = await nb.create_key("app")
        await nb.rename_key(key.id, "other")
        assert sandbox.world.desk.keys[str(key.id)]["name"] == "other"
        other = AsyncNeuralBox(key.secret.reveal(), base_url=sandbox.base_url, http_client=http_client(sandbox))
        assert (await other.me()).plan == "vip"
        await nb.revoke_key(key.id)
        with pytest.raises(AuthenticationError):
            await other.me()
        with pytest.raises(NotFoundError):
            await nb.revoke_key(key.id)


async def test_a_key_whose_answer_is_lost_is_made_once() -> None:
    """Nobody knows it, and a second one would be one more to lose."""
    sandbox = Sandbox()
    sandbox.order(faults.lost(), on="POST /keys")
    async with sandbox.client() as nb:
        with pytest.raises(OutcomeUnknownError, match="profile"):
            await nb.create_key("app")
    assert len(sandbox.world.desk.keys) == 1


class Deaf(httpx.AsyncBaseTransport):
    """Keeps all but the page from the service, as one that does not know the filters' names."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self.inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Hand a request on without its filters."""
        kept = {name: value for name, value in request.url.params.items() if name in {"page", "limit"}}
        request.url = request.url.copy_with(params=kept) if kept else request.url
        return await self.inner.handle_async_request(request)


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({"model": "gpt-5"}, {"gpt-5": 3}),
        ({"category": "video"}, {"kling-v2.1": 2}),
        ({"status": "failed"}, {"gpt-5": 1}),
        ({"model": "gpt-5", "status": "completed"}, {"gpt-5": 2}),
        ({"favorites_only": True}, {"gpt-5": 1}),
        ({"model": "none"}, {}),
    ],
)
@pytest.mark.parametrize("ignored", [False, True], ids=["the service filters", "the service knows no filter"])
async def test_the_history_is_filtered(
    filters: dict[str, str],
    wanted: dict[str, int],
    ignored: bool,  # noqa: FBT001
) -> None:
    """Filters hold whether or not the service knows their names."""
    sandbox = Sandbox(balance=10_000)
    for number in range(120):
        sandbox.book("photon-1", f"picture {number}")
    ids = [sandbox.book("gpt-5", prompt) for prompt in ("Hello", "Forbidden", "Bye")]
    _ = [sandbox.book("kling-v2.1", "A clip") for _ in range(2)]
    sandbox.fast_forward(1_000)
    options = {"http_client": httpx.AsyncClient(transport=Deaf(SandboxTransport(sandbox)))} if ignored else {}
    async with sandbox.client(**options) as nb:
        await nb.toggle_favorite(ids[0])
        found = [each async for each in nb.history(**filters)]  # type: ignore[arg-type]
    assert Counter(each.model for each in found) == wanted

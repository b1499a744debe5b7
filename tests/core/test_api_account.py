"""The account and the models: what is asked, what the documented replies are read as, and what never shows a key."""

import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from neuralbox_async import NewKey, ResponseError, UsageError
from neuralbox_async._core import api
from neuralbox_async._core.account import Usage
from neuralbox_async._core.api import Answer, Call

SAMPLES = Path(__file__).parent.parent / "samples"
SECRET = "nb_live_a1b2c3d4..."


def sample(name: str) -> bytes:
    """Return a documented reply."""
    return (SAMPLES / f"{name}.json").read_bytes()


def read(call: Call[Any], body: bytes, status: int = 200) -> Any:
    """Read a body as what the call promises."""
    return api.read(call, Answer(status=status, headers={}, body=body))


def test_a_model_is_read() -> None:
    """Every documented field of a model has its name."""
    model = read(api.model("dall-e-3"), sample("model"))
    assert (model.slug, model.name, model.category, model.provider) == ("dall-e-3", "DALL-E 3", "image", "OpenAI")
    assert (model.token_cost, model.min_token_cost, model.max_token_cost) == (5, 5, 13)
    assert (model.min_plan, model.description, model.supports_streaming) == ("free", "...", False)
    assert model.config["quality_options"] == ["standard", "hd"]
    assert (model.extra, model.raw["slug"]) == ({}, "dall-e-3")


def test_the_russian_description_will_do() -> None:
    """The pages differ in the name of the description."""
    assert read(api.model("m"), b'{"slug": "m", "description_ru": "\xd0\x94\xd0\xb0"}').description == "Да"


ONE = {"slug": "gpt-5", "token_cost": 2}


@pytest.mark.parametrize(
    "envelope",
    [[ONE], {"items": [ONE]}, {"data": [ONE], "total": 1}, {"models": [ONE]}, ["gpt-5"], [{"id": "gpt-5"}, {}, 5]],
)
def test_models_come_in_any_envelope(envelope: Any) -> None:
    """The page that documents the list is not public: a bare list or the usual names will do."""
    page = read(api.models(page=1), json.dumps(envelope).encode())
    assert [each.slug for each in page.items] == ["gpt-5"]


@pytest.mark.parametrize("body", [b'{"error": "no"}', b"{}", b"5", b"<html>", b""])
def test_what_holds_no_list_is_no_list_of_models(body: bytes) -> None:
    """An odd answer is an error and no empty catalogue."""
    with pytest.raises(ResponseError, match="models"):
        read(api.models(page=1), body)


def test_a_price_is_read() -> None:
    """Tokens of this generation, of the cheapest and of the dearest, and how it is priced."""
    price = read(api.price("dall-e-3", {"quality": "hd"}, 1), sample("price"))
    assert (price.tokens, price.min_tokens, price.max_tokens, price.pricing_type) == (13, 5, 13, "matrix")
    assert price.extra == {}


def test_a_profile_is_read() -> None:
    """Every documented field of the profile has its name."""
    me = read(api.me(), sample("me.en"))
    assert (me.id, me.name, me.email, me.telegram_username) == (
        1042,
        "Example User",
        "user@example.com",
        "example_user",
    )
    assert (me.plan, me.plan_expires_at) == ("vip", datetime(2026, 4, 8, tzinfo=UTC))
    assert (me.token_balance, me.token_limit, me.tokens_used_this_period) == (1247, 1500, 253)
    assert (me.rate_limit_hourly, me.rate_limit_daily, me.auth_methods["google"]) == (100, 1000, False)
    assert me.extra == {}


def test_the_other_page_s_profile_is_read() -> None:
    """The Russian page has a username and a date."""
    me = read(api.me(), b'{"id": 7, "username": "ivan", "created_at": "2026-01-01T00:00:00Z"}')
    assert (me.name, me.created_at) == ("ivan", datetime(2026, 1, 1, tzinfo=UTC))


def test_stats_are_read() -> None:
    """Counts and tokens in all, by category and of the last 30 days, under one pair of names."""
    stats = read(api.stats(), sample("stats"))
    assert (stats.total_generations, stats.tokens_spent_total) == (842, 4210)
    assert stats.breakdown["video"] == Usage(generations=48, tokens=864)
    assert stats.recent_30d == Usage(generations=128, tokens=640)


def test_settings_are_read() -> None:
    """Preferences have their names; one that this version does not know is in `extra`."""
    settings = read(api.settings(), b'{"language": "en", "image_format": "png", "beta": 1}')
    assert (settings.language, settings.image_format, settings.notifications_enabled) == ("en", "png", None)
    assert settings.extra == {"beta": 1}


def new_key() -> NewKey:
    """Read the documented reply to the making of a key."""
    key: NewKey = read(api.create_key("my-app-production"), sample("key_created"), 201)
    return key


def test_a_new_key_is_revealed_on_demand() -> None:
    """The key comes out of one method."""
    key = new_key()
    assert (key.id, key.name, key.secret.reveal()) == (13, "my-app-production", SECRET)


@pytest.mark.parametrize("show", [repr, str, "{}".format])
def test_a_new_key_shows_itself_nowhere(show: Callable[[object], str]) -> None:
    """No text of it has the key, nor has what is kept of the reply."""
    key = new_key()
    assert [part for part in (key, key.secret, key.raw, key.raw.values()) if SECRET in show(part)] == []


@pytest.mark.parametrize("part", ["key", "secret"])
def test_a_new_key_is_not_pickled(part: str) -> None:
    """A pickle is a file that nobody guards."""
    key = new_key()
    with pytest.raises(TypeError, match="reveal"):
        pickle.dumps({"key": key, "secret": key.secret}[part])


@pytest.mark.parametrize(
    "body", [b'{"key": "nb_live_a1b2c3d4"}', b'{"id": 13, "key": "nb_live_a1b2', b'"nb_live_a1b2"']
)
def test_a_reply_that_cannot_be_read_shows_no_key(body: bytes) -> None:
    """Errors end up in logs; what looks like a key is left out of them."""
    with pytest.raises(ResponseError) as caught:
        read(api.create_key("x"), body)
    assert "a1b2" not in repr(vars(caught.value)) + str(caught.value)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"ok": true}', b'{"id": 5}'])
def test_a_reply_that_is_not_documented_says_nothing(body: bytes) -> None:
    """What changes something answers as it likes, also with nothing."""
    assert read(api.change_settings({"language": "en"}), body, 204 if not body else 200) is None


def test_a_page_of_html_is_no_success() -> None:
    """A proxy's page with a good status has not changed anything."""
    with pytest.raises(ResponseError):
        read(api.revoke_key(13), b"<html>Please log in</html>")


@pytest.mark.parametrize(("body", "now"), [(b'{"is_favorited": true}', True), (b"{}", None)])
def test_a_toggle_says_what_holds_now_if_it_knows(body: bytes, now: bool | None) -> None:  # noqa: FBT001
    """The reply is not documented: nobody may know."""
    assert read(api.toggle_favorite(7), body).is_favorited is now


SENT: list[tuple[Call[Any], str, Any]] = [
    (api.models(page=1), "GET /models", None),
    (api.models(page=2), "GET /models?page=2", None),
    (api.model("a/b"), "GET /models/a%2Fb", None),
    (api.price("gpt-5", None, 3), "POST /models/gpt-5/calculate-price", {"params": {}, "count": 3}),
    (api.me(), "GET /user/me", None),
    (api.change_me({"name": "Ёж"}), "PATCH /user/me", {"name": "Ёж"}),
    (api.stats(), "GET /user/stats", None),
    (api.settings(), "GET /user/settings", None),
    (api.change_settings({"language": "ru"}), "PATCH /user/settings", {"language": "ru"}),
    (api.toggle_favorite(7), "POST /user/history/7/favorite", {}),
    (api.rate_generation("gen_1", 5), "POST /user/history/gen_1/rate", {"rating": 5}),
    (api.delete_generation(7), "DELETE /user/history/7", None),
    (api.create_key("app"), "POST /keys", {"name": "app"}),
    (api.rename_key(13, "new"), "PATCH /keys/13", {"name": "new"}),
    (api.revoke_key(13), "DELETE /keys/13", None),
    (api.history(page=2, filters={"model_slug": "m"}), "GET /user/history?page=2&limit=100&model_slug=m", None),
]


@pytest.mark.parametrize(("call", "line", "body"), SENT, ids=[line for _, line, _ in SENT])
def test_what_is_sent(call: Call[Any], line: str, body: Any) -> None:
    """Method, path and body are the documented ones, and nothing of it is paid for."""
    assert f"{call.method} {call.path}" == line
    assert (None if call.body is None else json.loads(call.body)) == body
    assert call.request is None


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: api.model(""),
        lambda: api.model(5),  # type: ignore[arg-type]
        lambda: api.price("gpt-5", 5, 1),  # type: ignore[arg-type]
        lambda: api.create_key(" "),
        lambda: api.rename_key(13, None),  # type: ignore[arg-type]
        lambda: api.revoke_key(".."),
        lambda: api.toggle_favorite(None),  # type: ignore[arg-type]
        lambda: api.rate_generation(7, float("nan")),
        lambda: api.change_settings({"language": b"en"}),
    ],
)
def test_what_cannot_work_is_refused(wrong: Callable[[], object]) -> None:
    """A wrong argument is a usage error, before anything is sent."""
    with pytest.raises(UsageError):
        wrong()

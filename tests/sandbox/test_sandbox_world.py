"""The world, asked directly: what the service answers, charges and counts, without an event loop."""

import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from neuralbox_async.sandbox import PLANS, Answer, Ask, Charge, Plan, Sandbox, World

SAMPLES = Path(__file__).parents[1] / "samples"
AUTHORIZED = {"authorization": f"Bearer {Sandbox().key}", "host": "sandbox.neuralbox.test"}
VIP = PLANS["vip"]


def post(world: World, model: str, prompt: str = "A blooming flower", *, now: float = 0.0, **params: Any) -> Answer:
    """Ask for a generation."""
    body = json.dumps({"model": model, "prompt": prompt, "params": params}).encode()
    return world.answer(Ask(method="POST", path="/api/v2/generate", headers=AUTHORIZED, body=body), now)


def get(world: World, path: str, *, now: float = 0.0) -> Answer:
    """Ask for something of the API."""
    return world.answer(Ask(method="GET", path=f"/api/v2{path}", headers=AUTHORIZED), now)


def read(answer: Answer) -> dict[str, Any]:
    """Return an answer's JSON object."""
    content: dict[str, Any] = json.loads(answer.body)
    return content


def test_a_text_is_answered_in_the_post_after_its_duration() -> None:
    """A text model answers in the POST itself, no sooner than it takes."""
    answer = post(Sandbox().world, "gpt-5", "Explain tides")
    told = read(answer)
    assert told["status"] == "completed"
    assert "Explain tides" in told["result_text"]
    assert told["processing_ms"] == round(answer.delay * 1000) > 0


def test_a_text_can_be_looked_at_again() -> None:
    """A look at a finished text tells what its POST told."""
    world = Sandbox().world
    told = read(post(world, "gpt-5"))
    assert read(get(world, f"/generate/{told['id']}", now=100)) == told


def test_a_video_is_pending_and_then_completed() -> None:
    """A video starts pending and is completed once its time has come."""
    world = Sandbox().world
    booked = post(world, "kling-v2.1")
    generation = read(booked)["id"]
    assert booked.delay == 0
    assert read(get(world, f"/generate/{generation}", now=5))["status"] == "pending"
    done = read(get(world, f"/generate/{generation}", now=500))
    assert done["status"] == "completed"
    assert 20_000 < done["processing_ms"] < 200_000


@pytest.mark.parametrize(
    ("kind", "model", "prompt", "family", "sample"),
    [
        ("created", "gpt-5", "Hello", "a", "generate_text_completed.a"),
        ("created", "dall-e-3", "A cat", "a", "generate_image_completed.a"),
        ("created", "kling-v2.1", "A cat", "a", "generate_video_pending.a"),
        ("pending", "kling-v2.1-pro", "A cat", "a", "status_pending.a"),
        ("finished", "kling-v2.1-pro", "A cat", "a", "status_completed.a"),
        ("finished", "kling-v2.1-pro", "Forbidden", "a", "status_failed.a"),
        ("pending", "kling-v2.1-pro", "A cat", "b", "status_pending.b"),
        ("finished", "kling-v2.1-pro", "A cat", "b", "status_completed.b"),
        ("finished", "kling-v2.1-pro", "Forbidden", "b", "status_failed.b"),
        ("finished", "elevenlabs-music", "A song", "b", "generate_music_completed.b"),
        ("history", "dall-e-3", "A cat", "a", "history.a"),
        ("history", "dall-e-3", "A cat", "b", "history.b"),
        ("balance", "gpt-5", "Hello", "a", "balance.a"),
        ("balance", "gpt-5", "Hello", "b", "balance.b"),
    ],
)
def test_replies_have_the_documented_fields(kind: str, model: str, prompt: str, family: str, sample: str) -> None:
    """Each reply has exactly the fields of its documented sample, of the same types, none more and none less."""
    world = Sandbox(family=family).world
    created = post(world, model, prompt)
    looked_at = f"/generate/{read(created)['id']}"
    told = {
        "created": lambda: created,
        "pending": lambda: get(world, looked_at, now=1),
        "finished": lambda: get(world, looked_at, now=1000),
        "history": lambda: get(world, "/user/history", now=1000),
        "balance": lambda: get(world, "/balance"),
    }[kind]()
    assert shape(read(told)) == documented(sample)


@pytest.mark.parametrize(
    ("method", "path", "sample"),
    [
        ("GET", "/models/dall-e-3", "model"),
        ("POST", "/models/dall-e-3/calculate-price", "price"),
        ("GET", "/user/me", "me.en"),
        ("GET", "/user/stats", "stats"),
        ("POST", "/keys", "key_created"),
    ],
)
def test_the_account_is_told_in_the_documented_fields(method: str, path: str, sample: str) -> None:
    """What is not about a generation has exactly the fields of its documented sample too."""
    ask = Ask(method=method, path=f"/api/v2{path}", headers=AUTHORIZED, body=b'{"name": "my-app-production"}')
    assert shape(read(Sandbox().world.answer(ask, 0.0))) == documented(sample)


def shape(value: Any) -> Any:
    """Return a reply with every value replaced by its type's name."""
    if isinstance(value, dict):
        return {name: shape(member) for name, member in value.items()}
    if isinstance(value, list):
        return [shape(member) for member in value]
    return type(value).__name__


def documented(sample: str) -> Any:
    """Read the shape of a documented reply."""
    return shape(json.loads((SAMPLES / f"{sample}.json").read_text(encoding="utf-8")))


def test_text_of_the_older_family_has_content_and_usage() -> None:
    """Family b tells a text as `content`, with the tokens left and the provider's usage."""
    told = read(post(Sandbox(family="b").world, "gpt-5", "Hello"))
    assert told["id"].startswith("gen_")
    assert told["tokens_used"] == 2
    assert told["balance_remaining"] == 1498
    assert "Hello" in told["content"]
    assert "usage" in told


def test_a_price_is_reserved_then_charged_on_completion() -> None:
    """A pending generation holds its price back without taking it; completion takes it."""
    sandbox = Sandbox(balance=50)
    post(sandbox.world, "kling-v2.1", now=0)
    assert sandbox.balance == 50
    assert post(sandbox.world, "kling-v2.1", now=1).status == 402
    assert read(get(sandbox.world, "/balance", now=500))["token_balance"] == 24
    assert sandbox.charges == [Charge(generation_id=18_500, model="kling-v2.1", prompt="A blooming flower", tokens=26)]


def test_a_failed_generation_costs_nothing_and_frees_its_price() -> None:
    """A failure gives back what was reserved for it."""
    sandbox = Sandbox(balance=26)
    failed = post(sandbox.world, "kling-v2.1", "Something FORBIDDEN")
    told = read(get(sandbox.world, f"/generate/{read(failed)['id']}", now=500))
    assert told["error"] == "Provider error: content policy violation"
    assert sandbox.charges == []
    assert sandbox.balance == 26
    assert post(sandbox.world, "kling-v2.1", now=501).status == 200


def test_a_failed_text_is_an_answer_not_an_http_error() -> None:
    """A text that fails is told as a failed generation in the POST's own answer."""
    answer = post(Sandbox().world, "gpt-5", "forbidden fruit")
    assert (answer.status, read(answer)["status"], read(answer)["tokens_spent"]) == (200, "failed", 0)


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"{", 400, "bad_request"),
        (b"[]", 400, "bad_request"),
        (b'{"model": "gpt-5"}', 400, "bad_request"),
        (b'{"prompt": "Hello"}', 400, "bad_request"),
        (b'{"model": "gpt-5", "prompt": ""}', 422, "validation_error"),
        (b'{"model": 5, "prompt": "Hello"}', 422, "validation_error"),
        (b'{"model": "gpt-5", "prompt": "Hello", "params": 7}', 422, "validation_error"),
        (b'{"model": "gpt-6", "prompt": "Hello"}', 404, "not_found"),
        (b'{"model": "gpt-5", "prompt": "Hello", "params": null}', 200, None),
    ],
)
def test_create_requests_are_checked(body: bytes, status: int, error: str | None) -> None:
    """A create request that cannot be understood gets the documented envelope and books nothing."""
    sandbox = Sandbox()
    answer = sandbox.world.answer(Ask(method="POST", path="/api/v2/generate", headers=AUTHORIZED, body=body), 0)
    assert (answer.status, read(answer).get("error")) == (status, error)
    assert sandbox.booked == (1 if status == 200 else 0)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v2/generate/1"),
        ("GET", "/api/v2/nothing"),
        ("DELETE", "/api/v2/generate/18500"),
        ("GET", "/generations/18500.gif"),
        ("GET", "/thumbnails/18500.png"),
        ("GET", "/"),
    ],
)
def test_everything_unknown_is_not_found(method: str, path: str) -> None:
    """What does not exist is a 404 with the documented envelope."""
    answer = Sandbox().world.answer(Ask(method=method, path=path, headers=AUTHORIZED), 0)
    assert answer.status == 404
    assert read(answer).keys() == {"error", "message", "details"}


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer nb_other"}, {"authorization": Sandbox().key}])
def test_the_key_is_asked_for(headers: dict[str, str]) -> None:
    """The API answers 401 to a missing, wrong or bare key."""
    answer = Sandbox().world.answer(Ask(method="GET", path="/api/v2/balance", headers=headers), 0)
    assert (answer.status, read(answer)["error"]) == (401, "not_authenticated")


@pytest.mark.parametrize(
    ("plan", "status"), [("free", 403), ("basic", 403), ("pro", 403), ("vip", 200), ("elite", 200)]
)
def test_only_vip_and_elite_may_use_the_api(plan: str, status: int) -> None:
    """Keys of the smaller plans are turned away."""
    assert get(Sandbox(plan=plan).world, "/balance").status == status


def test_every_answer_tells_the_plans_headers() -> None:
    """Limits, what is left of them and when the hour ends are in each answer's headers."""
    world = Sandbox().world
    get(world, "/balance")
    headers = get(world, "/generate/0", now=10).headers
    assert {name: headers[name] for name in headers if name.startswith("X-RateLimit")} == {
        "X-RateLimit-Limit-Hour": "100",
        "X-RateLimit-Remaining-Hour": "98",
        "X-RateLimit-Limit-Day": "1000",
        "X-RateLimit-Remaining-Day": "998",
        "X-RateLimit-Reset-Hour": str(1_772_971_200 + 3600),
    }
    assert headers["Date"] == "Sun, 08 Mar 2026 12:00:10 GMT"


def test_an_unlimited_plan_tells_no_limits() -> None:
    """Elite answers carry no rate-limit header."""
    assert not [name for name in get(Sandbox(plan="elite").world, "/balance").headers if "RateLimit" in name]


def test_a_spent_hour_is_refused_until_the_next_one_begins() -> None:
    """The 429 has the documented body and says when the clock-aligned hour ends; then requests pass again."""
    world = Sandbox(plan=evolve(VIP, per_hour=2), epoch=1_772_971_200 + 1800).world
    assert [get(world, "/balance", now=n).status for n in range(3)] == [200, 200, 429]
    refused = get(world, "/balance", now=952.5)
    assert read(refused) == {
        "error": "rate_limit_exceeded",
        "message": "Hourly limit reached: 2 requests/hour on VIP plan",
        "retry_after": 848,
        "plan": "vip",
        "limit_hour": 2,
        "limit_day": 1000,
    }
    assert refused.headers["Retry-After"] == "848"
    assert refused.headers["X-RateLimit-Remaining-Hour"] == "0"
    assert get(world, "/balance", now=952.5 + 848).status == 200


def test_a_spent_day_is_refused_until_midnight() -> None:
    """The daily limit holds across hours, to the end of the day."""
    world = Sandbox(plan=Plan(name="vip", per_hour=None, per_day=1)).world
    get(world, "/balance")
    refused = read(get(world, "/balance", now=4000))
    assert refused["message"] == "Daily limit reached: 1 requests/day on VIP plan"
    assert refused["retry_after"] == 12 * 3600 - 4000


def test_gets_may_be_free_of_the_window() -> None:
    """With count_gets=False looks neither use the window up nor are turned away by it."""
    world = Sandbox(plan=evolve(VIP, per_hour=1), count_gets=False).world
    assert get(world, "/balance").headers["X-RateLimit-Remaining-Hour"] == "1"
    assert [post(world, "gpt-5").status, post(world, "gpt-5").status, get(world, "/balance").status] == [200, 429, 200]


def test_speed_shrinks_durations_and_windows() -> None:
    """At speed 100 everything the service says is in seconds of the caller, to the millisecond."""
    fast = Sandbox(speed=100, plan=evolve(VIP, per_hour=1)).world
    slow = Sandbox(speed=1).world
    assert post(fast, "gpt-5").delay == pytest.approx(post(slow, "gpt-5").delay / 100)
    refused = get(fast, "/balance", now=1.23456)
    assert read(refused)["retry_after"] == 34.766
    assert refused.headers["Retry-After"] == "35"
    assert refused.headers["X-RateLimit-Reset-Hour"] == str(1_772_971_200 + 36)
    assert get(fast, "/balance", now=1.23456 + 34.766).status == 200


def test_the_same_seed_gives_the_same_durations() -> None:
    """Two worlds of one seed answer alike, another seed differently."""
    delays = [[post(Sandbox(seed=seed).world, "gpt-5").delay for _ in range(3)] for seed in (1, 1, 2)]
    assert delays[0] == delays[1] != delays[2]


@pytest.mark.parametrize(
    ("model", "extension", "content_type"),
    [
        ("dall-e-3", "png", "image/png"),
        ("kling-v2.1", "gif", "image/gif"),
        ("musicgen", "wav", "audio/wav"),
        ("openai-tts", "wav", "audio/wav"),
    ],
)
def test_results_are_files_at_the_address_that_was_asked(model: str, extension: str, content_type: str) -> None:
    """A result's URL has the scheme, host and port of the request, and leads to a file of the announced length."""
    world = Sandbox().world
    generation = read(post(world, model))["id"]
    look = Ask(
        method="GET",
        path=f"/api/v2/generate/{generation}",
        headers={**AUTHORIZED, "host": "127.0.0.1:8042"},
        scheme="http",
    )
    url = read(world.answer(look, 1000))["result_url"]
    assert url == f"http://127.0.0.1:8042/generations/{generation}.{extension}"
    file = world.answer(Ask(method="GET", path=f"/generations/{generation}.{extension}"), 1001)
    assert (file.status, file.headers["Content-Type"]) == (200, content_type)
    assert int(file.headers["Content-Length"]) == len(file.body) > 0


def test_a_video_has_a_thumbnail() -> None:
    """The still picture of a completed video is a PNG."""
    world = Sandbox().world
    generation = read(post(world, "kling-v2.1"))["id"]
    still = world.answer(Ask(method="GET", path=f"/thumbnails/{generation}.png"), 1000)
    assert still.body.startswith(b"\x89PNG")


def test_a_key_sent_to_the_file_host_is_noticed() -> None:
    """Requests for files need no key, and the world counts those that carry one."""
    sandbox = Sandbox()
    for headers in ({}, AUTHORIZED):
        sandbox.world.answer(Ask(method="GET", path="/generations/1.png", headers=headers), 0)
    assert (sandbox.requests.downloads, sandbox.requests.files_with_key) == (2, 1)


def test_requests_are_counted_by_route_and_status() -> None:
    """The counts say what was asked, how often, and what came of it."""
    sandbox = Sandbox()
    post(sandbox.world, "gpt-5")
    get(sandbox.world, "/generate/7")
    get(sandbox.world, "/balance")
    requests = sandbox.requests
    assert requests.counts == {
        ("POST", "/generate", 200): 1,
        ("GET", "/generate/{id}", 404): 1,
        ("GET", "/balance", 200): 1,
    }
    assert (requests.total, requests.posts, requests.looks, requests.answered(404)) == (3, 1, 1, 1)


@pytest.mark.parametrize("family", ["a", "b"])
def test_a_page_tells_what_has_changed_since_the_last_one(family: str) -> None:
    """Who finished, what was marked, and where the files lie are told anew, whatever was told before."""
    world = Sandbox(family=family).world
    entry = f"/user/history/{read(post(world, 'kling-v2.1'))['id']}"

    def told(host: str = "one.test", *, now: float = 0.0) -> dict[str, Any]:
        headers = {**AUTHORIZED, "host": host}
        page = read(world.answer(Ask(method="GET", path="/api/v2/user/history", headers=headers), now))
        (only,) = page["items"]
        return dict(only)

    assert told() == told()
    assert told()["status"] == "pending"
    done = told(now=500)
    assert done["status"] == "completed"
    assert told("other.test", now=500) != done
    if family == "a":  # the other one's entries have no marks
        world.answer(Ask(method="POST", path=f"/api/v2{entry}/favorite", headers=AUTHORIZED, body=b"{}"), 500)
        assert told(now=500) == {**done, "is_favorited": True}
        world.answer(Ask(method="POST", path=f"/api/v2{entry}/rate", headers=AUTHORIZED, body=b'{"rating": 4}'), 500)
        assert told(now=500) == {**done, "is_favorited": True, "user_rating": 4}


def test_twenty_thousand_pending_generations_are_settled_each_in_its_time() -> None:
    """However many are pending, each is charged when it is due, and none twice."""
    sandbox = Sandbox(plan="elite", balance=10**9)
    for _ in range(20_000):
        post(sandbox.world, "kling-v2.1")
    charged = []
    for second in range(0, 600, 10):
        sandbox.world.settle(second)
        charged.append(len(sandbox.charges))
    assert charged == [sum(job.due <= second for job in sandbox.world.jobs.values()) for second in range(0, 600, 10)]
    assert charged[-1] == 20_000
    assert sandbox.balance == 10**9 - 26 * 20_000


def test_fast_forward_lets_time_pass() -> None:
    """What is pending finishes and is charged when time is let pass."""
    sandbox = Sandbox()
    post(sandbox.world, "kling-v2.1")
    sandbox.fast_forward(600)
    assert [charge.tokens for charge in sandbox.charges] == [26]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"plan": "gold"}, "choose one of free, basic, pro, vip, elite"),
        ({"speed": 0}, "give a number above 0"),
        ({"balance": -1}, "0 or more"),
        ({"family": "c"}, 'choose "a"'),
    ],
)
def test_options_that_make_no_sense_say_what_to_do(options: dict[str, Any], says: str) -> None:
    """A wrong option is refused with the right ones named."""
    with pytest.raises(ValueError, match=says):
        Sandbox(**options)


def test_the_key_is_not_in_a_repr() -> None:
    """Printing a sandbox or its world shows no key."""
    sandbox = Sandbox()
    assert sandbox.key not in f"{sandbox!r} {sandbox.world!r}"

"""One generation, told as stories on the sandbox: what a caller sees of good and of bad days."""

from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from neuralbox_async import (
    Abandoned,
    Accepted,
    APITimeoutError,
    AsyncNeuralBox,
    AuthenticationError,
    ClientClosedError,
    Event,
    Generation,
    GenerationFailedError,
    GenerationRequest,
    GenerationTimeoutError,
    InsufficientTokensError,
    NotFoundError,
    OutcomeUnknownError,
    Pacing,
    PermissionDeniedError,
    Rate,
    RateLimitError,
    ResponseError,
    Retrying,
    UsageError,
)
from neuralbox_async.sandbox import Fault, Sandbox, faults, http_client

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("family", ["a", "b"])
async def test_a_text_is_one_request(family: str) -> None:
    """A text model answers in its POST: one request, one charge, in both families of replies."""
    sandbox = Sandbox(family=family)
    async with sandbox.client() as nb:
        answer = await nb.generate("gpt-5", "Explain tides")
    assert answer.text is not None
    assert "Explain tides" in answer.text
    assert (answer.status, answer.tokens_spent, answer.model) == ("completed", 2, "gpt-5")
    assert (sandbox.requests.total, len(sandbox.charges)) == (1, 1)


@pytest.mark.parametrize("family", ["a", "b"])
async def test_a_video_is_waited_for_and_downloaded(family: str, tmp_path: Path) -> None:
    """One POST, some looks, one file that opens, fetched without the key."""
    sandbox = Sandbox(family=family)
    async with sandbox.client() as nb:
        clip = await nb.generate("kling-v2.1", "A flower", {"duration": 5})
        path = await nb.download(clip, tmp_path)
    assert (clip.done, clip.metadata["duration"]) == (True, 5)
    assert path.stem == str(clip.id)
    assert path.suffix in {".mp4", ".gif"}
    assert path.stat().st_size > 100
    assert (sandbox.requests.posts, sandbox.requests.files_with_key, len(sandbox.charges)) == (1, 0, 1)
    assert clip.tokens_spent == sandbox.charges[0].tokens


async def test_a_web_page_is_never_a_result(tmp_path: Path) -> None:
    """A gateway that says with a 200 that it is away is asked until the timeout, and nothing is saved of it."""
    sandbox = Sandbox(plan="elite")
    sandbox.order(faults.html(200), on="GET /generations/{name}", times=None)
    async with sandbox.client() as nb:
        clip = await nb.generate("kling-v2.1", "A flower")
        with pytest.raises(ResponseError, match="a web page came") as caught:
            await nb.download(clip, tmp_path, timeout=60)
    assert (caught.value.billed, list(tmp_path.iterdir())) == ("yes", [])


@pytest.mark.parametrize("family", ["a", "b"])
async def test_polling_yields_each_look(family: str) -> None:
    """All looks but the last are pending, and the last one is final."""
    sandbox = Sandbox(family=family)
    async with sandbox.client(poll_interval=5) as nb:
        clip = await nb.submit("kling-v2.1", "A flower")
        looks = [look async for look in nb.poll(clip)]
    assert [look.done for look in looks] == [False] * (len(looks) - 1) + [True]
    assert {look.id for look in looks} == {clip.id}
    assert len(looks) == sandbox.requests.looks > 2


async def test_failed_generations_are_told_or_raised() -> None:
    """`submit`, `get` and `poll` return a failed generation; `generate`, `wait`, `download` raise it, with its id."""
    sandbox = Sandbox()
    async with sandbox.client() as nb:
        text = await nb.submit("gpt-5", "Something forbidden")
        clip = await nb.submit("kling-v2.1", "Something forbidden")
        *_, last = [look async for look in nb.poll(clip)]
        assert text.failed
        assert last.failed
        assert (await nb.get(clip)).failed
        calls = (
            nb.generate("gpt-5", "Something forbidden"),
            nb.wait(clip),
            nb.wait(last),
            nb.wait(clip.id),
            nb.download(last, "x"),
            nb.download(clip.id, "x"),
        )
        for call in calls:
            with pytest.raises(GenerationFailedError, match="content policy violation") as caught:
                await call
            assert caught.value.generation is not None
            assert caught.value.generation.failed
            assert (caught.value.generation_id, caught.value.billed) == (caught.value.generation.id, "no")
    assert sandbox.charges == []


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (faults.lost(), OutcomeUnknownError),
        (faults.cut_in_body(), OutcomeUnknownError),
        (faults.empty(), OutcomeUnknownError),
        (faults.garbled(), OutcomeUnknownError),
        (faults.hang(), OutcomeUnknownError),
    ],
    ids=["lost", "cut in the body", "empty", "garbled", "hang"],
)
async def test_a_lost_answer_is_charged_once_and_said(fault: Fault, kind: type[OutcomeUnknownError]) -> None:
    """Booked and unheard of: one POST, one charge, and an error with all that is known."""
    sandbox = Sandbox()
    sandbox.order(fault, skip=1)
    async with sandbox.client() as nb:
        earlier = await nb.submit("gpt-5", "Earlier")
        with pytest.raises(kind) as caught:
            await nb.generate("gpt-5", "Hello", timeout=60)
    assert (sandbox.requests.posts, sandbox.booked, len(sandbox.charges)) == (2, 2, 2)
    assert caught.value.request == GenerationRequest("gpt-5", "Hello")
    assert caught.value.after_id == earlier.id


@pytest.mark.parametrize("fault", [faults.refuse(), faults.unreachable(), faults.status(503, "model_unavailable")])
async def test_what_cost_nothing_is_sent_again(fault: Fault) -> None:
    """A refused connection and a model that is down for a moment pass without the caller's notice."""
    sandbox = Sandbox()
    sandbox.order(fault, times=2)
    async with sandbox.client() as nb:
        assert (await nb.generate("gpt-5", "Hello")).done
    assert (sandbox.booked, len(sandbox.charges)) == (1, 1)


@pytest.mark.parametrize(
    ("sandbox", "kind"),
    [
        (Sandbox(balance=0), InsufficientTokensError),
        (Sandbox(plan="pro"), PermissionDeniedError),
    ],
    ids=["no tokens", "no plan"],
)
async def test_a_refusal_has_its_class(sandbox: Sandbox, kind: type[Exception]) -> None:
    """No tokens, no plan: one POST and an error of its own."""
    posts = sandbox.requests.posts
    async with sandbox.client() as nb:
        with pytest.raises(kind):
            await nb.generate("gpt-5", "Hello")
    assert sandbox.requests.posts == posts + 1


async def test_a_wrong_key_and_a_wrong_id_are_said() -> None:
    """401 and 404 name what to check."""
    sandbox = Sandbox()
    wrong = AsyncNeuralBox("nb_wrong_key", base_url=sandbox.base_url, http_client=http_client(sandbox))
    async with sandbox.client() as nb:
        with pytest.raises(AuthenticationError, match="NEURALBOX_API_KEY"):
            await wrong.balance()
        with pytest.raises(NotFoundError, match="get 999"):
            await nb.get(999)
        with pytest.raises(NotFoundError):
            await nb.submit("no-such-model", "Hello")


async def test_the_balance_is_read() -> None:
    """Tokens, plan and the windows after one request."""
    async with Sandbox(balance=283).client() as nb:
        balance = await nb.balance()
        assert (balance.token_balance, balance.plan) == (283, "vip")
        assert balance.plan_expires_at is not None
        assert (nb.rate_limit.limit_hour, nb.rate_limit.remaining_hour) == (100, 99)


@pytest.mark.parametrize(
    "arguments",
    [
        ("", "Hello"),
        ("gpt-5", ""),
        ("gpt-5", None),
        (None, "Hello"),
        ("gpt-5", "Hello", 5),
        ("gpt-5", "Hello", {"x": {1}}),
    ],
)
async def test_a_request_that_cannot_work_is_not_sent(arguments: tuple[Any, ...]) -> None:
    """Usage errors come before any request."""
    sandbox = Sandbox()
    async with sandbox.client() as nb:
        for method in (nb.submit, nb.generate):
            with pytest.raises(UsageError):
                await method(*arguments)
        with pytest.raises(UsageError, match="timeout must be"):
            await nb.submit("gpt-5", "Hello", timeout=0)
        with pytest.raises(UsageError, match="timeout must be"):
            await nb.wait(7, timeout=-1)
        with pytest.raises(UsageError, match="id is an integer or a string"):
            await nb.get(True)
        with pytest.raises(UsageError, match="id is an integer or a string"):
            await nb.wait({"id": 7})  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="takes an OutcomeUnknownError, not APITimeoutError"):
            await nb.reconcile(APITimeoutError("x"))  # type: ignore[arg-type]
    assert sandbox.requests.total == 0


async def test_an_observer_is_a_plain_function() -> None:
    """One that is to be awaited would hear nothing."""

    async def observe(event: Event) -> None: ...

    class Observer:
        async def __call__(self, event: Event) -> None: ...

    async with Sandbox().client() as nb:
        observers: tuple[Any, ...] = (observe, Observer(), "log")
        for observer in observers:
            with pytest.raises(UsageError, match="observe= takes a plain function"):
                AsyncNeuralBox("nb_test_key", observe=observer)
            with pytest.raises(UsageError, match="observe= takes a plain function"):
                nb.with_options(observe=observer)


# --- once it is accepted, no error may say that nothing was spent -----------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        faults.status(500),
        faults.html(502),
        faults.cut(),
        faults.refuse(),
        faults.garbled(),
        faults.rate_limited(10_000),
    ],
    ids=["500", "HTML", "cut", "refused", "garbled", "429"],
)
async def test_looks_that_fail_to_the_end_do_not_hide_what_was_paid(fault: Fault) -> None:
    """Accepted, and then nothing but failures: the error has the id, and does not invite to pay again."""
    sandbox = Sandbox()
    for route in ("GET /generate/{id}", "GET /user/history"):
        sandbox.order(fault, on=route, times=None)
    async with sandbox.client() as nb:
        with pytest.raises(GenerationTimeoutError) as caught:
            await nb.generate("kling-v2.1", "A flower", timeout=300)
    error = caught.value
    assert isinstance(error.generation, Generation)
    assert (error.billed, error.generation_id) == ("unknown", error.generation.id)
    assert list(sandbox.world.jobs) == [str(error.generation.id)]


@pytest.mark.parametrize("status", [401, 403])
async def test_a_look_that_is_refused_does_not_say_that_nothing_was_spent(status: int) -> None:
    """A key that is revoked while a clip is made: the error is raised at once, and knows of the clip."""
    sandbox = Sandbox()
    sandbox.order(faults.status(status), on="GET /generate/{id}")
    async with sandbox.client() as nb:
        with pytest.raises((AuthenticationError, PermissionDeniedError)) as caught:
            await nb.generate("kling-v2.1", "A flower")
    assert caught.value.billed != "no"
    assert caught.value.generation_id is not None
    assert sandbox.requests.looks == 1


@pytest.mark.parametrize(
    "fault",
    [faults.status(500), faults.html(502), faults.cut(), faults.refuse(), faults.garbled(), faults.rate_limited(5)],
    ids=["500", "HTML", "cut", "refused", "garbled", "429"],
)
async def test_a_failed_look_is_not_a_failed_generation(fault: Fault) -> None:
    """The service has a bad minute while a clip is made: nobody notices."""
    sandbox = Sandbox()
    sandbox.order(fault, on="GET /generate/{id}", times=4)
    async with sandbox.client() as nb:
        assert (await nb.generate("kling-v2.1", "A flower")).done
    assert (sandbox.requests.posts, len(sandbox.charges)) == (1, 1)


# --- time -------------------------------------------------------------------------------------------------------------


async def test_one_deadline_holds_over_everything() -> None:
    """Retries, the POST, the looks: 30 s in all, and the error has the pending generation."""
    sandbox = Sandbox()
    sandbox.order(faults.delay(8))
    sandbox.order(faults.unreachable(), times=1)
    began = anyio.current_time()
    async with sandbox.client() as nb:
        with pytest.raises(GenerationTimeoutError) as caught:
            await nb.generate("kling-v2.1", "A flower", timeout=30)
        assert 28.9 <= anyio.current_time() - began <= 30
        assert caught.value.generation is not None
        assert caught.value.generation.status == "pending"
        assert (caught.value.generation_id, caught.value.billed) == (caught.value.generation.id, "unknown")
        assert (await nb.wait(caught.value.generation)).done
    assert len(sandbox.charges) == 1


async def test_a_window_that_closes_is_waited_for() -> None:
    """A 429 whose window opens in time is no error; the caller only waits."""
    sandbox = Sandbox()
    sandbox.order(faults.rate_limited(100))
    began = anyio.current_time()
    async with sandbox.client() as nb:
        assert (await nb.generate("gpt-5", "Hello")).done
    assert 100 < anyio.current_time() - began < 110


async def test_a_window_that_opens_too_late_is_said_at_once() -> None:
    """A 429 beyond the deadline is raised now, with the seconds; nothing was booked."""
    sandbox = Sandbox()
    sandbox.order(faults.rate_limited(847))
    began = anyio.current_time()
    async with sandbox.client() as nb:
        with pytest.raises(RateLimitError) as caught:
            await nb.generate("gpt-5", "Hello", timeout=60)
    assert (caught.value.retry_after, caught.value.billed) == (847, "no")
    assert anyio.current_time() - began < 1
    assert sandbox.booked == 0


async def test_a_used_up_plan_holds_back_submissions_before_they_are_refused() -> None:
    """The headers say that nothing is left: no POST is wasted on a 429, and it goes when the hour is over."""
    sandbox = Sandbox()
    began = anyio.current_time()
    async with sandbox.client(timeout=7200) as nb:
        for _ in range(100):
            await nb.balance()
        assert nb.rate_limit.remaining_hour == 0
        assert (await nb.generate("gpt-5", "Hello")).done
    assert 3600 <= anyio.current_time() - began < 3610
    assert sandbox.requests.answered(429) == 0


# --- views ------------------------------------------------------------------------------------------------------------


async def test_a_view_shares_everything_but_its_options() -> None:
    """Connections, gate, rate, pacing and known jobs are one; closing the view closes nothing."""
    sandbox = Sandbox()
    told: list[Event] = []
    async with sandbox.client(max_connections=1) as nb:
        async with nb.with_options(
            timeout=5, max_retries=0, look_price=2, poll_interval=3, observe=told.append
        ) as view:
            clip = await view.submit("kling-v2.1", "A flower")
            with pytest.raises(GenerationTimeoutError):
                await view.wait(clip)
            sandbox.order(faults.refuse())
            with pytest.raises(Exception, match="no answer"):
                await view.submit("gpt-5", "Hello")
            sandbox.order(faults.rate_limited(50), on="GET /balance")
            with pytest.raises(RateLimitError):
                await view.balance()
        assert [event for event in told if isinstance(event, Accepted)]
        assert not [event for event in told if isinstance(event, Retrying)]
        with pytest.raises(RateLimitError, match="opens in 50 s"):
            await nb.balance(timeout=20)
        assert (await nb.wait(clip)).done
        assert nb.rate_limit == view.rate_limit
    assert "base_url" in repr(view)


async def test_the_gate_is_one_for_all_views() -> None:
    """max_connections holds over a client and its views together."""
    sandbox = Sandbox()
    sandbox.order(faults.delay(10), on="GET /balance", times=None)
    async with sandbox.client(max_connections=1) as nb, anyio.create_task_group() as tasks:
        began = anyio.current_time()
        tasks.start_soon(nb.balance)
        tasks.start_soon(nb.with_options(timeout=100).balance)
        tasks.start_soon(nb.with_options(max_retries=5).balance)
        await anyio.sleep(0.1)
        await nb.balance()
        assert anyio.current_time() - began == pytest.approx(40)


async def test_options_can_be_set_back() -> None:
    """A view of a view may drop the fixed interval again."""
    sandbox = Sandbox()
    async with sandbox.client(poll_interval=1) as nb:
        await nb.with_options(poll_interval=None).generate("kling-v2.1", "A flower")
    assert sandbox.requests.looks < 20


async def test_rate_and_pacing_can_be_shared_between_clients() -> None:
    """What one client hears of the account's window holds for the other, too."""
    sandbox, rate, pacing = Sandbox(), Rate(), Pacing()
    sandbox.order(faults.rate_limited(100), on="GET /balance")
    async with sandbox.client(rate=rate, pacing=pacing) as one, sandbox.client(rate=rate, pacing=pacing) as two:
        with pytest.raises(RateLimitError):
            await one.balance(timeout=10)
        began = anyio.current_time()
        await two.balance()
        assert anyio.current_time() - began == pytest.approx(100, abs=1)
    assert sandbox.requests.answered(429) == 1


async def test_a_hundred_calls_share_a_few_connections() -> None:
    """A hundred calls at once over five connections all succeed, each with its own answer."""
    sandbox = Sandbox(plan="elite")
    texts: dict[int, str | None] = {}

    async def ask(number: int) -> None:
        texts[number] = (await nb.generate("gpt-5-nano", f"Number <{number}>")).text

    async with sandbox.client(max_connections=5) as nb, anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(ask, number)
    assert all(f"<{number}>" in (text or "") for number, text in texts.items())
    assert (len(texts), len(sandbox.charges)) == (100, 100)


async def test_what_is_not_known_everywhere_yet_is_looked_at_again() -> None:
    """A 404 soon after the service accepted a generation is a machine behind the times, not its end."""
    sandbox = Sandbox()
    sandbox.order(faults.status(404, "not_found"), on="GET /generate/{id}", times=2)
    async with sandbox.client() as nb:
        assert (await nb.generate("kling-v2.1", "A flower")).status == "completed"


async def test_what_stays_unknown_is_said_with_its_id() -> None:
    """After a minute a 404 is believed."""
    sandbox = Sandbox()
    sandbox.order(faults.status(404, "not_found"), on="GET /generate/{id}", times=None)
    async with sandbox.client() as nb:
        with pytest.raises(NotFoundError) as caught:
            await nb.generate("kling-v2.1", "A flower")
    assert caught.value.billed == "unknown"
    assert str(caught.value.generation_id) in sandbox.world.jobs


async def test_a_cancelled_generate_tells_of_what_it_leaves() -> None:
    """The caller does not know the id: an Abandoned event has it."""
    events: list[Event] = []
    async with Sandbox().client(observe=events.append) as nb:
        with anyio.move_on_after(10):
            await nb.generate("kling-v2.1", "A flower")
    (abandoned,) = [event for event in events if isinstance(event, Abandoned)]
    assert abandoned.generation is not None
    assert abandoned.generation.status == "pending"


@pytest.mark.parametrize("status", [None, "", 3])
async def test_an_id_alone_is_an_accepted_generation(status: object) -> None:
    """A POST answered with an id and no status that can be read is accepted, and looked at until it is final."""
    body = {"id": 18500, "result_text": "Hello"} | ({} if status is None else {"status": status})
    own = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=body)))
    async with Sandbox().client(http_client=own) as nb:
        accepted = await nb.submit("gpt-5", "Hello")
    assert (accepted.id, accepted.done) == (18500, False)


@pytest.mark.parametrize(
    "options",
    [{"file_hosts": "storage.test"}, {"pacing": 5}, {"rate": 5}, {"observe": 5}, {"http_client": 5}, {"base_url": 5}],
    ids=str,
)
def test_options_of_the_wrong_kind_are_named(options: dict[str, Any]) -> None:
    """Each wrong option is a UsageError that names it."""
    with pytest.raises(UsageError, match=next(iter(options))):
        AsyncNeuralBox("nb_test_key", **options)


async def test_a_view_s_observer_can_be_the_log_again(caplog: pytest.LogCaptureFixture) -> None:
    """observe=None means the log, in a view as in a client."""
    with caplog.at_level("DEBUG", logger="neuralbox_async"):
        async with Sandbox().client(observe=lambda _: None) as nb:
            await nb.with_options(observe=None).balance()
    assert "balance: 200" in caplog.text


async def test_waiting_in_line_while_it_closes_is_said() -> None:
    """A call that waits for a connection while the client is closed gets the same error as one made afterwards."""
    sandbox = Sandbox()
    sandbox.order(faults.delay(5), on="GET /balance")
    nb = sandbox.client(max_connections=1)
    errors = []

    async def ask() -> None:
        try:
            await nb.balance()
        except ClientClosedError as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        tasks.start_soon(ask)
        await anyio.sleep(1)
        await nb.aclose()
    assert len(errors) == 1


async def test_a_client_closed_under_those_who_wait_does_not_call_it_free() -> None:
    """What was accepted goes on at the service: the error has its id, and does not say that nothing was spent."""
    sandbox = Sandbox(plan="elite")
    nb = sandbox.client()
    errors = list[Exception | None]()

    async def fails(work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except ClientClosedError as error:
            errors.append(error)

    async def many() -> None:
        async with nb.generate_many([GenerationRequest("kling-v2.1", "A tree")]) as outcomes:
            errors.extend([each.error async for each in outcomes])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fails, nb.wait(await nb.submit("kling-v2.1", "A house")))
        tasks.start_soon(fails, nb.generate("kling-v2.1", "A flower"))
        tasks.start_soon(many)
        await anyio.sleep(5)
        await nb.aclose()
    closed = [each for each in errors if isinstance(each, ClientClosedError)]
    assert {each.generation_id for each in closed} == {18500, 18501, 18502}
    assert {each.billed for each in closed} == {"unknown"}

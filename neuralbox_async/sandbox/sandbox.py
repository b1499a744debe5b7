"""A Sandbox is a world with a clock put to it, and everything a test or a demo needs within reach."""

from collections.abc import Mapping
from typing import Any

from neuralbox_async import AsyncNeuralBox, Pacing
from neuralbox_async.sandbox.account import Account, Charge
from neuralbox_async.sandbox.calendar import EPOCH, Calendar
from neuralbox_async.sandbox.catalogue import CATALOGUE, Model
from neuralbox_async.sandbox.counts import Requests
from neuralbox_async.sandbox.faults import Fault
from neuralbox_async.sandbox.history import History
from neuralbox_async.sandbox.plans import Plan, find_plan
from neuralbox_async.sandbox.replies import find_family
from neuralbox_async.sandbox.routes import PREFIX
from neuralbox_async.sandbox.transport import http_client
from neuralbox_async.sandbox.validation import Wanted
from neuralbox_async.sandbox.wire import HOST, Answer, Ask, Connection
from neuralbox_async.sandbox.world import KEY, World


class Sandbox:
    """A NeuralBox service of your own: it behaves as documented, costs nothing, and fails when told to.

    - `plan`: "free", "basic", "pro", "vip", "elite", or a `Plan` with limits of your own.
    - `balance`: tokens to begin with.
    - `speed`: how many seconds pass in the service while one passes here. Durations and plan windows shrink by it;
      whatever the service says (retry_after, processing_ms, Reset) is in seconds of here.
    - `key`: the one API key that it accepts.
    - `family`: the documented replies come in two families: "a" (integer ids) as in the quickstart, or "b".
    - `seed`: the same seed gives the same durations.
    - `count_gets`: whether GETs use up the plan's windows.
    - `epoch`: when the world begins, in Unix seconds; its Date headers tell the time from there.
    - `models`: the models it offers, by slug.
    - `history_lag`: seconds of here after which a generation is listed in the history; `math.inf` for never.
    - `history_prompt_length`: how many characters of a prompt the history shows; None for all.

    Raises ValueError for a value that makes no sense.
    """

    base_url = f"https://{HOST}{PREFIX}"

    def __init__(
        self,
        *,
        plan: str | Plan = "vip",
        balance: int = 1_500,
        speed: float = 1.0,
        key: str = KEY,
        family: str = "a",
        seed: int = 0,
        count_gets: bool = True,
        epoch: float = EPOCH,
        models: Mapping[str, Model] = CATALOGUE,
        history_lag: float = 0.0,
        history_prompt_length: int | None = None,
    ) -> None:
        if not speed > 0:
            raise ValueError(f"speed is {speed}: give a number above 0, such as 60 for an hour a minute")
        if balance < 0:
            raise ValueError(f"balance is {balance}: give a number of tokens, 0 or more")
        self.key = key
        self.speed = speed
        self.world = World(
            plan=find_plan(plan),
            account=Account(tokens=balance),
            calendar=Calendar(epoch=epoch, speed=speed),
            key=key,
            family=find_family(family),
            seed=seed,
            count_gets=count_gets,
            models=models,
            history=History(lag=history_lag, prompt_length=history_prompt_length),
        )
        self._began: float | None = None

    def client(self, **options: Any) -> AsyncNeuralBox:
        """Return a client that talks to this sandbox in process, with any of AsyncNeuralBox's options."""
        wired = {
            "base_url": self.base_url,
            "http_client": http_client(self),
            "pacing": self.pacing(),
            "look_price": self.look_price,
        }
        return AsyncNeuralBox(self.key, **{**wired, **options})

    def pacing(self) -> Pacing:
        """Return a pacing that knows this sandbox's durations, for a client that meets it on a port."""
        usual = Pacing()
        return Pacing(self.durations, floor=usual.floor / self.speed, cap=usual.cap / self.speed)

    @property
    def look_price(self) -> float:
        """Return the client's usual price of a look, 0.35 s of the service's time, in seconds of here."""
        return 0.35 / self.speed

    @property
    def durations(self) -> dict[str, tuple[float, float]]:
        """Return each model's documented range of durations, in seconds of here."""
        models = self.world.models.values()
        return {model.slug: (model.seconds[0] / self.speed, model.seconds[1] / self.speed) for model in models}

    @property
    def charges(self) -> list[Charge]:
        """Return every charge made up to now, oldest first."""
        return self.world.account.charges

    @property
    def requests(self) -> Requests:
        """Return the counts of what was asked."""
        return self.world.requests

    @property
    def balance(self) -> int:
        """Return the tokens in the account; those of pending generations are still among them."""
        return self.world.account.tokens

    @property
    def booked(self) -> int:
        """Return how many generations were ever accepted."""
        return len(self.world.jobs)

    def order(self, fault: Fault, on: str = "POST /generate", *, times: int | None = 1, skip: int = 0) -> None:
        """Let a fault (see `sandbox.faults`) strike the next `times` requests of a route, after `skip` of them.

        `on` is a method and a path template ("GET /generate/{id}", "GET /balance", "GET /generations/{name}"), or "*";
        `times=None` is for ever. Of several orders for a route the oldest strikes first. Raises ValueError for an
        unknown route, TypeError for what is no fault.
        """
        self.world.order(fault, on=on, times=times, skip=skip)

    def book(self, model: str, prompt: str, params: Mapping[str, Any] | None = None) -> int | str:
        """Let something else of the same account, such as the Telegram bot, ask for a generation; return its id.

        Raises KeyError for a model that the sandbox does not offer.
        """
        offered, wanted = self.world.models[model], dict(params or {})
        job = self.world.book(Wanted(model=model, prompt=prompt, params=wanted), offered, offered.price(wanted))
        self.world.take_tokens(job)
        return job.id

    def fast_forward(self, seconds: float) -> None:
        """Let so many seconds of here pass at once: generations finish and are charged, plan windows open."""
        if self._began is not None:
            self._began -= seconds
        self.world.settle(self.world.now + seconds)

    def refusal(self, method: str, path: str) -> Connection | None:
        """Say whether the connection fails before this request's body is read. For edges: ask once, before `answer`."""
        return self.world.refusal(method, path)

    def answer(self, ask: Ask, clock: float) -> Answer:
        """Answer a request that was read whole when the event loop's clock showed this. For edges."""
        # A clock that shows less than before belongs to another event loop: the world goes on from where it was.
        if self._began is None or clock - self._began < self.world.now:
            self._began = clock - self.world.now
        return self.world.answer(ask, clock - self._began)

"""The service is a function of what it was asked before, what it is asked now, and the time it is told.

No clock, no I/O, no await: `World.answer(ask, now)` decides everything, the edges (transport, ASGI app) carry it out.
Time is client seconds since the world began. Nothing happens between asks: what fell due is settled at the next one.
"""

import random
from collections.abc import Mapping

from attrs import define, field

from neuralbox_async.sandbox import results
from neuralbox_async.sandbox.account import Account, Job
from neuralbox_async.sandbox.calendar import Calendar
from neuralbox_async.sandbox.catalogue import CATALOGUE, Model
from neuralbox_async.sandbox.counts import UNANSWERED, Requests
from neuralbox_async.sandbox.faults import EVERYTHING, Fault, Order, Orders
from neuralbox_async.sandbox.history import History
from neuralbox_async.sandbox.plans import PLANS, Plan, Windows
from neuralbox_async.sandbox.replies import FAMILIES, Family, View
from neuralbox_async.sandbox.validation import Wanted, read_wanted
from neuralbox_async.sandbox.wire import Answer, Ask, Connection, error_answer, file_answer, json_answer

PREFIX = "/api/v2"

KEY = "nb_sandbox_this_key_opens_nothing_but_a_sandbox_"
"""A key as long as real ones: 48 characters."""

FORBIDDEN = "forbidden"
"""A prompt with this word in it, in any case, fails."""

CONTENT_POLICY = "Provider error: content policy violation"

ROUTES = (
    "POST /generate",
    "GET /generate/{id}",
    "GET /balance",
    "GET /user/history",
    "GET /generations/{name}",
    "GET /thumbnails/{name}",
)
"""What the world answers; also what a fault can be ordered on."""

_PLAIN_PATHS = {f"{PREFIX}{path}": path for path in ("/generate", "/balance", "/user/history")}
_FOLDERS = {
    f"{PREFIX}/generate": "/generate/{id}",
    "/generations": "/generations/{name}",
    "/thumbnails": "/thumbnails/{name}",
}
_UNKNOWN_PATH = "/?"


def find_template(path: str) -> tuple[str, str]:
    """Return a path's template and the id or name in it: "/api/v2/generate/7" is ("/generate/{id}", "7")."""
    if path in _PLAIN_PATHS:
        return _PLAIN_PATHS[path], ""
    folder, _, name = path.rpartition("/")
    return _FOLDERS.get(folder, _UNKNOWN_PATH), name


@define(kw_only=True)
class World:
    """One user's account at the service, with everything ever generated for it.

    `count_gets` says whether GETs use up the plan's windows; the documentation does not.
    """

    plan: Plan = PLANS["vip"]
    account: Account = field(factory=lambda: Account(tokens=1_500))
    calendar: Calendar = field(factory=Calendar)
    key: str = field(default=KEY, repr=False)
    family: Family = FAMILIES["a"]
    seed: int = 0
    count_gets: bool = True
    models: Mapping[str, Model] = field(default=CATALOGUE, repr=False)
    history: History = field(factory=History)

    requests: Requests = field(factory=Requests, init=False)
    windows: Windows = field(init=False)
    jobs: dict[str, Job] = field(factory=dict[str, Job], init=False, repr=False)
    now: float = field(default=0.0, init=False)
    _arrivals: Orders = field(factory=Orders, init=False)
    _orders: Orders = field(factory=Orders, init=False)
    _chance: random.Random = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Open the plan's windows and throw the dice's seed."""
        self.windows = Windows(plan=self.plan, calendar=self.calendar)
        self._chance = random.Random(self.seed)

    def order(self, fault: Fault, *, on: str, times: int | None, skip: int) -> None:
        """Let a fault strike `times` requests (None: all) of the route `on`, after `skip` of them have passed.

        Raises ValueError for a route that does not exist.
        """
        if on not in (EVERYTHING, *ROUTES):
            raise ValueError(f"no request is {on!r}: order it on one of {', '.join(ROUTES)}, or {EVERYTHING!r} for all")
        orders = self._arrivals if fault.before_reading else self._orders
        orders.orders.append(Order(fault=fault, on=on, left=times, skip=skip))

    def refusal(self, method: str, path: str) -> Connection | None:
        """Say whether the connection fails before this request's body is read; ask once each, before `answer`."""
        fault = self._arrivals.take(f"{method} {find_template(path)[0]}")
        if fault is None:
            return None
        self.requests.refused += 1
        return fault.connection

    def settle(self, now: float) -> None:
        """Let the time be `now`: complete and charge what is due. Time never runs backwards."""
        self.now = max(self.now, now)
        self.account.settle(self.now)

    def answer(self, ask: Ask, now: float) -> Answer:
        """Answer a request that was read whole at `now`."""
        self.settle(now)
        template, name = find_template(ask.path)
        fault = self._orders.take(f"{ask.method} {template}") or Fault()
        own = Answer()
        for _ in range(fault.books):
            own = self._carry_out(ask, template, name)
        answer = fault.applied_to(own).with_headers({"Date": self.calendar.http_date(self.now)})
        silent = answer.connection in (Connection.CUT, Connection.HANGS)
        self.requests.note(ask.method, template, UNANSWERED if silent else answer.status)
        return answer

    def _carry_out(self, ask: Ask, template: str, name: str) -> Answer:
        if not ask.path.startswith(PREFIX):
            return self._give_file(ask, template, name)
        if ask.headers.get("authorization") != f"Bearer {self.key}":
            return error_answer(401, "not_authenticated", "Not authenticated: send the sandbox's key as Bearer token")
        answer = self._turn_away(ask) or self._call(ask, template, name)
        return answer.with_headers(self.windows.headers(self.now))

    def _turn_away(self, ask: Ask) -> Answer | None:
        if not self.plan.api_access:
            return error_answer(403, "insufficient_plan", f"Insufficient plan: {self.plan.name} has no API access")
        if ask.method == "GET" and not self.count_gets:
            return None
        return self.windows.admit(self.now)

    def _call(self, ask: Ask, template: str, name: str) -> Answer:
        match f"{ask.method} {template}":
            case "POST /generate":
                return self._generate(ask)
            case "GET /generate/{id}":
                return self._look(ask, name)
            case "GET /balance":
                return json_answer(self.family.balance(self.plan, self.account.tokens, self.calendar))
            case "GET /user/history":
                newest_first = reversed(self.jobs.values())
                return json_answer(self.history.page(newest_first, self._view(ask, self.now), self.family, ask.query))
            case _:
                return _not_found(f"{ask.method} {ask.path}")

    def _generate(self, ask: Ask) -> Answer:
        wanted = read_wanted(ask.body)
        if isinstance(wanted, Answer):
            return wanted
        model = self.models.get(wanted.model)
        if model is None:
            return _not_found(f"Model {wanted.model!r}")
        price = model.price(wanted.params)
        if not self.account.affords(price):
            return error_answer(402, "insufficient_tokens", f"Insufficient tokens: {price} needed")
        return self._start(ask, self.book(wanted, model, price))

    def book(self, wanted: Wanted, model: Model, price: int) -> Job:
        """Accept a job."""
        job = Job(
            id=self.family.identify(len(self.jobs) + 1),
            model=model,
            prompt=wanted.prompt,
            params=wanted.params,
            price=price,
            created=self.now,
            due=self.now + model.draw_seconds(self._chance) / self.calendar.speed,
            error=CONTENT_POLICY if FORBIDDEN in wanted.prompt.lower() else None,
        )
        self.jobs[str(job.id)] = job
        return job

    def _start(self, ask: Ask, job: Job) -> Answer:
        """Answer at once for a slow model; for the others, when the job is done (its charge cannot be escaped)."""
        self.take_tokens(job)
        if job.model.slow:
            return json_answer(self.family.created(job, self._view(ask, self.now)))
        answer = json_answer(self.family.created(job, self._view(ask, job.due)))
        return Fault(delay=job.due - self.now).applied_to(answer)

    def take_tokens(self, job: Job) -> None:
        """Set a slow job's price aside until it is due; charge any other."""
        if job.model.slow:
            self.account.reserve(job)
        else:
            self.account.charge(job)

    def _look(self, ask: Ask, name: str) -> Answer:
        job = self.jobs.get(name)
        if job is None:
            return _not_found(f"Generation {name}")
        return json_answer(self.family.looked_at(job, self._view(ask, self.now)))

    def _view(self, ask: Ask, now: float) -> View:
        return View(now=now, origin=ask.origin, balance=self.account.tokens, calendar=self.calendar)

    def _give_file(self, ask: Ask, template: str, name: str) -> Answer:
        if "authorization" in ask.headers:
            self.requests.files_with_key += 1
        job = self.jobs.get(name.rpartition(".")[0])
        if ask.method != "GET" or job is None or job.status(self.now) != "completed":
            return _not_found(f"File {name}")
        if template == "/generations/{name}" and name == results.file_name(job):
            return file_answer(results.content(job), results.MEDIA[job.model.kind].content_type)
        if template == "/thumbnails/{name}" and job.model.kind == "video":
            return file_answer(results.thumbnail(job), results.PNG.content_type)
        return _not_found(f"File {name}")


def _not_found(what: str) -> Answer:
    return error_answer(404, "not_found", f"{what} not found")

"""The service is a function of what it was asked before, what it is asked now, and the time it is told.

No clock, no I/O, no await: `World.answer(ask, now)` decides everything, the edges (transport, ASGI app) carry it out.
Time is client seconds since the world began. Nothing happens between asks: what fell due is settled at the next one.
"""

import random
from collections.abc import Mapping

from attrs import define, evolve, field

from neuralbox_async.sandbox.account import INSTANT, Account, Job
from neuralbox_async.sandbox.calendar import Calendar
from neuralbox_async.sandbox.catalogue import CATALOGUE, Model
from neuralbox_async.sandbox.counts import UNANSWERED, Requests
from neuralbox_async.sandbox.desk import Desk, Mark
from neuralbox_async.sandbox.faults import EVERYTHING, Fault, Order, Orders
from neuralbox_async.sandbox.history import History
from neuralbox_async.sandbox.plans import PLANS, Plan, Windows
from neuralbox_async.sandbox.replies import FAMILIES, Family, Reply, View
from neuralbox_async.sandbox.routes import FILES, PREFIX, ROUTES, find_template, not_found
from neuralbox_async.sandbox.validation import Wanted
from neuralbox_async.sandbox.wire import Answer, Ask, Connection, error_answer, json_answer

KEY = "nb_sandbox_this_key_opens_nothing_but_a_sandbox_"
"""A key as long as real ones: 48 characters."""

FORBIDDEN = "forbidden"
"""A prompt with this word in it, in any case, fails."""

_UNMARKED = Mark()

CONTENT_POLICY = "Provider error: content policy violation"


@define(kw_only=True)
class World:
    """One user's account at the service, with everything ever generated for it.

    `count_gets` says whether GETs use up the plan's windows; the documentation does not. `listed` is what the history
    shows: all jobs but those deleted from it.
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
    desk: Desk = field(factory=Desk)

    requests: Requests = field(factory=Requests, init=False)
    windows: Windows = field(init=False)
    jobs: dict[str, Job] = field(factory=dict[str, Job], init=False, repr=False)
    listed: dict[str, Job] = field(factory=dict[str, Job], init=False, repr=False)
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

        Raises ValueError for a route that does not exist, TypeError for what is no fault.
        """
        if not isinstance(fault, Fault):
            raise TypeError(f"order what a function of faults returns, such as faults.lost(), not {fault!r}")
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
        fault = self._orders.take(f"{ask.method} {template}")
        told = self._carry_out(ask, template, name) if fault is None else self._struck(fault, ask, template, name)
        answer = told.with_headers({"Date": self.calendar.http_date(self.now)})
        silent = answer.connection in (Connection.CUT, Connection.HANGS)
        self.requests.note(ask.method, template, UNANSWERED if silent else answer.status)
        return answer

    def _struck(self, fault: Fault, ask: Ask, template: str, name: str) -> Answer:
        own = Answer()
        for _ in range(fault.books):
            own = self._carry_out(ask, template, name)
        return fault.applied_to(own)

    def _carry_out(self, ask: Ask, template: str, name: str) -> Answer:
        if template in FILES:
            self.requests.files_with_key += "authorization" in ask.headers
            return self._call(ask, template, name)
        if not ask.path.startswith(PREFIX):
            return not_found(f"{ask.method} {ask.path}")
        if not self._is_known(ask.headers.get("authorization")):
            return error_answer(401, "not_authenticated", "Not authenticated: send the sandbox's key as Bearer token")
        answer = self._turn_away(ask) or self._call(ask, template, name)
        return answer.with_headers(self.windows.headers(self.now))

    def _is_known(self, header: str | None) -> bool:
        return header == f"Bearer {self.key}" or self.desk.opens(header)

    def _turn_away(self, ask: Ask) -> Answer | None:
        if not self.plan.api_access:
            return error_answer(403, "insufficient_plan", f"Insufficient plan: {self.plan.name} has no API access")
        if ask.method == "GET" and not self.count_gets:
            return None
        return self.windows.admit(self.now)

    def _call(self, ask: Ask, template: str, name: str) -> Answer:
        route = ROUTES.get(f"{ask.method} {template}")
        return not_found(f"{ask.method} {ask.path}") if route is None else route(self, ask, name)

    # --- what routes ask of the world --------------------------------------------------------------------------------

    def generate(self, wanted: Wanted, ask: Ask) -> Answer:
        """Book a generation, or say why not; answer at once for a slow model, for the others when it is done."""
        job = self.accept(wanted)
        if isinstance(job, Answer):
            return job
        if job.model.slow:
            return json_answer(self.family.created(job, self.view(ask, self.now)))
        answer = json_answer(self.family.created(job, self.view(ask, job.due)))
        return evolve(answer, delay=job.due - self.now + INSTANT)

    def accept(self, wanted: Wanted) -> Job | Answer:
        """Book what is wanted and take its tokens (its charge cannot be escaped), or say why not."""
        model = self.models.get(wanted.model)
        if model is None:
            return not_found(f"Model {wanted.model!r}")
        price = model.price(wanted.params)
        if not self.account.affords(price):
            return error_answer(402, "insufficient_tokens", f"Insufficient tokens: {price} needed")
        job = self.book(wanted, model, price)
        self.take_tokens(job)
        return job

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
        self.jobs[str(job.id)] = self.listed[str(job.id)] = job
        return job

    def take_tokens(self, job: Job) -> None:
        """Set a slow job's price aside until it is due; charge any other."""
        if job.model.slow:
            self.account.reserve(job)
        else:
            self.account.charge(job)

    def told(self, job: Job, ask: Ask) -> Reply:
        """Return what a look at a job says."""
        return self.family.looked_at(job, self.view(ask, self.now))

    def history_page(self, ask: Ask) -> str:
        """Return a page of the history as JSON, newest first, without what was deleted."""
        return self.history.page(reversed(self.listed.values()), self.view(ask, self.now), self.family, ask.query)

    def mark(self, name: str) -> Mark | None:
        """Return what the owner did to a generation, to be changed; None if there is none of this id."""
        if name not in self.listed:
            return None
        return self.desk.marks.setdefault(name, Mark())

    def view(self, ask: Ask, now: float) -> View:
        """Return what a reply needs besides the job."""
        return View(
            now=now,
            origin=ask.origin,
            balance=self.account.tokens,
            calendar=self.calendar,
            mark=lambda job: self.desk.marks.get(str(job.id), _UNMARKED),
        )

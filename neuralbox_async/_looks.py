"""Following a generation: look when the pacing says so, learn from what is seen, until it is final.

The age of a job counts from when this client saw it accepted, however long afterwards somebody begins to wait for it.
All who wait for one generation share its looks: whoever's look falls due first makes it, the others hear of it. Nobody
looks in the background, so a waiter that is cancelled or fails leaves the next look to the others.
"""

from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import nullcontext
from typing import Any, Final
from weakref import WeakValueDictionary

import anyio
from attrs import define, evolve, field, frozen

from neuralbox_async._core import api
from neuralbox_async._core.errors import APIError, GenerationTimeoutError, NotFoundError
from neuralbox_async._core.models import Generation, GenerationRequest, Id
from neuralbox_async._core.pacing import Pacing, hinted_seconds
from neuralbox_async._edge import clock
from neuralbox_async._edge.http import Http

# Submissions that nobody ever waits for must not fill the memory; the oldest are forgotten first.
MOST_REMEMBERED: Final = 200_000
LAST_LOOK_SECONDS: Final = 1.0
# How long a generation that was accepted may be unknown to a look.
UNSEEN_SECONDS: Final = 60.0
# A sleep too short to move the clock would be slept again for ever.
SHORTEST_SLEEP: Final = 0.001


@frozen(kw_only=True)
class Job:
    """What the pacing needs to know of a pending generation; `accepted_at` is loop time, `hint` the POST's reply's."""

    model: str
    params: Mapping[str, Any] | None
    accepted_at: float
    hint: float | None = None


@define
class Jobs:
    """The pending generations this client saw accepted, by id; shared by all views of a client."""

    _jobs: dict[Id, Job] = field(factory=dict, init=False)

    def remember(self, request: GenerationRequest, generation: Generation) -> None:
        """Take in an accepted generation; final ones need no waiting."""
        if generation.done:
            return
        if len(self._jobs) >= MOST_REMEMBERED:
            del self._jobs[next(iter(self._jobs))]
        hint = hinted_seconds(generation, age=0)
        job = Job(model=request.model, params=request.params, accepted_at=clock.now(), hint=hint)
        self._jobs[generation.id] = job

    def get(self, generation_id: Id) -> Job | None:
        """Return what is known of a generation this client saw accepted and not yet final; None of any other."""
        return self._jobs.get(generation_id)

    def forget(self, generation: Generation) -> None:
        """Drop a generation that is final."""
        self._jobs.pop(generation.id, None)

    def of(self, generation: Generation) -> Job:
        """Return what is known of a generation; of one accepted elsewhere, what its reply says."""
        known = self.get(generation.id)
        if known is not None:
            return known
        age = 0.0 if generation.created_at is None else max(0.0, clock.wall() - generation.created_at.timestamp())
        return Job(model=generation.model or "", params=generation.metadata, accepted_at=clock.now() - age)


@define(weakref_slot=True, eq=False)
class Watch:
    """What all who wait for one generation share.

    Attributes:
        generation_id: Its id.
        job: What the pacing needs to know of it; None before the first look at one accepted elsewhere.
        latest: The last that is known of it; None before the first look at one accepted elsewhere.
        last: Its age in seconds at the last look.
        hint: In how many seconds it ends, as that look said; None if it did not say.
        hints: At which age it was said to end in how many seconds.
        looks: How many looks were made.
        looking: Whether one is being made.
        changed: Set when a look has ended, and replaced by a new one.
    """

    generation_id: Id
    job: Job | None = None
    latest: Generation | None = None
    last: float = 0.0
    hint: float | None = None
    hints: list[tuple[float, float]] = field(factory=list)
    looks: int = 0
    looking: bool = False
    changed: anyio.Event = field(factory=anyio.Event)

    def take_hint(self, hint: float | None) -> None:
        """Take in what the last look said of the end."""
        self.hint = hint
        if hint is not None:
            self.hints.append((self.last, hint))

    def wake(self) -> None:
        """Let all waiters think again."""
        changed, self.changed = self.changed, anyio.Event()
        changed.set()


@frozen(kw_only=True)
class Looks:
    """Looks at generations.

    Attributes:
        http: Sends the looks.
        pacing: Says when, and learns; shared by all views of a client.
        jobs: What is known of pending generations; shared by all views of a client.
        watches: The generations that somebody waits for; shared by all views of a client.
        look_price: Seconds of waiting that one request is worth.
        poll_interval: A fixed number of seconds between looks instead; None to let the pacing decide.
    """

    http: Http
    pacing: Pacing
    jobs: Jobs
    watches: WeakValueDictionary[Id, Watch] = field(factory=WeakValueDictionary)
    look_price: float
    poll_interval: float | None

    def look(self, generation_id: Id, *, deadline: float) -> Awaitable[Generation]:
        """Look once."""
        return self.http.send(api.generation(generation_id), deadline=deadline)

    async def _look_again(self, watch: Watch, deadline: float) -> Generation:
        try:
            return await self.look(watch.generation_id, deadline=deadline)
        except NotFoundError:
            # A service of several machines may not know everywhere yet what it has just accepted from us.
            known = self.jobs.get(watch.generation_id)
            if watch.latest is None or known is None or clock.now() - known.accepted_at > UNSEEN_SECONDS:
                raise
            return watch.latest

    def watch(self, subject: Generation | Id) -> Watch:
        """Return what the waiters for a generation share."""
        generation_id = subject.id if isinstance(subject, Generation) else subject
        watch = self.watches.get(generation_id)
        if watch is None:
            watch = self.watches[generation_id] = Watch(generation_id)
        if watch.job is None and isinstance(subject, Generation):
            watch.job, watch.latest = self.jobs.of(subject), subject
            watch.take_hint(watch.job.hint)
        return watch

    def seconds_until_look(self, watch: Watch) -> float:
        """Answer in how many seconds to look again; at once at what nothing is known of."""
        job, now, last = watch.job, clock.now(), watch.last
        if job is None:
            return 0.0
        age = now - job.accepted_at
        if self.poll_interval is not None:
            return max(0.0, last + self.poll_interval - age)
        return self.pacing.seconds_until_look(
            job.model, job.params, age=age, last=last, look_price=self.look_price, hint=watch.hint, now=now
        )

    async def look_for_all(self, watch: Watch, *, deadline: float) -> None:
        """Make the next look of a watch and let all its waiters hear of it, or of its failure to come about."""
        watch.looking = True
        try:
            latest = await self._look_again(watch, deadline)
        finally:
            watch.looking = False
            watch.wake()
        job = watch.job or self.jobs.of(latest)
        age = clock.now() - job.accepted_at
        if latest.done:
            self.jobs.forget(latest)
        if latest.done and watch.job is not None:
            self._learn(watch, job, latest, age)
        watch.job, watch.latest, watch.last, watch.looks = job, latest, age, watch.looks + 1
        watch.take_hint(hinted_seconds(latest, age=age))

    def _learn(self, watch: Watch, job: Job, final: Generation, age: float) -> None:
        taken_ms, now = _taken_ms(final), clock.now()
        if final.failed and taken_ms is None:
            self.pacing.learn_failure(job.model, job.params, last=watch.last, age=age, now=now)
            return
        hints = () if final.failed else watch.hints
        self.pacing.learn(job.model, job.params, last=watch.last, age=age, processing_ms=taken_ms, hints=hints, now=now)


class Following:
    """The looks at one generation until it is final, as an async iterator that may be left at any time.

    A pending Generation gives its next look first, an id gives a look at once, a final Generation gives itself. Raises
    GenerationTimeoutError if the generation is not final before the deadline (loop time).
    """

    def __init__(self, looks: Looks, subject: Generation | Id, *, deadline: float) -> None:
        self._looks = looks
        self._subject = subject
        self._deadline = deadline
        # The look before the deadline, if the pacing wanted a later one: it leaves time for one answer.
        self._last_chance = deadline - min(LAST_LOOK_SECONDS, (deadline - clock.now()) / 2)
        self._watch: Watch | None = None
        self._heard = 0
        self._over = False

    def __aiter__(self) -> AsyncIterator[Generation]:
        return self

    async def __anext__(self) -> Generation:
        if self._over:
            raise StopAsyncIteration
        if isinstance(self._subject, Generation) and self._subject.done:
            latest = self._subject
        else:
            latest = await self._next_look()
        self._over = latest.done
        return latest

    async def _next_look(self) -> Generation:
        """Wait until somebody has looked once more, if need be oneself."""
        if self._watch is None:
            self._watch = self._looks.watch(self._subject)
            self._heard = self._watch.looks
        watch, job = self._watch, self._watch.job
        with nullcontext() if job is None else self._looks.pacing.waiting(job.model, job.params):
            latest = await self._until_looked(watch)
        self._heard = watch.looks
        return latest

    async def _until_looked(self, watch: Watch) -> Generation:
        while watch.latest is None or watch.looks == self._heard:
            seconds = self._seconds_until_look(watch)
            if watch.looking:
                seconds = self._deadline - clock.now()
            if seconds > SHORTEST_SLEEP:
                with anyio.move_on_after(seconds):
                    await watch.changed.wait()
            else:
                await self._look(watch)
        return watch.latest

    async def _look(self, watch: Watch) -> None:
        try:
            return await self._looks.look_for_all(watch, deadline=self._deadline)
        except APIError as error:
            failure = error
        if watch.latest is None:
            raise failure
        # The generation is accepted: whatever goes wrong now, tokens may be spent.
        if failure.retryable:
            raise _not_finished(watch.latest, failure)
        raise evolve(failure, billed="unknown")

    def _seconds_until_look(self, watch: Watch) -> float:
        now, seconds = clock.now(), self._looks.seconds_until_look(watch)
        if now + seconds < self._deadline:
            return seconds
        if watch.job is not None and watch.latest is not None:
            looked_at = watch.job.accepted_at + watch.last
            if looked_at >= self._last_chance - SHORTEST_SLEEP:
                raise _not_finished(watch.latest)
        return max(0.0, self._last_chance - now)


def _taken_ms(final: Generation) -> float | None:
    if final.processing_ms is not None or final.completed_at is None or final.created_at is None:
        return final.processing_ms
    return (final.completed_at - final.created_at).total_seconds() * 1000


def _not_finished(latest: Generation, failure: APIError | None = None) -> GenerationTimeoutError:
    reason = "" if failure is None else f" The last look failed ({failure})."
    return GenerationTimeoutError(
        f"Generation {latest.id} is {latest.status} and did not finish within the timeout; it goes on, and costs "
        f"tokens when it completes. Wait for its id again, with a longer timeout.{reason}",
        billed="unknown",
        retryable=True,
        retry_after=None if failure is None else failure.retry_after,
        generation_id=latest.id,
        generation=latest,
    )

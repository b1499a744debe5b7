"""Following a generation: look when the pacing says so, learn from what is seen, until it is final.

The age of a job counts from when this client saw it accepted, however long afterwards somebody begins to wait for it.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from attrs import define, evolve, field, frozen

from neuralbox_async._core import api
from neuralbox_async._core.api import Id
from neuralbox_async._core.errors import APIError, GenerationTimeoutError
from neuralbox_async._core.events import Looked
from neuralbox_async._core.models import Generation, GenerationRequest
from neuralbox_async._core.pacing import Pacing
from neuralbox_async._edge import clock
from neuralbox_async._edge.http import Http

# Submissions that nobody ever waits for must not fill the memory; the oldest are forgotten first.
MOST_REMEMBERED: Final = 200_000
LAST_LOOK_SECONDS: Final = 1.0


@frozen(kw_only=True)
class Job:
    """What the pacing needs to know of a pending generation; `accepted_at` is loop time."""

    model: str
    params: Mapping[str, Any] | None
    accepted_at: float


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
        self._jobs[generation.id] = Job(model=request.model, params=request.params, accepted_at=clock.now())

    def forget(self, generation: Generation) -> None:
        """Drop a generation that is final."""
        self._jobs.pop(generation.id, None)

    def of(self, generation: Generation) -> Job:
        """Return what is known of a generation; of one accepted elsewhere, what its reply says."""
        known = self._jobs.get(generation.id)
        if known is not None:
            return known
        age = 0.0 if generation.created_at is None else max(0.0, clock.wall() - generation.created_at.timestamp())
        return Job(model=generation.model or "", params=generation.metadata, accepted_at=clock.now() - age)


@frozen(kw_only=True)
class Looks:
    """Looks at generations.

    Attributes:
        http: Sends the looks.
        pacing: Says when, and learns.
        jobs: What is known of pending generations.
        look_price: Seconds of waiting that one request is worth.
        poll_interval: A fixed number of seconds between looks instead; None to let the pacing decide.
    """

    http: Http
    pacing: Pacing
    jobs: Jobs
    look_price: float
    poll_interval: float | None

    async def look(self, generation_id: Id, *, deadline: float) -> Generation:
        """Look once."""
        generation = await self.http.send(api.generation(generation_id), deadline=deadline)
        self.http.tell(Looked(generation=generation))
        return generation

    def seconds_until_look(self, job: Job, last: float, *, age: float) -> float:
        """Answer in how many seconds to look at a job of this age (seconds) that was last looked at at age `last`."""
        if self.poll_interval is not None:
            return max(0.0, last + self.poll_interval - age)
        now, price = clock.now(), self.look_price
        return self.pacing.seconds_until_look(job.model, job.params, age=age, last=last, look_price=price, now=now)


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
        self._job: Job | None = None
        self._last = 0.0
        self._over = False

    def __aiter__(self) -> AsyncIterator[Generation]:
        return self

    async def __anext__(self) -> Generation:
        if self._over:
            raise StopAsyncIteration
        latest = await self._next(self._subject)
        self._subject, self._over = latest, latest.done
        if latest.done:
            self._looks.jobs.forget(latest)
        return latest

    async def _next(self, subject: Generation | Id) -> Generation:
        if not isinstance(subject, Generation):
            latest = await self._looks.look(subject, deadline=self._deadline)
            self._job = self._looks.jobs.of(latest)
            self._last = clock.now() - self._job.accepted_at
            return latest
        if subject.done:
            return subject
        if self._job is None:
            self._job = self._looks.jobs.of(subject)
        return await self._look_in_time(subject, self._job)

    async def _look_in_time(self, subject: Generation, job: Job) -> Generation:
        await clock.sleep(self._seconds_until_look(subject, job))
        latest = await self._look(subject)
        now = clock.now()
        age = now - job.accepted_at
        if latest.done:
            learn = self._looks.pacing.learn
            learn(job.model, job.params, last=self._last, age=age, processing_ms=_taken_ms(latest), now=now)
        self._last = age
        return latest

    async def _look(self, subject: Generation) -> Generation:
        """Look once more. The generation is accepted: whatever goes wrong now, tokens may be spent."""
        try:
            return await self._looks.look(subject.id, deadline=self._deadline)
        except APIError as error:
            failure = error
        if failure.retryable:
            raise _not_finished(subject, failure)
        raise evolve(failure, billed="unknown")

    def _seconds_until_look(self, subject: Generation, job: Job) -> float:
        now = clock.now()
        seconds = self._looks.seconds_until_look(job, self._last, age=now - job.accepted_at)
        if now + seconds < self._deadline:
            return seconds
        if now >= self._last_chance:
            raise _not_finished(subject)
        return self._last_chance - now


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

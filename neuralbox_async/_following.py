"""One waiter follows one generation until it is final, or until no answer can come before the waiter's deadline.

It makes the looks that fall to it, sleeps while they are another's, and has a last one just before its deadline. What
fails is not its end as long as something else may tell.
"""

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final

import anyio
from attrs import evolve

from neuralbox_async._core import api
from neuralbox_async._core.errors import APIError, GenerationTimeoutError
from neuralbox_async._core.models import Generation, Id
from neuralbox_async._edge import clock
from neuralbox_async._edge.once import timed_out
from neuralbox_async._looks import SHORTEST_SLEEP, Looks
from neuralbox_async._watches import Watch

LAST_LOOK_SECONDS: Final = 1.0


class Following:
    """The looks at one generation until it is final, as an async iterator that may be left at any time.

    A pending Generation gives its next look first, an id gives a look at once, a final Generation gives itself. Raises
    GenerationTimeoutError if the generation is not final before the deadline (loop time).
    """

    # Each of many waiters holds one.
    __slots__ = ("_deadline", "_heard", "_last_chance", "_looks", "_model", "_over", "_watch")

    def __init__(self, looks: Looks, subject: Generation | Id, *, deadline: float) -> None:
        self._looks = looks
        self._deadline = deadline
        # The look before the deadline, if the pacing wanted a later one: it leaves time for one answer.
        self._last_chance = deadline - min(LAST_LOOK_SECONDS, (deadline - clock.now()) / 2)
        if isinstance(subject, Generation) and subject.done:
            self._watch = Watch(subject.id, latest=subject)
        else:
            self._watch = looks.watch(subject)
        self._heard = self._watch.looks
        self._over = False
        self._model: AbstractContextManager[object] = nullcontext()

    def __enter__(self) -> None:
        """Count one more waiter; where nobody waits, nobody looks."""
        watch, job = self._watch, self._watch.job
        self._looks.http.rate.pending += not watch.waiters
        watch.waiters += 1
        watch.look_price = min(watch.look_price, self._looks.look_price)
        if job is not None:
            self._model = self._looks.pacing.waiting(job.model, job.params)
        self._model.__enter__()

    def __exit__(self, *_: object) -> None:
        self._model.__exit__(None, None, None)
        self._watch.waiters -= 1
        if not self._watch.waiters:
            self._watch.look_price = math.inf
            self._looks.http.rate.pending -= 1
            self._looks.pages.leave(self._watch)

    def __aiter__(self) -> AsyncIterator[Generation]:
        return self

    async def __anext__(self) -> Generation:
        if self._over:
            raise StopAsyncIteration
        self._watch.followers += 1
        try:
            latest = await self.until(self._has_news)
        finally:
            self._watch.followers -= 1
        self._heard, self._over = self._watch.looks, latest.done
        return latest

    def _has_news(self, watch: Watch) -> bool:
        return watch.looks > self._heard or watch.is_final()

    async def until(self, suffices: Callable[[Watch], bool]) -> Generation:
        """Wait until what is known of the generation suffices, and return it; all of it in one frame."""
        watch = self._watch
        if watch.latest is not None and suffices(watch):
            return watch.latest
        with self:
            while watch.latest is None or not suffices(watch):
                if self._is_over(watch):
                    self._give_up(watch, watch.trouble.failure if watch.trouble else self._timed_out())
                    continue
                seconds, group = self._next_look(watch)
                if seconds > SHORTEST_SLEEP:
                    with anyio.CancelScope() as asleep:
                        watch.falls_asleep(asleep)
                        try:
                            await clock.sleep(seconds)
                        finally:
                            watch.awakes(asleep)
                elif group:
                    await self._looks.look_together(watch, group, deadline=self._deadline)
                else:
                    await self._look(watch)
        return watch.latest

    def _next_look(self, watch: Watch) -> tuple[float, Sequence[Watch]]:
        """Answer in how many seconds to look, or to think again, and at whom by one page; nobody: at it alone."""
        own, now = self._seconds_until_look(watch), clock.now()
        if watch.looking:
            return self._deadline - now, ()
        seconds, group = self._looks.next_look(watch, own)
        if now < self._last_chance:
            return min(seconds, self._last_chance - now), group
        # A page may not tell, and there is time for one answer only.
        return min(seconds, own), () if watch.trouble is None else group

    async def _look(self, watch: Watch) -> None:
        tries_until = self._last_chance if clock.now() < self._last_chance else self._deadline
        try:
            await self._looks.look_for_all(watch, tries_until=tries_until, deadline=self._deadline)
        except APIError as error:
            failure = error
        else:
            return
        if not failure.retryable or clock.now() >= self._last_chance or self._is_closed(watch):
            self._give_up(watch, failure)

    def _is_over(self, watch: Watch) -> bool:
        """Say whether nothing can tell more before the deadline, neither another's look nor what is left to ask."""
        if watch.looking:
            return clock.now() >= self._deadline - SHORTEST_SLEEP
        return watch.trouble is not None and self._is_closed(watch)

    def _is_closed(self, watch: Watch) -> bool:
        """Say whether nothing may be asked any more before the deadline."""
        return clock.now() + self._looks.seconds_forbidden(watch) >= self._deadline

    def _timed_out(self) -> APIError:
        return timed_out(api.generation(self._watch.generation_id))

    def _give_up(self, watch: Watch, failure: APIError) -> None:
        """Settle for the history's entry of a final one, or raise."""
        if self._looks.settle(watch):
            return
        if watch.latest is None:
            raise failure
        # The generation is accepted: whatever goes wrong now, tokens may be spent.
        if failure.retryable:
            raise _not_finished(watch.latest, failure)
        raise evolve(failure, billed="unknown")

    def _seconds_until_look(self, watch: Watch) -> float:
        """Answer in how many seconds a look is due, the same for all its waiters until this one's last chance.

        Were it another for each, they would take turns in moving the watch in its line, and wake each other for ever.
        """
        now, seconds = clock.now(), self._looks.seconds_until_look(watch)
        if now + seconds < self._deadline:
            return seconds
        if watch.job is not None and watch.latest is not None:
            looked_at = watch.job.accepted_at + watch.last
            if looked_at >= self._last_chance - SHORTEST_SLEEP:
                raise _not_finished(watch.latest, None if watch.trouble is None else watch.trouble.failure)
        if now < self._last_chance:
            return seconds
        return 0.0 if watch.trouble is None else self._looks.seconds_forbidden(watch)


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

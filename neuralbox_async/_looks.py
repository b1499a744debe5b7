"""Looks at generations: when the pacing says so, by a page of the history where looks fail, and learned from.

All who wait for one generation share its looks, and one page of the history looks at up to a hundred: whoever's look
falls due first makes it, the others hear of it. Nobody looks in the background, so a waiter that is cancelled or fails
leaves the next look to the others.
"""

import math
from collections.abc import Awaitable, Collection, Iterable, Sequence
from typing import Final
from weakref import WeakValueDictionary

from attrs import Factory, field, frozen

from neuralbox_async._core import api
from neuralbox_async._core.errors import APIError, APITimeoutError, NotFoundError
from neuralbox_async._core.idle import DEAR
from neuralbox_async._core.models import Generation, HistoryPage, Id, identity, lacks_result
from neuralbox_async._core.pacing import Pacing, hinted_seconds
from neuralbox_async._core.trouble import longest_rest, patience
from neuralbox_async._edge import clock
from neuralbox_async._edge.http import READ_TIMEOUT, Http
from neuralbox_async._pages import Pages
from neuralbox_async._watches import Job, Jobs, Watch

# How long a generation that was accepted may be unknown to a look.
UNSEEN_SECONDS: Final = 60.0
# How long a page of the history may take before everybody looks by themselves.
PAGE_SECONDS: Final = 10.0
# A sleep too short to move the clock would be slept again for ever.
SHORTEST_SLEEP: Final = 0.001


@frozen(kw_only=True, eq=False, repr=False)
class Looks:
    """Looks at generations.

    Attributes:
        http: Sends the looks.
        pacing: Says when, and learns; shared by all views of a client.
        jobs: What is known of pending generations; shared by all views of a client.
        watches: The generations that somebody waits for, by `identity`; shared by all views of a client.
        pages: The history's pages as looks; shared by all views of a client.
        look_price: Seconds of waiting that one request is worth.
        poll_interval: A fixed number of seconds between looks instead; None to let the pacing decide.
    """

    http: Http
    pacing: Pacing
    jobs: Jobs
    watches: WeakValueDictionary[Id, Watch] = field(factory=WeakValueDictionary)
    pages: Pages = field(default=Factory(lambda self: Pages(self.jobs, self.pacing), takes_self=True))
    look_price: float
    poll_interval: float | None

    def look(self, generation_id: Id, *, deadline: float) -> Awaitable[Generation]:
        """Look once."""
        return self.http.send(api.generation(generation_id), deadline=deadline)

    async def _look_again(self, watch: Watch, *, tries_until: float, deadline: float) -> Generation | None:
        """Make the next look; None if the service does not know yet of what it has just accepted.

        Where no look comes about soon, the history's entry of a final one has to do, if it has the result.
        """
        began = clock.now()
        if watch.listed is not None and not lacks_result(watch.listed):
            deadline = min(deadline, began + READ_TIMEOUT)
        tries_until = min(tries_until, began + patience(self.price_of(watch)) if watch.trouble is None else began)
        call = api.generation(watch.generation_id)
        try:
            latest = await self.http.send(call, deadline=deadline, tries_until=tries_until)
        except NotFoundError:
            # A service of several machines may not know everywhere yet what it has just accepted from us.
            known, now = self.jobs.get(watch.generation_id), clock.now()
            if watch.latest is None or known is None or now - known.accepted_at > UNSEEN_SECONDS:
                raise
            watch.listed = None
            watch.pass_time(now - known.accepted_at)
            latest = None
        except APIError as error:
            if watch.listed is not None and not lacks_result(watch.listed):
                return watch.listed
            now = clock.now()
            closed = self.http.rate.seconds_until_open(paid=False, now=now)
            # A waiter's own deadline says nothing of the service, nor does a window that opens too late for him.
            if error.retryable and not isinstance(error, APITimeoutError) and now + closed < deadline:
                watch.take_failure(error, began=began, now=now)
            raise
        watch.trouble = None
        return latest

    def watch(self, subject: Generation | Id) -> Watch:
        """Return what the waiters for a generation share."""
        generation_id = subject.id if isinstance(subject, Generation) else api.checked_id(subject)
        key = identity(generation_id)
        watch = self.watches.get(key)
        if watch is None:
            watch = self.watches[key] = Watch(generation_id)
        if watch.job is None and isinstance(subject, Generation):
            watch.job, watch.latest = self.jobs.of(subject), subject
            watch.take_hint(watch.job.hint, age=0.0)
        return watch

    def seconds_until_look(self, watch: Watch) -> float:
        """Answer in how many seconds a watch's own look is due; at once at what nothing is known of.

        Where looks fail, it is due when the next one may be made, or a page that stands in for it.
        """
        job, now, trouble = watch.job, clock.now(), watch.trouble
        if job is None or watch.listed is not None:
            seconds = 0.0
        elif self.poll_interval is None:
            seconds = self._paced(watch, job, price=self.price_of(watch), now=now)
        else:
            seconds = watch.last + self.poll_interval - (now - job.accepted_at)
        if trouble is not None:
            seconds = max(seconds, min(trouble.rests_until(self.price_of(watch)), self._page_at(watch)) - now)
        return max(self.http.rate.seconds_until_open(paid=False, now=now), seconds)

    def _page_at(self, watch: Watch) -> float:
        """Answer when a page may stand in for looks that fail (loop time); infinite if none would tell more."""
        if watch.unlisted or watch.listed is not None:
            return math.inf
        return self.pages.rests_until(most=longest_rest(self.price_of(watch)))

    def seconds_forbidden(self, watch: Watch) -> float:
        """Answer in how many seconds anything may be asked about a watch, by a look or a page."""
        now, trouble = clock.now(), watch.trouble
        closed = self.http.rate.seconds_until_open(paid=False, now=now)
        return closed if trouble is None else max(closed, min(trouble.forbidden_until, self._page_at(watch)) - now)

    def settle(self, watch: Watch) -> bool:
        """Take the history's entry of a final one for the result, whatever it lacks; say whether there is one."""
        if watch.listed is not None:
            self._take(watch, watch.listed, clock.now())
        return watch.is_final()

    def _paced(self, watch: Watch, job: Job, *, price: float, now: float) -> float:
        age = now - job.accepted_at
        return self.pacing.seconds_until_look(
            job.model, job.params, age=age, last=watch.last, look_price=price, hint=watch.hint, now=now
        )

    def price(self) -> float:
        """Return what a look costs now, in seconds of waiting: the more, the scarcer requests are."""
        return self.http.rate.look_price(self.look_price, now=clock.now())

    def price_of(self, watch: Watch) -> float:
        """Return what a look at a watch costs: the least that one of its waiters says, so that all think alike."""
        return self.http.rate.look_price(watch.look_price, now=clock.now())

    def next_look(self, watch: Watch, own: float) -> tuple[float, Sequence[Watch]]:
        """Answer in how many seconds this watch's waiter is to look, and at whom by one page; nobody: at it alone.

        Infinite if others are due sooner: it is woken when its turn has come. `own` is in how many seconds the watch's
        own look is due. With a fixed interval everybody looks by themselves. A page for one alone is in place of a look
        that fails.
        """
        now = clock.now()
        own = own if own > SHORTEST_SLEEP else 0.0
        if self.poll_interval is None:
            seconds, group = self.pages.next_look(watch, self.price_of(watch), own=own, now=now)
        else:
            seconds, group = own, ()
        if not seconds and not group and self._is_replaced(watch, now):
            group = self.pages.together(watch) if self.pages.has(watch) else self._together_outside(watch)
        if self.poll_interval is not None:
            return seconds, group
        return max(seconds, self.http.rate.seconds_until_open(paid=False, now=now)), group

    def _is_replaced(self, watch: Watch, now: float) -> bool:
        """Say whether a page is read in place of a look that fails; where both fail, they take turns."""
        trouble = watch.trouble
        if trouble is None or self._page_at(watch) - now > SHORTEST_SLEEP:
            return False
        return now < trouble.rests_until(self.price_of(watch)) or not self.pages.has_failed_since(trouble.failed_at)

    def _together_outside(self, watch: Watch) -> Sequence[Watch]:
        others = (each for each in self.watches.values() if each.trouble is not None and not each.looking)
        return self.pages.together_outside(watch, (each for each in others if each.waiters and each.listed is None))

    async def look_for_all(self, watch: Watch, *, tries_until: float, deadline: float) -> None:
        """Make the next look of a watch and let all its waiters hear of it, or of its failure to come about.

        One that fails is not repeated from `tries_until` on (loop time).
        """
        watch.looking = True
        self.pages.begin_alone(watch, now=clock.now())
        try:
            latest = await self._look_again(watch, tries_until=tries_until, deadline=deadline)
        finally:
            watch.looking = False
            watch.wake()
        if latest is not None:
            self._take(watch, latest, clock.now())

    async def look_together(self, watch: Watch, soonest: Sequence[Watch], *, deadline: float) -> None:
        """Let one page of the history answer a group; where it does not, they look by themselves."""
        in_line = self.pages.has(watch)
        page, group = self.pages.begin(watch, soonest)
        for each in group:
            each.looking = True
        began, heard = clock.now(), list[Watch]()
        tries_until = latest = began + PAGE_SECONDS
        if watch.trouble is not None:
            tries_until = began
        try:
            call = api.history(page=page.number, limit=page.limit, known=self.pages.entries.get)
            read = await self.http.send(call, deadline=min(deadline, latest), tries_until=tries_until)
            heard = self._hear(read, group)
            self.pages.take(page, read, group, others=bool(heard), now=clock.now())
        except APIError as error:
            # A waiter's own deadline says nothing of the history; a 429 may be of its own, whatever else is open.
            if not isinstance(error, APITimeoutError) or deadline > latest:
                self.pages.rest(now=clock.now(), least=error.retry_after or 0.0)
        finally:
            for each in group:
                each.looking = False
            self._go_on(dict.fromkeys([*group, *heard]), group if in_line else ())

    def _go_on(self, watches: Iterable[Watch], group: Collection[Watch]) -> None:
        """Let those whom a page has answered wait on, and wake those for whom it has news."""
        alike: dict[object, list[Watch]] = {}
        for each in watches:
            in_line = each.waiters and (each in group or self.pages.has(each))
            waits_on = in_line and not (each.is_final() or each.unlisted or each.listed)
            if waits_on and each.job is not None:
                alike.setdefault((self.pages.alike(each), each.look_price), []).append(each)
            if each.followers or not waits_on:
                each.wake()
        now = clock.now()
        self.pages.end([(self._due(several[0], now), several) for several in alike.values()], now=now)

    def _due(self, watch: Watch, now: float) -> float:
        assert watch.job is not None  # noqa: S101 - nobody else stands in the line
        return now + self._paced(watch, watch.job, price=self.price_of(watch), now=now)

    def _hear(self, page: HistoryPage, group: Collection[Watch]) -> list[Watch]:
        heard, now = [], clock.now()
        for entry in page.items:
            watch = self.watches.get(entry.id)
            if watch is None and isinstance(entry.id, str):
                watch = self.watches.get(identity(entry.id))
            if watch is None or watch.is_final():
                continue
            if watch.looking and watch not in group:  # it is being looked at, and that will tell more
                continue
            watch.missed, watch.unlisted = 0, False
            if entry.done and not self._suffices(watch, entry, now):
                watch.listed = entry
            else:
                self.http.tell_of_look(entry)
                self._take(watch, entry, now)
            heard.append(watch)
        return heard

    def _suffices(self, watch: Watch, entry: Generation, now: float) -> bool:
        """Say whether an entry of the history needs no look to complete it.

        A failed one that does not give the reason always does; a completed one unless requests are dear and it has its
        result and its cost. While looks fail, a reason and the rest are not waited for.
        """
        if watch.trouble is not None and now < watch.trouble.rests_until(self.price_of(watch)):
            return not lacks_result(entry)
        if entry.failed:
            return entry.error is not None
        return self.price() >= DEAR and not lacks_result(entry) and entry.tokens_spent is not None

    def _take(self, watch: Watch, latest: Generation, now: float) -> None:
        job = watch.job or self.jobs.of(latest)
        age = now - job.accepted_at
        if latest.done:
            self.jobs.forget(latest)
        if latest.done and watch.job is not None:
            self._learn(watch, job, latest, now)
        hint = hinted_seconds(latest, age=age)
        if latest.partial and hint is None:
            watch.pass_time(age)  # nothing was said of the end, so what was said before still holds
        else:
            watch.take_hint(hint, age=age)
        watch.job, watch.latest, watch.looks, watch.listed = job, latest, watch.looks + 1, None

    def _learn(self, watch: Watch, job: Job, final: Generation, now: float) -> None:
        taken_ms, age = _taken_ms(final), now - job.accepted_at
        if final.failed and taken_ms is None:
            self.pacing.learn_failure(job.model, job.params, last=watch.last, age=age, now=now)
            return
        hints = () if final.failed else watch.hints
        self.pacing.learn(job.model, job.params, last=watch.last, age=age, processing_ms=taken_ms, hints=hints, now=now)


def _taken_ms(final: Generation) -> float | None:
    if final.processing_ms is not None or final.completed_at is None or final.created_at is None:
        return final.processing_ms
    return (final.completed_at - final.created_at).total_seconds() * 1000

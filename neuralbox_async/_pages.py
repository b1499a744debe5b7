"""Which page of the history shows whom, and when it is due: once its answers' idle times add up to the price of a look.

All who wait stand in one line, and only the waiter of the first watches the clock. The history is newest first, so how
many generations this client saw accepted since tells where one stands; what others make with the same account shifts
it, as the pages read show. How many entries a page has is chosen such that it ends just behind those who are likely to
be done, the oldest. A history that shows none of ours is left alone for a while. Only the 100 that are due soonest are
ever considered.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Final

from attrs import define, field, frozen

from neuralbox_async._core.api import MOST_ON_A_PAGE
from neuralbox_async._core.herd import Herd
from neuralbox_async._core.idle import Law, due_together, worth_sharing
from neuralbox_async._core.models import Generation, HistoryPage, Id, in_either_form
from neuralbox_async._core.pacing import Pacing
from neuralbox_async._watches import Jobs, Line, Watch

FIRST_REST: Final = 20.0
LONGEST_REST: Final = 900.0
# What newcomers may add to the idle time of a page that is not due yet, as a share of the price, before it is thought
# over again.
_ADDED: Final = 0.1
# How many generations of others a page leaves room for behind our oldest.
_MARGIN: Final = 3
# How long a moment is, as a share of the pacing's floor: jobs that began within it may end alike.
_MOMENT: Final = 0.25
# How many entries of generations that nobody waits for are kept, so that no page that shows them reads them again.
_MOST_KEPT: Final = 2_000


@frozen
class Page:
    """A page of the history: its number, counted from 1, and how many entries each page has."""

    number: int
    limit: int

    @property
    def begins(self) -> int:
        """Return the place of its first entry, counted from 0 for the newest."""
        return (self.number - 1) * self.limit

    def shows(self, position: int) -> bool:
        """Say whether it shows the entry at this place."""
        return 0 <= position - self.begins < self.limit


def page_down_to(position: int) -> Page:
    """Return the page that ends soon behind this place and shows as many newer ones as a page can."""
    number = position // MOST_ON_A_PAGE + 1
    if number == 1:  # a longer one costs no more, and shows ours behind many of others
        return Page(1, MOST_ON_A_PAGE)
    return Page(number, min(MOST_ON_A_PAGE, (position + _MARGIN) // number + 1))


@define(eq=False, repr=False)
class _Due:
    """When a page is due, and for whom; infinite if none would answer several.

    `added` is what newcomers add to its idle time.
    """

    at: float
    price: float
    group: Sequence[Watch] = ()
    added: float = 0.0


@define(eq=False, repr=False)
class Pages:
    """The pages of the history as looks; shared by all views of a client.

    Attributes:
        jobs: What is known of pending generations.
        pacing: Says when they may end.
        entries: The entries that pages have shown, the latest last.
    """

    jobs: Jobs
    pacing: Pacing
    entries: dict[Id, Generation] = field(factory=dict[Id, Generation], init=False)
    _line: Line = field(factory=Line, init=False)
    _first: Watch | None = field(default=None, init=False)
    _due: _Due | None = field(default=None, init=False)
    _herd: Herd = field(factory=Herd, init=False)
    _shift: int = field(default=0, init=False)
    _rested_at: float = field(default=-math.inf, init=False)
    _forbidden_until: float = field(default=-math.inf, init=False)
    _rests_until: float = field(default=-math.inf, init=False)
    _rest: float = field(default=FIRST_REST, init=False)
    _noted_at: float = field(default=-math.inf, init=False)

    def next_look(self, watch: Watch, price: float, *, own: float, now: float) -> tuple[float, Sequence[Watch]]:
        """Answer in how many seconds this waiter is to look, and at whom by one page; nobody: at the watch alone.

        `own` is in how many seconds its own look is due. Only the waiter of the watch that is due soonest has a time;
        the others sleep until theirs is the first (infinite).
        """
        if watch.job is None or watch.unlisted or watch.listed is not None:
            self.leave(watch)
            return own, ()
        self._note_time(now)
        self._line.put(now + own, watch)
        if own <= 0:
            seconds = self._herd.seconds_until_look(now)
            return seconds, () if seconds else self._due_with(watch, price, now)
        if self._line.first() is not watch:
            self._add(watch, now)
            self._wake_first()
            return math.inf, ()
        if self._first is not watch:
            self._first, self._due = watch, None
        if now < self._rests_until:
            return own, ()
        due = self._due
        if due is None or due.price != price:
            due = self._due = self._next_due(price, now + own, now)
        return (due.at - now, due.group) if due.at < now + own else (own, ())

    def _due_with(self, watch: Watch, price: float, now: float) -> Sequence[Watch]:
        """Return whom to look at with a watch that is due now; nobody if it had better be looked at alone."""
        if now < self._rests_until:
            return ()
        group = self.together(watch)
        return group if worth_sharing(self._laws(group, now), price, now) else ()

    def together(self, watch: Watch) -> Sequence[Watch]:
        """Return whom the page shows that shows a watch in the line: it, and others of those who are due soonest."""
        return next((each for each in self._groups() if watch in each), (watch,))

    def together_outside(self, watch: Watch, others: Iterable[Watch]) -> Sequence[Watch]:
        """Return whom the page shows that shows a watch outside the line: it, and who of the others is outside too."""
        page = page_down_to(self._position(watch))
        shown = (each for each in others if each not in self._line and page.shows(self._position(each)))
        return [watch, *islice((each for each in shown if each is not watch), MOST_ON_A_PAGE - 1)]

    def begin(self, watch: Watch, group: Collection[Watch]) -> tuple[Page, Collection[Watch]]:
        """Return the page that shows a group now, and whom of it a look is still to answer.

        They leave the line, as does the watch whose waiter makes the look; the next in line goes on with the others.
        """
        outside = watch not in self._line  # then so are the others, and what is not known of them is thought to be new
        waiting = [each for each in group if outside or each in self._line]
        places = {**dict.fromkeys(waiting, 0), **self._positions(waiting)}
        page = page_down_to(max(places.values(), default=self._position(watch)))
        shown = dict.fromkeys(each for each, place in places.items() if each is watch or page.shows(place))
        self._due = None
        self.leave(watch, *shown)
        return page, shown

    def begin_alone(self, watch: Watch, *, now: float) -> None:
        """Take in that a look at one watch alone begins; it leaves the line."""
        if watch.job is not None and watch in self._line:
            since = now - watch.job.accepted_at - watch.last
            self._herd.begin(since=since, pending=len(self._line), now=now)
        self.leave(watch)

    def end(self, dues: Iterable[tuple[float, Sequence[Watch]]], *, now: float) -> None:
        """Give those that a look did not finish their places in the line, by when their own looks are due.

        They are not looked at again before the floor, so a page that is due sooner stays the next.
        """
        for due, watches in dues:
            self._line.put(due, *watches)
        if self._due is None or self._due.at > now + self.pacing.floor:
            self._first = self._due = None
        self._wake_first()

    def has(self, watch: Watch) -> bool:
        """Say whether a watch stands in the line."""
        return watch in self._line

    def _groups(self) -> list[list[Watch]]:
        """Return those who are due soonest by the pages that show them, the oldest first."""
        places = self._positions(self._line.soonest(MOST_ON_A_PAGE))
        groups: list[list[Watch]] = []
        begins = math.inf
        for watch in sorted(places, key=places.__getitem__, reverse=True):
            if places[watch] < begins:
                groups.append([])
                begins = page_down_to(places[watch]).begins
            groups[-1].append(watch)
        return groups

    def _next_due(self, price: float, latest: float, now: float) -> _Due:
        best = _Due(math.inf, price)
        for group in self._groups():
            laws, latest = self._laws(group, now), min(latest, best.at)
            floor = min(law.began + law.last for law in laws) + self.pacing.floor
            at = max(now, due_together(laws, price, latest=latest), floor)
            if at < best.at and worth_sharing(laws, price, at):
                best = _Due(at, price, group)
        return best

    def leave(self, *watches: Watch) -> None:
        """Stop looking for these; whoever is due soonest then is woken."""
        for each in watches:
            self._line.leave(each)
        self._wake_first()

    def take(self, page: Page, read: HistoryPage, group: Collection[Watch], *, others: bool, now: float) -> None:
        """Learn from a page where the history has ours, and who is missing; `others` is whether it shows more of ours.

        One that is missing is expected once more, if it should be on another page; then it is looked at by itself.
        """
        self._keep(read.items)
        positions = {each.id: place for place, each in enumerate(read.items, page.begins)}
        places = {each: in_either_form(positions, each.generation_id) for each in group}
        shown = {each: place for each, place in places.items() if place is not None}
        if not shown and not others:
            self.rest(now=now)
            return
        if shown:
            self._rest = FIRST_REST
            self._learn_shift(shown)
        for each in group:
            each.missed = 0 if each in shown else each.missed + 1
            each.unlisted = each.missed > 1 or (each.missed > 0 and page.shows(self._position(each)))

    def _keep(self, entries: Iterable[Generation]) -> None:
        for each in entries:
            self.entries.pop(each.id, None)
            self.entries[each.id] = each
        for oldest in list(islice(self.entries, max(0, len(self.entries) - len(self._line) - _MOST_KEPT))):
            del self.entries[oldest]

    def rest(self, *, now: float, least: float = 0.0) -> None:
        """Leave the history alone for a while, the longer the more often it did not help, or for `least` seconds."""
        self._rested_at, self._forbidden_until = now, max(self._forbidden_until, now + least)
        self._rests_until = max(self._forbidden_until, now + self._rest)
        self._rest = min(LONGEST_REST, 2 * self._rest)

    def has_failed_since(self, when: float) -> bool:
        """Say whether it has not helped since then (loop time)."""
        return self._rested_at > when

    def rests_until(self, *, most: float) -> float:
        """Answer until when it is left alone (loop time) by whoever has nothing better to ask: `most` seconds at most.

        Where the service itself says how long, that is kept to.
        """
        return max(self._forbidden_until, min(self._rests_until, self._rested_at + most))

    def _learn_shift(self, shown: Mapping[Watch, int]) -> None:
        watch = list(shown)[len(shown) // 2]
        self._shift += shown[watch] - self._position(watch)

    def _positions(self, watches: Iterable[Watch]) -> dict[Watch, int]:
        newest = self.jobs.accepted + self._shift
        return {each: max(0, newest - job.place) for each in watches if (job := each.job) is not None}

    def _position(self, watch: Watch) -> int:
        return self._positions([watch]).get(watch, 0)

    def _note_time(self, now: float) -> None:
        if now < self._noted_at:  # a clock that shows less belongs to another event loop
            self._rested_at = self._forbidden_until = self._rests_until = -math.inf
            self._herd = Herd()
        self._noted_at = now

    def _add(self, watch: Watch, now: float) -> None:
        """Let a newcomer's idle time count towards the page that is due next."""
        due = self._due
        if due is None:
            return
        due.added += self._law(watch, now).idle(due.at)[0] if due.group else due.price
        if due.added > _ADDED * due.price:
            self._due = self._first = None

    def _wake_first(self) -> None:
        first = self._line.first()
        if first is not self._first:
            self._first, self._due = first, None
            if first is not None:
                first.wake()

    def _laws(self, watches: Sequence[Watch], now: float) -> list[Law]:
        laws: dict[object, Law] = {}
        for watch in watches:
            alike = self.alike(watch)
            law = laws.get(alike)
            if law is None:
                laws[alike] = self._law(watch, now)
            else:
                law.jobs += 1
        return list(laws.values())

    def alike(self, watch: Watch) -> object:
        """Return what is equal for watches of jobs of one kind that began, and were looked at, at the same moment."""
        job, moment = watch.job, _MOMENT * self.pacing.floor
        assert job is not None  # noqa: S101 - nobody else stands in the line
        return job.kind, watch.hint, job.accepted_at // moment, watch.last // moment

    def _law(self, watch: Watch, now: float) -> Law:
        job = watch.job
        assert job is not None  # noqa: S101 - nobody else stands in the line
        return self.pacing.law(job.model, job.params, began=job.accepted_at, last=watch.last, hint=watch.hint, now=now)

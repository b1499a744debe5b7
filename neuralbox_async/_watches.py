"""What is known of each pending generation, and who waits for it: one watch for all waiters, in line by when it is due.

The age of a job counts from when this client saw it accepted, however long afterwards somebody begins to wait for it.
"""

import math
from collections.abc import Mapping
from heapq import heappop, heappush
from typing import Any, Final

import anyio
from attrs import Factory, define, field, frozen

from neuralbox_async._core.errors import APIError
from neuralbox_async._core.models import Generation, GenerationRequest, Id, identity
from neuralbox_async._core.pacing import hinted_seconds, kind_of
from neuralbox_async._core.trouble import Trouble
from neuralbox_async._edge import clock

# Submissions that nobody ever waits for must not fill the memory; the oldest are forgotten first.
MOST_REMEMBERED: Final = 200_000
# How far apart two times may be and still be the same.
_INSTANT: Final = 0.001


@frozen(kw_only=True, eq=False, repr=False)
class Job:
    """What the pacing needs to know of a pending generation.

    Attributes:
        model: The model's slug.
        params: Its options.
        accepted_at: When this client saw it accepted, in loop time.
        hint: In how many seconds it ends, as the POST's reply said.
        place: How many generations this client had seen accepted with it; 0 for one accepted elsewhere.
        kind: What it has in common with jobs that take equally long.
    """

    model: str
    params: Mapping[str, Any] | None
    accepted_at: float
    hint: float | None = None
    place: int = 0
    kind: tuple[str, str] = field(default=Factory(lambda self: kind_of(self.model, self.params), takes_self=True))


@define(eq=False, repr=False)
class Jobs:
    """The pending generations this client saw accepted, by `identity`; shared by all views of a client.

    Attributes:
        accepted: How many generations this client has seen accepted, finished ones too.
    """

    accepted: int = field(default=0, init=False)
    _jobs: dict[Id, Job] = field(factory=dict, init=False)

    def remember(self, request: GenerationRequest, generation: Generation) -> None:
        """Take in an accepted generation; final ones need no waiting."""
        self.accepted += 1
        if generation.done:
            return
        if len(self._jobs) >= MOST_REMEMBERED:
            del self._jobs[next(iter(self._jobs))]
        hint = hinted_seconds(generation, age=0)
        job = Job(model=request.model, params=request.params, accepted_at=clock.now(), hint=hint, place=self.accepted)
        self._jobs[identity(generation.id)] = job

    def get(self, generation_id: Id) -> Job | None:
        """Return what is known of a generation this client saw accepted and not yet final; None of any other."""
        return self._jobs.get(identity(generation_id))

    def forget(self, generation: Generation) -> None:
        """Drop a generation that is final."""
        self._jobs.pop(identity(generation.id), None)

    def of(self, generation: Generation) -> Job:
        """Return what is known of a generation; of one accepted elsewhere, what its reply says."""
        known = self.get(generation.id)
        if known is not None:
            return known
        age = 0.0 if generation.created_at is None else max(0.0, clock.wall() - generation.created_at.timestamp())
        return Job(model=generation.model or "", params=generation.metadata, accepted_at=clock.now() - age)


@define(weakref_slot=True, eq=False, repr=False)
class Watch:
    """What all who wait for one generation share.

    Attributes:
        generation_id: Its id, as the first waiter has it.
        job: What the pacing needs to know of it; None before the first look at one accepted elsewhere.
        latest: The last that is known of it; None before the first look at one accepted elsewhere.
        last: Its age in seconds at the last look.
        hint: In how many seconds it ends, as that look said; None if it did not say.
        hints: At which age it was said to end in how many seconds.
        looks: How many looks were made.
        looking: Whether one is being made.
        trouble: What looks at it by itself have come to, if they fail; pages stand in for them.
        listed: Its entry in the history, final, but without all that a look would tell.
        missed: How often in a row a page of the history did not show it.
        unlisted: Whether the history did not show it where it should.
        waiters: How many wait for it now.
        followers: How many of them want to hear of each look, and not of the last alone.
        look_price: The least that one of them says a look costs, in seconds of waiting; infinite where nobody waits.
        asleep: What its waiters sleep in. An event for each would take 0.9 KB, and sleeping needs the scope anyway.
    """

    generation_id: Id
    job: Job | None = None
    latest: Generation | None = None
    last: float = 0.0
    hint: float | None = None
    hints: tuple[tuple[float, float], ...] = ()
    looks: int = 0
    looking: bool = False
    trouble: Trouble | None = None
    listed: Generation | None = None
    missed: int = 0
    unlisted: bool = False
    waiters: int = 0
    followers: int = 0
    look_price: float = math.inf
    asleep: tuple[anyio.CancelScope, ...] = ()
    _turn: "_Turn | None" = field(default=None, init=False)

    def is_final(self) -> bool:
        """Say whether the generation is known to be completed or failed."""
        return self.latest is not None and self.latest.done

    def take_hint(self, hint: float | None, *, age: float) -> None:
        """Take in what a look at this age said of the end."""
        self.last, self.hint = age, hint
        if hint is not None:
            self.hints += ((age, hint),)

    def pass_time(self, age: float) -> None:
        """Take in a look at this age that said nothing of the end."""
        self.hint = None if self.hint is None else max(0.0, self.hint - (age - self.last))
        self.last = age

    def take_failure(self, failure: APIError, *, began: float, now: float) -> None:
        """Take in that a look which began then has failed; the history may have come to show it by now."""
        since = began if self.trouble is None else self.trouble.since
        self.trouble = Trouble(failure=failure, since=since, failed_at=now)
        self.missed, self.unlisted = 0, False

    def falls_asleep(self, waiter: anyio.CancelScope) -> None:
        """Take in that a waiter sleeps in this scope."""
        self.asleep = (*self.asleep, waiter)

    def awakes(self, waiter: anyio.CancelScope) -> None:
        """Take in that a waiter sleeps no more."""
        self.asleep = tuple(each for each in self.asleep if each is not waiter)

    def wake(self) -> None:
        """Let all waiters think again."""
        for each in self.asleep:
            each.cancel()


# A place in a line: by when these watches are due, then by who came first.
_Turn = tuple[float, int, *tuple[Watch, ...]]


@define(eq=False, repr=False)
class Line:
    """The watches that are waited for, by when each one's own look is due (loop time).

    Watches that are put together share a turn. A place that a watch has left stays until it comes first, or until half
    of the places are such.
    """

    _heap: list[_Turn] = field(factory=list, init=False)
    _numbers: int = field(default=0, init=False)
    _standing: int = field(default=0, init=False)
    _left: int = field(default=0, init=False)

    def __len__(self) -> int:
        return self._standing

    def __contains__(self, watch: Watch) -> bool:
        return watch._turn is not None  # noqa: SLF001 - a place belongs to both

    def put(self, due: float, *watches: Watch) -> None:
        """Give watches that are due at one time their place, or another one."""
        moving = [each for each in watches if not _is_due(each, due)]
        if not moving:
            return
        for each in moving:
            self.leave(each)
        self._numbers += 1
        self._add((due, self._numbers, *moving))
        self._standing += len(moving)

    def _add(self, turn: _Turn) -> None:
        for each in turn[2:]:
            each._turn = turn  # noqa: SLF001 - a place belongs to both
        heappush(self._heap, turn)

    def leave(self, watch: Watch) -> None:
        """Take a watch out of the line."""
        if watch not in self:
            return
        watch._turn = None  # noqa: SLF001 - a place belongs to both
        self._standing -= 1
        self._left += 1
        if self._left > 64 and self._left > self._standing:
            self._tidy()

    def _tidy(self) -> None:
        turns, self._heap, self._left = self._heap, [], 0
        for turn in turns:
            standing = _standing(turn)
            if standing:
                self._add((turn[0], turn[1], *standing))

    def first(self) -> Watch | None:
        """Return the watch that is due soonest."""
        while self._heap:
            standing = _standing(self._heap[0])
            if standing:
                return standing[0]
            self._left -= len(heappop(self._heap)) - 2
        return None

    def soonest(self, most: int) -> list[Watch]:
        """Return the watches that are due soonest, in order; looks at no more of the line than it must."""
        heap = self._heap
        found: list[Watch] = []
        frontier = [(*heap[0][:2], 0)] if heap else []
        while frontier and len(found) < most:
            _, _, place = heappop(frontier)
            found += _standing(heap[place])
            for child in range(2 * place + 1, min(2 * place + 3, len(heap))):
                heappush(frontier, (*heap[child][:2], child))
        return found[:most]


def _standing(turn: _Turn) -> list[Watch]:
    """Return the watches that still have this turn."""
    return [each for each in turn[2:] if each._turn is turn]  # noqa: SLF001 - a place belongs to both


def _is_due(watch: Watch, due: float) -> bool:
    turn = watch._turn  # noqa: SLF001 - a place belongs to both
    return turn is not None and abs(turn[0] - due) < _INSTANT

"""A doubt is settled by the history alone: by a generation that it shows, or by an absence that has lasted long enough.

All who are in doubt share what is read: whoever falls due first reads for everybody, nobody reads in the background.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

import anyio
from attrs import define, evolve, field

from neuralbox_async._core import api
from neuralbox_async._core.claims import Reading, claim, is_read
from neuralbox_async._core.errors import OutcomeUnknownError
from neuralbox_async._core.events import Surplus
from neuralbox_async._core.known import Intent
from neuralbox_async._core.models import Generation, Id
from neuralbox_async._edge import clock
from neuralbox_async._edge.http import Http

FIRST_WAIT: Final = 1.0
LONGEST_WAIT: Final = 30.0
# A history is read back to before the POST; one that seems endless proves nothing.
MOST_PAGES: Final = 200


@define(eq=False, repr=False)
class _Doubt:
    """One intent that somebody waits for; `proof_at`, `read_at` are loop time."""

    intent: Intent
    proof_at: float
    read_at: float | None = None
    found: Generation | None = None
    absent: bool = False
    open: bool = False


@define(eq=False, repr=False)
class Doubts:
    """Those who wait to hear what became of their POSTs.

    Attributes:
        http: Reads the history.
        owned: Answers which of these ids belong to others, besides what the client itself knows.
        others: Answers who else is in doubt, and may not wait for it now.
    """

    http: Http
    owned: Callable[[Collection[Id]], Awaitable[Collection[Id]]]
    others: Callable[[], Awaitable[Collection[Intent]]]
    _doubts: dict[str, _Doubt] = field(factory=dict[str, _Doubt], init=False)
    _absent: set[str] = field(factory=set[str], init=False)
    _turn: anyio.Lock = field(factory=anyio.Lock, init=False)

    async def settle(self, intent: Intent, *, settle: float, deadline: float) -> Generation | None:
        """Return the generation that a lost POST has led to, as the history shows it; None if it has led to none.

        Args:
            intent: The POST.
            settle: Seconds after it that its absence from the history proves something.
            deadline: Until when the history may be asked, in loop time.

        Raises:
            OutcomeUnknownError: several POSTs could own what is there, or the history does not reach back so far.
            APIError: the history could not be read before the deadline.
        """
        # By whichever clock less time has passed, and never less than none: one may have been set meanwhile.
        ahead, wall = self.http.known.ahead or 0.0, clock.wall()
        passed = wall - intent.sent_at, wall + ahead - intent.left_between(ahead)[1]
        doubt = _Doubt(intent=intent, proof_at=clock.now() + max(0.0, settle - max(0.0, min(passed))))
        self._doubts[intent.key] = doubt
        try:
            return await self._settled(doubt, deadline)
        finally:  # what another's look has found for it stays its own: whoever asks again has the same key
            del self._doubts[intent.key]

    async def _settled(self, doubt: _Doubt, deadline: float) -> Generation | None:
        wait = FIRST_WAIT
        while True:
            due = clock.now()
            async with self._turn:
                if doubt.read_at is None or doubt.read_at < due:
                    await self._read(deadline)
            if doubt.found is not None or doubt.absent:
                return doubt.found
            if due >= doubt.proof_at and not doubt.open:
                raise _still_unknown(doubt.intent)
            left = doubt.proof_at - clock.now()
            await clock.sleep(min(wait, left) if left > 0 else wait)
            wait = min(2 * wait, LONGEST_WAIT)

    async def _read(self, deadline: float) -> None:
        """Read the history for all who wait."""
        doubts, began_at = list(self._doubts.values()), clock.now()
        intents = [each.intent for each in doubts]
        reading = await self._history(intents, deadline)
        taken = await self.owned([each.id for each in reading.entries])
        others = [each for each in await self.others() if each.key not in self._absent]
        others += [each.intent for each in self._doubts.values()]  # also those that came while this was read
        claims = claim(
            intents,
            reading,
            owned=self.http.known.owners(taken),
            others=others,
            on_their_way=list(self.http.known.on_their_way.values()),
            early={each.intent.key for each in doubts if each.proof_at > began_at},
        )
        for key, generation in claims.found.items():
            self.http.known.own(generation.id, claimed_by=key)
        for each in doubts:
            key, each.read_at = each.intent.key, began_at
            each.found, each.open = claims.found.get(key), key in claims.open
            is_unclear = each.open or key in claims.disputed or reading.gaps
            each.absent = each.proof_at <= began_at and not is_unclear and is_read(each.intent, reading)
        self._absent.update(each.intent.key for each in doubts if each.absent)
        if claims.surplus:
            self.http.tell(Surplus(generations=tuple(claims.surplus)))

    async def _history(self, intents: Sequence[Intent], deadline: float) -> Reading:
        """Read the history back to before every one of these POSTs."""
        entries: dict[Id, Generation] = {}
        reading, came, gaps = Reading(entries=()), 0, False
        for number in range(1, MOST_PAGES + 1):
            page = await self.http.send(api.history(page=number), deadline=deadline)
            came += page.entries
            gaps |= len(page.items) < page.entries
            skew = reading.skew if page.served_at is None else page.served_at - clock.wall()
            whole = page.entries == 0 or (page.total is not None and came >= page.total)
            entries.update((each.id, each) for each in page.items if each.id not in entries)
            reading = Reading(entries=page.items, skew=skew, whole=whole)
            if all(is_read(intent, reading) for intent in intents):
                break
        return evolve(reading, entries=tuple(entries.values()), gaps=gaps)


async def no_owners(_: Collection[Id]) -> Collection[Id]:
    """Know of no owners besides the client itself."""
    return ()


async def no_others() -> Collection[Intent]:
    """Know of nobody else in doubt."""
    return ()


def _still_unknown(intent: Intent) -> OutcomeUnknownError:
    return OutcomeUnknownError(
        f"The history does not tell what became of the request for {intent.request.model}: what it shows could belong "
        "to several requests or says too little of itself, or it does not reach back so far. Compare it with your "
        "account's history by hand before you repeat it.",
        billed="unknown",
        request=intent.request,
        sent_at=intent.sent_at,
        after_id=intent.after_id,
    )

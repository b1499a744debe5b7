"""A doubt is settled by the history alone: by a generation that it shows, or by an absence that has lasted long enough.

All who are in doubt share what is read: whoever falls due first reads for everybody, nobody reads in the background.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

import anyio
from attrs import define, evolve, field

from neuralbox_async._core import api
from neuralbox_async._core.claims import Intent, Reading, claim, is_read
from neuralbox_async._core.errors import OutcomeUnknownError
from neuralbox_async._core.events import Surplus
from neuralbox_async._core.models import Generation, Id
from neuralbox_async._edge import clock
from neuralbox_async._edge.http import Http

FIRST_WAIT: Final = 1.0
LONGEST_WAIT: Final = 30.0
# A history is read back to before the POST; one that seems endless proves nothing.
MOST_PAGES: Final = 200


@define(eq=False)
class _Doubt:
    """One intent that somebody waits for; `proof_at`, `read_at` are loop time."""

    intent: Intent
    proof_at: float
    read_at: float | None = None
    found: Generation | None = None
    absent: bool = False


@define(eq=False)
class Doubts:
    """Those who wait to hear what became of their POSTs.

    Attributes:
        http: Reads the history.
        owned: Answers which of these ids belong to others, besides what the client itself knows.
    """

    http: Http
    owned: Callable[[Collection[Id]], Awaitable[Collection[Id]]]
    _doubts: dict[str, _Doubt] = field(factory=dict[str, _Doubt], init=False)
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
        doubt = _Doubt(intent=intent, proof_at=clock.now() + max(0.0, intent.sent_at + settle - clock.wall()))
        self._doubts[intent.key] = doubt
        wait = FIRST_WAIT
        try:
            while True:
                due = clock.now()
                async with self._turn:
                    if doubt.read_at is None or doubt.read_at < due:
                        await self._read(deadline)
                if doubt.found is not None or doubt.absent:
                    return doubt.found
                if due >= doubt.proof_at:
                    raise _still_unknown(intent)
                await clock.sleep(min(wait, max(0.0, doubt.proof_at - clock.now())))
                wait = min(2 * wait, LONGEST_WAIT)
        finally:
            del self._doubts[intent.key]

    async def _read(self, deadline: float) -> None:
        """Read the history for all who wait."""
        doubts, began_at = list(self._doubts.values()), clock.now()
        intents = [each.intent for each in doubts]
        reading = await self._history(intents, deadline)
        others = set(await self.owned([each.id for each in reading.entries]))
        claims = claim(
            intents,
            reading,
            owned=self.http.known.owners(others),
            on_their_way=self.http.known.on_their_way,
            settled={each.intent.key for each in doubts if each.proof_at <= began_at},
        )
        for key, generation in claims.found.items():
            self.http.known.own(generation.id, claimed_by=key)
        for each in doubts:
            each.read_at, each.found = began_at, claims.found.get(each.intent.key)
            is_over = each.proof_at <= began_at and each.intent.key not in claims.open
            each.absent = is_over and is_read(each.intent, reading)
        if claims.surplus:
            self.http.tell(Surplus(generations=tuple(claims.surplus)))

    async def _history(self, intents: Sequence[Intent], deadline: float) -> Reading:
        """Read the history back to before every one of these POSTs."""
        entries: dict[Id, Generation] = {}
        reading, came = Reading(entries=()), 0
        for number in range(1, MOST_PAGES + 1):
            page = await self.http.send(api.history(page=number), deadline=deadline)
            came += page.entries
            skew = reading.skew if page.served_at is None else page.served_at - clock.wall()
            whole = page.entries == 0 or (page.total is not None and came >= page.total)
            entries.update((each.id, each) for each in page.items if each.id not in entries)
            reading = Reading(entries=page.items, skew=skew, whole=whole)
            if all(is_read(intent, reading) for intent in intents):
                break
        return evolve(reading, entries=tuple(entries.values()))


async def no_others(_: Collection[Id]) -> Collection[Id]:
    """Know of no owners besides the client itself."""
    return ()


def _still_unknown(intent: Intent) -> OutcomeUnknownError:
    return OutcomeUnknownError(
        f"The history does not tell what became of the request for {intent.request.model}: what it shows could belong "
        "to several requests, or it does not reach back so far. Compare it with your account's history by hand before "
        "you repeat it.",
        billed="unknown",
        request=intent.request,
        sent_at=intent.sent_at,
        after_id=intent.after_id,
    )

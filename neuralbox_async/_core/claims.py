"""Which generation of the history is the one whose answer we lost? One of that model and prompt, newer, and nobody's.

Newer than the POST: an id above the highest that was known before it, where ids are integers; else created when it was
sent or later, by the service's clock. Nobody's: no other answer of ours named it. Where two POSTs for different things
could own one entry, neither gets it: a wrong result is worse than an honest "unknown".
"""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Final

from attrs import define, field, frozen

from neuralbox_async._core.models import COMPLETED, FAILED, Generation, GenerationRequest, Id

# How much later than it says an entry may really have been created, seconds: dates are whole seconds, two clocks are
# compared over a network, and a POST leaves a little before it arrives.
SLACK: Final = 5.0
# A prompt cut short without a mark is still telling if this many characters of it are there.
SHORTEST_STEM: Final = 60
MOST_REMEMBERED: Final = 200_000
_PREFERENCE: Final = {COMPLETED: 0, FAILED: 2}


@define
class Known:
    """What a client knows of its own POSTs; shared by all views of a client.

    Attributes:
        highest_id: The highest integer id it has seen: what a lost answer's id must be above.
        owned: The latest ids that belong to a POST: None where its answer named the id, else the key of the intent that
            claimed it in the history.
        latest_moment: When the last POST left whose answer was lost, in Unix seconds.
        on_their_way: How many POSTs for a model and a prompt wait for their answer.
    """

    highest_id: int | None = None
    owned: dict[Id, str | None] = field(factory=dict[Id, "str | None"], init=False)
    latest_moment: float = field(default=0.0, init=False)
    on_their_way: Counter[tuple[str, str]] = field(factory=Counter[tuple[str, str]], init=False)

    def see(self, generation_id: Id) -> None:
        """Take in an id that was read."""
        if isinstance(generation_id, int) and (self.highest_id is None or generation_id > self.highest_id):
            self.highest_id = generation_id

    def own(self, generation_id: Id, *, claimed_by: str | None = None) -> None:
        """Take in which generation a POST has led to."""
        if len(self.owned) >= MOST_REMEMBERED:
            del self.owned[next(iter(self.owned))]
        self.owned[generation_id] = claimed_by

    def owners(self, others: Iterable[Id]) -> Mapping[Id, str | None]:
        """Return whose the ids are that belong to somebody; `others` are not this client's."""
        return {**dict.fromkeys(others), **self.owned}

    def moment(self, sent_at: float) -> float:
        """Return a time that no other POST left at, a microsecond off if need be: it tells equal POSTs apart."""
        self.latest_moment = max(sent_at, self.latest_moment + 1e-6)
        return self.latest_moment

    @contextmanager
    def sending(self, request: GenerationRequest) -> Iterator[None]:
        """Count a POST as on its way: what the history shows of it meanwhile is its own."""
        what = request.model, request.prompt
        self.on_their_way[what] += 1
        try:
            yield
        finally:
            self.on_their_way[what] -= 1
            if not self.on_their_way[what]:
                del self.on_their_way[what]


@frozen(kw_only=True)
class Intent:
    """A POST whose answer was lost.

    Attributes:
        key: What tells it from the others.
        request: What it asked for.
        sent_at: When it left, in Unix seconds of this machine's clock.
        after_id: The highest integer id known before it; None if none.
    """

    key: str
    request: GenerationRequest
    sent_at: float
    after_id: int | None

    @property
    def alike(self) -> tuple[str, str, str]:
        """What is the same for requests that may take each other's generation."""
        return self.request.model, self.request.prompt.strip(), repr(_sorted(self.request.params or {}))


@frozen(kw_only=True)
class Reading:
    """What was read of the history.

    Attributes:
        entries: Its generations, in the service's order.
        skew: How many seconds the service's clock is ahead of this machine's.
        whole: Whether the reading went to the history's end.
    """

    entries: Sequence[Generation]
    skew: float = 0.0
    whole: bool = False


@frozen(kw_only=True)
class Claims:
    """What a reading of the history says of intents.

    Attributes:
        found: The generation of each intent that has one.
        open: The keys of intents for which something is there that cannot be told apart (yet).
        surplus: Entries that fit intents and are more than these: duplicates that the infrastructure made, or foreign.
    """

    found: Mapping[str, Generation]
    open: frozenset[str]
    surplus: Sequence[Generation]


def claim(
    intents: Sequence[Intent],
    reading: Reading,
    *,
    owned: Mapping[Id, str | None],
    on_their_way: Container[tuple[str, str]],
    settled: Container[str],
) -> Claims:
    """Match intents with what the history shows.

    `owned` says whose ids are: None for an answered POST's, else the key of the intent that has claimed it before. Of
    requests that are alike each gets one entry, completed ones first, then pending, then failed. As long as there
    are more entries than intents nothing is decided, unless all of these intents' keys are in `settled`: their time to
    wait is over. Nothing is decided either while a POST for the same model and prompt is on its way.
    """
    claimed = {owned[each.id]: each for each in reading.entries if owned.get(each.id) is not None}
    found: dict[str, Generation] = {key: claimed[key] for each in intents if (key := each.key) in claimed}
    groups: dict[tuple[str, str, str], list[Intent]] = {}
    for intent in intents:
        if intent.key not in found:
            groups.setdefault(intent.alike, []).append(intent)
    free = [each for each in reading.entries if each.id not in owned]
    fitting = {
        alike: [each for each in free if any(may_be(intent, each, skew=reading.skew) for intent in group)]
        for alike, group in groups.items()
    }
    contested = Counter(entry.id for entries in fitting.values() for entry in entries)
    still_open, surplus = set[str](), list[Generation]()
    for alike, group in groups.items():
        entries, keys = fitting[alike], {each.key for each in group}
        undecided = len(entries) > len(group) and not all(key in settled for key in keys)
        if alike[:2] in on_their_way or undecided or any(contested[entry.id] > 1 for entry in entries):
            still_open |= keys if entries or alike[:2] in on_their_way else set()
            continue
        matched = _match(group, entries, skew=reading.skew)
        found.update(matched)
        taken = {each.id for each in matched.values()}
        surplus += [entry for entry in entries if entry.id not in taken]
    return Claims(found=found, open=frozenset(still_open), surplus=surplus)


def may_be(intent: Intent, entry: Generation, *, skew: float) -> bool:
    """Say whether an entry can be what an intent has led to."""
    if entry.model not in (None, intent.request.model) or not _says(entry.prompt, intent.request.prompt):
        return False
    if isinstance(entry.id, int) and intent.after_id is not None:
        return entry.id > intent.after_id
    return entry.created_at is not None and entry.created_at.timestamp() >= _earliest(intent, skew)


def is_read(intent: Intent, reading: Reading) -> bool:
    """Say whether a reading went back far enough to have shown an intent's generation, had there been one."""
    if reading.whole:
        return True
    return _newest_first(reading.entries) and any(_is_older(intent, each, reading.skew) for each in reading.entries)


def _is_older(intent: Intent, entry: Generation, skew: float) -> bool:
    if isinstance(entry.id, int) and intent.after_id is not None:
        return entry.id <= intent.after_id
    return entry.created_at is not None and entry.created_at.timestamp() < _earliest(intent, skew)


def _earliest(intent: Intent, skew: float) -> float:
    return intent.sent_at + skew - SLACK


def _newest_first(entries: Sequence[Generation]) -> bool:
    """Say whether entries come newest first; the documents show it and do not say it."""
    ids = [each.id for each in entries if isinstance(each.id, int)]
    if len(ids) == len(entries):
        return all(later > earlier for later, earlier in pairwise(ids))
    dates = [each.created_at for each in entries if each.created_at is not None]
    return all(later >= earlier for later, earlier in pairwise(dates))


def _says(shown: str | None, prompt: str) -> bool:
    """Say whether the history's words can be a prompt's; it may cut them short."""
    if shown is None:
        return False
    shown, prompt = shown.strip(), prompt.strip()
    if shown == prompt:
        return True
    stem = shown.removesuffix("…").removesuffix("...").rstrip()
    shortened = stem != shown or len(stem) >= SHORTEST_STEM
    return shortened and bool(stem) and prompt.startswith(stem)


def _match(intents: Iterable[Intent], entries: Sequence[Generation], *, skew: float) -> dict[str, Generation]:
    """Give each intent an entry. Who may have the fewest chooses first, so nobody goes without who need not."""
    left = sorted(entries, key=lambda entry: (_PREFERENCE.get(entry.status, 1), _age_order(entry)))
    found: dict[str, Generation] = {}
    for intent in sorted(intents, key=lambda each: (each.after_id or 0, each.sent_at), reverse=True):
        for entry in left:
            if may_be(intent, entry, skew=skew):
                found[intent.key] = entry
                left.remove(entry)
                break
    return found


def _age_order(entry: Generation) -> float:
    if isinstance(entry.id, int):
        return entry.id
    return 0.0 if entry.created_at is None else entry.created_at.timestamp()


def _sorted(value: Any) -> Any:
    """Bring a JSON value's mappings in order, so that equal ones look equal."""
    if isinstance(value, Mapping):
        return sorted((str(name), _sorted(each)) for name, each in value.items())
    if isinstance(value, list | tuple):
        return [_sorted(each) for each in value]
    return value

"""Which generation of the history is the one whose answer we lost? One of that model and prompt, newer, and nobody's.

Newer than the POST: an id above the highest that was known before it, where ids are integers, and no date before it;
else created when it was sent or later, by the service's clock. Nobody's: no other answer of ours named it, and none
that is still to come can. Where two POSTs for different things could own one entry, neither gets it: a wrong result is
worse than an honest "unknown". What does not say its whole prompt (recordings have none) or its age is nobody's, and no
proof of absence either; nor is what lies between the POST's times by two clocks of which one was set, or has a newer id
and an older date.
"""

import math
import unicodedata
from bisect import bisect_left
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise, takewhile
from typing import Final

from attrs import define, field, frozen

from neuralbox_async._core.known import Intent
from neuralbox_async._core.models import COMPLETED, FAILED, Generation, Id, identity

# How much later than it says an entry may really have been created, seconds: dates are whole seconds, two clocks are
# compared over a network, and a POST leaves a little before it arrives.
SLACK: Final = 5.0
# A prompt cut short without a mark is still telling if this many characters of it are there.
SHORTEST_STEM: Final = 60
# The history's category of what was made of a recording: whatever it shows as a prompt, a recording has none.
SPEECH_TO_TEXT: Final = "stt"
_PREFERENCE: Final = {COMPLETED: 0, FAILED: 2}


@frozen(kw_only=True)
class Reading:
    """What was read of the history.

    Attributes:
        entries: Its generations, in the service's order.
        skew: How many seconds the service's clock is ahead of this machine's.
        whole: Whether the reading went to the history's end.
        gaps: Whether there were entries without a readable id or status: what they are nobody knows.
    """

    entries: Sequence[Generation]
    skew: float = 0.0
    whole: bool = False
    gaps: bool = False

    @cached_property
    def lowest_id(self) -> float:
        """The lowest integer id that it shows; infinite if it shows none."""
        return min((each.id for each in self.entries if isinstance(each.id, int)), default=math.inf)

    @cached_property
    def earliest(self) -> float:
        """The earliest date that it shows, by the service's clock; infinite if it shows none."""
        return min((each.created_at.timestamp() for each in self.entries if each.created_at), default=math.inf)

    @cached_property
    def is_newest_first(self) -> bool:
        """Whether entries come newest first; the documents show it and do not say it."""
        ids = [each.id for each in self.entries if isinstance(each.id, int)]
        if len(ids) == len(self.entries):
            return all(later > earlier for later, earlier in pairwise(ids))
        dates = [each.created_at for each in self.entries if each.created_at is not None]
        return all(later >= earlier for later, earlier in pairwise(dates))


@frozen(kw_only=True)
class Claims:
    """What a reading of the history says of intents.

    Attributes:
        found: The generation of each intent that has one.
        open: The keys of intents that have none yet, and may get one: something is there that will be told apart.
        disputed: The keys of intents that could own something that a POST for something else could own as well, or that
            does not say enough of itself.
        surplus: Entries that fit intents and are more than these: duplicates that the infrastructure made, or foreign.
    """

    found: Mapping[str, Generation]
    open: frozenset[str]
    disputed: frozenset[str]
    surplus: Sequence[Generation]


def claim(
    intents: Sequence[Intent],
    reading: Reading,
    *,
    owned: Mapping[Id, str | None],
    others: Iterable[Intent],
    on_their_way: Iterable[Intent],
    early: Container[str],
) -> Claims:
    """Match intents with what the history shows.

    Of requests that are alike each gets one entry, completed ones first, then pending, then failed. As long as there
    are more entries than intents nothing is decided, unless nobody's time to wait is going on any more. What a POST on
    its way could own is left to it until its answer is there.

    Args:
        intents: Those to find something for.
        reading: What was read of the history.
        owned: Whose ids (by `identity`) are whose: None for an answered POST's, else the key of the intent that has
            claimed it before.
        others: More intents, for which nothing is to be found now; they have a share in what there is.
        on_their_way: POSTs that wait for their answer.
        early: The keys of intents whose time to wait is going on.
    """
    claimed = {key: each for each in reading.entries if (key := owned.get(identity(each.id))) is not None}
    found = {each.key: claimed[each.key] for each in intents if each.key in claimed}
    groups = _grouped(intents, others, on_their_way, done=claimed)
    unowned = [each for each in reading.entries if identity(each.id) not in owned]
    _sort_in(unowned, groups, reading.skew)
    silent = _silent(unowned)
    wanted = {each.key for each in intents}
    still_open, disputed, surplus = set[str](), set[str](), list[Generation]()
    for group in groups:
        keys = wanted.intersection(each.key for each in group.intents)
        if not keys:
            continue
        if group.is_disputed:
            disputed |= keys
        elif len(group.entries) > len(group.intents) and any(key in early for key in keys):
            still_open |= keys
        else:
            matched = _match(group.intents, group.entries, skew=reading.skew)
            found.update((key, entry) for key, entry in matched.items() if key in keys)
            taken = {each.id for each in matched.values()}
            surplus += [each for each in group.entries if each.id not in taken]
            if group.awaits_answers:
                still_open |= keys - matched.keys()
            elif group.is_vague or group.could_own(silent, reading.skew):
                disputed |= keys - matched.keys()
    return Claims(found=found, open=frozenset(still_open), disputed=frozenset(disputed), surplus=surplus)


@define(eq=False, repr=False)
class _Group:
    """Requests that may take each other's generation, and what the history shows of them.

    Attributes:
        prompt: What all of them ask for, in its plain form.
        intents: Those in doubt.
        on_their_way: Those that wait for their answer.
        entries: What may be theirs, and no POST's that is on its way.
        awaits_answers: Whether there is more, which a POST on its way may own.
        is_disputed: Whether requests for something else could own one of the entries.
        is_vague: Whether there is something of that prompt that may be older or newer.
    """

    prompt: str
    intents: list[Intent] = field(factory=list[Intent])
    on_their_way: list[Intent] = field(factory=list[Intent])
    entries: list[Generation] = field(factory=list[Generation])
    awaits_answers: bool = False
    is_disputed: bool = False
    is_vague: bool = False

    def could_own(self, silent: Iterable[Generation], skew: float) -> bool:
        """Say whether entries that do not say their prompt could be one of these in doubt."""
        doubts = _loosest(self.intents, skew)
        return any(_is_of(one, each) and _is_newer(one, each, skew) is not False for each in silent for one in doubts)


def _silent(entries: Iterable[Generation]) -> Sequence[Generation]:
    """Return entries that do not say what was asked for; of those that are alike the newest."""
    without = (each for each in entries if not (each.prompt or "").strip() or each.category == SPEECH_TO_TEXT)
    return [entry for _, entry in _newest(("", each) for each in without)]


def _newest(entries: Iterable[tuple[str, Generation]]) -> Iterable[tuple[str, Generation]]:
    """Return the newest of entries that are alike and say the same: up to four of a model."""
    found: dict[tuple[str, str | None, bool, bool], Generation] = {}
    for shown, entry in entries:
        kind = (shown, entry.model, isinstance(entry.id, int), entry.created_at is None)
        found[kind] = max(found.get(kind, entry), entry, key=_age_order)
    return [(kind[0], entry) for kind, entry in found.items()]


def _grouped(
    intents: Iterable[Intent], others: Iterable[Intent], on_their_way: Iterable[Intent], *, done: Container[str]
) -> list[_Group]:
    """Bring together what is alike, in the order of the prompts."""
    groups: dict[tuple[str, str, str], _Group] = {}

    def group(intent: Intent) -> _Group:
        alike = intent.alike
        return groups.setdefault(alike, _Group(_plain(alike[1])))

    for intent in {each.key: each for each in (*others, *intents)}.values():
        if intent.key not in done:
            group(intent).intents.append(intent)
    for intent in on_their_way:
        group(intent).on_their_way.append(intent)
    return sorted(groups.values(), key=lambda each: each.prompt)


def _sort_in(entries: Iterable[Generation], groups: Sequence[_Group], skew: float) -> None:
    """Give each entry to the groups that it may belong to."""
    doubts = {id(each): _loosest(each.intents, skew) for each in groups}
    posts = {id(each): _loosest(each.on_their_way, skew) for each in groups}
    others: list[tuple[str, Generation]] = []
    for entry in entries:
        shown = _plain(entry.prompt or "")
        near = _near(shown, groups)
        answers = {id(each): _answers(doubts[id(each)], entry, skew) for each in near}
        could = [each for each in near if answers[id(each)] - {False}]
        if shown and not could:
            others.append((shown, entry))
        for each in could:
            each.is_vague |= None in answers[id(each)]
        is_awaited = any(True in _answers(posts[id(each)], entry, skew) for each in near)
        for group in could:
            if True not in answers[id(group)]:
                continue
            if is_awaited:
                group.awaits_answers = True
            else:
                group.entries.append(entry)
                group.is_disputed = group.is_disputed or len(could) > 1
    for shown, entry in _newest(others):  # it is another prompt, or cut short without a mark
        for group in _beginning(shown, groups):
            group.is_vague |= bool(_answers(doubts[id(group)], entry, skew) - {False})


def _near(shown: str, groups: Sequence[_Group]) -> list[_Group]:
    """Return the groups whose prompt the history's words can be."""
    return list(takewhile(lambda each: _says(shown, each.prompt), _beginning(_stem(shown) or shown, groups)))


def _beginning(stem: str, groups: Sequence[_Group]) -> Iterator[_Group]:
    """Yield the groups whose prompts begin with a stem: in order they lie together, the stem itself at their head."""
    first = bisect_left(groups, stem, key=lambda each: each.prompt)
    return takewhile(lambda each: each.prompt.startswith(stem), (groups[at] for at in range(first, len(groups))))


def _answers(intents: Iterable[Intent], entry: Generation, skew: float) -> set[bool | None]:
    """Return what `_is_newer` says to those of them that the entry's model is of."""
    return {_is_newer(one, entry, skew) for one in intents if _is_of(one, entry)}


def _loosest(intents: Sequence[Intent], skew: float) -> list[Intent]:
    """Return those of equal intents that may own whatever any of them may own: five at the most."""
    by_id = [each for each in intents if each.after_id is not None]
    by_date = [each for each in intents if each.after_id is None]
    lowest = [min(by_id, key=lambda each: each.after_id or 0)] if by_id else []
    ends = (0, 1)
    dated = [some for some in (by_id, by_date) if some]
    return lowest + [min(some, key=lambda each: each.left_between(skew)[end]) for some in dated for end in ends]


def may_be(intent: Intent, entry: Generation, *, skew: float) -> bool:
    """Say whether an entry can be what an intent has led to."""
    if entry.prompt is None or not _says(_plain(entry.prompt), _plain(intent.request.prompt)):
        return False
    return _fits(intent, entry, skew)


def _fits(intent: Intent, entry: Generation, skew: float) -> bool:
    """Say whether an entry of an intent's prompt can be what that has led to."""
    return _is_of(intent, entry) and _is_newer(intent, entry, skew) is True


def _is_of(intent: Intent, entry: Generation) -> bool:
    return entry.model in (None, intent.request.model)


def _is_newer(intent: Intent, entry: Generation, skew: float) -> bool | None:
    """Say whether an entry is newer than a POST; None if that cannot be told, or its id and its date disagree."""
    is_later = _is_later(intent, entry, skew)
    if not isinstance(entry.id, int) or intent.after_id is None:
        return is_later
    if entry.id <= intent.after_id:
        return False
    # It may have been made elsewhere long before, after the last id that was known: then the id says nothing.
    return None if is_later is False else True


def _is_later(intent: Intent, entry: Generation, skew: float) -> bool | None:
    """Say by the date of an entry whether it was created after a POST had left; None if that cannot be told."""
    if entry.created_at is None:
        return None
    created, (earliest, latest) = entry.created_at.timestamp() + SLACK, intent.left_between(skew)
    return None if earliest <= created < latest else created >= latest


def is_read(intent: Intent, reading: Reading) -> bool:
    """Say whether a reading went back far enough to have shown an intent's generation, had there been one."""
    if reading.whole:
        return True
    if not reading.is_newest_first:
        return False
    if intent.after_id is not None and reading.lowest_id < math.inf:
        return reading.lowest_id <= intent.after_id
    return reading.earliest + SLACK < intent.left_between(reading.skew)[0]


def _plain(text: str) -> str:
    """Return what is the same of a text in whatever form of Unicode it is kept, and on however many lines it is shown.

    Decomposed: what is cut of it, in either form, is its beginning.
    """
    return " ".join(unicodedata.normalize("NFD", text).split())


def _stem(shown: str) -> str:
    """Return what is left of a plain prompt when the mark that it was cut short is taken off."""
    return shown.removesuffix("…").removesuffix("...").rstrip()


def _says(shown: str, prompt: str) -> bool:
    """Say whether the history's words can be a prompt's, both in their plain form; it may cut them short."""
    if shown == prompt:
        return True
    stem = _stem(shown)
    shortened = stem != shown or len(stem) >= SHORTEST_STEM
    return shortened and bool(stem) and prompt.startswith(stem)


def _match(intents: Iterable[Intent], entries: Sequence[Generation], *, skew: float) -> dict[str, Generation]:
    """Give each intent an entry. Who may have the fewest chooses first, so nobody goes without who need not."""
    left = sorted(entries, key=lambda entry: (_PREFERENCE.get(entry.status, 1), _age_order(entry)))
    found: dict[str, Generation] = {}
    for intent in sorted(intents, key=lambda each: (each.after_id or 0, each.sent_at), reverse=True):
        place = next((place for place, entry in enumerate(left) if _fits(intent, entry, skew)), None)
        if place is not None:
            found[intent.key] = left.pop(place)
    return found


def _age_order(entry: Generation) -> float:
    if isinstance(entry.id, int):
        return entry.id
    return 0.0 if entry.created_at is None else entry.created_at.timestamp()

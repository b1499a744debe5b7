"""Claims: whose is what the history shows. Each rule as a table; what must never be, for any history."""

import math
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from neuralbox_async._core.claims import Claims, Reading, claim, is_read, may_be
from neuralbox_async._core.known import Intent, Known
from neuralbox_async._core.models import Generation, GenerationRequest

NOON = 1_772_971_200.0
REQUEST = GenerationRequest("kling-v2.1", "A flower", {"duration": 5})
OTHER_PARAMS = evolve(REQUEST, params={"duration": 10})
LONG = "A flower in the morning light, seen from above, while a slow camera goes around it, dew on its leaves"

NOBODY: dict[str, Any] = {"owned": {}, "others": (), "on_their_way": (), "early": ()}


def intent(key: str = "a", *, after: int | None = 10, at: float = NOON, asked: GenerationRequest = REQUEST) -> Intent:
    """Return a POST whose answer was lost."""
    return Intent(key=key, request=asked, sent_at=at, after_id=after)


def entry(number: int | str, status: str = "completed", *, at: float | None = NOON, **fields: Any) -> Generation:
    """Return an entry of the history."""
    date = None if at is None else datetime.fromtimestamp(at, UTC)
    shown = {"model": "kling-v2.1", "prompt": "A flower", **fields}
    return Generation(id=number, status=status, created_at=date, partial=True, **shown)


def claims(intents: Sequence[Intent], *entries: Generation, skew: float = 0.0, **known: Any) -> Claims:
    """Match, with nobody else about and everybody's time to wait over, unless said otherwise."""
    return claim(intents, Reading(entries=entries, skew=skew, whole=True), **{**NOBODY, **known})


def told(got: Claims) -> tuple[dict[str, int | str], set[str], set[str], list[int | str]]:
    """Return what is found (by its id), open, disputed, and surplus."""
    ids = {key: each.id for key, each in got.found.items()}
    return ids, set(got.open), set(got.disputed), [each.id for each in got.surplus]


def found(intents: Sequence[Intent], *entries: Generation, **known: Any) -> dict[str, int | str]:
    """Return the id that each intent finds."""
    return {key: each.id for key, each in claims(intents, *entries, **known).found.items()}


# --- what may be an intent's ------------------------------------------------------------------------------------------

SENT_LATER, SENT_EARLIER = NOON + 1000, NOON - 1000


@pytest.mark.parametrize(
    ("asked", "shown", "fits"),
    [
        (intent(), entry(11), True),
        (intent(), entry(10), False),  # known before the POST left
        (intent(), entry(11, at=SENT_EARLIER), False),  # made elsewhere, after the last id that was known
        (intent(), entry(11, at=NOON - 5), True),
        (intent(), entry(10, at=SENT_LATER), False),
        (intent(), entry(11, at=None), True),
        (intent(after=None), entry(11), True),
        (intent(after=None), entry(11, at=SENT_EARLIER), False),
        (intent(after=None), entry(11, at=SENT_LATER), True),  # a POST may take long to arrive
        (intent(after=None), entry(11, at=None), False),  # nothing says that it is newer
        (intent(), entry("gen_1"), True),
        (intent(), entry("gen_1", at=SENT_EARLIER), False),
        (intent(), entry("gen_1", at=None), False),
        (intent(after=None), entry(11, at=NOON - 5), True),  # dates are whole seconds, clocks are compared roughly
        (intent(after=None), entry(11, at=NOON - 6), False),
        (intent(), entry(11, model="kling-v2.1-pro"), False),
        (intent(), entry(11, model=None), True),
        (intent(), entry(11, prompt="A tree"), False),
        (intent(), entry(11, prompt=None), False),
        (intent(), entry(11, prompt="  A flower\n"), True),
    ],
)
def test_what_may_be_an_intents(asked: Intent, shown: Generation, fits: bool) -> None:  # noqa: FBT001 - a table's column
    """Its model and its prompt, and newer than the POST."""
    assert may_be(asked, shown, skew=0.0) is fits


@pytest.mark.parametrize("skew", [-3600.0, 0.0, 3600.0])
def test_dates_are_the_services(skew: float) -> None:
    """Its clock may be an hour wrong, as long as it says what time it is."""
    served = entry("gen_1", at=NOON + skew)
    assert may_be(intent(), served, skew=skew)
    assert not may_be(intent(), evolve(served, created_at=datetime.fromtimestamp(NOON + skew - 60, UTC)), skew=skew)


@pytest.mark.parametrize(("then", "now"), [(0.0, 3600.0), (3600.0, 0.0)], ids=["set back", "set forward"])
def test_what_lies_between_two_clocks_is_nobody_s_and_no_proof(then: float, now: float) -> None:
    """A clock was set since the POST left, and nobody knows when: an hour is uncertain, and all else is not."""
    asked = [evolve(intent(after=None), ahead=then)]
    later, between, earlier = (entry(11, at=at) for at in (NOON + 3600, NOON + 1800, NOON - 60))
    assert told(claims(asked, later, skew=now)) == ({"a": 11}, set(), set(), [])
    assert told(claims(asked, between, skew=now)) == ({}, set(), {"a"}, [])
    assert told(claims(asked, earlier, skew=now)) == ({}, set(), set(), [])
    assert not is_read(asked[0], Reading(entries=[between], skew=now))
    assert is_read(asked[0], Reading(entries=[earlier], skew=now))


def test_a_newer_id_with_an_older_date_is_nobody_s_and_no_proof() -> None:
    """The last id that was known may be old: the same was asked for elsewhere since then, and before the POST."""
    foreign = entry(11, at=NOON - 60)
    assert told(claims([intent()], entry(12), foreign)) == ({"a": 12}, set(), set(), [])
    assert told(claims([intent()], foreign)) == ({}, set(), {"a"}, [])


def test_what_lies_between_two_clocks_is_not_another_one_s_either() -> None:
    """Nobody can tell whether the first POST left before it was created: so it may be the first one's."""
    asked = [evolve(intent("a", after=None), ahead=0.0), intent("b", asked=OTHER_PARAMS)]
    assert told(claims(asked, entry(11, at=NOON + 1800), skew=3600.0)) == ({}, set(), {"a", "b"}, [])


@pytest.mark.parametrize(
    ("shown", "prompt", "fits"),
    [
        (LONG, LONG, True),
        (LONG[:30] + "…", LONG, True),
        (LONG[:30] + " ...", LONG, True),
        (LONG[:60], LONG, True),  # cut without a mark
        (LONG[:59], LONG, False),  # too short to be sure
        ("A flower", "A flower in a vase", False),
        ("A tree…", LONG, False),
        ("…", LONG, False),
        ("", LONG, False),
        ("A flower…", "A flower…", True),  # a prompt may end like that by itself
        ("...", "...", True),
        (LONG, LONG[:70], False),
        ("Caf\u00e9", "Cafe\u0301", True),  # the same letter, in two forms of Unicode
        ("Cafe\u0301", "Caf\u00e9", True),
        ("Cafe…", "Caf\u00e9 at night", True),
        ("Caf\u00e9…", "Cafe\u0301 at night", True),
        ("A flower on two lines", "A flower\r\n  on two\tlines\n", True),
        ("A flower\non two lines", "A flower on two lines", True),
        (LONG[:40].replace(" ", "\n") + "…", LONG, True),
        ("Aflower", "A flower", False),
    ],
)
def test_a_history_may_cut_prompts_short(shown: str, prompt: str, fits: bool) -> None:  # noqa: FBT001 - a table's column
    """With a mark, or where enough of it is left; and keep them in other forms."""
    other = intent("other", asked=evolve(REQUEST, prompt="!"))
    assert ("a" in found([intent(asked=evolve(REQUEST, prompt=prompt)), other], entry(11, prompt=shown))) is fits


def test_a_beginning_without_a_mark_is_no_proof_of_absence() -> None:
    """It may be a prompt of its own, or be cut short; where somebody has asked for just that, it is his."""
    long, short = (intent(key, asked=evolve(REQUEST, prompt=prompt)) for key, prompt in (("l", LONG), ("s", LONG[:40])))
    cut = entry(11, prompt=LONG[:40])
    assert told(claims([long], cut)) == ({}, set(), {"l"}, [])
    assert told(claims([long, short], cut)) == ({"s": 11}, set(), set(), [])
    for other in (entry(10, prompt=LONG[:40]), entry(11, prompt=LONG[1:40]), entry(11, prompt="A", model="another")):
        assert told(claims([long], other)) == ({}, set(), set(), [])


# --- one intent -------------------------------------------------------------------------------------------------------


def test_nothing_fits() -> None:
    """There is nothing to find, and nothing to wait for."""
    assert told(claims([intent()], entry(9), entry(11, prompt="A tree"))) == ({}, set(), set(), [])


@pytest.mark.parametrize("status", ["completed", "pending", "failed", "a new word"])
def test_what_fits_is_found(status: str) -> None:
    """Whatever has become of it, and before the time to wait is over."""
    assert found([intent()], entry(11, status), early={"a"}) == {"a": 11}


def test_what_is_somebodys_is_not_found() -> None:
    """Another answer named it, or another intent has claimed it."""
    assert found([intent()], entry(12), entry(11), owned={12: None, 11: "b"}) == {}


@pytest.mark.parametrize(("answered", "listed"), [("12", 12), (12, "12")])
def test_a_number_and_its_digits_are_one_id(answered: int | str, listed: int | str) -> None:
    """A POST's answer may tell an id in another form than the history: it is somebody's all the same."""
    known = Known()
    known.own(answered)
    for owned in (known.owners([]), Known().owners([answered])):
        assert found([intent()], entry(listed), owned=owned) == {}
    assert found([intent()], entry(listed), owned=Known().owners(["012", "twelve"])) == {"a": listed}


def test_what_was_claimed_before_is_found_again() -> None:
    """Whoever asks twice gets the same, whatever else is there by now."""
    assert found([intent()], entry(13), entry(12), entry(11), owned={11: "a"}) == {"a": 11}


def test_more_entries_than_intents_are_waited_for_then_the_rest_is_surplus() -> None:
    """The infrastructure may have doubled a POST, or somebody else asked for the same."""
    entries = entry(13, "failed"), entry(12), entry(11, "pending")
    assert told(claims([intent()], *entries, early={"a"})) == ({}, {"a"}, set(), [])
    assert told(claims([intent()], *entries)) == ({"a": 12}, set(), set(), [13, 11])


@pytest.mark.parametrize(
    ("statuses", "taken"),
    [
        (["failed", "pending", "completed"], "completed"),
        (["failed", "pending"], "pending"),
        (["failed", "a new word"], "a new word"),
        (["completed", "completed"], "completed"),
    ],
)
def test_completed_comes_before_pending_before_failed(statuses: list[str], taken: str) -> None:
    """Of several, the caller gets the best; among equals the oldest."""
    entries = [entry(20 - place, status) for place, status in enumerate(statuses)]
    (got,) = claims([intent()], *entries).found.values()
    assert got.status == taken
    assert got is min((each for each in entries if each.status == taken), key=lambda each: int(each.id))


# --- several intents --------------------------------------------------------------------------------------------------


def test_equal_intents_get_one_each() -> None:
    """Three times the same prompt, two entries: two find theirs, one knows that it has none."""
    got, *others = told(claims([intent("a"), intent("b"), intent("c")], entry(12), entry(11)))
    assert sorted(map(str, got.values())) == ["11", "12"]
    assert others == [set(), set(), []]


def test_who_may_have_the_fewest_chooses_first() -> None:
    """One that was sent later cannot own what was there before it."""
    assert found([intent("a", after=10), intent("b", after=11)], entry(12, "failed"), entry(11)) == {"a": 11, "b": 12}
    assert found([intent("a", after=10), intent("b", after=11)], entry(12), entry(11, "failed")) == {"a": 11, "b": 12}


def test_params_count_in_any_order() -> None:
    """Equal requests are equal, however their params are written."""
    one = evolve(REQUEST, params={"duration": 5, "sizes": (1, {"x": 1, "y": 2})})
    two = evolve(REQUEST, params={"sizes": [1, {"y": 2, "x": 1}], "duration": 5})
    assert len(found([intent("a", asked=one), intent("b", asked=two)], entry(12), entry(11))) == 2


def test_what_requests_for_different_things_could_own_is_nobodys() -> None:
    """The history does not show params: a wrong result is worse than an honest "unknown"."""
    got = claims([intent("a"), intent("b", asked=OTHER_PARAMS)], entry(12), entry(11))
    assert told(got) == ({}, set(), {"a", "b"}, [])


def test_what_only_one_of_them_could_own_is_its_own() -> None:
    """The other was sent when it was there already."""
    assert found([intent("a"), intent("b", after=11, asked=OTHER_PARAMS)], entry(11)) == {"a": 11}


def test_prompts_that_the_history_cuts_at_the_same_place_are_disputed() -> None:
    """Nobody can tell them apart."""
    asked = [evolve(REQUEST, prompt=f"{LONG}, number {number}") for number in range(2)]
    got = claims([intent("a", asked=asked[0]), intent("b", asked=asked[1])], entry(11, prompt=f"{LONG}…"))
    assert told(got) == ({}, set(), {"a", "b"}, [])


# --- others -----------------------------------------------------------------------------------------------------------


def test_who_does_not_ask_now_has_a_share() -> None:
    """One in doubt whose turn comes later: too little for both goes to who may have the fewest."""
    later = intent("later", after=11)
    assert found([intent()], entry(12), entry(11), others=[later]) == {"a": 11}
    assert found([intent()], entry(12), others=[later]) == {}
    assert found([intent()], entry(12), others=[later, intent()]) == {}


def test_who_does_not_ask_now_disputes() -> None:
    """It could own that entry just as well."""
    got = claims([intent()], entry(11), others=[intent("b", asked=OTHER_PARAMS)])
    assert told(got) == ({}, set(), {"a"}, [])


def test_whose_generation_is_known_disputes_nothing() -> None:
    """It has its own."""
    other = intent("b", asked=OTHER_PARAMS)
    assert found([intent()], entry(12), entry(11), others=[other], owned={12: "b"}) == {"a": 11}


@pytest.mark.parametrize("asked", [REQUEST, OTHER_PARAMS], ids=["the same", "other params"])
def test_what_a_post_on_its_way_could_own_is_left_to_it(asked: GenerationRequest) -> None:
    """Its answer will tell; until then whoever could own it too waits, even if his time is over."""
    on_its_way = intent("", after=11, at=-math.inf, asked=asked)
    assert told(claims([intent()], entry(12), on_their_way=[on_its_way])) == ({}, {"a"}, set(), [])
    got = claims([intent()], entry(12), entry(11), on_their_way=[on_its_way])
    assert told(got) == ({"a": 11}, set(), set(), [])


def test_a_post_on_its_way_for_something_else_is_no_reason_to_wait() -> None:
    """Another prompt or model."""
    posts = [intent("", asked=evolve(REQUEST, prompt="A tree")), intent("", asked=evolve(REQUEST, model="sora-2"))]
    assert found([intent()], entry(11), on_their_way=posts) == {"a": 11}


# --- absence ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reading", "read"),
    [
        (Reading(entries=[], whole=True), True),
        (Reading(entries=[]), False),  # endless, and nothing to be seen
        (Reading(entries=[entry(13), entry(12)]), False),
        (Reading(entries=[entry(13), entry(10)]), True),
        (Reading(entries=[entry(10), entry(13)]), False),  # not newest first: more may come anywhere
        (Reading(entries=[entry(10), entry(13)], whole=True), True),
        (Reading(entries=[entry(13), entry("gen_1", at=SENT_EARLIER)]), False),  # ids are there, and not so low
        (Reading(entries=[entry("gen_2"), entry("gen_1", at=SENT_EARLIER)]), True),
        (Reading(entries=[entry("gen_1", at=SENT_EARLIER), entry("gen_2")]), False),
        (Reading(entries=[entry("gen_1", at=None)]), False),
        (Reading(entries=[entry("gen_1", at=NOON - 10)], skew=-60.0), False),
        (Reading(entries=[entry("gen_1", at=NOON - 70)], skew=-60.0), True),
    ],
)
def test_absence_needs_a_reading_back_to_before_the_post(reading: Reading, read: bool) -> None:  # noqa: FBT001 - a column
    """Else what is missed may lie behind what was read."""
    assert is_read(intent(), reading) is read


@pytest.mark.parametrize(("at", "read"), [(NOON, False), (SENT_EARLIER, True)])
def test_without_a_known_id_dates_say_how_far_a_reading_went(at: float, read: bool) -> None:  # noqa: FBT001 - a column
    """Nothing was known before the POST."""
    assert is_read(intent(after=None), Reading(entries=[entry(11, at=at)])) is read


# --- what a client knows ----------------------------------------------------------------------------------------------


def test_a_post_on_its_way_is_known_until_it_ends() -> None:
    """With the ids seen before it: what is above may be its own."""
    known = Known()
    with known.sending(REQUEST):
        known.see(17)
        with known.sending(OTHER_PARAMS):
            posts = list(known.on_their_way.values())
    assert known.on_their_way == {}
    assert [(each.request, each.after_id) for each in posts] == [(REQUEST, -1), (OTHER_PARAMS, 17)]
    assert may_be(posts[0], entry(0), skew=0.0)
    assert may_be(posts[0], entry("gen_1", at=0.0), skew=1e9)


def test_posts_have_moments_of_their_own() -> None:
    """They tell equal POSTs apart, also those of one tick of the clock."""
    known = Known()
    assert len({known.moment(NOON) for _ in range(5)}) == 5


def test_the_latest_owners_are_kept() -> None:
    """A client that lives for months stays small."""
    known = Known()
    for number in range(200_001):
        known.own(number)
    assert len(known.owned) == 200_000
    assert known.owners([5, "x"]).keys() >= {5, "x", 200_000}
    assert 0 not in known.owners([])


# --- what must never be -----------------------------------------------------------------------------------------------

PROMPTS = ("A flower", "A tree", f"{LONG} 1", f"{LONG} 2")
ASKED = [evolve(REQUEST, prompt=prompt, params={"duration": seconds}) for prompt in PROMPTS for seconds in (5, 10)]
INTENTS = st.builds(
    intent,
    key=st.sampled_from("abcdefgh"),
    after=st.none() | st.integers(0, 20),
    at=st.floats(NOON - 60, NOON + 60),
    asked=st.sampled_from(ASKED),
)
ENTRIES = st.builds(
    entry,
    st.integers(0, 30) | st.sampled_from(["gen_1", "gen_2", "gen_3"]),
    st.sampled_from(["completed", "pending", "failed"]),
    at=st.none() | st.floats(NOON - 60, NOON + 60),
    prompt=st.sampled_from([*PROMPTS, f"{LONG}…", "A…"]),
    model=st.sampled_from([None, "kling-v2.1", "sora-2"]),
)
WORLDS = st.fixed_dictionaries(
    {
        "intents": st.lists(INTENTS, max_size=6, unique_by=lambda each: each.key),
        "entries": st.lists(ENTRIES, max_size=12, unique_by=lambda each: each.id),
        "others": st.lists(INTENTS, max_size=3, unique_by=lambda each: each.key),
        "on_their_way": st.lists(INTENTS, max_size=2),
        "owned": st.dictionaries(st.integers(0, 30), st.none() | st.sampled_from("abz"), max_size=6),
        "early": st.sets(st.sampled_from("abcdefgh")),
    }
)


def judged(world: dict[str, Any]) -> Claims:
    """Match in a drawn world."""
    known = {name: world[name] for name in ("owned", "others", "on_their_way", "early")}
    return claims(world["intents"], *world["entries"], **known)


@given(WORLDS)
def test_nobody_gets_what_cannot_be_his(world: dict[str, Any]) -> None:
    """No entry twice, none below the floor, none that is somebody's, none that an answer to come may name."""
    owned = world["owned"]
    got = judged(world)
    free = {key: each for key, each in got.found.items() if owned.get(each.id) != key}
    asked = {each.key: each for each in world["intents"]}
    assert len({each.id for each in free.values()}) == len(free)
    for key, each in free.items():
        assert each.id not in owned
        assert may_be(asked[key], each, skew=0.0)
        assert not any(may_be(post, each, skew=0.0) for post in world["on_their_way"])


@given(WORLDS)
def test_nobody_gets_what_one_who_asked_for_something_else_could_own(world: dict[str, Any]) -> None:
    """Unless that one has his own already."""
    got = judged(world)
    done = {key for key in world["owned"].values() if key is not None}
    everybody = {each.key: each for each in (*world["others"], *world["intents"])}
    for key, each in got.found.items():
        if world["owned"].get(each.id) == key:
            continue
        rivals = [one for one in everybody.values() if one.key not in done and may_be(one, each, skew=0.0)]
        assert {one.alike for one in rivals} <= {everybody[key].alike}


@given(WORLDS)
def test_every_intent_hears_one_thing(world: dict[str, Any]) -> None:
    """Found, or open, or disputed, or nothing; and what is found is no surplus."""
    got = judged(world)
    keys = [*got.found, *got.open, *got.disputed]
    assert len(keys) == len(set(keys))
    assert set(keys) <= {each.key for each in world["intents"]}
    assert not {each.id for each in got.surplus} & {each.id for each in got.found.values()}


@given(WORLDS, st.randoms(use_true_random=False))
def test_the_order_of_intents_and_entries_changes_nothing(world: dict[str, Any], dice: random.Random) -> None:
    """Another reading of the same history says the same."""
    shuffled = {**world, "entries": dice.sample(world["entries"], len(world["entries"]))}
    one, two = judged(world), judged(shuffled)
    assert (one.open, one.disputed) == (two.open, two.disputed)
    assert one.found.keys() == two.found.keys()
    everything = {**world, "others": [], "owned": {}, "on_their_way": []}
    turned = {**everything, "intents": everything["intents"][::-1]}
    assert judged(everything).found.keys() == judged(turned).found.keys()


@pytest.mark.parametrize(
    ("shown", "is_proof"),
    [
        (entry(11, prompt=None), False),
        (entry(11, prompt=" "), False),
        (entry(11, prompt=None, model=None), False),
        (entry(11, prompt="A transcript", category="stt"), False),
        (entry("gen_1", prompt=None, at=None), False),
        (entry("gen_1", at=None), False),  # the prompt fits, and nothing says that it is older
        (entry(10, prompt=None), True),
        (entry("gen_1", prompt=None, at=NOON - 60), True),
        (entry(11, prompt=None, model="kling-v2.1-pro"), True),
        (entry("gen_1", prompt="A tree", at=None), True),
    ],
)
def test_what_does_not_say_enough_is_no_proof_of_absence(shown: Generation, is_proof: bool) -> None:  # noqa: FBT001 - a table's column
    """It could be the intent's: so it is not given to it, and nobody says that there is nothing."""
    assert told(claims([intent()], shown)) == ({}, set(), set() if is_proof else {"a"}, [])


def test_what_says_nothing_takes_nothing_away() -> None:
    """An entry that fits is found beside one that could; a newer one that says nothing is not hidden by an older."""
    assert told(claims([intent()], entry(11, prompt=None), entry(12))) == ({"a": 12}, set(), set(), [])
    assert claims([intent()], entry(9, prompt=None), entry(11, prompt=None), entry(8, prompt=None)).disputed == {"a"}


class Counted(Intent):
    """An intent that counts how often anything is held against its time."""

    asked = 0

    def left_between(self, skew: float) -> tuple[float, float]:
        """Count, and answer as ever."""
        Counted.asked += 1
        return super().left_between(skew)


@pytest.mark.parametrize("prompt", [None, "A flower"])
def test_many_that_do_not_say_enough_are_held_against_each_intent_as_one(prompt: str | None) -> None:
    """A long history of recordings, or of a prompt that others begin with, takes no longer than any other."""
    requests = [GenerationRequest("kling-v2.1", f"A flower {number}") for number in range(50)]
    asked = [Counted(key=each.prompt, request=each, sent_at=NOON, after_id=10) for each in requests]
    Counted.asked = 0
    shown = (entry(number, prompt=prompt) for number in range(11, 511))
    assert claims(asked, *shown).disputed == {each.key for each in asked}
    assert Counted.asked < 50 * 20


def test_no_two_posts_leave_at_one_moment() -> None:
    """Clocks may tick slowly; one that is set back is believed."""
    known = Known()
    moments = [known.moment(NOON) for _ in range(1_000)]
    assert len(set(moments)) == 1_000
    assert max(moments) - NOON < 0.1
    assert known.moment(NOON - 3_600) == NOON - 3_600

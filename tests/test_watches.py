"""The line of watches: by when each is due, whoever comes and leaves."""

import random

from neuralbox_async._watches import Line, Watch


def test_the_soonest_come_first_whoever_has_come_and_gone() -> None:
    """However often places change, of one watch or of several at once, the line tells the same as sorting would."""
    chance, line = random.Random(1), Line()
    due: dict[Watch, float] = {}
    watches = [Watch(number) for number in range(300)]
    for _ in range(5_000):
        some = chance.sample(watches, chance.choice([1, 1, 1, 20]))
        if chance.random() < 0.3:
            for watch in some:
                line.leave(watch)
                due.pop(watch, None)
        else:
            at = chance.uniform(0, 1_000)
            line.put(at, *some)
            due |= dict.fromkeys(some, at)
        if chance.random() < 0.02:
            soonest, first = line.soonest(100), line.first()
            assert [due[each] for each in soonest] == sorted(due.values())[:100]
            assert len(set(soonest)) == min(100, len(due)) == min(100, len(line))
            assert first is (soonest[0] if soonest else None)


def test_those_put_together_keep_their_order() -> None:
    """Who came first is first, also where some of a turn have left."""
    line, watches = Line(), [Watch(number) for number in range(4)]
    line.put(2.0, *watches[2:])
    line.put(1.0, *watches[:2])
    line.leave(watches[0])
    assert line.soonest(2) == watches[1:3]
    assert line.soonest(9) == watches[1:]


def test_who_has_left_is_not_kept() -> None:
    """The line does not grow with places given up, neither in turns nor in turns' watches."""
    line, one, stays = Line(), Watch(1), Watch(2)
    line.put(0.0, stays)
    for number in range(10_000):
        line.put(float(number), one, *(Watch(each) for each in range(number % 3)))
        for each in line.soonest(3):
            if each is not stays:
                line.leave(each)
    assert sum(map(len, line._heap)) < 500  # noqa: SLF001 - what must not grow

"""The line of watches: by when each is due, whoever comes and leaves."""

import random

from neuralbox_async._watches import Line, Watch


def test_the_soonest_come_first_whoever_has_come_and_gone() -> None:
    """However often places change, the line tells the same as sorting would."""
    chance, line = random.Random(1), Line()
    due: dict[int, float] = {}
    watches = [Watch(number) for number in range(300)]
    for _ in range(5_000):
        watch = chance.choice(watches)
        if chance.random() < 0.3:
            line.leave(watch)
            due.pop(int(watch.generation_id), None)
        else:
            due[int(watch.generation_id)] = chance.uniform(0, 1_000)
            line.put(watch, due[int(watch.generation_id)])
        if chance.random() < 0.02:
            expected = sorted(due, key=lambda number: due[number])
            first = line.first()
            assert (None if first is None else first.generation_id) == (expected[0] if expected else None)
            assert [each.generation_id for each in line.soonest(100)] == expected[:100]


def test_who_has_left_is_not_kept() -> None:
    """The line does not grow with places given up."""
    line, watch = Line(), Watch(1)
    for number in range(10_000):
        line.put(watch, float(number))
    assert len(line._heap) < 200  # noqa: SLF001 - what must not grow

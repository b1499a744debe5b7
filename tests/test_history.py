"""Reading the history: every generation once, whatever arrives meanwhile."""

import pytest

from neuralbox_async import ResponseError
from neuralbox_async.sandbox import Sandbox, faults

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("family", ["a", "b"])
async def test_every_generation_comes_once_newest_first(family: str) -> None:
    """Pages are asked for as they are needed, and the last one is known as the last."""
    sandbox = Sandbox(family=family, balance=10_000)
    ids = [sandbox.book("luma-ray2-flash", f"clip {number}") for number in range(250)]
    async with sandbox.client() as nb:
        read = [each async for each in nb.history()]
    assert [each.id for each in read] == ids[::-1]
    assert [each.prompt for each in read][:2] == ["clip 249", "clip 248"]
    assert all(each.partial for each in read)
    assert sandbox.requests.total == 3


async def test_what_arrives_while_paging_repeats_nothing_and_hides_nothing() -> None:
    """Offset pages shift when something new comes in at the top."""
    sandbox = Sandbox(balance=10_000)
    ids = [sandbox.book("luma-ray2-flash", f"clip {number}") for number in range(150)]
    read: list[int | str] = []
    async with sandbox.client() as nb:
        async for each in nb.history():
            if len(read) == 50:
                for number in range(30):
                    sandbox.book("luma-ray2-flash", f"late {number}")
            read.append(each.id)
    assert read == ids[::-1]


async def test_an_iterator_may_be_left_and_asks_for_no_more_than_it_gave() -> None:
    """Whoever wants the newest ones pays for one page."""
    sandbox = Sandbox(balance=10_000)
    for number in range(250):
        sandbox.book("luma-ray2-flash", f"clip {number}")
    async with sandbox.client() as nb:
        async for each in nb.history():
            assert each.prompt == "clip 249"
            break
    assert sandbox.requests.total == 1


async def test_an_empty_history_is_over_at_once() -> None:
    """A new account has none."""
    sandbox = Sandbox()
    async with sandbox.client() as nb:
        assert [each async for each in nb.history()] == []
    assert sandbox.requests.total == 1


async def test_an_odd_answer_is_an_error_and_no_end() -> None:
    """A proxy's page must not be taken for an empty history."""
    sandbox = Sandbox()
    sandbox.order(faults.html(200), on="GET /user/history", times=None)
    async with sandbox.client() as nb:
        with pytest.raises(ResponseError, match="history"):
            _ = [each async for each in nb.history(timeout=5)]


@pytest.mark.parametrize("family", ["a", "b"])
async def test_a_result_that_an_entry_leaves_out_is_asked_for(family: str) -> None:
    """An entry of the history is taken for the generation that it stands for, with or without its text."""
    async with Sandbox(family=family).client() as nb:
        text = (await nb.generate("gpt-5", "Hello")).text
        entries = [each async for each in nb.history()]
        assert [(await nb.read(each)).decode() for each in entries] == [text]


async def test_an_entry_is_listed_after_the_lag_with_a_short_prompt() -> None:
    """The sandbox's history can be late and curt, as real ones are."""
    sandbox = Sandbox(history_lag=10, history_prompt_length=5)
    sandbox.book("luma-ray2-flash", "A lighthouse")
    async with sandbox.client() as nb:
        assert [each async for each in nb.history()] == []
        sandbox.fast_forward(10)
        assert [each.prompt async for each in nb.history()] == ["A lig…"]

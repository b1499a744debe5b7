"""What a run would cost and take is told before anything is paid: rules as tables, and the command on the sandbox."""

import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from neuralbox_async import GenerationRequest, RateLimit
from neuralbox_async.extras.cli.dry_run import show_page
from neuralbox_async.extras.cli.estimate import MOST_KINDS, MOST_OWN, MOST_QUESTIONS, Counted, Estimate, Item
from neuralbox_async.sandbox import CATALOGUE, Sandbox, faults

TEXT = {"model": "gpt-5", "prompt": "Hello"}
CLIP = {"model": "kling-v2.1", "prompt": "A flower"}
HOUR = 3_600.0


def write(tmp_path: Path, *lines: object) -> Path:
    """Write a file of JSON lines."""
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def made(*items: Item, limits: RateLimit | None = None, at_once: int = 10) -> Estimate:
    """Return an estimate."""
    return Estimate(
        items=items,
        before=0,
        bad_lines=0,
        balance=1_500,
        plan=None,
        limits=limits or RateLimit(),
        max_concurrency=at_once,
    )


def test_dry_run(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """Items, cost, requests and time are told; no POST is sent, no file and no ledger is made."""
    lines = [*[TEXT] * 3, CLIP, {**CLIP, "params": {"duration": 10}}, {"prompt": "no model"}]
    ended = cli.run("bulk", write(tmp_path, *lines), "--out", tmp_path / "out", "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    assert "5 items to send, 1 line not usable" in ended.out
    assert "Cost: 126 tokens; the balance is 1,500\n" in ended.out
    assert "Requests: 5 POSTs, and up to about 10 looks" in ended.out
    assert "Time: about 45 s to 2 min, 16 at once" in ended.out
    assert service.requests.posts == len(service.charges) == 0
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("service")
def test_what_is_not_sent_is_named(cli: Any, tmp_path: Path) -> None:
    """A column that was meant as an option of the model is seen before it is paid without."""
    table = tmp_path / "prompts.csv"
    table.write_text("prompt,duration,param.size\nA flower,5,1x1\n")
    told = ("bulk", table, "--model", "kling-v2.1", "--dry-run")
    assert "Yours, echoed and not sent: duration\n" in cli.run(*told).out
    assert cli.run(*told, "--json").records[0]["own_fields"] == ["duration"]
    assert "not sent" not in cli.run("bulk", write(tmp_path, CLIP), "--dry-run").out


def test_own_fields_are_few() -> None:
    """However many fields an input has, the first few are named."""
    counted = Counted()
    counted.name(map(str, range(3 * MOST_OWN)))
    assert list(counted.own) == list(map(str, range(MOST_OWN)))


@pytest.mark.usefixtures("service")
def test_as_json(cli: Any, tmp_path: Path) -> None:
    """A script gets the same as one object."""
    (record,) = cli.run("bulk", write(tmp_path, TEXT, TEXT), "--dry-run", "--json").records
    assert (record["items"], record["tokens"], record["balance"], record["seconds"][1]) == (2, [4, 4], 1_500, 4.0)
    assert record["by_model"] == [{"model": "gpt-5", "items": 2, "tokens_each": [2, 2]}]


def test_too_expensive(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """What the account cannot pay is said aloud, and is no failure."""
    service.world.account.tokens = 25
    ended = cli.run("bulk", write(tmp_path, CLIP), "--dry-run")
    assert ended.code == 0
    assert "Cost: 26 tokens; the balance is 25: NOT ENOUGH" in ended.out


def test_a_price_that_nobody_tells(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """The cost is then unknown, and nothing is made up."""
    service.order(faults.status(404), on="GET /models", times=None)
    service.order(faults.status(404), on="POST /models/{slug}/calculate-price", times=None)
    ended = cli.run("bulk", write(tmp_path, TEXT), "--dry-run")
    assert ended.code == 0
    assert "Cost: unknown for 1 item, as the service does not tell their price" in ended.out


def test_a_price_that_the_list_of_models_tells(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """A kind without an answer of its own costs what its model may, by the list."""
    service.order(faults.status(404), on="POST /models/{slug}/calculate-price", times=None)
    ended = cli.run("bulk", write(tmp_path, CLIP), "--dry-run")
    assert "Cost: 26 to 94 tokens" in ended.out


def test_more_models_than_questions(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """However many models a batch has, each has a price in the list, so the cost is known."""
    lines = [{"model": slug, "prompt": "A fox"} for slug in list(CATALOGUE)[: MOST_QUESTIONS + 5]]
    (record,) = cli.run("bulk", write(tmp_path, *lines), "--dry-run", "--json").records
    assert record["tokens"] is not None
    assert service.requests.total <= MOST_QUESTIONS + 2


def test_what_is_known_is_a_lower_bound(capsys: pytest.CaptureFixture[str]) -> None:
    """An item without a price does not hide what the others cost, nor that it is too much already."""
    found = made(Item(model="a", count=3, tokens=(2, 4)), Item(model="b", count=2, tokens=None))
    show_page(evolve(found, balance=5))
    said = " ".join(capsys.readouterr().out.split())
    assert "at least 6 tokens, and unknown for 2 items" in said
    assert "NOT ENOUGH" in said


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (RateLimit(), ""),
        (RateLimit(limit_hour=0, limit_day=0), ""),
        (RateLimit(limit_hour=100, remaining_hour=10), "; 10 of 100 left this hour"),
        (
            RateLimit(limit_hour=100, remaining_hour=1, limit_day=1_000, remaining_day=0),
            "; 1 of 100 left this hour, 0 of 1,000 left today",
        ),
        (RateLimit(limit_hour=100), "; at most 100 an hour"),
        (
            RateLimit(limit_hour=100, remaining_hour=10, limit_day=1_000),
            "; 10 of 100 left this hour, at most 1,000 a day",
        ),
        (RateLimit(limit_day=1_000, remaining_day=7), "; 7 of 1,000 left today"),
    ],
    ids=["no plan", "unlimited", "an hour", "both", "not known", "a day not known", "a day"],
)
def test_what_is_left_of_the_plan(capsys: pytest.CaptureFixture[str], limits: RateLimit, said: str) -> None:
    """As far as the service tells; where it does not, the limit alone is said."""
    show_page(made(Item(model="gpt-5", count=5, tokens=(2, 2)), limits=limits))
    assert f"Requests: 5 POSTs{said}\n" in capsys.readouterr().out


def test_one_is_not_many(capsys: pytest.CaptureFixture[str]) -> None:
    """Each number has its own word."""
    found = evolve(made(Item(model="new", count=1, tokens=(1, 1))), bad_lines=1)
    show_page(found)
    said = capsys.readouterr().out
    assert "1 item to send, 1 line not usable\n" in said
    assert "Cost: 1 token; " in said
    assert "Requests: 1 POST, and up to about " in said
    show_page(evolve(found, items=[*found.items, Item(model="a", count=1, tokens=None)]))
    assert "Cost: at least 1 token, and unknown for 1 item, as" in capsys.readouterr().out


def test_many_models_fit_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    """Of more than twenty rows the last say how many items there are besides."""
    show_page(made(*[Item(model=f"model-{number:02}", count=3, tokens=(2, 2)) for number in range(25)]))
    out = capsys.readouterr().out
    assert "model-19" in out
    assert "model-20" not in out
    assert ["others", "15"] in [line.split() for line in out.splitlines()]


def test_what_the_ledger_has_is_not_counted_again(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """Of two equal lines, one of which is done, one is left; the same line under a new key is another item."""
    cli.run("bulk", write(tmp_path, TEXT, {**TEXT, "key": "a"}), "--out", tmp_path / "out")
    lines = [TEXT, TEXT, {**TEXT, "key": "a"}, {**TEXT, "key": "b"}]
    charged = len(service.charges)
    ended = cli.run("bulk", write(tmp_path, *lines), "--out", tmp_path / "out", "--dry-run")
    assert "2 items to send, 2 more in the ledger already" in ended.out
    assert len(service.charges) == charged


def test_many_kinds_take_few_questions(cli: Any, service: Sandbox, tmp_path: Path) -> None:
    """A seed in each line makes each its own kind: some prices are asked for, the rest is what the model may cost."""
    lines = [{"model": "dall-e-3", "prompt": "A fox", "params": {"seed": number}} for number in range(60)]
    (record,) = cli.run("bulk", write(tmp_path, *lines), "--dry-run", "--json").records
    assert record["tokens"] == [300, 20 * 5 + 40 * 13]
    assert service.requests.total <= MOST_QUESTIONS + 2


def test_kinds_are_counted_in_bounded_memory() -> None:
    """However many kinds there are, no item is lost."""
    counted = Counted()
    for number in range(3 * MOST_KINDS):
        counted.add(GenerationRequest("m", "p", {"seed": number}))
    assert counted.kinds.total() == 3 * MOST_KINDS
    assert len(counted.kinds) == MOST_KINDS + 1


def test_a_refused_key(cli: Any, service: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account is asked first, so a refusal shows before the run."""
    monkeypatch.setenv("NEURALBOX_API_KEY", "nb_a_key_that_nobody_knows")
    assert cli.run("bulk", write(tmp_path, TEXT), "--dry-run").code == 4
    assert service.requests.total == 1


@pytest.mark.parametrize(
    ("items", "tokens"),
    [
        ([], (0, 0)),
        ([(3, (2, 2)), (2, (5, 13))], (16, 32)),
        ([(3, (2, 2)), (1, None)], None),
    ],
)
def test_tokens(items: list[tuple[int, tuple[int, int] | None]], tokens: tuple[int, int] | None) -> None:
    """Prices add up to a range; one that is unknown makes the sum unknown."""
    assert made(*[Item(model="m", count=count, tokens=each) for count, each in items]).tokens == tokens


@pytest.mark.parametrize(
    ("count", "limits", "seconds"),
    [
        (10, RateLimit(), (0.8, 4.0)),
        (10, RateLimit(limit_hour=100, remaining_hour=10), (0.8, 4.0)),
        (11, RateLimit(limit_hour=100, remaining_hour=10), (HOUR, HOUR + 0.88)),
        (311, RateLimit(limit_hour=100, remaining_hour=10), (4 * HOUR, 4 * HOUR + 24.88)),
        (50, RateLimit(limit_hour=0, limit_day=40, remaining_day=40), (24 * HOUR, 24 * HOUR + 4)),
    ],
)
def test_time(count: int, limits: RateLimit, seconds: tuple[float, float]) -> None:
    """Time is what the models take, as many at once as allowed, or as long as the plan's windows are closed."""
    assert made(Item(model="gpt-5", count=count, tokens=None), limits=limits).seconds == pytest.approx(seconds)

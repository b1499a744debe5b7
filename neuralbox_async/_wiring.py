"""How a client is put together: every option is checked, what is not given comes from the environment or a default."""

import inspect
import os
from collections.abc import Collection, Mapping
from enum import Enum
from typing import Any, Final, Literal
from weakref import WeakSet

from attrs import evolve

from neuralbox_async._core.addresses import DEFAULT_BASE_URL, checked_base_url, checked_hosts, checked_key
from neuralbox_async._core.budget import Budget, Reservations
from neuralbox_async._core.errors import UsageError
from neuralbox_async._core.known import Known
from neuralbox_async._core.limits import Rate
from neuralbox_async._core.options import check_kinds, checked_budgets, checked_count, checked_seconds
from neuralbox_async._core.pacing import Pacing
from neuralbox_async._edge.http import Http, Key
from neuralbox_async._edge.log import Observer, log
from neuralbox_async._edge.slots import HttpClient, Slots
from neuralbox_async._looks import Looks
from neuralbox_async._spending import Prices
from neuralbox_async._steps import Steps
from neuralbox_async._watches import Jobs

_KINDS: Final[Mapping[str, Any]] = {"http_client": HttpClient, "pacing": Pacing, "rate": Rate}


class Same(Enum):
    """The value of an option that a view takes over from the client it was made of."""

    SAME = "same"


SAME: Final = Same.SAME


def wired(
    *,
    api_key: str | None,
    base_url: str | None,
    max_retries: int,
    http_client: HttpClient | None,
    max_connections: int,
    look_price: float,
    poll_interval: float | None,
    pacing: Pacing | None,
    rate: Rate | None,
    budget: Budget | int | None,
    file_hosts: Collection[str] | None,
    allow_insecure_http: bool,
    observe: Observer | None,
) -> Steps:
    """Return what a client of these options can do; raises UsageError for one that cannot work."""
    check_kinds(_KINDS, http_client=http_client, pacing=pacing, rate=rate)
    address = base_url or os.environ.get("NEURALBOX_BASE_URL") or DEFAULT_BASE_URL
    origin, budgets = checked_base_url(address, allow_insecure_http=allow_insecure_http), checked_budgets(budget)
    http = Http(
        base_url=origin,
        key=Key(checked_key(api_key if api_key is not None else os.environ.get("NEURALBOX_API_KEY"))),
        slots=Slots(max_connections, http_client),
        rate=Rate() if rate is None else rate,
        known=Known(),
        reservations=Reservations(origin=origin, budgets=WeakSet(budgets)),
        file_hosts=checked_hosts(file_hosts),
        observe=_checked_observer(observe),
        max_retries=checked_count("max_retries", max_retries, least=0),
    )
    looks = Looks(
        http=http,
        pacing=Pacing() if pacing is None else pacing,
        jobs=Jobs(),
        look_price=checked_seconds("look_price", look_price),
        poll_interval=_checked_interval(poll_interval),
    )
    return Steps(http=http, looks=looks, prices=Prices(), budgets=budgets)


def rewired(
    steps: Steps,
    *,
    max_retries: int | Literal[Same.SAME],
    look_price: float | Literal[Same.SAME],
    poll_interval: float | Literal[Same.SAME] | None,
    observe: Observer | Literal[Same.SAME] | None,
) -> Steps:
    """Return the same with other options; whatever is shared stays shared."""
    http, looks = steps.http, steps.looks
    if max_retries is not SAME:
        http = evolve(http, max_retries=checked_count("max_retries", max_retries, least=0))
    if observe is not SAME:
        http = evolve(http, observe=_checked_observer(observe))
    if look_price is not SAME:
        looks = evolve(looks, look_price=checked_seconds("look_price", look_price))
    if poll_interval is not SAME:
        looks = evolve(looks, poll_interval=_checked_interval(poll_interval))
    return evolve(steps, http=http, looks=evolve(looks, http=http))


def _checked_interval(seconds: float | None) -> float | None:
    return None if seconds is None else checked_seconds("poll_interval", seconds)


def _checked_observer(observe: Observer | None) -> Observer:
    if observe is None:
        return log
    if not callable(observe) or any(map(inspect.iscoroutinefunction, (observe, type(observe).__call__))):
        raise UsageError(f"observe= takes a plain function, which is called and not awaited, not {observe!r}.")
    return observe

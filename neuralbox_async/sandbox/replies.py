"""A job is told in the words of one documented reply family, with the fields those pages omit left out.

Family "a" is what the quickstart shows, "b" what the older pages show (contract §0); `samples/` of the contract are the
shapes. Where no sample shows a kind of result, its nearest neighbour's shape is taken.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from neuralbox_async.sandbox import results
from neuralbox_async.sandbox.account import Job
from neuralbox_async.sandbox.calendar import Calendar
from neuralbox_async.sandbox.desk import Mark
from neuralbox_async.sandbox.plans import Plan

Reply = dict[str, Any]


@frozen(kw_only=True)
class View:
    """What a reply needs besides the job: when and from where it is seen, what is left, what its owner did to it."""

    now: float
    origin: str
    balance: int
    calendar: Calendar
    mark: Callable[[Job], Mark]

    def link(self, folder: str, name: str | None) -> str | None:
        """Return the address of a file on the host that the client talks to."""
        return name and f"{self.origin}/{folder}/{name}"


@frozen(kw_only=True)
class Family:
    """One documented family: how ids look, and what the replies say.

    `listed` is what a page of the history says besides its entries, `streamed` what the end of a stream says.
    """

    identify: Callable[[int], int | str]
    created: Callable[[Job, View], Reply]
    looked_at: Callable[[Job, View], Reply]
    entry: Callable[[Job, str, str, View], Reply]
    listed: Callable[[int, int, int], Reply]
    balance: Callable[[Plan, int, Calendar], Reply]
    streamed: Callable[[Job, View], Reply]


def _created_a(job: Job, view: View) -> Reply:
    match job.status(view.now):
        case "failed":
            return _failed_a(job)
        case "pending":
            return {**_head_a(job, view), "processing_ms": None, "created_at": view.calendar.iso(job.created)}
        case _ if job.model.kind == "stt":
            return _heard_a(job, view)
        case _ if job.model.writes:
            return _text_a(job, view)
        case _:
            return {
                **_head_a(job, view),
                "result_url": view.link("generations", results.file_name(job)),
                "tokens_spent": job.cost,
                "result_metadata": results.metadata(job),
            }


def _looked_at_a(job: Job, view: View) -> Reply:
    match job.status(view.now):
        case "failed":
            return _failed_a(job)
        case "pending":
            return {**_head_a(job, view), "result_url": None, "tokens_spent": 0}
        case _ if job.model.writes:
            return _text_a(job, view)
        case _:
            return {
                **_head_a(job, view),
                "result_url": view.link("generations", results.file_name(job)),
                "thumbnail_url": _thumbnail_link(job, view),
                "tokens_spent": job.cost,
                "processing_ms": _processing_ms(job),
                "result_metadata": results.metadata(job),
            }


def _head_a(job: Job, view: View) -> Reply:
    return {"id": job.id, "status": job.status(view.now), "model_slug": job.model.slug}


def _failed_a(job: Job) -> Reply:
    return {"id": job.id, "status": "failed", "error": job.error, "tokens_spent": 0}


def _text_a(job: Job, view: View) -> Reply:
    return {
        **_head_a(job, view),
        "result_text": results.text(job),
        "result_url": None,
        "thumbnail_url": None,
        "error": None,
        "tokens_spent": job.cost,
        "processing_ms": _processing_ms(job),
        "result_metadata": None,
    }


def _heard_a(job: Job, view: View) -> Reply:
    text = {"result_text": results.text(job), "tokens_spent": job.cost}
    return {**_head_a(job, view), **text, "processing_ms": _processing_ms(job)}


def _processing_ms(job: Job) -> int:
    return round((job.due - job.created) * 1000)


def _thumbnail_link(job: Job, view: View) -> str | None:
    return view.link("thumbnails", f"{job.id}.png") if job.model.kind == "video" else None


def _entry_a(job: Job, prompt: str, category: str, view: View) -> Reply:
    head, mark = _head_a(job, view), view.mark(job)
    completed = head["status"] == "completed"
    return {
        **head,
        "model_name": job.model.slug,
        "category": category,
        "prompt": prompt,
        "result_text": results.text(job) if completed else None,
        "result_url": view.link("generations", results.file_name(job)) if completed else None,
        "tokens_spent": job.cost if completed else 0,
        "is_favorited": mark.is_favorited,
        "user_rating": mark.user_rating,
        "created_at": view.calendar.iso(job.created),
    }


def _told_b(job: Job, view: View) -> Reply:
    created = {"created_at": view.calendar.iso(job.created)}
    head = {"id": job.id, "status": job.status(view.now), "model": job.model.slug}
    match job.status(view.now):
        case "failed":
            return {**head, "error": job.error, "tokens_used": 0, **created}
        case "pending":
            return {**head, **_progress(job, view), **created}
        case _:
            return _completed_b(job, view, head, created)


def _completed_b(job: Job, view: View, head: Reply, created: Reply) -> Reply:
    url = view.link("generations", results.file_name(job))
    spent = {"tokens_used": job.cost, "balance_remaining": view.balance}
    match job.model.kind:
        case "text" | "stt":
            usage = {"prompt_tokens": len(job.prompt.split()), "completion_tokens": 24}
            return {**head, "content": results.text(job), **spent, "usage": usage, **created}
        case "music" | "speech":
            seconds = (results.metadata(job) or {}).get("duration", 1)
            audio = {"output_url": url, "duration_seconds": seconds, "tokens_used": job.cost}
            return {"id": job.id, "status": "completed", "type": "audio", "model": job.model.slug, **audio, **created}
        case _:
            ended = {"completed_at": view.calendar.iso(job.due)}
            return {**head, "url": url, **(results.metadata(job) or {}), **spent, **created, **ended}


def _progress(job: Job, view: View) -> Reply:
    share = (view.now - job.created) / (job.due - job.created)
    return {"progress": int(100 * share), "eta_seconds": view.calendar.seconds(job.due - view.now)}


def _entry_b(job: Job, prompt: str, category: str, view: View) -> Reply:
    completed = job.status(view.now) == "completed"
    shown = {"type": category, "prompt": prompt, "created_at": view.calendar.iso(job.created)}
    head = {"id": job.id, "model": job.model.slug, "status": job.status(view.now), **shown}
    url = view.link("generations", results.file_name(job)) if completed else None
    return {**head, "url": url, "tokens_used": job.cost if completed else 0}


def _listed_a(total: int, page: int, limit: int) -> Reply:
    return {"total": total, "page": page, "limit": limit}


def _listed_b(total: int, page: int, limit: int) -> Reply:
    return {**_listed_a(total, page, limit), "pages": math.ceil(total / limit)}


def _balance_a(plan: Plan, tokens: int, calendar: Calendar) -> Reply:
    return {"token_balance": tokens, "plan": plan.name, "plan_expires_at": _expiry(plan, calendar)}


def _balance_b(plan: Plan, tokens: int, calendar: Calendar) -> Reply:
    return {
        "plan": plan.name,
        "token_balance": tokens,
        "plan_tokens_remaining": tokens,
        "bonus_tokens": 0,
        "plan_expires_at": _expiry(plan, calendar),
        "next_refill_at": _expiry(plan, calendar),
    }


def _expiry(plan: Plan, calendar: Calendar) -> str | None:
    return None if plan.name == "free" else calendar.plan_expiry()


FAMILIES: Mapping[str, Family] = {
    "a": Family(
        identify=lambda number: 18_499 + number,
        created=_created_a,
        looked_at=_looked_at_a,
        entry=_entry_a,
        listed=_listed_a,
        balance=_balance_a,
        streamed=lambda job, _view: {"id": job.id, "tokens_spent": job.cost},
    ),
    "b": Family(
        identify=lambda number: f"gen_01j9x2{number:06d}",
        created=_told_b,
        looked_at=_told_b,
        entry=_entry_b,
        listed=_listed_b,
        balance=_balance_b,
        streamed=lambda job, view: {"id": job.id, "tokens_used": job.cost, "balance_remaining": view.balance},
    ),
}
"""The two documented families by name."""


def find_family(name: str) -> Family:
    """Return the family of this name; raise ValueError for any but "a" and "b"."""
    if name not in FAMILIES:
        raise ValueError(f'unknown reply family {name!r}: choose "a" (the quickstart\'s) or "b" (the older pages\')')
    return FAMILIES[name]

"""An account and its models are told in the documented words; both families have the same ones (contract §6, §8)."""

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from neuralbox_async.sandbox.catalogue import Model
from neuralbox_async.sandbox.history import CATEGORIES, category

if TYPE_CHECKING:
    from neuralbox_async.sandbox.world import World

Reply = dict[str, Any]
_PRICING: Final = {"image": "matrix", "video": "per_second"}
_STATS: Final = {"speech": "audio", "stt": "audio", "tool": "tools"}
_TOKEN_LIMITS: Final = {"free": 50, "basic": 300, "pro": 700, "vip": 1_500, "elite": 3_000}
RECENT_SECONDS: Final = 30 * 86_400.0


def model(model: Model) -> Reply:
    """Tell what a model is."""
    low, high = model.tokens
    return {
        "slug": model.slug,
        "name": model.slug,
        "category": CATEGORIES.get(model.kind, model.kind),
        "provider": "Sandbox",
        "min_plan": model.min_plan,
        "token_cost": model.price({}),
        "min_token_cost": low,
        "max_token_cost": high,
        "description_en": f"A sandbox's own {model.kind} model",
        "supports_streaming": model.kind == "text",
        "config": _config(model),
    }


def _config(model: Model) -> Reply:
    if model.kind != "image":
        return {}
    sizes = ["1024x1024", "1024x1792", "1792x1024"]
    return {"sizes": sizes, "formats": ["webp", "png", "jpeg"], "quality_options": ["standard", "hd"]}


def price(model: Model, params: Mapping[str, Any]) -> Reply:
    """Tell what one generation would cost."""
    low, high = model.tokens
    pricing = "fixed" if low == high else _PRICING.get(model.kind, "matrix")
    return {
        "token_cost": model.price(params),
        "min_token_cost": low,
        "max_token_cost": high,
        "pricing_type": pricing,
    }


def profile(world: "World") -> Reply:
    """Tell whose account it is."""
    plan, account = world.plan, world.account
    return {
        "id": 1042,
        "name": world.desk.profile["name"],
        "email": "user@example.com",
        "telegram_username": "example_user",
        "avatar_url": world.desk.profile["avatar_url"],
        "plan": plan.name,
        "plan_expires_at": world.calendar.plan_expiry(),
        "token_balance": account.tokens,
        "token_limit": _TOKEN_LIMITS.get(plan.name, 0),
        "tokens_used_this_period": sum(charge.tokens for charge in account.charges),
        "rate_limit_hourly": plan.per_hour or 0,
        "rate_limit_daily": plan.per_day or 0,
        "auth_methods": {"telegram": True, "google": False, "email": True},
    }


def stats(world: "World") -> Reply:
    """Tell what was generated: completed generations only."""
    done = [job for job in world.jobs.values() if job.status(world.now) == "completed"]
    breakdown: defaultdict[str, Reply] = defaultdict(lambda: {"count": 0, "tokens": 0})
    for name in ("text", "image", "video", "audio", "tools"):
        breakdown[name]["count"] = 0
    for job in done:
        kind = breakdown[_STATS.get(job.model.kind, category(job))]
        kind["count"] += 1
        kind["tokens"] += job.cost
    recent = [job for job in done if world.now - job.created <= RECENT_SECONDS / world.calendar.speed]
    return {
        "total_generations": len(done),
        "tokens_spent_total": sum(job.cost for job in done),
        "breakdown": dict(breakdown),
        "recent_30d": {"generations": len(recent), "tokens_spent": sum(job.cost for job in recent)},
    }

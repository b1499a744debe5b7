"""What each request does, one function for each method and path template; the world calls it once it is let in.

Templates have `{…}` where an id, a slug or a name stands; the function is given what stands there.
"""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from neuralbox_async.sandbox import account_replies, results
from neuralbox_async.sandbox.account import Job
from neuralbox_async.sandbox.streaming import stream_answer
from neuralbox_async.sandbox.validation import Wanted, read_audio, read_body, read_wanted
from neuralbox_async.sandbox.wire import JSON, Answer, Ask, error_answer, file_answer, json_answer

if TYPE_CHECKING:
    from neuralbox_async.sandbox.world import World

Route = Callable[["World", Ask, str], Answer]
PREFIX = "/api/v2"


def _generate(world: "World", ask: Ask, _name: str) -> Answer:
    wanted = read_wanted(ask.body)
    if isinstance(wanted, Answer):
        return wanted
    if _kind(world, wanted) == "stt":
        return error_answer(400, "bad_request", f"{wanted.model} wants audio: POST /stt")
    return world.generate(wanted, ask)


def _hear(world: "World", ask: Ask, _name: str) -> Answer:
    wanted = read_audio(ask.body, ask.headers.get("content-type", ""))
    if isinstance(wanted, Answer):
        return wanted
    if _kind(world, wanted) not in ("stt", None):
        return error_answer(400, "bad_request", f"{wanted.model} does not hear")
    return world.generate(wanted, ask)


def _kind(world: "World", wanted: Wanted) -> str | None:
    model = world.models.get(wanted.model)
    return None if model is None else model.kind


def _stream(world: "World", ask: Ask, _name: str) -> Answer:
    wanted = read_wanted(ask.body)
    if isinstance(wanted, Answer):
        return wanted
    if _kind(world, wanted) not in ("text", None):
        return error_answer(400, "bad_request", f"{wanted.model} does not stream")
    job = world.accept(wanted)
    return job if isinstance(job, Answer) else stream_answer(job, world.family, world.view(ask, job.due))


def _look(world: "World", ask: Ask, name: str) -> Answer:
    job = world.jobs.get(name)
    return not_found(f"Generation {name}") if job is None else json_answer(world.told(job, ask))


def _balance(world: "World", _ask: Ask, _name: str) -> Answer:
    return json_answer(world.family.balance(world.plan, world.account.tokens, world.calendar))


def _history(world: "World", ask: Ask, _name: str) -> Answer:
    return file_answer(world.history_page(ask).encode(), JSON)


def _favorite(world: "World", _ask: Ask, name: str) -> Answer:
    mark = world.mark(name)
    if mark is None:
        return not_found(f"Generation {name}")
    mark.is_favorited = not mark.is_favorited
    return json_answer({"id": world.jobs[name].id, "is_favorited": mark.is_favorited})


def _rate(world: "World", ask: Ask, name: str) -> Answer:
    mark, read = world.mark(name), read_body(ask.body, rating=int | float)
    if mark is None:
        return not_found(f"Generation {name}")
    if isinstance(read, Answer):
        return read
    mark.user_rating = read["rating"]
    return json_answer({"id": world.jobs[name].id, "user_rating": mark.user_rating})


def _delete(world: "World", _ask: Ask, name: str) -> Answer:
    if world.mark(name) is None:
        return not_found(f"Generation {name}")
    del world.listed[name]
    return Answer(status=204)


def _models(world: "World", _ask: Ask, _name: str) -> Answer:
    items = [account_replies.model(each) for each in world.models.values()]
    return json_answer({"items": items, "total": len(items)})


def _model(world: "World", _ask: Ask, name: str) -> Answer:
    found = world.models.get(name)
    return not_found(f"Model {name!r}") if found is None else json_answer(account_replies.model(found))


def _price(world: "World", ask: Ask, name: str) -> Answer:
    found, read = world.models.get(name), read_body(ask.body)
    if found is None:
        return not_found(f"Model {name!r}")
    if isinstance(read, Answer):
        return read
    return json_answer(account_replies.price(found, read.get("params") or {}))


def _me(world: "World", _ask: Ask, _name: str) -> Answer:
    return json_answer(account_replies.profile(world))


def _change_me(world: "World", ask: Ask, _name: str) -> Answer:
    return _changed(world.desk.profile, ask)


def _stats(world: "World", _ask: Ask, _name: str) -> Answer:
    return json_answer(account_replies.stats(world))


def _settings(world: "World", _ask: Ask, _name: str) -> Answer:
    return json_answer(world.desk.settings)


def _change_settings(world: "World", ask: Ask, _name: str) -> Answer:
    return _changed(world.desk.settings, ask)


def _changed(kept: dict[str, Any], ask: Ask) -> Answer:
    read = read_body(ask.body)
    if isinstance(read, Answer):
        return read
    unknown = [name for name in read if name not in kept]
    if unknown:
        return error_answer(400, "bad_request", f"Cannot be changed: {unknown[0]}")
    kept.update(read)
    return json_answer(kept)


def _create_key(world: "World", ask: Ask, _name: str) -> Answer:
    read = read_body(ask.body, name=str)
    if isinstance(read, Answer):
        return read
    made = {**world.desk.make_key(read["name"]), "created_at": world.calendar.iso(world.now)}
    return json_answer(made, status=201)


def _rename_key(world: "World", ask: Ask, name: str) -> Answer:
    key, read = world.desk.keys.get(name), read_body(ask.body, name=str)
    if key is None:
        return not_found(f"Key {name}")
    if isinstance(read, Answer):
        return read
    key["name"] = read["name"]
    return json_answer({"id": key["id"], "name": key["name"]})


def _revoke_key(world: "World", _ask: Ask, name: str) -> Answer:
    return not_found(f"Key {name}") if world.desk.keys.pop(name, None) is None else Answer(status=204)


def _result(world: "World", _ask: Ask, name: str) -> Answer:
    job = _completed(world, name)
    if job is None or name != results.file_name(job):
        return not_found(f"File {name}")
    return file_answer(results.content(job), results.MEDIA[job.model.kind].content_type)


def _thumbnail(world: "World", _ask: Ask, name: str) -> Answer:
    job = _completed(world, name)
    if job is None or job.model.kind != "video":
        return not_found(f"File {name}")
    return file_answer(results.thumbnail(job), results.PNG.content_type)


def _completed(world: "World", name: str) -> Job | None:
    job = world.jobs.get(name.rpartition(".")[0])
    return job if job is not None and job.status(world.now) == "completed" else None


def not_found(what: str) -> Answer:
    """Answer 404 in the documented words."""
    return error_answer(404, "not_found", f"{what} not found")


ROUTES: Final[Mapping[str, Route]] = {
    "POST /generate": _generate,
    "GET /generate/{id}": _look,
    "POST /generate/stream": _stream,
    "POST /stt": _hear,
    "GET /balance": _balance,
    "GET /user/history": _history,
    "POST /user/history/{id}/favorite": _favorite,
    "POST /user/history/{id}/rate": _rate,
    "DELETE /user/history/{id}": _delete,
    "GET /models": _models,
    "GET /models/{slug}": _model,
    "POST /models/{slug}/calculate-price": _price,
    "GET /user/me": _me,
    "PATCH /user/me": _change_me,
    "GET /user/stats": _stats,
    "GET /user/settings": _settings,
    "PATCH /user/settings": _change_settings,
    "POST /keys": _create_key,
    "PATCH /keys/{id}": _rename_key,
    "DELETE /keys/{id}": _revoke_key,
    "GET /generations/{name}": _result,
    "GET /thumbnails/{name}": _thumbnail,
}
"""What the world answers; also what a fault can be ordered on."""

FILES: Final = ("/generations/{name}", "/thumbnails/{name}")
"""Templates of the storage host: they stand without the prefix of the API, and want no key."""

_UNKNOWN_PATH: Final = "/?"


def _paths() -> tuple[dict[str, str], list[tuple[re.Pattern[str], str]]]:
    plain, patterns = {}, []
    for template in dict.fromkeys(route.partition(" ")[2] for route in ROUTES):
        path = template if template in FILES else PREFIX + template
        if "{" in path:
            patterns.append((re.compile(re.sub(r"\{\w+\}", "([^/]+)", path)), template))
        else:
            plain[path] = template
    return plain, patterns


_PLAIN, _PATTERNS = _paths()


def find_template(path: str) -> tuple[str, str]:
    """Return a path's template and the id or name in it: "/api/v2/generate/7" is ("/generate/{id}", "7")."""
    if path in _PLAIN:
        return _PLAIN[path], ""
    for pattern, template in _PATTERNS:
        if match := pattern.fullmatch(path):
            return template, match[1]
    return _UNKNOWN_PATH, path.rpartition("/")[2]

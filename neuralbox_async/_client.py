"""AsyncNeuralBox, the public face: each method turns its arguments into a call with a deadline and hands it on."""

import math
import os
from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, Self, TypeVar, Unpack

import anyio
from attrs import evolve

from neuralbox_async._blocks import block
from neuralbox_async._core import api
from neuralbox_async._core.account import Model, NewKey, Price, Profile, Settings, Stats
from neuralbox_async._core.budget import Budget
from neuralbox_async._core.errors import OutcomeUnknownError, UsageError
from neuralbox_async._core.known import intent_of
from neuralbox_async._core.limits import Rate, RateLimit
from neuralbox_async._core.models import Balance, Generation, GenerationRequest, lacks_result
from neuralbox_async._core.options import (
    Extra,
    checked_budgets,
    checked_count,
    checked_path,
    checked_seconds,
    checked_wait,
    conversation,
)
from neuralbox_async._core.pacing import Pacing
from neuralbox_async._edge import clock
from neuralbox_async._edge.http import Http
from neuralbox_async._edge.log import Observer
from neuralbox_async._edge.slots import HttpClient
from neuralbox_async._following import Following
from neuralbox_async._looks import Looks
from neuralbox_async._models import all_models
from neuralbox_async._steps import MOST_BYTES
from neuralbox_async._wiring import SAME, Same, rewired, wired

if TYPE_CHECKING:  # loaded when they are used
    from neuralbox_async._bulk import Outcome, Requests
    from neuralbox_async._edge.files import Progress, Source
    from neuralbox_async._edge.upload import Audio
    from neuralbox_async._fan_out import Results
    from neuralbox_async._stream import TextStream

T = TypeVar("T")
Params = Mapping[str, Any] | None
DEFAULT_TIMEOUT: Final = 600.0
DEFAULT_LOOK_PRICE: Final = 0.35


class AsyncNeuralBox:
    """A client of the NeuralBox API, for asyncio and trio.

    Use it as an async context manager, or keep one for the life of your program and `await nb.aclose()` at its end. One
    client belongs to one event loop. It may be used by any number of tasks at once.

    Args:
        api_key: Your key; taken from the environment's `NEURALBOX_API_KEY` if not given.
        base_url: Where the API is; else `NEURALBOX_BASE_URL`, else `https://neuralbox.top/api/v2`.
        timeout: Seconds that one call may take in all: queueing, retries, looks, download; `math.inf`: without end.
        max_retries: How often a POST that certainly cost nothing is repeated. Calls that cost nothing are repeated
            until their timeout.
        http_client: An `httpx.AsyncClient` of yours to send with. It is never closed, and its auth, cookies, hooks and
            redirects are not used.
        max_connections: Most requests under way at once; submissions take at most half of them.
        look_price: Seconds of waiting that one request is worth: higher means fewer looks and later results.
        poll_interval: A fixed number of seconds between looks instead of learned ones.
        pacing: What is known of how long models take; share one between clients and they learn together.
        rate: What is known of the plan's windows; share one between clients of one account.
        budget: Most tokens that all calls of this client may spend: a number, or a `Budget` to share. Each request's
            price is then asked for (once for a model and its params) and set aside before its POST leaves. Holds for
            streams and speech too; what is in doubt stays set aside until `reconcile` finds out.
        file_hosts: Hosts besides the service's own from which results may be fetched; "*": any public one.
        allow_insecure_http: Let `base_url` be http:// on another machine. The key then travels unencrypted.
        observe: Called with each `Event` as it happens, in the event loop; the default writes to the log.

    Raises:
        UsageError: an argument cannot work. Nothing was sent.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        max_retries: int = 2,
        http_client: HttpClient | None = None,
        max_connections: int = 100,
        look_price: float = DEFAULT_LOOK_PRICE,
        poll_interval: float | None = None,
        pacing: Pacing | None = None,
        rate: Rate | None = None,
        budget: Budget | int | None = None,
        file_hosts: Collection[str] | None = None,
        allow_insecure_http: bool = False,
        observe: Observer | None = None,
    ) -> None:
        self._timeout = checked_seconds("timeout", timeout)
        self._steps = wired(
            api_key=api_key,
            base_url=base_url,
            max_retries=max_retries,
            http_client=http_client,
            max_connections=max_connections,
            look_price=look_price,
            poll_interval=poll_interval,
            pacing=pacing,
            rate=rate,
            budget=budget,
            file_hosts=file_hosts,
            allow_insecure_http=allow_insecure_http,
            observe=observe,
        )
        self._closes = True

    # --- one generation ----------------------------------------------------------------------------------------------

    async def generate(
        self, model: str, prompt: str, params: Params = None, *, timeout: float | None = None, **extra: Unpack[Extra]
    ) -> Generation:
        """Submit a generation and wait until it is completed.

        Args:
            model: The model's slug, any string the service knows.
            prompt: The message, or the description of the picture, clip or song.
            params: Options of the model, such as `{"duration": 5}`.
            timeout: Seconds for the whole call; None: the client's.
            extra: `extra_body`, `extra_headers`, `extra_query`: what is sent besides, see `Extra`.

        Raises:
            UsageError: the request cannot work; nothing was sent.
            BudgetExceededError: it might cost more than is left of the client's budget; nothing was sent.
            APIStatusError: the service refused it; nothing was charged.
            APIConnectionError: it could not be sent; nothing was charged.
            OutcomeUnknownError: it was sent and the answer is lost; it may have been charged. `reconcile` looks for it.
            GenerationFailedError: it failed; nothing was charged.
            GenerationTimeoutError: it is not finished; the error has its id.
        """
        deadline, request = self._deadline(timeout), GenerationRequest(model, prompt, params)
        steps, call = self._steps, api.generate(request, extra)
        return await steps.finish_own(request, await steps.submit(request, call, deadline=deadline), deadline=deadline)

    async def submit(
        self, model: str, prompt: str, params: Params = None, *, timeout: float | None = None, **extra: Unpack[Extra]
    ) -> Generation:
        """Send one generation and return what the service says of it: often pending, perhaps final, perhaps failed.

        Takes the arguments of `generate` and raises what it raises before the waiting.
        """
        request = GenerationRequest(model, prompt, params)
        return await self._steps.submit(request, api.generate(request, extra), deadline=self._deadline(timeout))

    def stream(
        self,
        model: str,
        prompt: str | None = None,
        params: Params = None,
        *,
        messages: Sequence[Mapping[str, Any]] | None = None,
        timeout: float | None = None,
        **extra: Unpack[Extra],
    ) -> "TextStream":
        """Generate a text and read it as it is written: `async with nb.stream(…) as stream`, `async for … in stream`.

        Costs tokens, as `generate` does, and raises what it raises; from the `async with` on, the id is known. A stream
        that is cut, or silent for a minute, is finished by looking at the generation.

        Args:
            model: The slug of a text model.
            prompt: The message.
            params: Options of the model, such as `{"max_tokens": 500}`.
            messages: The turns before it, as `{"role": …, "content": …}`; without a prompt the last of them is the
                message. Sent as `params.messages`.
            timeout: Seconds from the `async with` to the last piece; None: the client's.
            extra: As for `generate`.
        """
        from neuralbox_async._stream import TextStream  # noqa: PLC0415

        request = conversation(model, prompt, params, messages)
        return TextStream(self._steps, api.stream(request, extra), timeout=self._seconds(timeout))

    async def transcribe(
        self,
        audio: "Audio",
        *,
        model: str = "whisper",
        language: str | None = None,
        diarize: bool = False,
        filename: str | None = None,
        timeout: float | None = None,
        **extra: Unpack[Extra],
    ) -> Generation:
        """Turn speech into text and wait until it is completed: `generation.text`.

        Costs tokens, as `generate` does, and raises what it raises. A request whose last byte never left is repeated.

        Args:
            audio: The path of a file, its bytes, a file open for bytes, or an async stream of bytes: mp3, mp4, wav,
                m4a, ogg, flac or webm of at most 25 MiB. Files are read as they are sent, streams are read before.
            model: The slug of a speech-to-text model: "whisper", "gpt-4o-transcribe", "elevenlabs-scribe", …
            language: Such as "en"; detected if not given.
            diarize: Mark who speaks, with elevenlabs-scribe.
            filename: What the service is to call the audio; its ending says what it is. Default: the file's name.
            timeout: Seconds for the whole call; None: the client's.
            extra: As for `generate`; `extra_body` are further fields of the form.
        """
        from neuralbox_async._edge.upload import measured, transcribe  # noqa: PLC0415

        deadline = self._deadline(timeout)
        params = {name: value for name, value in {"language": language, "diarize": diarize or None}.items() if value}
        audio_file = await measured(audio, filename, deadline=deadline)
        request = GenerationRequest(model, audio_file.name, params or None)
        call, exchange = transcribe(self._http, request, audio_file, extra)
        accepted = await self._steps.submit(request, call, deadline=deadline, exchange=exchange)
        return await self._steps.finish_own(request, accepted, deadline=deadline)

    async def get(self, generation: Generation | int | str, *, timeout: float | None = None) -> Generation:
        """Look at a generation once. Failed generations are returned, not raised.

        Raises NotFoundError if there is none of this id, APIError if no good answer came within the timeout.
        """
        return await self._looks.look(_id(generation), deadline=self._deadline(timeout))

    def poll(self, generation: Generation | int | str, *, timeout: float | None = None) -> AsyncIterator[Generation]:
        """Yield each look at a generation; the last one is final (completed or failed).

        One that is final already is yielded once. Raises GenerationTimeoutError if it is not final in time.
        """
        return Following(self._looks, generation, deadline=self._deadline(timeout))

    async def wait(self, generation: Generation | int | str, *, timeout: float | None = None) -> Generation:
        """Wait until a generation is completed.

        Raises GenerationFailedError if it failed, GenerationTimeoutError if it is not finished in time, NotFoundError
        if there is none of this id.
        """
        return await self._steps.finish(generation, deadline=self._deadline(timeout))

    async def download(
        self,
        generation: Generation | int | str,
        to: str | os.PathLike[str],
        *,
        timeout: float | None = None,
        progress: "Progress | None" = None,
        max_bytes: int = MOST_BYTES,
    ) -> Path:
        """Save the result of a completed generation and return the path of the file.

        The file appears under its name when it is whole. What was interrupted, even by a kill, goes on where it was
        when it is called again, if the server can tell that it is still the same file.

        Args:
            generation: The generation, or its id.
            to: A folder (an existing one, or with a trailing slash), where the file is named after the id and what its
                bytes are; or a file. Missing folders are made. Texts become `.txt`.
            timeout: Seconds for the whole call; None: the client's.
            progress: Called, in the event loop, with the bytes that are there and those of the whole file (None if
                nobody knows), whenever some have come.
            max_bytes: Most bytes that a file may have.

        Raises:
            UsageError: it is not finished yet.
            GenerationFailedError: it failed, there is nothing to download.
            ResponseError: it has no result, one of more than `max_bytes`, or one on a host that this client does not
                know; or a web page came in its place.
            APIStatusError, APIConnectionError: the file could not be fetched (results expire).
            OSError: the file could not be written.
        """
        from neuralbox_async._edge import files  # noqa: PLC0415

        return await files.save(await self._result(generation, timeout, max_bytes), to, key=None, progress=progress)

    async def read(
        self, generation: Generation | int | str, *, timeout: float | None = None, max_bytes: int = MOST_BYTES
    ) -> bytes:
        """Fetch the result of a completed generation into memory; a text result as UTF-8.

        Takes arguments and raises as `download`, but for the disk.
        """
        from neuralbox_async._edge import files  # noqa: PLC0415

        return await files.read(await self._result(generation, timeout, max_bytes))

    @block("nb.iter_bytes(…) as pieces")
    async def iter_bytes(
        self, generation: Generation | int | str, *, timeout: float | None = None, max_bytes: int = MOST_BYTES
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Fetch a result piece by piece: an async context manager that gives an async iterator of bytes.

        Leaving the block, at any point, closes the connection. A cut is gone on from, if the server can; else it is an
        APIConnectionError, since what was given cannot be taken back. The timeout counts your own time between pieces
        too. Takes arguments and raises as `read`; what goes wrong on the way comes from the iterator.
        """
        from neuralbox_async._edge import files  # noqa: PLC0415

        async with files.streamed(await self._result(generation, timeout, max_bytes)) as pieces:
            yield pieces

    async def _result(self, generation: Generation | int | str, timeout: float | None, max_bytes: int) -> "Source":
        deadline, most = self._deadline(timeout), checked_count("max_bytes", max_bytes, least=1)
        if not isinstance(generation, Generation) or lacks_result(generation):
            generation = await self._looks.look(_id(generation), deadline=deadline)
        return self._steps.source(generation, deadline=deadline, most=most)

    # --- many generations --------------------------------------------------------------------------------------------

    def generate_many(
        self,
        requests: "Requests",
        *,
        max_concurrency: int = 100,
        ledger: str | os.PathLike[str] | None = None,
        budget: Budget | int | None = None,
        settle: float | None = None,
        resubmit_absent: bool = False,
        download_to: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
    ) -> "AbstractAsyncContextManager[Results[Outcome]]":
        """Run many generations at once; an async context manager that gives an async iterator of outcomes.

        Outcomes come as they finish. One bad item never raises: its outcome has `error` set. Requests are pulled only
        when there is room for one, so they may be endless. Leaving the block starts nothing new, gives POSTs under way
        a grace of 5 s to learn their id (the ledger has it, or an `Abandoned` event tells it), and cancels the rest.
        What became of a POST whose answer was lost is looked for in the history.

        Args:
            requests: GenerationRequests, from any sync or async iterable.
            max_concurrency: Most items under way, or finished and not yet taken.
            ledger: A file that records every step before it is taken. The same call with the same file, in another
                process, after a crash or a kill, goes on where it was: what is finished comes out as it was, nothing
                accepted is sent again, and what an earlier input has begun comes out last. Without one, all of this
                holds as long as the process lives.
            budget: Most tokens that this run may spend, with what its ledger says it has spent before: a number, or a
                `Budget` to share. What does not fit is not sent, and comes out as BudgetExceededError; it stays
                planned in the ledger. Cheaper items may still fit, so the run goes on: leave the block when nothing
                does, above all if the requests are endless.
            settle: Seconds after a POST whose answer was lost that its absence from the history proves that nothing was
                booked; None: as long as the model may take, and 30 s.
            resubmit_absent: Send again what that has proved of. Where the history shows it later still, or leaves
                things out, this pays twice; by default such an item comes out as OutcomeUnknownError.
            download_to: A folder to save results in, named after their key or id; made if it is missing.
            timeout: Seconds for each item, from its POST to its file; None: the client's. Time in which the plan's
                window is closed does not count, nor does looking in the history for a POST whose answer was lost.

        Raises:
            UsageError: an argument cannot work.
            AuthenticationError, InsufficientTokensError, PermissionDeniedError: from the iterator, after the outcomes
                of all items under way: no further item could succeed.
            LedgerError: the ledger is in use, foreign, damaged or of another account; or, from the iterator, it cannot
                be written any more.
        """
        from neuralbox_async._bulk import run  # noqa: PLC0415
        from neuralbox_async._core import rows  # noqa: PLC0415
        from neuralbox_async._edge.files import checked_folder  # noqa: PLC0415
        from neuralbox_async._life import Wishes  # noqa: PLC0415

        if isinstance(requests, str | bytes) or not isinstance(requests, Iterable | AsyncIterable):
            raise UsageError(f"requests must be an iterable of GenerationRequests, not {type(requests).__name__}.")
        limit = checked_count("max_concurrency", max_concurrency, least=1)
        seconds = self._timeout if timeout is None else checked_seconds("timeout", timeout)
        folder = None if download_to is None else checked_folder(download_to)

        wishes = Wishes(
            seconds=seconds,
            folder=folder,
            settle=None if settle is None else checked_wait("settle", settle),
            absent=rows.PLANNED if resubmit_absent else rows.IN_DOUBT,
        )
        budgets = dict.fromkeys([*self._steps.budgets, *checked_budgets(budget)])  # one that is given to both is one
        steps = evolve(self._steps, budgets=tuple(budgets))
        file = None if ledger is None else Path(checked_path("ledger", ledger))
        return run(requests, steps=steps, wishes=wishes, ledger=file, limit=limit)

    # --- the account -------------------------------------------------------------------------------------------------

    async def balance(self, *, timeout: float | None = None) -> Balance:
        """Ask what the account can still spend. Raises APIError if no good answer came within the timeout."""
        return await self._ask(api.balance(), timeout)

    async def reconcile(
        self, error: OutcomeUnknownError, *, settle: float | None = None, timeout: float | None = None
    ) -> Generation | None:
        """Look in the history for what became of a POST whose answer was lost.

        It is a generation of the same model and prompt, newer than the POST, and no other answer's. Completed ones are
        looked at once more, so that nothing is missing. The same error may be reconciled again.

        Args:
            error: What `generate`, `submit`, `stream`, `transcribe` or a run's outcome had, in this process or another.
            settle: Seconds after the POST that its absence from the history proves that nothing was booked; None: as
                long as the model may take, and 30 s. Until then the history is read again and again.
            timeout: Seconds for the whole call; None: until that is proved, or a generation is found.

        Returns:
            The generation; None if the history has none: then nothing was booked, as far as a history can tell.

        Raises:
            UsageError: it is another error, or about what costs nothing (a new key, a favourite): no generation came of
                that.
            OutcomeUnknownError: several requests could own what is there, it does not say what it was made of (as for
                recordings), or the time was not enough.
            APIError: the history could not be read.
        """
        from neuralbox_async._reconcile import Doubts, no_others, no_owners  # noqa: PLC0415

        intent = intent_of(error)
        settle = None if settle is None else checked_wait("settle", settle)
        found: Generation | None = None
        with anyio.move_on_after(math.inf if timeout is None else checked_seconds("timeout", timeout)):
            found = await self._steps.reconcile(Doubts(self._http, no_owners, no_others), intent, settle=settle)
            self._http.reservations.reconcile(error.sent_at, found)
            return None if found is None else await self._steps.whole(found)
        if found is not None:
            return found
        raise evolve(error)

    def history(
        self,
        *,
        model: str | None = None,
        status: str | None = None,
        category: str | None = None,
        favorites_only: bool = False,
        timeout: float | None = None,
    ) -> AsyncIterator[Generation]:
        """Yield the account's generations, newest first, each once; pages of 100 are asked for as they are needed.

        Entries are `partial`: they have a `prompt`, and lack fields that `get` would give. Those made elsewhere with
        the same account (the website, the Telegram bot) are among them. Raises APIError if no good answer came.

        Args:
            model: Only those of this slug.
            status: Only "completed", "pending" or "failed" ones.
            category: Only "text", "image", "video", "tts", "stt" or "tool".
            favorites_only: Only favourites.
            timeout: Seconds for each page; None: the client's.
        """
        from neuralbox_async._history import Filters, History  # noqa: PLC0415

        filters = Filters(model=model, status=status, category=category, favorites_only=favorites_only)
        return History(self._http, timeout=self._seconds(timeout), filters=filters)

    async def toggle_favorite(self, generation: Generation | int | str, *, timeout: float | None = None) -> bool | None:
        """Put a generation among the favourites, or take it out; return whether it is one now, None if nobody says.

        Never repeated by itself. Raises NotFoundError, or OutcomeUnknownError if the answer was lost: look at
        `is_favorited` in the history then.
        """
        return (await self._ask(api.toggle_favorite(_id(generation)), timeout)).is_favorited

    async def rate_generation(
        self, generation: Generation | int | str, rating: float, *, timeout: float | None = None
    ) -> None:
        """Give a generation a rating, such as 5. Raises NotFoundError if there is none of this id."""
        await self._ask(api.rate_generation(_id(generation), rating), timeout)

    async def delete_generation(self, generation: Generation | int | str, *, timeout: float | None = None) -> None:
        """Take a generation out of the history. Raises NotFoundError if there is none of this id."""
        await self._ask(api.delete_generation(_id(generation)), timeout)

    async def models(self, *, timeout: float | None = None) -> tuple[Model, ...]:
        """Read what models there are. Any slug may be used, listed or not."""
        return await all_models(self._http, deadline=self._deadline(timeout))

    async def model(self, slug: str, *, timeout: float | None = None) -> Model:
        """Read what the service says of one model. Raises NotFoundError if it has none of this slug."""
        return await self._ask(api.model(slug), timeout)

    async def price(self, slug: str, params: Params = None, count: int = 1, *, timeout: float | None = None) -> Price:
        """Ask what generations would cost: `price.tokens`. Asking costs nothing. Raises NotFoundError for no model."""
        return await self._ask(api.price(slug, params, checked_count("count", count, least=1)), timeout)

    async def me(self, *, timeout: float | None = None) -> Profile:
        """Ask whose account this is and what its plan allows."""
        return await self._ask(api.me(), timeout)

    async def change_me(self, *, timeout: float | None = None, **changes: Any) -> None:
        """Change the profile: `name="…"`, `avatar_url="…"`. Raises BadRequestError for what cannot be changed."""
        await self._ask(api.change_me(changes), timeout)

    async def stats(self, *, timeout: float | None = None) -> Stats:
        """Ask what the account has generated, in all, by category and in the last 30 days."""
        return await self._ask(api.stats(), timeout)

    async def settings(self, *, timeout: float | None = None) -> Settings:
        """Ask for the account's preferences."""
        return await self._ask(api.settings(), timeout)

    async def change_settings(self, *, timeout: float | None = None, **changes: Any) -> None:
        """Change preferences: `language="en"`, `image_format="png"`, `notifications_enabled=False`."""
        await self._ask(api.change_settings(changes), timeout)

    async def create_key(self, name: str, *, timeout: float | None = None) -> NewKey:
        """Make an API key with full access to the account's tokens; `key.secret.reveal()` returns it.

        Never repeated by itself. Raises OutcomeUnknownError if the answer was lost: revoke the key that you cannot know
        in your NeuralBox profile, then ask again.
        """
        return await self._ask(api.create_key(name), timeout)

    async def rename_key(self, key_id: int | str, name: str, *, timeout: float | None = None) -> None:
        """Give an API key another name. Raises NotFoundError if there is none of this id."""
        await self._ask(api.rename_key(key_id, name), timeout)

    async def revoke_key(self, key_id: int | str, *, timeout: float | None = None) -> None:
        """End an API key, at once and for good. Raises NotFoundError if there is none of this id."""
        await self._ask(api.revoke_key(key_id), timeout)

    @property
    def rate_limit(self) -> RateLimit:
        """What the last answer said of the plan's windows, what is `left` now, and how looks are stretched."""
        return self._http.rate.limits()

    # --- the client itself -------------------------------------------------------------------------------------------

    def with_options(
        self,
        *,
        timeout: float | Literal[Same.SAME] = SAME,
        max_retries: int | Literal[Same.SAME] = SAME,
        look_price: float | Literal[Same.SAME] = SAME,
        poll_interval: float | Literal[Same.SAME] | None = SAME,
        observe: Observer | Literal[Same.SAME] | None = SAME,
    ) -> "AsyncNeuralBox":
        """Return a view with other options. It shares connections, rate, pacing and budget; closing it closes nothing.

        Raises UsageError for an option that cannot work.
        """
        view = object.__new__(type(self))
        view._steps = rewired(
            self._steps, max_retries=max_retries, look_price=look_price, poll_interval=poll_interval, observe=observe
        )
        view._timeout = self._timeout if timeout is SAME else checked_seconds("timeout", timeout)
        view._closes = False
        return view

    async def aclose(self) -> None:
        """Close the connections; calling it twice is harmless. The client cannot be used afterwards."""
        if self._closes:
            await self._http.slots.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self._http.base_url!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("An AsyncNeuralBox holds your API key and connections; create one in each process.")

    # --- steps that a single call and a run share --------------------------------------------------------------------

    @property
    def _http(self) -> Http:
        return self._steps.http

    @property
    def _looks(self) -> Looks:
        return self._steps.looks

    def _deadline(self, timeout: float | None) -> float:
        return clock.now() + self._seconds(timeout)

    def _seconds(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else checked_seconds("timeout", timeout)

    async def _ask(self, call: api.Call[T], timeout: float | None) -> T:
        return await self._http.send(call, deadline=self._deadline(timeout))


def _id(generation: Generation | int | str) -> int | str:
    return generation.id if isinstance(generation, Generation) else generation

"""One function per command: what may be asked and what it means. They read options and hand over."""

import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter, UnknownOptionError
from cyclopts.validators import Number
from rich.console import Console

from neuralbox_async import GenerationRequest, LedgerError, UsageError
from neuralbox_async.extras.cli import account, runs, server, single
from neuralbox_async.extras.cli import demo as demo_command
from neuralbox_async.extras.cli.exits import FAILED, NOBODY_READS, TABLE, USAGE
from neuralbox_async.extras.cli.options import (
    ANYWHERE,
    AnswerTimeout,
    AsJson,
    BaseUrl,
    Params,
    Service,
    Timeout,
    read_params,
)
from neuralbox_async.extras.cli.report import as_json as record_as_json
from neuralbox_async.extras.cli.screen import Screen
from neuralbox_async.extras.cli.signals import drop_stdout
from neuralbox_async.extras.cli.wording import in_our_words

ABOUT = f"""Text, images, video, music and speech from NeuralBox; never pays twice.

Begin without an account:

    neuralbox demo

With one (the key starts with nb_ and comes from your NeuralBox profile):

    export NEURALBOX_API_KEY=nb_...
    neuralbox balance
    neuralbox models
    neuralbox stream gpt-5 "Tell me of the sea"
    neuralbox generate gpt-5 "Explain quantum computing in simple terms"
    neuralbox generate kling-v2.1 "A blooming flower" --out clips/
    neuralbox bulk prompts.jsonl --out results/
    neuralbox resume results/run.db
    echo "A red fox" | neuralbox bulk - --model dall-e-3 --out foxes/

The key is read from NEURALBOX_API_KEY alone: everybody on a machine can see
its command lines.

stdout has the results and nothing else. stderr has the progress: bars on a
terminal, elsewhere a line every few seconds.

Exit codes; of several that fit, the first of 3, 130, 4, 1:

{TABLE}
"""


def _version() -> str:
    try:
        return metadata.version("neuralbox-async")
    except metadata.PackageNotFoundError:
        return "unknown (neuralbox-async is not installed, it runs from its source)"


app = App(name="neuralbox", help=ABOUT, version=_version, help_format="plaintext")
runs.add_to(app)


def dispatch(arguments: Sequence[str]) -> int:
    """Run the command that the arguments name and return its exit code."""
    say = Screen(Console(stderr=True)).say
    try:
        command, bound, *_ = app.parse_args(list(arguments), print_error=False, exit_on_error=False)
        code = int(command(*bound.args, **bound.kwargs) or 0)
        sys.stdout.flush()
    except (CycloptsError, LedgerError, UsageError) as error:
        said = " ".join(in_our_words(error).split())
        say(f"error: {said}{_hyphen_advice(error)} See {_help_command(arguments)}.")
        return USAGE
    except BrokenPipeError:
        drop_stdout()
        return NOBODY_READS
    except OSError as error:  # of stdout, on a full disk
        drop_stdout()
        say(f"error: {in_our_words(error)}")
        return FAILED
    return code


def _help_command(arguments: Sequence[str]) -> str:
    known = [name for name in arguments[:1] if not name.startswith("-") and name in set(app)]
    return " ".join(["neuralbox", *known, "--help"])


def _hyphen_advice(error: Exception) -> str:
    if not isinstance(error, UnknownOptionError) or error.command_chain != ("generate",):
        return ""
    return " A prompt that begins with a hyphen wants -- before it: neuralbox generate gpt-5 -- '- Hello'."


@app.command
def generate(
    model: str,
    prompt: str,
    /,
    *,
    param: Params = (),
    out: Annotated[str | None, Parameter(help="Save the result in a file, or a folder (with a / at its end).")] = None,
    timeout: Timeout = None,
    as_json: AsJson = False,
    service: Service = ANYWHERE,
) -> int:
    """Generate one result and wait for it.

    stdout gets the text, or the path of the file with --out, or the address
    of the result; with --json one object that has all of them.

        neuralbox generate gpt-5 "Explain quantum computing in simple terms"
        neuralbox generate dall-e-3 "A red fox" --param quality=hd --out a.png

    Ctrl-C leaves with the id of what goes on at the service; get it with
    `neuralbox wait ID`.
    """
    show = record_as_json if as_json else single.as_text
    options = single.SingleOptions(out=out, timeout=timeout, show=show, service=service)
    return single.generate(GenerationRequest(model, prompt, read_params(param) or None), options)


@app.command
def stream(
    model: str,
    prompt: str,
    /,
    *,
    param: Params = (),
    timeout: Timeout = None,
    as_json: AsJson = False,
    service: Service = ANYWHERE,
) -> int:
    """Generate a text and write it as it comes.

    stdout gets the pieces; with --json one object when all is there, as
    `generate` writes it. A stream that breaks off is finished by looking at
    the generation.

        neuralbox stream gpt-5 "Tell me of the sea"
    """
    show, write = (record_as_json, _say_nothing) if as_json else (single.as_nothing, single.write_piece)
    options = single.SingleOptions(out=None, timeout=timeout, show=show, service=service)
    return single.stream(GenerationRequest(model, prompt, read_params(param) or None), options, write)


def _say_nothing(_piece: str) -> None:
    return None


@app.command
def transcribe(
    audio: Annotated[str, Parameter(help="An mp3, mp4, wav, m4a, ogg, flac or webm file of at most 25 MiB.")],
    /,
    *,
    model: Annotated[str, Parameter(help="Such as whisper, gpt-4o-transcribe, elevenlabs-scribe.")] = "whisper",
    language: Annotated[str | None, Parameter(help="Such as en; detected if not given.")] = None,
    diarize: Annotated[
        bool, Parameter(negative="", show_default=False, help="Mark who speaks, with elevenlabs-scribe.")
    ] = False,
    out: Annotated[str | None, Parameter(help="Save the text in a file, or a folder (with a / at its end).")] = None,
    timeout: Timeout = None,
    as_json: AsJson = False,
    service: Service = ANYWHERE,
) -> int:
    """Turn a file of speech into text.

    stdout gets the text, or the path of the file with --out.

        neuralbox transcribe talk.mp3 --language en --out talk.txt
    """
    params = {name: value for name, value in {"language": language, "diarize": diarize}.items() if value}
    show = record_as_json if as_json else single.as_text
    options = single.SingleOptions(out=out, timeout=timeout, show=show, service=service)
    return single.transcribe(audio, GenerationRequest(model, audio, params or None), options)


@app.command
def wait(
    ids: Annotated[tuple[str, ...], Parameter(name="ID", negative="", help="Ids of generations, as many as you like.")],
    /,
    *,
    out: Annotated[str | None, Parameter(help="Save the result in a file or a folder; several go in a folder.")] = None,
    timeout: Timeout = None,
    as_json: AsJson = False,
    service: Service = ANYWHERE,
) -> int:
    """Wait for generations begun elsewhere, such as those that an interrupted run has named.

    stdout gets what `generate` writes, of several ids each with its id in
    front.

        neuralbox wait 18500 18501 --out clips/
    """
    text = single.as_text if len(ids) == 1 else single.as_numbered_text
    options = single.SingleOptions(out=out, timeout=timeout, show=record_as_json if as_json else text, service=service)
    return single.wait(ids, options)


@app.command
def balance(
    *,
    timeout: AnswerTimeout = 30.0,
    as_json: AsJson = False,
    base_url: BaseUrl = None,
) -> int:
    """Show how many tokens are left, and the plan."""
    show = single.balance_as_json if as_json else single.balance_as_text
    return single.balance(show, Service(base_url=base_url), timeout=timeout)


@app.command
def models(
    *,
    category: Annotated[str | None, Parameter(help="Only text, image, video, audio, tts, stt or tool.")] = None,
    timeout: AnswerTimeout = 30.0,
    as_json: AsJson = False,
    base_url: BaseUrl = None,
) -> int:
    """List the service's models and what they cost."""
    return account.models(_asked(timeout, as_json, base_url), category)


@app.command
def model(
    slug: Annotated[str, Parameter(name="MODEL")],
    /,
    *,
    timeout: AnswerTimeout = 30.0,
    as_json: AsJson = False,
    base_url: BaseUrl = None,
) -> int:
    """Show what the service says of one model, its options among it."""
    return account.model(_asked(timeout, as_json, base_url), slug)


@app.command
def price(
    slug: Annotated[str, Parameter(name="MODEL")],
    /,
    *,
    param: Params = (),
    count: Annotated[int, Parameter(validator=Number(gte=1), help="How many generations.")] = 1,
    timeout: AnswerTimeout = 30.0,
    as_json: AsJson = False,
    base_url: BaseUrl = None,
) -> int:
    """Ask what a generation would cost.

    Asking costs nothing.

        neuralbox price dall-e-3 --param quality=hd
    """
    return account.price(_asked(timeout, as_json, base_url), slug, read_params(param), count)


@app.command
def history(
    *,
    limit: Annotated[int, Parameter(validator=Number(gte=1), help="At most so many.")] = 20,
    model: Annotated[str | None, Parameter(help="Only those of this model.")] = None,
    status: Annotated[str | None, Parameter(help="Only completed, pending or failed ones.")] = None,
    category: Annotated[str | None, Parameter(help="Only text, image, video, tts, stt or tool.")] = None,
    favorites_only: Annotated[
        bool, Parameter(negative="", show_default=False, help="Only favourites; they are marked with *.")
    ] = False,
    timeout: AnswerTimeout = 30.0,
    as_json: AsJson = False,
    base_url: BaseUrl = None,
) -> int:
    """List the account's generations, newest first.

    Those made on the website and by the Telegram bot are among them.

        neuralbox history --model kling-v2.1 --status completed --limit 5
    """
    wanted = account.Wanted(model=model, status=status, category=category, favorites_only=favorites_only, limit=limit)
    return account.history(_asked(timeout, as_json, base_url), wanted)


@app.command
def me(*, timeout: AnswerTimeout = 30.0, as_json: AsJson = False, base_url: BaseUrl = None) -> int:
    """Show whose account this is and what its plan allows."""
    return account.me(_asked(timeout, as_json, base_url))


@app.command
def stats(*, timeout: AnswerTimeout = 30.0, as_json: AsJson = False, base_url: BaseUrl = None) -> int:
    """Show what the account has generated, and what that cost."""
    return account.stats(_asked(timeout, as_json, base_url))


def _asked(timeout: float, as_json: bool, base_url: str | None) -> account.Asked:  # noqa: FBT001 - an option as it came
    return account.Asked(service=Service(base_url=base_url), timeout=timeout, as_json=as_json)


@app.command
def sandbox(
    *,
    port: Annotated[
        int, Parameter(validator=Number(gte=0, lte=65_535), help="The port on this machine; 0 takes a free one.")
    ] = 0,
    plan: Annotated[Literal["free", "basic", "pro", "vip", "elite"], Parameter(help="Its limits apply.")] = "vip",
    speed: Annotated[float, Parameter(help="How many seconds pass in there while one passes here.")] = 1.0,
    tokens: Annotated[int, Parameter(name="--balance", help="Tokens to begin with.")] = 1_500,
) -> int:
    """Open a NeuralBox service of your own on a port, until Ctrl-C.

    It costs nothing and knows no real account. stdout gets two lines to paste
    into another shell, where every command then talks to the sandbox:

        neuralbox sandbox --port 8765 --speed 20

    The commands expect generations to take as long as at the real service.
    When time runs faster, say how often to look; stderr names a good number:

        neuralbox generate kling-v2.1 "A flower" --poll-interval 0.25
    """
    return server.run_sandbox(server.make_sandbox(plan=plan, speed=speed, balance=tokens), port=port)


@app.command
def demo(*, out: Annotated[str, Parameter(help="The folder for the results.")] = demo_command.DEFAULT_OUT) -> int:
    """Generate a mixed batch on this machine: no account, no cost.

    A sandbox plays the service. Takes some ten seconds, saves texts,
    pictures, clips and sounds that open, and compares the requests it took
    with those of a loop that looks every 5 seconds.
    """
    return demo_command.demo(out)

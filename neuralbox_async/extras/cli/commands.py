"""One function per command: what may be asked and what it means. They read options and hand over."""

from collections.abc import Sequence
from importlib import metadata
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter, UnknownOptionError
from cyclopts.validators import Number
from rich.console import Console

from neuralbox_async import GenerationRequest, LedgerError, UsageError
from neuralbox_async.extras.cli import demo as demo_command
from neuralbox_async.extras.cli import runs, server, single
from neuralbox_async.extras.cli.exits import TABLE, USAGE
from neuralbox_async.extras.cli.options import ANYWHERE, AsJson, BaseUrl, Params, Service, Timeout, read_params
from neuralbox_async.extras.cli.report import as_json as record_as_json
from neuralbox_async.extras.cli.screen import Screen
from neuralbox_async.extras.cli.wording import in_our_words

ABOUT = f"""Text, images, video, music and speech from NeuralBox; never pays twice.

Begin without an account:

    neuralbox demo

With one (the key starts with nb_ and comes from your NeuralBox profile):

    export NEURALBOX_API_KEY=nb_...
    neuralbox balance
    neuralbox generate gpt-5 "Explain quantum computing in simple terms"
    neuralbox generate kling-v2.1 "A blooming flower" --out clips/
    neuralbox bulk prompts.jsonl --out results/
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
    try:
        command, bound, *_ = app.parse_args(list(arguments), print_error=False, exit_on_error=False)
        return int(command(*bound.args, **bound.kwargs) or 0)
    except (CycloptsError, LedgerError, UsageError) as error:
        said = " ".join(in_our_words(error).split())
        Screen(Console(stderr=True)).say(f"error: {said}{_hyphen_advice(error)} See neuralbox --help.")
        return USAGE


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
    if not ids:
        raise UsageError("wait wants the id of a generation: neuralbox wait 18500.")
    text = single.as_text if len(ids) == 1 else single.as_numbered_text
    options = single.SingleOptions(out=out, timeout=timeout, show=record_as_json if as_json else text, service=service)
    return single.wait(ids, options)


@app.command
def balance(
    *,
    timeout: Annotated[float, Parameter(help="Seconds for the answer, with retries.")] = 30.0,
    as_json: AsJson = False,
    base_url: BaseUrl = None,
) -> int:
    """Show how many tokens are left, and the plan."""
    show = single.balance_as_json if as_json else single.balance_as_text
    return single.balance(show, Service(base_url=base_url), timeout=timeout)


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

"""The command line: stdout is results only, stderr is progress, and the exit code says what to do next."""

import io
import sys
from collections.abc import Sequence


def run_command(arguments: Sequence[str]) -> int:
    """Run `neuralbox` with these arguments and return its exit code."""
    from neuralbox_async.extras.cli.commands import dispatch  # noqa: PLC0415 - loads cyclopts and rich

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Prompts are any text, terminals are not; a lone surrogate's backslash escape is also what JSON wants.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    return dispatch(arguments)

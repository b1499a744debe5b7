"""`python -m neuralbox_async` and the script `neuralbox`: hand over to the command line, or say what it lacks."""

import importlib.util
import sys

NEEDED = ("cyclopts", "rich", "uvicorn")


def main() -> int:
    """Run the command line on this process's arguments and return its exit code."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.stderr.write(f'error: the command line needs {", ".join(missing)}: pip install "neuralbox-async[cli]"\n')
        return 2
    try:
        from neuralbox_async.extras.cli import run_command  # noqa: PLC0415 - an extra, which may be missing

        return run_command(sys.argv[1:])
    except KeyboardInterrupt:  # before there is a run that could hear it, or after
        return 130


if __name__ == "__main__":
    sys.exit(main())

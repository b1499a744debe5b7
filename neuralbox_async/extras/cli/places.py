"""Where results go is made ready before anything is paid for: what cannot be saved there would be lost."""

import tempfile
from pathlib import Path

from neuralbox_async import UsageError


def ready_folder(out: str) -> None:
    """Make the folder `out` and see that files can be made in it. Raises UsageError if not."""
    ready_place(as_folder(out))


def ready_place(out: str) -> None:
    """Make ready a folder (an existing one, or with a slash at its end) or the place of a file. Raises UsageError."""
    if out == "~" or out.startswith("~/"):
        raise UsageError(f"--out {out} has a ~ that the shell did not fill in: write --out {out}, with a space.")
    path = Path(out)
    try:
        is_folder = out.endswith("/") or path.is_dir()
        if path.exists() and not (is_folder or path.is_file()):
            raise UsageError(f"--out {out} is neither a file nor a folder.")  # such as a device, never to be replaced
    except OSError as error:
        raise _unusable(out, error) from error
    _ready(out, path if is_folder else path.parent)


def as_folder(out: str) -> str:
    """Return the same place, as one that can only be a folder. Raises UsageError if it has no name."""
    if not out:
        raise UsageError("--out wants the name of a folder; . is the one that you are in.")
    return out if out.endswith("/") else f"{out}/"


def _ready(out: str, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Rights say little where the disk is read-only or full: only a file that was made proves that one can be.
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".neuralbox-"):
            pass
    except OSError as error:
        raise _unusable(out, error) from error


def _unusable(out: str, error: OSError) -> UsageError:
    return UsageError(f"--out {out} cannot be written: {error.strerror}.")

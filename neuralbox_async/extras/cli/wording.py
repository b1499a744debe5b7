"""Times, numbers and the library's messages are said in one way, the latter with options for keyword arguments.

Only what somebody at a command line can meet is put in other words; any other message stays as it is.
"""

import re
from typing import Final

_WORDS: Final = tuple(
    (re.compile(pattern), ours)
    for pattern, ours in (
        (r"set NEURALBOX_API_KEY or pass api_key=…", "set NEURALBOX_API_KEY"),
        (r"NEURALBOX_API_KEY or api_key=…", "NEURALBOX_API_KEY"),
        (r"pass the key as api_key=…", "set the key in NEURALBOX_API_KEY"),
        (r", or pass allow_insecure_http=True", "; the command line does not support http:// on another host"),
        (r"pass file_hosts=\['([^']+)'\] to AsyncNeuralBox", r"add --file-host \1"),
        (r"fetch generation\.url yourself", "fetch it yourself"),
        (r"pass a longer timeout", "give a longer --timeout"),
        (r"with a longer timeout", "with a longer --timeout"),
        (r"^timeout must", "--timeout must"),
        (r"pass a larger budget if it shall be", "resume with a larger --budget"),
        (r", with await nb\.reconcile\(error\),", ", with neuralbox history,"),
        (r"^settle must", "--settle must"),
        (r"run again with resubmit_absent=True", "resume with --resubmit-absent"),
        (r"^poll_interval must", "--poll-interval must"),
        (r"\bbase_url\b", "base URL"),
        # The library counts the items that it was given, we count the input's lines.
        (r"^Item \d+ has", "This line has"),
        # What cyclopts says; the quotes, and the name meant for itself, are those of its version 3.
        (
            r'^Command "[^"]+" parameter "?(--[^\s"]+)"? requires an argument\.( Did you mean "\1" instead of "\1"\?)?',
            r"\1 wants a value.",
        ),
        (r'^Command "([^"]+)" parameter "?([^\s"]+)"? requires an argument\.', r"\1 wants \2."),
        (r"^Parameter (--\S+) specified multiple times\.", r"\1 is given more than once."),
        (r"^Unused Tokens: \[(.*)\]\.", r"More than is wanted: \1. What belongs together goes in quotes."),
    )
)


def in_our_words(error: Exception) -> str:
    """Return what an error says, with options in place of keyword arguments."""
    said = str(error)
    for pattern, ours in _WORDS:
        said = pattern.sub(ours, said)
    return said


def many(number: int, thing: str) -> str:
    """Say how many things there are: "0 lines", "1 line", "1,000 lines"."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def duration(seconds: float) -> str:
    """Say how long something takes: one number, of a size that a person can picture."""
    minutes, hours = seconds / 60, seconds / 3_600
    if seconds < 9.5:
        return f"{round(seconds, 1):g} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"

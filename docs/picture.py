"""Draw docs/demo.svg from a run of the demo: `python docs/picture.py`. Nothing in the picture is made up.

The demo runs for real, on a terminal of which only what it says is recorded: its bars would be there once for each time
that they moved. They are printed once, as they ended, and the tables after them.
"""

import io
import tempfile
from pathlib import Path

import anyio
from rich.console import Console
from rich.padding import Padding
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from neuralbox_async.extras.cli.demo import DEFAULT_OUT, DemoRun, totals
from neuralbox_async.extras.cli.screen import Screen
from neuralbox_async.extras.cli.tables import draw

PICTURE = Path(__file__).with_name("demo.svg")
WIDTH = 100
BACKGROUND, FOREGROUND = (24, 27, 33), (220, 223, 228)
GREY, RED, GREEN, YELLOW = (60, 64, 72), (232, 101, 101), (126, 200, 120), (229, 192, 123)
BLUE, MAGENTA, CYAN = (97, 175, 239), (198, 120, 221), (86, 182, 194)
THEME = TerminalTheme(BACKGROUND, FOREGROUND, [GREY, RED, GREEN, YELLOW, BLUE, MAGENTA, CYAN, FOREGROUND])


def main() -> None:
    """Run the demo and draw it."""
    recorder = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="standard")
    recorder.print(Text("$ neuralbox demo", style="bold"))
    screen = Screen(recorder, totals=totals())
    screen.bars.disable = True
    with tempfile.TemporaryDirectory() as folder:
        figures = anyio.run(DemoRun(out=folder, screen=screen).run)
    recorder.print(Padding(screen.bars, (1, 0, 0, 0)))
    draw(recorder, figures, DEFAULT_OUT)
    recorder.save_svg(str(PICTURE), title="neuralbox demo", theme=THEME)
    print(f"{PICTURE}: {figures.ours.requests} requests, a loop {figures.loop.requests}, {figures.seconds:.1f} s")


if __name__ == "__main__":
    main()

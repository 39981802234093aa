"""`cliplit watch`."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from cliplit.commands.shared import flag, folder, print_columns
from cliplit.method.run import Run, default_run_path


def watch(
    run: Annotated[str, folder("The run; by default runs/demo.")] = "",
    once: Annotated[bool, flag("--once", "Look once, instead of until the run is finished or Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(metavar="SECONDS", help="Between looks.")] = 15.0,
) -> None:
    """Watch a run at work.

    Prints how far its stages are, and keeps curves and the latest panel of images in RUN/watch/watch.png.
    """
    chosen = Run.open(Path(run or default_run_path("demo")))
    from cliplit.watch import HEADER, is_finished, picture, progress

    while True:
        if sys.stdout.isatty() and not once:
            print("\033[2J\033[H", end="")
        print_columns([HEADER, *(stage.row() for stage in progress(chosen))])
        print(picture(chosen).path, flush=True)
        if once or is_finished(chosen):
            return
        time.sleep(every)

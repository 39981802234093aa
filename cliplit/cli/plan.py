"""`cliplit plan`: what a run costs here, before it is started."""

import sys

import typer

from cliplit.cli.runs import open_run
from cliplit.cli.shared import print_columns, takes
from cliplit.errors import printable
from cliplit.method.run import Run


@takes(chosen=open_run)
def plan(chosen: Run) -> None:
    """Look at what a run needs, and how long it takes here.

    Every obstacle in a line, then (exit code 2) it ends. Else a miniature of the run is trained on this device, for the
    time of each part, its memory, and what would help.
    """
    from cliplit.experiments import planning

    _end_if(planning.obstacles(chosen))
    print(f"images: {planning.found(chosen)}")
    if made := chosen.current():
        print(f"{chosen.path}: {', '.join(made)} made already; the table has the cost of all")
    cost = planning.measure(chosen)
    print_columns([list(cost.table().columns), *cost.table().astype(str).to_numpy().tolist()])
    print(cost.summary())
    for line in planning.trials(chosen, cost):
        print(line)
    _end_if(planning.shortages(chosen, cost))


def _end_if(reasons: list[str]) -> None:
    for reason in reasons:
        print(printable(f"cliplit: error: {reason}"), file=sys.stderr)
    if reasons:
        raise typer.Exit(2)

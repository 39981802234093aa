"""`cliplit plan`, `reproduce`, `train`, `study`, `tables`, `report` and `settings`: the commands for runs."""

import os
import sys
import textwrap
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from cliplit.cli.shared import FOLDERS, flag, folder, joined, of_settings, shown, takes
from cliplit.engine import processes
from cliplit.errors import CliplitError, did_you_mean, printable
from cliplit.files.atomic import read_json
from cliplit.method.run import Run, choose_run
from cliplit.profiles import PROFILES
from cliplit.profiles import profile as get_profile
from cliplit.settings import describe, parse_overrides
from cliplit.values import in_words

COLUMNS = 100  # of a terminal, for `cliplit settings`
named = partial(typer.Option, metavar="NAME")

ProfileName = Annotated[str, typer.Option(help=f"Profile of a new run: {', '.join(PROFILES)}. Default: demo.")]
Rebuild = Annotated[bool, flag("--rebuild", "Rebuild stages that are damaged or do not match the settings.")]
Changes = Annotated[
    list[str],
    typer.Option("--set", metavar="NAME=VALUE", help="Change a setting (`cliplit settings` lists them); repeatable."),
]
Runs = Annotated[list[Path], typer.Option("--run", metavar="DIR", help="A run; several are seeds of one experiment.")]
GIVEN = {  # option: setting
    "seed": "seed",
    "device": "device",
    "random_clip": "clip.random",
    **FOLDERS,
    "checkpoint": "evaluation.checkpoints",
    "results": "evaluation.results",
    "skip_bad": "data.skip_bad",
    "deterministic": "engine.deterministic",
}


@takes(given=of_settings(GIVEN))
def open_run(
    *,
    profile: ProfileName = "",
    run: Annotated[
        str, folder(help="Directory of the run. Default: runs/PROFILE in the checkout, else in the working directory.")
    ] = "",
    given: dict[str, Any],
    clip: Annotated[str, named(help="The CLIP: tiny, MODEL/TAG of open_clip, MODEL/FILE, a file or a folder.")] = "",
    identity_clip: Annotated[str, named(help="CLIP of the identity loss, if it differs; must be a ResNet.")] = "",
    changes: Changes = (),
) -> Run:
    """The run that the shared options describe. Nothing is written yet."""
    from cliplit.method.clip_weights import has_resnet

    clip, identity_clip = _absolute(clip), _absolute(identity_clip)
    if clip and not identity_clip and has_resnet(clip):  # a ResNet can serve both losses
        identity_clip = clip
    clips = {"clip.similarity": clip, "clip.identity": identity_clip}
    given |= {name: value for name, value in clips.items() if value} | parse_overrides(changes)
    file, colon, name = given.get("guidance.kind", "").rpartition(":")
    if colon:  # a guidance from a user's file
        given["guidance.kind"] = f"{os.path.abspath(file)}:{name}"
    return choose_run(profile, run, given)


@takes(chosen=open_run)
def plan(chosen: Run) -> None:
    """Check that a run can start, and estimate its training time.

    Every obstacle is printed as an error, and the exit code is then 2. If there is none, a few iterations are trained to
    measure the time.
    """
    from cliplit.experiments.planning import look_over, network_iterations, seconds_each

    chosen.check()
    obstacles, notes = look_over(chosen, read=True)
    for line in obstacles:
        print(printable(f"cliplit: error: {line}"), file=sys.stderr)
    if obstacles:
        raise typer.Exit(2)
    print(*map(printable, notes), sep="\n")
    if made := chosen.finished():
        print(f"{chosen.path}: {', '.join(made)} already finished; the estimate includes them")
    each, count = seconds_each(chosen.settings), network_iterations(chosen.settings)
    seconds = each * count
    shown = f"{seconds / 3600:.1f} h" if seconds > 6000 else f"{seconds / 60:.1f} min"
    print(
        f"training the networks, controls included, takes about {shown} ({count} iterations of {each:.2g} s); "
        f"prompts and evaluation take extra time"
    )


@takes(chosen=open_run)
def reproduce(
    chosen: Run,
    rebuild: Rebuild = False,
    every: Annotated[bool, flag("--all", "Also execute the studies (notebooks 05 and 06).")] = False,
) -> None:
    """Execute the notebooks of a run that are not up to date.

    At the end, it prints the table of the run and where its files are.
    """
    from cliplit.experiments.notebooks import reproduce as execute

    made = execute(chosen, rebuild=rebuild, studies=every)
    if not made:
        print(f"nothing to do: all notebooks of {chosen.path} are up to date")
    _report(chosen, compare=bool(made))
    if made:
        report(chosen.path)


@takes(chosen=open_run)
def train(chosen: Run, rebuild: Rebuild = False) -> None:
    """Train and evaluate a run without the notebooks.

    `accelerate launch --multi_gpu --num_processes N -m cliplit train ...` splits every batch among N processes.
    """
    from cliplit.experiments.planning import at_work

    with at_work(chosen, rebuild):  # before the imports, which take a while
        from cliplit.experiments.evaluation import evaluate, train_controls
        from cliplit.experiments.report import run_tables, write_tables
        from cliplit.method.training import train as train_all

        train_all(chosen)
        train_controls(chosen)
        evaluate(chosen)
        if processes.is_main():
            write_tables(run_tables([chosen]), chosen.path / "tables")
    if processes.is_main():
        _report(chosen)


@takes(chosen=open_run)
def study(
    chosen: Run,
    names: Annotated[list[str], typer.Argument(metavar="[NAME]...", help="Studies. Default: all.")] = (),
    jobs: Annotated[int, typer.Option(help="Runs to train at a time; 0: one per core, or one on a GPU.", min=0)] = 0,
    rebuild: Rebuild = False,
) -> None:
    """Train the missing variants of the ablations and guidances.

    At the end, their tables are printed. Finished runs are kept.
    """
    from cliplit.experiments import studies
    from cliplit.scoring.summary import markdown

    known = studies.every_study(chosen.settings)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise CliplitError(f"unknown study '{unknown[0]}'; valid: {', '.join(known)}{did_you_mean(unknown[0], known)}")
    picked = [known[name] for name in names or known]
    outcomes = studies.run_studies(chosen, picked, jobs, rebuild)
    for each in picked:
        print(f"\n{each.name}: {each.question}\n\n{markdown(studies.write_study(chosen, outcomes[each.name]))}", end="")


def tables(
    runs: Runs,
    output: Annotated[str, folder(help="Folder for the tables. Default: tables/ of the first run.")] = "",
) -> None:
    """Print the table of one or more runs, and write all tables.

    The tables are written as CSV, Markdown and LaTeX. Several runs count as seeds of one experiment.
    """
    from cliplit.experiments.report import run_tables, write_tables
    from cliplit.scoring.summary import markdown, with_spread

    opened = [Run.open(path) for path in runs]
    made = run_tables(opened)
    print(*(run.summary().splitlines()[0] for run in opened), f"\n{markdown(with_spread(made['stages']))}", sep="\n")
    try:
        print(*write_tables(made, output or runs[0] / "tables"), sep="\n")
    except OSError as error:
        if output:
            raise
        print(f"{error.filename}: {error.strerror}; --output DIR writes the tables elsewhere", file=sys.stderr)


def report(run: Annotated[Path, folder(help="Directory of a finished run.")]) -> None:
    """Write report.html in the directory of a run: one page with claims, tables, figures and settings."""
    from cliplit.figures.page import write_page

    print(f"report     {write_page(Run.open(run))}")


def settings(profile: ProfileName = "", changes: Changes = ()) -> None:
    """List the settings of a profile.

    A line shows the value, its unit, the paper's value if it differs, the meaning, the allowed values, and the source in
    brackets.
    """
    rows = describe(get_profile(profile or "demo", parse_overrides(changes)))
    margin = max(len(row["name"]) for row in rows) + 2
    for row in rows:
        paper = "" if row["value"] == row["paper"] else f"(paper: {shown(row['paper'])})"
        first = " ".join(filter(None, (shown(row["value"]), row.get("unit"), paper)))
        source = f" [{row['source']}]" if row.get("source") else ""
        allowed = row.get("within") and f"allowed: {in_words(row['within'])}"
        line = f"{row['name']:{margin}}{joined(first, row.get('about'), allowed)}{source}"
        print(textwrap.fill(line, COLUMNS, subsequent_indent=" " * margin, break_on_hyphens=False))


def _absolute(clip: str) -> str:
    """The name of a CLIP. A path in it becomes absolute, so that a run does not depend on the working directory."""
    model, _, file = clip.partition("/")
    if Path(file).is_file():
        return f"{model}/{os.path.abspath(file)}"
    return os.path.abspath(clip) if clip and Path(clip).exists() else clip


def _report(run: Run, compare: bool = True) -> None:
    """Print the skipped images, the table, whether it agrees with what is published, and where the run's files are."""
    skipped = (read_json(run.path / "data" / "data.json") or {}).get("skipped", [])
    if skipped:
        print(f"images skipped: {len(skipped)}", *skipped, sep="\n  ", file=sys.stderr)
    table = run.path / "tables" / "stages.md"
    if table.is_file():
        print(f"\n{table.read_text(encoding='utf-8')}")
    if compare and table.is_file():  # the imports take seconds
        from cliplit.experiments.report import comparison, reproduced

        print(f"{reproduced(comparison(run))}\n")
    for name in ("tables", "figures", "notebooks"):
        if (run.path / name).is_dir():
            print(f"{name:10} {run.path / name}")

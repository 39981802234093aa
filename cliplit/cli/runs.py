"""`cliplit plan`, `reproduce`, `train`, `study`, `tables`, `publish` and `settings`: runs, and what becomes of them."""

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

COLUMNS = 100  # of a terminal, for `cliplit settings`
named = partial(typer.Option, metavar="NAME")

ProfileName = Annotated[str, typer.Option(help=f"Settings of a new run: {', '.join(PROFILES)}; by default demo.")]
Rebuild = Annotated[bool, flag("--rebuild", "Replace the stages that other settings would make differently.")]
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
        str, folder(help="Directory of the run; by default runs/PROFILE in the checkout, or in the working directory.")
    ] = "",
    given: dict[str, Any],
    clip: Annotated[str, named(help="CLIP: tiny, MODEL/TAG of open_clip, MODEL/FILE, a file or a folder.")] = "",
    identity_clip: Annotated[str, named(help="CLIP of the identity loss, if not the same; needs a ResNet.")] = "",
    changes: Changes = (),
) -> Run:
    """The run that the options shared by several commands ask for; nothing is written yet."""
    from cliplit.method.clip_weights import has_resnet

    clip, identity_clip = _absolute(clip), _absolute(identity_clip)
    if clip and not identity_clip and has_resnet(clip):  # one with a ResNet serves both losses
        identity_clip = clip
    clips = {"clip.similarity": clip, "clip.identity": identity_clip}
    given |= {name: value for name, value in clips.items() if value} | parse_overrides(changes)
    file, colon, name = given.get("guidance.kind", "").rpartition(":")
    if colon:  # a guidance of one's own
        given["guidance.kind"] = f"{os.path.abspath(file)}:{name}"
    return choose_run(profile, run, given)


@takes(chosen=open_run)
def plan(chosen: Run) -> None:
    """Look at all that a run needs, and say about how long it trains here.

    Each obstacle is a line; with one, the exit code is 2. Otherwise a few iterations are trained to take the time.
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
        print(f"{chosen.path}: {', '.join(made)} made already; the time is that of all")
    each, count = seconds_each(chosen.settings), network_iterations(chosen.settings)
    seconds = each * count
    shown = f"{seconds / 3600:.1f} h" if seconds > 6000 else f"{seconds / 60:.1f} min"
    control = ", the random-CLIP control included" if chosen.settings.evaluation.control else ""
    print(
        f"the networks train about {shown} ({count} iterations of {each:.2g} s{control}); prompts and evaluation come on top"
    )


@takes(chosen=open_run)
def reproduce(
    chosen: Run,
    rebuild: Rebuild = False,
    every: Annotated[bool, flag("--all", "Also the studies, notebooks 05 and 06.")] = False,
) -> None:
    """Execute the notebooks of a run that are not up to date.

    Ends with the table of the run and where to look.
    """
    from cliplit.experiments.notebooks import reproduce as execute

    if not execute(chosen, rebuild=rebuild, studies=every):
        print(f"nothing to do: all notebooks of {chosen.path} are up to date")
    _report(chosen)


@takes(chosen=open_run)
def train(chosen: Run, rebuild: Rebuild = False) -> None:
    """Train and evaluate a run without notebooks; also by several processes.

    `accelerate launch --multi_gpu --num_processes N -m cliplit train ...` shares every batch among them.
    """
    from cliplit.experiments.planning import at_work

    with at_work(chosen, rebuild):  # before the imports, which take a while
        from cliplit.experiments.evaluation import evaluate, train_control
        from cliplit.experiments.tables import run_tables, write_tables
        from cliplit.method.training import train as train_all

        train_all(chosen)
        if chosen.settings.evaluation.control:
            train_control(chosen)
        evaluate(chosen)
        if processes.is_main():
            write_tables(run_tables([chosen]), chosen.path / "tables")
    if processes.is_main():
        _report(chosen)


@takes(chosen=open_run)
def study(
    chosen: Run,
    names: Annotated[list[str], typer.Argument(metavar="[NAME]...", help="Studies; by default all.")] = (),
    jobs: Annotated[int, typer.Option(help="Runs trained at a time; 0: one per core, or one on a GPU.", min=0)] = 0,
    rebuild: Rebuild = False,
) -> None:
    """Train the variants of ablations and guidances that are missing.

    Ends with their tables, and what they say; finished runs are kept.
    """
    from cliplit.experiments import studies
    from cliplit.files.atomic import write_text
    from cliplit.scoring.summary import markdown

    known = studies.every_study(chosen.settings)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise CliplitError(f"unknown study '{unknown[0]}'; valid: {', '.join(known)}{did_you_mean(unknown[0], known)}")
    picked = [known[name] for name in names or known]
    outcomes = studies.run_studies(chosen, picked, jobs, rebuild)
    said = ""
    for each in picked:
        table, found = studies.write_study(chosen, outcomes[each.name]), studies.findings(outcomes[each.name])
        print(f"\n{each.name}: {each.question}\n\n{markdown(table)}\n{found}")
        said += f"* {each.question} {found}\n"
    write_text(said, chosen.path / "tables" / "findings.md")


def tables(
    runs: Runs,
    output: Annotated[str, folder(help="By default tables/ of the first run.")] = "",
) -> None:
    """Show the table of one or several runs, and write all tables.

    As CSV, Markdown and LaTeX; several runs are seeds of one experiment.
    """
    from cliplit.experiments.tables import run_tables, write_tables
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


def publish(
    run: Annotated[Path, folder(help="A finished run.")],
    output: Annotated[Path, folder(help="Where to.")],
) -> None:
    """Copy figures, notebooks and manifest of a run."""
    from cliplit.experiments.notebooks import publish as copy

    copies = copy(Run.open(run), output)
    lacking = [name for name in ("figures", "notebooks") if not any(output / name in path.parents for path in copies)]
    if lacking:
        print(f"{run}: no {' and no '.join(lacking)} there; `cliplit reproduce` makes them", file=sys.stderr)
    print(f"{len(copies)} files, {sum(path.stat().st_size for path in copies) / 1e6:.1f} MB in {output}")


def settings(profile: ProfileName = "", changes: Changes = ()) -> None:
    """List the settings of a profile.

    Each with its value, the paper's where that differs, unit, meaning and, in brackets, source.
    """
    rows = describe(get_profile(profile or "demo", parse_overrides(changes)))
    margin = max(len(row["name"]) for row in rows) + 2
    for row in rows:
        paper = "" if row["value"] == row["paper"] else f"(paper: {shown(row['paper'])})"
        first = " ".join(filter(None, (shown(row["value"]), row.get("unit"), paper)))
        source = f" [{row['source']}]" if row.get("source") else ""
        allowed = row.get("within") and f"allowed: {row['within']}"
        line = f"{row['name']:{margin}}{joined(first, row.get('about'), allowed)}{source}"
        print(textwrap.fill(line, COLUMNS, subsequent_indent=" " * margin, break_on_hyphens=False))


def _absolute(clip: str) -> str:
    """A CLIP's name with the path in it, if any, made absolute, so that a run does not depend on where it is started."""
    model, _, file = clip.partition("/")
    if Path(file).is_file():
        return f"{model}/{os.path.abspath(file)}"
    return os.path.abspath(clip) if clip and Path(clip).exists() else clip


def _report(run: Run) -> None:
    """What was left out, the table, and where to look."""
    skipped = (read_json(run.path / "data" / "data.json") or {}).get("skipped", [])
    if skipped:
        print(f"images skipped: {len(skipped)}", *skipped, sep="\n  ", file=sys.stderr)
    table = run.path / "tables" / "stages.md"
    if table.is_file():
        print(f"\n{table.read_text(encoding='utf-8')}")
    for name in ("tables", "figures", "notebooks"):
        if (run.path / name).is_dir():
            print(f"{name:10} {run.path / name}")

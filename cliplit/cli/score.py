"""`cliplit score` and `cliplit metrics`."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from cliplit.cli.shared import counted, fields_of, flag, folder, joined, not_looked_into, pairs, print_columns, takes
from cliplit.errors import CliplitError, did_you_mean
from cliplit.files.atomic import finite, write_text
from cliplit.scoring.files import Scores, Scoring, score_files
from cliplit.scoring.metrics import GROUPS, PRESETS, Conventions, catalogue, choose, conventions_of
from cliplit.scoring.weights import by_reason, why_unavailable

FORMATS = ("table", "csv", "json")
ROWS_SHOWN = 20
CONVENTIONS = ", ".join(vars(Conventions()))


@takes(how=fields_of(Scoring))
def score(
    *,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Image files and folders.")],
    reference: Annotated[str, folder("References: of the same stems and sizes.")] = "",
    metrics: Annotated[
        str, typer.Option(metavar="NAMES", help=f"Of pyiqa, or groups: {', '.join(GROUPS)}. Comma-separated.")
    ] = "nr",
    csv: Annotated[str, typer.Option(metavar="FILE", help="Write the scores of every image.")] = "",
    format: Annotated[str, typer.Option(metavar="|".join(FORMATS), help="What is printed.")] = "table",
    preset: Annotated[str, typer.Option(help=f"Conventions: {', '.join(PRESETS)}.")] = "cliplit",
    changes: Annotated[
        list[str], typer.Option("--set", metavar="NAME=VALUE", help=f"Change a convention: {CONVENTIONS}.")
    ] = (),
    strict: Annotated[bool, flag("--strict", "Exit code 2 unless every image has every score.")] = False,
    how: Scoring,
    cache: Annotated[bool, flag("--cache/--no-cache", "Keep scores for the next time, by content.")] = True,
) -> None:
    """Score images by any metric of pyiqa.

    Scores of every image and their mean ± standard deviation; several folders are compared, row by row.
    """
    if format not in FORMATS:
        raise CliplitError(f"--format {format}: valid are {', '.join(FORMATS)}{did_you_mean(format, FORMATS)}")
    how = how if cache else replace(how, cache=None)
    scores = score_files(paths, metrics, reference or None, _conventions(preset, changes), how)
    text = scores.table.to_csv(index=False, lineterminator="\n")
    if csv:
        write_text(text, Path(csv))
    if format == "json":
        print(json.dumps(finite(_as_json(scores)), indent=1, allow_nan=False))
    elif format == "csv":
        print(text, end="")
    else:
        _print_tables(scores, every_image=not csv)
    complete = _notes(scores)
    if csv:
        print(f"scores of every image: {csv}", file=sys.stderr)
    if strict and not complete:
        raise typer.Exit(2)


def list_metrics(
    names: Annotated[str, typer.Argument(metavar="[NAMES]", help="Names or groups; by default all.")] = "",
) -> None:
    """List metrics: direction, range, and whether they are ready here."""
    chosen = choose(names) if names else tuple(catalogue())
    reasons = why_unavailable(chosen)
    rows = [(catalogue()[name], reasons.get(name, "ready")) for name in chosen]
    print_columns([[one.heading, "with reference" if one.compares else "", state] for one, state in rows])


def _conventions(preset: str, changes: list[str]) -> Conventions:
    chosen = conventions_of(preset)
    for name, value in pairs(changes).items():
        if name not in vars(chosen):
            raise CliplitError(
                f"--set {name}: no such convention; valid: {CONVENTIONS}{did_you_mean(name, vars(chosen))}"
            )
        try:
            chosen = replace(chosen, **{name: type(getattr(chosen, name))(value)})
        except ValueError:
            raise CliplitError(f"--set {name}={value}: expected a whole number") from None
    return chosen


def _print_tables(scores: Scores, every_image: bool) -> None:
    import pandas as pd

    from cliplit.scoring.summary import summary, with_spread

    table = scores.table
    metrics = list(table.columns[1:])
    if not metrics:
        return
    head = [catalogue()[name].heading for name in metrics]
    if every_image and len(table) <= ROWS_SHOWN:
        rows = [
            [row["image"], *(f"{row[name]:.4f}".replace("nan", "-") for name in metrics)] for _, row in table.iterrows()
        ]
        print_columns([["image", *head], *rows])
        print()
    parts = [table[table["image"].isin(names)].assign(path=given) for given, names in scores.groups.items()]
    scored = {part["path"].iloc[0]: part[metrics].notna().any(axis=1).sum() for part in parts if len(part)}
    shown = with_spread(summary(pd.concat(parts), "path"), missing="no scores")
    print_columns(
        [["mean ± std", "images", *head]]
        + [[row["path"], str(scored[row["path"]]), *(row[name] for name in metrics)] for _, row in shown.iterrows()]
    )


def _notes(scores: Scores) -> bool:
    """Say on stderr what is not in the table; returns whether it is complete."""
    left_out = [f"{', '.join(names)} left out: {reason}" for reason, names in by_reason(scores.unavailable).items()]
    copies = [f"copies, counted once: {', '.join(scores.duplicates)}"] if scores.duplicates else []
    for line in (*left_out, *scores.problems, *scores.unpaired, *scores.notes, *copies):
        print(line, file=sys.stderr)
    scored = int(scores.table.iloc[:, 1:].notna().any(axis=1).sum())
    known = int(scores.table.iloc[:, 1:].notna().sum().sum()) - scores.computed
    line = joined(
        f"{counted(scored, 'image')} scored ({counted(scores.computed, 'score')} computed, {known} known before)",
        f"{counted(len(scores.table) - scored, 'image')} without a score" if scored < len(scores.table) else None,
        counted(len(scores.problems), "problem") if scores.problems else None,
        f"{counted(scores.others, 'other file')} ignored" if scores.others else None,
        not_looked_into(scores.passed),
    )
    print(line, file=sys.stderr)
    return not (scores.problems or scores.unpaired or scores.unavailable)


def _as_json(scores: Scores) -> dict[str, Any]:
    metrics = [catalogue()[name] for name in scores.table.columns[1:]]
    return {
        "metrics": [{"name": m.name, "lower_better": m.lower_better, "range": m.range} for m in metrics],
        "images": scores.table.to_dict(orient="records"),
        "mean": {m.name: scores.table[m.name].mean() for m in metrics},
        "std": {m.name: scores.table[m.name].std() for m in metrics},
        **{name: getattr(scores, name) for name in ("unavailable", "problems", "unpaired", "duplicates", "notes")},
    }

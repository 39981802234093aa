"""`cliplit score` and `cliplit metrics`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cliplit.cli.shared import flag, folder, joined, pairs, print_columns
from cliplit.errors import CliplitError
from cliplit.scoring.metrics import GROUPS, PRESETS, Conventions, catalogue, choose
from cliplit.scoring.weights import why_unavailable

if TYPE_CHECKING:
    import pandas as pd

    from cliplit.scoring.files import Scores

ROWS_SHOWN = 20
CONVENTIONS = ", ".join(vars(Conventions()))


def score(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Image files and folders.")],
    reference: Annotated[str, folder("References: of the same stems and sizes.")] = "",
    metrics: Annotated[
        str, typer.Option(metavar="NAMES", help=f"Of pyiqa, or groups: {', '.join(GROUPS)}. Comma-separated.")
    ] = "nr",
    csv: Annotated[str, typer.Option(metavar="FILE", help="Write the scores of every image.")] = "",
    format: Annotated[str, typer.Option(metavar="table|csv|json", help="What is printed.")] = "table",
    preset: Annotated[str, typer.Option(help=f"Conventions: {', '.join(PRESETS)}.")] = "cliplit",
    changes: Annotated[
        list[str], typer.Option("--set", metavar="NAME=VALUE", help=f"Change a convention: {CONVENTIONS}.")
    ] = (),
    recursive: Annotated[bool, flag("--recursive", "Also folders below.")] = False,
    allow_missing: Annotated[
        bool, flag("--allow-missing", "Go on where references are missing or differ in size.")
    ] = False,
    strict: Annotated[bool, flag("--strict", "Exit code 2 unless every image has every score.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    jobs: Annotated[int, typer.Option(help="Images at a time on a CPU; 0: one per core, up to 8.")] = 0,
    cache: Annotated[bool, flag("--cache/--no-cache", "Keep scores for the next time, by content.")] = True,
) -> None:
    """Score images by any metric of pyiqa.

    Scores of every image and their mean ± standard deviation; several folders are compared, row by row.
    """
    from cliplit.files.atomic import write_text
    from cliplit.scoring.files import Scoring, score_files

    if format not in ("table", "csv", "json"):
        raise CliplitError(f"--format {format}: valid are table, csv, json")
    how = Scoring(recursive, allow_missing, device, jobs, cache="default" if cache else None)
    scores = score_files(paths, metrics, reference or None, _conventions(preset, changes), how)
    text = scores.table.to_csv(index=False, lineterminator="\n")
    if csv:
        write_text(text, Path(csv))
    if format == "json":
        print(json.dumps(_as_json(scores), indent=1))
    elif format == "csv":
        print(text, end="")
    else:
        _print_tables(scores.table, paths, every_image=not csv)
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
    print_columns(
        [
            [
                catalogue()[name].heading,
                "with reference" if catalogue()[name].compares else "",
                reasons.get(name, "ready"),
            ]
            for name in chosen
        ]
    )


def _conventions(preset: str, changes: list[str]) -> Conventions:
    from dataclasses import replace

    if preset not in PRESETS:
        raise CliplitError(f"unknown preset '{preset}'; valid: {', '.join(PRESETS)}")
    chosen = PRESETS[preset]
    for name, value in pairs(changes).items():
        if name not in vars(chosen):
            raise CliplitError(f"--set {name}: no such convention; valid: {CONVENTIONS}")
        try:
            chosen = replace(chosen, **{name: type(getattr(chosen, name))(value)})
        except ValueError:
            raise CliplitError(f"--set {name}={value}: expected a whole number") from None
    return chosen


def _print_tables(table: "pd.DataFrame", paths: list[Path], every_image: bool) -> None:
    from cliplit.scoring.summary import summary, with_spread

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
    grouped = table.assign(path=[_given(image, paths) for image in table["image"]])
    shown = with_spread(summary(grouped, "path"), missing="no scores")
    counts = grouped["path"].value_counts()
    print_columns(
        [["mean ± std", "images", *head]]
        + [[row["path"], str(counts[row["path"]]), *(row[name] for name in metrics)] for _, row in shown.iterrows()]
    )


def _given(image: str, paths: list[Path]) -> str:
    """Which of the given paths an image comes from, by its name."""
    if len(paths) == 1:
        return str(paths[0])
    return next(str(path) for path in paths if f"{image}/".startswith(f"{path.as_posix()}/"))


def _notes(scores: "Scores") -> bool:
    """Say on stderr what is not in the table; returns whether it is complete."""
    for name, reason in scores.unavailable.items():
        print(f"{name} left out: {reason}", file=sys.stderr)
    for line in scores.problems:
        print(line, file=sys.stderr)
    for line in scores.unpaired:
        print(line, file=sys.stderr)
    if scores.duplicates:
        print(f"copies, counted once: {', '.join(scores.duplicates)}", file=sys.stderr)
    line = joined(
        f"{len(scores.table)} images scored ({scores.computed} scores computed, the others known)",
        f"{len(scores.problems)} problems" if scores.problems else None,
        f"{len(scores.unpaired)} without reference" if scores.unpaired else None,
        f"{scores.others} other files ignored" if scores.others else None,
    )
    print(line, file=sys.stderr)
    return not (scores.problems or scores.unpaired or scores.unavailable)


def _as_json(scores: "Scores") -> dict[str, Any]:
    rows = json.loads(scores.table.to_json(orient="records", double_precision=15))
    metrics = [catalogue()[name] for name in scores.table.columns[1:]]
    return {
        "metrics": [{"name": m.name, "lower_better": m.lower_better, "range": m.range} for m in metrics],
        "images": rows,
        "mean": {m.name: scores.table[m.name].mean() for m in metrics},
        "std": {m.name: scores.table[m.name].std() for m in metrics},
        "unavailable": scores.unavailable,
        "problems": scores.problems,
        "unpaired": scores.unpaired,
        "duplicates": scores.duplicates,
    }

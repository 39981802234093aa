"""`cliplit score` and `cliplit metrics`."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cliplit.cli.shared import counted, fields_of, flag, folder, joined, not_looked_into, print_columns, takes
from cliplit.errors import CliplitError, did_you_mean, printable
from cliplit.files.atomic import write_text
from cliplit.scoring.files import Scores, Scoring, score_files
from cliplit.scoring.metrics import GROUPS, PRESETS, Conventions, catalogue, choose, conventions_of
from cliplit.scoring.weights import left_out, why_unavailable
from cliplit.settings import override, parse_overrides

ROWS_SHOWN = 20
CONVENTIONS = ", ".join(vars(Conventions()))


@takes(how=fields_of(Scoring))
def score(
    *,
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Image files and folders.")],
    reference: Annotated[str, folder(help="Reference images with the same file stems and sizes.")] = "",
    metrics: Annotated[
        str, typer.Option(metavar="NAMES", help=f"Metrics of pyiqa, or groups: {', '.join(GROUPS)}; comma-separated.")
    ] = "nr",
    csv: Annotated[str, typer.Option(metavar="FILE", help="Write the scores of every image to this file.")] = "",
    preset: Annotated[str, typer.Option(help=f"Preset of conventions: {', '.join(PRESETS)}.")] = "cliplit",
    changes: Annotated[
        list[str], typer.Option("--set", metavar="NAME=VALUE", help=f"Change a convention: {CONVENTIONS}.")
    ] = (),
    strict: Annotated[bool, flag("--strict", "Exit with code 2 unless every image has every score.")] = False,
    how: Scoring,
    cache: Annotated[bool, flag("--cache/--no-cache", "Keep scores, and reuse them for unchanged images.")] = True,
) -> None:
    """Score images with any metric of pyiqa.

    It prints the scores of every image, and a row with mean ± standard deviation for every PATH.
    """
    if not all(paths):  # `Path` takes an empty text for the working directory
        raise CliplitError("'': an argument is empty; give a file or a folder")
    conventions = conventions_of(preset)
    for name, value in parse_overrides(changes).items():
        if name not in vars(conventions):
            near = did_you_mean(name, vars(conventions))
            raise CliplitError(f"--set {name}: unknown convention; valid: {CONVENTIONS}{near}")
        conventions = override(conventions, {name: value})
    how = how if cache else replace(how, cache=None)
    scores = score_files(paths, metrics, reference or None, conventions, how)
    if csv:
        write_text(scores.table.to_csv(index=False, lineterminator="\n"), Path(csv))
    if len(scores.table.columns) > 1:
        _print_tables(scores, every_image=not csv)
    _print_notes(scores)
    if csv:
        print(f"scores of every image: {csv}", file=sys.stderr)
    if strict and (scores.problems or scores.unavailable):
        raise typer.Exit(2)


def list_metrics(
    names: Annotated[str, typer.Argument(metavar="[NAMES]", help="Metrics or groups. Default: all.")] = "",
) -> None:
    """List metrics with direction, range and availability."""
    chosen = [catalogue()[name] for name in (choose(names) if names else catalogue())]
    reasons = why_unavailable(one.name for one in chosen)
    print_columns(
        [[one.heading, "with reference" if one.compares else "", reasons.get(one.name, "ready")] for one in chosen]
    )


def _print_tables(scores: Scores, every_image: bool) -> None:
    import pandas as pd

    from cliplit.scoring.summary import summary, with_spread

    table = scores.table.set_index("image")
    head = [catalogue()[name].heading for name in table.columns]
    if every_image and len(table) <= ROWS_SHOWN:
        cells = table.map("{:.4f}".format).replace("nan", "-")
        print_columns([["image", *head], *([name, *row] for name, *row in cells.itertuples())])
        print()
    given = {printable(path): names for path, names in scores.found.groups.items()}
    parts = {path: scores.table[scores.table["image"].isin(names)] for path, names in given.items()}
    rows = [["mean ± std", "images", *head]]
    groups = pd.concat([part.assign(path=path) for path, part in parts.items()])
    for path, *cells in with_spread(summary(groups, "path")).itertuples(index=False):
        rows.append([path, str(parts[path].iloc[:, 1:].notna().any(axis=1).sum()), *cells])
    print_columns(rows)


def _print_notes(scores: Scores) -> None:
    """Print on stderr what is not in the table."""
    copies = [f"copies, scored once: {', '.join(scores.duplicates)}"] if scores.duplicates else []
    for line in (*left_out(scores.unavailable), *scores.problems, *copies):
        print(line, file=sys.stderr)
    there = scores.table.iloc[:, 1:].notna()
    scored, known = int(there.any(axis=1).sum()), int(there.to_numpy().sum()) - scores.computed
    line = joined(
        f"{counted(scored, 'image')} scored ({counted(scores.computed, 'score')} computed, {known} from the cache)",
        f"{counted(len(there) - scored, 'image')} without a score" if scored < len(there) else None,
        counted(len(scores.problems), "problem") if scores.problems else None,
        f"{counted(scores.found.others, 'other file')} ignored" if scores.found.others else None,
        not_looked_into(len(scores.found.passed)),
    )
    print(line, file=sys.stderr)

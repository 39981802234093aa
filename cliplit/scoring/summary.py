"""From per-image scores to tables in the paper's layout, as data and as text. Importing it does not import torch."""

import re
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cliplit.files.atomic import write_text

Difference = namedtuple("Difference", "mean low high higher images")
MARKDOWN = str.maketrans({mark: f"\\{mark}" for mark in r"\|*`<$"})  # otherwise they end a cell or format text


def read_table(path: Path, *texts: str) -> pd.DataFrame:
    """A table from a CSV file, as it was written. In the columns `texts` every cell is text, even NA or 007."""
    return pd.read_csv(path, dtype=dict.fromkeys(texts, str), keep_default_na=False, na_values=[""])


def summary(scores: pd.DataFrame, by: str) -> pd.DataFrame:
    """Scores in the paper's layout: a row per group, and for every metric m its mean `m` and standard deviation `m_std`.

    Args:
        scores: columns `image`, `by`, and one per metric.
    Returns:
        Groups in order of appearance; `images` is their number of images.
    """
    groups = scores.groupby(by, sort=False)
    columns: dict[str, pd.Series] = {}
    for metric in (name for name in scores.columns if name not in (by, "image")):
        columns |= {metric: groups[metric].mean(), f"{metric}_std": groups[metric].std()}
    return pd.DataFrame(columns | {"images": groups["image"].nunique()}).reset_index()


def score_columns(table: pd.DataFrame) -> list[str]:
    """Names of the metrics of a summary."""
    return [name for name in table.columns if f"{name}_std" in table.columns]


def with_spread(table: pd.DataFrame) -> pd.DataFrame:
    """A summary for readers, with "mean ± std" over images in a cell per metric, and ± over seeds if there are several."""
    shown = table.iloc[:, :1].copy()
    for metric in score_columns(table):
        digits = 2 if table[metric].abs().max() > 2 else 3
        shown[metric] = ""
        for column, part in {metric: "{}", f"{metric}_std": " ± {}", f"{metric}_seed_std": " (seeds ± {})"}.items():
            values = table.get(column, [float("nan")] * len(table))
            shown[metric] += ["" if pd.isna(value) else part.format(f"{value:.{digits}f}") for value in values]
        shown.loc[table[metric].isna(), metric] = "no scores"
    return shown


def with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """Paired differences for readers, with "difference [low, high]" in one cell per metric."""
    shown: dict[str, dict[str, str]] = {}
    for _, row in table.iterrows():
        digits = 2 if table.loc[table["metric"] == row["metric"], "difference"].abs().max() > 1 else 3
        cell = f"{row['difference']:+.{digits}f} [{row['low']:+.{digits}f}, {row['high']:+.{digits}f}]"
        shown.setdefault(row.iloc[0], {})[row["metric"]] = cell
    return pd.DataFrame.from_dict(shown, orient="index").rename_axis(table.columns[0]).reset_index()


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown."""
    head, *rows = ([cell.translate(MARKDOWN) for cell in row] for row in (table.columns, *table.astype(str).values))
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ["---"] * len(head), *rows))


def latex(table: pd.DataFrame) -> str:
    """A table in LaTeX, for the package booktabs."""
    columns = "l" * len(table.columns)
    text = table.astype(str).to_latex(index=False, escape=True, column_format=columns)
    text = re.sub(r"^([\[*])", r"{\1}", text, flags=re.MULTILINE)  # else LaTeX takes them as options of the line before
    return text.replace("±", r"$\pm$")


def write_table(table: pd.DataFrame, shown: pd.DataFrame, folder: Path, name: str) -> list[Path]:
    """Write a table as NAME.csv, and the table `shown` for readers as NAME.md and NAME.tex. Returns the paths."""
    texts = {"csv": table.to_csv(index=False, float_format="%.4f", lineterminator="\n")}
    texts |= {"md": markdown(shown), "tex": latex(shown)}
    for suffix, text in texts.items():
        write_text(text, folder / f"{name}.{suffix}")
    return [folder / f"{name}.{suffix}" for suffix in texts]


def paired_difference(
    scores: Any, others: Any, samples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Difference:
    """Mean of ``scores - others`` with its bootstrap interval over images, and over seeds if there are several.

    The interval has the percentiles of resampled means. Seeds and images are resampled independently of each other,
    because all seeds are scored on the same images.

    Args:
        scores, others: (N,) or (seeds, N) each, of the same images in the same order; images with a NaN are left out.
        samples: how often seeds and images are resampled.
    Returns:
        `mean`, its interval from `low` to `high`, and how many of the `images` are `higher` by the first method. All NaN
        without a pair; of a single pair, its difference is both ends of the interval.
    """
    apart = np.atleast_2d(np.asarray(scores, float) - np.asarray(others, float))
    apart = apart[:, ~np.isnan(apart).any(0)]
    if not apart.size:
        return Difference(float("nan"), float("nan"), float("nan"), 0, 0)
    random = np.random.default_rng(seed)
    count, length = apart.shape
    images = random.integers(length, size=(samples, 1, length))
    seeds = random.integers(count, size=(samples, count, 1))
    tail = (1 - confidence) / 2
    low, high = np.quantile(apart[seeds, images].mean((1, 2)), (tail, 1 - tail))
    return Difference(float(apart.mean()), float(low), float(high), int((apart.mean(0) > 0).sum()), apart.shape[1])

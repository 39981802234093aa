"""From per-image scores to tables in the paper's layout, as data and as text. Importing it does not import torch."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cliplit.files.atomic import write_text


def summary(scores: pd.DataFrame, by: str) -> pd.DataFrame:
    """The paper's layout of per-image scores: a row per group, and for every metric m its mean `m` and spread `m_std`.

    Args:
        scores: columns `image`, `by`, and one per metric.
        by: the column whose values are rows: method, stage, folder.
    Returns:
        Groups in order of appearance; `images` is their number of images.
    """
    groups = scores.groupby(by, sort=False)
    columns = {}
    for metric in (name for name in scores.columns if name not in (by, "image")):
        columns |= {metric: groups[metric].mean(), f"{metric}_std": groups[metric].std()}
    return pd.DataFrame(columns | {"images": groups["image"].nunique()}).reset_index()


def score_columns(table: pd.DataFrame) -> list[str]:
    """Names of the metrics of a summary."""
    return [name for name in table.columns if f"{name}_std" in table.columns]


def with_spread(table: pd.DataFrame, missing: str = "no references") -> pd.DataFrame:
    """A summary for readers: "mean ± std" over images in one cell per metric, and ± over seeds if several."""
    shown = table.iloc[:, :1].copy()
    for metric in score_columns(table):
        digits = 2 if table[metric].abs().max() > 2 else 3
        shown[metric] = [
            missing if pd.isna(mean) else " ± ".join(f"{part:.{digits}f}" for part in (mean, spread) if pd.notna(part))
            for mean, spread in zip(table[metric], table[f"{metric}_std"])
        ]
        if f"{metric}_seed_std" in table.columns:
            seeds = [f" (seeds ± {spread:.{digits}f})" for spread in table[f"{metric}_seed_std"]]
            shown[metric] = [cell + seed.replace(" (seeds ± nan)", "") for cell, seed in zip(shown[metric], seeds)]
    return shown


def with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """Paired differences for readers: "difference [low, high]" in one cell per metric."""
    shown = {}
    for _, row in table.iterrows():
        digits = 2 if table.loc[table["metric"] == row["metric"], "difference"].abs().max() > 1 else 3
        cell = f"{row['difference']:+.{digits}f} [{row['low']:+.{digits}f}, {row['high']:+.{digits}f}]"
        shown.setdefault(row.iloc[0], {})[row["metric"]] = cell
    return pd.DataFrame.from_dict(shown, orient="index").rename_axis(table.columns[0]).reset_index()


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).values.tolist()]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def latex(table: pd.DataFrame) -> str:
    """A table in LaTeX, for the package booktabs."""
    rows = [" & ".join(_escape(cell) for cell in row) + r" \\" for row in table.astype(str).values.tolist()]
    head = " & ".join(_escape(name) for name in table.columns) + r" \\"
    columns = "l" * len(table.columns)
    lines = [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        head,
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def write_table(table: pd.DataFrame, shown: pd.DataFrame, folder: Path, name: str) -> list[Path]:
    """Write a table as NAME.csv, and as `shown` to readers in NAME.md and NAME.tex; returns the paths."""
    texts = {"csv": table.to_csv(index=False, float_format="%.4f", lineterminator="\n")}
    texts |= {"md": markdown(shown), "tex": latex(shown)}
    for suffix, text in texts.items():
        write_text(text, folder / f"{name}.{suffix}")
    return [folder / f"{name}.{suffix}" for suffix in texts]


def _escape(text: str) -> str:
    for plain, escaped in (
        ("\\", r"\textbackslash "),
        ("&", r"\&"),
        ("%", r"\%"),
        ("_", r"\_"),
        ("#", r"\#"),
        ("±", r"$\pm$"),
    ):
        text = text.replace(plain, escaped)
    return text


@dataclass(frozen=True)
class Difference:
    """Mean difference of paired scores, its confidence interval, and how many of the images are on which side."""

    mean: float
    low: float
    high: float
    higher: int
    images: int


def paired_difference(
    scores: np.ndarray, others: np.ndarray, samples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Difference:
    """Mean of ``scores - others`` with a percentile bootstrap interval over the images (Efron, 1979).

    Args:
        scores: (N,) of one method; pairs with a NaN are left out.
        others: (N,) of the other, of the same images in the same order.
        samples: resamples of the images.
        confidence: of the interval, e.g. 0.95.
    Raises:
        ValueError: not as many scores as others.
    """
    differences = np.asarray(scores, float) - np.asarray(others, float)
    differences = differences[~np.isnan(differences)]
    if not len(differences):
        return Difference(float("nan"), float("nan"), float("nan"), 0, 0)
    draws = np.random.default_rng(seed).integers(len(differences), size=(samples, len(differences)))
    tail = 50 * (1 - confidence)
    low, high = np.percentile(differences[draws].mean(1), [tail, 100 - tail])
    return Difference(differences.mean(), low, high, int((differences > 0).sum()), len(differences))


def differences(
    scores: pd.DataFrame, by: str, against: str, samples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Every group of per-image scores minus one of them, metric by metric.

    Args:
        scores: columns `image`, `by`, and one per metric; several scores of an image (seeds) are averaged first.
        by: the column whose values are methods.
        against: the method that the others are compared with.
    Returns:
        Columns `by`, `metric`, `difference`, `low`, `high`, `higher`, `images`; metrics without any pair are left out.
    """
    rows = []
    for metric in (name for name in scores.columns if name not in (by, "image", "run")):
        wide = scores.groupby(["image", by], sort=False)[metric].mean().unstack()
        for method in (name for name in scores[by].drop_duplicates() if name != against):
            found = paired_difference(wide[method], wide[against], samples, confidence, seed)
            if found.images:
                row = {by: method, "metric": metric, "difference": found.mean, "low": found.low, "high": found.high}
                rows.append(row | {"higher": found.higher, "images": found.images})
    return pd.DataFrame(rows, columns=[by, "metric", "difference", "low", "high", "higher", "images"])

"""Is a method better than another one on the same images? Paired differences with bootstrap confidence intervals."""

from dataclasses import dataclass

import numpy as np
import pandas as pd


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

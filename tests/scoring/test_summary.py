"""Tables as text, and intervals."""

import numpy as np
import pandas as pd
import pytest

from cliplit.scoring.summary import Difference, latex, paired_difference


def test_latex_holds_every_cell_and_compiles():
    table = pd.DataFrame({"stage": ["a_b", "c & d"], "psnr": ["20.1 ± 3.2", "50 %"], "": [1, "#2"]})
    assert latex(table).splitlines() == [
        r"\begin{tabular}{lll}",
        r"\toprule",
        r"stage & psnr &  \\",
        r"\midrule",
        r"a\_b & 20.1 $\pm$ 3.2 & 1 \\",
        r"c \& d & 50 \% & \#2 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


@pytest.mark.parametrize("count", [2, 3, 40])
def test_intervals_are_percentiles_of_resampled_means(count):
    scores = np.random.default_rng(count).normal(0.3, 1, count)
    found = paired_difference(scores, np.zeros(count), 2000, 0.9, seed=5)
    drawn = np.random.default_rng(5).integers(count, size=(2000, count))
    low, high = np.percentile(scores[drawn].mean(1), [5, 95])
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-14)
    assert (found.mean, found.higher, found.images) == (scores.mean(), (scores > 0).sum(), count)


def test_one_pair_is_its_own_interval_and_none_has_none():
    assert paired_difference(np.array([3.0]), np.array([1.0])) == Difference(2, 2, 2, 1, 1)
    nothing = paired_difference(np.array([]), np.array([]))
    assert np.isnan([nothing.mean, nothing.low, nothing.high]).all() and nothing.images == 0
    with pytest.raises(ValueError):
        paired_difference(np.zeros(3), np.zeros(2))

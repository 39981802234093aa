"""Tables as text, and intervals."""

import numpy as np
import pandas as pd
import pytest

from cliplit.scoring.summary import Difference, latex, markdown, paired_difference, read_table


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


def test_no_cell_ends_a_row_or_belongs_to_the_one_before():
    table = pd.DataFrame({"stage": ["a|b", "[c]", "*d"], "psnr": ["1", "2", r"\|"]})
    assert markdown(table).splitlines()[2:] == [r"| a\|b | 1 |", "| [c] | 2 |", r"| \*d | \\\| |"]
    assert latex(table).splitlines()[4:7] == [r"a|b & 1 \\", r"{[}c] & 2 \\", r"{*}d & \textbackslash | \\"]


def test_text_is_text_when_a_table_is_read_again(tmp_path):
    names = ["NA", "nan", "null", "None", "007", "1e5", "True", "", 'a,"b"', "N/A"]
    table = pd.DataFrame({"image": names, "psnr": [*range(9), np.nan]})
    table.to_csv(tmp_path / "scores.csv", index=False, lineterminator="\n")
    again = read_table(tmp_path / "scores.csv", "image")
    assert list(again["image"].fillna("")) == names and again["psnr"].equals(table["psnr"])


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

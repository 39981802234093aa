"""Claims and their verdicts, and whether a run agrees with what is published."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cliplit.errors import CliplitError
from cliplit.experiments import claims, report, tables
from cliplit.experiments.claims import Claim
from cliplit.profiles import profile


def verdict_of(effect: list[list[float]], reproduced, monkeypatch) -> pd.Series:
    frame = pd.DataFrame(effect, columns=["chelsea", "astronaut"])
    monkeypatch.setattr(claims, "claims", lambda: [Claim("It helps.", "3", "a difference", lambda runs: frame)])
    return claims.claims_table([reproduced.run]).iloc[0]


@pytest.mark.parametrize(
    ("effect", "verdict"),
    [
        ([[1, 2], [2, 1], [1, 1.5]], "supported"),
        ([[-1, -2], [-2, -1], [-1, -1.5]], "contradicted"),
        ([[1, -1], [2, -0.5], [1, -2]], "undecided"),  # the photos disagree
        ([[1, 2], [-4, -4], [1, 1.5]], "undecided"),  # the seeds do
        ([[1, 2]], "undecided: one seed"),
    ],
)
def test_the_verdict_follows_from_the_interval(effect, verdict, reproduced, monkeypatch):
    row = verdict_of(effect, reproduced, monkeypatch)
    assert row["verdict"] == verdict and row["effect"] == pytest.approx(np.mean(effect))
    assert (row["seeds"], row["photos"]) == (len(effect), 2)


def test_what_cannot_be_told_says_why(reproduced, monkeypatch):
    def cannot(runs):
        raise CliplitError("needs BAID")

    monkeypatch.setattr(claims, "claims", lambda: [Claim("It is best.", "4", "a gain", cannot)])
    table = claims.claims_table([reproduced.run])
    assert table.loc[0, "verdict"] == "not testable here: needs BAID"
    assert list(claims.for_readers(table).loc[0, ["effect [95 %]", "seeds × photos"]]) == ["", ""]


def test_every_claim_of_a_run_has_an_effect_or_a_reason(reproduced):
    table = claims.claims_table([reproduced.run])
    told = table["effect"].notna()
    assert len(table) == len(claims.claims()) and table["claim"].is_unique
    assert (table.loc[told, "verdict"] == "undecided: one seed").all() and told.sum() >= 8
    assert table.loc[~told, "verdict"].str.startswith("not testable here: ").all()
    own = table.set_index("measured")
    scores = tables.photo_scores(reproduced.run)["psnr"]
    last = scores["round2"] - scores["longer"]
    assert own.loc["last round against longer", "effect"] == pytest.approx(last.mean())


def test_a_run_that_does_not_reproduce_is_told_row_by_row(reproduced, monkeypatch):
    run = reproduced.run
    here = tables.stages_table([run]).set_index("stage")["psnr"]
    rows = {"seed": 0, "stage": ["initial", "round1", "round2"], "metric": "psnr", "tolerance": [0.5, 0.5, 0.2]}
    published = pd.DataFrame(rows | {"value": here[rows["stage"]].to_numpy()})
    monkeypatch.setattr(tables, "committed", lambda file: published)
    monkeypatch.setattr(report, "get_profile", lambda name, changes: run.settings)
    assert report.reproduced(report.comparison(run)).startswith("Reproduced: 3 of 3 rows within their tolerances")
    published.loc[1:, "value"] += [0.4, -0.4]
    line = report.reproduced(report.comparison(run))
    assert line == ("Not reproduced: 1 of 3 rows differ from what is published: round2 psnr +0.40 (tolerance 0.2).")
    published.loc[0, "stage"] = "round9"  # a row that the run lacks
    assert "2 of 3 rows differ" in report.reproduced(report.comparison(run))
    monkeypatch.setattr(report, "get_profile", lambda name, changes: replace(run.settings, seed=5))
    assert report.reproduced(report.comparison(run)).startswith("Not compared")


def test_every_published_row_of_the_demo_has_a_tolerance():
    published = tables.committed(tables.PUBLISHED)
    assert set(published["seed"]) == set(profile("demo").studies.seeds)
    assert published["tolerance"].between(0, 5).all() and published["value"].notna().all()
    assert {"initial", "round1", "longer"} <= set(published["stage"])

"""Evaluation beside other methods: baselines, networks and results given by path, paired differences."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from cliplit.errors import CliplitError
from cliplit.experiments import evaluation, tables
from cliplit.experiments.evaluation import check_others, evaluate, methods, results
from cliplit.files.tensors import write_image
from cliplit.method.checkpoints import export_released, save_enhancer
from cliplit.method.enhancer import Enhancer
from cliplit.method.run import Run
from cliplit.method.run_images import test_images as read_tests
from cliplit.profiles import SMOKE, profile
from cliplit.scoring.summary import differences, paired_difference, summary, with_intervals

ROUNDING = 1e-4  # scores.csv has six digits
COVERAGE = 0.06  # allowed departure of the share of intervals that hold the truth from 0.95, of 200 draws


@pytest.fixture
def run(reproduced, tmp_path) -> Run:
    """A copy of the finished run, whose evaluation may be made anew."""
    shutil.copytree(reproduced.run.path, tmp_path / "run")
    return Run(tmp_path / "run", reproduced.run.settings)


def with_others(run: Run, **others) -> Run:
    joined = Run(run.path, profile("smoke", {f"evaluation.{name}": value for name, value in others.items()}))
    joined.rebuilding = True
    return joined


def test_networks_and_results_from_elsewhere_join_the_table(run, tmp_path):
    network = Enhancer().initialize(3)
    save_enhancer(network, tmp_path / "mine.safetensors", SMOKE, "enhancer0", 1)
    export_released(tmp_path / "mine.safetensors", tmp_path / "released.pth")
    tests = read_tests(run)
    for test in tests:
        write_image(test.reference, tmp_path / "theirs" / f"{test.name}.png")
    write_image(tests[0].reference, tmp_path / "theirs" / "another.png")  # more than is needed does no harm
    joined = with_others(
        run, checkpoints=(f"authors={tmp_path / 'released.pth'}",), results=(f"theirs={tmp_path / 'theirs'}",)
    )
    check_others(joined.settings.evaluation)
    scores = evaluate(joined)
    assert list(scores["stage"].unique())[-2:] == ["authors", "theirs"]
    assert (scores.query("stage == 'theirs'")["psnr"] > 60).all()  # they are the references
    means = summary(scores, "stage").set_index("stage")
    own = tables.stages_table([joined]).set_index("stage")
    assert own.loc["theirs", "ssim"] == pytest.approx(means.loc["theirs", "ssim"], abs=ROUNDING)

    write_image(tests[0].reference * 0, tmp_path / "theirs" / f"{tests[0].name}.png")  # results that changed
    assert (evaluate(joined).query("stage == 'theirs'")["psnr"] > 60).all()  # what is finished stays


def test_results_are_saved_by_the_evaluation_and_made_again_where_they_are_not_there(run, monkeypatch):
    tests = read_tests(run)
    stages = [stage for stage in evaluate(run)["stage"].unique() if stage != "input"]
    saved = {stage: results(run, stage, tests) for stage in stages}
    shutil.rmtree(run.path / "evaluation" / "images")
    assert Run.open(run.path).is_current("evaluation")
    for stage in stages:
        assert all(torch.equal(*pair) for pair in zip(saved[stage], results(run, stage, tests), strict=True)), stage


def test_results_that_do_not_match_are_refused(run, tmp_path):
    tests = read_tests(run)
    for test in tests[1:]:
        write_image(test.reference[:, 2:], tmp_path / "theirs" / f"{test.name}.png")
    with pytest.raises(CliplitError) as refusal:
        methods(with_others(run, results=(f"theirs={tmp_path / 'theirs'}",)), tests, None)
    assert f"{tests[0].name}: no file" in str(refusal.value) and "differ in size" in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--results", "theirs"), "not of the form NAME=PATH"),
        (("--results", "theirs=missing"), "no such file or folder"),
        (("--results", "gamma=."), "the name 'gamma' is taken"),
        (("--checkpoint", "authors=missing.pth"), "no such checkpoint"),
        (("--set", "evaluation.baselines=histeq,magic"), "unknown baseline 'magic'"),
        (("--set", "evaluation.metrics=psnr,magic"), "'magic' is not one of pyiqa's"),
    ],
)
def test_bad_rivals_end_in_one_line(tmp_path, cli, options, words):
    code, _, err = cli("train", "--profile", "smoke", "--run", tmp_path / "run", *options)
    assert code == 2 and len(err) == 1 and words in err[0]


def test_baselines_keep_hue_and_range():
    ramp = torch.linspace(0, 0.3, 64).expand(64, 64)
    image = torch.stack([ramp, ramp / 2, ramp / 4])
    for equalise in evaluation.BASELINES.values():
        result = equalise(image)
        assert result.shape == image.shape and result.min() >= 0 and result.max() <= 1
        assert result.mean() > image.mean()
        lit = image[0] > 0.05
        assert torch.allclose(result[1][lit] / result[0][lit], torch.tensor(0.5), atol=0.02)
    equal = evaluation.BASELINES["histeq"](image)[0]
    assert torch.allclose(equal.mean(), torch.tensor(0.5), atol=0.02)


def test_paired_differences_are_what_they_say():
    scores = pd.DataFrame(
        {"stage": ["a"] * 3 + ["b"] * 3, "image": [*"xyz"] * 2, "psnr": [1, 2, 3, 2, 4, 6.0], "musiq": [np.nan] * 6}
    )
    table = differences(scores, "stage", "a")
    row = table.iloc[0]
    assert list(table["metric"]) == ["psnr"] and (row["difference"], row["higher"], row["images"]) == (2, 3, 3)
    assert 1 <= row["low"] < 2 < row["high"] <= 3
    assert differences(scores, "stage", "a").equals(table)  # seeded
    assert with_intervals(table).loc[0, "psnr"].startswith("+2.00 [+1.")


def test_intervals_hold_the_truth_as_often_as_they_claim():
    random = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        scores = random.normal(0.3, 1, 60)
        found = paired_difference(scores, np.zeros(60), 500, seed=trial)
        held += found.low <= 0.3 <= found.high
    assert abs(held / 200 - 0.95) < COVERAGE


def test_pairs_without_a_score_are_left_out():
    found = paired_difference(np.array([1.0, np.nan, 3.0]), np.array([0.0, 0.0, np.nan]))
    assert (found.mean, found.low, found.high, found.images) == (1, 1, 1, 1)
    assert np.isnan(paired_difference(np.array([np.nan]), np.array([0.0])).mean)

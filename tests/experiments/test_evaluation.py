"""Evaluation beside other methods: baselines, networks and results given by path, odd names, paired differences."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from cliplit.errors import CliplitError
from cliplit.experiments import evaluation, notebooks, tables
from cliplit.experiments.evaluation import check_others, evaluate, methods, results
from cliplit.files.atomic import read_json, write_json
from cliplit.files.tensors import write_image
from cliplit.method.checkpoints import export_released, save_enhancer
from cliplit.method.enhancer import Enhancer
from cliplit.method.run import Run
from cliplit.method.run_images import test_images as read_tests
from cliplit.profiles import SMOKE, profile
from cliplit.scoring import weights
from cliplit.scoring.summary import paired_difference, summary, with_intervals

ROUNDING = 1e-4  # scores.csv has six digits
NAMES = ["NA", "NB", "null", "007", "1e5"]  # of images: none of them is a number, or missing
REFUSED = ("a/b", r"a\b", "..", ".a", "_a", "a ", "a\tb", "a\nb", "a\udce9", "ä" * 51)  # as names of methods
ODD = r"a|b & $c_1$ 50%"  # a method's
COVERAGE = 0.06  # allowed departure of the share of intervals that hold the truth from 0.95, of 200 draws


def fake_run(scores: pd.DataFrame) -> SimpleNamespace:
    return SimpleNamespace(scores=scores, settings=SMOKE, notes=lambda *names: {"roles": {}})


@pytest.fixture
def run(reproduced, tmp_path) -> Run:
    """A copy of the finished run, whose evaluation may be made anew."""
    shutil.copytree(reproduced.run.path, tmp_path / "run")
    return Run(tmp_path / "run", reproduced.run.settings)


def with_others(run: Run, **others) -> Run:
    joined = Run(run.path, profile("smoke", {f"evaluation.{name}": value for name, value in others.items()}))
    joined.rebuilding = True
    return joined


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """What trains a run whose test images and rivals have odd names; one image is too small for MS-SSIM."""
    folder = tmp_path_factory.mktemp("odd")
    draws = torch.Generator().manual_seed(0)
    for name in NAMES:
        image = torch.rand(3, *((60, 60) if name == "007" else (176, 180)), generator=draws)
        write_image(image / 4, folder / "dark" / f"{name}.png")
        for side in ("light", "None", ODD):
            write_image(image, folder / side / f"{name}.png")
    settings = {
        "evaluation.control": "false",
        "refinement.rounds": 0,
        "evaluation.baselines": "",
        "evaluation.metrics": "psnr,ms_ssim",
    }
    changes = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    sides = {"--backlit": "dark", "--well-lit": "light", "--test-backlit": "dark", "--test-reference": "light"}
    given = [part for name, side in sides.items() for part in (name, folder / side)]
    given += [part for name in ("None", ODD) for part in ("--results", f"{name}={folder / name}")]
    return ("train", "--profile", "smoke", *given, *changes)


def test_text_stays_text_and_a_refused_image_is_left_out_and_what_was_missing_is_added(odd, cli, tmp_path, monkeypatch):
    path = tmp_path / "run"

    def offline(names, look_online=True):
        return {"ms_ssim": "weights (some file) are missing"} if "ms_ssim" in names else {}

    with monkeypatch.context() as patched:
        patched.setattr(weights, "why_unavailable", offline)
        patched.setattr(weights, "why_unavailable", offline)
        patched.setattr(evaluation, "why_unavailable", offline)
        code, _, err = cli(*odd, "--run", path)
        assert code == 0 and "metrics: ms_ssim left out: weights are missing" in err
        before = evaluation.read_scores(Run.open(path))
        assert list(before.columns) == ["stage", "image", "psnr"]
        build = read_json(path / "evaluation" / "stage.json")["build"]
        assert cli("train", "--run", path)[0] == 0
        assert read_json(path / "evaluation" / "stage.json")["build"] == build

    code, _, err = cli("train", "--run", path)  # now it can be computed
    assert code == 0
    run = Run.open(path)
    scores = evaluation.read_scores(run)
    assert scores.drop(columns="ms_ssim").equals(before)
    assert list(scores["stage"].unique()) == ["input", "gamma", "warmup", "initial", "None", ODD]
    assert all(list(group["image"]) == sorted(NAMES) for _, group in scores.groupby("stage"))
    assert set(scores.loc[scores["ms_ssim"].isna(), "image"]) == {"007"}
    notes = run.notes("evaluation", "evaluation.json")
    assert list(notes["unscored"]) == ["ms_ssim"] and list(notes["unscored"]["ms_ssim"]) == ["007"]
    assert "refuses images of 60x60 pixels" in notes["unscored"]["ms_ssim"]["007"] and notes["missing"] == {}

    said = "metrics: 1 of 5 test images get no score: ms_ssim refuses images of 60x60 pixels"
    assert any(line.startswith(said) for line in err)

    assert cli("tables", "--run", path)[0] == 0
    table = tables.stages_table([run]).set_index("stage")
    assert (table["images"] == 5).all() and table.loc["None", "ms_ssim"] == pytest.approx(1)
    means = scores[scores["image"] != "007"].groupby("stage")["ms_ssim"].mean()
    assert table["ms_ssim"].to_dict() == pytest.approx(means.to_dict())
    lines = (path / "tables" / "stages.md").read_text().splitlines()
    assert lines[-1].startswith(r"| a\|b & \$c_1\$ 50% | ") and lines[-2].startswith("| None | ")
    assert r"a|b \& \$c\_1\$ 50\% & " in (path / "tables" / "stages.tex").read_text()


def test_seeds_that_differ_in_what_changes_no_result_make_one_table(run, tmp_path, cli):
    other = shutil.copytree(run.path, tmp_path / "other")
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["settings"] |= {"seed": 1, "device": "cuda:7"}
    manifest["settings"]["watch"]["panel_every"] += 5
    manifest["settings"]["studies"]["rounds"] += 1
    write_json(manifest, other / "manifest.json")
    assert cli("tables", "--run", run.path, "--run", other, "--output", tmp_path / "tables")[0] == 0
    table = pd.read_csv(tmp_path / "tables" / "stages.csv")
    assert (table["seeds"] == 2).all() and (table["psnr_seed_std"] == 0).all()
    manifest["settings"]["prompts"]["length"] += 1
    write_json(manifest, other / "manifest.json")
    code, _, err = cli("tables", "--run", run.path, "--run", other, "--output", tmp_path / "tables")
    assert code == 2 and "not a seed of the same experiment" in err[0] and "prompts.length" in err[0]


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


def test_the_notebook_of_the_evaluation_is_out_of_date_once_a_metric_can_be_added(run, monkeypatch):
    notebook = notebooks.list_notebooks(notebooks.notebooks_folder())[4]
    assert notebooks._up_to_date(notebook, run)
    monkeypatch.setattr(run, "notes", lambda *_: {"missing": {"entropy": "weights are missing"}})
    assert not notebooks._up_to_date(notebook, run)
    monkeypatch.setattr(weights, "why_unavailable", lambda names: dict.fromkeys(names, "still not here"))
    assert notebooks._up_to_date(notebook, run)


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
        (("--results", "GAMMA=."), "the name 'gamma' is taken"),
        (("--results", "reference=."), "the name 'reference' is taken"),
        (("--results", "Ours=.", "--checkpoint", "ours=x"), "the name 'ours' is taken"),
        *((("--results", f"{name}=."), "cannot be used: no slashes") for name in REFUSED),
        (("--checkpoint", "authors=missing.pth"), "no such checkpoint"),
        (("--set", "evaluation.baselines=histeq,magic"), "unknown baseline 'magic'"),
        (("--set", "evaluation.metrics=psnr,magic"), "unknown metric 'magic'"),
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


def test_differences_are_of_photos_and_seeds(monkeypatch):
    rows = {
        ("input", "000_chelsea"): 1.0,
        ("input", "001_astronaut"): 2.0,
        ("input", "002_chelsea"): 3.0,
        ("initial", "000_chelsea"): 4.0,
        ("initial", "001_astronaut"): 3.0,
        ("initial", "002_chelsea"): 8.0,
    }
    scores = pd.DataFrame(
        [(*key, value, np.nan) for key, value in rows.items()], columns=["stage", "image", "psnr", "musiq"]
    )
    runs = [fake_run(scores), fake_run(scores.assign(psnr=scores["psnr"] * 2))]
    monkeypatch.setattr(tables, "read_scores", lambda run: run.scores)
    row = tables.differences_table(runs).iloc[0]
    assert (row["metric"], row["images"], row["higher"]) == ("psnr", 2, 2)
    assert row["difference"] == np.mean([[4, 1], [8, 2]])  # crops of a photo are one, seeds are many
    assert (row["low"], row["high"]) == (1, 8)  # with two photos and two seeds, the extremes
    assert with_intervals(tables.differences_table(runs)).loc[0, "psnr"] == "+3.75 [+1.00, +8.00]"


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

"""Studies: cells shared, kept and adopted; tables of what is there; the notebooks 05 and 06; the recipes for a guidance of one's own."""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
import torch

from cliplit.engine.processes import workers
from cliplit.errors import CliplitError
from cliplit.experiments import analysis, evaluation, studies
from cliplit.experiments.evaluation import evaluate
from cliplit.experiments.notebooks import STUDIES, list_notebooks, notebooks_folder, reproduce
from cliplit.experiments.studies import Study, Variant
from cliplit.figures import studies as figures
from cliplit.files.atomic import read_json, write_json
from cliplit.method import training
from cliplit.method.clip import load_backbone
from cliplit.method.guidance.base import Guidance
from cliplit.method.guidance.registry import new_guidance
from cliplit.method.run import Run, start_run
from cliplit.profiles import PAPER, SMOKE, profile
from cliplit.scoring.metrics import catalogue
from cliplit.settings import flatten, to_json

ROOT = Path(__file__).parents[2]
TWO = Study("two", "?", {"pair": Variant(), "none": Variant({"guidance.kind": "none"})})
LEFT = {"RAVE"}  # for a notebook to train


@pytest.fixture(scope="module")
def studied(tmp_path_factory) -> Run:
    run = start_run("smoke", tmp_path_factory.mktemp("studies") / "run")
    studies.run_studies(run, [TWO])
    return run


@pytest.fixture
def in_this_process(monkeypatch):
    """Have studies train in this process: a worker takes seconds to import libraries."""
    monkeypatch.setattr(studies, "workers", lambda count, *_: ThreadPoolExecutor(count))


def cell(run: Run, label: str) -> Run:
    return studies.study_runs(run, TWO, label)[0]


def test_every_variant_is_a_run_one_setting_away_from_the_base(studied):
    pair, none = flatten(cell(studied, "pair").settings), flatten(cell(studied, "none").settings)
    assert [name for name in pair if pair[name] != none[name]] == ["guidance.kind"]
    assert (
        pair["data.train_size"] == 32
        and pair["refinement.rounds"] == 0
        and not pair["evaluation.control"]
        and not pair["evaluation.longer"]
    )


@pytest.mark.parametrize(("tokens", "taken"), [(0, True), (15, False)])
def test_a_run_of_an_earlier_version_is_taken_unless_a_removed_setting_was_used(studied, tmp_path, tokens, taken):
    run = Run(tmp_path, studied.settings)
    stored = to_json(cell(run, "none").settings)
    stored["guidance"]["rave_shift_tokens"] = tokens
    write_json({"settings": stored}, tmp_path / "studies" / "earlier" / "manifest.json")
    assert (cell(run, "none").path.name == "earlier") == taken


def test_a_second_call_trains_nothing_and_a_table_can_be_made_of_what_is_there(studied, monkeypatch):
    monkeypatch.setattr(studies, "workers", None)
    studies.run_studies(studied, [TWO])
    more = replace(TWO, variants={**TWO.variants, "not yet": Variant({"enhancement.identity_weight": 1.0})})
    outcome = studies.outcome_of(studied, more)
    table = outcome.table
    assert list(table["variant"]) == ["input", "pair", "none"] and (table["seeds"] == 1).all()
    assert table["psnr"].notna().all() and table["ssim"].between(0, 1).all()
    assert (outcome.course["stage"].unique() == ["warmup", "initial"]).all()


def test_stages_that_are_the_same_are_adopted_by_other_variants(studied, tmp_path):
    source = cell(studied, "pair")
    other = Run.start(source.path.parent / "other", cell(studied, "none").settings)
    other.adopt_from([source.path])
    record = read_json(other.path / "data" / "stage.json")
    assert other.finished() == ["data"] and record == read_json(source.path / "data" / "stage.json")
    same = Run.start(source.path.parent / "same", source.settings)
    same.adopt_from([source.path])
    assert same.finished() == source.finished()


def test_the_evaluation_of_a_run_with_more_rounds_is_not_adopted(studied, tmp_path):
    source = cell(studied, "pair")
    longer = tmp_path / "longer"
    shutil.copytree(source.path, longer)
    record = read_json(longer / "evaluation" / "stage.json")
    write_json(record | {"needs": record["needs"] | {"enhancer1": "a build"}}, longer / "evaluation" / "stage.json")
    other = Run.start(tmp_path / "other", source.settings)
    other.adopt_from([longer])
    assert [*other.finished(), "evaluation"] == source.finished()


@pytest.mark.usefixtures("in_this_process")
def test_results_do_not_depend_on_how_many_are_trained_at_a_time(studied, tmp_path):
    alone = start_run("smoke", tmp_path / "alone")
    studies.run_studies(alone, [replace(TWO, variants={"none": TWO.variants["none"]})], jobs=1)
    file = Path("enhancer0") / "enhancer.safetensors"
    assert (cell(alone, "none").path / file).read_bytes() == (cell(studied, "none").path / file).read_bytes()


@pytest.mark.usefixtures("in_this_process")
def test_a_failed_variant_is_named_and_the_others_are_done(tmp_path):
    bad = {"bad": Variant({"enhancement.learning_rate": 1e30}), "good": Variant()}
    run = start_run("smoke", tmp_path)
    with pytest.raises(CliplitError, match="1 of 2 runs failed; the first: .* not finite"):
        studies.run_studies(run, [Study("bad", "?", bad)], jobs=1)
    assert list(studies.outcome_of(run, Study("bad", "?", bad)).table["variant"]) == ["input", "good"]


def test_workers_show_no_progress_bars_whenever_tqdm_was_imported(monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    with workers(1, "spawn", studies._prepare_worker) as pool:
        assert pool.submit(eval, "__import__('tqdm').tqdm([]).disable").result()


def test_iterations_are_those_to_the_worst_of_the_last_scores_that_are_better_than_the_input(
    studied, tmp_path, monkeypatch
):
    course = {"CLIP-LIT": (0.3, 0.2, 0.1), "RAVE": (0.3, 0.15, 0.2), "worse": (0.3, 0.4, 0.5), "none": (0.3, 0.3, 0.05)}
    rows = [
        {"variant": label, "stage": "", "iterations": 10 * n, "gmsd": score, "std": 0}
        for label, scores in course.items()
        for n, score in enumerate(scores)
    ]
    table = pd.DataFrame({"variant": ["input", *course], "gmsd": [0.3, 0.1, 0.2, 0.5, 0.05], "gmsd_std": 1.0})
    monkeypatch.setattr(studies.Outcome, "course", pd.DataFrame(rows))
    monkeypatch.setattr(studies.Outcome, "table", table)
    study = studies.guidance_variants(SMOKE)
    shown = studies.write_study(Run(tmp_path, SMOKE), studies.Outcome(study, "gmsd", {}, {}))
    assert list(shown["iterations"]) == ["–", "10", "10", "–", "20"]


@pytest.mark.parametrize(
    ("number", "study", "ours"), [("05", "ablation_guidance", "CLIP-Enhance"), ("06", "", "CLIP-LIT")]
)
@pytest.mark.parametrize(("metric", "holds"), [("psnr", False), ("gmsd", True)])
def test_the_checks_of_the_notebooks_follow_the_direction_of_the_metric(number, study, ours, metric, holds):
    (notebook,) = notebooks_folder().glob(f"{number}_*.ipynb")
    source = next(cell.source for cell in nbformat.read(notebook, 4).cells if "require_effect" in cell.source)
    table = pd.DataFrame({"variant": ["input", ours, "adversarial", "none"], metric: [0.3, 0.1, 0.2, 0.2], "seeds": 3})
    told: list[bool] = []
    stub = SimpleNamespace(
        require=lambda *_: None, expect=lambda *_: None, require_effect=lambda *args: told.append(args[2])
    )
    outcome = SimpleNamespace(metric=metric, table=table)
    names = {"outcome": outcome, "outcomes": {study: outcome}, "tables": {study: table}, "this": Run("nowhere", SMOKE)}
    names |= {"analysis": stub, "catalogue": catalogue, "display": str, "Markdown": str}
    exec(source, names | {"studies": SimpleNamespace(findings=lambda _: "")})
    assert told and all(bool(one) == holds for one in told)


@pytest.mark.usefixtures("in_this_process")
def test_a_metric_that_is_missing_does_not_rank_and_is_added_later(tmp_path, monkeypatch):
    one = Study("one", "?", {"pair": Variant()})
    run = start_run("smoke", tmp_path / "run", overrides={"studies.metrics": "entropy,psnr", "studies.seeds": (0,)})
    (cell,) = studies.study_runs(run, one, "pair")
    with monkeypatch.context() as patched:
        patched.setattr(evaluation, "why_unavailable", lambda names: {"entropy": "?"} if "entropy" in names else {})
        studies._train(str(cell.path), to_json(cell.settings))
    outcome = studies.outcome_of(run, one)
    assert outcome.metric == "psnr" and "entropy" not in outcome.table
    assert not outcome.course["psnr"].isna().any()
    figures.variants(run, outcome)
    weights = (cell.path / "enhancer0" / "enhancer.safetensors").stat().st_mtime_ns
    outcome = studies.run_studies(run, [one], jobs=1)["one"]
    assert outcome.metric == "entropy" and outcome.table["entropy"].notna().all()
    assert (cell.path / "enhancer0" / "enhancer.safetensors").stat().st_mtime_ns == weights


@pytest.mark.parametrize(("metrics", "words"), [("magic", "unknown metric 'magic'"), ("lpips", "can be computed")])
def test_metrics_of_studies_are_looked_at_before_anything_is_trained(tmp_path, monkeypatch, metrics, words):
    monkeypatch.setattr(evaluation, "why_unavailable", lambda names: {"lpips": "?"} if "lpips" in names else {})
    run = start_run("smoke", tmp_path / "run", overrides={"studies.metrics": metrics})
    with pytest.raises(CliplitError, match=words):
        studies.run_studies(run, [TWO])
    assert not (run.path / "studies").exists()


@pytest.mark.parametrize("settings", [SMOKE, profile("demo"), PAPER], ids=lambda settings: settings.profile)
def test_the_settings_of_all_variants_are_valid_and_all_different(settings):
    run = Run("nowhere", settings)
    for study in studies.every_study(settings).values():
        stages = [
            (cell.path, variant.stage_of(cell))
            for label, variant in study.variants.items()
            for cell in studies.study_runs(run, study, label)
        ]
        assert len(stages) == len(set(stages)) == len(study.variants) * len(settings.studies.seeds)


def test_variants_of_the_guidance_have_equally_many_iterations():
    settings = profile("demo")
    run, study = Run("nowhere", settings), studies.guidance_variants(settings)
    totals = {
        cell.settings.enhancement.iterations
        + cell.settings.refinement.rounds * cell.settings.refinement.tuning_iterations
        for label in study.variants
        for cell in studies.study_runs(run, study, label)
    }
    assert len(totals) == 1


class Brightness(Guidance):
    """Scores the mean of the image itself, which can be computed by hand."""

    def score(self, images):
        return images.images.flatten(1).mean(1)


def test_score_maps_are_the_scores_of_their_crops():
    guidance = Brightness(SMOKE, load_backbone("tiny"))
    image = torch.linspace(0, 1, 60).expand(3, 40, 60)
    scores = analysis.score_map(guidance, image, window=0.5, steps=3)
    expected = torch.tensor([image[..., left : left + 20].mean() for left in (0, 20, 40)])
    assert scores.shape == (3, 3) and torch.allclose(scores, expected.expand(3, 3), atol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("one_kernel")
def test_the_notebooks_of_the_studies_run(tmp_path):
    run = start_run("smoke", tmp_path / "run", overrides={"evaluation.control": False, "evaluation.longer": False})
    training.train(run)
    evaluate(run)
    for study in studies.every_study(run.settings).values():
        for label in study.variants.keys() - LEFT:  # a notebook's workers take long to import
            (cell,) = studies.study_runs(run, study, label)
            studies._train(str(cell.path), to_json(cell.settings))
    prepared = len(list((run.path / "studies").iterdir()))
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for source in list_notebooks(notebooks_folder())[STUDIES:]:
        shutil.copy(source, folder)
    assert [path.stem[:2] for path in reproduce(run, folder, studies=True)] == ["05", "06"]
    names = [*studies.every_study(run.settings)]
    assert len(list((run.path / "studies").glob("*/evaluation/stage.json"))) == prepared + len(LEFT)
    assert all((run.path / "tables" / f"{name}.{kind}").is_file() for name in names for kind in ("csv", "md", "tex"))
    figures = [f"{name}.png" for name in names]
    figures += ["05_score_maps.jpg", "06_progress.png", "06_results.jpg"]
    assert all((run.path / "figures" / name).is_file() for name in figures)
    assert reproduce(run, folder, studies=True) == []


def test_a_guidance_made_by_a_recipe_trains(tmp_path):
    text = (ROOT / "docs" / "guidance.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (code,) = (block for block in blocks if "(Guidance):" in block)
    assert len(code.splitlines()) < 40
    name, kind = re.search(r"--set guidance.kind=(\w+\.py):(\w+)", text).groups()
    (tmp_path / name).write_text(code)
    chosen = {"guidance.kind": f"{tmp_path / name}:{kind}", "evaluation.control": False} | {
        "data.embedded_images": 8,
        "data.train_size": 32,
    }
    run = start_run("smoke", tmp_path / "run", overrides=chosen)
    training.train(run)
    guidance = training.guidance_of(run, 2)
    assert type(guidance).__name__ == kind and isinstance(guidance, Guidance)
    scores = analysis.prompt_scores(run, [analysis.UNTRAINED, 0], results=False)  # notebook 01; it is only fitted
    assert all(torch.equal(scores[0][side], scores[analysis.UNTRAINED][side]) for side in scores[0])
    assert all(value.isfinite().all() and value.any() for value in guidance.state_dict().values())
    assert new_guidance(run.settings, guidance.clip).settings.guidance.kind.endswith(kind)
    log = training.Path(run.folder("enhancer2") / "log.csv").read_text()
    assert "nan" not in log


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"studies.seeds": ""}, "at least one, got none"),
        ({"studies.seeds": "1,1"}, "different numbers"),
        ({"studies.changes": "enhancement.iterations=-5"}, "must be 1 or more"),
        ({"studies.backbones": "tiny,nonesuch"}, "'nonesuch' is unknown"),
    ],
)
def test_studies_are_looked_over_before_a_first_run_is_trained(tmp_path, changes, words):
    run = Run(tmp_path / "run", profile("smoke", changes))
    with pytest.raises(CliplitError, match=words):
        studies.run_studies(run, studies.ablations(run.settings).values())
    assert not list(tmp_path.rglob("stage.json"))

"""Figures, tables and checks of the notebooks, and the notebooks' sources."""

import ast
import base64
import json
from pathlib import Path

import matplotlib as mpl
import matplotlib.style
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cliplit import profiles
from cliplit.errors import CliplitError
from cliplit.experiments import analysis, evaluation
from cliplit.experiments.notebooks import STUDIES
from cliplit.figures import evaluation as scores
from cliplit.figures import runs, style
from cliplit.method import training
from cliplit.method.run import Run, plan, start_run
from cliplit.settings import flatten

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
PARAMETERS = {"profile": "", "run": "", "seed": None, "overrides": {}}
RC = """text.usetex: True
font.family: serif
font.size: 20
figure.dpi: 40
figure.facecolor: black
figure.constrained_layout.w_pad: 1
savefig.dpi: 33
savefig.transparent: True
savefig.bbox: tight
savefig.facecolor: black
axes.unicode_minus: False
axes.formatter.use_mathtext: True
image.interpolation: bicubic
lines.antialiased: False
path.sketch: 10, 10, 1
"""
DRAW = {
    "00_training_images.jpg": runs.training_grid,
    "00_test_pairs.jpg": runs.test_grid,
    "00_severity_levels.jpg": runs.severity_levels,
    "01_prompt_separation.png": lambda run: runs.prompt_separation(
        run, analysis.prompt_scores(run, [analysis.UNTRAINED, 0], results=False)
    ),
    "02_training_curves.png": runs.enhancer_curves,
    "02_illumination_initial.jpg": lambda run: runs.illumination(run, 0, analysis.illumination_maps(run)),
    "03_scores.png": lambda run: runs.score_rounds(run, analysis.prompt_scores(run, range(3))),
    "03_rounds.jpg": runs.rounds_strip,
    "04_quality.png": lambda run: scores.quality(run, evaluation.evaluate(run)),
    "04_comparison.jpg": lambda run: scores.comparison_strip(run, evaluation.evaluate(run)),
    "hero.jpg": scores.hero,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished smoke run."""
    run = start_run("smoke", tmp_path_factory.mktemp("figures") / "run")
    training.train(run)
    evaluation.train_controls(run)
    evaluation.evaluate(run)
    return run


@pytest.mark.parametrize("name", DRAW)
def test_a_figure_is_saved_small_and_the_same_every_time(trained, name):
    first = DRAW[name](trained)
    content = first.path.read_bytes()
    assert first.path == trained.path / "figures" / name
    assert DRAW[name](trained).path.read_bytes() == content
    assert len(content) < 500_000
    with Image.open(first.path) as image:
        image.load()
        assert image.width <= style.WIDTH * style.DPI
        assert not {"Software", "Creation Time", "date:create"} & set(image.info)


@pytest.mark.parametrize(("draw", "kind"), [(runs.enhancer_curves, "image/png"), (runs.test_grid, "image/jpeg")])
def test_a_picture_shows_its_own_file_at_three_quarters_of_its_pixels(trained, draw, kind):
    picture = draw(trained)
    shown, sizes = picture._repr_mimebundle_()
    assert base64.b64decode(shown[kind]) == picture.path.read_bytes()
    with Image.open(picture.path) as image:
        assert sizes[kind] == {"width": image.width * 3 // 4, "height": image.height * 3 // 4}


def test_figures_leave_no_global_state(trained):
    before = dict(mpl.rcParams)
    scores.quality(trained, evaluation.evaluate(trained))
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    "name", ["01_prompt_separation.png", "02_training_curves.png", "03_scores.png", "04_quality.png", "hero.jpg"]
)
def test_figures_look_the_same_whatever_the_users_matplotlibrc_says(trained, tmp_path, name):
    content = DRAW[name](trained).path.read_bytes()
    (tmp_path / "matplotlibrc").write_text(RC)
    with mpl.rc_context():
        mpl.style.use("dark_background")
        mpl.rc_file(tmp_path / "matplotlibrc")
        picture = DRAW[name](trained)
        assert (
            picture.path.read_bytes() == content == base64.b64decode(picture._repr_mimebundle_()[0][picture._mimetype])
        )


def test_names_are_no_formulas(trained):
    names = ["$x$", "$", "a_b", r"$\frac$"]
    table = evaluation.evaluate(trained)
    rows = [table[table["stage"] == "round1"].assign(stage=name) for name in names]
    figure = scores.quality(trained, pd.concat([table, *rows])).figure
    shown = [label for label in figure.axes[0].get_xticklabels() if label.get_text() in names]
    assert len(shown) == 4 and not any(label.get_parse_math() for label in shown)
    (curves, *_) = runs.enhancer_curves(trained).figure.axes
    ticks = [label.get_text() for label in (*curves.get_yticklabels(), *curves.get_yticklabels(minor=True))]
    assert any(ticks) and not any("$" in tick for tick in ticks)


def test_scores_may_be_missing_of_an_image_of_a_stage_and_of_all(trained):
    table = evaluation.evaluate(trained)
    some = table.assign(psnr=table["psnr"].where(table["stage"] != "round1"))
    some.loc[some["stage"] == "round2", "psnr"] = [np.nan, 1.0, 2.0]
    assert scores.quality(trained, some).figure.axes[-1].get_xlabel().endswith(" of 2")
    none = table[["stage", "image", "psnr"]].assign(psnr=np.nan)
    assert len(scores.quality(trained, none).figure.axes) == 2


def test_lower_is_better_where_the_metric_says_so(trained):
    table = evaluation.evaluate(trained).rename(columns={"psnr": "gmsd"})
    wide = table.pivot(index="image", columns="stage", values="gmsd")
    change = sorted(wide["round2"] - wide["input"])
    bars = scores.quality(trained, table).figure.axes[-1]
    better = sum(value < 0 for value in change)
    assert bars.get_xlabel() == f"test images, sorted: better in {better} of 3" and "GMSD ↓" in bars.get_title("left")
    assert [bar.get_height() for bar in bars.patches] == pytest.approx(change)
    wrong = mpl.colors.to_rgba(style.WRONG)
    assert [bar.get_facecolor() != wrong for bar in bars.patches] == [value < 0 for value in change]


def test_figures_name_the_notebook_that_is_missing(tmp_path):
    run = start_run("smoke", tmp_path / "empty")
    with pytest.raises(CliplitError, match="notebook 00_setup_and_data"):
        runs.training_grid(run)
    with pytest.raises(CliplitError, match="notebook 02_enhancer_training"):
        runs.enhancer_curves(run)


def test_grids_show_as_many_images_as_there_are(trained):
    assert len(runs.rounds_strip(trained, images=range(99)).figure.axes) == 3 * 6  # 3 test images, 6 columns
    assert len(scores.hero(trained, images=[1]).figure.axes) == 3


def test_images_of_any_shape_fit_their_cells():
    wide, tall = torch.rand(3, 20, 200), torch.rand(3, 200, 20)
    assert style.resized(wide, 100, 80).shape == (10, 100, 3)
    assert style.resized(tall, 100, 80).shape == (80, 8, 3)
    assert len(style.mosaic([[wide, tall], [tall]], ["a", "b"]).axes) == 3


def test_long_runs_show_first_and_last_round():
    assert style.evenly(list(range(15)), 4) == [0, 5, 9, 14]
    assert style.evenly([1, 2], 4) == [1, 2]


def test_prompt_scores(trained):
    scores = analysis.prompt_scores(trained, [0, 2])
    assert list(scores) == [0, 2]
    assert list(scores[0]) == list(scores[2]) == ["backlit", "initial", "round1", "round2", "well-lit"]
    for side in [*scores[0].values(), *scores[2].values()]:
        assert len(side) == 8 and side.min() >= 0 and side.max() <= 1
    assert not scores[0]["backlit"].equal(scores[2]["backlit"])
    table = analysis.score_table(scores)
    assert table.loc[2, "round1"] == pytest.approx(scores[2]["round1"].mean().item())


def test_separation():
    ties = {"backlit": torch.tensor([0.9, 0.6, 0.2]), "well-lit": torch.tensor([0.1, 0.2])}
    assert analysis.separation(ties) == pytest.approx({"accuracy": 5 / 6, "auc": 5.5 / 6})
    untrained = {"backlit": torch.full((3,), 0.5), "well-lit": torch.full((2,), 0.5)}
    assert analysis.separation(untrained)["auc"] == 0.5


def test_tables_of_the_notebooks(trained):
    settings = analysis.settings_table(trained, "prompts")
    assert list(settings.index) == [name for name in flatten(trained.settings) if name.startswith("prompts.")]
    maps = analysis.illumination_maps(trained)
    assert len(maps) == 3 and all(light.min() >= 0 and light.shape[0] == 1 for _, light in maps)


def test_checks_can_fail(trained, capsys):
    analysis.require("one is one", True)
    with pytest.raises(CliplitError, match="check failed: one is two"):
        analysis.require("one is two", torch.tensor(False))
    analysis.require_effect(trained, "smoke learns", False)
    assert capsys.readouterr().out.splitlines()[1].startswith("skipped  smoke learns")
    demo = Run(trained.path, profiles.profile("demo"))
    with pytest.raises(CliplitError, match="check failed: demo learns"):
        analysis.require_effect(demo, "demo learns", False)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_sources(path):
    """No outputs, four literal parameters, few and short cells, no logic."""
    notebook = json.loads(path.read_text())
    cells = notebook["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert len({cell["id"] for cell in cells}) == len(cells) <= 24
    for cell in code:
        assert len(cell["source"]) <= 15
        assert not any(line.lstrip().startswith(("def ", "class ", "%", "!", "os.chdir")) for line in cell["source"])
    tagged = [cell for cell in code if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    assigned = ast.parse("".join(tagged[0]["source"])).body
    assert {line.targets[0].id: ast.literal_eval(line.value) for line in assigned} == PARAMETERS


def test_there_is_a_notebook_for_every_stage():
    wanted = {stage.made_by for stage in plan(profiles.profile("demo")).values()}
    assert wanted == {path.stem for path in NOTEBOOKS if int(path.stem[:2]) < STUDIES}

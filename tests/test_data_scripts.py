"""What trains and judges the models that ship: goes on where it stopped, measures what it says."""

import colorsys
import json
import os
import runpy
import sys
from pathlib import Path

import evaluate_enhancer
import fill
import model_cards
import nbformat
import numpy as np
import pandas as pd
import photo_sets
import processors
import publish as publish_run
import pytest
import torch
import train_enhancer
import train_tiny_clip
from PIL import Image

from cliplit.data.demo_images import photo
from cliplit.errors import CliplitError
from cliplit.experiments.notebooks import notebooks_folder
from cliplit.files.tensors import to_tensor, to_uint8, write_image
from cliplit.method.clip import load_backbone
from cliplit.method.enhancer import Enhancer
from cliplit.method.run import Run
from cliplit.profiles import SMOKE
from cliplit_photos.inference import SHIPPED_ENHANCER

SMALL = train_tiny_clip.Settings(
    iterations=6,
    image_size=32,
    width=8,
    embed_dim=32,
    stored_size=64,
    well_lit=3,
    backlit=3,
    dark=2,
    others=1,
    rival_width=8,
    rival_size=24,
    rival_images=3,
    generation=2,
)
ANGLE_TOLERANCE = 1.0  # degrees: hue of HSV is not quite the angle of chroma
SMALL_LIFTS = 0.15  # relative: the sigmoid is an exponential only far out
RATIO_TOLERANCE = 0.05  # of noise: rounding to 8 bits


@pytest.fixture(scope="module")
def photos():
    scenes = [to_uint8(photo(name)) for name in ("coffee", "grace_hopper", "astronaut", "chelsea")]
    squares = [np.array(Image.fromarray(scene).resize((64, 64))) for scene in scenes]
    return torch.from_numpy(np.stack(squares)).movedim(-1, 1)


def weights(model) -> dict[str, torch.Tensor]:
    return dict(model.state_dict())


def test_a_clip_that_is_interrupted_goes_on_to_the_same_weights_and_loads(photos, tmp_path, monkeypatch):
    torch.set_num_threads(1)
    whole = train_tiny_clip.train(photos, SMALL, tmp_path / "whole")
    draw = train_tiny_clip.draw_batch

    def interrupted(photos, settings, *keys):
        if keys == (4,):  # past the settling, in the second generation of rivals
            os.kill(os.getpid(), 2)
        return draw(photos, settings, *keys)

    monkeypatch.setattr(train_tiny_clip, "draw_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_tiny_clip.train(photos, SMALL, tmp_path / "again")
    monkeypatch.setattr(train_tiny_clip, "draw_batch", draw)
    again = train_tiny_clip.train(photos, SMALL, tmp_path / "again")
    assert all(torch.equal(value, weights(again)[key]) for key, value in weights(whole).items())
    assert (tmp_path / "again" / "log.csv").read_bytes() == (tmp_path / "whole" / "log.csv").read_bytes()

    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "image_size": 32}
    notes = {"model_cfg": json.dumps(train_tiny_clip.model_config(SMALL)), "preprocess": json.dumps(preprocess)}
    file = tmp_path / "clip.safetensors"
    file.write_bytes(train_tiny_clip.content(whole, notes))
    assert load_backbone(str(file)).encode_image(torch.rand(2, 3, 50, 40)).shape == (2, 32)
    figures = train_tiny_clip.evaluate(whole, photos, SMALL)
    assert figures["images"] == 4 and 0 <= figures["auc"] <= 1 and "dim" in figures["p_by_kind"]


def test_photos_are_split_by_folder_without_what_is_dark_or_drawn(tmp_path):
    for n in range(9):
        write_image(torch.full((3, 20, 30), 0.5), tmp_path / "a" / f"{n}.png")
    write_image(torch.full((3, 20, 30), 0.1), tmp_path / "a" / "0 night.png")
    write_image(torch.full((3, 20, 30), 0.5), tmp_path / "a" / "Boxplot.png")
    training, held_out = photo_sets.split([tmp_path / "a"])
    assert [file.name for file in held_out] == ["0.png", "8.png"]
    assert [file.name for file in training] == [f"{n}.png" for n in range(1, 8)]


def rotated(image: torch.Tensor, degrees: float) -> torch.Tensor:
    """An image of one colour with its hue turned."""
    h, s, v = colorsys.rgb_to_hsv(*image[:, 0, 0].tolist())
    return torch.tensor(colorsys.hsv_to_rgb(h + degrees / 360, s, v)).view(3, 1, 1).expand_as(image)


def test_the_columns_measure_what_they_say():
    image = torch.tensor([0.5, 0.48, 0.46]).view(3, 1, 1).expand(3, 8, 8)
    assert evaluate_enhancer.hue_change(image, image * 1.5) == pytest.approx(0, abs=0.05)
    turned = evaluate_enhancer.hue_change(image, rotated(image, 180))
    assert turned == pytest.approx(180, abs=ANGLE_TOLERANCE)
    white = torch.ones(3, 4, 4)
    assert evaluate_enhancer.white_becomes(white, white * 0.5) == pytest.approx(127.5)
    assert np.isnan(evaluate_enhancer.white_becomes(white * 0.9, white))

    dark = to_tensor(to_uint8(photo("coffee") ** 2.2 * 0.6))
    where = evaluate_enhancer.shadows(dark)
    assert where.float().mean().item() == pytest.approx(1 / 3, abs=0.05)
    lifted = to_tensor(to_uint8(dark**0.6))
    scores = evaluate_enhancer.dark_scores(dark, lifted)
    assert scores["noise"] == pytest.approx(1, abs=RATIO_TOLERANCE) and scores["newly clipped"] == 0
    before, after = (evaluate_enhancer.luma(x[None])[0, 0][where].mean().item() for x in (dark, lifted))
    assert scores["dark"] == pytest.approx(np.log2(after / before)) and "backlit" not in scores
    window = torch.where(torch.arange(dark.shape[-1]) < dark.shape[-1] / 5, 0.9, dark)
    assert evaluate_enhancer.is_backlit(window) and not evaluate_enhancer.is_backlit(dark)
    assert evaluate_enhancer.dark_scores(window, window)["backlit"] == 0
    half_white = torch.where(torch.arange(dark.shape[-1]) < dark.shape[-1] / 2, 1.0, dark)
    assert evaluate_enhancer.dark_scores(dark, half_white)["newly clipped"] == pytest.approx(50, abs=1)


def test_the_table_has_all_columns_and_the_best_gamma(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate_enhancer, "TRIED", (0.5, 0.7))
    monkeypatch.setattr(evaluate_enhancer, "GAMMAS", (0.7,))
    scenes = {name: photo(name)[:, :96, :128] for name in ("coffee", "astronaut", "chelsea")}
    window = torch.where(torch.arange(128) < 32, 0.9, scenes["chelsea"] ** 4)
    other = tmp_path / "theirs"
    write_image(scenes["coffee"], other / "coffee.png")
    methods = evaluate_enhancer.methods_of(results=[f"theirs={other}"], seeds=[SHIPPED_ENHANCER] * 2)
    exposures = {"coffee": (scenes["coffee"] ** 2, scenes["coffee"])}
    scores = evaluate_enhancer.measure(methods, scenes, exposures, {"cat": window})
    table, shown = evaluate_enhancer.summarise(scores, list(methods))
    rows = ["input", "best gamma", "gamma 0.7", "theirs", "seed 0", "seed 1", "ours", "mean of the seeds"]
    assert list(shown.iloc[:, 0]) == rows
    assert list(shown.iloc[-1, 1:]) == list(shown.iloc[-2, 1:])  # both seeds are the network that ships
    assert {
        "made backlit",
        "exposures",
        "ssim",
        "backlit",
        "dark",
        "newly clipped",
        "hue change",
        "white",
        "noise",
        "itself",
    } <= {*shown.columns}
    best = table[(table["method"] == "best gamma") & (table["column"] == "exposures")].iloc[0]
    assert best["mean"] > 40 and best["photos"] == 1  # 0.5 undoes the square
    theirs = table[table["method"] == "theirs"]
    assert theirs[theirs["column"] == "exposures"]["mean"].item() == pytest.approx(100, abs=60)
    assert evaluate_enhancer.sheet(methods, {"cat": scenes["chelsea"]}).axes


def test_small_lifts_are_multiplied_and_all_are_bounded():
    network = Enhancer(width=4, max_illumination=1.0, min_illumination=0.05).initialize(0)

    def stops(x: torch.Tensor) -> torch.Tensor:  # of the last convolution's output, without the bias
        return -torch.log2(network.positive(x + network.cond_add1.bias)).detach()

    x = torch.linspace(-40, 3, 50)
    before = stops(x)
    train_enhancer.lift(network, 2.0, 2.5)
    after = stops(x)
    assert (after.diff() < 0).all() and after.max() < 2.5 < before.max()  # more output, less lift
    small = before < 0.2
    assert small.any() and torch.allclose(after[small], 2 * before[small], rtol=SMALL_LIFTS)


def test_a_hash_of_the_name_splits_the_photos_in_halves():
    names = [f"{n}.jpg" for n in range(200)]
    halves = [evaluate_enhancer.half(Path(name).stem) for name in names]
    assert 80 < halves.count("chosen") < 120 and {*halves} == {*evaluate_enhancer.HALVES}
    files = [Path("folder") / name for name in names]
    assert [evaluate_enhancer.half(file.stem) for file in files[:4]] == ["reported"] * 3 + ["chosen"]  # everywhere
    parts = [evaluate_enhancer.within([half], files) for half in evaluate_enhancer.HALVES]
    assert sorted(parts[0] + parts[1]) == sorted(files) and not {*parts[0]} & {*parts[1]}


def test_the_card_is_what_the_files_and_tables_say(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["model_cards", "--output", str(tmp_path / "card.md")])
    model_cards.main()
    assert (tmp_path / "card.md").read_text() == (model_cards.SHIPPED_ENHANCER.parent / "MODEL_CARD.md").read_text()


@pytest.mark.slow
def test_the_script_for_a_gpu_runs_in_its_form_for_a_cpu(tmp_path, monkeypatch):
    options = ["--device", "cpu", "--profile", "smoke", "--kinds", "fp32", "--megapixels", "0.1"]
    monkeypatch.setattr(sys, "argv", ["gpu", *options, "--output", str(tmp_path / "table.md")])
    script = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "gpu.py"))
    with pytest.raises(SystemExit) as ended:
        script["main"]()
    assert not ended.value.code
    table = (tmp_path / "table.md").read_text()
    assert table.count("the same bytes") == 3 and "failed" not in table and "seconds per iteration" in table
    assert table.count("differs by") == 6


def test_tables_are_put_between_their_marks(tmp_path, monkeypatch):
    page, table = tmp_path / "page.md", tmp_path / "score.md"
    page.write_text("before\n<!-- score -->\nold\n<!-- /score -->\nafter\n")
    table.write_text("| new |\n")
    (tmp_path / "other.md").write_text("no place for it\n")
    monkeypatch.setattr(sys, "argv", ["fill.py", *map(str, (page, table, tmp_path / "other.md"))])
    fill.main()
    assert page.read_text() == "before\n<!-- score -->\n| new |\n<!-- /score -->\nafter\n"
    for content, says in (("nothing\n", "no place for a table"), ("<!-- score -->\n", "has no end")):
        page.write_text(content)
        with pytest.raises(ValueError, match=says):
            fill.main()


def test_publish_copies_without_absolute_paths(reproduced, tmp_path):
    copies = publish_run.publish(reproduced.run, tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json") in copies
    for folder, pattern in ("figures", "*"), ("notebooks", "*.ipynb"):
        names = {path.name for path in (reproduced.run.path / folder).glob(pattern)}
        assert names and names == {path.name for path in (tmp_path / "out" / folder).iterdir()}
    for path in (tmp_path / "out" / "notebooks").iterdir():
        record = nbformat.read(path, as_version=4).metadata.papermill
        assert Path(record.input_path).name == Path(record.output_path).name == path.name
    texts = [path.read_text(encoding="utf-8") for path in copies if path.suffix not in publish_run.PICTURES]
    places = (reproduced.run.path.parent, Path(__file__).parents[1])
    assert texts and not [place for place in places for text in texts if f"{place}/" in text]


def test_publish_refuses_unfinished_runs(tmp_path, reproduced):
    with pytest.raises(CliplitError, match="stage 'data' is missing"):
        publish_run.publish(Run.start(tmp_path / "run", SMOKE), tmp_path / "out")
    with pytest.raises(CliplitError, match="would replace the notebooks"):
        publish_run.publish(reproduced.run, notebooks_folder().parent)
    with pytest.raises(CliplitError, match="this is the run itself; choose another folder"):
        publish_run.publish(reproduced.run, reproduced.run.path)


def test_tolerances_are_the_largest_difference_rounded_up(reproduced):
    moved = pd.DataFrame({"initial": [0.0, -0.31, 0.2], "round1": [0.0, 0.3, 0.1], "round2": [0.0, 0.02, 0.01]})
    stages = ["input", "gamma", "histeq", "clahe", "warmup", "random-clip", "longer"]
    table = processors.published([reproduced.run], moved.assign(**dict.fromkeys(stages, 0.0))).set_index("stage")
    assert [*table.loc[["initial", "round1", "round2", "input"], "tolerance"].round(9)] == [0.4, 0.4, 0.1, 0.1]
    assert table["value"].notna().all() and (table["seed"] == 0).all()
    same = processors.differences(reproduced.run, {"2 threads": reproduced.run})
    assert (same == 0).all(axis=None) and sorted(same) == sorted(table.index)

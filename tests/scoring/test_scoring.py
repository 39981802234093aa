"""Scores of files: right values, every kind of file, pairing, conventions, cache, refusals."""

import json
import shutil

import numpy as np
import pandas as pd
import pyiqa
import pytest
import torch
from PIL import Image

import cliplit
from cliplit.errors import CliplitError
from cliplit.files.tensors import read_image
from cliplit.scoring import files, metrics, weights
from cliplit.scoring.files import Scoring
from cliplit.scoring.metrics import PRESETS, Conventions

EXACT = 1e-6  # to pyiqa called by hand on the same tensors
METRICS = ["psnr", "ssim", "entropy", "piqe"]
SIZES = [(64, 48), (96, 64), (80, 80)]


def picture(size, seed: int, channels: int = 3) -> np.ndarray:
    """A smooth picture with some noise, 8 bits."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(0, 255, (6, 8, channels)).astype(np.uint8)
    layers = [Image.fromarray(coarse[..., c]).resize(size, Image.Resampling.BICUBIC) for c in range(channels)]
    smooth = np.stack([np.asarray(layer) for layer in layers], -1).astype(float)
    return (smooth + random.normal(0, 4, smooth.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Fifty files: 48 images of many kinds with references, one corrupt, one text."""
    folder = tmp_path_factory.mktemp("mixed")
    references = tmp_path_factory.mktemp("references")
    for n in range(48):
        size = SIZES[n % 3]
        name = f"{n:02d}"
        rgb = picture(size, n)
        kind = n % 8
        if kind == 0:
            Image.fromarray(rgb[..., 0]).save(folder / f"{name}.png")
        elif kind == 1:
            Image.fromarray(np.dstack([rgb, picture(size, n, 1)])).save(folder / f"{name}.png")
        elif kind == 2:
            Image.fromarray(rgb[..., 0].astype(np.uint16) * 256 + 77).save(folder / f"{name}.png")
        elif kind == 3:
            Image.fromarray(rgb).convert("P").save(folder / f"{name}.png")
        else:
            Image.fromarray(rgb).save(folder / f"{name}.{['jpg', 'bmp', 'tiff', 'webp'][kind - 4]}")
        Image.fromarray(picture(size, n + 1000) // 2 + rgb // 2).save(references / f"{name}.png")
    whole = (folder / "04.jpg").read_bytes()
    (folder / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(picture(SIZES[4 % 3], 1)).save(references / "broken.png")
    (folder / "notes.txt").write_text("not an image")
    return folder, references


def test_values_are_those_of_pyiqa_for_every_kind_of_file(mixed, tmp_path, cli, monkeypatch):
    folder, references = mixed
    monkeypatch.setenv("CLIPLIT_CACHE", str(tmp_path / "cache"))
    target = tmp_path / "scores.csv"
    arguments = ("score", folder, "--reference", references, "--metrics", ",".join(METRICS), "--csv", target)
    code, out, err = cli(*arguments)
    assert code == 0
    assert [line for line in err if "broken.jpg" in line and "cannot be read" in line]
    assert any("48 images scored" in line and "1 problem;" in line and "1 other file " in line for line in err)
    assert any("psnr ↑" in line and "piqe ↓" in line for line in out)

    table = pd.read_csv(target)
    assert list(table.columns) == ["image", *METRICS] and len(table) == 48
    by_hand = {name: pyiqa.create_metric(name, device="cpu") for name in METRICS}
    for _, row in table.iterrows():
        image = read_image(folder / row["image"])[None]
        reference = read_image(references / f"{row['image'][:2]}.png")[None]
        for name, metric in by_hand.items():
            expected = metric(image, reference) if metric.metric_mode == "FR" else metric(image)
            assert row[name] == pytest.approx(expected.item(), abs=EXACT, nan_ok=True), (row["image"], name)

    monkeypatch.setattr(metrics.Meter, "__init__", None)  # the second call computes nothing, and builds nothing
    code, again, err = cli(*arguments)
    assert (code, again) == (0, out) and any("0 scores computed" in line for line in err)
    assert pd.read_csv(target).equals(table)
    assert cli(*arguments, "--strict")[0] == 2


def test_a_file_named_on_disk_scores_as_pyiqa_scores_its_path(mixed):
    folder, _ = mixed
    table = cliplit.score(folder / "05.bmp", "entropy", cache=None)
    assert table["entropy"][0] == pytest.approx(
        pyiqa.create_metric("entropy", device="cpu")(str(folder / "05.bmp")).item(), abs=EXACT
    )


def test_sixteen_bits_are_not_rounded(tmp_path):
    values = (np.arange(64 * 64, dtype=np.uint16) * 16).reshape(64, 64)
    Image.fromarray(values).save(tmp_path / "ramp.png")
    assert torch.equal(read_image(tmp_path / "ramp.png")[0], torch.from_numpy(values.astype(np.float32)) / 65535)


@pytest.fixture
def pairs(tmp_path):
    """BAID's layout with its faults: a copy of an image, one whose own name has brackets."""
    images = tmp_path / "input"
    references = tmp_path / "gt"
    for folder in (images, references):
        folder.mkdir()
    for n, name in enumerate(["0152", "0153(1)", "view(3)"]):
        Image.fromarray(picture((32, 32), n)).save(images / f"{name}.png")
    shutil.copy(images / "0152.png", images / "0152(2).png")
    for n, name in enumerate(["0152", "0153", "view(3)"]):
        Image.fromarray(picture((32, 32), n + 10)).save(references / f"{name}.jpg")
    return images, references


def test_copies_belong_to_their_original_and_count_once(pairs):
    scores = files.score_files(pairs[0], "psnr", pairs[1], how=Scoring(cache=None))
    assert list(scores.table["image"]) == ["0152.png", "0153(1).png", "view(3).png"]
    assert scores.duplicates == ["0152(2).png"] and not scores.problems


def test_missing_partners_and_other_sizes_are_listed(pairs, cli):
    images, references = pairs
    Image.fromarray(picture((32, 31), 1)).save(images / "view(3).png")
    (references / "0153.jpg").unlink()
    (references / "alone.jpg").write_bytes((references / "0152.jpg").read_bytes())
    arguments = ("score", images, "--reference", references, "--metrics", "psnr,entropy", "--no-cache")
    code, _, err = cli(*arguments)
    assert code == 2 and len(err) == 1
    assert all(part in err[0] for part in ("0153(1).png", "alone.jpg", "view(3)", "32x31 and 32x32", "--allow-missing"))
    code, out, err = cli(*arguments, "--allow-missing")
    _, psnr, entropy = next(line.split() for line in out if line.startswith("0153(1).png"))
    assert code == 0 and psnr == "-" and float(entropy) > 0 and any("alone.jpg" in line for line in err)
    assert cli(*arguments, "--allow-missing", "--strict")[0] == 2


def test_stems_match_whole_never_in_part(tmp_path):
    for folder, names in {"a": ["1", "10"], "b": ["10", "1"]}.items():
        (tmp_path / folder).mkdir()
        for name in names:
            Image.fromarray(picture((24, 24), int(name))).save(tmp_path / folder / f"{name}.png")
    table = cliplit.score(tmp_path / "a", "psnr", tmp_path / "b", cache=None)
    assert (table["psnr"] > 70).all()  # each is its own reference


def test_references_with_one_stem_are_ambiguous(pairs):
    (pairs[1] / "0152.png").write_bytes((pairs[0] / "0152.png").read_bytes())
    with pytest.raises(CliplitError, match="0152: several references"):
        cliplit.score(pairs[0], "psnr", pairs[1], cache=None)


def test_conventions_change_what_they_say(pairs):
    def measure(conventions, metric):
        return cliplit.score(pairs[0], metric, pairs[1], conventions, cache=None)[metric].to_numpy()

    by_hand = pyiqa.create_metric("psnr", device="cpu", test_y_channel=True, color_space="yiq")
    image = read_image(pairs[0] / "0152.png")[None]
    reference = read_image(pairs[1] / "0152.jpg")[None]
    assert measure("rave", "psnr")[0] == pytest.approx(by_hand(image, reference).item(), abs=EXACT)
    assert measure("cliplit", "ssim") == pytest.approx(measure("rave", "ssim"), abs=EXACT)  # pyiqa's luma is grey
    assert not np.allclose(measure(Conventions(ssim_colour="rgb"), "ssim"), measure("cliplit", "ssim"), atol=1e-4)
    inner = pyiqa.create_metric("psnr", device="cpu")(image[..., 3:-3, 3:-3], reference[..., 3:-3, 3:-3]).item()
    assert measure(Conventions(border=3), "psnr")[0] == pytest.approx(inner, abs=EXACT)
    assert measure("clip-lit", "psnr") == pytest.approx(measure("cliplit", "psnr"), abs=0)


def test_lpips_is_resized_as_the_preset_says():
    images = torch.rand(1, 3, 40, 60)
    meter = metrics.Meter([], PRESETS["rave"])
    for name, sides in {"lpips": (1024, 1536), "ssim": (40, 60)}.items():
        meter._models[name] = lambda image, reference, sides=sides: torch.tensor(
            [image.shape == reference.shape == (1, 3, *sides)]
        )
        assert meter.measure(name, images, images) == [True]


def test_processes_give_the_same_scores_as_one(mixed):
    folder, _ = mixed
    items = [files.Item(path.name, path, None) for path in sorted(folder.glob("*.??[gfp]"))]
    for item in items:
        files.look_at(item)
        item.pending = {"entropy": item.name}
    meter = metrics.Meter(["entropy"])
    together = {item.name: outcome for item, outcome in files.by_processes(meter, items, 2)}
    assert len(together) == len(items) and isinstance(together["broken.jpg"], str)
    assert together == {item.name: outcome for item, outcome in files.in_turn(meter, items, torch.device("cpu"))}


def test_an_interrupted_run_keeps_its_scores(mixed, tmp_path, monkeypatch):
    folder, _ = mixed
    measure = metrics.Meter.measure
    calls = []

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) > 5:
            raise KeyboardInterrupt
        return measure(self, *arguments)

    monkeypatch.setattr(metrics.Meter, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cliplit.score(folder, "entropy", cache=tmp_path / "cache", jobs=1)
    monkeypatch.setattr(metrics.Meter, "measure", measure)
    assert files.score_files(folder, "entropy", how=Scoring(cache=tmp_path / "cache")).computed == 48 - 5


def test_the_cache_goes_by_content_and_conventions(pairs, tmp_path):
    def computed(conventions="cliplit"):
        how = Scoring(cache=tmp_path / "cache")
        return files.score_files(pairs[0], "psnr,entropy", pairs[1], conventions, how).computed

    assert computed() == 6
    (pairs[0] / "0152.png").rename(pairs[0] / "0152.renamed.png")
    (pairs[0] / "0152.renamed.png").rename(pairs[0] / "0152.png")
    assert computed() == 0
    assert computed("rave") == 3  # entropy has no convention
    Image.fromarray(picture((32, 32), 99)).save(pairs[0] / "0153(1).png")
    assert computed() == 2


def test_metrics_that_cannot_be_had_are_named_once_and_quickly(pairs, cli, monkeypatch):
    asked = []
    monkeypatch.setattr(weights, "reachable", lambda address: asked.append(address))
    monkeypatch.setenv("TORCH_HOME", str(pairs[0] / "empty"))
    monkeypatch.setattr(weights, "_is_here", lambda wanted: False)
    arguments = ("score", pairs[0], "--metrics", "entropy,musiq,niqe,qalign", "--no-cache")
    code, _, err = cli(*arguments)
    assert code == 0 and asked == ["https://huggingface.co"]
    assert err[0].startswith("musiq, niqe left out: weights are missing and https://huggingface.co cannot be")
    assert err[1].startswith("qalign left out: needs the Python package")
    assert cli(*arguments, "--strict")[0] == 2
    code, out, err = cli("score", pairs[0], "--metrics", "musiq", "--no-cache")
    assert code == 2 and not out and len(err) == 1 and "none of these metrics can be computed here (musiq" in err[0]


def test_a_metric_that_refuses_an_image_says_which(tmp_path, cli):
    Image.fromarray(picture((5, 5), 0)).save(tmp_path / "small.png")
    Image.fromarray(picture((64, 64), 0)).save(tmp_path / "large.png")
    code, out, err = cli("score", tmp_path, "--metrics", "ssim", "--reference", tmp_path, "--no-cache")
    assert code == 0 and any("small.png: ssim refuses images of 5x5 pixels" in line for line in err)
    assert any(line.startswith("small.png") and line.endswith("-") for line in out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--metrics", "psnrr"), "unknown metric 'psnrr'"),
        (("--metrics", "fid"), "compares whole folders"),
        (("--metrics", "psnr"), "--reference"),
        (("--preset", "paper"), "valid: cliplit, clip-lit, rave"),
        (("--set", "psnr_color=y"), "unknown convention"),
        (("--set", "psnr_colour=y"), "must be rgb, luma or ycbcr, got y"),
        (("--set", "border=two"), "of type int"),
        (("--set", "border=-1"), "must be 0 or more, got -1"),
        (("--device", "quantum"), "cannot be used here"),
    ],
)
def test_bad_requests_end_in_one_line(pairs, cli, arguments, words):
    code, out, err = cli("score", pairs[0], "--no-cache", "--metrics", "entropy", *arguments)
    assert code == 2 and not out and len(err) == 1 and words in err[0]


def test_several_folders_are_compared_row_by_row(pairs, tmp_path, cli):
    images, references = pairs
    code, out, _ = cli("score", images, references, "--metrics", "entropy", "--no-cache")
    rows = [line for line in out if line.startswith(str(tmp_path))]
    assert code == 0 and {str(images), str(references)} <= {row.split()[0] for row in rows}


def test_the_table_of_weights_covers_the_installed_pyiqa():
    stored = json.loads(weights.WEIGHTS.read_text())
    assert stored["pyiqa"] == pyiqa.__version__, "run data_scripts/list_metric_weights.py again"
    assert set(metrics.catalogue()) <= set(stored["files"])
    for name, metric in metrics.catalogue().items():
        config = pyiqa.default_model_configs.DEFAULT_CONFIGS[name]
        assert metric.compares == (config["metric_mode"] == "FR")
        assert metric.lower_better == bool(config.get("lower_better"))

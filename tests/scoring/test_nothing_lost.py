"""One bad image, score or cache harms no other, and everything that has no score is named."""

import math
import sqlite3
import struct
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from cliplit.errors import CliplitError
from cliplit.files import images
from cliplit.files.atomic import sha256
from cliplit.scoring import cache, metrics
from cliplit.scoring.cache import ScoreCache, key
from cliplit.scoring.files import Scores, Scoring, measured, score_files
from cliplit.scoring.metrics import Conventions, Meter, sensible


@pytest.fixture
def folder(tmp_path):
    """Five images of noise; c is flat."""
    place = tmp_path / "images"
    place.mkdir()
    for n, name in enumerate("abcde"):
        pixels = np.random.default_rng(n).integers(0, 256, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels * (name != "c")).save(place / f"{name}.png")
    return place


def scored(folder, metrics="entropy", reference=None, **options) -> Scores:
    return score_files(folder, metrics, reference, how=Scoring(**{"cache": None} | options))


def by_name(scores: Scores, metric: str = "entropy") -> dict[str, float]:
    return dict(zip(scores.table["image"], scores.table[metric], strict=True))


@pytest.mark.parametrize(
    ("metric", "score", "words"),
    [
        ("piqe", math.nan, "piqe gives nan, which is not a score"),
        ("psnr", math.inf, "psnr gives inf"),
        ("vif", -math.inf, "vif gives -inf"),
        ("entropy", None, "entropy gives None"),
        ("cw_ssim", 1e6, "cw_ssim gives 1e+06, far outside its range (0, 1)"),
        ("wadiqam_fr", 30.0, "far outside its range (~-1, ~0.1)"),
        ("clipscore", -26.0, "far outside"),
        ("mad", math.nan, "mad gives nan"),
    ],
)
def test_nonsense_is_no_score(metric, score, words):
    assert words in sensible(metric, score)


@pytest.mark.parametrize(
    ("metric", "score"),
    [
        ("psnr", 79.9),
        ("psnr", 100.0),
        ("psnr", 0.0),
        ("ssim", -0.9),
        ("vif", 4.0),
        ("lpips", 1.3),
        ("mad", 5000.0),
        ("brisque", -40.0),
        ("niqe", 300.0),
        ("uranker", -9.0),
        ("fgresq_pair", 50.0),
    ],
)
def test_unusual_scores_are_scores(metric, score):
    assert sensible(metric, score) == score


def test_nothing_is_below_zero_by_its_sign_alone():
    assert math.copysign(1, sensible("entropy", -0.0)) == 1


def test_every_metric_has_bounds_around_its_range():
    for name, metric in metrics.catalogue().items():
        low, high = metric.bounds
        assert low < high and (math.isinf(low) == math.isinf(high)), name
    assert metrics.catalogue()["psnr"].bounds == (-400, 440)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_score_that_is_none_is_named_and_kept_as_such(folder, tmp_path, jobs):
    kept = tmp_path / "cache"
    first = scored(folder, "piqe,entropy", cache=kept, jobs=jobs)
    assert first.problems == [f"{folder / 'c.png'}: piqe gives nan, which is not a score"]
    assert [name for name, value in by_name(first, "piqe").items() if math.isnan(value)] == ["c.png"]
    assert by_name(first)["c.png"] == 0 and first.computed == 9
    again = scored(folder, "piqe,entropy", cache=kept)
    assert (again.problems, again.computed) == (first.problems, 0) and again.table.equals(first.table)


OPENED: list[str] = []
sys.addaudithook(lambda event, given: OPENED.append(str(given[0])) if event == "open" else None)


@pytest.mark.parametrize("mode", ["8 bits", "16 bits"])
def test_a_file_is_opened_once_to_look_and_once_more_if_a_score_is_missing(folder, tmp_path, mode):
    if mode == "16 bits":
        for name in "abcde":
            Image.fromarray(np.arange(48 * 48, dtype=np.uint16).reshape(48, 48) * 20).save(folder / f"{name}.png")
    for names in ("aaabbccddee", "abcde"):  # the first one also before metrics are loaded
        OPENED.clear()
        assert len(scored(folder, "entropy,piqe", cache=tmp_path / "cache").table) == 5
        assert sorted(name for name in OPENED if name.startswith(str(folder))) == sorted(
            str(folder / f"{name}.png") for name in names
        )


@pytest.mark.parametrize("old", [math.nan, math.inf, 1e6, b"\x00\xff"])
def test_nonsense_in_a_cache_of_before_does_not_come_back(folder, tmp_path, old):
    kept = ScoreCache(tmp_path / "cache")
    kept.put({key((sha256(folder / "a.png"), None), "entropy", Conventions()): old})
    scores = scored(folder, cache=tmp_path / "cache")
    if isinstance(old, bytes):
        assert by_name(scores)["a.png"] > 7 and not scores.problems
    else:
        assert math.isnan(by_name(scores)["a.png"])
        assert len(scores.problems) == 1 and scores.problems[0].startswith(f"{folder / 'a.png'}: entropy gives ")


@pytest.mark.parametrize("error", [MemoryError(), struct.error("unpack"), RuntimeError("a\nb"), RecursionError("deep")])
@pytest.mark.parametrize("step", [1, 2])  # to look at it, to decode it
def test_whatever_is_raised_by_one_image_is_its_own_problem(folder, monkeypatch, step, error):
    rightly = images.opened
    times = []

    def stumbles(file, *options):
        times.extend([file.name] * file.name.endswith("b.png"))
        if file.name.endswith("b.png") and len(times) == step:
            raise error
        return rightly(file, *options)

    monkeypatch.setattr(images, "opened", stumbles)
    scores = scored(folder)
    assert list(by_name(scores)) == ["a.png", "c.png", "d.png", "e.png"] and len(times) == step
    (problem,) = scores.problems
    reason = (
        "more pixels than this machine has memory for"
        if isinstance(error, MemoryError)
        else "cannot be read as an image ("
    )
    assert problem.startswith(f"{folder / 'b.png'}: {reason}") and "\n" not in problem


def test_one_metric_that_refuses_does_not_harm_the_others(monkeypatch):
    def measure(self, name, images):
        if name == "piqe":
            raise CliplitError("piqe refuses this")
        return images.flatten(1).mean(1).tolist()

    monkeypatch.setattr(Meter, "measure", measure)
    outcome = measured(Meter([]), ["piqe", "entropy"], [np.full((8, 8, 3), 51, np.uint8)], "cpu")
    assert outcome == {"piqe": "piqe refuses this", "entropy": pytest.approx(0.2)}


def test_a_metric_must_give_a_score_for_each_image():
    meter = Meter([])
    meter._models["entropy"] = lambda images: torch.zeros(len(images) + 1)
    with pytest.raises(CliplitError, match="3 scores of 2 images"):
        meter.measure("entropy", torch.rand(2, 3, 8, 8))


def test_too_many_pixels_are_refused_by_name_and_the_limit_is_an_option(folder):
    Image.new("RGB", (100, 100)).save(folder / "large.png")
    scores = scored(folder, max_pixels=5000)
    assert len(scores.table) == 5 and len(scores.problems) == 1 and "large.png" in scores.problems[0]
    assert len(scored(folder, max_pixels=10_000).table) == 6


def test_the_device_is_part_of_the_key_but_for_the_cpu(folder, tmp_path):
    digests = ("digest of the image", None)
    on_cpu, on_cuda = (key(digests, "entropy", Conventions(), device) for device in ("cpu", "cuda"))
    assert on_cpu == key(digests, "entropy", Conventions()) != on_cuda
    scored(folder, cache=tmp_path / "cache", device="cpu")
    elsewhere = scored(folder, cache=tmp_path / "cache", device="meta")  # computes no numbers
    assert elsewhere.table["entropy"].isna().all() and len(elsewhere.problems) == 5
    assert scored(folder, cache=tmp_path / "cache", device="cpu").computed == 0


def damage(path):
    """Spoil a cache behind its first page."""
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))


def test_a_cache_that_turns_out_to_be_damaged_is_named_and_not_changed(folder, tmp_path):
    kept = tmp_path / "cache"
    ScoreCache(kept).put({f"{n:064}": 1.0 for n in range(1000)})
    damage(kept)
    spoilt = kept.read_bytes()
    with pytest.raises(CliplitError, match=f"^{kept}: .*malformed.*remove it, or use --no-cache"):
        scored(folder, cache=kept)
    assert kept.read_bytes() == spoilt


def test_a_cache_that_is_locked_is_named_and_keeps_what_it_has(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "PATIENCE", 0.1)
    kept = ScoreCache(tmp_path / "cache")
    kept.put({"x": 1.0})
    other = sqlite3.connect(tmp_path / "cache", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for use in (lambda: kept.get(["x"]), lambda: kept.put({"x": 2.0})):
        with pytest.raises(CliplitError, match="locked"):
            use()
    other.execute("COMMIT")
    assert kept.get(["x"]) == {"x": 1.0}


@pytest.mark.parametrize("kind", ["garbage", "folder", "image"])
def test_what_is_no_cache_is_refused_in_one_line(folder, tmp_path, kind):
    kept = tmp_path / "cache"
    if kind == "garbage":
        kept.write_bytes(b"no database, but long enough to be looked at" * 100)
    elif kind == "folder":
        kept.mkdir()
    else:
        kept = folder / "a.png"
    with pytest.raises(CliplitError, match=f"^{kept}: cannot be used as a cache of scores .*; remove it"):
        scored(folder, cache=kept)


def test_every_image_that_was_not_taken_is_a_problem(folder, cli):
    (folder / "x.psd").write_bytes(b"")
    (folder / "lost.png").symlink_to("nowhere")
    (folder / "b.png.compare.jpg").write_bytes(b"")
    code, _, err = cli("score", folder, "--metrics", "entropy", "--no-cache", "--strict")
    assert code == 2
    assert [line for line in err if "x.psd: " in line]
    assert [line for line in err if "lost.png: cannot be opened" in line]
    assert err[-1] == ("5 images scored (5 scores computed, 0 from the cache); 2 problems; 1 other file ignored")


def test_different_pictures_of_one_name_are_both_scored(folder, tmp_path, cli):
    gt = tmp_path / "gt"
    gt.mkdir()
    Image.open(folder / "a.png").save(gt / "a.png")
    for name in "bcde":
        (folder / f"{name}.png").unlink()
    Image.new("RGB", (48, 48)).save(folder / "a.bmp")
    arguments = ("score", folder, "--reference", gt, "--metrics", "psnr", "--no-cache", "--strict")
    code, out, _ = cli(*arguments)
    assert code == 0 and [line.split()[0] for line in out[:3]] == ["image", "a.bmp", "a.png"]
    (folder / "a.bmp").rename(folder / "a(1).bmp")
    code, out, err = cli(*arguments)
    assert code == 2 and not out and len(err) == 1
    assert "a(1).bmp and a.png: different images that may belong to a.png" in err[0]


def test_images_without_any_score_are_not_counted_as_scored(folder, cli):
    arguments = ("score", folder, "--metrics", "psnr", "--no-cache", "--allow-missing")
    code, _, err = cli(*arguments)
    assert code == 0 and err[-1].startswith("0 images scored (0 scores computed")


def test_a_user_without_a_home_folder_is_told(folder, monkeypatch):
    monkeypatch.setenv("CLIPLIT_CACHE", "~no.such.user/cache")
    with pytest.raises(CliplitError, match="no home folder for the cache; set CLIPLIT_CACHE"):
        scored(folder, "entropy", cache="default")

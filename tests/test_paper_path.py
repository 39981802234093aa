"""The way of the profile paper from its data to its tables, in small: published layouts, all notebooks, other sizes."""

import csv
import shutil

import nbformat
import pytest
from layouts import make_catalog_small, write_test_sets, write_training_sets

from cliplit.files.atomic import read_json
from cliplit.method.run import Run

SMALL = {
    "data.train_size": 32,
    "prompts.iterations": 3,
    "prompts.batch_size": 4,
    "prompts.size": 32,
    "prompts.views_per_image": 1,
    "enhancement.width": 8,
    "enhancement.batch_size": 2,
    "enhancement.warmup_iterations": 3,
    "enhancement.iterations": 3,
    "enhancement.extend_above": "inf",
    "refinement.rounds": 1,
    "refinement.iterations": 3,
    "refinement.tuning_iterations": 3,
    "refinement.batch_size": 2,
    "refinement.extend_above": "inf",
    "evaluation.metrics": "psnr,ssim",
    "evaluation.control": "false",
}


@pytest.mark.slow
@pytest.mark.usefixtures("one_kernel")
def test_get_the_data_then_run(cli, tmp_path, monkeypatch):
    make_catalog_small(monkeypatch)
    write_training_sets(tmp_path / "fetched" / "train"), write_test_sets(tmp_path / "fetched" / "test")
    for name in ("train", "test"):
        shutil.make_archive(str(tmp_path / "fetched" / name), "zip", tmp_path / "fetched" / name)
        shutil.rmtree(tmp_path / "fetched" / name)
    root = tmp_path / "data"
    for name in ("baid", "div2k"):
        assert cli("data", "get", name, "--root", root, "--from", tmp_path / "fetched")[0] == 0
    changes = [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]
    given = ["--data", root / "baid", "--data", root / "div2k", "--clip", "tiny"]
    code, out, err = cli("reproduce", "--profile", "paper", "--run", tmp_path / "run", *given, *changes)
    assert code == 0, err
    run = Run.open(tmp_path / "run")
    assert run.finished() == list(run.plan) and run.settings.profile == "paper"
    copies = sorted((run.path / "notebooks").glob("*.ipynb"))
    assert [path.stem[:2] for path in copies] == ["00", "01", "02", "03", "04"]
    shown = str(nbformat.read(copies[0], as_version=4).cells)
    for name in ("baid", "div2k"):  # counts, sources and licences of what the run uses
        assert all(word in shown for word in (name, read_json(root / name / "dataset.json")["licence"].split(";")[0]))
    assert len(read_json(run.path / "data" / "data.json")["test"]) == 5
    with open(run.path / "tables" / "stages.csv", newline="") as file:
        rows = {row["stage"]: row for row in csv.DictReader(file)}
    assert {"input", "gamma", "warmup", "initial", "round1"} <= set(rows)
    assert all(float(row["psnr"]) > 0 and row["images"] == "5" for row in rows.values())
    assert any("round1" in line for line in out)
    table = (run.path / "tables" / "paper_baid.csv").read_text()
    assert "needs BAID and OpenAI's CLIP weights" in table
    code, out, _ = cli("reproduce", "--profile", "paper", "--run", tmp_path / "run", *given, *changes)
    assert code == 0 and "nothing to do" in out[0]

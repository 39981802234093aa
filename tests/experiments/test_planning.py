"""`cliplit plan`: every obstacle in a line, and how long the networks train."""

from typing import NamedTuple

import pytest
from PIL import Image

from cliplit.experiments import planning
from cliplit.method.run import Run
from cliplit.method.run_images import prepare_data
from cliplit.profiles import SMOKE
from cliplit.settings import override


class Usage(NamedTuple):
    free: int


@pytest.fixture
def images(tmp_path):
    for side in ("dark", "light"):
        (tmp_path / side).mkdir()
        for n in range(3):
            Image.effect_noise((80, 60), 60).convert("RGB").save(tmp_path / side / f"{n}.png")
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"data.backlit": "gone"}, "gone"),
        ({"clip.similarity": "ViT-B-32/openai"}, "use ViT-B-32-quickgelu/openai"),
        ({"clip.similarity": "nonesuch.safetensors"}, "is unknown"),
        ({"device": "cuda:7"}, "cannot be used here"),
        ({"engine.precision": "fp8"}, "engine.precision"),
        ({"prompts.initial": f"{'word ' * 80}dark,{'word ' * 80}light"}, "is longer than the 77 tokens"),
        ({"prompts.initial": "dark,not so bright"}, "make them equal"),
        ({"evaluation.metrics": "psnr,nonesuch"}, "nonesuch"),
    ],
)
def test_every_obstacle_has_one_line(cli, tmp_path, changes, line):
    arguments = [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
    code, out, err = cli("plan", "--profile", "smoke", "--run", tmp_path / "run", *arguments)
    assert code == 2 and out == [] and len(err) == 1 and line in err[0] and err[0].startswith("cliplit: error: ")
    assert not (tmp_path / "run").exists()


def test_several_obstacles_are_told_at_once(cli, images):
    for side in ("dark", "light"):
        (images / side / "1.png").write_bytes(b"no picture")
    options = ("--backlit", images / "dark", "--well-lit", images / "light", "--set", "device=cuda:7")
    code, _, err = cli("plan", "--profile", "smoke", "--run", images / "run", *options)
    assert code == 2 and len(err) == 3 and "cuda:7" in err[0] and "dark/1.png" in err[1] and "light/1.png" in err[2]
    settings = override(SMOKE, {"data.backlit": str(images / "dark"), "data.well_lit": str(images / "light")})
    skipping = Run(images / "run", override(settings, {"data.skip_bad": True}))
    obstacles, notes = planning.look_over(skipping, read=True)
    assert obstacles == [] and notes[0] == f"{images / 'dark'}: 3 images, backlit training images"
    assert [line.partition(":")[0] for line in notes[1:3]] == [
        "left out",
        str(images / "light"),
    ] and "dark/1.png" in notes[1]


def test_the_time_and_what_is_there_already_and_what_is_not_given_are_said(cli, tmp_path):
    run = Run.start(tmp_path / "run", SMOKE)
    prepare_data(run)
    obstacles, notes = planning.look_over(Run(tmp_path / "other", SMOKE))
    assert not obstacles and notes[0].endswith("for no data set is given (--data)")
    code, out, _ = cli("plan", "--run", run.path)
    assert code == 0
    assert f"{run.path}: data already finished; the estimate includes them" in out
    network, rounds = SMOKE.enhancement, SMOKE.refinement
    tuning = rounds.rounds * rounds.tuning_iterations  # of the run, of the control and of `longer`
    count = 2 * (network.warmup_iterations + network.iterations) + 3 * tuning
    assert (
        out[-1].startswith("training the networks, controls included, takes about 0")
        and f"({count} iterations of " in out[-1]
    )
    assert run.finished() == ["data"]


def test_metrics_that_lack_references_are_named(images):
    changes = {"data.backlit": images / "dark", "data.well_lit": images / "light", "data.test_backlit": images / "dark"}
    settings = override(SMOKE, {name: str(path) for name, path in changes.items()})
    _, notes = planning.look_over(Run(images / "run", settings))
    assert "metrics: no psnr, ssim without references of the test images (--test-reference)" in notes
    settings = override(settings, {"data.test_reference": str(images / "light")})
    assert not any("references of" in line for line in planning.look_over(Run(images / "run", settings))[1])


def test_too_little_disk_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(planning.shutil, "disk_usage", lambda path: Usage(1000))
    obstacles, _ = planning.look_over(Run(tmp_path / "run", SMOKE))
    assert len(obstacles) == 1 and "0.0 GB are free; choose another --run" in obstacles[0]


def test_iterations_are_timed_and_only_a_part_of_a_large_batch_on_a_cpu(monkeypatch):
    assert 0 <= planning.seconds_each(SMOKE) < 10
    monkeypatch.setattr(planning, "CPU_PIXELS", 1)  # one image
    assert 0 <= planning.seconds_each(SMOKE) < 10

"""`cliplit plan`: every obstacle in a line, and an estimate from a miniature of the run."""

from dataclasses import replace
from typing import NamedTuple

import pytest
from PIL import Image

from cliplit.experiments import planning
from cliplit.method.run import Run
from cliplit.method.run_images import prepare_data
from cliplit.profiles import PAPER, SMOKE
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


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("planned") / "run", SMOKE)
    return run, planning.measure(run)


def test_the_parts_are_those_of_the_run_and_nothing_is_left(planned):
    run, plan = planned
    counts = {part.name: part.iterations for part in plan.parts}
    rounds = SMOKE.refinement.rounds
    assert counts == {
        "start": 0,
        "data": 0,
        "initial prompts": SMOKE.prompts.iterations,
        "warm-up": SMOKE.enhancement.warmup_iterations,
        "network": SMOKE.enhancement.iterations,
        "prompts of all rounds": rounds * SMOKE.refinement.iterations,
        "network of all rounds": rounds * SMOKE.refinement.tuning_iterations,
        "random-CLIP control": 1,
        "evaluation": 0,
    }
    assert plan.scaled == 1 and plan.disk > 0 and plan.memory > 100
    assert 0 < plan.seconds(0) <= plan.seconds() <= plan.seconds(2)
    assert plan.table()["time"].iloc[-1] == planning.duration(plan.seconds()) and "miniature" in plan.summary()
    assert not run.path.exists()


def test_more_iterations_and_images_take_as_much_longer(planned):
    run, plan = planned
    longer = override(override(SMOKE, "enhancement.iterations", 4000), "evaluation.control", False)
    again = planning.measure(Run(run.path, longer))
    network = next(part for part in again.parts if part.name == "network")
    assert network.seconds() > 0.9 * 4000 * network.each[0]
    assert "random-CLIP control" not in [part.name for part in again.parts] and len(again.parts) == len(plan.parts) - 1


def test_on_a_cpu_large_batches_are_measured_smaller_and_scaled():
    small = planning.miniature(override(PAPER, "device", "cpu"))
    assert small.data.train_size == 512 and small.enhancement.batch_size == 1 and PAPER.enhancement.batch_size == 8
    assert planning.larger(4500, 1500, 8.0) == 25500 and planning.larger(4500, 1500, 1.0) == 4500
    assert small.clip == PAPER.clip and small.enhancement.width == PAPER.enhancement.width


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"data.backlit": "gone"}, "gone"),
        ({"clip.similarity": "ViT-B-32/openai"}, "use ViT-B-32-quickgelu/openai"),
        ({"clip.similarity": "nonesuch.safetensors"}, "is unknown"),
        ({"device": "cuda:7"}, "cannot be used here"),
        ({"engine.precision": "fp8"}, "engine.precision"),
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
    run = Run(
        images / "run",
        override(override(SMOKE, "data.backlit", str(images / "dark")), "data.well_lit", str(images / "light")),
    )
    assert planning.found(run) == "3 train backlit, 3 train well lit"
    skipping = Run(run.path, replace(run.settings, data=replace(run.settings.data, skip_bad=True)))
    assert planning.obstacles(skipping) == []


def test_what_is_there_already_and_what_is_not_given_is_said(cli, planned, tmp_path, monkeypatch):
    run = Run.start(tmp_path / "run", SMOKE)
    prepare_data(run)
    monkeypatch.setattr(planning, "measure", lambda run, changes=None: planned[1])
    code, out, _ = cli("plan", "--profile", "smoke", "--run", run.path)
    assert code == 0 and out[0].endswith("for no data set is given (--data)")
    assert out[1] == f"{run.path}: data made already; the table has the cost of all"


def test_too_little_disk_and_memory_are_told(planned, monkeypatch):
    run, plan = planned
    assert planning.shortages(run, plan) == []
    monkeypatch.setattr(planning.shutil, "disk_usage", lambda path: Usage(1000))
    monkeypatch.setattr(planning, "free_memory", lambda device: 10)
    disk, memory = planning.shortages(run, plan)
    assert "choose another --run" in disk and "smaller enhancement.batch_size" in memory

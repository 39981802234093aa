"""The stages of training: exact resume, the guard, extensions, the best copy, rounds as released."""

import csv
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cliplit import loops, training
from cliplit.checks import CliplitError
from cliplit.data import prepare_data
from cliplit.enhancer import Enhancer
from cliplit.runs import read_json, start_run

LEARNED = ("prompts.safetensors", "enhancer.safetensors")


def weights(run) -> dict[str, torch.Tensor]:
    files = [path for path in sorted(run.path.rglob("*.safetensors")) if path.name in LEARNED]
    return {f"{path.parent.name}/{key}": value for path in files for key, value in load_file(path).items()}


def log(run, stage) -> list[dict[str, float]]:
    with open(run.path / stage / "log.csv", newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = start_run("smoke", tmp_path_factory.mktemp("trained"))
    training.train(run)
    return run


def test_every_stage_leaves_weights_and_log(trained):
    for stage in ("prompts0", "warmup", "enhancer0", "prompts1", "enhancer1", "prompts2", "enhancer2"):
        assert trained.is_current(stage) and log(trained, stage)
        assert not (trained.path / stage / "progress.pt").exists()
    assert all(torch.isfinite(value).all() for value in weights(trained).values())


def test_rounds_rank_two_then_three_then_four_groups(trained):
    columns = [[key for key in log(trained, f"prompts{k}")[0] if key.startswith("score")] for k in (1, 2)]
    assert columns == [
        ["score_backlit", "score_enhancer0", "score_well_lit"],
        ["score_backlit", "score_enhancer0", "score_enhancer1", "score_well_lit"],
    ]


def test_a_second_call_trains_nothing(trained, monkeypatch):
    monkeypatch.setattr(training, "Loop", None)
    training.train(trained)


class Killed(BaseException):
    """Ends the process, as far as the training can tell."""


@pytest.mark.parametrize("steps", [2, 6, 11, 14, 19])
def test_a_killed_run_goes_on_to_the_same_bytes(trained, tmp_path, monkeypatch, steps):
    monkeypatch.setattr(loops, "SAVE_EVERY", 0.0)
    count = 0
    original = loops.Loop.step

    def step(self, *args, **terms):
        nonlocal count
        count += 1
        if count == steps:
            raise Killed
        original(self, *args, **terms)

    with monkeypatch.context() as killing:
        killing.setattr(loops.Loop, "step", step)
        with pytest.raises(Killed):
            training.train(start_run("smoke", tmp_path))
    run = start_run("smoke", tmp_path)
    training.train(run)
    ours, expected = weights(run), weights(trained)
    assert ours.keys() == expected.keys() and all(torch.equal(ours[key], expected[key]) for key in expected)
    files = ("prompts0/prompts.safetensors", "warmup/log.csv", "prompts2/log.csv", "enhancer2/enhancer.safetensors")
    assert all((run.path / file).read_bytes() == (trained.path / file).read_bytes() for file in files)


def test_guard_starts_the_warm_up_anew_and_gives_up_in_the_end(tmp_path, monkeypatch):
    """Every seed starts dead here: no light below the last ReLU, white results, no gradient."""
    initialize = Enhancer.initialize
    monkeypatch.setattr(Enhancer, "initialize", lambda self, *args: dead(initialize(self, *args)))
    overrides = {
        "enhancement.max_illumination": "inf",
        "enhancement.warmup_iterations": 20,
        "enhancement.guard_after": 2,
        "enhancement.guard_attempts": 3,
    }
    run = start_run("smoke", tmp_path, overrides=overrides)
    prepare_data(run)
    with pytest.raises(CliplitError, match="4 seeds in a row stayed below 8.0 dB"):
        training.warm_up(run)


def dead(enhancer):
    with torch.no_grad():
        enhancer.cond_add1.bias.fill_(-1.0)
    return enhancer


def test_guard_lets_a_live_network_be(trained):
    assert len(log(trained, "warmup")) == trained.settings.enhancement.warmup_iterations


def test_a_round_is_extended_while_its_loss_is_high(tmp_path):
    overrides = {
        "enhancement.extend_above": -1.0,
        "enhancement.extend_by": 2,
        "refinement.max_extensions": 3,
        "enhancement.iterations": 2,
    }
    run = start_run("smoke", tmp_path, overrides=overrides)
    prepare_data(run), training.initialize_prompts(run), training.warm_up(run), training.train_enhancer(run, 0)
    assert len(log(run, "enhancer0")) == 2 + 2 * 3


def test_best_network_is_a_copy_of_the_iteration_with_the_lowest_mean_loss(tmp_path):
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(module.weight, 3.0)
    loop = loops.Loop(tmp_path, module, torch.optim.SGD(module.parameters(), lr=0.0), 6, average=2, look_every=2)
    seen = []
    for iteration, loss in zip(loop, [9.0, 8.0, 1.0, 2.0, 7.0, 9.0]):
        with torch.no_grad():
            module.weight.fill_(float(iteration))
        loop.step(module.weight.sum() * 0 + loss)
        seen.append(iteration)
    assert loop.best_iteration == 3 and loop.finish()["weight"].item() == 3.0


def test_divergence_names_iteration_and_term(tmp_path):
    module = torch.nn.Linear(1, 1)
    loop = loops.Loop(tmp_path, module, torch.optim.SGD(module.parameters(), lr=0.1), 3)
    with pytest.raises(CliplitError, match="diverged at iteration 1: loss nan, identity inf"):
        for iteration in loop:
            factor = float("nan") if iteration == 1 else 1.0
            loop.step(module.weight.sum() * factor, identity=float("inf"))


def test_other_settings_rebuild_only_what_depends_on_them(trained):
    changed = start_run("smoke", trained.path, overrides={"refinement.weight": 150.0})
    current = {stage: changed.is_current(stage) for stage in changed.plan}
    assert current["enhancer0"] and not current["prompts1"] and not current["enhancer2"]
    start_run("smoke", trained.path)


def test_stages_record_inputs_and_outputs(trained):
    record = read_json(trained.path / "enhancer1" / "stage.json")
    assert set(record["needs"]) == {"prompts1", "enhancer0"} and "enhancer.safetensors" in record["outputs"]
    manifest = read_json(trained.path / "manifest.json")
    assert manifest["seed"] == 0 and manifest["packages"]["torch"] and "enhancer2" in manifest["stages"]


def test_a_missing_stage_names_the_notebook_to_run(tmp_path):
    run = start_run("smoke", tmp_path)
    with pytest.raises(CliplitError, match="stage 'data' is missing or out of date; run 00_setup_and_data first"):
        training.initialize_prompts(run)


@pytest.mark.slow
def test_paper_architectures_with_random_weights(tmp_path):
    """A few iterations of the paper profile: ViT-B/32 and RN101 without a download."""
    overrides = {
        "clip.random": True,
        "data.embedded_images": 2,
        "data.embedded_pairs": 1,
        "prompts.iterations": 2,
        "prompts.batch_size": 2,
        "enhancement.batch_size": 1,
        "enhancement.warmup_iterations": 1,
        "enhancement.iterations": 1,
        "enhancement.extend_above": "inf",
        "data.train_size": 128,
        "refinement.rounds": 1,
        "refinement.iterations": 1,
        "refinement.extend_above": "inf",
        "refinement.tuning_iterations": 1,
        "refinement.batch_size": 1,
    }
    run = start_run("paper", tmp_path, overrides=overrides)
    training.train(run)
    assert (
        sum(
            p.numel()
            for p in training.load_enhancer(Path(run.path) / "enhancer1" / "enhancer.safetensors").parameters()
        )
        == 278_790
    )
    assert load_file(run.path / "prompts1" / "prompts.safetensors")["embedding_prompt"].shape == (2, 77, 512)

"""The stages of training: exact resume, the guard, extensions, the best copy, rounds as released."""

import csv
import functools

import pytest
import torch
from safetensors.torch import load_file

from cliplit.engine import loop as loops
from cliplit.engine.interrupts import Interrupts
from cliplit.engine.parts import Part
from cliplit.engine.record import Recorder
from cliplit.errors import CliplitError
from cliplit.files.atomic import read_json
from cliplit.method import clip, training
from cliplit.method.clip import load_backbone
from cliplit.method.enhancer import Enhancer
from cliplit.method.run import Run, start_run
from cliplit.method.run_images import prepare_data
from cliplit.profiles import profile
from cliplit.settings import Watch

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


@pytest.mark.parametrize("steps", [6, 14])
def test_a_killed_run_goes_on_to_the_same_bytes(trained, tmp_path, monkeypatch, steps):
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
            training.train(start_run("smoke", tmp_path, overrides={"watch.save_seconds": 0}))
    run = start_run(
        "smoke", tmp_path, overrides={"watch.save_seconds": 5.0}
    )  # how often progress is saved changes nothing
    training.train(run)
    ours, expected = weights(run), weights(trained)
    assert ours.keys() == expected.keys() and all(torch.equal(ours[key], expected[key]) for key in expected)
    files = ("warmup/log.csv", "warmup/optimizer.pt", "prompts2/log.csv", "enhancer2/enhancer.safetensors")
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
    with pytest.raises(CliplitError, match="4 seeds in a row ended with a mean psnr below 8"):
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
    part = Part("enhancer0", 6, average=2, look_every=2)
    loop = loops.Loop(tmp_path, part, module, torch.optim.SGD(module.parameters(), lr=0.0))
    seen = []
    for iteration, loss in zip(loop.until(Interrupts()), [9.0, 8.0, 1.0, 2.0, 7.0, 9.0], strict=False):
        with torch.no_grad():
            module.weight.fill_(float(iteration))
        loop.step(module.weight.sum() * 0 + loss)
        seen.append(iteration)
    assert loop.finish()["weight"].item() == 3.0


def test_long_gradients_are_scaled_down_to_the_limit(tmp_path):
    module = torch.nn.Linear(1, 1, bias=False)
    start = module.weight.item()
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
    loop = loops.Loop(tmp_path, Part("part", 2, max_gradient_norm=0.5), module, optimizer)
    for iteration in loop.until(Interrupts()):
        loop.step(module.weight.sum() * (100.0 if iteration == 0 else 0.25))
    assert abs(start - module.weight.item() - 0.75) < 1e-5  # half of the limit is left as it is
    assert [row["gradient_norm"] for row in loop.rows] == [100.0, 0.25]  # as it was


@pytest.mark.parametrize("trained", [0, 100])
def test_averaged_weights_are_kept_also_after_an_interruption(tmp_path, trained):
    def weights(folder: str, stops: tuple[int, ...]) -> torch.Tensor:
        for stop in (*stops, 6):
            module = torch.nn.Linear(1, 1, bias=False)
            torch.nn.init.constant_(module.weight, 3.0)
            part = Part("enhancer0", 6, averaging=0.5, trained=trained)
            loop = loops.Loop(tmp_path / folder, part, module, torch.optim.SGD(module.parameters(), lr=1.0))
            for iteration in loop.until(Interrupts()):
                loop.step(module.weight.sum())
                if iteration + 1 == stop:
                    loop.at = loop.then
                    loop.save()
                    break
        return loop.finish()["weight"]

    expected = torch.tensor(2.0)  # the first weight that is seen; each step takes 1 off
    for n, weight in enumerate((1.0, 0.0, -1.0, -2.0, -3.0), start=1):
        expected = torch.lerp(expected, torch.tensor(weight), 1 - min(0.5, (trained + 1 + n) / (trained + 10 + n)))
    assert weights("whole", ()).item() == pytest.approx(expected.item())
    assert torch.equal(weights("stopped", (2, 4)), weights("whole again", ()))


def test_an_average_of_weights_copies_counters():
    average, norm = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    norm(torch.rand(4, 2))
    loops.move_average(average.state_dict(), norm.state_dict(), decay=0.5, iteration=100)
    assert average.num_batches_tracked == 1
    assert torch.allclose(average.running_mean, norm.running_mean / 2)


def test_divergence_names_iteration_and_term_and_keeps_good_weights(tmp_path):
    module = torch.nn.Linear(1, 1)
    part, optimizer = Part("enhancer0", 3), torch.optim.SGD(module.parameters(), lr=0.1)
    loop = loops.Loop(tmp_path, part, module, optimizer)
    message = (
        r"diverged at iteration 1: loss and identity .* not finite .*identity inf.*progress.pt \(after 1 iterations"
    )
    with pytest.raises(CliplitError, match=message):
        for iteration in loop.until(Interrupts()):
            factor = float("nan") if iteration == 1 else 1.0
            loop.step(module.weight.sum() * factor, identity=float("inf") if iteration else 0.0)
    again = loops.Loop(tmp_path, part, torch.nn.Linear(1, 1), optimizer)
    assert again.at.done == 1 and torch.equal(again.module.weight, module.weight) and module.weight.isfinite().all()


def test_a_gradient_that_is_not_finite_stops_before_it_spoils_the_weights(tmp_path):
    module = torch.nn.Linear(1, 1)
    loop = loops.Loop(tmp_path, Part("warmup", 2), module, torch.optim.SGD(module.parameters(), lr=0.1))
    with pytest.raises(CliplitError, match="iteration 0: gradient_norm not finite"):
        for _ in loop.until(Interrupts()):
            loop.step((module.weight * 0).sqrt().sum())
    assert module.weight.isfinite().all()


def test_saving_takes_two_percent_of_the_time_at_most(tmp_path, monkeypatch):
    module, now, saves = torch.nn.Linear(1, 1), [0.0], []
    monkeypatch.setattr(loops.time, "monotonic", lambda: now[0])
    loop = loops.Loop(
        tmp_path,
        Part("warmup", 1000),
        module,
        torch.optim.SGD(module.parameters(), lr=0.1),
        Recorder(tmp_path, Watch(save_seconds=0.5)),
    )
    monkeypatch.setattr(loop, "save", lambda: (saves.append(loop.at.done), now.__setitem__(0, now[0] + 3.0)))
    for _ in loop.until(Interrupts()):
        loop.step(module.weight.sum())
        now[0] += 1.0
    assert len(saves) > 3 and 3.0 * len(saves[1:-1]) <= 0.02 * now[0]


def test_other_settings_are_refused_and_concern_only_what_depends_on_them(trained):
    with pytest.raises(CliplitError, match="refinement.weight 200.0 -> 150.0"):
        start_run("smoke", trained.path, overrides={"refinement.weight": 150.0})
    changed = Run(trained.path, profile("smoke", {"refinement.weight": 150.0}))
    assert changed.outdated()["prompts1"] == ["refinement.weight 200.0 -> 150.0"]
    assert changed.is_current("enhancer0") and not changed.is_current("enhancer2")
    start_run(run=trained.path)


def test_what_serves_watching_and_the_device_matter_to_no_stage(trained):
    changes = {"watch.panel_every": 7, "watch.save_seconds": 1, "watch.tensorboard": True, "device": "cpu"}
    assert start_run("smoke", trained.path, overrides=changes).is_current("enhancer2")
    start_run("smoke", trained.path)


def test_stages_record_inputs_and_outputs(trained):
    record = read_json(trained.path / "enhancer1" / "stage.json")
    assert set(record["needs"]) == {"prompts1", "enhancer0"} and "enhancer.safetensors" in record["outputs"]
    manifest = read_json(trained.path / "manifest.json")
    assert manifest["seed"] == 0 and manifest["packages"]["torch"] and "enhancer2" in manifest["stages"]


def test_a_missing_stage_names_the_notebook_to_run(tmp_path):
    run = start_run("smoke", tmp_path)
    with pytest.raises(CliplitError, match="stage 'data' is missing; .*notebook 00_setup_and_data"):
        training.initialize_prompts(run)


@pytest.mark.slow
def test_paper_architectures_with_random_weights(tmp_path, monkeypatch):
    """A few iterations of the paper profile: ViT-B/32 and RN101 without a download."""
    monkeypatch.setattr(clip, "load_backbone", functools.cache(load_backbone))  # they take seconds to draw
    overrides = {
        "clip.random": True,
        "data.embedded_images": 2,
        "data.embedded_pairs": 1,
        "prompts.iterations": 2,
        "prompts.batch_size": 2,
        "prompts.views_per_image": 1,
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
    assert sum(p.numel() for p in training.network_of(run, "enhancer1").parameters()) == 278_790
    assert load_file(run.path / "prompts1" / "prompts.safetensors")["embedding_prompt"].shape == (2, 77, 512)

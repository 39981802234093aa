"""Killed processes, several processes, locks, precision, banks of views, and what is left for those who watch."""

import csv
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_models import golden_numbers, random_enhancer, resnet_backbone, vit_backbone
from PIL import Image
from processes import start
from safetensors.torch import load_file

from cliplit.engine.compute import engine, limits_told, usable_precision
from cliplit.engine.stages import OWNER, held
from cliplit.errors import CliplitError
from cliplit.files.atomic import read_json
from cliplit.files.tensors import to_tensor
from cliplit.method import augmentation, losses, training
from cliplit.method.clip import load_backbone
from cliplit.method.enhancer import Enhancer, PyramidPooling
from cliplit.method.run import start_run
from cliplit.method.run_images import prepare_data
from cliplit.method.training import LESS_MEMORY
from cliplit.profiles import profile
from cliplit_photos import inference

PROCESSES_TOLERANCE = 1e-5  # absolute: one process against two at the same global batch
ROUNDING = 1e-5  # relative: sums of some thousand float32 numbers in another order
BF16_ILLUMINATION = 0.02  # absolute: eight bits of mantissa through 16 convolutions
BF16_COSINE = 0.98  # of gradients in bfloat16 and float32
KILLS = 5
KILLED = [
    "--profile",
    "smoke",
    "--set",
    "evaluation.control=false",
    "--set",
    "evaluation.longer=false",
    "--set",
    "watch.save_seconds=0",
]
KILLED += ["--set", "enhancement.warmup_iterations=16", "--set", "enhancement.iterations=16"]
KILLED += ["--set", "refinement.tuning_iterations=12", "--set", "evaluation.metrics=psnr"]
SHARED = [
    "--profile",
    "smoke",
    "--set",
    "evaluation.control=false",
    "--set",
    "evaluation.longer=false",
    "--set",
    "refinement.rounds=1",
]
SHARED += ["--set", "evaluation.metrics=psnr"]
SHARED += ["--set", "enhancement.learning_rate=2e-5"]  # the paper's: Adam makes whole steps of the smallest roundings


def content(path: Path) -> dict[str, bytes]:
    """Everything a run leaves but its records of times and builds, and what serves watching."""
    files = (file for file in sorted(path.rglob("*")) if file.is_file())
    names = {str(file.relative_to(path)): file for file in files}
    return {
        name: file.read_bytes()
        for name, file in names.items()
        if not name.startswith(("watch/", ".")) and file.name not in ("stage.json", "manifest.json")
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run without interruption."""
    path = tmp_path_factory.mktemp("whole") / "run"
    process = start("train", "--run", path, *KILLED)
    process.join()
    assert process.exitcode == 0
    return path


def finished(run: Path) -> int:
    return len(list(run.glob("*/stage.json")))


def wait_within(process: multiprocessing.Process, run: Path, stages: int, seconds: float) -> None:
    """Until so many stages are finished and another has been building for `seconds`: the same on any machine."""
    while process.exitcode is None and (finished(run) < stages or read_json(run / OWNER) is None):
        time.sleep(0.01)
    time.sleep(seconds)


def assert_equal_bytes(run: Path, expected: Path) -> None:
    ours, theirs = content(run), content(expected)
    assert ours.keys() == theirs.keys()
    assert [name for name in theirs if ours[name] != theirs[name]] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_at_random_moments_change_no_byte(whole, tmp_path, number):
    draw, run = random.Random(number), tmp_path / "interrupted"
    for stages in (0, 3):
        process = start("train", "--run", run, *KILLED)
        wait_within(process, run, stages, draw.uniform(0, 0.5))
        os.kill(process.pid, number)
        process.join()
        assert process.exitcode == 130
    last = start("train", "--run", run, *KILLED)
    last.join()
    assert last.exitcode == 0
    assert_equal_bytes(run, whole)


def test_five_kills_at_random_moments_change_no_byte(whole, tmp_path):
    draw, run = random.Random(5), tmp_path / "killed"
    for stages in range(KILLS):
        process = start("train", "--run", run, *KILLED)
        wait_within(process, run, stages, draw.uniform(0, 0.5))
        process.kill()
        process.join()
        assert process.exitcode == -9, "it was done before it could be killed"
    assert KILLS - 1 <= finished(run) < finished(whole)
    last = start("train", "--run", run, *KILLED)
    last.join()
    assert last.exitcode == 0
    assert_equal_bytes(run, whole)
    assert {"enhancer2/enhancer.safetensors", "warmup/log.csv", "tables/stages.csv"} <= content(whole).keys()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
    one = start("train", "--run", tmp_path / "one", *SHARED)
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes",
        "2",
        "-m",
        "cliplit",
    ]
    quiet = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [*launch, "train", "--run", tmp_path / "two", *SHARED], env=quiet, capture_output=True, text=True
    )
    one.join()
    assert done.returncode == 0 and one.exitcode == 0, done.stderr
    for stage in ("prompts0", "warmup", "enhancer0", "prompts1", "enhancer1"):
        name = "prompts.safetensors" if stage.startswith("prompts") else "enhancer.safetensors"
        ours, expected = (load_file(tmp_path / which / stage / name) for which in ("two", "one"))
        for key, value in expected.items():
            torch.testing.assert_close(ours[key], value, rtol=0, atol=PROCESSES_TOLERANCE, msg=f"{stage} {key}")
        logs = [(tmp_path / which / stage / "log.csv").read_text() for which in ("two", "one")]
        rows = [list(csv.DictReader(log.splitlines())) for log in logs]
        for column in ("loss", "gradient_norm"):
            assert [float(row[column]) for row in rows[0]] == pytest.approx(
                [float(row[column]) for row in rows[1]], 1e-4
            )
        started = [read_json(tmp_path / which / stage / "stage.json")["processes"] for which in ("two", "one")]
        assert started == [2, 1]
    assert done.stdout.count("initial") == 1  # one process reports


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch):
    from cliplit.engine import processes

    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(CliplitError, match="a batch of 8 cannot be split evenly among 3 processes"):
        processes.share(8)


def hold(folder: Path) -> None:
    with held(folder):
        time.sleep(60)


def test_a_run_belongs_to_one_process_at_a_time_and_not_to_a_dead_one(tmp_path):
    process = multiprocessing.get_context("forkserver").Process(target=hold, args=[tmp_path])
    process.start()
    while read_json(tmp_path / OWNER) is None:
        time.sleep(0.02)
    refusal = f"{tmp_path}: process {process.pid} on .* has used this run since"
    with pytest.raises(CliplitError, match=refusal) as error, held(tmp_path):
        pass
    assert "\n" not in str(error.value)
    process.kill()
    process.join()
    with held(tmp_path):
        assert read_json(tmp_path / OWNER)["pid"] == os.getpid()
    assert read_json(tmp_path / OWNER) is None


def test_pooling_is_pytorchs():
    module = PyramidPooling(8)
    images = torch.rand(2, 8, 37, 50, generator=torch.Generator().manual_seed(0))
    pooled = [
        F.interpolate(branch(F.adaptive_avg_pool2d(images, bins)), (37, 50), mode="bilinear", align_corners=True)
        for bins, branch in zip(module.bins, module.features, strict=True)
    ]
    torch.testing.assert_close(module(images), module.fuse(torch.cat([images, *pooled], 1)), rtol=ROUNDING, atol=1e-6)


def test_deterministic_borders_are_the_same_borders():
    network, images = random_enhancer(), golden_numbers()["unet.input"][..., :40, :50]
    with torch.no_grad():
        usual = network(images)
        with engine(profile("smoke", {"engine.deterministic": True})):
            assert torch.are_deterministic_algorithms_enabled() and torch.equal(network(images), usual)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.filterwarnings("ignore")
def test_bf16_is_near_and_losses_are_computed_in_float32():
    golden, network = golden_numbers(), random_enhancer()
    clip, identity = vit_backbone(), resnet_backbone()
    images = golden["enhance.images"][..., :48, :64]  # bfloat16 takes long where the processor has none
    gradients = {}
    for bf16 in (False, True):
        network.bf16 = clip.bf16 = identity.bf16 = bf16
        network.zero_grad()
        results = network.enhance(images, padding="zeros")
        features, predicted = clip.encode_image(results), identity.encode_activations(results)
        assert {tensor.dtype for tensor in (results, features, *predicted)} == {torch.float32}
        target = [activation.detach() for activation in identity.encode_activations(images)]
        loss = losses.clip_enhance_loss(features, golden["prompt.text_features"])
        (320 * loss + 22.5 * losses.identity_loss(predicted, target, (1, 1, 1, 1, 0.5))).backward()
        gradients[bf16] = torch.cat([parameter.grad.flatten() for parameter in network.parameters()])
    with torch.no_grad():
        network.bf16 = False
        exact = network(images)  # equal to the released network's, tests/method/test_golden.py
        network.bf16 = True
        difference = network(images) - exact
    assert 0 < difference.abs().max() < BF16_ILLUMINATION
    assert F.cosine_similarity(gradients[False], gradients[True], dim=0) > BF16_COSINE


def test_a_bank_holds_views_as_they_are_drawn_on_the_fly(monkeypatch):
    monkeypatch.setattr(augmentation, "CHUNK", 3)
    random_images = torch.Generator().manual_seed(0)
    groups = [torch.randint(256, (5, 64, 64, 3), generator=random_images, dtype=torch.uint8).numpy() for _ in range(3)]
    *inputs, well_lit = groups
    clip = load_backbone("tiny")
    bank = augmentation.ViewFeatures(
        clip, inputs, profile("smoke", {"prompts.views_per_image": 2}), "prompts2", well_lit
    )
    assert bank.bank.shape == (3, 5, 2, 128)
    fly = augmentation.ViewFeatures(clip, inputs, profile("smoke"), "prompts2 bank", well_lit)
    first = fly([0, 1, 2], 2)  # the second view begins with draw 2: chunks of 3 and 2 images
    torch.testing.assert_close(bank.bank[:, :3, 1], first, rtol=ROUNDING, atol=ROUNDING)
    batch = bank([4, 0], iteration=7)
    assert batch.shape == (3, 2, 128)
    assert all(any(torch.equal(batch[:, n], view) for view in bank.bank[:, i].unbind(1)) for n, i in enumerate([4, 0]))


def test_an_untouched_view_is_the_image(monkeypatch):
    """The same features as CLIP's of the image itself, where the augmentation does nothing."""
    monkeypatch.setattr(augmentation, "augmentation", lambda count, *_: torch.eye(2, 3).repeat(count, 1, 1))
    pixels = torch.randint(256, (2, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)).numpy()
    clip = load_backbone("tiny")
    seen = augmentation.ViewFeatures(clip, [pixels], profile("smoke"), "prompts0")([0, 1], 0)[0]
    torch.testing.assert_close(seen, clip.encode_image(to_tensor(pixels)), rtol=1e-3, atol=1e-3)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A run up to the first network, learned from a bank, with events for TensorBoard."""
    overrides = {"prompts.views_per_image": 2, "watch.tensorboard": True, "watch.panel_every": 2}
    run = start_run("smoke", tmp_path_factory.mktemp("watched"), overrides=overrides)
    prepare_data(run), training.initialize_prompts(run), training.warm_up(run), training.train_enhancer(run, 0)
    return run


def test_panels_and_events_are_left_for_those_who_watch(watched):
    folder = watched.path / "watch" / "enhancer0"
    assert sorted(path.name for path in folder.glob("panel_*")) == ["panel_000002.jpg", "panel_000004.jpg"]
    assert any(path.stat().st_size > 1000 for path in folder.glob("events.*"))
    with open(watched.path / "enhancer0" / "log.csv", newline="") as file:
        row = next(csv.DictReader(file))
    assert float(row["learning_rate"]) == watched.settings.enhancement.learning_rate and float(row["gradient_norm"]) > 0


@pytest.mark.parametrize(
    "capabilities, usable",
    [
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, "fp32"),
        ({"avx512_bf16": True}, "bf16"),
        ({"amx_bf16": True}, "bf16"),
        ({"architecture": "arm64", "neon": True, "bf16": False}, "fp32"),
        ({"architecture": "arm64", "bf16": True}, "bf16"),
    ],
)
def test_bf16_is_used_where_the_processor_has_it_and_else_it_is_said_once(monkeypatch, capsys, capabilities, usable):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    usable_precision.cache_clear()
    settings = profile("smoke", {"engine.precision": "bf16", "device": "cpu"})
    for _ in range(2):
        with engine(settings) as using:
            assert using.bf16 == (usable == "bf16")
    assert usable_precision("fp32", torch.device("cpu")) == "fp32"
    note = "bf16: this cpu has no bfloat16 and would emulate it slowly; computing in fp32"
    assert capsys.readouterr().err.splitlines() == ([note] if usable == "fp32" else [])
    usable_precision.cache_clear()


def test_an_unknown_precision_is_refused(cli, tmp_path):
    code, _, err = cli("train", "--profile", "smoke", "--run", tmp_path / "run", "--set", "engine.precision=fp8")
    assert code == 2 and "setting 'engine.precision' must be auto, fp32 or bf16, got fp8" in err[-1]


def test_want_of_memory_is_a_line_with_what_to_change(monkeypatch):
    smaller = r"out of memory \(.*\); set a smaller enhancement.batch_size"
    with pytest.raises(CliplitError, match=smaller), limits_told(LESS_MEMORY):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    with pytest.raises(CliplitError, match="lower max_memory"):
        monkeypatch.setattr(inference, "predict", lambda *arguments: too_much())
        inference.enhance_pixels(Enhancer(4), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(RuntimeError, match="something else"), limits_told(""):
        raise RuntimeError("something else")


@pytest.mark.parametrize(
    "error",
    [
        NotImplementedError("The operator 'aten::_upsample_bilinear2d_aa.out' is not implemented for the MPS device."),
        TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."),
    ],
)
def test_what_apples_device_lacks_is_a_line_with_what_to_do(error):
    said = r"'mps' does not support .*; use the device cpu, or set PYTORCH_ENABLE_MPS_FALLBACK=1"
    with pytest.raises(CliplitError, match=said), limits_told(LESS_MEMORY):
        raise error


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="it is there")
def test_apples_device_is_refused_where_it_is_not(cli, tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    training = ["train", "--profile", "smoke", "--run", tmp_path / "run", "--set", "device=mps"]
    for command in (training, ["enhance", tmp_path, "-o", tmp_path / "out", "--device", "mps"]):
        code, _, err = cli(*command)
        assert code == 2 and "device 'mps' cannot be used here" in err[-1] and len(err[-1]) < 300


def too_much():
    return torch.empty(1 << 60)

"""Measure on a GPU, in less than ten minutes, what needs one: correctness, speed and memory.

    python benchmarks/gpu.py [--device cuda] [--profile paper] [--output results/benchmarks/gpu.md]

* Golden numbers of the released code, computed on the device, with allowed differences.
* Training of the network with random CLIP weights in float32 and bfloat16: seconds per iteration, and memory.
* A photo enhanced by the shipped network and by the paper's: seconds, and the difference of a part to the CPU.
* A short training with --deterministic: twice at the same time, and once killed and resumed. All give the same bytes.

Each gives a row of the table. If one fails, its row says so, and the exit code is 1. TF32 is off.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from golden_models import golden_numbers, random_enhancer, resnet_backbone, vit_backbone  # noqa: E402
from processes import start  # noqa: E402

from cliplit.errors import one_line  # noqa: E402
from cliplit.experiments import planning  # noqa: E402
from cliplit.files.atomic import write_text  # noqa: E402
from cliplit.files.tensors import to_uint8  # noqa: E402
from cliplit.method import losses  # noqa: E402
from cliplit.method.checkpoints import load_enhancer  # noqa: E402
from cliplit.profiles import profile  # noqa: E402
from cliplit.scoring.summary import markdown  # noqa: E402
from cliplit_photos.inference import SHIPPED_ENHANCER, enhance_pixels  # noqa: E402

MAP_TOLERANCE = 1e-4  # absolute, since convolutions add in another order
LOSS_TOLERANCE = 1e-5  # relative
STEPS_TOLERANCE = 1.0  # 8-bit steps, for rounding
PART = 300  # pixels, side of the part
KINDS = {
    "fp32": {"engine.precision": "fp32"},
    "bf16": {"engine.precision": "bf16"},
}
KILLED_AFTER = "warmup"  # the training is killed after this stage
Row = tuple[str, str]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--device", default="cuda")
    options.add_argument("--profile", default="paper", help="whose network is trained for a few iterations")
    options.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    options.add_argument("--megapixels", type=float, default=12.0, help="of the photo")
    options.add_argument("--output", type=Path, help="also write the table there")
    given = options.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    looks: dict[str, Callable[[], Iterator[Row]]] = {"golden numbers": lambda: golden(given.device)}
    looks |= {kind: lambda kind=kind: cost(given.device, given.profile, kind) for kind in given.kinds}
    looks |= {"enhance": lambda: enhanced(given.device, given.megapixels)}
    looks |= {"same bytes": lambda: same_bytes(given.device)}
    rows, failures = [], 0
    for name, look in looks.items():
        try:
            rows += [(name, *row) for row in look()]
        except Exception as error:  # the table reports everything that a device cannot do
            rows.append((name, "failed", one_line(error)))
            failures += 1
    table = markdown(pd.DataFrame(rows, columns=["what", "", "found"])) + f"\n{machine(given.device)}\n"
    print(table)
    if given.output:
        write_text(table, given.output)
    sys.exit(bool(failures))


def golden(device: str) -> Iterator[Row]:
    """Differences to the released code's numbers."""
    numbers = {name: value.to(device) for name, value in golden_numbers().items()}
    with torch.no_grad():
        network, vit, resnet = (make().to(device) for make in (random_enhancer, vit_backbone, resnet_backbone))
        for padding in ("reflect", "zeros"):
            apart = (network(numbers["unet.input"], padding) - numbers[f"unet.{padding}.illumination"]).abs().max()
            yield allowed(f"illumination map, {padding}", apart.item(), MAP_TOLERANCE)
        features = vit.encode_image(numbers["enhance.images"])
        enhance = losses.clip_enhance_loss(features, numbers["prompt.text_features"])
        yield allowed("CLIP-Enhance loss", relative(enhance, numbers["enhance.loss"]), LOSS_TOLERANCE)
        activations = [
            resnet.encode_activations(images) for images in (numbers["identity.pred"], numbers["enhance.images"])
        ]
        identity = losses.identity_loss(*activations, weights=(1, 1, 1, 1, 0.5))
        yield allowed("identity loss", relative(identity, numbers["identity.enhance.loss"]), LOSS_TOLERANCE)


def cost(device: str, name: str, kind: str) -> Iterator[Row]:
    """The estimate of `cliplit plan` for the networks of the profile."""
    settings = profile(name, {"device": device, "clip.random": True} | KINDS[kind])
    each = planning.seconds_each(settings)
    yield "network: seconds per iteration; peak GB", f"{each:.3g}; {torch.cuda.max_memory_allocated() / 2**30:.1f}"
    hours = each * planning.network_iterations(settings) / 3600
    yield f"all networks of profile {name}", f"about {hours:.1f} h"


def enhanced(device: str, megapixels: float) -> Iterator[Row]:
    """Seconds for a photo, and the difference of a part of it to the CPU's result."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    generator = torch.Generator().manual_seed(0)
    blotches = F.interpolate(torch.rand(1, 3, 30, 40, generator=generator), (height, height * 4 // 3), mode="bicubic")
    pixels = to_uint8(blotches[0].clamp(0, 1))
    part = np.ascontiguousarray(pixels[:PART, :PART])
    for name, network in {
        "the shipped network": load_enhancer(SHIPPED_ENHANCER),
        "the paper's": random_enhancer(),
    }.items():
        expected = enhance_pixels(network.cpu(), part)
        network.to(device)
        apart = np.abs(enhance_pixels(network, part).astype(int) - expected).max()
        yield allowed(f"{name}, steps of 8 bits", float(apart), STEPS_TOLERANCE)
        times = [seconds(partial(enhance_pixels, network, pixels)) for _ in range(3)]
        yield f"{name}, {megapixels:g} megapixels: seconds", f"{min(times):.3g}"


def seconds(work: Callable[[], object]) -> float:
    """Seconds of a call, including the transfer of results to the CPU."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def same_bytes(device: str) -> Iterator[Row]:
    """A short training: twice at the same time, and once killed and resumed."""
    options = ["--profile", "smoke", "--deterministic", "--device", device, "--set", "evaluation.control=false"]
    with tempfile.TemporaryDirectory() as folder:
        runs = {name: Path(folder) / name for name in ("one", "again", "left", "right", "killed")}
        alone = sum(trained(options, runs[name]) for name in ("one", "again"))
        together = trained(options, runs["left"], runs["right"])
        process = started(options, runs["killed"])
        while process.is_alive() and not (runs["killed"] / KILLED_AFTER / "stage.json").exists():
            time.sleep(0.01)
        process.kill()
        process.join()
        if process.exitcode == 0:
            raise RuntimeError("it was done before it could be killed")
        trained(options, runs["killed"])
        weights = {name: last_network(run) for name, run in runs.items()}
    looks = {"--deterministic twice": ["again"], "two at a time": ["left", "right"], "killed and resumed": ["killed"]}
    for what, names in looks.items():
        yield what, "the same bytes" if all(weights[name] == weights["one"] for name in names) else "DIFFERENT"
    yield "two at a time, over one after the other", f"{alone / together:.2f} times as fast, imports left out"


def trained(options: list[str], *runs: Path) -> float:
    """Seconds to train runs at the same time.

    Raises:
        RuntimeError: a training failed.
    """
    began = time.perf_counter()
    processes = [started(options, run) for run in runs]
    for process, run in zip(processes, runs, strict=True):
        process.join()
        if process.exitcode:
            raise RuntimeError(shown_by(run).read_text(encoding="utf-8").strip().rpartition("\n")[2])
    return time.perf_counter() - began


def started(options: list[str], run: Path) -> multiprocessing.Process:
    """A started training process."""
    return start("train", "--run", run, *options, output=shown_by(run))


def shown_by(run: Path) -> Path:
    """The file with the output of a training."""
    return run.with_suffix(".txt")


def last_network(run: Path) -> bytes:
    """The bytes of the network of the last round."""
    rounds = profile("smoke").refinement.rounds
    return (run / f"enhancer{rounds}" / "enhancer.safetensors").read_bytes()


def allowed(name: str, apart: float, tolerance: float) -> Row:
    """A difference and its tolerance.

    Raises:
        ValueError: it is larger.
    """
    if not apart <= tolerance:
        raise ValueError(f"{name}: differs by {apart:.2g}, allowed are {tolerance:g}")
    return name, f"differs by {apart:.2g}, allowed {tolerance:g}"


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return ((ours - theirs.reshape(())).abs() / theirs.abs().max()).item()


def machine(device: str) -> str:
    """Where and when this was measured."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"
    return f"{name}; PyTorch {torch.__version__}; {date.today()}."


if __name__ == "__main__":
    main()

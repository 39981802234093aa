"""Compare time and memory per training iteration of each stage with a plain loop like the released code.

    python benchmarks/train_step.py [--output results/benchmarks/train_step.md]

Both loops use the same batches. ViT-B/32 and RN101 have random weights, so nothing is downloaded. A GPU is used if
there is one, with the published batch size. On a CPU the network is measured with one and two images: the time for the
full batch is four times that of two images, and the memory is extrapolated linearly. Each measurement runs in its own
process, so that peak memory belongs to one stage. Seconds are wall time on all cores, so nothing else should run on the
machine. bfloat16 is measured on GPUs only.

The plain loop was written from a description of the released code. CLIP sees one image at a time, and prompt learning
encodes images on the CPU in the data loader. Everything is float32, the text tower computes all 77 positions, and the
identity features of results and inputs are computed with gradients.
"""

import argparse
import contextlib
import functools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from itertools import pairwise
from pathlib import Path

import pandas as pd
import torch

from cliplit.engine.interrupts import Interrupts
from cliplit.engine.loop import Loop
from cliplit.files.atomic import write_text
from cliplit.method import clip, losses, training
from cliplit.method.clip import ClipBackbone, load_backbone
from cliplit.method.enhancer import Enhancer
from cliplit.method.run import Run
from cliplit.method.run_images import prepare_data
from cliplit.profiles import profile
from cliplit.scoring.summary import markdown
from cliplit.settings import Settings

STAGES = {"prompts0": "prompt initialization", "enhancer0": "network", "prompts2": "prompt refinement"}
ON_GPU = torch.cuda.is_available()
BATCHES = (8,) if ON_GPU else (1, 2)  # batch sizes of 512 x 512 images for the network
IMAGES = 16  # training images of each side
REDUCED = ["ours in bf16"] if ON_GPU else []
VIEWS = 2  # in the measured bank; the projection uses the cost per view


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--output", type=Path, help="also write the table there")
    options.add_argument("--measure", nargs=3, metavar=("LOOP", "STAGE", "BATCH"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure[0], given.measure[1], int(given.measure[2]))))
        return
    table = compare()
    print(table)
    if given.output:
        write_text(table, given.output)


def compare() -> str:
    """The table, in Markdown, with machine and date."""
    paper, rows, found = profile("paper"), [], {}
    for stage, title in STAGES.items():
        batches = BATCHES if stage == "enhancer0" else (16,)
        full = paper.enhancement.batch_size if stage == "enhancer0" else 16
        label = f"{title}, batch {full}" + (f" (from {' and '.join(map(str, batches))})" if full not in batches else "")
        found[stage] = {}
        for kind in ("plain", "ours", *(REDUCED if stage == "enhancer0" else ["ours, bank"])):
            measured = [in_a_process(kind, stage, batch) for batch in batches]
            seconds, memory = (at_batch(measured, what, batches, full) for what in ("seconds", "memory"))
            found[stage][kind] = seconds
            ratio = found[stage]["plain"] / seconds
            rows.append([label, kind, f"{seconds:.3g}", f"{memory / 1024:.2f}", f"{ratio:.1f}"])
    rows += projection(paper, found)
    columns = ["stage", "loop", "seconds per iteration", "peak memory, GB", "times as fast"]
    return markdown(pd.DataFrame(rows, columns=columns)) + f"\n{machine()}\n"


def projection(paper: Settings, seconds: dict[str, dict[str, float]]) -> list[list[str]]:
    """Hours of a whole run of the profile paper. An iteration of the warm-up counts like one of the network."""
    rounds, prompts, pairs = paper.refinement.rounds, paper.prompts, paper.data.embedded_images
    network = paper.enhancement.warmup_iterations + paper.enhancement.iterations
    network += rounds * paper.refinement.tuning_iterations
    refining = rounds * paper.refinement.iterations
    encode = (seconds["prompts0"]["ours"] - seconds["prompts0"]["ours, bank"]) / 16  # seconds per view, in a batch
    bank = prompts.views_per_image * pairs * (2 + 4 * rounds) * encode
    hours = {}
    for kind in ("plain", "ours", *REDUCED):
        learning = "plain" if kind == "plain" else "ours, bank"
        total = network * seconds["enhancer0"][kind] + (bank if kind != "plain" else 0.0)
        total += prompts.iterations * seconds["prompts0"][learning] + refining * seconds["prompts2"][learning]
        hours[kind] = total / 3600
    title = f"projection: paper, {network + prompts.iterations + refining:,} iterations"
    return [
        [title, kind, f"{total:,.1f} h in all", "", f"{hours['plain'] / total:.1f}"] for kind, total in hours.items()
    ]


def at_batch(measured: list[dict], what: str, batches: tuple[int, ...], full: int) -> float:
    """Extrapolate to the full batch: time in proportion to the largest measured batch, memory linearly."""
    values = [one[what] for one in measured]
    if what == "seconds" or len(values) == 1:
        return values[-1] * full / batches[-1]
    slope = (values[-1] - values[0]) / (batches[-1] - batches[0])
    return values[-1] + slope * (full - batches[-1])


def machine() -> str:
    """Where and when this was measured."""
    name = torch.cuda.get_device_name() if ON_GPU else f"{os.cpu_count()} cores, {processor()}, no GPU"
    return f"{name}; PyTorch {torch.__version__}, Python {platform.python_version()}; {date.today()}."


def processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.machine()


def in_a_process(kind: str, stage: str, batch: int) -> dict:
    """Seconds per iteration and peak memory in MB, measured in a separate process."""
    command = [sys.executable, __file__, "--measure", kind, stage, str(batch)]
    quiet = os.environ | {"TQDM_DISABLE": "1"}
    began = time.monotonic()
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=quiet).stdout)
    print(f"{STAGES[stage]}, batch {batch}: {kind}, measured in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return found


def memory_mb() -> int:
    """Peak memory in MB: of the GPU if one is used, or else of this process; 0 on Windows."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() >> 20
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> (20 if sys.platform == "darwin" else 10)


def measure(kind: str, stage: str, batch: int) -> dict:
    """Seconds of the fastest of a few iterations, without the first, and the peak memory of this process or the GPU."""
    torch.manual_seed(0)
    marks: list[float] = []
    if kind == "plain":
        step = PLAIN[stage](batch, "cuda" if ON_GPU else "cpu")
        for _ in range(10 if ON_GPU else 2):
            marks.append(now())
            step()
        marks.append(now())
    else:
        with tempfile.TemporaryDirectory() as folder, marked(marks):
            ours(kind, stage, batch, Path(folder))
    spans = [after - before for before, after in pairwise(marks)]
    return {"seconds": min(spans[1:]), "memory": memory_mb()}


def now() -> float:
    if ON_GPU:
        torch.cuda.synchronize()
    return time.perf_counter()


# ---- the stages of cliplit ----


@contextlib.contextmanager
def marked(marks: list[float]) -> Iterator[None]:
    """Record the time at the start of every iteration of a stage, and at its end."""
    original = Loop.until

    def iterate(self: Loop, interrupts: Interrupts) -> Iterator[int]:
        marks.clear()
        for iteration in original(self, interrupts):
            marks.append(now())
            yield iteration
        marks.append(now())

    Loop.until = iterate
    try:
        yield
    finally:
        Loop.until = original


def ours(kind: str, stage: str, batch: int, folder: Path) -> None:
    """Run a stage of the profile paper with few images and iterations, after the stages it needs."""
    steps = 10 if ON_GPU else 2 if stage == "enhancer0" else 3
    changes = {
        "clip.random": True,
        "data.embedded_images": IMAGES,
        "data.embedded_pairs": 1,
        "engine.precision": "bf16" if kind.endswith("bf16") else "fp32",
        "watch.panel_every": 0,
        "prompts.views_per_image": VIEWS if kind == "ours, bank" else 0,
        "enhancement.extend_above": "inf",
        "refinement.extend_above": "inf",
        "refinement.rounds": 2,
    }
    if stage == "prompts2":  # only the results of the ranked networks matter
        changes |= {
            "data.train_size": 64,
            "enhancement.batch_size": 1,
            "prompts.iterations": 1,
            "prompts.batch_size": 1,
        }
        changes |= {"enhancement.iterations": 1, "refinement.tuning_iterations": 1, "refinement.iterations": steps}
        changes |= {"enhancement.warmup_iterations": 1}
    else:
        changes |= {"prompts.iterations": steps if stage == "prompts0" else 1, "enhancement.batch_size": batch}
        changes |= {"enhancement.iterations": steps, "enhancement.warmup_iterations": 1}
    clip.load_backbone = functools.cache(load_backbone)  # random weights take seconds to draw
    run = Run.start(folder, profile("paper", changes))
    prepare_data(run)
    training.initialize_prompts(run)
    if stage == "prompts0":
        return
    training.warm_up(run)
    training.train_enhancer(run, 0)
    if stage == "prompts2":
        training.refine_prompts(run, 1)
        training.train_enhancer(run, 1)
        training.refine_prompts(run, 2)


# ---- the plain loop, like the released code ----


class PlainPrompts:
    """Learn prompts: encode images one by one on the CPU, as in a data loader; then all 77 positions of the pair."""

    def __init__(self, batch: int, device: str, per_item: int = 1):
        self.loader_clip = load_backbone("ViT-B-32-quickgelu/openai", random=True)
        self.clip = load_backbone("ViT-B-32-quickgelu/openai", random=True).to(device)
        embedding, self.end = self.clip.embed(" ".join(["X"] * 16))
        self.pair = embedding.detach().repeat(2, 1, 1).requires_grad_()
        self.optimizer = torch.optim.Adam([self.pair], 5e-6, weight_decay=1e-3)
        self.images = torch.rand(batch * per_item, 3, 256, 256)
        self.labels = torch.arange(batch, device=device) % 2
        self.device = device

    def __call__(self) -> None:
        features = one_by_one(self.loader_clip, self.images).to(self.device)
        loss = self.loss(features, all_positions(self.clip, self.pair, self.end))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        loss.item()

    def loss(self, features: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return losses.prompt_initialization_loss(features, text, self.labels)


class PlainRefinement(PlainPrompts):
    """The same with tuples of a backlit image, two results and a well-lit image."""

    def __init__(self, batch: int, device: str):
        super().__init__(batch, device, per_item=4)

    def loss(self, features: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        return 200 * losses.margin_ranking_loss(losses.backlit_scores(features, text).chunk(4), 0.9, 0.1)


class PlainNetwork:
    """Train the network: both CLIPs encode images one by one."""

    def __init__(self, batch: int, device: str):
        self.clip = load_backbone("ViT-B-32-quickgelu/openai", random=True).to(device)
        self.identity = load_backbone("RN101-quickgelu/openai", random=True).to(device)
        self.network = Enhancer().initialize(1).to(device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), 2e-5, weight_decay=1e-3)
        self.images = torch.rand(batch, 3, 512, 512, device=device)
        self.text = torch.randn(2, 512, device=device)

    def __call__(self) -> None:
        results = self.network.enhance(self.images, padding="zeros")
        features = torch.cat([self.clip.encode_image(result[None]) for result in results])
        identity = 0.0
        for result, image in zip(results, self.images, strict=True):
            ours, theirs = (self.identity.encode_activations(one[None]) for one in (result, image))
            identity = identity + losses.identity_loss(ours, theirs, (1, 1, 1, 1, 0.5))
        loss = 320 * losses.clip_enhance_loss(features, self.text) + 22.5 * identity
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        loss.item()


@torch.no_grad()
def one_by_one(clip: ClipBackbone, images: torch.Tensor) -> torch.Tensor:
    return torch.cat([clip.encode_image(image[None]) for image in images])


def all_positions(clip: ClipBackbone, embeddings: torch.Tensor, end: int) -> torch.Tensor:
    """Text features of the pair: all positions are computed, and the end token's output is used."""
    text = clip.text
    x = text.transformer(embeddings + text.positional_embedding, attn_mask=text.attn_mask)
    return text.ln_final(x)[:, end] @ text.text_projection


PLAIN: dict[str, Callable] = {"prompts0": PlainPrompts, "enhancer0": PlainNetwork, "prompts2": PlainRefinement}


if __name__ == "__main__":
    main()

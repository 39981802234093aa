"""What a run will cost here, and what stands in its way: looked at before hours are spent on it.

A miniature of the run is trained on this device by the functions that train the run itself, with images of the same
size; its times make the estimate. On a CPU its batches are smaller, where an iteration would take long, and are scaled.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from cliplit.data.manifest import images_by_role
from cliplit.engine.compute import check_engine, has_bf16
from cliplit.engine.record import memory_mb, watch_folder
from cliplit.errors import CliplitError
from cliplit.experiments.evaluation import evaluate
from cliplit.experiments.notebooks import looks
from cliplit.files.tensors import read_image
from cliplit.method.run import Run
from cliplit.method.run_images import prepare_data
from cliplit.method.training import train
from cliplit.scoring.metrics import Meter, choose
from cliplit.scoring.weights import why_unavailable
from cliplit.settings import INFINITE, Settings, named_paths, override

IMAGES = (16, 4)  # of each side that the miniature is trained with: if they are small, or large
SMALL = 256  # pixels of a side
PAIRS = 4  # that it is evaluated with
ITERATIONS = 3  # of a part; the first one is not counted
PIXELS = 1 << 18  # of a batch on a CPU: larger ones are scaled
WORTH_TRYING = 60.0  # seconds that a miniature may take for others to be measured beside it, and a run at least
TRIALS = {  # what may help, by settings that change results by rounding only, or as docs/engine.md says
    "engine.precision": "bf16",
    "prompts.views_per_image": 16,
}
NOTEWORTHY = 1.1  # times as fast
COLUMNS = ("part", "iterations", "seconds each", "time", "memory, GB")
SPARE = 1.2  # of what is needed, to be had


@dataclass(frozen=True)
class Part:
    """A part of a run: its iterations, seconds of one (least, usual, most), seconds beside them, peak memory in MB."""

    name: str
    iterations: int
    each: tuple[float, float, float]
    beside: float
    memory: int

    def seconds(self, which: int = 1) -> float:
        """Of the part in all: 0 at best, 1 as usual, 2 at worst."""
        return self.iterations * self.each[which] + self.beside


class Scale(NamedTuple):
    """How many times the miniature: an iteration, what is done beside them for images, and what every stage does."""

    each: float = 1.0
    images: float = 0.0
    stages: int = 1


@dataclass(frozen=True)
class Plan:
    """What a run costs: its parts, bytes on the disk, and seconds of the miniature itself."""

    parts: tuple[Part, ...]
    disk: int
    measured_in: float
    scaled: int  # the network's batch was smaller by this factor

    def seconds(self, which: int = 1) -> float:
        return sum(part.seconds(which) for part in self.parts)

    @property
    def memory(self) -> int:
        """Peak memory in MB."""
        return max(part.memory for part in self.parts)

    def table(self) -> pd.DataFrame:
        """One row per part and their sum, for readers."""
        rows = [
            (part.name, part.iterations or "", f"{part.each[1]:.3g}" if part.iterations else "", *_cost(part))
            for part in self.parts
        ]
        total = (duration(self.seconds()), f"{self.memory / 1024:.1f}")
        return pd.DataFrame([*rows, ("in all", "", "", *total)], columns=list(COLUMNS))

    def summary(self) -> str:
        """The estimate in a line."""
        low, high = (duration(self.seconds(which)) for which in (0, 2))
        scaled = f"; the network's batch was {self.scaled} times smaller and is scaled" if self.scaled > 1 else ""
        return (
            f"about {duration(self.seconds())} ({low} to {high}) and {self.disk / 1e9:.2f} GB on the disk, "
            f"from a miniature of {self.measured_in:.0f} s{scaled}"
        )


def obstacles(run: Run) -> list[str]:
    """All that keeps a run from being started, one line each; nothing is written, every training image is read."""
    return [*filter(None, map(_refusal, looks(run))), *_unreadable(run.settings)]


def found(run: Run) -> str:
    """The training and test images of a run, counted."""
    chosen = images_by_role(run.settings.data)
    counts = ", ".join(f"{len(images.files)} {role.replace('_', ' ')}" for role, images in chosen.items())
    return counts or f"{run.settings.data.embedded_images} embedded crops a side, for no data set is given (--data)"


def measure(run: Run, changes: dict[str, object] | None = None) -> Plan:
    """Train and evaluate a miniature of a run in a folder that is removed after, and scale its times.

    Args:
        changes: settings of the run that are to be tried otherwise, by dotted name.
    Raises:
        CliplitError: as training, e.g. out of memory.
    """
    settings = run.settings
    for name, value in (changes or {}).items():
        settings = override(settings, name, value)
    began = time.monotonic()
    small = miniature(settings)
    Meter([name for name in choose(settings.evaluation.metrics) if not why_unavailable([name])])  # imports much
    starting = time.monotonic() - began
    with tempfile.TemporaryDirectory() as folder:
        probe = Run.start(Path(folder) / "run", small)
        prepare_data(probe)
        train(probe)
        evaluate(probe)
        parts = (Part("start", 0, (0.0, 0.0, 0.0), starting, memory_mb()), *_parts(probe, settings))
        disk = _disk(probe, settings)
    scaled = settings.enhancement.batch_size // small.enhancement.batch_size
    return Plan(parts, disk, time.monotonic() - began, scaled)


def miniature(settings: Settings) -> Settings:
    """Settings of a run of a few images and iterations, in which each takes as long as in the run itself."""
    few = ITERATIONS
    images = IMAGES[settings.data.train_size > SMALL]
    batch = settings.enhancement.batch_size
    if check_engine(settings).type == "cpu":
        batch = max(1, min(batch, PIXELS // settings.data.train_size**2))
    return replace(
        settings,
        data=replace(
            type(settings.data)(),
            train_size=settings.data.train_size,
            test_size=settings.data.test_size,
            embedded_images=images,
            embedded_pairs=PAIRS,
        ),
        prompts=replace(settings.prompts, iterations=min(settings.prompts.iterations, few)),
        enhancement=replace(
            settings.enhancement,
            batch_size=batch,
            iterations=few,
            warmup_iterations=few,
            guard_psnr=0.0,
            extend_above=INFINITE,
        ),
        refinement=replace(
            settings.refinement,
            rounds=min(settings.refinement.rounds, 1),
            iterations=min(settings.refinement.iterations, few),
            tuning_iterations=1,
            extend_above=INFINITE,
        ),
        watch=replace(settings.watch, save_seconds=0.0, panel_every=0, tensorboard=False),
        evaluation=replace(settings.evaluation, control=False, checkpoints=(), results=()),
    )


def trials(run: Run, plan: Plan) -> Iterator[str]:
    """What would help, each measured by a miniature of its own, if those are quick."""
    device = check_engine(run.settings)
    for name, value in TRIALS.items():
        changed = override(run.settings, name, value)
        if changed == run.settings or (name == "engine.precision" and not has_bf16(device)):
            continue
        if plan.measured_in < WORTH_TRYING < plan.seconds():
            ratio = plan.seconds() / measure(run, {name: value}).seconds()
            if ratio > NOTEWORTHY:
                yield f"--set {name}={value} would be {ratio:.2f} times as fast"


def shortages(run: Run, plan: Plan) -> list[str]:
    """Disk and memory that are not there, one line each."""
    return list(filter(None, (_short_of_disk(run, plan), _short_of_memory(run, plan))))


def duration(seconds: float) -> str:
    """Seconds for readers: 40 s, 12 min, 5.3 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def larger(memory: int, base: int, times: float) -> int:
    """Peak memory of a batch so many times larger, of which `base` does not depend on it."""
    return round(base + max(memory - base, 0) * times) if times > 1 else memory


def _cost(part: Part) -> tuple[str, str]:
    return duration(part.seconds()), f"{part.memory / 1024:.1f}"


def _parts(probe: Run, settings: Settings) -> Iterator[Part]:
    """The parts of a run from the times of its miniature."""
    times = sum(_image_counts(settings).values()) / sum(_image_counts(probe.settings).values())
    base = _spans(probe, "prompts0")[1]  # without the network
    every = _beside(probe, "warmup")  # which looks at no images but in its iterations: what every stage takes
    bank = times if settings.prompts.views_per_image else 1.0  # of encoded views; without it nothing is done for each
    batch = settings.enhancement.batch_size / probe.settings.enhancement.batch_size
    network, rounds = settings.enhancement, settings.refinement

    def part(name: str, stage: str, iterations: int, scale: Scale) -> Part:
        spans, memory = _spans(probe, stage)
        more = max(_beside(probe, stage) - every * (scale.stages > 0), 0.0)
        beside = more * scale.images + every * scale.stages
        usual = (min(spans), sorted(spans)[len(spans) // 2], max(spans)) if spans else (0.0, 0.0, 0.0)
        least, middle, most = (scale.each * span for span in usual)
        return Part(name, iterations, (least, middle, most), beside, larger(memory, base, scale.each))

    yield part("data", "data", 0, Scale(images=times, stages=0))
    trained = [
        part("initial prompts", "prompts0", settings.prompts.iterations, Scale(images=bank)),
        part("warm-up", "warmup", network.warmup_iterations, Scale(batch)),
        part("network", "enhancer0", network.iterations, Scale(batch)),
    ]
    if rounds.rounds and "prompts1" in probe.plan:
        groups = sum(min(k, 2) + 2 for k in range(1, rounds.rounds + 1)) / 3  # ranked: three in round 1, then four
        scale = Scale(images=times * groups, stages=rounds.rounds)
        trained.append(part("prompts of all rounds", "prompts1", rounds.rounds * rounds.iterations, scale))
    if rounds.rounds:
        scale = Scale(batch, stages=rounds.rounds)
        trained.append(part("network of all rounds", "enhancer0", rounds.rounds * rounds.tuning_iterations, scale))
    yield from trained
    if settings.evaluation.control:
        least, middle, most = (sum(one.seconds(which) for one in trained) for which in range(3))
        yield Part("random-CLIP control", 1, (least, middle, most), 0.0, max(one.memory for one in trained))
    methods, few = (_methods(one) for one in (settings, probe.settings))
    scale = Scale(images=_tests(settings) / PAIRS * methods / few, stages=0)
    yield part("evaluation", "evaluation", 0, scale)


def _beside(probe: Run, stage: str) -> float:
    """Seconds of a stage before and after its iterations."""
    file = watch_folder(probe.path / stage) / "speed.csv"
    iterating = pd.read_csv(file)["seconds"].iloc[-1] if file.is_file() else 0.0
    return max((probe.record(stage) or {})["seconds"] - iterating, 0.0)


def _spans(probe: Run, stage: str) -> tuple[list[float], int]:
    """Seconds of the iterations of a stage but for the first one, and its peak memory in MB."""
    file = watch_folder(probe.path / stage) / "speed.csv"
    if not file.is_file():
        return [], memory_mb()
    speed = pd.read_csv(file)
    steps = speed[["done", "seconds"]].diff().dropna()
    steps = steps[steps["done"] > 0]
    return (steps["seconds"] / steps["done"]).tolist(), int(speed["memory_mb"].max())


def _image_counts(settings: Settings) -> dict[str, int]:
    chosen = images_by_role(settings.data)
    sides = {side: f"train_{side}" for side in ("backlit", "well_lit")}
    embedded = settings.data.embedded_images
    return {side: len(chosen[role].files) if role in chosen else embedded for side, role in sides.items()}


def _tests(settings: Settings) -> int:
    chosen = images_by_role(settings.data)
    return len(chosen["test_backlit"].files) if "test_backlit" in chosen else settings.data.embedded_pairs


def _methods(settings: Settings) -> int:
    """Methods that are evaluated: input, gamma, baselines, networks, and what was given."""
    options = settings.evaluation
    given = len(named_paths(options.checkpoints)) + len(named_paths(options.results))
    return 4 + len(options.baselines) + settings.refinement.rounds + options.control + given


def _disk(probe: Run, settings: Settings) -> int:
    """Bytes of a run: images at training size, a network and its optimiser for every stage, and pairs of prompts."""
    size = {stage: sum(file.stat().st_size for file in (probe.path / stage).rglob("*")) for stage in probe.plan}
    rounds, control = settings.refinement.rounds, 1 + settings.evaluation.control
    images = 3 * settings.data.train_size**2 * sum(_image_counts(settings).values())
    networks = (rounds + 3) * size["enhancer0"]  # with the progress of the one at work
    return control * (images + networks + (rounds + 1) * size["prompts0"]) + size["evaluation"]


def _unreadable(settings: Settings) -> list[str]:
    try:
        chosen = images_by_role(settings.data)
    except CliplitError:
        return []  # said already
    files = [file for role, images in chosen.items() if role.startswith("train") for file in images.files]
    problems = list(filter(None, (_refusal(partial(read_image, file)) for file in files)))
    return [] if settings.data.skip_bad else problems


def _refusal(look: Callable[[], object]) -> str | None:
    try:
        look()
    except (CliplitError, OSError) as error:
        return str(error)
    return None


def _short_of_disk(run: Run, plan: Plan) -> str | None:
    there = next(folder for folder in (run.path, *run.path.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if free >= SPARE * plan.disk:
        return None
    return f"{run.path}: the run takes {plan.disk / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; choose another --run"


def _short_of_memory(run: Run, plan: Plan) -> str | None:
    free = free_memory(check_engine(run.settings))
    if free is None or plan.memory <= free:
        return None
    return (
        f"memory: training takes {plan.memory / 1024:.1f} GB, {free / 1024:.1f} GB are there; "
        f"set a smaller enhancement.batch_size"
    )


def free_memory(device: torch.device) -> int | None:
    """Memory in MB that a device has for this process; None if that cannot be told."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] >> 20
    import psutil

    return (psutil.virtual_memory().available >> 20) + memory_mb()

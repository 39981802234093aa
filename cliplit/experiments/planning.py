"""Check what a run needs before it spends hours, and estimate how long its training takes on this machine.

The commands `plan`, `train`, `reproduce` and `study` share these checks.
"""

import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cliplit.data.manifest import ROLES, Images
from cliplit.engine import processes
from cliplit.engine.stages import held
from cliplit.errors import CliplitError, printable, shortened
from cliplit.files.images import decode, size_of
from cliplit.method.run import MANIFEST, Run, controls
from cliplit.scoring.metrics import catalogue, choose
from cliplit.settings import INFINITE, Data, Settings, Watch
from cliplit.values import check_values

IMAGES = 16  # training images of each side, for the timing
TIMED = 5  # iterations that are timed
CPU_PIXELS = 1 << 18  # most pixels of a batch that is timed on a CPU; time grows in proportion to the batch
SIDES = ("train_backlit", "train_well_lit")
BYTES = 3  # most bytes that a pixel needs


@contextmanager
def at_work(run: Run, rebuild: bool = False) -> Iterator[None]:
    """Check a run, begin it, and keep other commands from writing to it until the block ends.

    Arguments and errors as in `Run.begin`. An obstacle of `look_over` is also an error.
    """
    run.check(rebuild)
    obstacles, notes = look_over(run)
    if obstacles:
        more = f" (and {len(obstacles) - 1} more; `cliplit plan` lists all)" if len(obstacles) > 1 else ""
        raise CliplitError(obstacles[0] + more)
    with held(run.path):
        if not (run.path / MANIFEST).exists():
            processes.say(printable(f"{run.path}: a new run of profile {run.settings.profile}"))
        run.begin(rebuild)
        for line in notes:
            processes.say(printable(line))
        yield


def look_over(run: Run, read: bool = False) -> tuple[list[str], list[str]]:
    """Obstacles that keep a run from starting, and notes that are useful to know, in one line each.

    Nothing is written except missing CLIP weights, which are downloaded.

    Args:
        read: also read every image, as the stage `data` does.
    """
    from cliplit.engine.compute import find_device
    from cliplit.experiments.evaluation import check_others, find_results, named_paths
    from cliplit.method.run_images import changed_sources, check_folders
    from cliplit.scoring.weights import left_out, why_unavailable

    settings = run.settings
    obstacles: list[str] = []
    notes: list[str] = []
    prepared = run.is_current("data")
    if prepared and (changed := changed_sources(run)):
        listed = f"{len(changed)} were changed, added or removed since ({shortened(changed)})"
        notes.append(f"{run.path}: uses its own copies of the images; {listed}")
    if all(map(run.is_current, run.plan)):
        return obstacles, notes

    def look(at: Callable[..., Any], *given: Any) -> Any:
        try:
            return at(*given)
        except (CliplitError, OSError) as error:
            obstacles.append(str(error))

    look(check_values, settings)
    look(check_models, settings)
    look(find_device, settings.device)
    look(check_others, settings.evaluation)
    chosen = None if prepared else look(check_folders, settings.data)
    sizes: dict[str, tuple[int, int]] = {}
    if prepared:
        copies = {test["name"]: run.folder("data") / test["backlit"] for test in run.notes("data", "data.json")["test"]}
        sizes = {name: size_of(path) for name, path in copies.items()}
    elif chosen is not None:
        sizes = look_at_images(settings.data, chosen, read, obstacles, notes)
        look(check_space, run, chosen, sizes)
    for folder in (
        named_paths(settings.evaluation.results).values() if not obstacles and "embedded" not in sizes else ()
    ):
        look(find_results, folder, sizes)
    if not obstacles:
        missing = why_unavailable(settings.evaluation.metrics)
        alone = chosen and "test_backlit" in chosen and "test_reference" not in chosen
        metrics = [name for name in choose(settings.evaluation.metrics) if name not in missing]
        lacking = [name for name in metrics if alone and catalogue()[name].compares]
        lines = left_out(missing)
        if lacking:
            lines.append(f"no {', '.join(lacking)} without references of the test images (--test-reference)")
        notes += [f"metrics: {line}" for line in lines]
    return obstacles, notes


def look_at_images(
    data: Data, chosen: Mapping[str, Images], read: bool, obstacles: list[str], notes: list[str]
) -> dict[str, tuple[int, int]]:
    """Width and height in pixels of backlit test images by name. Adds lines to `obstacles` and `notes`."""
    sizes = {} if "test_backlit" in chosen else {"embedded": (data.test_size or data.train_size,) * 2}
    if not chosen:
        notes.append(f"images: {data.embedded_images} embedded crops a side, for no data set is given (--data)")
    for role, images in chosen.items():
        others = f"; {images.others} other files ignored" if images.others else ""
        notes.append(f"{images.folder}: {len(images.files)} images, {ROLES[role]}{others}")
        notes += [f"left out: {line}" for line in images.unread]
        for file in images.files if read or role == "test_backlit" else ():
            try:
                size = decode(file).shape[1::-1] if read else size_of(file)
                if role == "test_backlit":
                    sizes[file.stem] = size
            except (CliplitError, OSError) as error:
                strict = role.startswith("train") and not data.skip_bad
                (obstacles if strict else notes).append(str(error) if strict else f"left out: {error}")
    return sizes


def check_space(run: Run, chosen: Mapping[str, Images], sizes: Mapping[str, tuple[int, int]]) -> None:
    """Raise CliplitError if there is no space for training images, copies of test images, and results."""
    data, evaluation = run.settings.data, run.settings.evaluation
    training = sum(len(chosen[role].files) if role in chosen else data.embedded_images for role in SIDES)
    saved = (6 + run.settings.refinement.rounds + len(evaluation.baselines)) * sum(map(math.prod, sizes.values()))
    needed = BYTES * (training * data.train_size**2 + saved)
    free = shutil.disk_usage(next(each for each in (run.path, *run.path.absolute().parents) if each.exists())).free
    if free < needed:
        raise CliplitError(
            f"{run.path}: needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; choose another --run"
        )


def check_models(settings: Settings) -> None:
    """Raise CliplitError if a CLIP is missing, the identity loss has no ResNet, or the guidance cannot be made."""
    from cliplit.method.clip import load_clip
    from cliplit.method.clip_weights import find_weights, has_resnet, model_config
    from cliplit.method.guidance.registry import new_guidance

    if not has_resnet(settings.clip.identity):
        raise CliplitError(
            f"CLIP '{settings.clip.identity}' has no ResNet tower, which the identity loss needs; use e.g. RN101"
        )
    (model_config if settings.clip.random else find_weights)(settings.clip.identity)
    new_guidance(settings, load_clip(settings.clip.similarity, replace(settings, device="cpu")))


def network_iterations(settings: Settings) -> int:
    """Number of iterations that train the networks of a run and of its controls."""
    network, asked = settings.enhancement, controls(settings)
    tuning = settings.refinement.rounds * settings.refinement.tuning_iterations
    initial = network.warmup_iterations + network.iterations
    return (initial + tuning) * (1 + ("random-clip" in asked)) + tuning * ("longer" in asked)


def seconds_each(settings: Settings) -> float:
    """Seconds per iteration of the network on its device, measured with embedded images in a temporary folder.

    On a CPU, only a part of a large batch is timed. Errors as in training, e.g. out of memory.
    """
    from cliplit.engine.compute import find_device
    from cliplit.method import training

    size, batch = settings.data.train_size, settings.enhancement.batch_size
    if find_device(settings.device).type == "cpu":
        batch = max(1, min(batch, CPU_PIXELS // size**2))
    quick: dict[str, Any] = {"batch_size": batch, "warmup_iterations": 1, "guard_psnr": 0.0, "extend_above": INFINITE}
    probe = replace(
        settings,
        data=Data(train_size=size, embedded_images=IMAGES, embedded_pairs=1),
        prompts=replace(settings.prompts, iterations=0, views_per_image=0),
        watch=Watch(panel_every=0),
    )
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        for iterations in (1, 1 + TIMED):  # the difference excludes what a stage does only once
            changed = replace(settings.enhancement, iterations=iterations, **quick)
            trial = Run.start(Path(folder) / f"{iterations}", replace(probe, enhancement=changed))
            training.prepare_data(trial)
            training.initialize_prompts(trial)
            training.warm_up(trial)
            began = time.perf_counter()
            training.train_enhancer(trial, 0)
            taken.append(time.perf_counter() - began)
    return max(taken[1] - taken[0], 0.0) / TIMED * settings.enhancement.batch_size / batch

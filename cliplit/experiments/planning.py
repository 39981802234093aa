"""What a run needs, looked at before hours are spent on it, and how long its training takes here.

`plan`, `train`, `reproduce` and `study` share these looks.
"""

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from cliplit.data.manifest import images_by_role
from cliplit.errors import CliplitError
from cliplit.files.images import decode
from cliplit.method.run import Run
from cliplit.settings import INFINITE, Data, Settings, Watch

IMAGES = 16  # of each side, for the timing
TIMED = 5  # iterations
CPU_PIXELS = 1 << 18  # of a batch that is timed on a CPU; a larger one takes as many times longer
SPARE = 1.2  # times the space that is needed
PNG_BYTES = 2  # of a pixel of a photo, about


def check_inputs(run: Run) -> None:
    """Look at device, folders, names and CLIP weights of a run; raises CliplitError for the first that is not there."""
    for look in looks(run):
        look()


def looks(run: Run) -> list[Callable[[], object]]:
    from cliplit.engine.compute import check_engine
    from cliplit.experiments.evaluation import check_others
    from cliplit.method.clip_weights import find_weights, model_config
    from cliplit.method.run_images import check_folders

    settings = run.settings
    clips = dict.fromkeys((settings.clip.similarity, settings.clip.identity))
    return [
        partial(check_engine, settings),
        partial(check_folders, settings.data),
        partial(check_others, settings.evaluation),
        *(partial(model_config if settings.clip.random else find_weights, name) for name in clips),
    ]


def look_over(run: Run) -> tuple[list[str], list[str]]:
    """All that keeps a run from being started, and what else is worth knowing, in one line each.

    Every image is read. Nothing is written but CLIP weights, which are downloaded if need be.
    """
    settings = run.settings
    obstacles = []
    for look in looks(run):
        try:
            look()
        except (CliplitError, OSError) as error:
            obstacles.append(str(error))
    try:
        chosen = images_by_role(settings.data)
    except CliplitError:
        return obstacles, []  # one of the looks has told it
    counts = {role: len(images.files) for role, images in chosen.items()}
    listed = ", ".join(f"{count} {role.replace('_', ' ')}" for role, count in counts.items())
    embedded = f"{settings.data.embedded_images} embedded crops a side, for no data set is given (--data)"
    notes = [f"images: {listed or embedded}"]
    notes += [f"left out: {line}" for images in chosen.values() for line in images.unread]
    pixels = 0  # of the test images
    for role, images in chosen.items():
        unreadable = []
        for file in images.files:
            try:
                height, width, _ = decode(file).shape
                pixels += height * width * (role == "test_backlit")
            except (CliplitError, OSError) as error:
                unreadable.append(str(error))
        if role.startswith("train") and not settings.data.skip_bad:
            obstacles += unreadable
        else:
            notes += [f"left out: {problem}" for problem in unreadable]
    training = sum(counts.get(role, settings.data.embedded_images) for role in ("train_backlit", "train_well_lit"))
    # Bytes of training images and of the results that the evaluation saves; all else is small beside them.
    results = PNG_BYTES * pixels * (4 + settings.refinement.rounds + len(settings.evaluation.baselines))
    needed = SPARE * (training * 3 * settings.data.train_size**2 + results)
    there = next(folder for folder in (run.path, *run.path.absolute().parents) if folder.exists())
    if (free := shutil.disk_usage(there).free) < needed:
        obstacles.append(f"{run.path}: needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; choose another --run")
    if not obstacles:
        from cliplit.scoring.weights import left_out, why_unavailable

        notes += [f"metrics: {line}" for line in left_out(why_unavailable(settings.evaluation.metrics))]
    return obstacles, notes


def network_iterations(settings: Settings) -> int:
    """Iterations that train the networks of a run, the control included."""
    network, rounds = settings.enhancement, settings.refinement
    once = network.warmup_iterations + network.iterations + rounds.rounds * rounds.tuning_iterations
    return once * (1 + settings.evaluation.control)


def seconds_each(settings: Settings) -> float:
    """Seconds of an iteration of the network on its device: of a few with embedded images, in a folder that is removed.

    On a CPU a part of a large batch is timed.

    Raises:
        CliplitError: as training, e.g. out of memory.
    """
    from cliplit.engine.compute import check_engine
    from cliplit.method import training

    size, batch = settings.data.train_size, settings.enhancement.batch_size
    if check_engine(settings).type == "cpu":
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
        for iterations in (1, 1 + TIMED):  # the difference is without what a stage does once
            changed = replace(settings.enhancement, iterations=iterations, **quick)
            trial = Run.start(Path(folder) / "run", replace(probe, enhancement=changed))
            training.prepare_data(trial)
            training.initialize_prompts(trial)
            training.warm_up(trial)
            began = time.perf_counter()
            training.train_enhancer(trial, 0)
            taken.append(time.perf_counter() - began)
    return max(taken[1] - taken[0], 0.0) / TIMED * settings.enhancement.batch_size / batch

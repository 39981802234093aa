"""Evaluation of a run on its test images: every stage, simple baselines and the random-CLIP control."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from skimage import color, exposure
from torch import Tensor
from tqdm import tqdm

from cliplit.engine import processes
from cliplit.engine.compute import find_device
from cliplit.errors import CliplitError, did_you_mean
from cliplit.files.atomic import write_json, write_text
from cliplit.files.folders import Found, find_images
from cliplit.files.pairs import pair
from cliplit.files.tensors import psnr, read_image, to_tensor, to_uint8
from cliplit.method.checkpoints import load_enhancer
from cliplit.method.enhancer import Enhancer
from cliplit.method.run import Run
from cliplit.method.run_images import TestImage, test_images
from cliplit.method.training import network_of, train
from cliplit.scoring.metrics import Meter, catalogue, choose
from cliplit.scoring.weights import why_unavailable
from cliplit.settings import Evaluation, named_paths


def train_control(run: Run) -> Enhancer:
    """Stage `control`: the same run, rounds included, with random CLIP weights for both losses."""

    def make(folder: Path) -> None:
        settings = replace(
            run.settings,
            clip=replace(run.settings.clip, random=True),
            evaluation=replace(run.settings.evaluation, control=False),
        )
        control = Run.start(folder / "run", settings)
        train(control)
        last = control.folder(f"enhancer{settings.refinement.rounds}")
        if processes.is_main():
            shutil.copy(last / "enhancer.safetensors", folder)

    run.build("control", make, together=True)
    return network_of(run, "control")


def networks(run: Run) -> dict[str, Enhancer]:
    """The trained networks of a run and those given by path, by the names that tables give them."""
    stages = {"warmup": "warmup", "initial": "enhancer0"}
    stages |= {f"round{k}": f"enhancer{k}" for k in range(1, run.settings.refinement.rounds + 1)}
    if run.settings.evaluation.control:
        stages["random-clip"] = "control"
    ours = {name: network_of(run, stage) for name, stage in stages.items()}
    others = named_paths(run.settings.evaluation.checkpoints)
    return ours | {name: load_enhancer(path) for name, path in others.items()}


def check_others(options: Evaluation) -> None:
    """Look at what is to be compared beside the run itself, before anything is started.

    Raises:
        CliplitError: an unknown metric or baseline, a name that is taken, a checkpoint or folder that cannot be used.
    """
    choose(options.metrics)
    check_baselines(options.baselines)
    checkpoints = named_paths(options.checkpoints)
    results = named_paths(options.results)
    taken = {"input", "gamma", "warmup", "initial", "random-clip", *BASELINES}
    for name in (*checkpoints, *results):
        if name in taken or name.startswith("round") or (name in checkpoints and name in results):
            raise CliplitError(f"the name '{name}' is taken; give the checkpoint or folder another one")
    for path in checkpoints.values():
        load_enhancer(path)
    for path in results.values():
        find_images([path])


def enhanced_tests(run: Run, images: Sequence[int] | None = None) -> dict[str, list[Tensor]]:
    """The test images as they are, by simple baselines, by every network, and as other methods left them.

    Images are (3, H, W), rounded to 8 bits as in a file, in the order of `data.test_images`.

    Args:
        images: positions of the test images that are wanted; by default all of them.
    Raises:
        CliplitError: a folder of results that lacks images, or has them in another size.
    """
    tests = test_images(run)
    device = find_device(run.settings.device)
    gamma = best_gamma(tests, run.settings.evaluation.gammas)
    tests = tests if images is None else [tests[n] for n in images]
    results = {"input": [test.backlit for test in tests]}
    if gamma is not None:
        results["gamma"] = [_rounded(test.backlit**gamma) for test in tests]
    for name in run.settings.evaluation.baselines:
        results[name] = [_rounded(BASELINES[name](test.backlit)) for test in tests]
    for name, network in networks(run).items():
        results[name] = [enhance_rounded(network.to(device), test.backlit) for test in tests]
    for name, folder in named_paths(run.settings.evaluation.results).items():
        results[name] = _from_elsewhere(folder, tests)
    return results


def _from_elsewhere(folder: Path, tests: list[TestImage]) -> list[Tensor]:
    """Results of the test images in a folder, by exact stem."""
    found = pair(Found({test.name: Path(f"{test.name}.png") for test in tests}, 0, folders=False), folder)
    problems = list(found.problems)
    images = []
    for test in (test for test in tests if test.name in found.references):
        images.append(read_image(found.references[test.name]))
        if images[-1].shape != test.backlit.shape:
            sizes = " and ".join(f"{image.shape[2]}x{image.shape[1]}" for image in (images[-1], test.backlit))
            problems.append(f"{found.references[test.name].name} and its test image differ in size ({sizes})")
    if problems:
        raise CliplitError(f"{folder}: not results of these test images: {'; '.join(problems)}")
    return images


@torch.no_grad()
def enhance_rounded(network: Enhancer, image: Tensor) -> Tensor:
    """Enhanced image (3, H, W) in [0, 1], rounded to 8 bits as in a file."""
    device = next(network.parameters()).device
    return _rounded(network.enhance(image[None].to(device))[0].cpu())


def best_gamma(tests: list[TestImage], gammas: tuple[float, ...]) -> float | None:
    """The fixed exponent with the best mean PSNR on these very images, the best such a curve can do; None without references."""
    pairs = [(test.backlit, test.reference) for test in tests if test.reference is not None]
    if not pairs:
        return None

    def mean_psnr(gamma: float) -> float:
        scores = [psnr(_rounded(image**gamma)[None], reference[None]) for image, reference in pairs]
        return torch.cat(scores).mean().item()

    return max(gammas, key=mean_psnr)


def evaluate(run: Run) -> pd.DataFrame:
    """Stage `evaluation`: scores of every test image in every stage: columns stage, image and one per metric.

    Metrics that cannot be computed here are left out; evaluation/evaluation.json says which and why.
    """

    def make(folder: Path) -> None:
        wanted = run.settings.evaluation.metrics
        tests = test_images(run)
        missing = why_unavailable(wanted)
        names = [name for name in choose(wanted) if name not in missing]
        meter = Meter(names)
        rows = []
        for stage, images in tqdm(enhanced_tests(run).items(), desc="evaluation", leave=False):
            for test, image in zip(tests, images, strict=True):
                rows.append({"stage": stage, "image": test.name} | _measured(meter, names, image, test.reference))
        write_text(
            pd.DataFrame(rows).to_csv(index=False, float_format="%.6f", lineterminator="\n"), folder / "scores.csv"
        )
        gamma = best_gamma(tests, run.settings.evaluation.gammas)
        write_json({"missing": missing, "gamma": gamma, "images": len(tests)}, folder / "evaluation.json")

    return pd.read_csv(run.build("evaluation", make) / "scores.csv")


def _measured(meter: Meter, names: list[str], image: Tensor, reference: Tensor | None) -> dict[str, float]:
    """Scores of an image; NaN where a reference is needed and missing."""
    scores = {}
    for name in names:
        if catalogue()[name].compares and reference is None:
            scores[name] = float("nan")
        else:
            scores[name] = meter.measure(name, image[None], None if reference is None else reference[None])[0]
    return scores


def _rounded(image: Tensor) -> Tensor:
    return to_tensor(to_uint8(image))


def equalised(image: Tensor) -> Tensor:
    """Histogram equalisation of HSV's value, so that hues stay: (3, H, W) in [0, 1] to the same."""
    return _on_value(image, exposure.equalize_hist)


def clahe(image: Tensor) -> Tensor:
    """Contrast-limited adaptive histogram equalisation of HSV's value, with scikit-image's defaults."""
    return _on_value(image, exposure.equalize_adapthist)


BASELINES = {"histeq": equalised, "clahe": clahe}


def check_baselines(names: tuple[str, ...]) -> None:
    """Raise CliplitError for a name that is none of a baseline."""
    unknown = [name for name in names if name not in BASELINES]
    if unknown:
        raise CliplitError(
            f"unknown baseline '{unknown[0]}'; valid: {', '.join(BASELINES)}{did_you_mean(unknown[0], BASELINES)}"
        )


def _on_value(image: Tensor, equalise) -> Tensor:
    hsv = color.rgb2hsv(image.movedim(0, -1).numpy())
    hsv[..., 2] = equalise(hsv[..., 2])
    return torch.from_numpy(color.hsv2rgb(hsv).astype(np.float32)).movedim(-1, 0).clamp(0, 1).contiguous()

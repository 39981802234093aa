"""Evaluation of a run on its test images: every stage, simple baselines and the random-CLIP control."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from cliplit.checkpoints import load_enhancer
from cliplit.data import TestImage, test_images
from cliplit.enhancer import Enhancer
from cliplit.images import to_tensor, to_uint8
from cliplit.metrics import Meter, why_unavailable
from cliplit.runs import Run, write_json, write_text
from cliplit.training import pick_device, train


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
        shutil.copy(last / "enhancer.safetensors", folder)

    return load_enhancer(run.build("control", make) / "enhancer.safetensors")


def networks(run: Run) -> dict[str, Enhancer]:
    """The trained networks of a run, by the names that tables give them."""
    stages = {"warmup": "warmup", "initial": "enhancer0"}
    stages |= {f"round{k}": f"enhancer{k}" for k in range(1, run.settings.refinement.rounds + 1)}
    if run.settings.evaluation.control:
        stages["random-clip"] = "control"
    return {name: load_enhancer(run.folder(stage) / "enhancer.safetensors") for name, stage in stages.items()}


def enhanced_tests(run: Run) -> dict[str, list[Tensor]]:
    """The test images as they are, with the best fixed gamma, and enhanced by every network of the run.

    Images are (3, H, W), rounded to 8 bits as in a file, in the order of `data.test_images`.
    """
    tests, device = test_images(run), pick_device(run.settings)
    results = {"input": [test.backlit for test in tests]}
    gamma = best_gamma(tests, run.settings.evaluation.gammas)
    if gamma is not None:
        results["gamma"] = [_rounded(test.backlit**gamma) for test in tests]
    for name, network in networks(run).items():
        results[name] = [enhance_rounded(network.to(device), test.backlit) for test in tests]
    return results


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

    def psnr(gamma: float) -> float:
        errors = [(_rounded(image**gamma) - reference).square().mean() for image, reference in pairs]
        return -10 * torch.stack(errors).log10().mean().item()

    return max(gammas, key=psnr)


def evaluate(run: Run) -> pd.DataFrame:
    """Stage `evaluation`: scores of every test image in every stage: columns stage, image and one per metric.

    Metrics that cannot be computed here are left out; evaluation/evaluation.json says which and why.
    """

    def make(folder: Path) -> None:
        wanted, tests = run.settings.evaluation.metrics, test_images(run)
        missing = why_unavailable(wanted)
        meter = Meter(tuple(name for name in wanted if name not in missing))
        rows = []
        for stage, images in tqdm(enhanced_tests(run).items(), desc="evaluation", leave=False):
            for test, image in zip(tests, images):
                rows.append({"stage": stage, "image": test.name} | meter.measure(image, test.reference))
        write_text(
            pd.DataFrame(rows).to_csv(index=False, float_format="%.6f", lineterminator="\n"), folder / "scores.csv"
        )
        gamma = best_gamma(tests, run.settings.evaluation.gammas)
        write_json({"missing": missing, "gamma": gamma, "images": len(tests)}, folder / "evaluation.json")

    return pd.read_csv(run.build("evaluation", make) / "scores.csv")


def _rounded(image: Tensor) -> Tensor:
    return to_tensor(to_uint8(image))

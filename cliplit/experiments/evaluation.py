"""Evaluation of a run on its test images: every stage, simple baselines and controls."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from skimage import color, exposure
from torch import Tensor
from tqdm import tqdm

from cliplit.engine import processes
from cliplit.errors import CliplitError, did_you_mean, printable
from cliplit.files.atomic import write_json, write_text
from cliplit.files.folders import Found, find_images, pair
from cliplit.files.images import size_of
from cliplit.files.tensors import psnr, read_image, to_tensor, to_uint8, write_image
from cliplit.method.checkpoints import load_enhancer
from cliplit.method.clip import load_clip
from cliplit.method.enhancer import Enhancer
from cliplit.method.guidance.base import Seen
from cliplit.method.guidance.registry import is_refined, new_guidance
from cliplit.method.run import CONTROLS, Run, controls
from cliplit.method.run_images import TestImage, test_images
from cliplit.method.schedule import ranked_rounds
from cliplit.method.training import guidance_of, network_of, train
from cliplit.scoring.metrics import Meter, catalogue, choose, sensible
from cliplit.scoring.summary import read_table
from cliplit.scoring.weights import available_now, left_out, why_unavailable
from cliplit.settings import Evaluation, override

Method = Callable[[TestImage], Tensor]  # from a test image to its result (3, H, W), rounded to 8 bits like a file
Change = Callable[[Tensor], Tensor]  # (3, H, W) to (3, H, W), both in [0, 1]
REFERENCE = "reference"  # the stage name of references in tables of P(backlit)
PROMPT_SCORES = "prompt_scores.csv"
WORDS = ("backlit", "well lit")  # untrained prompts
LONGEST = 100  # most bytes in a method's name
OURS = ("input", "gamma", "warmup", "initial", *CONTROLS, REFERENCE)  # names of our own rows in tables and figures


def train_controls(run: Run) -> None:
    """Train the stages `control` and `longer`, if the settings ask for them.

    `control` is the same run, including its rounds, with random CLIP weights for both losses. `longer` tunes the
    initial network with the initial prompts, for as many iterations as all rounds together.
    """
    for stage, changes in (CONTROLS[name] for name in controls(run.settings)):

        def make(folder: Path, changes: dict[str, Any] = changes) -> None:
            alone = {"evaluation.control": False, "evaluation.longer": False}
            control = Run.start(folder / "run", override(run.settings, changes | alone), rebuild=True)
            if processes.is_main():
                control.adopt_from([run.path])
            processes.wait()
            train(control)
            last = control.folder(f"enhancer{run.settings.refinement.rounds}")
            if processes.is_main():
                shutil.copy(last / "enhancer.safetensors", folder)

        run.build(stage, make, together=True)


def evaluate(run: Run) -> pd.DataFrame:
    """Stage `evaluation`: scores of every test image in every stage, with columns stage, image and one per metric.

    The results are saved in evaluation/images/STAGE. Metrics that this machine cannot compute are left out until it
    can. An image that a metric cannot score gets NaN. evaluation/evaluation.json lists both with the reasons.
    """

    def make(folder: Path) -> None:
        options = run.settings.evaluation
        tests = test_images(run)
        missing = why_unavailable(options.metrics)
        meter = Meter(name for name in choose(options.metrics) if name not in missing)
        missing |= meter.failed
        names = [name for name in choose(options.metrics) if name not in missing]
        gamma = best_gamma(tests, options.gammas)
        rows = []
        unscored: dict[str, dict[str, str]] = {}  # the reason, by metric and image
        ranked = {"input", *map(stage_name, ranked_rounds(run.settings.refinement.rounds))}
        seen = {(REFERENCE, test.name): test.reference for test in tests if test.reference is not None}
        for stage, method in tqdm(methods(run, tests, gamma).items(), desc="evaluation", leave=False):
            for test in tests:
                image = method(test)
                if stage in ranked:
                    seen[stage, test.name] = image
                if stage != "input":
                    write_image(image, _result_file(folder, stage, test))
                row: dict[str, str | float] = {"stage": stage, "image": test.name}
                for name in names:
                    if catalogue()[name].compares and test.reference is None:
                        continue
                    score = _measured(meter, name, image, test.reference)
                    if isinstance(score, str):
                        unscored.setdefault(name, {})[test.name] = score
                    else:
                        row[name] = score
                rows.append(row)
        scores = pd.DataFrame(rows, columns=["stage", "image", *names])
        write_text(scores.to_csv(index=False, float_format="%.6f", lineterminator="\n"), folder / "scores.csv")
        if is_refined(run.settings.guidance.kind):
            _prompt_scores(run, seen).to_csv(
                folder / PROMPT_SCORES, index=False, float_format="%.6f", lineterminator="\n"
            )
        for reasons in unscored.values():
            first = next(iter(reasons.values()))
            processes.say(f"metrics: {len(reasons)} of {len(tests)} test images get no score: {first}")
        notes = {"missing": missing, "unscored": unscored, "gamma": gamma, "images": len(tests)}
        write_json(notes, folder / "evaluation.json")

    before = run.notes("evaluation", "evaluation.json")["missing"] if run.record("evaluation") else {}
    run.build("evaluation", make, again=bool(available_now(before)))
    return read_scores(run)


def read_scores(run: Run) -> pd.DataFrame:
    """The stored table of `evaluate`; raises CliplitError if there is none."""
    return read_table(run.folder("evaluation") / "scores.csv", "stage", "image")


def _prompt_scores(run: Run, images: dict[tuple[str, str], Tensor]) -> pd.DataFrame:
    """P(backlit) of images by stage and name, at prompt size: by `WORDS`, the initial and the last prompts."""
    settings = run.settings
    clip = load_clip(settings.clip.similarity, settings)
    words = override(settings, {"guidance.kind": "clip-lit", "prompts.initial": WORDS})
    guidances = {stage_name(k): guidance_of(run, k).frozen() for k in (0, settings.refinement.rounds)}
    with suppress(CliplitError):  # a tokenizer may split the two texts into different numbers of tokens
        guidances["words"] = new_guidance(words, clip).frozen()
    size = (settings.prompts.size,) * 2
    rows = []
    with torch.no_grad():
        for (stage, name), image in images.items():
            small = F.interpolate(image[None], size, mode="bilinear", antialias=True).clamp(0, 1)
            seen = Seen(None, clip.encode_image(small.to(clip.mean.device)))
            scores = {prompts: guidance.score(seen).item() for prompts, guidance in guidances.items()}
            rows.append({"stage": stage, "image": name} | scores)
    return pd.DataFrame(rows)


def _measured(meter: Meter, name: str, image: Tensor, reference: Tensor | None) -> float | str:
    """The score of an image (3, H, W), or the reason why it has none."""
    try:
        return sensible(name, meter.measure(name, image[None], None if reference is None else reference[None])[0])
    except CliplitError as error:
        return str(error)


def methods(run: Run, tests: Sequence[TestImage], gamma: float | None) -> dict[str, Method]:
    """All methods that are evaluated, by their names in tables: input, simple baselines, networks, others' results.

    If `gamma` is None, there is no row `gamma`. Raises CliplitError if a folder of results lacks an image or has it in
    another size.
    """
    options = run.settings.evaluation
    networks = {name: partial(network_of, run, stage) for name, stage in network_stages(run).items()}
    networks |= {name: partial(load_enhancer, path) for name, path in named_paths(options.checkpoints).items()}
    changes: dict[str, Change] = {} if gamma is None else {"gamma": lambda image: image**gamma}
    changes |= {name: BASELINES[name] for name in options.baselines}
    changes |= {name: _enhanced_by(load) for name, load in networks.items()}
    found: dict[str, Method] = {"input": lambda test: test.backlit}
    found |= {name: _changed_by(change) for name, change in changes.items()}
    sizes = {test.name: tuple(test.backlit.shape[:0:-1]) for test in tests}
    elsewhere = {name: find_results(path, sizes) for name, path in named_paths(options.results).items()}
    return found | {name: lambda test, files=files: read_image(files[test.name]) for name, files in elsewhere.items()}


def stage_name(k: int) -> str:
    """Name of the network of round k in tables and figures: `initial`, `round1`, ..."""
    return f"round{k}" if k else "initial"


def network_stages(run: Run) -> dict[str, str]:
    """The stages that train a network, by their names in tables."""
    stages = {"warmup": "warmup"} | {stage_name(k): f"enhancer{k}" for k in range(run.settings.refinement.rounds + 1)}
    return stages | controls(run.settings)


def results(run: Run, stage: str, tests: Sequence[TestImage]) -> list[Tensor]:
    """Results (3, H, W) of test images in one stage of the table, saved by the evaluation or computed again."""
    files = [_result_file(run.path / "evaluation", stage, test) for test in tests]
    evaluated = run.record("evaluation") is not None
    if evaluated and all(file.is_file() for file in files):
        return [read_image(file) for file in files]
    gamma = run.notes("evaluation", "evaluation.json")["gamma"] if evaluated else None
    return [*map(methods(run, tests, gamma)[stage], tests)]


def _result_file(folder: Path, stage: str, test: TestImage) -> Path:
    return folder / "images" / stage / f"{test.name}.png"


def _changed_by(change: Change) -> Method:
    return torch.no_grad()(lambda test: _rounded(change(test.backlit)))


def _enhanced_by(load: Callable[[], Enhancer]) -> Change:
    """A function that enhances an image. The network is loaded at its first use."""
    network = cache(load)
    return lambda image: network().enhance(image[None].to(network().cond1.weight.device))[0].cpu()


def check_others(options: Evaluation) -> None:
    """Check metrics, baselines, networks and results before training; raise CliplitError if one cannot be used."""
    missing = why_unavailable(options.metrics)
    if len(missing) == len(choose(options.metrics)):
        raise CliplitError(f"none of these metrics can be computed here ({'; '.join(left_out(missing))})")
    for name in options.baselines:
        if name not in BASELINES:
            near = did_you_mean(name, BASELINES)
            raise CliplitError(f"unknown baseline '{name}'; valid: {', '.join(BASELINES)}{near}")
    named_paths(options.checkpoints + options.results)
    for path in named_paths(options.checkpoints).values():
        load_enhancer(path)
    for path in named_paths(options.results).values():
        find_images([path])


def find_results(folder: Path, sizes: Mapping[str, tuple[int, ...]]) -> dict[str, Path]:
    """Results of test images in a folder. Their file stems must be the names of the images.

    Args:
        sizes: width and height in pixels of the test images by name.
    Raises:
        CliplitError: one is missing, cannot be read, or has another size.
    """
    found = pair(Found({name: Path(f"{name}.png") for name in sizes}), folder)
    problems = list(found.problems)
    for name, file in found.references.items():
        if (size := size_of(file)) != sizes[name]:
            both = " and ".join(f"{width}x{height}" for width, height in (size, sizes[name]))
            problems.append(f"{file.name} and its test image differ in size ({both})")
    if problems:
        raise CliplitError(f"{folder}: not results of these test images: {'; '.join(problems)}")
    return found.references


def best_gamma(tests: Sequence[TestImage], gammas: tuple[float, ...]) -> float | None:
    """The exponent with the best mean PSNR on these test images; None without references."""
    pairs = [(test.backlit, test.reference) for test in tests if test.reference is not None]

    def likeness(gamma: float) -> float:
        scores = [psnr(_rounded(image**gamma)[None], reference[None]) for image, reference in pairs]
        return torch.cat(scores).mean().item()

    return max(gammas, key=likeness) if pairs else None


def _rounded(image: Tensor) -> Tensor:
    return to_tensor(to_uint8(image))


def _on_value(equalise: Callable[[np.ndarray], np.ndarray], image: Tensor) -> Tensor:
    """An image (3, H, W) in [0, 1] with equalised HSV value, so that hues do not change."""
    hsv = color.rgb2hsv(image.movedim(0, -1).numpy())
    hsv[..., 2] = equalise(hsv[..., 2])
    return torch.from_numpy(color.hsv2rgb(hsv).astype(np.float32)).movedim(-1, 0).clamp(0, 1).contiguous()


# Histogram equalisation, global and local (contrast-limited), with scikit-image's defaults.
BASELINES: dict[str, Change] = {
    "histeq": partial(_on_value, exposure.equalize_hist),
    "clahe": partial(_on_value, exposure.equalize_adapthist),
}


def named_paths(pairs: tuple[str, ...]) -> dict[str, Path]:
    """``("a=x", "b=y")`` as paths by name. Raises CliplitError for a name in use, or unfit for a folder or legend."""
    found: dict[str, Path] = {}
    for name, equals, path in (each.partition("=") for each in pairs):
        if not name or not path:
            raise CliplitError(f"'{name}{equals}{path}' is not of the form NAME=PATH")
        if name != printable(name).strip() or name[0] in "._" or set(name) & set("/\\") or len(name.encode()) > LONGEST:
            raise CliplitError(
                f"the name '{name}' cannot be used: no slashes, spaces at the ends, dot or underscore in front, control "
                f"characters, or more than {LONGEST} bytes"
            )
        same = name.lower()  # some file systems ignore case
        if same in (*OURS, *BASELINES, *map(str.lower, found)) or same.startswith("round"):
            raise CliplitError(f"the name '{same}' is taken; give the checkpoint or folder another one")
        found[name] = Path(path)
    return found

"""For the notebooks: scores of images under the learned prompts, small tables, and checks."""

from collections.abc import Sequence

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from cliplit.errors import CliplitError
from cliplit.experiments.evaluation import stage_name
from cliplit.method.clip import ClipBackbone, load_clip
from cliplit.method.enhancer import Enhancer
from cliplit.method.guidance.base import Guidance, Seen
from cliplit.method.guidance.registry import new_guidance
from cliplit.method.run import Run
from cliplit.method.run_images import TestImage, TrainingImages, test_images, training_images
from cliplit.method.training import guidance_of, network_of
from cliplit.profiles import PROFILES
from cliplit.settings import describe, flatten

STOPS = tuple(half / 2 for half in range(-8, 5))  # EV: -4 ... +2
STRENGTHS = tuple(n / 8 for n in range(13))  # 0 ... 1.5
CROPS = 64  # crops of a score map that are encoded at a time
BATCH = 16  # training images encoded at a time
LOOKED_AT = 96  # training images per side that are scored, evenly spaced

BACKLIT = "backlit"
WELL_LIT = "well-lit"
UNTRAINED = -1  # as a round: the guidance before it is trained


def training_log(run: Run, stage: str) -> pd.DataFrame:
    """The log.csv of a stage, with one row per iteration; empty if nothing was trained."""
    file = run.folder(stage) / "log.csv" if stage in run.plan else None
    return pd.read_csv(file) if file and file.is_file() else pd.DataFrame()


@torch.no_grad()
def prompt_scores(run: Run, rounds: Sequence[int], results: bool = True) -> dict[int, dict[str, Tensor]]:
    """Scores (N,) of training images and their results by the guidance of some rounds: P(backlit) for prompt pairs.

    Args:
        rounds: 0 is the initial pair, `UNTRAINED` the pair before training.
        results: also score the results of all networks up to the last of these rounds.
    Returns:
        For every round: scores of `backlit`, `initial`, `round1` ..., `well-lit`, at the size of the prompt stages.
    """
    clip = load_clip(run.settings.clip.similarity, run.settings)
    backlit, well_lit = training_images(run)
    size = run.settings.prompts.size
    sides = {BACKLIT: _seen(clip, backlit, size)}
    for k in range(max(rounds) + 1) if results else ():
        sides[stage_name(k)] = _seen(clip, backlit, size, network_of(run, f"enhancer{k}"))
    sides[WELL_LIT] = _seen(clip, well_lit, size)
    scores = {}
    for k in rounds:
        guidance = guidance_of(run, max(k, 0))
        if k == UNTRAINED and guidance.refined:  # a fitted guidance has no untrained state
            guidance = new_guidance(run.settings, clip).to(clip.mean.device)
        scores[k] = {label: guidance.score(side).cpu() for label, side in sides.items()}
    return scores


def _seen(clip: ClipBackbone, images: TrainingImages, size: int, network: Enhancer | None = None) -> Seen:
    """Evenly spaced training images, or their results, as input for guidances."""
    count = min(LOOKED_AT, len(images))
    picked = [n * len(images) // count for n in range(count)]
    pixels = []
    for start in range(0, count, BATCH):
        batch = images.batch(picked[start : start + BATCH], clip.mean.device)
        batch = F.interpolate(batch, (size, size), mode="bilinear", antialias=True).clamp(0, 1)
        pixels.append(network.enhance(batch) if network else batch)
    return Seen(torch.cat(pixels), torch.cat([clip.encode_image(batch) for batch in pixels]))


def separation(scores: dict[str, Tensor]) -> dict[str, float]:
    """How well P(backlit) separates backlit from well-lit images: accuracy at 1/2, and area under the ROC curve."""
    backlit = scores[BACKLIT]
    well_lit = scores[WELL_LIT]
    accuracy = 0.5 + ((backlit - 0.5).sign().mean() - (well_lit - 0.5).sign().mean()) / 4  # 1/2 counts half
    above = (backlit[:, None] > well_lit).float() + 0.5 * (backlit[:, None] == well_lit).float()
    return {"accuracy": accuracy.item(), "auc": above.mean().item()}


def score_table(scores: dict[int, dict[str, Tensor]]) -> pd.DataFrame:
    """Mean P(backlit): one row per round of prompts, one column per kind of image."""
    rows = {k: {label: values.mean().item() for label, values in groups.items()} for k, groups in scores.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("prompts of round")


def settings_table(run: Run, *groups: str) -> pd.DataFrame:
    """The settings of a run in the given groups, next to the paper's values."""
    rows = [row for row in describe(run.settings) if row["name"].split(".")[0] in groups]
    return pd.DataFrame(rows).set_index("name")


@torch.no_grad()
def illumination_maps(run: Run, k: int = 0, images: Sequence[int] = range(6)) -> list[tuple[TestImage, Tensor]]:
    """Test images at the given positions, and their illumination maps (1, H, W) by the network of round k."""
    network = network_of(run, f"enhancer{k}")
    device = next(network.parameters()).device
    picked = [test for n, test in enumerate(test_images(run)) if n in images]
    return [(test, network(test.backlit[None].to(device))[0].cpu()) for test in picked]


def require(claim: str, holds: bool | Tensor) -> None:
    """A check at the end of a notebook; raises CliplitError if it does not hold."""
    if not bool(holds):
        raise CliplitError(f"check failed: {claim}")
    print(f"ok       {claim}")


def expect(claim: str, holds: bool | Tensor) -> None:
    """A check of the user's images, or of results that depend on them; warns if it does not hold."""
    print(f"{'ok      ' if bool(holds) else 'WARNING  it does not hold that'} {claim}")


def require_effect(run: Run, claim: str, holds: bool | Tensor) -> None:
    """A check of an effect of training; only warns if the images are not the embedded ones.

    It is skipped if nothing can be learned: profile smoke, fewer iterations than in the profile, random CLIP weights.
    """
    usual = flatten(PROFILES[run.settings.profile])
    chosen = flatten(run.settings)
    shortened = any(chosen[name] < usual[name] for name in usual if name.endswith(("iterations", "rounds")))
    if run.settings.profile == "smoke" or run.settings.clip.random or shortened:
        print(f"skipped  {claim} (too little training or random CLIP weights)")
    elif run.notes("data", "data.json")["roles"]:
        expect(claim, holds)
    else:
        require(claim, holds)


@torch.no_grad()
def score_map(guidance: Guidance, image: Tensor, window: float = 0.5, steps: int = 9) -> Tensor:
    """Scores of square crops on a grid over an image: (steps, steps); P(backlit) for prompt pairs.

    Args:
        image: (3, H, W) in [0, 1].
        window: side of the crops as a fraction of the image's shorter side.
        steps: crops per row and per column.
    """
    height, width = image.shape[-2:]
    side = max(1, round(window * min(height, width)))
    tops, lefts = ([round(n * (length - side) / (steps - 1)) for n in range(steps)] for length in (height, width))
    crops = torch.stack([image[:, top : top + side, left : left + side] for top in tops for left in lefts])
    return torch.cat([score(guidance, batch) for batch in crops.split(CROPS)]).view(steps, steps)


def score(guidance: Guidance, images: Tensor) -> Tensor:
    """Scores (N,) of images (N, 3, H, W) by a guidance."""
    images = images.to(guidance.clip.mean.device)
    return guidance.score(Seen(images, lambda: guidance.clip.encode_image(images))).cpu()

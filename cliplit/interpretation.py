"""What a guidance sees: scores of the parts of an image, along exposure, along strength; and words near its direction."""

import pandas as pd
import torch
from torch import Tensor

from cliplit.data.relight import expose
from cliplit.engine.compute import find_device
from cliplit.errors import CliplitError
from cliplit.files.tensors import psnr
from cliplit.method.clip import ClipBackbone, nearest_tokens
from cliplit.method.enhancer import divide
from cliplit.method.guidance.base import Guidance, Seen
from cliplit.method.run import Run
from cliplit.method.run_images import test_images
from cliplit.method.training import guidance_of, load_similarity, network_of

STOPS = tuple(range(-8, 5))  # half stops, EV: -4 ... +2
STRENGTHS = tuple(n / 8 for n in range(13))  # 0 ... 1.5
BATCH = 64  # crops


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
    scores = [_score(guidance, batch) for batch in crops.to(_device(guidance)).split(BATCH)]
    return torch.cat(scores).view(steps, steps).cpu()


@torch.no_grad()
def exposure_scores(run: Run, rounds: list[int], count: int = 16) -> pd.DataFrame:
    """Mean score of well-lit test images whose exposure is changed in linear light, by the guidance of each round.

    Args:
        count: test images looked at; their references where they have any, else the images themselves.
    Returns:
        One row per exposure (index, EV), one column per round; 0 is the initial guidance.
    """
    clip, device = _clip(run)
    tests = test_images(run)[:count]
    photos = [test.backlit if test.reference is None else test.reference for test in tests]
    guidances = {k: guidance_of(run, k, clip).to(device) for k in rounds}
    rows = {}
    for stops in (half / 2 for half in STOPS):
        moved = [expose(photo[None].to(device), stops) for photo in photos]
        rows[stops] = {k: _mean_score(guidance, moved) for k, guidance in guidances.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("exposure, EV")


@torch.no_grad()
def strength_scores(run: Run, k: int, count: int = 16) -> pd.DataFrame:
    """What happens as the enhancement of round k gets stronger: an exponent on the illumination map, 0 ... 1.5.

    Returns:
        One row per strength (index): `score` by the guidance of the round, and `psnr` to the references where there
        are any, means over test images.
    """
    clip, device = _clip(run)
    guidance, tests = guidance_of(run, k, clip).to(device), test_images(run)[:count]
    network = network_of(run, f"enhancer{k}").to(device)
    images = [test.backlit[None].to(device) for test in tests]
    maps = [network(image) for image in images]
    rows = {}
    for strength in STRENGTHS:
        results = [divide(image, light**strength) for image, light in zip(images, maps)]
        likeness = [
            psnr(result.cpu(), test.reference[None]).item()
            for result, test in zip(results, tests)
            if test.reference is not None
        ]
        rows[strength] = {
            "score": _mean_score(guidance, results),
            "psnr": sum(likeness) / len(likeness) if likeness else float("nan"),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("strength")


def reading(clip: ClipBackbone, guidance: Guidance, count: int = 8) -> pd.DataFrame:
    """The tokens nearest to where a guidance leads, and farthest from it, with their cosine similarity (RAVE).

    Raises:
        CliplitError: a guidance without a direction in CLIP's latent space.
    """
    direction = guidance.direction()
    if direction is None:
        raise CliplitError(f"guidance '{guidance.settings.guidance.kind}' has no direction in CLIP's latent space")
    near, far = nearest_tokens(clip, direction.detach(), count)
    columns = {"towards": near.words, "similarity": near.similarity, "away from": far.words, "": far.similarity}
    table = pd.DataFrame(
        {name: list(values) if isinstance(values, list) else values.tolist() for name, values in columns.items()}
    )
    return table.round(3)


def _clip(run: Run) -> tuple[ClipBackbone, torch.device]:
    device = find_device(run.settings.device)
    return load_similarity(run.settings).to(device), device


def _device(guidance: Guidance) -> torch.device:
    return guidance.clip.mean.device


def _score(guidance: Guidance, images: Tensor) -> Tensor:
    return guidance.score(Seen(images, lambda: guidance.clip.encode_image(images)))


def _mean_score(guidance: Guidance, images: list[Tensor]) -> float:
    return sum(_score(guidance, image).item() for image in images) / len(images)

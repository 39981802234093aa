"""What the notebooks look at beside the pictures: scores of images under the learned prompts, small tables, checks."""

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from cliplit.data.relight import expose
from cliplit.engine.compute import find_device
from cliplit.errors import CliplitError
from cliplit.files.tensors import psnr
from cliplit.method.clip import ClipBackbone, nearest_tokens
from cliplit.method.enhancer import Enhancer
from cliplit.method.guidance.base import Guidance, Seen
from cliplit.method.guidance.registry import new_guidance
from cliplit.method.run import Run
from cliplit.method.run_images import TrainingImages, test_images, training_images
from cliplit.method.training import guidance_of, load_similarity, network_of
from cliplit.profiles import PROFILES
from cliplit.settings import describe, flatten

STOPS = tuple(range(-8, 5))  # half stops, EV: -4 ... +2
STRENGTHS = tuple(n / 8 for n in range(13))  # 0 ... 1.5
BATCH = 64  # crops

BACKLIT = "backlit"
WELL_LIT = "well-lit"
LOOKED_AT = 96  # training images per side, evenly spaced
BATCH = 16


def stage_name(k: int) -> str:
    """Name in tables and figures of the network of round k: `initial`, `round1`, ..."""
    return f"round{k}" if k else "initial"


def training_log(run: Run, stage: str) -> pd.DataFrame:
    """What a stage logged: one row per iteration, from its log.csv; empty where nothing was trained."""
    file = run.folder(stage) / "log.csv" if stage in run.plan else None
    return pd.read_csv(file) if file and file.is_file() else pd.DataFrame()


def untrained_scores(run: Run) -> dict[str, Tensor]:
    """Scores of backlit and well-lit training images, (N,) each, by the guidance that learning starts from."""
    clip, device = _similarity(run)
    return _scores(new_guidance(run.settings, clip).to(device), _sides(run, clip, device, []))


def prompt_scores(run: Run, rounds: list[int], results: bool = True) -> dict[int, dict[str, Tensor]]:
    """Scores of training images and of their results, (N,) each, by the guidance of the given rounds.

    For prompt pairs they are P(backlit).

    Args:
        rounds: 0 is the initial pair.
        results: also score the results of the networks up to the last of these rounds.
    Returns:
        For every round: `backlit`, `initial`, `round1` ..., `well-lit`, at the size at which prompts are learned.
    """
    clip, device = _similarity(run)
    sides = _sides(run, clip, device, list(range(max(rounds) + 1)) if results else [])
    return {k: _scores(guidance_of(run, k, clip).to(device), sides) for k in rounds}


def separation(scores: dict[str, Tensor]) -> dict[str, float]:
    """How well P(backlit) tells backlit from well-lit images: accuracy at 1/2, area under the ROC curve."""
    backlit = scores[BACKLIT]
    well_lit = scores[WELL_LIT]
    accuracy = ((backlit > 0.5).float().mean() + (well_lit < 0.5).float().mean()) / 2
    above = (backlit[:, None] > well_lit).float() + 0.5 * (backlit[:, None] == well_lit).float()
    return {"accuracy": accuracy.item(), "auc": above.mean().item()}


def score_table(scores: dict[int, dict[str, Tensor]]) -> pd.DataFrame:
    """Mean P(backlit): one row per round of prompts, one column per kind of image."""
    rows = {k: {label: values.mean().item() for label, values in groups.items()} for k, groups in scores.items()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("prompts of round")


def mean_scores(scores: pd.DataFrame, metric: str) -> pd.Series:
    """Mean of a metric in every stage of `evaluation.evaluate`; NaN where it could not be computed."""
    return scores.reindex(columns=["stage", metric]).groupby("stage", sort=False)[metric].mean()


def settings_table(run: Run, *groups: str) -> pd.DataFrame:
    """Settings of a run that belong to the given groups, beside the paper's."""
    table = pd.DataFrame(describe(run.settings)).set_index("name")
    return table[[name.split(".")[0] in groups for name in table.index]]


def data_table(run: Run) -> pd.DataFrame:
    """How many images there are for each role, their size, and where they come from."""
    record = run.notes("data", "data.json")
    data = run.settings.data
    roles = record["roles"]
    paired = sum(bool(test["reference"]) for test in record["test"])
    size = f"{data.train_size} x {data.train_size}"
    counts = {side: len(record["training"][side]) for side in ("backlit", "well_lit")}

    def origin(role: str, embedded: str) -> str:
        return (roles[role]["name"] or roles[role]["folder"]) if role in roles else embedded

    untouched = "" if "test_backlit" in roles else "same, untouched"
    rows = {
        "training, backlit": (counts["backlit"], size, origin("train_backlit", "embedded photos, made backlit")),
        "training, well-lit": (counts["well_lit"], size, origin("train_well_lit", "another embedded photo")),
        "test": (len(record["test"]), "own", origin("test_backlit", "embedded photos held out, made backlit")),
        "test, references": (paired, "own", origin("test_reference", untouched)),
        "skipped, unreadable": (len(record["skipped"]), "", ""),
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["images", "pixels", "from"])


def sources_table(run: Run) -> pd.DataFrame:
    """Where the images come from and under which licence: embedded photos, data sets, folders of one's own."""
    record = run.notes("data", "data.json")
    rows = {photo: ("embedded photo", licence) for photo, licence in record["licences"].items()}
    for role in record["roles"].values():
        rows[role["name"] or role["folder"]] = (role["source"] or "folder of your own", role["licence"] or "yours")
    return pd.DataFrame.from_dict(rows, orient="index", columns=["source", "licence"]).rename_axis("images")


def skipped_files(run: Run) -> list[str]:
    """One line for every image that could not be read and was left out."""
    return run.notes("data", "data.json")["skipped"]


@torch.no_grad()
def illumination_table(run: Run, k: int = 0) -> pd.DataFrame:
    """Lowest, mean and highest illumination that the network of round k predicts for each test image."""
    device = find_device(run.settings.device)
    network = network_of(run, f"enhancer{k}").to(device)
    rows = {}
    for test in test_images(run):
        light = network(test.backlit[None].to(device))
        rows[test.name] = {"lowest": light.min().item(), "mean": light.mean().item(), "highest": light.max().item()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("image")


def stage_seconds(run: Run) -> pd.DataFrame:
    """Seconds that every finished stage took, and their sum."""
    records = {name: run.record(name) for name in run.current()}
    seconds = {name: record["seconds"] for name, record in records.items() if record}
    return pd.DataFrame({"seconds": seconds | {"sum": round(sum(seconds.values()), 1)}}).T


def require(claim: str, holds: bool | Tensor) -> None:
    """A check at the end of a notebook.

    Raises:
        CliplitError: it does not hold.
    """
    if not bool(holds):
        raise CliplitError(f"check failed: {claim}")
    print(f"ok       {claim}")


def require_effect(run: Run, claim: str, holds: bool | Tensor) -> None:
    """A check of what training is for; skipped where nothing can be learned.

    That is the profile smoke, fewer iterations than the profile's, and random CLIP weights.
    """
    if run.settings.profile == "smoke" or run.settings.clip.random or _is_shortened(run):
        print(f"skipped  {claim} (too little training or random CLIP weights)")
    else:
        require(claim, holds)


def _is_shortened(run: Run) -> bool:
    usual = flatten(PROFILES[run.settings.profile])
    chosen = flatten(run.settings)
    return any(chosen[name] < usual[name] for name in usual if name.endswith(("iterations", "rounds")))


def _similarity(run: Run) -> tuple[ClipBackbone, torch.device]:
    device = find_device(run.settings.device)
    return load_similarity(run.settings).to(device), device


@torch.no_grad()
def _sides(run: Run, clip: ClipBackbone, device: torch.device, networks: list[int]) -> dict[str, Seen]:
    """Backlit training images, their results in the given rounds, and well-lit images."""
    backlit, well_lit = training_images(run)
    sides: dict[str, tuple[TrainingImages, Enhancer | None]] = {BACKLIT: (backlit, None)}
    for k in networks:
        sides[stage_name(k)] = (backlit, network_of(run, f"enhancer{k}").to(device))
    sides[WELL_LIT] = (well_lit, None)
    return {label: _side(clip, *side, run.settings.prompts.size, device) for label, side in sides.items()}


def _side(
    clip: ClipBackbone, images: TrainingImages, network: Enhancer | None, size: int, device: torch.device
) -> Seen:
    count = min(LOOKED_AT, len(images))
    picked = [n * len(images) // count for n in range(count)]
    pixels = []
    features = []
    for start in range(0, count, BATCH):
        batch = images[picked[start : start + BATCH]].to(device)
        batch = F.interpolate(batch, (size, size), mode="bilinear", antialias=True).clamp(0, 1)
        pixels.append(network.enhance(batch) if network else batch)
        features.append(clip.encode_image(pixels[-1]))
    return Seen(torch.cat(pixels), torch.cat(features))


@torch.no_grad()
def _scores(guidance: Guidance, sides: dict[str, Seen]) -> dict[str, Tensor]:
    return {label: guidance.score(side).cpu() for label, side in sides.items()}


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
    guidance = guidance_of(run, k, clip).to(device)
    tests = test_images(run)[:count]
    network = network_of(run, f"enhancer{k}").to(device)
    images = [test.backlit[None].to(device) for test in tests]
    maps = [network(image) for image in images]
    rows = {}
    for strength in STRENGTHS:
        results = [network.divide(image, light**strength) for image, light in zip(images, maps, strict=True)]
        likeness = [
            psnr(result.cpu(), test.reference[None]).item()
            for result, test in zip(results, tests, strict=True)
            if test.reference is not None
        ]
        rows[strength] = {
            "score": _mean_score(guidance, results),
            "psnr": sum(likeness) / len(likeness) if likeness else float("nan"),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("strength")


def nearest_words(clip: ClipBackbone, guidance: Guidance, count: int = 8) -> pd.DataFrame:
    """The tokens nearest to where a guidance leads, and farthest from it, with their cosine similarity (RAVE).

    Raises:
        CliplitError: a guidance without a direction in CLIP's latent space.
    """
    direction = guidance.direction()
    if direction is None:
        raise CliplitError(f"guidance '{guidance.settings.guidance.kind}' has no direction in CLIP's latent space")
    near, far = nearest_tokens(clip, direction.detach(), count)
    table = pd.DataFrame(
        {
            "towards": near.words,
            "similarity": near.similarity.tolist(),
            "away from": far.words,
            "": far.similarity.tolist(),
        }
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

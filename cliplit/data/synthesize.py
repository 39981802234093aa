"""Backlit and well-lit images from any folder of photos, by the linear-light model of cliplit.data.relight."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from cliplit.data.manifest import FOLDERS, Entry, Manifest, by_stem, describe_image, new_data_set, write_manifest
from cliplit.data.prepare import SIDES, split_scenes
from cliplit.data.relight import LEVELS, backlit, uniform
from cliplit.engine.randomness import generator
from cliplit.errors import CliplitError, did_you_mean, shortened
from cliplit.files.folders import list_images
from cliplit.files.tensors import read_image, write_image


def synthesize_data_set(
    target: Path,
    photos: Path | Sequence[Path],
    level: str = "medium",
    test_share: float = 0.2,
    seed: int = 0,
    size: int = 1024,
    skip_bad: bool = False,
    force: bool = False,
    draws: int = 1,
) -> Manifest:
    """Make a data set of well-lit photos: test pairs, and unpaired training images of other scenes.

    Every photo serves once, or `draws` times: as a test pair, a backlit or a well-lit training image. For one seed, a
    photo has the same role, mask and noise at every level; only the stops differ. dataset.json stores what was drawn.

    Args:
        target: folder of the new data set.
        photos: a folder of them, or files.
        level: degree of backlight, one of cliplit.data.relight.LEVELS.
        test_share: share of the photos, 0 to 1, that become test pairs; 1: all of them.
        seed: of the draw of scenes, masks and noise.
        size: longest side in pixels; larger photos are reduced, 0 leaves all as they are.
        skip_bad: leave out photos that cannot be read.
        force: make the data set again if it is there.
        draws: how often each photo serves, each time on a side and with a mask of its own; more than once to train only.
    Raises:
        CliplitError: unknown level, photos that cannot be read or are too few, or a target that is taken.
    """
    if level not in LEVELS:
        raise CliplitError(f"unknown level '{level}'; valid: {', '.join(LEVELS)}{did_you_mean(level, LEVELS)}")
    if not 0 <= test_share <= 1:
        raise CliplitError("--test-share is a share of the photos, 0 to 1")
    if draws < 1 or (draws > 1 and test_share):
        raise CliplitError("several draws of each photo are for training only: they need a test share of 0")
    files = list_images(photos) if isinstance(photos, Path) else photos
    folders = ", ".join(sorted({path.resolve().parent.name for path in files}))
    paths = by_stem(files)
    sides = {draw: split_scenes(paths, draw, test_share) for draw in range(seed, seed + draws)}
    images: list[Entry] = []
    problems: list[str] = []
    with new_data_set(target, force) as folder:
        for stem, path in tqdm(paths.items(), desc=f"synthesizing {target.name}", unit="photo", leave=False):
            try:
                photo = _reduced(read_image(path), size)
            except CliplitError as error:
                problems.append(str(error))
                continue
            for draw, side in sides.items():
                for role in SIDES[side[stem]]:
                    image, drawn = relight_photo(photo, stem, level, draw) if role.endswith("_backlit") else (photo, {})
                    copy = folder / FOLDERS[role] / (f"{stem}.png" if draws == 1 else f"{stem}.{draw}.png")
                    if copy.exists():  # asked of the disk, which may not tell upper from lower case
                        raise CliplitError(f"{path}: another photo would become {copy.name} too; rename one")
                    write_image(image, copy)
                    width, height = image.shape[-1], image.shape[-2]
                    images.append(describe_image(copy, folder, role, (width, height), {"from": path.name} | drawn))
        if problems and not skip_bad:
            raise CliplitError(f"{shortened(problems, 1)}; --skip-bad leaves such photos out")
        if not images:
            raise CliplitError(f"{folders}: none of the photos can be read; the first: {problems[0]}")
        made: dict[str, Any] = {"level": level, "seed": seed, "draws": draws, "test_share": test_share, "size": size}
        made["backlight"] = asdict(LEVELS[level])
        source = f"photos of {folders}, made backlit by cliplit"
        manifest = Manifest(target.name, source, "that of the photos", tuple(images), made, tuple(problems))
        write_manifest(manifest, folder)
    return manifest


def relight_photo(photo: Tensor, name: str, level: str, seed: int) -> tuple[Tensor, dict[str, float]]:
    """A photo (3, H, W) in [0, 1] against the light, and what was drawn for it: stops and share of the foreground.

    Mask, noise and place within the level's range of stops follow from name and seed, not from the level.
    """
    random = generator("synthesize", seed, name)
    strength = uniform(1, 0, 1, random)
    dark, drawn = backlit(photo[None], random, LEVELS[level], strength)
    return dark[0], {key: round(value.item(), 4) for key, value in drawn.items()}


def _reduced(photo: Tensor, size: int) -> Tensor:
    scale = size / max(photo.shape[-2:]) if size else 1.0
    if scale >= 1:
        return photo
    small = [max(1, round(side * scale)) for side in photo.shape[-2:]]
    return F.interpolate(photo[None], small, mode="bilinear", antialias=True)[0].clamp(0, 1)

"""Makes data sets from others, from plain folders and from any photos: resized copies, and photos made backlit."""

import hashlib
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from PIL import Image
from tqdm import tqdm

from cliplit.data.get import Finding, look_over
from cliplit.data.manifest import (
    FOLDERS,
    Manifest,
    by_stem,
    describe_image,
    images_by_role,
    new_data_set,
    write_manifest,
)
from cliplit.data.relight import LEVELS, relight_photo
from cliplit.errors import CliplitError, did_you_mean, shortened
from cliplit.files.folders import list_images
from cliplit.files.images import decode, squared
from cliplit.files.tensors import read_image, write_image
from cliplit.settings import Data


def prepare_data_set(
    target: Path, data: Data, size: int = 512, skip_bad: bool = False, force: bool = False
) -> Manifest:
    """Make a data set: copies of images, and a dataset.json that gives the role of each.

    Training images are resized to squares (Lanczos), as in the authors' training; test images are copied unchanged.

    Args:
        data: the folders and data sets to take images from, as in the settings of a run.
        size: side of the training images in pixels; 0 leaves them unchanged.
        skip_bad: leave out images that are unreadable, have no partner or have another size than their partner.
    Raises:
        CliplitError: roles that do not go together, images that cannot be used, or a target that already exists.
    """
    sources = images_by_role(data, for_run=False)
    if not sources:
        raise CliplitError("nothing to prepare: give folders, e.g. --backlit DIR --well-lit DIR, or --data DIR")
    findings = [Finding("unread", *line.split(": ", 1)) for images in sources.values() for line in images.unread]
    origins: dict[Path, Path] = {}
    every = [(role, path) for role, images in sources.items() for path in images.files]
    with new_data_set(target, force) as folder:
        for role, path in tqdm(every, desc=f"preparing {target.name}", unit="image", leave=False, disable=None):
            resize = size and role.startswith("train_")
            copy = folder / FOLDERS[role] / (f"{path.stem}.png" if resize else path.name)
            if copy.exists():  # the disk decides: it may not distinguish upper and lower case
                other = next(origins[done] for done in origins if done.samefile(copy))
                raise CliplitError(f"{other} and {path} would both become {copy.name}; rename or remove one")
            copy.parent.mkdir(parents=True, exist_ok=True)
            origins[copy] = path
            try:
                resized = Image.fromarray(squared(decode(path), size)) if resize else None
            except CliplitError:
                resized = None  # the check below finds the copy unreadable
            resized.save(copy) if resized else shutil.copyfile(path, copy)
        report = look_over(folder)
        images = tuple(
            replace(image, made={"from": origins[folder / image.path].name}) for image in report.good_images(skip_bad)
        )
        source = "; ".join(dict.fromkeys(each.source or Path(each.folder).resolve().name for each in sources.values()))
        licence = "; ".join(dict.fromkeys(each.licence or "yours" for each in sources.values()))
        problems = tuple(map(str, [*report.findings, *findings]))
        manifest = Manifest(target.name, source, licence, images, {"size": size}, problems)
        write_manifest(manifest, folder)
    return manifest


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
    """Make a data set from well-lit photos: test pairs, and unpaired training images of other scenes.

    Every photo is used once, or `draws` times: as a test pair, a backlit or a well-lit training image. For one seed, a
    photo has the same role, mask and noise at every level; only the stops differ. dataset.json stores the drawn numbers.

    Args:
        photos: a folder of photos, or files.
        level: degree of backlight, one of cliplit.data.relight.LEVELS.
        test_share: share of the photos, 0 to 1, that become test pairs; 1: all of them.
        seed: seed of the draw of scenes, masks and noise.
        size: longest side in pixels; larger photos are reduced, 0 leaves all unchanged.
        draws: how often each photo is used, each time with a new role and mask; more than once for training only.
    Raises:
        CliplitError: unknown level, photos that cannot be read, too few photos, or a target that already exists.
    """
    if level not in LEVELS:
        raise CliplitError(f"unknown level '{level}'; valid: {', '.join(LEVELS)}{did_you_mean(level, LEVELS)}")
    if not 0 <= test_share <= 1:
        raise CliplitError("--test-share must be from 0 to 1")
    if draws < 1 or (draws > 1 and test_share):
        raise CliplitError("several draws of each photo are for training only; set the test share to 0")
    files = list_images(photos) if isinstance(photos, Path) else photos
    folders = ", ".join(sorted({path.resolve().parent.name for path in files}))
    paths = by_stem(files)
    roles = {draw: split_scenes(paths, draw, test_share) for draw in range(seed, seed + draws)}
    images = []
    problems: list[str] = []
    with new_data_set(target, force) as folder:
        for stem, path in tqdm(
            paths.items(), desc=f"synthesizing {target.name}", unit="photo", leave=False, disable=None
        ):
            try:
                photo = read_image(path)
            except CliplitError as error:
                problems.append(str(error))
                continue
            scale = size / max(photo.shape[-2:]) if size else 1
            if scale < 1:
                small = [max(1, round(side * scale)) for side in photo.shape[-2:]]
                photo = F.interpolate(photo[None], small, mode="bilinear", antialias=True)[0].clamp(0, 1)
            for draw, served in roles.items():
                for role in served[stem]:
                    image, drawn = relight_photo(photo, stem, level, draw) if role.endswith("_backlit") else (photo, {})
                    copy = folder / FOLDERS[role] / (f"{stem}.png" if draws == 1 else f"{stem}.{draw}.png")
                    if copy.exists():  # the disk decides: it may not distinguish upper and lower case
                        raise CliplitError(f"{path}: another photo would also become {copy.name}; rename one")
                    write_image(image, copy)
                    width, height = image.shape[-1], image.shape[-2]
                    images.append(describe_image(copy, folder, role, (width, height), {"from": path.name} | drawn))
        if problems and not skip_bad:
            raise CliplitError(f"{shortened(problems, 1)}; --skip-bad skips such photos")
        if not images:
            raise CliplitError(f"{folders}: none of the photos can be read; the first: {problems[0]}")
        made: dict[str, Any] = {"level": level, "seed": seed, "draws": draws, "test_share": test_share, "size": size}
        made["backlight"] = asdict(LEVELS[level])
        source = f"photos of {folders}, made backlit by cliplit"
        manifest = Manifest(target.name, source, "that of the photos", tuple(images), made, tuple(problems))
        write_manifest(manifest, folder)
    return manifest


def split_scenes(stems: Iterable[str], seed: int, test_share: float) -> dict[str, tuple[str, ...]]:
    """The roles of every scene: a test pair, or one side of the training.

    The order, by the SHA-256 of seed and stem, is the same everywhere and changes little when a photo is added.

    Raises CliplitError if there are too few scenes for both sides.
    """
    order = sorted(stems, key=lambda stem: hashlib.sha256(f"{seed}/{stem}".encode()).hexdigest())
    tests = round(test_share * len(order))
    if test_share < 1 and len(order) - tests < 2:
        raise CliplitError(f"{len(order)} photos are too few; each side of the training needs at least one")
    roles: list[tuple[str, ...]] = [("test_backlit", "test_reference")] * tests
    roles += [(("train_backlit",), ("train_well_lit",))[n % 2] for n in range(len(order) - tests)]
    return dict(zip(order, roles, strict=True))

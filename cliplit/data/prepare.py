"""Data sets made of others and of plain folders: resized copies, and pairs taken apart for unpaired training."""

import hashlib
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from cliplit.data.manifest import FOLDERS, Images, Manifest, by_stem, images_by_role, new_data_set, write_manifest
from cliplit.data.verify import Report, verify_folder
from cliplit.errors import CliplitError
from cliplit.files.images import decode, squared
from cliplit.settings import Data

SIDES = {  # what a scene serves for
    "backlit": ("train_backlit",),
    "well_lit": ("train_well_lit",),
    "test": ("test_backlit", "test_reference"),
}


def prepare_data_set(
    target: Path,
    data: Data,
    size: int = 512,
    unpair: bool = False,
    test_share: float = 0.0,
    seed: int = 0,
    skip_bad: bool = False,
    force: bool = False,
) -> Report:
    """Make a data set: copies of images with a dataset.json that says what each is for.

    Training images are resized to squares (Lanczos), as the authors trained; test images are copied as they are.

    Args:
        target: folder of the new data set.
        data: the folders and data sets whose images are taken, as in the settings of a run.
        size: side of the training images in pixels; 0 leaves them as they are.
        unpair: the training folders hold pairs by stem; every scene serves on one side only, drawn with `seed`.
        test_share: with `unpair`, the share of the scenes, 0 to 1, that become test pairs.
        seed: of the draw of scenes.
        skip_bad: leave out images that are unreadable, without partner or of another size than their partner.
        force: make the data set again if it is there.
    Raises:
        CliplitError: roles that do not go together, images that cannot be used, or a target that is taken.
    """
    sources = images_by_role(data, for_run=False)
    if not sources:
        raise CliplitError("nothing to prepare: give folders, e.g. --backlit DIR --well-lit DIR, or --data DIR")
    if unpair and not {"train_backlit", "train_well_lit"} <= set(sources):
        raise CliplitError("--unpair takes pairs apart: give both, --backlit and --well-lit")
    if unpair and "test_backlit" in sources and test_share:
        raise CliplitError("--test-share makes test pairs of the training scenes; leave out --test-backlit")
    if not 0 <= test_share <= 1 or (test_share and not unpair):
        raise CliplitError("--test-share is a share of the scenes, 0 to 1, and goes with --unpair")
    made: dict[str, Any] = {"size": size}
    taken = {role: list(images.files) for role, images in sources.items()}
    if unpair:
        made |= {"unpair": True, "test_share": test_share, "seed": seed}
        taken |= _unpaired(sources, seed, test_share)
    with new_data_set(target, force) as folder:
        origins = _copy(taken, folder, size, skip_bad)
        report = verify_folder(folder)
        problems = report.problems
        if problems and not skip_bad:
            raise CliplitError(
                f"{len(problems)} images cannot be used; the first: {problems[0].path}: {problems[0].detail}; "
                f"--skip-bad leaves them out"
            )
        bad = {finding.path for finding in problems}
        unequal = {Path(finding.path).stem for finding in problems if finding.kind == "size"}  # leaves both images out
        entries = tuple(
            replace(image, made={"from": origins[folder / image.path].name})
            for image in report.images
            if image.path not in bad and not (image.role == "test_reference" and Path(image.path).stem in unequal)
        )
        if not entries:
            raise CliplitError(f"none of the images can be used; the first: {problems[0].detail}")
        source = "; ".join(dict.fromkeys(images.source or Path(images.folder).name for images in sources.values()))
        licence = "; ".join(dict.fromkeys(images.licence or "yours" for images in sources.values()))
        findings = tuple(map(str, report.findings))
        write_manifest(Manifest(target.name, source, licence, entries, made, findings), folder)
    return replace(report, name=target.name, folder=str(target), images=entries)


def split_scenes(stems: Iterable[str], seed: int, test_share: float) -> dict[str, str]:
    """For every scene what it serves for, one of SIDES.

    The order is that of the SHA-256 of seed and stem, so it is the same everywhere and changes little when a photo
    is added.

    Raises:
        CliplitError: too few scenes for one on each side.
    """
    order = sorted(stems, key=lambda stem: hashlib.sha256(f"{seed}/{stem}".encode()).hexdigest())
    tests = round(test_share * len(order))
    if test_share < 1 and len(order) - tests < 2:
        raise CliplitError(f"{len(order)} photos are too few: each side of the training needs at least one")
    sides = ["test"] * tests + [("backlit", "well_lit")[n % 2] for n in range(len(order) - tests)]
    return dict(zip(order, sides, strict=True))


def _unpaired(sources: Mapping[str, Images], seed: int, test_share: float) -> dict[str, list[Path]]:
    """Files by role: of every training pair one image, or both as a test pair."""
    backlit, well_lit = (by_stem(sources[role].files) for role in ("train_backlit", "train_well_lit"))
    for stem, path in (backlit | well_lit).items():
        if not (stem in backlit and stem in well_lit):
            raise CliplitError(f"{path}: --unpair takes pairs apart, and this image has no partner")
    sides = split_scenes(backlit, seed, test_share)
    taken: dict[str, list[Path]] = {"train_backlit": [], "train_well_lit": []}
    for stem in sorted(sides):
        for role in SIDES[sides[stem]]:
            files = backlit if role.endswith("_backlit") else well_lit
            taken.setdefault(role, []).append(files[stem])
    return taken


def _copy(taken: Mapping[str, list[Path]], folder: Path, size: int, skip_bad: bool) -> dict[Path, Path]:
    """Copies in the new data set, and what each is a copy of."""
    origins: dict[Path, Path] = {}
    every = [(role, path) for role, paths in taken.items() for path in paths]
    for role, path in tqdm(every, desc=f"preparing {folder.name}", unit="image", leave=False):
        resize = size and role.startswith("train_")
        copy = folder / FOLDERS[role] / (f"{path.stem}.png" if resize else path.name)
        if copy.exists():  # asked of the disk, which may not tell upper from lower case
            other = next(origins[made] for made in origins if made.samefile(copy))
            raise CliplitError(f"{other} and {path} would both become {copy.name}; rename or remove one")
        copy.parent.mkdir(parents=True, exist_ok=True)
        origins[copy] = path
        try:
            if resize:
                Image.fromarray(squared(decode(path), size)).save(copy)
            else:
                shutil.copyfile(path, copy)
        except CliplitError as error:
            if not skip_bad:
                raise CliplitError(f"{error}; --skip-bad leaves such images out") from None
            shutil.copyfile(path, copy)  # inspect_images reports it as unreadable
    return origins

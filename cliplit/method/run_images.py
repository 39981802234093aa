"""The data of a run: training images at training size, test images, and a record of their sources."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cliplit.data import demo_images
from cliplit.data.manifest import Images, by_stem, images_by_role
from cliplit.errors import CliplitError, shortened, told
from cliplit.files.atomic import sha256, write_json, writing
from cliplit.files.tensors import read_image, read_readable, to_tensor, to_uint8, write_image
from cliplit.method.run import Run
from cliplit.settings import Data, Settings

SIDES = ("backlit", "well_lit")
Training = tuple[str, list[dict[str, str]], Tensor]  # side, the record of each image, images


@dataclass(frozen=True)
class TestImage:
    """A backlit test image (3, H, W) in [0, 1] and its well-lit reference, if there is one."""

    name: str
    backlit: Tensor
    reference: Tensor | None


class TrainingImages:
    """Training images of one side, read from disk as 8 bits. Raises CliplitError if the file is damaged."""

    def __init__(self, path: Path):
        with told(f"{path}: damaged", f"remove {path.parent} to make it again"):
            self._array = np.load(path, mmap_mode="r", allow_pickle=False)

    def __len__(self) -> int:
        return len(self._array)

    def batch(self, indices: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """The images at these positions as (N, 3, S, S) in [0, 1], on a device."""
        return to_tensor(self._array[list(indices)], device)


def prepare_data(run: Run) -> dict[str, Any]:
    """Stage `data`: resize the training images, copy the test images, and record names, hashes and sources.

    Later stages use these copies, so the folders may change or move.

    Raises CliplitError as `check_folders` does, and for an image that cannot be read.
    """
    settings = run.settings

    def make(folder: Path) -> None:
        chosen = check_folders(settings.data)
        own = "train_backlit" in chosen
        skipped = [line for images in chosen.values() for line in images.unread]
        training = {}
        for side, records, images in _own_training(settings.data, chosen, skipped) if own else _embedded(settings):
            with writing(folder / f"{side}.npy") as temporary, open(temporary, "wb") as file:
                np.save(file, to_uint8(images))
            training[side] = records
        photos = () if own else (*settings.data.embedded_backlit, *settings.data.embedded_well_lit, *demo_images.TEST)
        tests = _own_tests(chosen, skipped, folder) if "test_backlit" in chosen else _embedded_tests(settings, folder)
        record = {
            "source": "folders" if own else "embedded",
            "training": training,
            "licences": {name: demo_images.PHOTOS[name][2] for name in sorted(set(photos))},
            "skipped": skipped,
            "test": tests,
            "roles": {
                role: {key: getattr(images, key) for key in ("folder", "name", "source", "licence")}
                | {"sizes": {str(path): path.stat().st_size for path in images.files}}
                for role, images in chosen.items()
            },
        }
        write_json(record, folder / "data.json")

    run.build("data", make)
    return run.notes("data", "data.json")


def check_folders(data: Data) -> dict[str, Images]:
    """Check the folders and return the images of every role. Only test images without a partner are opened.

    Raises CliplitError if one folder of a pair is not given, a folder has no images, or references do not match.
    """
    chosen = images_by_role(data)
    if "test_backlit" in chosen:
        _pairs(chosen, [])
    return chosen


def changed_sources(run: Run) -> list[str]:
    """Images that were added, removed or changed in the folders after the run copied them."""
    try:
        chosen = images_by_role(run.settings.data)
        there = {str(file): file.stat().st_size for images in chosen.values() for file in images.files}
    except (CliplitError, OSError):
        there = {}  # the folders are gone
    roles = run.notes("data", "data.json")["roles"].values()  # earlier versions of cliplit stored no sizes
    copied = {file: size for role in roles for file, size in role.get("sizes", there).items()}
    return sorted({file for file, _ in copied.items() ^ there.items()})


def training_images(run: Run) -> tuple[TrainingImages, TrainingImages]:
    """Backlit and well-lit training images of a run with a finished stage `data`."""
    folder = run.folder("data")
    backlit, well_lit = (TrainingImages(folder / f"{side}.npy") for side in SIDES)
    return backlit, well_lit


def test_images(run: Run) -> list[TestImage]:
    """Test images of a run, in the order of their names."""
    folder = run.folder("data")
    images = []
    for record in run.notes("data", "data.json")["test"]:
        reference = record["reference"] and read_image(folder / record["reference"])
        images.append(TestImage(record["name"], read_image(folder / record["backlit"]), reference))
    return images


def _own_training(data: Data, chosen: dict[str, Images], skipped: list[str]) -> Iterator[Training]:
    """Training images from folders and data sets. Files that cannot be read are listed in `skipped`."""
    for side in SIDES:
        source = chosen[f"train_{side}"]
        files = source.files[: data.well_lit_images or None] if side == "well_lit" else source.files
        images, problems = read_readable(files, data.skip_bad, data.train_size)
        skipped += problems
        records = [{"name": path.name, "sha256": _checked(path, source)} for path in images]
        yield side, records, torch.stack(list(images.values()))


def _embedded(settings: Settings) -> Iterator[Training]:
    photos = (settings.data.embedded_backlit, settings.data.embedded_well_lit)
    for side, names, images in zip(SIDES, photos, demo_images.embedded_training(settings), strict=True):
        yield side, [{"name": f"crop {n} of {names[n % len(names)]}"} for n in range(len(images))], images


def _embedded_tests(settings: Settings, folder: Path) -> list[dict[str, Any]]:
    records = []
    for n, (dark, reference) in enumerate(zip(*demo_images.test_pairs(settings), strict=True)):
        name = f"{n:03d}_{demo_images.TEST[n % len(demo_images.TEST)]}"
        record = {"name": name, "backlit": f"test/backlit/{name}.png", "reference": f"test/reference/{name}.png"}
        write_image(dark, folder / record["backlit"])
        write_image(reference, folder / record["reference"])
        records.append(record)
    return records


def _own_tests(chosen: dict[str, Images], skipped: list[str], folder: Path) -> list[dict[str, Any]]:
    """Copy the test images. Files that cannot be read are listed in `skipped` and left out."""
    records = []
    for stem, (path, reference) in _pairs(chosen, skipped).items():
        try:
            shapes = [read_image(file).shape for file in (path, reference) if file]
        except CliplitError as error:
            skipped.append(str(error))
            continue
        if len(set(shapes)) > 1:
            sizes = " and ".join(f"{shape[2]}x{shape[1]}" for shape in shapes)
            raise CliplitError(
                f"{path} and {reference}: sizes differ ({sizes}); a reference must have its image's size"
            )
        record: dict[str, Any] = {"name": stem, "reference": None, "sha256": _checked(path, chosen["test_backlit"])}
        for side, file in (("backlit", path), ("reference", reference)):
            if file:
                _checked(file, chosen[f"test_{side}"])
                record[side] = f"test/{side}/{file.name}"
                (folder / record[side]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, folder / record[side])
        records.append(record)
    if not records:
        source = chosen["test_backlit"].folder
        raise CliplitError(f"{source}: none of the test images can be read; the first: {skipped[-1]}")
    return records


def _checked(path: Path, images: Images) -> str:
    """SHA-256 of a file. Raises CliplitError if the data set lists another one."""
    digest = sha256(path)
    if images.hashes.get(path, digest) != digest:
        raise CliplitError(
            f"{path}: changed since its data set was made; mend it, or make the data set again (`cliplit data`)"
        )
    return digest


def _pairs(chosen: dict[str, Images], skipped: list[str]) -> dict[str, tuple[Path, Path | None]]:
    """Test images and their references by stem. Raises CliplitError if they do not match.

    An unreadable image without a partner is listed in `skipped` and left out.
    """
    backlit = by_stem(chosen["test_backlit"].files)
    if "test_reference" not in chosen:
        return {stem: (path, None) for stem, path in backlit.items()}
    references = by_stem(chosen["test_reference"].files)
    lonely = []
    for paths, partners, role in ((backlit, references, "test_reference"), (references, backlit, "test_backlit")):
        stems = []
        for stem in (stem for stem in paths if stem not in partners):
            try:
                read_image(paths[stem])
                stems.append(stem)
            except CliplitError as error:
                skipped.append(str(error))
        if stems:
            lonely.append(f"{len(stems)} without partner in {chosen[role].folder} ({shortened(sorted(stems))})")
    if lonely:
        raise CliplitError(f"test images and references do not match by stem: {'; '.join(lonely)}")
    return {stem: (path, references[stem]) for stem, path in backlit.items() if stem in references}

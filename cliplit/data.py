"""The data of a run: training images at training size, test images, and a record of where they come from."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cliplit import embedded
from cliplit.checks import CliplitError
from cliplit.config import Data
from cliplit.files import list_images
from cliplit.images import read_image, read_readable, to_tensor, to_uint8, write_image
from cliplit.runs import Run, read_json, sha256, write_json

SIDES = ("backlit", "well_lit")


@dataclass(frozen=True)
class TestImage:
    """A backlit test image (3, H, W) in [0, 1] and its well-lit reference, if there is one."""

    name: str
    backlit: Tensor
    reference: Tensor | None


class TrainingImages:
    """Training images of one side, kept as 8 bits on disk and read as batches (N, 3, S, S) in [0, 1]."""

    def __init__(self, path: Path):
        self._array = np.load(path, mmap_mode="r", allow_pickle=False)

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, indices: list[int]) -> Tensor:
        return to_tensor(self._array[indices])


def prepare_data(run: Run) -> dict[str, Any]:
    """Stage `data`: resize the training images, check the test images, and record names, hashes and sources.

    Raises:
        CliplitError: a folder without images, an image that cannot be read, references that do not match.
    """
    check_folders(run.settings.data)
    return read_json(run.build("data", lambda folder: _prepare(run, folder)) / "data.json")


def check_folders(data: Data) -> None:
    """Look at the folders of a run, without opening the images.

    Raises:
        CliplitError: one of a pair is not given, a folder has no images, or references do not match.
    """
    if bool(data.backlit) != bool(data.well_lit):
        raise CliplitError("--backlit and --well-lit go together: give both folders, or none for the embedded images")
    if data.test_reference and not data.test_backlit:
        raise CliplitError("--test-reference needs --test-backlit, the folder of the images that it belongs to")
    for folder in (data.backlit, data.well_lit):
        if folder:
            list_images(folder)
    if data.test_backlit:
        _pairs(data)


def training_images(run: Run) -> tuple[TrainingImages, TrainingImages]:
    """Backlit and well-lit training images of a run whose data are prepared."""
    folder = run.folder("data")
    return tuple(TrainingImages(folder / f"{side}.npy") for side in SIDES)


def test_images(run: Run) -> list[TestImage]:
    """Readable test images of a run, in order of their names."""
    folder = run.folder("data")
    records = read_json(folder / "data.json")["test"]
    images = []
    for record in records:
        reference = record["reference"] and read_image(folder / record["reference"])
        images.append(TestImage(record["name"], read_image(folder / record["backlit"]), reference))
    return images


def _prepare(run: Run, folder: Path) -> None:
    data = run.settings.data
    if data.backlit:
        record = {"source": "folders", "training": {}, "licences": {}, "skipped": []}
        for side in SIDES:
            record["training"][side] = _from_folder(
                getattr(data, side), data, folder / f"{side}.npy", record["skipped"]
            )
    else:
        record = _from_embedded(run, folder)
    record["test"] = (
        _test_from_folders(data, folder, record["skipped"]) if data.test_backlit else _test_from_embedded(run, folder)
    )
    write_json(record, folder / "data.json")


def _from_folder(source: str, data, target: Path, skipped: list[str]) -> list[dict[str, str]]:
    images, problems = read_readable(list_images(source), data.skip_bad, data.train_size)
    skipped.extend(problems)
    _save_array(torch.stack(list(images.values())), target)
    return [{"name": path.name, "sha256": sha256(path)} for path in images]


def _from_embedded(run: Run, folder: Path) -> dict[str, Any]:
    data = run.settings.data
    sides = embedded.training_images(run.settings)
    names = {"backlit": embedded.BACKLIT, "well_lit": embedded.WELL_LIT}
    for side, images in zip(SIDES, sides):
        _save_array(images, folder / f"{side}.npy")
    licences = {
        name: embedded.PHOTOS[name][2] for name in sorted({*embedded.BACKLIT, *embedded.WELL_LIT, *embedded.TEST})
    }
    training = {
        side: [{"name": f"crop {n} of {names[side][n % len(names[side])]}"} for n in range(data.embedded_images)]
        for side in SIDES
    }
    return {"source": "embedded", "training": training, "licences": licences, "skipped": []}


def _test_from_embedded(run: Run, folder: Path) -> list[dict[str, str]]:
    records = []
    for n, (dark, reference) in enumerate(zip(*embedded.test_pairs(run.settings))):
        name = f"{n:03d}_{embedded.TEST[n % len(embedded.TEST)]}"
        record = {"name": name, "backlit": f"test/backlit/{name}.png", "reference": f"test/reference/{name}.png"}
        write_image(dark, folder / record["backlit"])
        write_image(reference, folder / record["reference"])
        records.append(record)
    return records


def _test_from_folders(data, folder: Path, skipped: list[str]) -> list[dict[str, str | None]]:
    """Test images by absolute path; those that cannot be read are named and left out."""
    records = []
    for stem, (path, reference) in _pairs(data).items():
        try:
            shapes = {file: read_image(file).shape for file in (path, reference) if file}
        except CliplitError as error:
            skipped.append(str(error))
            continue
        if len(set(shapes.values())) > 1:
            sizes = " and ".join(f"{shape[2]}x{shape[1]}" for shape in shapes.values())
            raise CliplitError(
                f"{path} and {reference}: sizes differ ({sizes}); a reference must have its image's size"
            )
        absolute = {
            kind: os.path.abspath(file) if file else None
            for kind, file in (("backlit", path), ("reference", reference))
        }
        records.append({"name": stem, **absolute, "sha256": sha256(path)})
    if not records:
        raise CliplitError(f"{data.test_backlit}: none of the test images can be read; the first: {skipped[-1]}")
    return records


def _pairs(data: Data) -> dict[str, tuple[Path, Path | None]]:
    """Test images and their references by stem, after a check that they match."""
    backlit = _by_stem(data.test_backlit)
    references = _by_stem(data.test_reference) if data.test_reference else {}
    if references:
        _check_partners(data, backlit, references)
    return {stem: (path, references.get(stem)) for stem, path in backlit.items()}


def _by_stem(folder: str) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in list_images(folder):
        if path.stem in files:
            raise CliplitError(f"{folder}: {files[path.stem].name} and {path.name} have the same stem; remove one")
        files[path.stem] = path
    return files


def _check_partners(data, backlit: dict[str, Path], references: dict[str, Path]) -> None:
    lonely = sorted(set(backlit) - set(references)), sorted(set(references) - set(backlit))
    if any(lonely):
        parts = [
            f"{len(stems)} without partner in {folder} ({', '.join(stems[:3])}{' ...' if len(stems) > 3 else ''})"
            for stems, folder in zip(lonely, (data.test_reference, data.test_backlit))
            if stems
        ]
        raise CliplitError(f"test images and references do not match by stem: {'; '.join(parts)}")


def _save_array(images: Tensor, path: Path) -> None:
    temporary = path.with_suffix(".partial.npy")
    np.save(temporary, to_uint8(images))
    os.replace(temporary, path)

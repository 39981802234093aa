"""Small stand-ins of the data sets, in the folders that their publishers use."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from cliplit.data.manifest import CATALOG

COUNTS = {380: 6, 368: 5, 384: 4, 305: 3, 485: 6, 15: 2}  # of the real sets, and here


def make_catalog_small(monkeypatch) -> None:
    """Expect as many images as the stand-ins have."""
    for name, known in CATALOG.items():
        subsets = tuple(replace(subset, count=COUNTS[subset.count]) for subset in known.subsets)
        monkeypatch.setitem(CATALOG, name, replace(known, subsets=subsets))


def write_photo(path: Path, seed: int, size: tuple[int, int] = (40, 32), gain: float = 1.0) -> Path:
    """A photo of smooth patches, (width, height) pixels, all light multiplied by `gain`."""
    random = np.random.default_rng(seed)
    patches = Image.fromarray(random.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    array = np.asarray(patches.resize(size, Image.Resampling.BICUBIC)) * gain
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path)
    return path


def write_training_sets(root: Path) -> Path:
    """CLIP-LIT's training folder: BAID_380/resize_input and DIV2K_384."""
    for n in range(6):
        write_photo(root / "BAID_380" / "resize_input" / f"{n:04}.png", n, gain=0.3)
    for n in range(4):
        write_photo(root / "DIV2K_384" / f"{n:04}.png", 100 + n, (60, 44))
    return root


def write_test_sets(root: Path) -> Path:
    """BAID's test pairs, one of them numbered twice, and Backlit300."""
    for n in range(5):
        write_photo(root / "BAID" / "test" / "resize_input" / f"{n:04}.png", 200 + n, gain=0.3)
        write_photo(root / "BAID" / "test" / "resize_gt" / f"{n:04}.png", 200 + n)
    write_photo(root / "BAID" / "test" / "resize_input" / "0002(2).png", 299, gain=0.3)
    for n in range(3):
        write_photo(root / "Backlit300" / f"photo {n}.png", 300 + n, gain=0.3)
    return root


def write_lol(root: Path) -> Path:
    """LOL v1: pairs for training and test."""
    for folder, first, count in (("our485", 400, 6), ("eval15", 500, 2)):
        for n in range(first, first + count):
            write_photo(root / folder / "low" / f"{n}.png", n, gain=0.2)
            write_photo(root / folder / "high" / f"{n}.png", n)
    return root

"""Demo images without a network: crops of photos that scikit-image and matplotlib carry, made backlit.

The training is unpaired, as in the paper: backlit and well-lit crops come from different photos, and the test
pairs from photos that are never trained on.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from cliplit.images import read_image
from cliplit.relight import Backlight, backlit
from cliplit.sampling import generator

SKIMAGE, MATPLOTLIB = "skimage/data", "matplotlib/mpl-data/sample_data"
PHOTOS = {
    "astronaut": (SKIMAGE, "astronaut.png", "NASA, public domain"),
    "chelsea": (SKIMAGE, "chelsea.png", "Stefan van der Walt, CC0"),
    "coffee": (SKIMAGE, "coffee.png", "Rachel Michetti, public domain"),
    "grace_hopper": (MATPLOTLIB, "grace_hopper.jpg", "US Navy, public domain"),
    "motorcycle": (SKIMAGE, "motorcycle_left.png", "Middlebury stereo data set, CC0"),
}
BACKLIT, WELL_LIT, TEST = ("motorcycle", "coffee"), ("grace_hopper",), ("chelsea", "astronaut")
SMALLEST_CROP = 0.45  # of the shorter side
LIGHT = Backlight()


def photo(name: str) -> Tensor:
    """An embedded photo (3, H, W) in [0, 1]."""
    folder, file, _ = PHOTOS[name]
    package, _, inside = folder.partition("/")
    return read_image(Path(find_spec(package).submodule_search_locations[0]) / inside / file)


def crops(names: tuple[str, ...], count: int, size: int, *keys: object) -> Tensor:
    """Random square crops (count, 3, size, size), mirrored or not, of the named photos in turn."""
    random = generator("crops", *keys)
    photos = [photo(name) for name in names]
    picked = []
    for n in range(count):
        source = photos[n % len(photos)]
        height, width = source.shape[-2:]
        draw = torch.rand(4, generator=random).tolist()
        side = round(min(height, width) * (SMALLEST_CROP + (1 - SMALLEST_CROP) * draw[0]))
        top, left = int(draw[1] * (height - side + 1)), int(draw[2] * (width - side + 1))
        crop = source[None, :, top : top + side, left : left + side]
        crop = F.interpolate(crop, (size, size), mode="bilinear", antialias=True).clamp(0, 1)
        picked.append(crop.flip(-1) if draw[3] < 0.5 else crop)
    return torch.cat(picked)


def training_images(count: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Backlit and well-lit images (count, 3, size, size) of different photos."""
    dark = backlit(crops(BACKLIT, count, size, seed, "backlit"), generator("backlit", seed), LIGHT)
    return dark, crops(WELL_LIT, count, size, seed, "well-lit")


def test_pairs(count: int, size: int) -> tuple[Tensor, Tensor]:
    """Backlit images and their references (count, 3, size, size), the same for every seed."""
    references = crops(TEST, count, size, "test")
    return backlit(references, generator("backlit", "test"), LIGHT), references

"""Demo images without a network: crops of photos that come with scikit-image and matplotlib, made backlit.

Training is unpaired, as in the paper: backlit and well-lit images are different crops. The test pairs come from
photos that are never trained on.
"""

from importlib.metadata import distribution

import torch
import torch.nn.functional as F
from torch import Tensor

from cliplit.data.relight import backlit
from cliplit.engine.randomness import generator
from cliplit.files.tensors import read_image
from cliplit.settings import Settings

PHOTOS = {  # name -> installed distribution, file in it, author and licence
    "astronaut": ("scikit-image", "skimage/data/astronaut.png", "NASA, public domain"),
    "chelsea": ("scikit-image", "skimage/data/chelsea.png", "Stefan van der Walt, CC0"),
    "coffee": ("scikit-image", "skimage/data/coffee.png", "Rachel Michetti, public domain"),
    "grace_hopper": ("matplotlib", "matplotlib/mpl-data/sample_data/grace_hopper.jpg", "US Navy, public domain"),
    "motorcycle": ("scikit-image", "skimage/data/motorcycle_left.png", "Middlebury stereo data set, CC0"),
    "motorcycle_right": ("scikit-image", "skimage/data/motorcycle_right.png", "Middlebury stereo data set, CC0"),
    "rocket": ("scikit-image", "skimage/data/rocket.jpg", "SpaceX, public domain"),
}
TEST = ("chelsea", "astronaut")


def photo(name: str) -> Tensor:
    """An embedded photo (3, H, W) in [0, 1]."""
    package, file, _ = PHOTOS[name]
    return read_image(str(distribution(package).locate_file(file)))


def crops(names: tuple[str, ...], count: int, size: int, smallest: float, *keys: object) -> Tensor:
    """Random square crops (count, 3, size, size), mirrored or not, of the named photos in turn.

    Args:
        smallest: smallest side of a crop as a fraction of the photo's shorter side.
        keys: keys of the random draws.
    """
    random = generator("crops", *keys)
    photos = [photo(name) for name in names]
    picked = []
    for n in range(count):
        source = photos[n % len(photos)]
        height, width = source.shape[-2:]
        draw = torch.rand(4, generator=random).tolist()
        side = round(min(height, width) * (smallest + (1 - smallest) * draw[0]))
        top = int(draw[1] * (height - side + 1))
        left = int(draw[2] * (width - side + 1))
        crop = source[None, :, top : top + side, left : left + side]
        crop = F.interpolate(crop, (size, size), mode="bilinear", antialias=True).clamp(0, 1)
        picked.append(crop.flip(-1) if draw[3] < 0.5 else crop)
    return torch.cat(picked)


def embedded_training(settings: Settings) -> tuple[Tensor, Tensor]:
    """Backlit and well-lit images (N, 3, S, S), from the photos that the settings name."""
    data = settings.data
    seed = settings.seed
    options = (data.embedded_images, data.train_size, data.embedded_crop, seed)
    dark, _ = backlit(crops(data.embedded_backlit, *options, "backlit"), generator("backlit", seed), settings.backlight)
    return dark, crops(data.embedded_well_lit, *options, "well-lit")[: data.well_lit_images or None]


def test_pairs(settings: Settings) -> tuple[Tensor, Tensor]:
    """Backlit images and their references (N, 3, S, S), the same for every seed."""
    data = settings.data
    references = crops(TEST, data.embedded_pairs, data.test_size or data.train_size, data.embedded_crop, "test")
    dark, _ = backlit(references, generator("backlit", "test"), settings.backlight)
    return dark, references

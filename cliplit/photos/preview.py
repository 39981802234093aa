"""The illumination map of a small copy of the image, upsampled along the edges of the image: quick, not exact."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from cliplit.data.relight import guided_fit
from cliplit.method.enhancer import Enhancer
from cliplit.photos.regions import Region, enlargement, resize, tiles
from cliplit.photos.tiles import device_of, in_parallel, predict, read, size_of, to_tensor, workers_on

RADIUS = 1  # pixels of the small copy: windows of the guided filter
SMOOTHING = 1e-4  # variance of brightness, below which a window counts as flat
SIDE = 512  # pixels, of the tiles in which the image is read


def predict_small(
    network: Enhancer, pixels: np.ndarray, precision: str, max_memory: int, longer_side: int
) -> Iterator[tuple[Region, Tensor]]:
    """As `predict`, with the network at an image of the given longer side.

    The small map is upsampled by the fast guided filter (He and Sun, arXiv 1505.00996): within a window of the small
    copy the map is a linear function of brightness, whose two coefficients are upsampled in place of the map.
    """
    size = size_of(pixels)
    device = device_of(network)
    workers = workers_on(device)
    ratio = max(1.0, max(size) / longer_side)
    small = max(1, round(size[0] / ratio)), max(1, round(size[1] / ratio))
    copy = np.empty((*small, 3), np.float32)
    map_ = torch.empty(small, device=device)

    def reduced(tile: Region) -> tuple[Region, Tensor]:
        return tile, read(pixels, tile, device)[0].movedim(0, -1).clamp(0, 1)

    for tile, part in in_parallel(reduced, tiles(small, max(1, int(SIDE / ratio))), workers):
        copy[tile.slices] = part.cpu().numpy()
    for tile, part in predict(network, copy, precision, max_memory):
        map_[tile.slices] = part
    guide = _brightness(to_tensor(copy, device))
    slope, offset = (x[0, 0] for x in guided_fit(guide[None, None], map_[None, None], RADIUS, SMOOTHING))
    low = map_.min()
    high = map_.max()

    def upsampled(tile: Region) -> tuple[Region, Tensor]:
        source, rows, columns = enlargement(small, tile)
        a = resize(slope[source.slices], rows, columns)
        b = resize(offset[source.slices], rows, columns)
        return tile, (a * _brightness(to_tensor(pixels[tile.slices], device)) + b).clamp(low, high)

    yield from in_parallel(upsampled, tiles(size, SIDE), workers)


def _brightness(image: Tensor) -> Tensor:
    """(H, W, C) to (H, W)."""
    return image.mean(-1)

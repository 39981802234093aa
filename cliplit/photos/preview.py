"""The illumination map of a small copy of the image, upsampled along the edges of the image: quick, not exact."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cliplit.method.enhancer import Enhancer
from cliplit.photos.regions import Region, interpolation, resize, tiles
from cliplit.photos.tiles import in_parallel, predict, read, to_tensor

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
    size, device = pixels.shape[:2], next(network.parameters()).device
    workers = torch.get_num_threads() if device.type == "cpu" else 1
    ratio = max(1.0, max(size) / longer_side)
    small = tuple(max(1, round(side / ratio)) for side in size)
    copy, map_ = np.empty((*small, 3), np.float32), torch.empty(small, device=device)

    def reduced(tile: Region) -> tuple[Region, Tensor]:
        return tile, read(pixels, tile, device)[0].movedim(0, -1).clamp(0, 1)

    for tile, part in in_parallel(reduced, tiles(small, max(1, int(SIDE / ratio))), workers):
        copy[tile.slices] = part.cpu().numpy()
    for tile, part in predict(network, copy, precision, max_memory):
        map_[tile.slices] = part
    slope, offset = _linear(_brightness(to_tensor(copy, device)), map_)
    limits = map_.min(), map_.max()

    def upsampled(tile: Region) -> tuple[Region, Tensor]:
        rows, columns = (
            interpolation(*sides, span, align_corners=False) for *sides, span in zip(small, size, tile.spans)
        )
        a, b = (resize(x[slice(*rows[1]), slice(*columns[1])], rows[0], columns[0]) for x in (slope, offset))
        return tile, (a * _brightness(to_tensor(pixels[tile.slices], device)) + b).clamp(*limits)

    yield from in_parallel(upsampled, tiles(size, SIDE), workers)


def _brightness(image: Tensor) -> Tensor:
    """(H, W, C) to (H, W)."""
    return image.mean(-1)


def _linear(guide: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and offset of the fit of target by guide in a window, averaged over the windows of a pixel."""
    mean, of = _box(guide), _box(target)
    slope = (_box(guide * target) - mean * of) / (_box(guide * guide) - mean * mean + SMOOTHING)
    return _box(slope), _box(of - slope * mean)


def _box(x: Tensor) -> Tensor:
    return F.avg_pool2d(x[None], 2 * RADIUS + 1, stride=1, padding=RADIUS, count_include_pad=False)[0]

"""The illumination map of a small copy of the image, upsampled along the edges of the image.

For a network with a `longer_side` that is its definition; for others it is quick, not exact.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cliplit.method.enhancer import Enhancer, edge_fit, reduced_size
from cliplit.photos.regions import Region, Size, averaging, interpolation, strips
from cliplit.photos.tiles import (
    READ_ROWS,
    Budget,
    device_of,
    in_parallel,
    predict,
    size_of,
    to_planes,
    to_tensor,
    white,
    workers_on,
)

Result = TypeVar("Result")

STRIP = 1 << 16  # pixels, of the strips of rows in which the image is read: they fit into the cache


def predict_small(
    network: Enhancer,
    pixels: np.ndarray,
    budget: Budget,
    then: Callable[[Region, Tensor, Tensor], Result],
    longer_side: int,
) -> Iterator[Result]:
    """As `predict`, with the network at an image of the given longer side: what `upsample_along_edges` defines.

    Args:
        then: is given the strip's pixels, too, as `to_planes` has them.
    """
    size = size_of(pixels)
    device = device_of(network)
    small = reduced_size(size, longer_side)
    copy = _reduced(pixels, small, device)
    map_ = torch.empty(small, device=device)

    def keep(tile: Region, part: Tensor) -> None:
        map_[tile.slices] = part

    deque(predict(network, copy, budget, keep), maxlen=0)
    slope, offset = edge_fit(to_tensor(copy, device).movedim(-1, 0)[None], map_[None, None])
    fit = torch.cat([slope, offset], 1)[0]
    low = map_.min()
    high = map_.max()

    def upsampled(tile: Region) -> Result:
        rows, read = interpolation(small[0], tile.size[0], tile.rows, align_corners=False)
        by_rows = rows.to(fit) @ fit[:, slice(*read)]
        a, b = F.interpolate(by_rows, tile.size[1], mode="linear", align_corners=False)
        planes = to_planes(pixels[tile.slices], device)
        return then(tile, a.mul_(planes.mean(0)).add_(b).clamp_(low, high), planes)

    yield from in_parallel(upsampled, strips(size, STRIP), workers_on(device))


def _reduced(pixels: np.ndarray, small: Size, device: torch.device) -> np.ndarray:
    """The image at a smaller size, by the mean over each pixel's area: (h, w, C), float32."""
    height, width = size_of(pixels)
    columns = averaging(width, small[1], (0, small[1]))[0].to(device, torch.float32)

    def row(n: int) -> Tensor:
        weights, read = averaging(height, small[0], (n, n + 1))
        strip = torch.from_numpy(np.array(pixels[slice(*read)])).to(device).float()
        return (weights.to(strip) @ strip.flatten(1)).view(strip.shape[1:])

    def rows(first: int) -> Tensor:
        return columns @ torch.stack([row(n) for n in range(first, min(first + READ_ROWS, small[0]))])

    parts = in_parallel(rows, range(0, small[0], READ_ROWS), workers_on(device))
    return torch.cat(list(parts)).div_(white(pixels.dtype)).clamp_(0, 1).cpu().numpy()

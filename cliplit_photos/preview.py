"""The illumination map of a small copy of the image, upsampled along the edges of the image.

For a network with a `longer_side`, this is exact by definition; for others it is quick, but not exact.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cliplit.method.enhancer import Enhancer, edge_fit, reduced_size
from cliplit_photos.options import Inference
from cliplit_photos.regions import Region, Size, averaging, interpolation, strips
from cliplit_photos.tiles import READ_ROWS, device_of, predict, size_of, to_planes, white

STRIP = 1 << 18  # pixels of a strip of rows: little memory, and enough work for several threads


def predict_small(
    network: Enhancer,
    pixels: np.ndarray,
    inference: Inference,
    then: Callable[[Region, Tensor, Tensor], None],
    longer_side: int,
) -> None:
    """Predict the map at the given longer side, and upsample it strip by strip as `upsample_along_edges` does.

    Args:
        then: called with every strip, its map (h, w), and its pixels as from `to_planes`.
    """
    size = size_of(pixels)
    device = device_of(network)
    small = reduced_size(size, longer_side)
    copy = _reduced(pixels, small, device)
    map_ = torch.empty(small, dtype=torch.float32, device=device)

    for tile, part in predict(network, copy, inference, lambda tile, part: (tile, part)):
        map_[tile.slices] = part
    slope, offset = edge_fit(to_planes(copy, device)[None], map_[None, None])
    fit = F.interpolate(torch.cat([slope, offset], 1)[0], size[1], mode="linear", align_corners=False)
    low = map_.min()
    high = map_.max()

    for strip in strips(size, STRIP):
        rows, read = interpolation(small[0], strip.size[0], strip.rows, align_corners=False)
        a, b = rows.to(fit) @ fit[:, slice(*read)]
        planes = to_planes(pixels[strip.slices], device)
        then(strip, a.mul_(planes.mean(0)).add_(b).clamp_(low, high), planes)


def _reduced(pixels: np.ndarray, small: Size, device: torch.device) -> np.ndarray:
    """The image at a smaller size (h, w, C), float32: each pixel is the mean over its area."""
    height, width = size_of(pixels)
    columns = averaging(width, small[1], (0, small[1]))[0].to(device, torch.float32)

    def row(n: int) -> Tensor:
        weights, read = averaging(height, small[0], (n, n + 1))
        strip = torch.from_numpy(np.require(pixels[slice(*read)], requirements="W")).to(device).float()
        return (weights.to(strip) @ strip.flatten(1)).view(strip.shape[1:])

    def rows(first: int) -> Tensor:
        read = torch.stack([row(n) for n in range(first, min(first + READ_ROWS, small[0]))]).movedim(-1, 1)
        averaged = read.flatten(0, 1) @ columns.T  # one product for all rows is many times faster than one per row
        return averaged.view(*read.shape[:2], -1).movedim(1, -1)

    parts = [rows(first) for first in range(0, small[0], READ_ROWS)]
    return torch.cat(parts).div_(white(pixels.dtype)).clamp_(0, 1).cpu().numpy()

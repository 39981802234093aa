"""The network over tiles: exact at any size, in bounded memory.

The network is local except for its pyramid pooling, which averages features over the whole image. Pass 1 computes the
features before the pooling, tile by tile, and adds up their averages; pass 2 does the rest. A tile is read with a halo of
one pixel per later convolution. Convolutions use the halo up; they pad only where the tile ends with the image.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cliplit.engine.compute import keep_freed_memory
from cliplit.method.enhancer import Enhancer, ResidualBlock, working_size
from cliplit_photos.options import Inference
from cliplit_photos.regions import Region, Size, averaging, enlargement, resize, tiles

Item = TypeVar("Item")
Result = TypeVar("Result")

HEAD = 5  # convolutions before the pyramid pooling
TAIL = 12  # convolutions from there on
LIVE = 16  # features of the network's width in memory at a time, at most
CPU_TILE = 192  # pixels: larger tiles fall out of the cache, smaller ones are mostly halo
LARGEST_KEPT = 32 << 20  # bytes: freed blocks of up to this size serve the next layer
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
READ_ROWS = 16  # rows of a smaller copy that are read at a time, because the original may be large


def predict(
    network: Enhancer, pixels: np.ndarray, inference: Inference, then: Callable[[Region, Tensor], Result]
) -> Iterator[Result]:
    """Predict the illumination map tile by tile, and yield `then(tile, map)` for every tile of (H, W, 1 or 3), in order.

    Args:
        inference: its precision, memory and tile matter here.
        then: called in the thread of the tile, with the map (h, w), float32, on the network's device.
    """
    network = copy.deepcopy(network).float().requires_grad_(False)
    max_memory = inference.max_memory
    device = device_of(network)
    dtype = PRECISIONS[inference.precision]
    downscale = network.architecture["downscale"]
    width = network.architecture["width"]
    full = size_of(pixels)
    size = working_size(full, downscale)
    on_cpu = device.type == "cpu"
    workers = torch.get_num_threads() if on_cpu else 1
    per_pixel = LIVE * width * dtype.itemsize + 48 * downscale**2
    fits = int((max_memory // 2 // workers / per_pixel) ** 0.5) - 2 * (HEAD + TAIL)
    side = inference.tile or max(16, min(fits, CPU_TILE) if on_cpu else fits)
    keep_freed_memory(LARGEST_KEPT)
    valid = without_padding(network, dtype)
    free = max_memory - workers * per_pixel * (side + 2 * (HEAD + TAIL)) ** 2
    whole = Region(size, (0, size[0]), (0, size[1]))
    kept = None  # features of the whole image, if they fit: then pass 2 need not compute them again
    if size[0] * size[1] * width * dtype.itemsize <= free:
        kept = torch.empty(1, *size, width, dtype=dtype, device=device).movedim(-1, 1)

    def features(region: Region) -> Tensor:
        wide = region.grow(HEAD)
        x = head(valid, read(pixels, wide, device).to(dtype), wide)
        return wide.shrink(HEAD).crop(x, region)

    # Pass 1: average the features before the pyramid pooling.
    pools = Pools(network, size)

    @torch.inference_mode()
    def pool(tile: Region) -> Tensor:
        x = features(tile)
        if kept is not None:
            whole.crop(kept, tile).copy_(x)
        return pools.part(x, tile)

    means = pools.means(in_parallel(pool, tiles(size, side), workers))
    pooled = [branch(mean.to(device)) for branch, mean in zip(network.PPM1.features, means, strict=True)]

    # Pass 2: the rest.
    @torch.inference_mode()
    def rest(tile: Region) -> Result:
        region, rows, columns = enlargement(size, tile)
        if tile.size == size:
            region = tile
        wide = region.grow(TAIL)
        x = features(wide) if kept is None else whole.crop(kept, wide)
        x = torch.cat([x, *(upsampled(cells, wide).to(dtype) for cells in pooled)], 1)
        x = tail(valid, x, wide)
        map_ = wide.shrink(TAIL).crop(x, region)[0, 0]
        return then(tile, map_ if tile.size == size else resize(map_, rows, columns))

    yield from in_parallel(rest, tiles(full, side * downscale), workers)


def in_parallel(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Results in order, from several threads. One item per thread waits less than all threads inside every layer."""
    items = list(items)
    workers = min(workers, len(items))
    if workers == 1:
        yield from map(work, items)
        return
    threads = torch.get_num_threads()
    alone = threads // workers
    torch.set_num_threads(alone)  # for the caller, who uses the results meanwhile
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(alone,)) as pool:
            yield from pool.map(work, items)
    finally:
        torch.set_num_threads(threads)


def device_of(network: Enhancer) -> torch.device:
    """The device of a network."""
    return next(network.parameters()).device


def size_of(pixels: np.ndarray) -> Size:
    """Height and width of an image (H, W, C)."""
    height, width = pixels.shape[:2]
    return height, width


def head(network: Enhancer, x: Tensor, wide: Region) -> Tensor:
    """The image (1, 3, h, w) in a region to features before the pyramid pooling, by HEAD convolutions."""
    x = F.leaky_relu_(convolve(network.cond1, x, wide), 0.2)
    return residual(network.ResidualBlock2, residual(network.ResidualBlock1, x, wide), wide)


def tail(network: Enhancer, x: Tensor, wide: Region) -> Tensor:
    """From these features and the pyramid to the illumination map (1, 1, h, w), by TAIL convolutions."""
    fuse, activate = network.PPM1.fuse
    x = activate(convolve(fuse, x, wide, "constant"))
    x = convolve(network.condx, x, wide)
    x = residual(network.ResidualBlock4, residual(network.ResidualBlock3, x, wide), wide)
    x = convolve(network.condy, x, wide)
    x = residual(network.ResidualBlock6, residual(network.ResidualBlock5, x, wide), wide)
    return network.positive(convolve(network.cond_add1, x, wide).float())


def convolve(layer: nn.Module, x: Tensor, wide: Region, padding: str = "reflect") -> Tensor:
    """A 3x3 convolution that pads at the image's borders and uses up the halo elsewhere."""
    return layer(F.pad(x, wide.borders, mode=padding) if any(wide.borders) else x)


def residual(block: ResidualBlock, x: Tensor, wide: Region) -> Tensor:
    """A residual block, in the same way."""
    y = F.leaky_relu_(convolve(block.conv1, x, wide), 0.2)
    y = convolve(block.conv2, y, wide)
    left, right, top, bottom = (2 - 2 * border for border in wide.borders)
    same = x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]
    return F.leaky_relu_(y.add_(same), 0.2)


class Pools:
    """Averages of features (1, C, H, W) over the cells of the pyramid pooling, as sums over tiles."""

    def __init__(self, network: Enhancer, size: Size):
        height, width = size
        self.bins = network.PPM1.bins
        self.rows = torch.cat([averaging(height, bins, (0, bins))[0] for bins in self.bins])
        self.columns = torch.cat([averaging(width, bins, (0, bins))[0] for bins in self.bins])

    def part(self, x: Tensor, tile: Region) -> Tensor:
        """A tile's part of the averages (rows of cells, columns of cells, C): float32 within a tile, float64 for the sum.

        On the CPU: Apple's device has no float64.
        """
        rows = self.rows[:, slice(*tile.rows)].to(x.device, torch.float32)
        columns = self.columns[:, slice(*tile.columns)].to(x.device, torch.float32)
        x = x[0].movedim(0, -1).float()
        by_rows = (rows @ x.flatten(1)).view(len(rows), *x.shape[1:])
        return (columns @ by_rows).cpu().double()

    def means(self, parts: Iterable[Tensor]) -> list[Tensor]:
        """Averages (1, C, b, b) for every number of bins b, on the CPU. Cells that mix two numbers are not used."""
        total = sum(parts, start=torch.zeros(()))
        means = []
        first = 0
        for bins in self.bins:
            cells = slice(first, first + bins)
            means.append(total[cells, cells].movedim(-1, 0)[None].float())
            first += bins
        return means


def upsampled(cells: Tensor, region: Region) -> Tensor:
    """Averages (1, C, b, b) of the pyramid pooling in a region, as the network upsamples them (aligned corners)."""
    part, rows, columns = enlargement((cells.shape[-2], cells.shape[-1]), region, align_corners=True)
    return resize(cells[(..., *part.slices)], rows, columns)


def without_padding(network: Enhancer, dtype: torch.dtype) -> Enhancer:
    """A copy whose convolutions do not pad."""
    valid = copy.deepcopy(network).to(dtype).to(memory_format=torch.channels_last)
    for layer in valid.modules():
        if isinstance(layer, nn.Conv2d):
            layer.padding = (0, 0)
            layer.padding_mode = "zeros"
    return valid


def read(pixels: np.ndarray, region: Region, device: torch.device) -> Tensor:
    """Pixels (1, 3, h, w) in [0, 1] of a region of the size at which the network works."""
    height, width = size_of(pixels)
    if (height, width) == region.size:
        return to_planes(pixels[region.slices], device)[None].expand(-1, 3, -1, -1)
    columns, across = averaging(width, region.size[1], region.columns)
    strips = []
    for first in range(*region.rows, READ_ROWS):
        rows, down = averaging(height, region.size[0], (first, min(first + READ_ROWS, region.rows[1])))
        strips.append(resize(to_planes(pixels[slice(*down), slice(*across)], device), rows, columns))
    return torch.cat(strips, 1)[None].expand(-1, 3, -1, -1)


def to_planes(pixels: np.ndarray, device: torch.device) -> Tensor:
    """Pixels (H, W, C) of any type as float32 in [0, 1], one channel after the other: (C, H, W)."""
    planes = torch.from_numpy(np.require(pixels, requirements="W")).to(device).movedim(-1, 0).contiguous()
    return planes.float().div_(white(pixels.dtype))


def white(dtype: np.dtype) -> int:
    """The value of white."""
    return 1 if dtype == np.float32 else np.iinfo(dtype).max

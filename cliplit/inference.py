"""Enhance images of any size, exactly and in bounded memory: the network in two passes over tiles.

The network is local except for its pyramid pooling, which averages features over the whole image. Pass 1 computes
the features before it tile by tile and adds up their averages; pass 2 does the rest. A tile is read with a halo, one
pixel for every convolution to come; convolutions use it up, and pad as the network does only where the tile ends at
the image's border. So the result is the full frame's but for rounding, whatever the size of the tiles.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import cliplit
from cliplit.checkpoints import load_enhancer
from cliplit.checks import CliplitError
from cliplit.config import setting
from cliplit.devices import find_device
from cliplit.enhancer import Enhancer, ResidualBlock, divide, working_size

DEFAULT = Path(cliplit.__file__).parent / "models" / "enhancer.safetensors"  # the shipped checkpoint
MODES = ("L", "LA", "RGB", "RGBA", "I;16")  # of PIL images

HEAD = 5  # convolutions before the pyramid pooling
TAIL = 12  # convolutions from the pyramid pooling on
BYTES_PER_PIXEL = 2000  # that a tile needs at width 32: input, output and padding of the widest convolution
CPU_TILE = 256  # pixels; larger tiles fall out of the cache


@dataclass(frozen=True)
class Inference:
    """How to compute; stored with every result."""

    precision: str = setting("fp32", "cliplit", "fp32 or bf16", "of convolutions; bf16 where the processor has it")
    max_memory: int = setting(1 << 30, "cliplit", "bytes", "for tiles and features, not for the image itself")
    strength: float = setting(1.0, "cliplit", "exponent", "on the illumination map; 0: image unchanged, above 1: more")
    preview: int = setting(0, "cliplit", "pixels", "longer side at which the map is predicted; 0: exact")
    tile: int = setting(0, "cliplit", "pixels", "side of a tile; 0: by max_memory and what is quick on the device")


Span = tuple[int, int]  # first and last-but-one row, or column


@dataclass(frozen=True)
class Region:
    """A rectangle of an image of the given size."""

    size: tuple[int, int]
    rows: Span
    columns: Span

    def grow(self, halo: int) -> "Region":
        """With a halo, as far as the image goes."""
        rows, columns = (
            (max(0, first - halo), min(side, end + halo))
            for side, (first, end) in zip(self.size, (self.rows, self.columns))
        )
        return Region(self.size, rows, columns)

    def crop(self, x: Tensor, part: "Region") -> Tensor:
        """Of features of this region (..., h, w), those of a part of it."""
        top, left = part.rows[0] - self.rows[0], part.columns[0] - self.columns[0]
        return x[
            ..., top : top + part.rows[1] - part.rows[0], left : left + part.columns[1] - part.columns[0]
        ]

    @property
    def borders(self) -> tuple[int, int, int, int]:
        """1 where the region ends with the image: left, right, top, bottom."""
        (height, width), (top, bottom), (left, right) = self.size, self.rows, self.columns
        return int(left == 0), int(right == width), int(top == 0), int(bottom == height)


def tiles(size: tuple[int, int], side: int) -> Iterator[Region]:
    """Disjoint tiles of an image, of about equal sizes and at most `side` pixels."""
    for rows in _split(size[0], side):
        for columns in _split(size[1], side):
            yield Region(size, rows, columns)


def enhance(
    image: Any, checkpoint: str | Path | Enhancer | None = None, device: str = "auto", **options: Any
) -> Any:
    """An enhanced image of the same kind, shape and type.

    Grey is enhanced as three equal channels and stays grey, since all channels are divided by the same map; alpha
    passes through.

    Args:
        image: array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) or tensor (C, H, W) or (N, C, H, W), of uint8, uint16 or
            floats in [0, 1]; or a PIL image of mode L, LA, RGB, RGBA or I;16, upright or not (the network does
            not care much; `cliplit.read_image` turns images).
        checkpoint: a file, ours or a released one, or a network; by default the one in the package.
        device: auto, cpu, cuda ...; a network computes where it is.
        options: fields of `Inference`.
    Raises:
        CliplitError: another kind of image, values that are not in [0, 1], no such checkpoint, unknown options.
    """
    valid = [item.name for item in fields(Inference)]
    unknown = [name for name in options if name not in valid]
    if unknown:
        raise CliplitError(f"unknown option '{unknown[0]}'; valid: {', '.join(valid)}")
    chosen = Inference(**options)
    check_options(chosen)
    if not isinstance(checkpoint, Enhancer):
        checkpoint = load_enhancer(checkpoint or DEFAULT).to(find_device(device))
    if isinstance(image, Image.Image):
        return _enhance_pil(checkpoint, image, chosen)
    if isinstance(image, Tensor):
        return _enhance_tensor(checkpoint, image, chosen)
    if isinstance(image, np.ndarray):
        return _enhance_array(checkpoint, image, chosen)
    raise CliplitError(f"expected an array, a tensor or a PIL image, got {type(image).__name__}")


def _enhance_array(network: Enhancer, array: np.ndarray, options: Inference) -> np.ndarray:
    if array.ndim == 2:
        return _enhance_array(network, array[..., None], options)[..., 0]
    if array.dtype in (np.float16, np.float64):
        return _enhance_array(network, array.astype(np.float32), options).astype(array.dtype)
    if array.ndim == 3 and array.shape[2] in (2, 4):
        alpha = array[..., -1:]
        return np.concatenate([enhance_pixels(network, array[..., :-1], options), alpha], 2)
    return enhance_pixels(network, array, options)


def _enhance_tensor(network: Enhancer, images: Tensor, options: Inference) -> Tensor:
    if images.ndim == 4 and len(images):
        return torch.stack([_enhance_tensor(network, image, options) for image in images])
    if images.ndim != 3 or images.shape[0] not in (1, 3, 4):
        raise CliplitError(f"expected a tensor of shape (3, H, W) or (N, 3, H, W), got {tuple(images.shape)}")
    array = images.detach().cpu().float() if images.dtype == torch.bfloat16 else images.detach().cpu()
    result = _enhance_array(network, array.movedim(0, -1).numpy(), options)
    return torch.from_numpy(result).movedim(-1, 0).contiguous().to(images)


def _enhance_pil(network: Enhancer, image: Image.Image, options: Inference) -> Image.Image:
    if image.mode not in MODES:
        raise CliplitError(f"expected a PIL image of mode {', '.join(MODES)}, got {image.mode}: convert it first")
    result = Image.fromarray(_enhance_array(network, np.asarray(image), options))
    result.info = dict(image.info)
    return result


def enhance_pixels(
    network: Enhancer, pixels: np.ndarray, options: Inference = Inference(), illumination: np.ndarray | None = None
) -> np.ndarray:
    """Enhanced image of the same shape and type; computed where the network is.

    Args:
        pixels: (H, W, 3), or (H, W, 1) for grey, of uint8, uint16, or float32 in [0, 1].
        illumination: float32 (H, W); receives the illumination map, before `strength`.
    Raises:
        CliplitError: another shape or type, values that are not in [0, 1], options that make no sense.
    """
    check_pixels(pixels)
    check_options(options)
    result = np.empty_like(pixels)
    for tile, map_ in predict(network, pixels, options):
        where = slice(*tile.rows), slice(*tile.columns)
        if illumination is not None:
            illumination[where] = map_
        result[where] = _quantize(_divide(pixels[where], map_, options.strength), pixels.dtype)
    return result


@torch.inference_mode()
def predict(network: Enhancer, pixels: np.ndarray, options: Inference) -> Iterator[tuple[Region, np.ndarray]]:
    """The illumination map of an image (H, W, C), tile by tile."""
    dtype = torch.float32 if options.precision == "fp32" else torch.bfloat16
    device = next(network.parameters()).device
    network = _converted(network, dtype)
    downscale = network.architecture["downscale"]
    size = pixels.shape[:2]
    small = working_size(size, downscale)
    side = options.tile or choose_tile(network, options.max_memory, device)

    def head(region: Region) -> Tensor:
        wide = region.grow(HEAD)
        x = _read(pixels, wide).to(device, dtype)[None]
        x = F.leaky_relu(convolve(network.cond1, x, wide), 0.2)
        return wide_crop(residual(network.ResidualBlock2, residual(network.ResidualBlock1, x, wide), wide), wide, region, HEAD)

    # Pass 1: averages of the features.
    pooled = Pools(network, small)
    for tile in tiles(small, side):
        pooled.add(tile, head(tile))
    context = pooled.context()

    # Pass 2: the rest.
    for tile in tiles(size, side * downscale):
        region = _sources(tile, small)
        wide = region.grow(TAIL)
        x = torch.cat([head(wide), context(wide).to(dtype)], 1)
        x = network.PPM1.fuse[1](convolve(network.PPM1.fuse[0], x, wide, "constant"))
        x = convolve(network.condx, x, wide)
        x = residual(network.ResidualBlock4, residual(network.ResidualBlock3, x, wide), wide)
        x = convolve(network.condy, x, wide)
        x = residual(network.ResidualBlock6, residual(network.ResidualBlock5, x, wide), wide)
        x = network.positive(convolve(network.cond_add1, x, wide).float())
        x = wide_crop(x, wide, region, TAIL)[0, 0]
        yield tile, _resample(x, region, tile).cpu().numpy()


def convolve(layer: nn.Conv2d, x: Tensor, region: Region, padding: str = "reflect") -> Tensor:
    """A 3x3 convolution that pads at the image's borders and uses up the halo elsewhere."""
    if any(region.borders):
        x = F.pad(x, region.borders, mode=padding)
    return F.conv2d(x, layer.weight, layer.bias)


def residual(block: ResidualBlock, x: Tensor, region: Region) -> Tensor:
    """A residual block, in the same way."""
    y = convolve(block.conv2, F.leaky_relu_(convolve(block.conv1, x, region), 0.2), region)
    left, right, top, bottom = (2 - 2 * border for border in region.borders)
    y += x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]
    return F.leaky_relu_(y, 0.2)


class Pools:
    """Pass 1's sums, and what the pyramid pooling makes of them."""

    def __init__(self, network: Enhancer, size: tuple[int, int]):
        self.network, self.size = network, size
        self.bins = [branch[0].output_size for branch in network.PPM1.features]
        self.rows, self.columns = (torch.cat([averaging(side, b) for b in self.bins]) for side in size)
        self.sums = 0.0

    def add(self, tile: Region, x: Tensor) -> None:
        """Features (1, C, h, w) of a tile."""
        rows = self.rows[:, slice(*tile.rows)].to(x.device, torch.float32)
        columns = self.columns[:, slice(*tile.columns)].to(x.device, torch.float32)
        self.sums = self.sums + (rows @ (x[0].float() @ columns.T)).double()

    def context(self):
        """A function of a region: the upsampled averages there (1, C, h, w)."""
        averages, first = [], 0
        for b, (_, reduce, activate) in zip(self.bins, self.network.PPM1.features):
            mean = self.sums[:, first : first + b, first : first + b]
            averages.append(activate(reduce(mean[None].to(reduce.weight.dtype)))[0].float())
            first += b

        def upsampled(region: Region) -> Tensor:
            parts = []
            for mean in averages:
                rows, columns = (
                    interpolation(side, mean.shape[-1], *span).to(mean)
                    for side, span in zip(region.size, (region.rows, region.columns))
                )
                parts.append(rows @ mean @ columns.T)
            return torch.cat(parts)[None]

        return upsampled


def averaging(side: int, bins: int) -> Tensor:
    """Adaptive average pooling of a side as a matrix (bins, side)."""
    matrix = torch.zeros(bins, side, dtype=torch.float64)
    for i in range(bins):
        first, end = i * side // bins, -(-(i + 1) * side // bins)
        matrix[i, first:end] = 1 / (end - first)
    return matrix


def interpolation(side: int, bins: int, first: int, end: int) -> Tensor:
    """Bilinear upsampling with aligned corners from `bins` to `side`, rows first ... end, as a matrix."""
    at = torch.arange(first, end, dtype=torch.float64) * ((bins - 1) / max(1, side - 1))
    return (1 - (at[:, None] - torch.arange(bins, dtype=torch.float64)).abs()).clamp(min=0)


def choose_tile(network: Enhancer, max_memory: int, device: torch.device) -> int:
    """Side of a tile that fits the memory and is quick."""
    fits = int((max_memory / (BYTES_PER_PIXEL * network.architecture["width"] / 32)) ** 0.5) - 2 * (HEAD + TAIL)
    return max(16, min(fits, CPU_TILE) if device.type == "cpu" else fits)


def wide_crop(x: Tensor, wide: Region, region: Region, used: int) -> Tensor:
    """Of features of a region after `used` convolutions, those of its inner part."""
    left, right, top, bottom = (used - used * border for border in wide.borders)
    rest = Region(
        wide.size, (wide.rows[0] + top, wide.rows[1] - bottom), (wide.columns[0] + left, wide.columns[1] - right)
    )
    return rest.crop(x, region)


def check_pixels(pixels: np.ndarray) -> None:
    """Raise CliplitError unless `pixels` is an image as `enhance_pixels` takes it."""
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or 0 in pixels.shape:
        raise CliplitError(f"expected an image of shape (H, W, 3), (H, W, 1) or (H, W), got {pixels.shape}")
    if pixels.dtype not in (np.uint8, np.uint16, np.float32):
        raise CliplitError(f"expected an image of uint8, uint16 or float32, got {pixels.dtype}")
    if pixels.dtype == np.float32:
        low, high = pixels.min(), pixels.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            raise CliplitError("the image has values that are NaN or infinite")
        if low < 0 or high > 1:
            raise CliplitError(f"expected values from 0 to 1, got {low:g} to {high:g}")


def check_options(options: Inference) -> None:
    """Raise CliplitError unless the options make sense."""
    if options.precision not in ("fp32", "bf16"):
        raise CliplitError(f"precision is fp32 or bf16, not '{options.precision}'")
    if not 0 <= options.strength < float("inf"):
        raise CliplitError(f"strength is 0 or above, not {options.strength}")
    if options.max_memory < 1 or options.preview < 0 or options.tile < 0:
        raise CliplitError("max_memory is at least 1; preview and tile are 0 or above")


def _read(pixels: np.ndarray, region: Region) -> Tensor:
    """Pixels (3, h, w) in [0, 1] of a region of the network's working size."""
    full = pixels.shape[:2]
    if full == region.size:
        return _to_tensor(pixels[slice(*region.rows), slice(*region.columns)])
    spans, matrices = [], []
    for side, small, (first, end) in zip(full, region.size, (region.rows, region.columns)):
        span = first * side // small, -(-end * side // small)
        spans.append(slice(*span))
        matrices.append(averaging(side, small)[first:end, slice(*span)].float())
    return matrices[0] @ _to_tensor(pixels[tuple(spans)]) @ matrices[1].T


def _to_tensor(pixels: np.ndarray) -> Tensor:
    x = torch.from_numpy(pixels.astype(np.float32)).movedim(-1, 0)
    return (x / _white(pixels.dtype)).expand(3, -1, -1)


def _sources(tile: Region, small: tuple[int, int]) -> Region:
    """The region of the working size that a tile of the image is interpolated from."""
    if tile.size == small:
        return tile
    spans = []
    for side, work, (first, end) in zip(tile.size, small, (tile.rows, tile.columns)):
        low, high = ((at + 0.5) * work / side - 0.5 for at in (first, end - 1))
        spans.append((max(0, int(low)), min(work, int(max(0, high)) + 2)))
    return Region(small, *spans)


def _resample(x: Tensor, region: Region, tile: Region) -> Tensor:
    """The map (h, w) of a region of the working size, interpolated bilinearly at the pixels of a tile."""
    if tile.size == region.size:
        return x
    matrices = []
    spans = (tile.rows, region.rows), (tile.columns, region.columns)
    for side, work, (span, source) in zip(tile.size, region.size, spans):
        at = ((torch.arange(*span, dtype=torch.float64) + 0.5) * (work / side) - 0.5).clamp(0, work - 1)
        matrix = (1 - (at[:, None] - torch.arange(*source, dtype=torch.float64)).abs()).clamp(min=0)
        matrices.append(matrix.to(x))
    return matrices[0] @ x @ matrices[1].T


def _divide(pixels: np.ndarray, map_: np.ndarray, strength: float) -> Tensor:
    x = torch.from_numpy(pixels.astype(np.float32)) / _white(pixels.dtype)
    return divide(x, torch.from_numpy(map_)[..., None] ** strength)


def _quantize(x: Tensor, dtype: np.dtype) -> np.ndarray:
    white = _white(dtype)
    return x.numpy() if white == 1 else (x * white).round().numpy().astype(dtype)


def _white(dtype: np.dtype) -> int:
    return 1 if dtype == np.float32 else np.iinfo(dtype).max


def _converted(network: Enhancer, dtype: torch.dtype) -> Enhancer:
    """A copy to compute with."""
    copy = Enhancer(**network.architecture)
    copy.load_state_dict(network.state_dict())
    return copy.to(next(network.parameters()).device, dtype, memory_format=torch.channels_last).eval()


def _split(side: int, most: int) -> list[Span]:
    count = -(-side // most)
    edges = [side * i // count for i in range(count + 1)]
    return list(zip(edges, edges[1:]))

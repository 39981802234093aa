"""Rectangles of an image, and the resizing of images part by part, as matrices on either side."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

Size = tuple[int, int]  # height and width
Span = tuple[int, int]  # first, and one past the last


@dataclass(frozen=True)
class Region:
    """A rectangle of an image of the given size."""

    size: Size
    rows: Span
    columns: Span

    @property
    def slices(self) -> tuple[slice, slice]:
        """Slices to index arrays of the whole image."""
        return slice(*self.rows), slice(*self.columns)

    @property
    def borders(self) -> tuple[int, int, int, int]:
        """1 for each side at which the region ends with the image: left, right, top, bottom."""
        height, width = self.size
        top, bottom = self.rows
        left, right = self.columns
        return int(left == 0), int(right == width), int(top == 0), int(bottom == height)

    def grow(self, halo: int) -> "Region":
        """The region with a halo, as far as the image reaches."""
        height, width = self.size
        return Region(self.size, _grown(self.rows, halo, height), _grown(self.columns, halo, width))

    def shrink(self, halo: int) -> "Region":
        """The region without its halo, which exists where the image continues."""
        left, right, top, bottom = (halo * (1 - border) for border in self.borders)
        return Region(
            self.size,
            (self.rows[0] + top, self.rows[1] - bottom),
            (self.columns[0] + left, self.columns[1] - right),
        )

    def crop(self, x: Tensor, part: "Region") -> Tensor:
        """Cut the features of a part out of the features (..., h, w) of this region."""
        top, _ = self.rows
        left, _ = self.columns
        rows = slice(part.rows[0] - top, part.rows[1] - top)
        columns = slice(part.columns[0] - left, part.columns[1] - left)
        return x[..., rows, columns]


def _grown(span: Span, halo: int, side: int) -> Span:
    first, end = span
    return max(0, first - halo), min(side, end + halo)


def tiles(size: Size, side: int) -> Iterator[Region]:
    """Disjoint tiles of an image, row by row, of about equal sizes of at most `side` pixels."""
    for rows in _split(size[0], side):
        for columns in _split(size[1], side):
            yield Region(size, rows, columns)


def strips(size: Size, pixels: int) -> Iterator[Region]:
    """An image in strips of whole rows, each of at most this many pixels or one row."""
    height, width = size
    for rows in _split(height, max(1, pixels // width)):
        yield Region(size, rows, (0, width))


def averaging(side: int, bins: int, span: Span) -> tuple[Tensor, Span]:
    """Adaptive average pooling, which is also resizing with mode="area": weights of the bins of a span, float64.

    Returns:
        The weights (end - first, n), and the span of n pixels that they belong to.
    """
    first = span[0] * side // bins
    end = -(-span[1] * side // bins)
    weights = torch.zeros(span[1] - span[0], end - first, dtype=torch.float64)
    for row, cell in zip(weights, range(*span), strict=True):
        left = cell * side // bins
        right = -(-(cell + 1) * side // bins)
        row[left - first : right - first] = 1 / (right - left)
    return weights, (first, end)


def interpolation(side: int, target: int, span: Span, align_corners: bool) -> tuple[Tensor, Span]:
    """Bilinear resizing: weights (end - first, n) of the target pixels of a span, and the span of n pixels of the side
    that they belong to.
    """
    at = torch.arange(*span, dtype=torch.float64)
    by_corners = at * ((side - 1) / max(1, target - 1))
    by_centres = (at + 0.5) * (side / target) - 0.5
    at = (by_corners if align_corners else by_centres).clamp(0, side - 1)
    source = int(at[0]), min(side, int(at[-1]) + 2)
    distances = (at[:, None] - torch.arange(*source)).abs()
    return (1 - distances).clamp(min=0), source


def enlargement(small: Size, tile: Region, align_corners: bool = False) -> tuple[Region, Tensor, Tensor]:
    """Bilinear resizing of a small image to a tile of a large one.

    Returns:
        The region of the small image that is read, and the weights of its rows and of its columns, for `resize`.
    """
    rows, high = interpolation(small[0], tile.size[0], tile.rows, align_corners)
    columns, wide = interpolation(small[1], tile.size[1], tile.columns, align_corners)
    return Region(small, high, wide), rows, columns


def resize(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Images (..., H, W) by weights of rows (h, H) and of columns (w, W)."""
    return rows.to(x) @ x @ columns.to(x).T


def _split(side: int, most: int) -> list[Span]:
    count = -(-side // most)
    edges = [side * i // count for i in range(count + 1)]
    return list(pairwise(edges))

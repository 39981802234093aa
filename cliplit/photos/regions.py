"""Rectangles of an image, and the resizing of images part by part, as matrices on either side."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

Span = tuple[int, int]  # first, and one past the last


@dataclass(frozen=True)
class Region:
    """A rectangle of an image of the given size."""

    size: tuple[int, int]
    rows: Span
    columns: Span

    @property
    def spans(self) -> tuple[Span, Span]:
        """Rows and columns."""
        return self.rows, self.columns

    @property
    def slices(self) -> tuple[slice, slice]:
        """To index arrays of the whole image with."""
        return slice(*self.rows), slice(*self.columns)

    @property
    def borders(self) -> tuple[int, int, int, int]:
        """1 where the region ends with the image: left, right, top, bottom."""
        (height, width), (top, bottom), (left, right) = self.size, self.rows, self.columns
        return int(left == 0), int(right == width), int(top == 0), int(bottom == height)

    def grow(self, halo: int) -> "Region":
        """With a halo, as far as the image goes."""
        spans = zip(self.size, (self.rows, self.columns))
        return Region(self.size, *((max(0, first - halo), min(side, end + halo)) for side, (first, end) in spans))

    def shrink(self, halo: int) -> "Region":
        """Without a halo, which there is where the image goes on."""
        left, right, top, bottom = (halo * (1 - border) for border in self.borders)
        rows, columns = self.rows, self.columns
        return Region(self.size, (rows[0] + top, rows[1] - bottom), (columns[0] + left, columns[1] - right))

    def crop(self, x: Tensor, part: "Region") -> Tensor:
        """Of features (..., h, w) of this region, those of a part of it."""
        (top, bottom), (left, right) = part.rows, part.columns
        return x[..., top - self.rows[0] : bottom - self.rows[0], left - self.columns[0] : right - self.columns[0]]


def tiles(size: tuple[int, int], side: int) -> Iterator[Region]:
    """Disjoint tiles of an image, row by row, of about equal sizes of at most `side` pixels."""
    for rows in _split(size[0], side):
        for columns in _split(size[1], side):
            yield Region(size, rows, columns)


def averaging(side: int, bins: int, span: Span) -> tuple[Tensor, Span]:
    """Adaptive average pooling, which is also resizing with mode="area": weights of the bins of a span, float64.

    Returns:
        The weights (end - first, n), and the span of n pixels that they belong to.
    """
    source = span[0] * side // bins, -(-span[1] * side // bins)
    weights = torch.zeros(span[1] - span[0], source[1] - source[0], dtype=torch.float64)
    for row, i in zip(weights, range(*span)):
        first, end = i * side // bins, -(-(i + 1) * side // bins)
        row[first - source[0] : end - source[0]] = 1 / (end - first)
    return weights, source


def interpolation(side: int, target: int, span: Span, align_corners: bool) -> tuple[Tensor, Span]:
    """Bilinear resizing: weights of the target pixels of a span, in the same way."""
    at = torch.arange(*span, dtype=torch.float64)
    at = at * ((side - 1) / max(1, target - 1)) if align_corners else (at + 0.5) * (side / target) - 0.5
    at = at.clamp(0, side - 1)
    source = int(at[0]), min(side, int(at[-1]) + 2)
    return (1 - (at[:, None] - torch.arange(*source)).abs()).clamp(min=0), source


def resize(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Images (..., H, W) by weights of rows (h, H) and of columns (w, W)."""
    return rows.to(x) @ x @ columns.to(x).T


def _split(side: int, most: int) -> list[Span]:
    count = -(-side // most)
    edges = [side * i // count for i in range(count + 1)]
    return list(zip(edges, edges[1:]))

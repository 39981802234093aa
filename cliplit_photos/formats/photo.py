"""A photo in memory: its pixels, upright, and all that its file says beside them, as bytes."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from cliplit.errors import CliplitError

MAX_PIXELS = 1 << 28  # 268 megapixels; an honest photo has fewer, a decompression bomb more
ROWS = 256  # of a strip


@dataclass
class Photo:
    """A photo as shown, upright, with what its file says beside the pixels.

    Attributes:
        pixels: (H, W, 3), or (H, W, 1) for grey, of uint8, uint16 or float32 in [0, 1], in the colours of `icc`.
        alpha: (H, W) of the same type, or None.
        kind: format of the source, such as JPEG.
        exif: a block, upright and without thumbnail, else byte for byte.
        icc: colour profile; empty for sRGB.
        xmp: upright, else byte for byte.
        iptc: Photoshop's image resources, IPTC among them.
        own: what formats of this kind alone hold: JPEG's segments and comments, PNG's chunks, by name.
        options: how the source was stored: chroma subsampling, compression, resolution.
        notes: what could not be kept.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    kind: str = ""
    exif: bytes = b""
    icc: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    own: list[tuple[str, bytes]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def channels(self) -> np.ndarray:
        """Colours and alpha, if there is one: (H, W, 1 to 4), as C has them in memory."""
        return np.ascontiguousarray(self.pixels) if self.alpha is None else np.dstack([self.pixels, self.alpha])


def check_size(width: int, height: int, limit: int) -> None:
    """Raise CliplitError above the limit of pixels."""
    if width * height > limit:
        raise CliplitError(
            f"{width} x {height} pixels, above the limit of {limit} against decompression bombs; --max-pixels lifts it"
        )


def upright_canvas(orientation: int, height: int, width: int, channels: int, dtype: Any) -> np.ndarray:
    """An array for the upright image of what lies in a file as (height, width)."""
    return np.empty((width, height, channels) if orientation >= 5 else (height, width, channels), dtype)


def turned(upright: np.ndarray, orientation: int) -> np.ndarray:
    """A view of an upright image as it lies in a file of this EXIF orientation."""
    if orientation >= 5:
        upright = upright.swapaxes(0, 1)
    down = -1 if orientation in (3, 4, 6, 7) else 1
    right = -1 if orientation in (2, 3, 7, 8) else 1
    return upright[::down, ::right]


def upright(lying: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels as they lie in a file of this orientation, turned."""
    if orientation == 1:
        return lying
    height, width, channels = lying.shape
    canvas = upright_canvas(orientation, height, width, channels, lying.dtype)
    turned(canvas, orientation)[:] = lying
    return canvas


def split(channels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Colours (H, W, 1 or 3), which may be written to, and alpha (H, W), if there is one."""
    if channels.shape[2] % 2:
        return np.require(channels, requirements=["C", "W"]), None
    return np.require(channels[..., :-1], requirements=["C", "W"]), np.ascontiguousarray(channels[..., -1])


def reduced(pixels: np.ndarray, side: int) -> Image.Image:
    """A small picture (8 bits, RGB) of a photo, its longer side at most `side` pixels."""
    step = max(1, max(pixels.shape[:2]) // (4 * side))  # then little is lost, and little memory needed
    small = to_8_bits(pixels[::step, ::step])
    colours = np.broadcast_to(small, (*small.shape[:2], 3))
    image = Image.fromarray(np.ascontiguousarray(colours))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def to_8_bits(array: np.ndarray) -> np.ndarray:
    """Pixels of any type rounded to 8 bits, strip by strip; those of 8 bits as they are."""
    if array.dtype == np.uint8:
        return array
    result = np.empty(array.shape, np.uint8)
    for top in range(0, len(array), ROWS):
        strip = array[top : top + ROWS]
        result[top : top + ROWS] = (strip / 257 if array.dtype == np.uint16 else strip * 255).round()
    return result


def to_16_bits(array: np.ndarray, white: int | float) -> np.ndarray:
    """Pixels from 0 to `white` stretched to 16 bits, strip by strip."""
    result = np.empty(array.shape, np.uint16)
    for top in range(0, len(array), ROWS):
        result[top : top + ROWS] = (array[top : top + ROWS] * (65535 / white)).round()
    return result

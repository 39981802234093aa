"""A photo in memory: its upright pixels, and everything else in its file, as bytes."""

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
from PIL import Image

from cliplit.errors import CliplitError
from cliplit.files.images import to_8_bits


@dataclass
class Photo:
    """A photo as shown, upright, with everything else in its file.

    Attributes:
        pixels: (H, W, 3), or (H, W, 1) for grey, of uint8, uint16 or float32 in [0, 1], in the colours of `icc`.
        alpha: (H, W) of the same type, or None.
        further: (H, W, N) of the same type, samples of a TIFF that are neither; or None.
        kind: format of the source, such as JPEG.
        exif: a block, set upright and without thumbnail, otherwise byte for byte.
        icc: colour profile; empty for sRGB.
        xmp: set upright, otherwise byte for byte.
        iptc: Photoshop's image resources, including IPTC.
        own: data that only this format holds: JPEG's segments and comments, PNG's chunks, by name.
        options: how the source was stored: chroma subsampling, compression, resolution.
        notes: what could not be kept.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    further: np.ndarray | None = None
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
        """Colours, and alpha if there is one: (H, W, 1 to 4), contiguous in memory."""
        return np.ascontiguousarray(self.pixels) if self.alpha is None else np.dstack([self.pixels, self.alpha])


def extra(library: str) -> Any:
    """A library of the extra `photos`, imported now.

    Raises:
        CliplitError: it is not installed.
    """
    try:
        return import_module(library)
    except ImportError:
        raise CliplitError(f"this format needs {library}: pip install 'cliplit[photos]'") from None


def split(channels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Colours (H, W, 1 or 3), which are writable, and alpha (H, W), if there is one."""
    if channels.shape[2] % 2:
        return np.require(channels, requirements=["C", "W"]), None
    return np.require(channels[..., :-1], requirements=["C", "W"]), np.ascontiguousarray(channels[..., -1])


def fits(icc: bytes, channels: int) -> bool:
    """Whether a colour profile is whole, and made for RGB, which grey (1 channel) may have too, or for grey."""
    size = int.from_bytes(icc[:4], "big")
    whole = 128 <= size <= len(icc) and not icc[size:].strip(b"\0") and icc[36:40] == b"acsp"
    return whole and (icc[16:20] == b"RGB " or (channels == 1 and icc[16:20] == b"GRAY"))


def reduced(pixels: np.ndarray, side: int) -> Image.Image:
    """A small picture (8 bits, RGB) of a photo, its longer side at most `side` pixels."""
    step = max(1, max(pixels.shape[:2]) // (4 * side))  # loses little, and needs little memory
    small = to_8_bits(pixels[::step, ::step])
    colours = np.broadcast_to(small, (*small.shape[:2], 3))
    image = Image.fromarray(np.ascontiguousarray(colours))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image

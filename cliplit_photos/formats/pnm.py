"""PPM and PGM of more than 8 bits, which Pillow does not read in colour; those of 8 are left to it."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cliplit_photos.formats.photo import Photo, split, to_16_bits


def white_of(image: Image.Image) -> int:
    """The value of white of an opened PPM or PGM whose pixels are numbers of two bytes; 0 if it is another."""
    if image.format != "PPM" or not getattr(image, "tile", []):  # type: ignore[attr-defined]
        return 0
    decoder, _, _, arguments = image.tile[0]  # type: ignore[attr-defined]
    white = arguments[-1] if isinstance(arguments, tuple) else 65535 if "16" in str(arguments) else 0
    return white if decoder != "ppm_plain" and isinstance(white, int) and white > 255 else 0


def read_deep_pnm(path: Path, image: Image.Image, white: int) -> Photo:
    """Two bytes a value, from 0 to white, which may be less than 65535."""
    channels = 3 if image.mode == "RGB" else 1
    shape = (image.height, image.width, channels)
    offset = image.tile[0][2]  # type: ignore[attr-defined]
    values = np.fromfile(path, ">u2", int(np.prod(shape)), offset=offset)
    pixels = values.reshape(shape)  # raises if the file ends early
    return Photo(*split(to_16_bits(np.minimum(pixels, white), white)), kind="PPM")


def write_pnm(photo: Photo, path: Path) -> None:
    """Write a PPM, or a PGM of grey, of 8 or 16 bits."""
    height, width, channels = photo.pixels.shape
    deep = photo.pixels.dtype == np.uint16
    header = f"P{6 if channels == 3 else 5}\n{width} {height}\n{65535 if deep else 255}\n"
    pixels: Any = photo.pixels.astype(">u2") if deep else photo.pixels
    path.write_bytes(header.encode() + pixels.tobytes())

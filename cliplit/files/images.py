"""Image files decoded to arrays, opened defensively. Importing it does not import torch."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cliplit.errors import CliplitError

ORIENTATION = 0x0112  # EXIF tag; 5 to 8 lie on their side


def decode(path: str | Path) -> np.ndarray:
    """An image file as RGB (H, W, 3), upright, of 8 bits, or 16 if it has them; grey is repeated, transparency dropped.

    Raises:
        CliplitError: not an image, truncated, or too large to be honest; names the file.
    """
    with readable(path) as opened:
        image = ImageOps.exif_transpose(opened)
        image.load()
        if image.mode.startswith("I"):
            grey = np.asarray(image).clip(0, 65535).astype(np.uint16)
            return np.repeat(grey[..., None], 3, axis=-1)
        return np.array(image.convert("RGB"))


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height of an image as shown, from the header of its file.

    Raises:
        CliplitError: not an image.
    """
    with readable(path) as image:
        width, height = image.size
        return (height, width) if image.getexif().get(ORIENTATION, 1) >= 5 else (width, height)


def to_8_bits(array: np.ndarray) -> np.ndarray:
    """An image of 16 bits rounded to 8; others as they are."""
    return (array / 257).round().astype(np.uint8) if array.dtype == np.uint16 else array


def squared(array: np.ndarray, size: int) -> np.ndarray:
    """An image (H, W, 3) as a square of `size` pixels and 8 bits (Lanczos), as the released training resizes."""
    return np.array(Image.fromarray(to_8_bits(array)).resize((size, size), Image.Resampling.LANCZOS))


@contextlib.contextmanager
def readable(path: str | Path) -> Iterator[Image.Image]:
    """An opened image file.

    Raises:
        CliplitError: not an image, or whatever Pillow says of it while it is used; names the file.
    """
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError:
        raise CliplitError(f"{path}: no such file") from None
    except UnidentifiedImageError:
        raise CliplitError(f"{path}: not an image, or of an unknown kind") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CliplitError(f"{path}: cannot be read as an image ({error}); mend or remove the file") from None

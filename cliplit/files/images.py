"""Image files decoded to arrays. Importing it does not import torch."""

from pathlib import Path

import numpy as np
from PIL import Image

from cliplit.files.formats import MAX_PIXELS, photo_size, read_photo, to_8_bits

image_size = photo_size


def decode(path: str | Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """An image file as RGB (H, W, 3), upright, of uint8, uint16 or float32 in [0, 1]; grey is repeated, alpha dropped.

    Raises:
        CliplitError: not an image, truncated, or too large to be honest; names the file.
    """
    pixels = read_photo(path, max_pixels).pixels
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)


def squared(array: np.ndarray, size: int) -> np.ndarray:
    """An image (H, W, 3) as a square of `size` pixels and 8 bits (Lanczos), as the released training resizes."""
    return np.array(Image.fromarray(to_8_bits(array)).resize((size, size), Image.Resampling.LANCZOS))

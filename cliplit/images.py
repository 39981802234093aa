"""Images from and to files: opened defensively, as RGB in [0, 1]."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from cliplit.checks import CliplitError

EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm"}


def list_images(folder: str | Path) -> list[Path]:
    """Image files of a folder by extension, sorted by name.

    Raises:
        CliplitError: no such folder, or no images in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CliplitError(f"{folder}: no such folder")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS and path.is_file())
    if not found:
        raise CliplitError(f"{folder}: no images in this folder (looked for {', '.join(sorted(EXTENSIONS))})")
    return found


def open_image(path: str | Path) -> Image.Image:
    """Read an image as 8-bit RGB, upright; grey is repeated, transparency dropped, 16 bit scaled.

    Raises:
        CliplitError: not an image, truncated, or too large to be honest; names the file.
    """
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            image.load()
            if image.mode.startswith("I"):
                image = Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
            return image.convert("RGB")
    except FileNotFoundError:
        raise CliplitError(f"{path}: no such file") from None
    except UnidentifiedImageError:
        raise CliplitError(f"{path}: not an image, or of an unknown kind") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CliplitError(f"{path}: cannot be read as an image ({error}); mend or remove the file") from None


def resized_square(image: Image.Image, size: int) -> Image.Image:
    """An image as a square of `size` pixels (Lanczos), as the released training resizes."""
    return image.resize((size, size), Image.Resampling.LANCZOS)


def read_image(path: str | Path, size: int | None = None) -> Tensor:
    """Read an image as RGB (3, H, W) in [0, 1]; see `open_image`.

    Args:
        size: if given, resize to this square (Lanczos), as the released training does.
    Raises:
        CliplitError: not an image, truncated, or too large to be honest; names the file.
    """
    image = open_image(path)
    return to_tensor(np.array(resized_square(image, size) if size else image))


def read_readable(
    paths: Iterable[Path], skip_bad: bool, size: int | None = None
) -> tuple[dict[Path, Tensor], list[str]]:
    """Images by path, and one line for each that cannot be read.

    Raises:
        CliplitError: an image that cannot be read, unless `skip_bad`; or none that can.
    """
    images, problems = {}, []
    for path in paths:
        try:
            images[path] = read_image(path, size)
        except CliplitError as error:
            problems.append(str(error))
    if problems and not skip_bad:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise CliplitError(f"{problems[0]}{more}; --skip-bad leaves such images out")
    if not images:
        raise CliplitError(f"none of {len(problems)} images can be read; the first: {problems[0]}")
    return images, problems


def write_image(image: Tensor, path: str | Path) -> None:
    """Write an image (3, H, W) or (1, H, W) in [0, 1] as 8 bits, atomically; the format follows the extension."""
    path = Path(path)
    array = to_uint8(image)
    temporary = path.with_name(f".{path.name}.partial{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array).save(temporary)
    os.replace(temporary, path)


def to_uint8(image: Tensor) -> np.ndarray:
    """(..., C, H, W) in [0, 1] to (..., H, W, C) in 0 ... 255, rounded."""
    return (image.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).movedim(-3, -1).numpy()


def to_tensor(array: np.ndarray) -> Tensor:
    """(..., H, W, C) in 0 ... 255 to (..., C, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(array)).movedim(-1, -3).float() / 255

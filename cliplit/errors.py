"""Errors in one line, and the validators that every public function shares. Importing it does not import torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class CliplitError(ValueError):
    """Bad input or a missing file: the message is one line that says what is wrong and what to do."""


def one_line(error: BaseException) -> str:
    """What an error of a library says, in one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """The end of a message about an unknown name: "; did you mean 'psnr'?", or nothing if no valid one is like it."""
    by_letters = {word.lower(): word for word in valid}
    near = difflib.get_close_matches(name.lower(), by_letters, n=1)
    return f"; did you mean '{by_letters[near[0]]}'?" if near else ""


def check_images(images: Tensor) -> None:
    """Raise ValueError unless `images` is a floating-point tensor of shape (N, 3, H, W)."""
    from torch import Tensor

    if not isinstance(images, Tensor):
        raise ValueError(f"expected a tensor of images, got {type(images).__name__}")
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"expected images of shape (N, 3, H, W), got {tuple(images.shape)}")
    if not images.is_floating_point():
        raise ValueError(f"expected floating-point images in [0, 1], got {images.dtype}")


def check_same_shape(a: Tensor, b: Tensor) -> None:
    """Raise ValueError unless both tensors have the same shape."""
    if a.shape != b.shape:
        raise ValueError(f"expected two tensors of the same shape, got {tuple(a.shape)} and {tuple(b.shape)}")

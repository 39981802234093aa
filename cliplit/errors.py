"""Errors in one line, and the validators that every public function shares. Importing it does not import torch."""

from __future__ import annotations

import difflib
import traceback
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

CONTROL = ("Cc", "Cs", "Zl", "Zp")  # Unicode categories: control characters, surrogates, line and paragraph separators


class CliplitError(ValueError):
    """Bad input or a missing file: the message is one line that says what is wrong and what to do."""


def one_line(error: BaseException) -> str:
    """The text of a library's error, as one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextmanager
def told(what: str, hint: str = "") -> Iterator[None]:
    """Turn any error of a library into one line: what is wrong, the reason, and what to do."""
    try:
        yield
    except Exception as error:
        raise CliplitError(f"{what} ({one_line(error)}){hint and f'; {hint}'}") from None


def reason_of(error: Exception) -> str:
    """Why something failed, in one line; with the type of the error if its text alone may be unclear."""
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, (OSError, ValueError, RuntimeError)):
        return one_line(error)
    return " ".join(traceback.format_exception_only(error)[-1].split())[:200]


def printable(text: str) -> str:
    """A text with file names in it, as one line that can be printed anywhere: newlines, other control characters and
    invalid Unicode are escaped."""
    return "".join(
        letter.encode("unicode_escape").decode() if unicodedata.category(letter) in CONTROL else letter
        for letter in text
    )


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """The end of a message about an unknown name: "; did you mean 'psnr'?", or nothing if no valid name is similar."""
    by_letters = {word.lower(): word for word in valid}
    near = difflib.get_close_matches(name.lower(), by_letters, n=1)
    return f"; did you mean '{by_letters[near[0]]}'?" if near else ""


def shortened(items: Iterable[str], most: int = 3) -> str:
    """The first few items, and an ellipsis if there are more."""
    listed = list(items)
    more = " ..." if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def check_images(images: Tensor) -> None:
    """Raise ValueError unless `images` is a floating-point tensor of shape (N, 3, H, W)."""
    from torch import Tensor

    if not isinstance(images, Tensor):
        raise ValueError(f"expected a tensor of images, got {type(images).__name__}")
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"expected images of shape (N, 3, H, W), got {tuple(images.shape)}")
    if not images.is_floating_point():
        raise ValueError(f"expected floating-point images in [0, 1], got {images.dtype}")

"""The register of photo files as people have them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from field_files.checks import Right

LOSSY = 0.03  # of white, on the mean, that writing once more may cost
Made = tuple[bytes, Right]


@dataclass(frozen=True)
class Case:
    """A photo file: its name, what must hold of its result in words, and how it is made."""

    name: str
    holds: str
    make: Callable[[], Made]


CASES: dict[str, Case] = {}


def case(name: str, holds: str, *arguments: Any) -> Callable[[Callable[..., Made]], Callable[..., Made]]:
    """Register the maker of a file."""

    def register(make: Callable[..., Made]) -> Callable[..., Made]:
        assert name not in CASES, name
        CASES[name] = Case(name, holds, partial(make, *arguments))
        return make

    return register


def like(pixels: np.ndarray, **holds: Any) -> Right:
    """As the pixels, but for what a lossy format costs."""
    return Right(pixels, LOSSY, **holds)

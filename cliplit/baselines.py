"""Simple enhancement that needs no weights, to compare with: equalised and locally equalised brightness."""

import numpy as np
import torch
from skimage import color, exposure
from torch import Tensor

from cliplit.errors import CliplitError


def equalised(image: Tensor) -> Tensor:
    """Histogram equalisation of HSV's value, so that hues stay: (3, H, W) in [0, 1] to the same."""
    return _on_value(image, exposure.equalize_hist)


def clahe(image: Tensor) -> Tensor:
    """Contrast-limited adaptive histogram equalisation of HSV's value, with scikit-image's defaults."""
    return _on_value(image, exposure.equalize_adapthist)


BASELINES = {"histeq": equalised, "clahe": clahe}


def check_baselines(names: tuple[str, ...]) -> None:
    """Raise CliplitError for a name that is none of a baseline."""
    unknown = [name for name in names if name not in BASELINES]
    if unknown:
        raise CliplitError(f"unknown baseline '{unknown[0]}'; valid: {', '.join(BASELINES)}")


def _on_value(image: Tensor, equalise) -> Tensor:
    hsv = color.rgb2hsv(image.movedim(0, -1).numpy())
    hsv[..., 2] = equalise(hsv[..., 2])
    return torch.from_numpy(color.hsv2rgb(hsv).astype(np.float32)).movedim(-1, 0).clamp(0, 1).contiguous()

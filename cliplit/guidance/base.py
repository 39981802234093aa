"""Alias of cliplit.method.guidance.base for one version."""

import warnings

from cliplit.method.guidance.base import Guidance, Seen

__all__ = ["Guidance", "Seen"]
warnings.warn(
    "cliplit.guidance.base is cliplit.method.guidance.base from now on; the old name goes with the next version",
    FutureWarning,
    stacklevel=2,
)

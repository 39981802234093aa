"""Image quality metrics, from pyiqa; full-reference ones need the reference, no-reference ones do not."""

import os
from pathlib import Path

import torch
from torch import Tensor

from cliplit.backbone import reachable
from cliplit.checks import CliplitError

NO_WEIGHTS = {
    "entropy",
    "piqe",
    "psnr",
    "psnry",
    "ssim",
    "ms_ssim",
    "cw_ssim",
    "gmsd",
    "fsim",
    "vif",
    "vsi",
    "nlpd",
    "mad",
}
HUB = "https://huggingface.co"


def reference_needed(name: str) -> bool:
    """Whether a metric compares with a reference.

    Raises:
        CliplitError: a name that pyiqa does not know.
    """
    from pyiqa.default_model_configs import DEFAULT_CONFIGS

    if name not in DEFAULT_CONFIGS:
        raise CliplitError(f"metric '{name}' is not one of pyiqa's: {', '.join(sorted(DEFAULT_CONFIGS))}")
    return DEFAULT_CONFIGS[name]["metric_mode"] == "FR"


def why_unavailable(names: tuple[str, ...]) -> dict[str, str]:
    """Metrics that cannot be computed on this machine, with the reason.

    pyiqa downloads weights at first use; whether it can is found out once and quickly.

    Raises:
        CliplitError: a name that pyiqa does not know.
    """
    for name in names:
        reference_needed(name)
    cache = Path(torch.hub.get_dir()) / "pyiqa"
    doubtful = [name for name in names if name not in NO_WEIGHTS and not any(cache.glob(f"{name}*"))]
    if not doubtful or reachable(os.environ.get("HF_ENDPOINT", HUB)):
        return {}
    return {name: f"its weights are not in {cache} and the hub cannot be reached" for name in doubtful}


class Meter:
    """Several metrics with their models, loaded once."""

    def __init__(self, names: tuple[str, ...], device: torch.device | str = "cpu"):
        import pyiqa

        self.compares = {name: reference_needed(name) for name in names}
        self._metrics = {name: pyiqa.create_metric(name, device=device) for name in names}

    @torch.no_grad()
    def measure(self, image: Tensor, reference: Tensor | None) -> dict[str, float]:
        """Scores of an image (3, H, W) in [0, 1]; NaN where a reference is needed and missing."""
        scores = {}
        for name, metric in self._metrics.items():
            if not self.compares[name]:
                scores[name] = metric(image[None]).item()
            elif reference is None:
                scores[name] = float("nan")
            else:
                scores[name] = metric(image[None], reference[None]).item()
        return scores

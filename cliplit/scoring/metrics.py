"""All image quality metrics of pyiqa: their names, what they need, and how they are computed.

Only `Meter` imports pyiqa. Facts about metrics are read from pyiqa's tables, which is quick.
"""

import contextlib
import math
import runpy
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from typing import TYPE_CHECKING, Any

from cliplit.errors import CliplitError, did_you_mean, one_line
from cliplit.settings import amount, setting
from cliplit.values import check_values

if TYPE_CHECKING:
    import torch
    from torch import Tensor

GROUPS = {
    "paper": ("psnr", "ssim", "lpips", "musiq"),
    "fr": ("psnr", "ssim", "ms_ssim", "lpips", "dists", "fsim", "vif"),
    "nr": ("musiq", "niqe", "brisque", "piqe", "clipiqa", "entropy", "pi", "nima", "liqe", "maniqa", "topiq_nr"),
}
FAR = 10  # times the width of a metric's range
OF_SETS = ("fid", "sfid", "fid_dinov2", "inception_score")


@dataclass(frozen=True)
class Metric:
    """What pyiqa says about a metric: whether it needs a reference, whether lower is better, and its rough range."""

    name: str
    compares: bool
    lower_better: bool
    range: str

    @property
    def heading(self) -> str:
        """Name, direction and range, e.g. ``psnr ↑ (~0 ... ~40)``."""
        return f"{self.name} {'↓' if self.lower_better else '↑'} ({' ... '.join(self.range.split(', '))})"

    def gain(self, score: Any, other: Any) -> Any:
        """How much better a score is than another one; negative if it is worse. Also for arrays."""
        return other - score if self.lower_better else score - other

    @property
    def bounds(self) -> tuple[float, float]:
        """Limits of sensible scores: the range, widened on both sides by `FAR` times its width; infinite if it is open."""
        try:
            low, high = (float(end.strip("~")) for end in self.range.split(", "))
        except ValueError:  # an end is missing
            return -math.inf, math.inf
        return low - FAR * (high - low), high + FAR * (high - low)


@dataclass(frozen=True)
class Conventions:
    """Conventions that differ in the literature and change scores. Colours: rgb, luma (YIQ), ycbcr (16-235)."""

    psnr_colour: str = setting("rgb", "pyiqa", "", "all channels, or the luma alone", "rgb | luma | ycbcr")
    ssim_colour: str = setting(
        "luma", "pyiqa", "", "all channels (their mean), or the luma alone", "rgb | luma | ycbcr"
    )
    lpips_short_side: int = amount(0, "pyiqa", "pixels", "both images are resized to it before LPIPS; 0: no resizing")
    border: int = amount(0, "pyiqa", "pixels", "border cut off before metrics with a reference")


PRESETS = {
    # pyiqa's defaults.
    "cliplit": Conventions(),
    # pyiqa's defaults too: the authors released no metric script, and the paper only names the metrics.
    "clip-lit": Conventions(),
    # Grey images for PSNR and SSIM, short side 1024 for LPIPS. Corrected here: channels in RGB order (RAVE read BGR),
    # pairs by exact stem (it searched for substrings), and a constant data range in SSIM.
    "rave": Conventions(psnr_colour="luma", ssim_colour="luma", lpips_short_side=1024),
}
COLOURS: dict[str, dict[str, Any]] = {
    "rgb": {"test_y_channel": False},
    "luma": {"test_y_channel": True, "color_space": "yiq"},
    "ycbcr": {"test_y_channel": True, "color_space": "ycbcr"},
}


@cache
def catalogue() -> dict[str, Metric]:
    """All metrics of pyiqa that score single images, by name."""
    table = distribution("pyiqa").locate_file("pyiqa/default_model_configs.py")  # importing pyiqa takes seconds
    return {
        name: Metric(name, entry["metric_mode"] == "FR", bool(entry.get("lower_better")), entry["score_range"])
        for name, entry in runpy.run_path(str(table))["DEFAULT_CONFIGS"].items()
        if name not in OF_SETS
    }


def choose(names: str | Iterable[str]) -> tuple[str, ...]:
    """Metrics by name or group (`paper`, `fr`, `nr`), as a comma-separated text or one by one; each once.

    Raises CliplitError for a name that pyiqa does not know, or a metric of whole folders.
    """
    words = [word.strip() for word in (names.split(",") if isinstance(names, str) else names)]
    chosen = [name for word in words if word for name in GROUPS.get(word, (word,))]
    if not chosen:
        raise CliplitError("no metric given; `cliplit metrics` lists them")
    for name in chosen:
        if name in OF_SETS:
            raise CliplitError(f"metric '{name}' compares whole folders, not images; use pyiqa {name} -t DIR -r DIR")
        if name not in catalogue():
            near = did_you_mean(name, [*catalogue(), *GROUPS])
            raise CliplitError(f"unknown metric '{name}'; `cliplit metrics` lists those of pyiqa{near}")
    return tuple(dict.fromkeys(chosen))


def sensible(name: str, score: float | None) -> float | str:
    """A score, or the reason why it is invalid: not finite, or far outside the range of its metric."""
    if score is None or not math.isfinite(score):
        return f"{name} gives {score}, which is not a score"
    metric = catalogue()[name]
    low, high = metric.bounds
    if not low <= score <= high:
        return f"{name} gives {score:g}, far outside its range ({metric.range})"
    return score + 0.0  # no -0.0


class Meter:
    """Several metrics with their models, loaded once.

    Attributes:
        failed: metrics that could not be built, with the reason.
    """

    def __init__(
        self, names: Iterable[str], conventions: Conventions = Conventions(), device: "torch.device | str" = "cpu"
    ):
        import pyiqa

        self.conventions = conventions
        self.failed: dict[str, str] = {}
        self._models: dict[str, torch.nn.Module] = {}
        for name in names:
            try:
                colour = COLOURS.get(getattr(conventions, f"{name}_colour", ""), {})
                with contextlib.redirect_stdout(sys.stderr):  # pyiqa prints to stdout, where tables go
                    self._models[name] = pyiqa.create_metric(name, device=device, **colour)
            except Exception as error:  # libraries behind pyiqa raise every kind
                self.failed[name] = f"cannot be built ({type(error).__name__}: {one_line(error)})"

    def measure(self, name: str, images: "Tensor", references: "Tensor | None" = None) -> list[float]:
        """Scores of images (N, 3, H, W) in [0, 1] against references of the same shape, if the metric needs them.

        Random draws inside a metric are the same at every call. Raises CliplitError if the metric refuses these images
        (most need a minimum size), or if references are missing.
        """
        import numpy as np
        import torch
        import torch.nn.functional as F

        inputs = [images]
        if catalogue()[name].compares:
            if references is None:
                raise CliplitError(f"{name} compares images with references, but there are none")
            inputs.append(references)
            if cut := self.conventions.border:
                inputs = [group[..., cut:-cut, cut:-cut] for group in inputs]
            if name.startswith("lpips") and self.conventions.lpips_short_side:
                sides = inputs[0].shape[-2:]
                size = [round(side * (self.conventions.lpips_short_side / min(sides))) for side in sides]
                inputs = [F.interpolate(group, size, mode="bilinear", antialias=True).clamp(0, 1) for group in inputs]
        state = np.random.get_state()
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                torch.manual_seed(0)
                np.random.seed(0)
                scores = self._models[name](*inputs).flatten().tolist()
            if len(scores) != len(images):
                raise ValueError(f"{len(scores)} scores of {len(images)} images")
            return scores
        except Exception as error:  # metrics raise assertions, runtime and value errors
            height, width = images.shape[-2:]
            raise CliplitError(f"{name} refuses images of {width}x{height} pixels ({one_line(error)})") from None
        finally:
            np.random.set_state(state)


def conventions_of(given: str | Conventions) -> Conventions:
    """Conventions by the name of a preset, or given ones. Raises CliplitError if the preset or a value is not valid."""
    if isinstance(given, str):
        if given not in PRESETS:
            raise CliplitError(f"unknown preset '{given}'; valid: {', '.join(PRESETS)}{did_you_mean(given, PRESETS)}")
        return PRESETS[given]
    return check_values(given)

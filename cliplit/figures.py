"""Figures of a run. Each function saves <run>/figures/NN_name.png, NN being the notebook's number, and returns it.

A returned `Picture` shows itself in a notebook as exactly the bytes that were saved; they hold no dates and no
versions. Images of a run are always the first ones, not picked ones, unless `images` says otherwise.
"""

import io
import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from cliplit import analysis
from cliplit.analysis import BACKLIT, WELL_LIT
from cliplit.checkpoints import load_enhancer
from cliplit.data import TestImage, test_images, training_images
from cliplit.enhancer import Enhancer
from cliplit.evaluation import best_gamma, enhance_rounded, enhanced_tests, evaluate
from cliplit.images import to_uint8
from cliplit.metrics import reference_needed
from cliplit.runs import Run

WIDTH, DPI = 8.0, 150  # inches and dots per inch: 1200 pixels wide
MOST_COLUMNS, MOST_PANELS = 8, 4  # of stages and rounds; longer runs show evenly spaced ones

# Okabe and Ito's colour-blind-safe palette: dark blue is backlit, orange is well-lit, greens are results.
INK, QUIET, GRID = "#222222", "#6f6f6f", "#e6e6e6"
DARK, LIGHT, RESULT, WRONG, NEUTRAL = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#9a9a9a"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#b0b0b0",
    "axes.linewidth": 0.6,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "legend.handlelength": 1.4,
    "lines.linewidth": 1.5,
}


class Picture(Figure):
    """A figure that shows itself in a notebook as the PNG that was saved, at 3/4 of its pixels."""

    png = b""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        width, height = Image.open(io.BytesIO(self.png)).size
        return self.png, {"width": width * 3 // 4, "height": height * 3 // 4}


def saved(name: str, colours: int = 0) -> Callable:
    """Decorator: draw in the style of this file and save as <run>/figures/<name>.png.

    Args:
        name: may hold {stage}, the second argument of the function.
        colours: palette of the file, for pictures that hold photos; 0 keeps all colours.
    """

    def decorate(draw: Callable[..., Picture]) -> Callable[..., Picture]:
        @wraps(draw)
        def wrapper(run: Run, *args, **kwargs) -> Picture:
            with mpl.rc_context({**mpl.rcParamsDefault, **STYLE, "backend": mpl.rcParams._get("backend")}):
                picture = draw(run, *args, **kwargs)
                picture.png = _png(picture, colours)
            stage = args[0] if args else kwargs.get("stage", "")
            _write(picture.png, run.path / "figures" / f"{name.format(stage=stage)}.png")
            return picture

        return wrapper

    return decorate

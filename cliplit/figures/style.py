"""The style of all figures, and how they are saved: sizes, colours, grids of images, notes."""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path

import IPython.display
import matplotlib as mpl
import matplotlib.style
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from PIL import Image
from torch import Tensor

from cliplit.experiments.analysis import BACKLIT, WELL_LIT
from cliplit.files.atomic import writing
from cliplit.files.tensors import to_uint8
from cliplit.method.run import Run
from cliplit.scoring.metrics import catalogue

Colour = str | tuple[float, ...]  # as matplotlib takes it

WIDTH = 8.0  # inches
DPI = 150  # pictures are 1200 pixels wide
HIGH = 16  # points, padding of titles above a line of notes
LARGEST = 1.6  # inches, largest side of an image in a grid
SCORE = "P(backlit)"  # axis label of scores
UNIT = {"ylim": (-0.03, 1.03), "yticks": (0, 0.25, 0.5, 0.75, 1)}  # axis of a probability
FILES = {  # JPEG without colour subsampling, for labels and fine detail; PNG without version numbers
    ".jpg": {"pil_kwargs": {"quality": 82, "subsampling": 0}},
    ".png": {"metadata": {"Software": None}},
}
MOST = 6  # rounds that a figure shows; of more rounds it shows evenly spaced ones, including the last

# Okabe and Ito's palette for colour-blind readers: blue is backlit, orange well-lit, green a result.
INK = "#222222"
QUIET = "#6f6f6f"
DARK = "#0072B2"
LIGHT = "#E69F00"
GREEN = "#00795a"
WRONG = "#D55E00"
NEUTRAL = "#707070"
RESULTS = ("#7fd1b9", "#00503a")  # first and last network
FIXED = {
    "input": DARK,
    BACKLIT: DARK,
    WELL_LIT: LIGHT,
    "gamma": NEUTRAL,
    "histeq": "#8c7aa9",
    "clahe": "#b39c4d",
    "warmup": "#a9a9a9",
    "random-clip": WRONG,
    "longer": "#c98a4b",
}
OTHERS = ("#56B4E9", "#CC79A7", "#F0E442", "#333333")  # networks and results of other methods
STYLE = ["default", str(Path(__file__).with_name("cliplit.mplstyle"))]  # ignores the user's matplotlibrc


class Picture(IPython.display.Image):
    """A figure and its file. A notebook shows exactly this file, at 3/4 of its size."""

    def __init__(self, path: Path, figure: Figure):
        with Image.open(path) as image:
            width, height = (side * 3 // 4 for side in image.size)
        super().__init__(filename=str(path), width=width, height=height)
        self.path, self.figure = path, figure

    def __repr__(self) -> str:
        return f"Picture({self.path.name})"


def saved(name: str | Callable[..., str]) -> Callable:
    """Decorator: draw in our style and save as <run>/figures/<name>. A function makes the name from the arguments."""

    def decorate(draw: Callable[..., Figure]) -> Callable[..., Picture]:
        @wraps(draw)
        def draw_and_save(run: Run, *args, **options) -> Picture:
            path = run.path / "figures" / (name if isinstance(name, str) else name(*args))
            with mpl.style.context(STYLE):
                figure = draw(run, *args, **options)
                with writing(path) as temporary:
                    figure.savefig(temporary, format=path.suffix[1:], dpi=DPI, facecolor="white", **FILES[path.suffix])
            return Picture(path, figure)

        return draw_and_save

    return decorate


def panels(height: float, columns: int = 1) -> tuple[Figure, Sequence[Axes]]:
    """A figure of this height in inches, and its axes side by side."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def mosaic(
    rows: Sequence[list[Tensor]],
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    scale: ScalarMappable | None = None,
) -> Figure:
    """A grid of images (3, H, W) in cells of the first one's shape; with a scale, a colour bar for the second row."""
    gap = 8  # pixels, like all sizes here
    left = 30 if row_labels else 0
    head = 30 if column_labels else 0
    right = 82 if scale else 0
    count = max(map(len, rows))
    aspect = rows[0][0].shape[-2] / rows[0][0].shape[-1]
    cell = min((WIDTH * DPI - left - right - gap * (count - 1)) // count, LARGEST * DPI)
    tall = round(cell * min(max(aspect, 0.5), 1.5))
    width = left + count * (cell + gap) - gap + right
    height = head + len(rows) * (tall + gap) - gap
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    for r, row in enumerate(rows):
        y = height - head - r * (tall + gap) - tall
        for c, image in enumerate(row):
            axes = figure.add_axes(((left + c * (cell + gap)) / width, y / height, cell / width, tall / height))
            axes.imshow(resized(image, cell, tall), interpolation="nearest")
            axes.axis("off")
        if row_labels:
            figure.text(8 / width, (y + tall / 2) / height, row_labels[r], rotation=90, va="center", ha="left")
        if scale and r == 1:
            bar = figure.add_axes((1 - 70.5 / width, y / height, 16.5 / width, tall / height))
            figure.colorbar(scale, cax=bar).outline.set_visible(False)
            bar.tick_params(labelsize=7)
    for c, label in enumerate(column_labels):
        figure.text((left + c * (cell + gap) + cell / 2) / width, 1 - 4 / height, label, ha="center", va="top")
    return figure


@saved(lambda name, *_: name)
def look(run: Run, name: str, rows: Sequence[Iterable[Tensor]], **labels: Sequence[str]) -> Figure:
    """A grid of images for a notebook, saved under this name. `labels` as in `mosaic`."""
    return mosaic([[*row] for row in rows], **labels)


def painted(scale: ScalarMappable, values: Tensor, image: Tensor) -> Tensor:
    """A map (h, w) in the colours of a scale, at the size of its image (3, H, W)."""
    colours = torch.from_numpy(scale.to_rgba(values.numpy())[..., :3]).movedim(-1, 0).float()
    return F.interpolate(colours[None], image.shape[-2:], mode="bilinear")[0]


def score_range(scores: Iterable[Tensor]) -> tuple[float, float]:
    """0 and 1 if all scores are probabilities, or else their minimum and maximum."""
    low, high = torch.cat([values.flatten() for values in scores]).aminmax()
    return (0, 1) if low >= 0 and high <= 1 else (low.item(), high.item())


def resized(image: Tensor, width: float, height: float) -> np.ndarray:
    """The image (3, H, W) resized to fit into width x height, 8 bits."""
    scale = min(width / image.shape[-1], height / image.shape[-2])
    size = round(image.shape[-1] * scale), round(image.shape[-2] * scale)
    return np.asarray(Image.fromarray(to_uint8(image)).resize(size, Image.Resampling.LANCZOS))


def note(axes: Axes, text: str, at: tuple[float, float], coordinates: str | tuple[str, str], side: str) -> Annotation:
    """A small text two points above a place, aligned by `side`. Coordinates as in `Axes.annotate`."""
    shift = ({"left": 2, "center": 0, "right": -2}[side], 2)
    return axes.annotate(text, at, shift, coordinates, "offset points", fontsize=7, color=QUIET, ha=side, va="bottom")


def curve(axes: Axes, x: pd.Series, y: pd.Series, colour: Colour, label: str | None = None) -> None:
    """Plot a running mean, with the raw values faint behind it."""
    axes.plot(x, y, color=colour, linewidth=0.6, alpha=0.3)
    axes.plot(x, running_mean(y), color=colour, label=label, marker="o" if len(x) == 1 else "")


def running_mean(y: pd.Series) -> pd.Series:
    """The running mean over the last twentieth of all values."""
    return y.rolling(max(1, len(y) // 20), min_periods=1).mean()


def colour_of(label: str) -> Colour:
    """Colour of a kind of image or stage. Later rounds are darker."""
    if label in FIXED:
        return FIXED[label]
    if label != "initial" and not re.fullmatch(r"round\d+", label):
        return OTHERS[sum(label.encode()) % len(OTHERS)]
    k = 0 if label == "initial" else int(label.removeprefix("round"))
    first, last = (np.array(mpl.colors.to_rgb(colour)) for colour in RESULTS)
    return tuple(last + (first - last) * 0.6**k)


def darker(colour: Colour) -> tuple[float, ...]:
    return tuple(0.7 * value for value in mpl.colors.to_rgb(colour))


def metric_name(name: str) -> str:
    """A metric with its unit, and an arrow in the direction of better scores."""
    return f"{'PSNR, dB' if name == 'psnr' else name.upper()} {'↓' if catalogue()[name].lower_better else '↑'}"


def evenly(items: list, most: int) -> list:
    """Up to `most` items in order, evenly spaced, including the first and the last."""
    return [items[round(n)] for n in np.linspace(0, len(items) - 1, min(most, len(items)))]

"""A run at work, from what its stages have written so far: a table, curves and the latest panel of images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from cliplit.engine.record import COLUMNS as SPEED_COLUMNS
from cliplit.engine.record import watch_folder
from cliplit.engine.stages import owner
from cliplit.figures.style import DARK, DPI, GREEN, INK, LIGHT, QUIET, STYLE, WIDTH, WRONG, Picture, save
from cliplit.method.run import Run

COLOURS = (INK, GREEN, DARK, LIGHT, WRONG, QUIET)
HIDDEN = ("iteration", "learning_rate", "gradient_norm")  # of a log, in the plot of terms


@dataclass(frozen=True)
class StageProgress:
    """How far a stage is."""

    name: str
    state: str  # finished, at work, interrupted or to come
    log: pd.DataFrame
    speed: pd.DataFrame

    @property
    def seconds_left(self) -> float | None:
        """Until its end, at its speed so far."""
        if self.state != "at work" or len(self.speed) < 2:
            return None
        first = self.speed.iloc[-2]
        last = self.speed.iloc[-1]
        pace = (last["done"] - first["done"]) / (last["seconds"] - first["seconds"])
        return (last["planned"] - last["done"]) / pace if pace > 0 else None

    def row(self) -> list[str]:
        """Of the table: name, state, iterations, loss, images per second, memory, time left."""
        if self.log.empty:
            return [self.name, self.state, "", "", "", "", ""]
        planned = int(self.speed["planned"].iloc[-1]) if len(self.speed) else len(self.log)
        numbers = [f"{len(self.log)}/{planned}", f"{self.log['loss'].iloc[-1]:.4g}"]
        speed = [f"{self.speed[name].iloc[-1]:g}" if len(self.speed) else "" for name in SPEED]
        left = self.seconds_left
        return [self.name, self.state, *numbers, *speed, "" if left is None else f"{left / 60:.1f} min"]


SPEED = ("images_per_second", "memory_mb")
HEADER = ["stage", "", "iterations", "loss", "images/s", "MB", "left"]


def progress(run: Run) -> list[StageProgress]:
    """Every stage of a run; within `control`, that of the run with random CLIP weights which is at work."""
    current = run.current()
    busy = owner(run.path) is not None
    stages = []
    for name in run.plan:
        folder = run.path / name
        begun = (folder / "building.json").is_file()
        state = "finished" if name in current else ("at work" if busy else "interrupted") if begun else "to come"
        logs = [
            _read(folder / "log.csv", "iteration", "loss"),
            _read(watch_folder(folder) / "speed.csv", *SPEED_COLUMNS),
        ]
        if state == "to come":
            logs = [pd.DataFrame(), pd.DataFrame()]
        stages.append(StageProgress(name, state, *logs))
        if name == "control" and begun and (folder / "run" / "manifest.json").is_file():
            within = progress(Run.open(folder / "run"))
            stages += [
                StageProgress(f"control: {w.name}", w.state, w.log, w.speed) for w in within if w.state == "at work"
            ]
    return stages


def is_finished(run: Run) -> bool:
    return run.current() == list(run.plan)


def picture(run: Run) -> Picture:
    """Curves and latest panel of a run at work, as <run>/watch/watch.png; a notebook shows it."""
    path = run.path / "watch" / "watch.png"
    with mpl.rc_context(STYLE):
        figure = _draw(run)
        save(figure, path)
    return Picture(path, figure)


def latest_panel(run: Run) -> Path | None:
    """The panel written last."""
    panels = list((run.path / "watch").glob("*/panel_*.jpg"))
    return max(panels, key=lambda path: path.stat().st_mtime_ns) if panels else None


def _draw(run: Run) -> Figure:
    stages = [stage for stage in progress(run) if len(stage.log) and not stage.name.startswith("control")]
    panel = latest_panel(run)
    pixels = np.asarray(Image.open(panel)) if panel else None
    height = WIDTH * pixels.shape[0] / pixels.shape[1] if panel else 0.0
    figure = Figure(figsize=(WIDTH, 2.4 + height), dpi=DPI, layout="constrained")
    grid = figure.add_gridspec(2 if panel else 1, 3, height_ratios=[2.4, height] if panel else None)
    network, prompts, terms = (figure.add_subplot(grid[0, n]) for n in range(3))
    _losses(network, [stage for stage in stages if not stage.name.startswith("prompts")], "Network: loss")
    _losses(prompts, [stage for stage in stages if stage.name.startswith("prompts")], "Prompts: loss")
    if stages:
        _terms(terms, next((stage for stage in stages if stage.state != "finished"), stages[-1]))
    if panel:
        axes = figure.add_subplot(grid[1, :])
        axes.imshow(pixels)
        axes.set_axis_off()
        axes.set_title(f"{panel.parent.name}, after {int(panel.stem.split('_')[1])} iterations")
    return figure


def _losses(axes: Axes, stages: list[StageProgress], title: str) -> None:
    """One after the other, a thin line between them."""
    start = 0
    total = sum(len(stage.log) for stage in stages)
    for n, stage in enumerate(stages):
        if n:
            axes.axvline(start, color=QUIET, linewidth=0.5)
        axes.plot(start + stage.log["iteration"], stage.log["loss"], color=DARK if n % 2 else GREEN)
        if len(stage.log) > total / 5:  # else the name does not fit
            place: dict[str, Any] = {
                "xycoords": ("data", "axes fraction"),
                "va": "bottom",
                "fontsize": 6,
                "color": QUIET,
            }
            axes.annotate(stage.name, (start, 1), **place)
        start += len(stage.log)
    axes.set_title(title, pad=14)
    axes.set(xlabel="iteration", yscale="log")


def _terms(axes: Axes, stage: StageProgress) -> None:
    for name, colour in zip((name for name in stage.log if name not in (*HIDDEN, "loss")), COLOURS, strict=False):
        axes.plot(stage.log["iteration"], stage.log[name], color=colour, label=name)
    axes.set_title(f"{stage.name}: terms", pad=14)
    axes.set(xlabel="iteration", yscale="log")
    axes.legend()


def _read(path: Path, *columns: str) -> pd.DataFrame:
    """Rows that a stage has logged; none if it was interrupted before, or its file is damaged."""
    try:
        found = pd.read_csv(path)
    except (OSError, ValueError):
        return pd.DataFrame()
    return found if {*columns} <= {*found} else pd.DataFrame()

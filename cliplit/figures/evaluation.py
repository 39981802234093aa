"""Figures of notebook 04: scores of all stages and methods on the test images. `scores` is the table of `evaluate`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cliplit.experiments.analysis import stage_name
from cliplit.figures import style
from cliplit.figures.runs import beside_tests, strip
from cliplit.figures.style import saved
from cliplit.method.run import Run
from cliplit.scoring.metrics import catalogue


@saved("04_comparison.jpg")
def comparison_strip(run: Run, scores: pd.DataFrame, images: Sequence[int] = range(3)) -> Figure:
    """The same test images by every method: input, simple baselines, networks, control, other methods, reference."""
    rounds = range(run.settings.refinement.rounds + 1)
    left_out = {"input", "warmup"} | {stage_name(k) for k in set(rounds) - set(style.evenly(list(rounds), 3))}
    shown = {stage: (run, stage) for stage in scores["stage"].unique() if stage not in left_out}
    return strip(run, images, shown)


@saved("04_quality.png")
def quality(run: Run, scores: pd.DataFrame) -> Figure:
    """Two metrics of every test image in every stage, and how the last network changes them for each image."""
    every = [name for name in scores if name not in ("stage", "image")]
    metrics = ([name for name in every if scores[name].notna().any()] or every)[:2]
    last = stage_name(run.settings.refinement.rounds)
    figure, panels = style.panels(2.9, len(metrics) + 1)
    for axes, metric in zip(panels, metrics, strict=False):
        _stage_points(axes, scores, metric)
    wide = scores.pivot(index="image", columns="stage", values=metrics[0])
    metric = catalogue()[metrics[0]]
    change = (wide[last] - wide["input"]).dropna().sort_values(ascending=metric.lower_better)
    better = metric.gain(change, 0) > 0
    colours = [style.colour_of(last) if good else style.WRONG for good in better]
    bars = panels[-1]
    bars.bar(range(len(change)), change, width=0.85, color=colours)
    bars.axhline(0, color=style.INK, linewidth=0.8)
    bars.set(title=f"{style.metric_name(metrics[0])}: {last} minus input", xticks=[])
    bars.set_xlabel(f"test images, sorted: better in {better.sum()} of {len(change)}")
    bars.grid(False, axis="x")
    return figure


def _stage_points(axes: Axes, scores: pd.DataFrame, metric: str) -> None:
    stages = list(scores["stage"].unique())
    rounds = [stage for stage in stages if stage.startswith("round")]
    shown = [stage for stage in stages if stage not in rounds or stage in style.evenly(rounds, style.MOST)]
    for place, stage in enumerate(shown):
        values = scores.loc[scores["stage"] == stage, metric].dropna()
        jitter = (np.arange(len(values)) * 0.618 % 1 - 0.5) * 0.55
        colour = style.colour_of(stage)
        axes.plot(place + jitter, values, "o", color=colour, markersize=2.6, markeredgewidth=0, alpha=0.45)
        ends = (place - 0.36, place + 0.36)
        axes.hlines(values.mean(), *ends, color=style.darker(colour), linewidth=2.2, zorder=3)
    start = scores.loc[scores["stage"] == "input", metric].mean()
    axes.axhline(start, color=style.DARK, linewidth=0.8, linestyle=(0, (3, 2)), zorder=1)
    axes.set_xticks(range(len(shown)), shown, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_title(style.metric_name(metric))
    axes.grid(False, axis="x")


@saved("hero.jpg")
def hero(run: Run, images: Sequence[int] = range(5)) -> Figure:
    """The figure of the README: test images, their results by the last network, and references."""
    last = stage_name(run.settings.refinement.rounds)
    rows = beside_tests(run, images, {"result": (run, last)})
    return style.mosaic([*rows.values()], row_labels=["backlit input", *list(rows)[1:]])

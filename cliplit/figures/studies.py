"""Figures of the studies: scores of variants, progress of guidances, and score maps."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from cliplit.experiments.analysis import score_map, stage_name
from cliplit.experiments.studies import Outcome
from cliplit.experiments.tables import stages_table
from cliplit.figures import style
from cliplit.figures.runs import beside_tests, strip
from cliplit.figures.style import saved
from cliplit.method.run import Run
from cliplit.method.training import guidance_of
from cliplit.scoring.summary import score_columns

LINES = (style.GREEN, style.LIGHT, style.DARK, style.OTHERS[1], style.NEUTRAL, style.OTHERS[0], style.WRONG)


@saved(lambda outcome: f"{outcome.study.name}.png")
def variants(run: Run, outcome: Outcome) -> Figure:
    """Mean and single seeds of every variant (bar: standard deviation over seeds; dashed line: the input)."""
    table = outcome.table.set_index("variant")
    metrics = score_columns(table)[:2]
    labels = list(outcome.stages)
    seeds = {
        label: [stages_table([cell]).set_index("stage").loc[variant.stage_of(cell)] for cell in outcome.cells[label]]
        for label, variant in outcome.study.variants.items()
    }
    figure, panels = style.panels(0.8 + 0.27 * len(labels), len(metrics))
    for n, (axes, metric) in enumerate(zip(panels, metrics, strict=True)):
        spread = table.get(f"{metric}_seed_std", pd.Series(0.0, table.index)).fillna(0)
        for place, label in enumerate(labels):
            mean = table.loc[label, metric]
            colour = style.GREEN if place == 0 else style.DARK
            axes.hlines(place, mean - spread[label], mean + spread[label], color=colour, linewidth=2, alpha=0.5)
            means = [seed.get(metric) for seed in seeds[label]]
            axes.plot(means, [place] * len(means), "|", color=colour, markersize=8, markeredgewidth=1.2)
            axes.plot(mean, place, "o", color=colour, markersize=5.5, zorder=3)
        axes.axvline(table.loc["input", metric], color=style.INK, linewidth=0.8, linestyle=(0, (3, 2)))
        axes.set_yticks(range(len(labels)), labels if n == 0 else [])
        axes.set(ylim=(len(labels) - 0.5, -0.5), title=style.metric_name(metric))
        axes.grid(False, axis="y")
    return figure


@saved("06_progress.png")
def guidance_progress(run: Run, outcome: Outcome) -> Figure:
    """The first metric over network iterations (band: standard deviation over seeds)."""
    metric = outcome.metric
    figure, (axes,) = style.panels(3.0)
    for (label, rows), colour in zip(outcome.course.groupby("variant", sort=False), LINES, strict=False):
        x, y, spread = rows["iterations"], rows[metric], rows["std"].fillna(0)
        axes.fill_between(x, y - spread, y + spread, color=colour, alpha=0.12, linewidth=0)
        axes.plot(x, y, "o-", color=colour, markersize=4, label=label)
    axes.set(xlabel="iterations of the network, after the warm-up")
    axes.set_title(f"{style.metric_name(metric)} on the test images")
    figure.legend(loc="outside right upper")
    return figure


@saved("06_results.jpg")
def guidance_results(run: Run, outcome: Outcome, images: Sequence[int] = range(4)) -> Figure:
    """The same test images by every variant, with its first seed and last stage."""
    cells = {label: cells[0] for label, cells in outcome.cells.items()}
    shown = {label: (cell, stage_name(cell.settings.refinement.rounds)) for label, cell in cells.items()}
    return strip(next(iter(cells.values())), images, shown)


@saved("05_score_maps.jpg")
def score_maps(run: Run, images: Sequence[int] = range(6)) -> Figure:
    """P(backlit) of crops, drawn over test images and their results, by the last prompts."""
    last = run.settings.refinement.rounds
    guidance = guidance_of(run, last)
    inputs, enhanced, *_ = beside_tests(run, images, {"result": (run, stage_name(last))}).values()
    maps = [[score_map(guidance, image) for image in row] for row in (inputs, enhanced)]
    scale = ScalarMappable(Normalize(*style.score_range(values for row in maps for values in row)), "cividis_r")
    rows = []
    for row, values in zip((inputs, enhanced), maps, strict=True):
        rows += [row, [style.painted(scale, *each) for each in zip(values, row, strict=True)]]
    return style.mosaic(rows, row_labels=["input", style.SCORE, "result", style.SCORE], scale=scale)

"""Figures of a run. Each function saves <run>/figures/NN_name, NN being the notebook's number, and returns a Picture.

Charts are PNG, grids of photos JPEG; neither holds dates or versions. Images are always the first ones of the run,
not picked ones, unless `images` says otherwise.
"""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from cliplit.data.relight import SEVERITIES
from cliplit.data.synthesize import relight_photo
from cliplit.engine.compute import find_device
from cliplit.errors import CliplitError
from cliplit.experiments import analysis
from cliplit.experiments.analysis import BACKLIT, WELL_LIT, stage_name, training_log
from cliplit.experiments.evaluation import enhance_rounded, enhanced_tests, evaluate
from cliplit.experiments.tables import differences_table
from cliplit.files.tensors import to_uint8
from cliplit.method.enhancer import divide
from cliplit.method.guidance.registry import is_refined
from cliplit.method.run import Run
from cliplit.method.run_images import TestImage, test_images, training_images
from cliplit.method.training import network_of
from cliplit.scoring.metrics import catalogue

WIDTH, DPI = 8.0, 150  # inches, and dots per inch: 1200 pixels wide
HIGH = 16  # points: pad of titles above a line of notes
LARGEST = 1.6  # inches: side of an image in a grid
SCORE = "P(backlit)"  # name of a score on axes
UNIT = {"ylim": (-0.03, 1.03), "yticks": (0, 0.25, 0.5, 0.75, 1)}  # axis of a probability
JPEG = {"quality": 90, "subsampling": 0}  # whole colours, for labels and fine detail
MOST = 6  # rounds that a figure shows; longer runs show evenly spaced ones, the last one included

# Okabe and Ito's palette, which colour-blind readers can tell apart: blue is backlit, orange well-lit, green a result.
INK, QUIET, GRID = "#222222", "#6f6f6f", "#e8e8e8"
DARK, LIGHT, GREEN, WRONG, NEUTRAL = "#0072B2", "#E69F00", "#00795a", "#D55E00", "#707070"
RESULTS = ("#7fd1b9", "#00503a")  # first and last network
FIXED = {"input": DARK, BACKLIT: DARK, WELL_LIT: LIGHT, "gamma": NEUTRAL, "warmup": "#a9a9a9", "random-clip": WRONG}
FIXED |= {"histeq": "#8c7aa9", "clahe": "#b39c4d"}
OTHERS = ("#56B4E9", "#CC79A7", "#F0E442", "#333333")  # networks and results given by path
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
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "legend.handlelength": 1.2,
    "lines.linewidth": 1.5,
}


@dataclass(frozen=True)
class Picture:
    """A figure and its file; a notebook shows the very bytes of the file, at 3/4 of its pixels."""

    path: Path
    figure: Figure

    def __repr__(self) -> str:
        return f"Picture({self.path.name})"

    def _repr_png_(self) -> tuple[bytes, dict[str, int]] | None:
        return self._shown() if self.path.suffix == ".png" else None

    def _repr_jpeg_(self) -> tuple[bytes, dict[str, int]] | None:
        return self._shown() if self.path.suffix == ".jpg" else None

    def _shown(self) -> tuple[bytes, dict[str, int]]:
        with Image.open(self.path) as image:
            size = {"width": image.width * 3 // 4, "height": image.height * 3 // 4}
        return self.path.read_bytes(), size


def saved(name: str) -> Callable:
    """Decorator: draw in this file's style and save as <run>/figures/<name>; `{0}` is the argument after the run."""

    def decorate(draw: Callable[..., Figure]) -> Callable[..., Picture]:
        @wraps(draw)
        def draw_and_save(run: Run, *args, **options) -> Picture:
            path = run.path / "figures" / name.format(*args)
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".partial.{path.name}")
            with mpl.rc_context(STYLE):
                figure = draw(run, *args, **options)
                # None leaves the version out
                extra = {"metadata": {"Software": None}} if path.suffix == ".png" else {"pil_kwargs": JPEG}
                figure.savefig(temporary, dpi=DPI, facecolor="white", **extra)
            os.replace(temporary, path)
            return Picture(path, figure)

        return draw_and_save

    return decorate


# ---- 00: data ----


@saved("00_training_images.jpg")
def training_grid(run: Run, count: int = 8) -> Figure:
    """Backlit and well-lit training images: unpaired, of different scenes."""
    backlit, well_lit = training_images(run)
    rows = [list(side[_valid(range(count), side)]) for side in (backlit, well_lit)]
    return mosaic(rows, row_labels=["backlit", "well-lit"])


@saved("00_test_pairs.jpg")
def test_grid(run: Run, count: int = 8) -> Figure:
    """Test images and, where there are any, their references."""
    tests = test_images(run)[:count]
    rows, labels = _with_references([[test.backlit for test in tests]], ["input"], tests)
    return mosaic(rows, row_labels=labels)


@saved("00_severity_levels.jpg")
def severity_levels(run: Run, count: int = 6) -> Figure:
    """Well-lit images of the run and the degrees of backlight that `cliplit data synthesize` simulates on them."""
    tests = test_images(run)
    photos = [test.reference for test in tests if test.reference is not None][:count]
    if not photos:
        well_lit = training_images(run)[1]
        photos = list(well_lit[_valid(range(count), well_lit)])
    photos = [_centre(photo) for photo in photos]
    rows = {"as taken": photos}
    for level in SEVERITIES:
        rows[level] = [relight_photo(photo, str(n), level, run.settings.seed)[0] for n, photo in enumerate(photos)]
    return mosaic(list(rows.values()), row_labels=list(rows))


# ---- 01: prompt initialization ----


@saved("01_prompt_separation.png")
def prompt_separation(run: Run) -> Figure:
    """P(backlit) of training images with the pair before and after learning, and the training curves."""
    figure = Figure(figsize=(WIDTH, 2.5), dpi=DPI, layout="constrained")
    untrained, learned, curves = figure.subplots(1, 3)
    _score_histogram(untrained, analysis.untrained_scores(run), "Before: untrained prompts")
    _score_histogram(learned, analysis.prompt_scores(run, [0], results=False)[0], "After: learned prompts")
    learned.sharey(untrained)
    learned.legend(loc="upper center")
    log = training_log(run, "prompts0")
    if log.empty:
        curves.set(title="Training: none needed", xticks=[], yticks=[])
        return figure
    _curve(curves, log["iteration"], log["loss"], DARK, "cross-entropy")
    _curve(curves, log["iteration"], log["accuracy"], GREEN, "accuracy of the batch")
    curves.axhline(np.log(2), color=QUIET, linewidth=0.8, linestyle=(0, (1, 2)))
    _note(curves, "chance: ln 2", (1, np.log(2)), QUIET, ("axes fraction", "data"), "right", "bottom")
    curves.set_title("Training", pad=HIGH)
    curves.set(xlabel="iteration", ylim=(0, 1.05 * max(1.0, log["loss"].max())))
    curves.legend(loc="lower left")
    return figure


def _score_histogram(axes: Axes, scores: dict[str, Tensor], title: str) -> None:
    low, high = _range(scores.values())
    edges = np.linspace(low, high, 21)
    for label, colour in ((BACKLIT, DARK), (WELL_LIT, LIGHT)):
        values = scores[label].numpy()
        axes.hist(values, edges, weights=np.full(len(values), 100 / len(values)), color=colour, alpha=0.75, label=label)
    quality = analysis.separation(scores)
    axes.set(xlim=(low, high), xlabel=SCORE, ylabel="images, %")
    axes.set_title(title, pad=HIGH)
    text = f"accuracy {quality['accuracy']:.2f}, AUC {quality['auc']:.2f}"
    _note(axes, text, (0, 1), QUIET, "axes fraction", "left", "bottom")


def _range(scores: Iterable[Tensor]) -> tuple[float, float]:
    """0 to 1 if all scores are probabilities, else what they span."""
    every = torch.cat(list(scores))
    low, high = every.min().item(), every.max().item()
    return (0, 1) if low >= 0 and high <= 1 else (low, high)


def _score_axis(scores: dict[int, dict[str, Tensor]]) -> dict[str, object]:
    low, high = _range(values for groups in scores.values() for values in groups.values())
    return UNIT if (low, high) == (0, 1) else {"ylim": (low - 0.03 * (high - low), high + 0.03 * (high - low))}


# ---- 02: enhancer training ----


@saved("02_training_curves.png")
def enhancer_curves(run: Run) -> Figure:
    """Warm-up (identity loss, and how near the results are to the inputs) and the terms of the initial training."""
    options, warmup, initial = run.settings.enhancement, training_log(run, "warmup"), training_log(run, "enhancer0")
    figure = Figure(figsize=(WIDTH, 2.4), dpi=DPI, layout="constrained")
    identity, near, terms = figure.subplots(1, 3)
    _curve(identity, warmup["iteration"], options.warmup_identity_weight * warmup["identity"], DARK)
    identity.set(title="Warm-up: identity loss", xlabel="iteration", yscale="log")
    _curve(near, warmup["iteration"], warmup["psnr"], DARK)
    near.axhline(options.guard_psnr, color=WRONG, linewidth=1, linestyle=(0, (3, 2)))
    _note(near, "guard", (1, options.guard_psnr), WRONG, ("axes fraction", "data"), "right", "bottom")
    near.set(title="Warm-up: likeness to input", xlabel="iteration", ylabel="PSNR, dB")
    held, kind = options.identity_weight * initial["identity"], run.settings.guidance.kind
    guide = f"{options.clip_weight:g} × CLIP-Enhance" if is_refined(kind) else f"guidance ({kind}), weighted"
    _curve(terms, initial["iteration"], initial["loss"], INK, "sum")
    _curve(terms, initial["iteration"], initial["loss"] - held, GREEN, guide)
    _curve(terms, initial["iteration"], held, DARK, f"{options.identity_weight:g} × identity")
    terms.set(title="Initial training: loss", xlabel="iteration", ylim=(0, None))
    terms.legend()
    return figure


def illumination(run: Run, k: int = 0, images: Sequence[int] = range(6)) -> Picture:
    """Test images, the illumination maps that the network of round k divides them by, and the results."""
    return _illumination(run, stage_name(k), f"enhancer{k}", images)


@saved("02_illumination_{0}.jpg")
def _illumination(run: Run, label: str, stage: str, images: Sequence[int]) -> Figure:
    tests, device = some_tests(run, images), find_device(run.settings.device)
    network = network_of(run, stage).to(device)
    with torch.no_grad():
        maps = [network(test.backlit[None].to(device))[0].cpu() for test in tests]
    results = [divide(test.backlit, light) for test, light in zip(tests, maps)]
    top = max(1.0, max(light.max().item() for light in maps))
    scale = ScalarMappable(Normalize(0, top), "viridis")
    coloured = [torch.from_numpy(scale.to_rgba(light[0].numpy())[..., :3]).movedim(-1, 0) for light in maps]
    figure = mosaic(
        [[test.backlit for test in tests], coloured, results],
        row_labels=["input", "÷ illumination", f"= result, {label}"],
        right=0.55,
    )
    middle = figure.axes[len(tests)].get_position()
    width = figure.get_figwidth()
    bar = figure.add_axes((1 - 0.47 / width, middle.y0, 0.11 / width, middle.height))
    figure.colorbar(scale, cax=bar).outline.set_visible(False)
    bar.tick_params(labelsize=7)
    return figure


# ---- 03: rounds ----


@saved("03_scores.png")
def score_rounds(run: Run) -> Figure:
    """How P(backlit) of backlit images, results and well-lit images moves over the rounds."""
    rounds = list(range(run.settings.refinement.rounds + 1))
    scores = analysis.prompt_scores(run, rounds)
    shown = evenly(rounds, 4)
    figure = Figure(figsize=(WIDTH, 4.7), dpi=DPI, layout="constrained")
    upper, lower = figure.add_gridspec(2, 1, height_ratios=(1.12, 1), hspace=0.1)
    panels = upper.subgridspec(1, len(shown)).subplots(sharey=True, squeeze=False)[0]
    for axes, k in zip(panels, shown):
        networks = [stage_name(j) for j in range(max(0, k - 2), k + 1)]
        _violins(axes, {label: scores[k][label] for label in [BACKLIT, *networks, WELL_LIT]})
        axes.set_title("Initial prompts" if k == 0 else f"Prompts of round {k}")
    panels[0].set(ylabel=SCORE, **_score_axis(scores))
    means, refinement, tuning = lower.subgridspec(1, 3).subplots()
    _score_means(means, scores)
    _refinement_curves(refinement, run, rounds[1:])
    _tuning_curves(tuning, run, rounds)
    return figure


def _violins(axes: Axes, groups: dict[str, Tensor]) -> None:
    for place, (label, values) in enumerate(groups.items()):
        body = axes.violinplot(values.numpy(), [place], widths=0.85, showextrema=False, points=200)["bodies"][0]
        body.set(facecolor=colour_of(label), edgecolor=colour_of(label), alpha=0.55, linewidth=0.8)
        axes.plot(place, values.mean(), "o", color="white", markeredgecolor=INK, markeredgewidth=0.9, markersize=4)
    axes.set_xticks(range(len(groups)), groups, rotation=30, ha="right", rotation_mode="anchor")
    axes.grid(False, axis="x")


def _score_means(axes: Axes, scores: dict[int, dict[str, Tensor]]) -> None:
    mean = {k: {label: values.mean().item() for label, values in groups.items()} for k, groups in scores.items()}
    lines = {
        BACKLIT: (DARK, {k: mean[k][BACKLIT] for k in mean}),
        "before tuning": (RESULTS[0], {k: mean[k][stage_name(k - 1)] for k in mean if k}),
        "after tuning": (RESULTS[1], {k: mean[k][stage_name(k)] for k in mean}),
        WELL_LIT: (LIGHT, {k: mean[k][WELL_LIT] for k in mean}),
    }
    for label, (colour, values) in lines.items():
        axes.plot(list(values), list(values.values()), "o-", color=colour, markersize=3.5, label=label)
    axes.set_title("Mean in each round", pad=HIGH)
    axes.set(xlabel="prompts of round", ylabel=SCORE, **_score_axis(scores))
    axes.set_xticks(evenly(list(scores), 8))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncol=2, fontsize=7, columnspacing=1, handletextpad=0.5)


def _refinement_curves(axes: Axes, run: Run, rounds: Iterable[int]) -> None:
    start = 0
    for k in rounds:
        log = training_log(run, f"prompts{k}")
        if log.empty:
            axes.set(title="Refining: none", xticks=[], yticks=[])
            return
        labels = {"score_backlit": BACKLIT, "score_well_lit": WELL_LIT}
        labels |= {f"score_enhancer{j}": stage_name(j) for j in range(max(0, k - 2), k)}
        for column, label in labels.items():
            _curve(axes, start + log["iteration"], log[column], colour_of(label), raw=False)
        start = _round_end(axes, start + len(log), f"round {k}", len(log))
    axes.set_title("Refining the prompts", pad=HIGH)
    axes.set(xlabel="iteration", **UNIT)


def _tuning_curves(axes: Axes, run: Run, rounds: Iterable[int]) -> None:
    start = 0
    for k in rounds:
        log = training_log(run, f"enhancer{k}")
        _curve(axes, start + log["iteration"], log["clip_enhance"], colour_of(stage_name(k)))
        start = _round_end(axes, start + len(log), str(k) if k else "initial", len(log))
    axes.set_title("Training the network, by round", pad=HIGH)
    axes.set(xlabel="iteration", **(UNIT if is_refined(run.settings.guidance.kind) else {"ylabel": "guidance loss"}))


def _round_end(axes: Axes, end: int, label: str, length: int) -> int:
    """Mark the end of a round; name it if the rounds are few."""
    axes.axvline(end, color="#c8c8c8", linewidth=0.8)
    if end <= MOST * length:
        _note(axes, label, (end - length / 2, 1), QUIET, ("data", "axes fraction"), "center", "bottom")
    return end


@saved("03_rounds.jpg")
def rounds_strip(run: Run, images: Sequence[int] = range(3)) -> Figure:
    """The same test images after every round."""
    tests = some_tests(run, images)
    stages = {"warmup": "warmup"} | {stage_name(k): f"enhancer{k}" for k in range(run.settings.refinement.rounds + 1)}
    columns = {"input": [test.backlit for test in tests]}
    columns |= {label: results_of(run, stages[label], tests) for label in evenly(list(stages), MOST)}
    return _strip(columns, tests)


# ---- 04: evaluation ----


@saved("04_comparison.jpg")
def comparison_strip(run: Run, images: Sequence[int] = range(3)) -> Figure:
    """The same test images: input, simple baselines, networks, control, other methods, reference."""
    tests = test_images(run)
    images = _valid(images, tests)
    columns, rounds = enhanced_tests(run, images), range(run.settings.refinement.rounds + 1)
    left_out = {"warmup"} | {stage_name(k) for k in set(rounds) - set(evenly(list(rounds), 3))}
    return _strip({label: row for label, row in columns.items() if label not in left_out}, [tests[n] for n in images])


@saved("04_quality.png")
def quality(run: Run) -> Figure:
    """Two scores of every test image in every stage, and what the last network changes for each image."""
    scores = evaluate(run)
    metrics = [name for name in scores.columns if name not in ("stage", "image") and scores[name].notna().any()][:2]
    if not metrics:
        raise CliplitError(f"{run.path}: no metric could be computed on the test images")
    last = stage_name(run.settings.refinement.rounds)
    figure = Figure(figsize=(WIDTH, 2.9), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, len(metrics) + 1)
    for axes, metric in zip(panels, metrics):
        _stage_points(axes, scores, metric)
    wide = scores.pivot(index="image", columns="stage", values=metrics[0])
    gain = (wide[last] - wide["input"]).dropna().sort_values(ascending=False)
    better = (gain > 0).sum()
    panels[-1].bar(
        range(len(gain)), gain, width=0.85, color=[colour_of(last) if value > 0 else WRONG for value in gain]
    )
    panels[-1].axhline(0, color=INK, linewidth=0.8)
    panels[-1].set(title=f"{metric_name(metrics[0])}: {last} minus input", xticks=[])
    panels[-1].set_xlabel(f"test images, sorted: higher in {better} of {len(gain)}")
    panels[-1].grid(False, axis="x")
    return figure


def _stage_points(axes: Axes, scores: pd.DataFrame, metric: str) -> None:
    stages = list(scores["stage"].unique())
    rounds = [stage for stage in stages if stage.startswith("round")]
    shown = [stage for stage in stages if stage not in rounds or stage in evenly(rounds, MOST)]
    for place, stage in enumerate(shown):
        values = scores.loc[scores["stage"] == stage, metric].dropna().to_numpy()
        jitter = (np.arange(len(values)) * 0.618 % 1 - 0.5) * 0.55
        axes.plot(place + jitter, values, "o", color=colour_of(stage), markersize=2.6, markeredgewidth=0, alpha=0.45)
        axes.hlines(values.mean(), place - 0.36, place + 0.36, color=_darker(colour_of(stage)), linewidth=2.2, zorder=3)
    start = scores.loc[scores["stage"] == "input", metric].mean()
    axes.axhline(start, color=DARK, linewidth=0.8, linestyle=(0, (3, 2)), zorder=1)
    axes.set_xticks(range(len(shown)), shown, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_title(metric_name(metric))
    axes.grid(False, axis="x")


@saved("04_differences.png")
def differences(run: Run) -> Figure:
    """Paired differences to the inputs with confidence intervals over the test images, one panel per metric.

    Without the control, whose scores lie so far away that nothing else could be told apart.
    """
    table = differences_table([run]).query("stage != 'random-clip'")
    metrics = list(table["metric"].unique())[:3]
    if not metrics:
        raise CliplitError(f"{run.path}: no metric could be computed on the test images")
    figure = Figure(figsize=(WIDTH, 0.75 + 0.24 * table["stage"].nunique()), dpi=DPI, layout="constrained")
    for n, (axes, metric) in enumerate(zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics)):
        rows = table[table["metric"] == metric]
        for place, (_, row) in enumerate(rows.iterrows()):
            axes.hlines(place, row["low"], row["high"], color=_darker(colour_of(row["stage"])), linewidth=2)
            axes.plot(row["difference"], place, "o", color=colour_of(row["stage"]), markersize=5)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(rows)), rows["stage"] if n == 0 else [])
        axes.invert_yaxis()
        axes.set_title(f"{metric_name(metric)}: minus input")
        axes.grid(False, axis="y")
    return figure


@saved("04_metrics.png")
def metric_against_metric(run: Run, pairs: Sequence[tuple[str, str]] = ()) -> Figure:
    """Do metrics agree? Every test image in every stage but the control by two metrics, with their rank correlation.

    Args:
        pairs: names of metrics, for x and y; by default the first one against all others.
    """
    scores = evaluate(run).query("stage != 'random-clip'")
    metrics = [name for name in scores.columns if name not in ("stage", "image") and scores[name].notna().any()]
    pairs = list(pairs) or [(metrics[0], other) for other in metrics[1:4]]
    figure = Figure(figsize=(WIDTH, 2.9), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, max(1, len(pairs)), squeeze=False)[0]
    for axes, (x, y) in zip(panels, pairs):
        for stage, rows in scores.groupby("stage", sort=False):
            axes.plot(rows[x], rows[y], "o", color=colour_of(stage), markersize=2.6, markeredgewidth=0, alpha=0.5)
            mark = {"color": colour_of(stage), "markersize": 7, "markeredgecolor": "white", "markeredgewidth": 0.8}
            axes.plot(rows[x].mean(), rows[y].mean(), "o", label=stage, zorder=3, **mark)
        agreement = scores[x].rank().corr(scores[y].rank())
        axes.set(xlabel=_directed(x), ylabel=_directed(y), title=f"rank correlation {agreement:.2f}")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 9), handletextpad=0.2)
    return figure


def _directed(metric: str) -> str:
    """Name of a metric with an arrow to where better is."""
    return f"{metric_name(metric)} {'←' if catalogue()[metric].lower_better else '→'} better"


@saved("hero.jpg")
def hero(run: Run, images: Sequence[int] = range(5)) -> Figure:
    """Before and after, for the README: test images, their results by the last network, and references."""
    tests = some_tests(run, images)
    results = results_of(run, f"enhancer{run.settings.refinement.rounds}", tests)
    rows, labels = _with_references([[test.backlit for test in tests], results], ["backlit input", "result"], tests)
    return mosaic(rows, row_labels=labels)


# ---- helpers ----


def some_tests(run: Run, images: Sequence[int]) -> list[TestImage]:
    tests = test_images(run)
    return [tests[n] for n in _valid(images, tests)]


def results_of(run: Run, stage: str, tests: list[TestImage]) -> list[Tensor]:
    network = network_of(run, stage).to(find_device(run.settings.device))
    return [enhance_rounded(network, test.backlit) for test in tests]


def _valid(images: Sequence[int], items: Sequence) -> list[int]:
    return [n for n in images if n < len(items)]


def _with_references(lists: list[list[Tensor]], labels: list[str], tests: list[TestImage]):
    """Lists of images and their labels, with the references behind them if every test image has one."""
    if any(test.reference is None for test in tests):
        return lists, labels
    return [*lists, [test.reference for test in tests]], [*labels, "reference"]


def _strip(columns: dict[str, list[Tensor]], tests: list[TestImage]) -> Figure:
    lists, labels = _with_references(list(columns.values()), list(columns), tests)
    return mosaic([list(row) for row in zip(*lists)], column_labels=labels)


def mosaic(
    rows: list[list[Tensor]], row_labels: Sequence[str] = (), column_labels: Sequence[str] = (), right: float = 0.0
) -> Figure:
    """Images (3, H, W) in rows and columns, all in cells of the first one's shape.

    Args:
        right: inches left free at the right.
    """
    gap, left, head, right = 8, 30 if row_labels else 0, 30 if column_labels else 0, round(right * DPI)  # pixels
    count, aspect = max(map(len, rows)), rows[0][0].shape[-2] / rows[0][0].shape[-1]
    cell = min((WIDTH * DPI - left - right - gap * (count - 1)) // count, LARGEST * DPI)
    tall = round(cell * min(max(aspect, 0.5), 1.5))
    width, height = left + count * (cell + gap) - gap + right, head + len(rows) * (tall + gap) - gap
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    for r, row in enumerate(rows):
        y = height - head - r * (tall + gap) - tall
        for c, image in enumerate(row):
            axes = figure.add_axes(((left + c * (cell + gap)) / width, y / height, cell / width, tall / height))
            axes.imshow(_resized(image, cell, tall), interpolation="nearest")
            axes.axis("off")
        if row_labels:
            figure.text(8 / width, (y + tall / 2) / height, row_labels[r], rotation=90, va="center", ha="left")
    for c, label in enumerate(column_labels):
        figure.text((left + c * (cell + gap) + cell / 2) / width, 1 - 4 / height, label, ha="center", va="top")
    return figure


def _centre(image: Tensor) -> Tensor:
    """The largest square in the middle of an image (3, H, W)."""
    height, width = image.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[:, top : top + side, left : left + side]


def _resized(image: Tensor, width: float, height: float) -> np.ndarray:
    """The image (3, H, W) as it fits into width x height, 8 bits."""
    scale = min(width / image.shape[-1], height / image.shape[-2])
    size = round(image.shape[-1] * scale), round(image.shape[-2] * scale)
    return np.asarray(Image.fromarray(to_uint8(image)).resize(size, Image.Resampling.LANCZOS))


def _note(axes: Axes, text: str, at: tuple[float, float], colour: str, coordinates, ha: str, va: str = "top") -> None:
    """A small text two points away from a place."""
    shift = {"left": 2, "center": 0, "right": -2}[ha], {"top": -2, "bottom": 2}[va]
    axes.annotate(text, at, shift, coordinates, "offset points", fontsize=7, color=colour, ha=ha, va=va)


def _curve(axes: Axes, x: pd.Series, y: pd.Series, colour: str, label: str | None = None, raw: bool = True) -> None:
    """A running mean over a twentieth of the iterations, the raw values faint behind it."""
    if raw:
        axes.plot(x, y, color=colour, linewidth=0.6, alpha=0.3)
    axes.plot(x, y.rolling(max(1, len(y) // 20), min_periods=1).mean(), color=colour, label=label)


def colour_of(label: str) -> str | tuple[float, ...]:
    """Colour of a kind of image or stage; results darken with the rounds."""
    if label in FIXED:
        return FIXED[label]
    if label != "initial" and not re.fullmatch(r"round\d+", label):
        return OTHERS[sum(label.encode()) % len(OTHERS)]
    k = 0 if label == "initial" else int(label.removeprefix("round"))
    first, last = (np.array(mpl.colors.to_rgb(colour)) for colour in RESULTS)
    return tuple(last + (first - last) * 0.6**k)


def _darker(colour) -> tuple[float, ...]:
    return tuple(0.7 * value for value in mpl.colors.to_rgb(colour))


def metric_name(name: str) -> str:
    return {"psnr": "PSNR, dB", "ssim": "SSIM"}.get(name, name.upper())


def evenly(items: list, most: int) -> list:
    """Up to `most` items in order, evenly spaced, the first and the last among them."""
    if len(items) <= most:
        return items
    return [items[round(n * (len(items) - 1) / (most - 1))] for n in range(most)]

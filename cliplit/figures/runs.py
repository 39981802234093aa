"""Figures of notebooks 00 to 03: data, prompt initialization, enhancer training, rounds."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from torch import Tensor
from torchvision.transforms.functional import center_crop

from cliplit.data.relight import SEVERITIES, relight_photo
from cliplit.experiments import analysis
from cliplit.experiments.analysis import BACKLIT, WELL_LIT, stage_name, training_log
from cliplit.experiments.evaluation import network_stages, results
from cliplit.figures import style
from cliplit.figures.style import saved
from cliplit.method.guidance.registry import is_refined
from cliplit.method.run import CONTROLS, Run
from cliplit.method.run_images import TestImage, test_images, training_images
from cliplit.method.training import network_of


@saved("00_training_images.jpg")
def training_grid(run: Run, count: int = 8) -> Figure:
    """Backlit and well-lit training images, which are unpaired and show different scenes."""
    rows = [list(side.batch(range(min(count, len(side))))) for side in training_images(run)]
    return style.mosaic(rows, row_labels=["backlit", "well-lit"])


@saved("00_test_pairs.jpg")
def test_grid(run: Run, count: int = 8) -> Figure:
    """Test images and their references, if there are any."""
    rows = beside_tests(run, range(count), {})
    return style.mosaic([*rows.values()], row_labels=[*rows])


@saved("00_severity_levels.jpg")
def severity_levels(run: Run, count: int = 6) -> Figure:
    """Well-lit images of the run, with the levels of backlight that `cliplit data synthesize` simulates."""
    well_lit = training_images(run)[1]
    references = [test.reference for test in test_images(run) if test.reference is not None][:count]
    photos = references or well_lit.batch(range(min(count, len(well_lit))))
    photos = [center_crop(photo, [min(photo.shape[-2:])]) for photo in photos]
    rows = {"as taken": photos}
    for level in SEVERITIES:
        rows[level] = [relight_photo(photo, str(n), level, run.settings.seed)[0] for n, photo in enumerate(photos)]
    return style.mosaic([*rows.values()], row_labels=[*rows])


@saved("01_prompt_separation.png")
def prompt_separation(run: Run, scores: dict[int, dict[str, Tensor]]) -> Figure:
    """P(backlit) of training images before and after training, from `analysis.prompt_scores`, and training curves."""
    figure, (untrained, learned, curves) = style.panels(2.5, 3)
    _score_histogram(untrained, scores[analysis.UNTRAINED], "Before: untrained prompts")
    _score_histogram(learned, scores[0], "After: learned prompts")
    learned.sharey(untrained)
    learned.legend(loc="upper center")
    log = training_log(run, "prompts0")
    if log.empty:
        curves.set(title="Training: none needed", xticks=[], yticks=[])
        return figure
    style.curve(curves, log["iteration"], log["loss"], style.DARK, "cross-entropy")
    style.curve(curves, log["iteration"], log["accuracy"], style.GREEN, "accuracy of the batch")
    curves.axhline(np.log(2), color=style.QUIET, linewidth=0.8, linestyle=(0, (1, 2)))
    style.note(curves, "chance: ln 2", (1, np.log(2)), ("axes fraction", "data"), "right")
    curves.set_title("Training", pad=style.HIGH)
    curves.set(xlabel="iteration", ylim=(0, 1.05 * max(1.0, log["loss"].max())))
    curves.legend(loc="lower left")
    return figure


def _score_histogram(axes: Axes, scores: dict[str, Tensor], title: str) -> None:
    low, high = style.score_range(scores.values())
    edges = np.linspace(low, high, 21)
    for label, colour in ((BACKLIT, style.DARK), (WELL_LIT, style.LIGHT)):
        values = scores[label].numpy()
        axes.hist(values, edges, weights=np.full(len(values), 100 / len(values)), color=colour, alpha=0.75, label=label)
    axes.set(xlim=(low, high), xlabel=style.SCORE, ylabel="images, %")
    axes.set_title(title, pad=style.HIGH)
    text = "accuracy {accuracy:.2f}, AUC {auc:.2f}".format_map(analysis.separation(scores))
    style.note(axes, text, (0, 1), "axes fraction", "left")


@saved("02_training_curves.png")
def enhancer_curves(run: Run) -> Figure:
    """The warm-up (identity loss, and PSNR of results to inputs) and the loss terms of the initial training."""
    options = run.settings.enhancement
    warmup = training_log(run, "warmup")
    initial = training_log(run, "enhancer0")
    figure, (identity, near, terms) = style.panels(2.4, 3)
    style.curve(identity, warmup["iteration"], options.warmup_identity_weight * warmup["identity"], style.DARK)
    identity.set(title="Warm-up: identity loss", xlabel="iteration", yscale="log")
    identity.yaxis.set_major_formatter(LogFormatter())  # the default is a formula, which is not text
    identity.yaxis.set_minor_formatter(LogFormatter(labelOnlyBase=False))
    style.curve(near, warmup["iteration"], warmup["psnr"], style.DARK)
    near.axhline(options.guard_psnr, color=style.WRONG, linewidth=1, linestyle=(0, (3, 2)))
    style.note(near, "guard", (1, options.guard_psnr), ("axes fraction", "data"), "right").set_color(style.WRONG)
    near.set(title="Warm-up: likeness to input", xlabel="iteration", ylabel="PSNR, dB")
    held = options.identity_weight * initial["identity"]
    smooth = options.smoothness_weight * initial.get("smoothness", 0)
    kind = run.settings.guidance.kind
    guide = f"{options.clip_weight:g} × CLIP-Enhance" if is_refined(kind) else f"guidance ({kind}), weighted"
    style.curve(terms, initial["iteration"], initial["loss"], style.INK, "sum")
    style.curve(terms, initial["iteration"], initial["loss"] - held - smooth, style.GREEN, guide)
    style.curve(terms, initial["iteration"], held, style.DARK, f"{options.identity_weight:g} × identity")
    if options.smoothness_weight:
        style.curve(terms, initial["iteration"], smooth, style.WRONG, f"{options.smoothness_weight:g} × smoothness")
    terms.set(title="Initial training: loss", xlabel="iteration", ylim=(0, None))
    terms.legend()
    return figure


@saved(lambda k, maps: f"02_illumination_{stage_name(k)}.jpg")
def illumination(run: Run, k: int, maps: list[tuple[TestImage, Tensor]]) -> Figure:
    """Test images, their `analysis.illumination_maps` of round k, and the results of dividing by them."""
    divide = network_of(run, f"enhancer{k}").divide
    results = [divide(test.backlit, light) for test, light in maps]
    top = max(1.0, max(light.max().item() for _, light in maps))
    scale = ScalarMappable(Normalize(0, top), "viridis")
    coloured = [style.painted(scale, light[0], test.backlit) for test, light in maps]
    rows = [[test.backlit for test, _ in maps], coloured, results]
    return style.mosaic(rows, row_labels=["input", "÷ illumination", f"= result, {stage_name(k)}"], scale=scale)


@saved("03_scores.png")
def score_rounds(run: Run, scores: dict[int, dict[str, Tensor]]) -> Figure:
    """P(backlit) of backlit images, results and well-lit images in every round, from `analysis.prompt_scores`."""
    rounds = list(scores)
    shown = style.evenly(rounds, 4)
    every = [values for groups in scores.values() for values in groups.values()]
    axis = {"ylabel": style.SCORE} | (style.UNIT if style.score_range(every) == (0, 1) else {})
    figure = Figure(figsize=(style.WIDTH, 4.7), dpi=style.DPI, layout="constrained")
    upper, lower = figure.add_gridspec(2, 1, height_ratios=(1.12, 1), hspace=0.1)
    panels = upper.subgridspec(1, len(shown)).subplots(sharey=True, squeeze=False)[0]
    for axes, k in zip(panels, shown, strict=True):
        labels = [BACKLIT, *(stage_name(j) for j in range(max(0, k - 2), k + 1)), WELL_LIT]
        for place, label in enumerate(labels):
            values = scores[k][label]
            body = axes.violinplot(values.numpy(), [place], widths=0.85, showextrema=False, points=200)["bodies"][0]
            body.set(facecolor=style.colour_of(label), edgecolor=style.colour_of(label), alpha=0.55, linewidth=0.8)
            axes.plot(place, values.mean(), "ow", markersize=4, markeredgecolor=style.INK, markeredgewidth=0.9)
        axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right", rotation_mode="anchor")
        axes.grid(False, axis="x")
        axes.set_title("Initial prompts" if k == 0 else f"Prompts of round {k}")
    panels[0].set(**axis)
    means, refinement, tuning = lower.subgridspec(1, 3).subplots()
    _score_means(means, scores)
    means.set(**axis)
    _refinement_curves(refinement, run, rounds[1:])
    _tuning_curves(tuning, run, rounds)
    return figure


def _score_means(axes: Axes, scores: dict[int, dict[str, Tensor]]) -> None:
    mean = analysis.score_table(scores)
    lines = {
        BACKLIT: (style.DARK, mean[BACKLIT]),
        "before tuning": (style.RESULTS[0], pd.Series({k: mean.loc[k, stage_name(k - 1)] for k in mean.index if k})),
        "after tuning": (style.RESULTS[1], pd.Series({k: mean.loc[k, stage_name(k)] for k in mean.index})),
        WELL_LIT: (style.LIGHT, mean[WELL_LIT]),
    }
    for label, (colour, values) in lines.items():
        axes.plot(values.index, values, "o-", color=colour, markersize=3.5, label=label)
    axes.set_title("Mean in each round", pad=style.HIGH)
    axes.set_xlabel("prompts of round")
    axes.set_xticks(style.evenly(list(scores), 8))
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
            axes.plot(start + log["iteration"], style.running_mean(log[column]), color=style.colour_of(label))
        start = _round_end(axes, start + len(log), f"round {k}", len(log))
    axes.set_title("Refining the prompts", pad=style.HIGH)
    axes.set(xlabel="iteration", **style.UNIT)


def _tuning_curves(axes: Axes, run: Run, rounds: Iterable[int]) -> None:
    start = 0
    for k in rounds:
        log = training_log(run, f"enhancer{k}")
        style.curve(axes, start + log["iteration"], log["clip_enhance"], style.colour_of(stage_name(k)))
        start = _round_end(axes, start + len(log), str(k) if k else "initial", len(log))
    axes.set_title("Training the network, by round", pad=style.HIGH)
    unit = style.UNIT if is_refined(run.settings.guidance.kind) else {"ylabel": "guidance loss"}
    axes.set(xlabel="iteration", **unit)


def _round_end(axes: Axes, end: int, label: str, length: int) -> int:
    """Mark the end of a round, with its name if there are few rounds."""
    axes.axvline(end, color="#c8c8c8", linewidth=0.8)
    if end <= style.MOST * length:
        style.note(axes, label, (end - length / 2, 1), ("data", "axes fraction"), "center")
    return end


@saved("03_rounds.jpg")
def rounds_strip(run: Run, images: Sequence[int] = range(3)) -> Figure:
    """The same test images after each round."""
    stages = [stage for stage in network_stages(run) if stage not in CONTROLS]
    return strip(run, images, {stage: (run, stage) for stage in style.evenly(stages, style.MOST)})


def beside_tests(run: Run, images: Sequence[int], shown: dict[str, tuple[Run, str]]) -> dict[str, list[Tensor]]:
    """By label: test images, their results by each run and stage, and their references, if all images have one."""
    tests = [test for n, test in enumerate(test_images(run)) if n in images]
    columns = {"input": [test.backlit for test in tests]}
    columns |= {label: results(run, stage, tests) for label, (run, stage) in shown.items()}
    references = [test.reference for test in tests if test.reference is not None]
    return columns | ({"reference": references} if len(references) == len(tests) else {})


def strip(run: Run, images: Sequence[int], shown: dict[str, tuple[Run, str]]) -> Figure:
    columns = beside_tests(run, images, shown)
    return style.mosaic([*map(list, zip(*columns.values(), strict=True))], column_labels=[*columns])

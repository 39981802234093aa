"""Tables of one or several runs, computed from the scores of every image."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

import cliplit
from cliplit.errors import CliplitError, shortened
from cliplit.experiments.evaluation import read_scores, stage_name
from cliplit.method.clip_weights import EMBEDDED
from cliplit.method.run import Run
from cliplit.scoring import summary
from cliplit.values import differing

REPORTED, PUBLISHED = "paper/reported.csv", "demo/tables/published.csv"  # in results/
NOT_TOLD = "not transcribed"  # instead of a reported number
PAPER_DATA = {  # name: (test images, with references, metrics of the paper's table)
    "BAID": (368, True, ("psnr", "ssim", "lpips", "musiq")),
    "Backlit300": (305, False, ("musiq",)),
}


def stages_table(runs: list[Run]) -> pd.DataFrame:
    """Mean scores per stage over test images and runs (seeds).

    For every metric m: the mean `m`, the standard deviation over images `m_std` (mean over seeds), and for several
    runs the standard deviation of the seeds' means `m_seed_std`.

    Raises CliplitError if several runs differ in more than their seeds.
    """
    first = runs[0].settings
    for run in runs[1:]:
        if changes := differing(first, replace(run.settings, seed=first.seed, studies=first.studies)):
            raise CliplitError(f"{run.path}: not a seed of the same experiment as {runs[0].path}: {shortened(changes)}")
    if len({run.settings.seed for run in runs}) < len(runs):
        listed = ", ".join(str(run.settings.seed) for run in runs)
        raise CliplitError(f"runs with the same seed ({listed}) cannot be averaged as seeds")
    seeds = [summary.summary(read_scores(run), "stage").set_index("stage") for run in runs]
    table = sum(seeds[1:], seeds[0]) / len(seeds)
    for metric in summary.score_columns(table) if len(runs) > 1 else ():
        spread = pd.concat([seed[metric] for seed in seeds], axis=1).std(axis=1)
        table.insert(table.columns.get_loc(f"{metric}_std") + 1, f"{metric}_seed_std", spread)
    table["images"] = table["images"].round().astype(int)
    table["seeds"] = len(runs)
    return table.reset_index()


def by_photo(run: Run, scores: Any) -> Any:
    """Scores by photo instead of image: crops of an embedded photo are averaged, because they are not independent.

    Args:
        scores: a series or table whose last index is `image`.
    """
    if not run.notes("data", "data.json")["roles"]:
        scores = scores.rename(index=lambda image: image.partition("_")[2], level="image")
    return scores.groupby(level=[*scores.index.names], sort=False).mean()


def photo_scores(run: Run) -> pd.DataFrame:
    """Scores of a run by stage and photo (rows) and metric (columns)."""
    return by_photo(run, read_scores(run).set_index(["stage", "image"]))


def differences_table(runs: list[Run], against: str = "input") -> pd.DataFrame:
    """Paired differences between every stage and the inputs, with confidence intervals over seeds and test photos.

    Columns: stage, metric, difference, low, high, higher, images. Metrics without any pair are left out.
    """
    options = runs[0].settings.evaluation
    seeds = [photo_scores(run) for run in runs]
    rows = []
    for metric in seeds[0]:
        wide = [seed[metric].unstack("stage") for seed in seeds]
        for stage in seeds[0].index.unique("stage").drop(against):
            ours, theirs = ([table[name] for table in wide] for name in (stage, against))
            found = summary.paired_difference(
                ours, theirs, options.resamples, options.confidence, runs[0].settings.seed
            )
            if found.images:
                rows.append((stage, metric, *found))
    return pd.DataFrame(rows, columns=["stage", "metric", "difference", "low", "high", "higher", "images"])


def paper_table(runs: list[Run], stages: pd.DataFrame, data: str) -> pd.DataFrame:
    """The paper's table for a data set: metric, reported and reproduced number (or the reason why there is none)."""
    count, paired, metrics = PAPER_DATA[data]
    reported = committed(REPORTED).query("data == @data and method == 'CLIP-LIT'").set_index("metric").reindex(metrics)
    settings = runs[0].settings
    info = runs[0].notes("evaluation", "evaluation.json")
    roles = runs[0].notes("data", "data.json")["roles"]
    names = {settings.clip.similarity, settings.clip.identity}
    obstacle = ""
    if settings.profile != "paper" or settings.clip.random or names & EMBEDDED.keys() or "test_backlit" not in roles:
        clip = f"random {settings.clip.similarity}" if settings.clip.random else settings.clip.similarity
        obstacle = f"profile {settings.profile} with {clip}: needs {data} and OpenAI's CLIP weights"
    elif info["images"] != count or paired != ("test_reference" in roles):
        obstacle = f"this run's test set has {info['images']} images; {data} has {count}"
    last = stages.set_index("stage", drop=False).loc[stage_name(settings.refinement.rounds)]
    unmeasured = {metric: "not among this run's metrics" for metric in metrics if metric not in last} | info["missing"]
    reasons = {metric: obstacle or unmeasured.get(metric, "") for metric in metrics}
    columns = {
        "method": "CLIP-LIT",
        "metric": metrics,
        "reported": [f"{value:g}" if pd.notna(value) else NOT_TOLD for value in reported["value"]],
        "tolerance": [f"{value:g}" if pd.notna(value) else "" for value in reported["tolerance"]],
        "source": [*reported["source"].fillna("")],
        "reproduced": ["" if reason else f"{last[metric]:.3f}" for metric, reason in reasons.items()],
        "note": [reason or f"{last['stage']}, seeds {len(runs)}" for reason in reasons.values()],
    }
    return pd.DataFrame(columns)


def committed(file: str) -> pd.DataFrame:
    """A published table from results/ in the checkout, or its copy in the package."""
    package = Path(cliplit.__file__).parent
    candidates = (package.parent / "results" / file, package / Path(file).name)
    path = next(path for path in candidates if path.is_file())
    return summary.read_table(path, "data", "method", "stage", "metric", "source")

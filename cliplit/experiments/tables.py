"""Tables of one or several runs: CSV, Markdown and LaTeX, from the per-image scores."""

from pathlib import Path

import pandas as pd

import cliplit
from cliplit.errors import CliplitError
from cliplit.experiments.evaluation import evaluate
from cliplit.files.atomic import write_text
from cliplit.method.clip_weights import EMBEDDED
from cliplit.method.run import Run
from cliplit.scoring.summary import (
    Bootstrap,
    differences,
    score_columns,
    summary,
    with_intervals,
    with_spread,
    write_table,
)
from cliplit.settings import flatten

PAPER_DATA = {  # name: (test images, with references, metrics of the paper's table)
    "BAID": (368, True, ("psnr", "ssim", "lpips", "musiq")),
    "Backlit300": (305, False, ("musiq",)),
}
NOT_TRANSCRIBED = "not transcribed"


def stages_table(runs: list[Run]) -> pd.DataFrame:
    """Mean scores per stage over test images and runs (seeds).

    For every metric m: `m`, the mean; `m_std`, the standard deviation over images (mean over seeds); and, for
    several runs, `m_seed_std`, that of the seeds' means.

    Raises:
        CliplitError: several runs that are not seeds of one experiment.
    """
    _check_seeds(runs)
    seeds = [summary(evaluate(run), "stage").set_index("stage") for run in runs]
    table = sum(seeds[1:], seeds[0]) / len(seeds)
    for metric in score_columns(table):
        if len(runs) > 1:
            table.insert(
                table.columns.get_loc(f"{metric}_std") + 1,
                f"{metric}_seed_std",
                pd.concat([seed[metric] for seed in seeds], axis=1).std(axis=1),
            )
    table["images"] = table["images"].round().astype(int)
    table["seeds"] = len(runs)
    return table.reset_index()


def differences_table(runs: list[Run], against: str = "input") -> pd.DataFrame:
    """Paired differences of every stage to the inputs, with confidence intervals over the test images.

    An image's scores are averaged over the runs (seeds) first.
    """
    options = runs[0].settings.evaluation
    scores = pd.concat([evaluate(run).assign(run=n) for n, run in enumerate(runs)])
    how = Bootstrap(options.resamples, options.confidence, runs[0].settings.seed)
    return differences(scores, "stage", against, how)


def paper_tables(runs: list[Run]) -> dict[str, pd.DataFrame]:
    """For each data set of the paper: metric, reported, reproduced, and where from or why not."""
    reported = reported_numbers()
    tables = {}
    for data, (count, paired, metrics) in PAPER_DATA.items():
        rows = []
        for metric in metrics:
            known = reported.query("data == @data and method == 'CLIP-LIT' and metric == @metric")
            value, reason = _reproduced(runs, data, count, paired, metric)
            rows.append(
                {
                    "method": "CLIP-LIT",
                    "metric": metric,
                    "reported": f"{known['value'].iloc[0]:g}" if len(known) else NOT_TRANSCRIBED,
                    "source": known["source"].iloc[0] if len(known) else "",
                    "reproduced": value,
                    "note": reason,
                }
            )
        tables[data.lower()] = pd.DataFrame(rows)
    return tables


def write_tables(runs: list[Run], folder: str | Path) -> list[Path]:
    """Write stages and paper tables as .csv, .md and .tex; returns the paths."""
    tables = {"stages": stages_table(runs), "differences": differences_table(runs)}
    tables |= {f"paper_{name}": table for name, table in paper_tables(runs).items()}
    written = []
    for name, table in tables.items():
        written += write_table(table, SHOWN.get(name, lambda same: same)(table), Path(folder), name)
    return written


def fill_in(path: str | Path, texts: dict[str, str]) -> None:
    """Replace what stands between ``<!-- name -->`` and ``<!-- /name -->`` in a text file, for every name it has.

    Raises:
        CliplitError: the file has no place for any of them, or one that does not end.
    """
    path = Path(path)
    filled = []
    content = path.read_text(encoding="utf-8")
    for name, text in texts.items():
        start = f"<!-- {name} -->\n"
        end = f"<!-- /{name} -->"
        before, opened, rest = content.partition(start)
        _, closed, after = rest.partition(end)
        if opened and not closed:
            raise CliplitError(f"{path}: the place for a table after {start.strip()} does not end in {end}")
        if opened:
            content = f"{before}{start}{text}{end}{after}"
            filled.append(name)
    if not filled:
        raise CliplitError(
            f"{path}: no place for a table between <!-- {next(iter(texts))} --> and its end, or the like"
        )
    write_text(content, path)


def reported_numbers() -> pd.DataFrame:
    """Published numbers with their source: data, method, metric, value, source."""
    package = Path(cliplit.__file__).parent
    candidates = (package.parent / "results" / "paper" / "reported.csv", package / "reported.csv")
    return pd.read_csv(next(path for path in candidates if path.is_file()))


SHOWN = {"stages": with_spread, "differences": with_intervals}


def _check_seeds(runs: list[Run]) -> None:
    first, *others = (flatten(run.settings) for run in runs)
    for run, settings in zip(runs[1:], others, strict=True):
        differing = [name for name in first if name != "seed" and settings[name] != first[name]]
        if differing:
            raise CliplitError(
                f"{run.path}: not a seed of the same experiment as {runs[0].path}: {differing[0]} differs"
            )
    seeds = [run.settings.seed for run in runs]
    if len(set(seeds)) < len(seeds):
        raise CliplitError(f"runs with the same seed ({', '.join(map(str, seeds))}) cannot be averaged as seeds")


def _reproduced(runs: list[Run], data: str, count: int, paired: bool, metric: str) -> tuple[str, str]:
    """Our number for a table of the paper, or an empty cell and the reason."""
    settings = runs[0].settings
    info = runs[0].notes("evaluation", "evaluation.json")
    roles = runs[0].notes("data", "data.json")["roles"]
    stand_in = settings.clip.random or not EMBEDDED.keys().isdisjoint(
        (settings.clip.similarity, settings.clip.identity)
    )
    if settings.profile != "paper" or stand_in or "test_backlit" not in roles:
        return "", f"profile {settings.profile} with {_clip_name(settings)}: needs {data} and OpenAI's CLIP weights"
    if info["images"] != count or paired != ("test_reference" in roles):
        return "", f"this run's test set has {info['images']} images; {data} has {count}"
    if metric in info["missing"]:
        return "", info["missing"][metric]
    last = stages_table(runs).query("stage not in ('random-clip',)").iloc[-1]
    return f"{last[metric]:.3f}", f"{last['stage']}, seeds {len(runs)}"


def _clip_name(settings) -> str:
    return f"random {settings.clip.similarity}" if settings.clip.random else settings.clip.similarity

"""Tables of one or several runs: CSV, Markdown and LaTeX, from the per-image scores."""

from pathlib import Path

import pandas as pd

import cliplit
from cliplit.checks import CliplitError
from cliplit.config import flatten
from cliplit.evaluation import evaluate
from cliplit.runs import Run, read_json, write_text

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
    scores = pd.concat([evaluate(run).assign(run=n) for n, run in enumerate(runs)])
    metrics = [name for name in scores.columns if name not in ("stage", "image", "run")]
    groups = scores.groupby(["stage", "run"], sort=False)
    means, spreads = groups[metrics].mean(), groups[metrics].std()
    table = pd.DataFrame(index=scores["stage"].drop_duplicates())
    for metric in metrics:
        table[metric] = means[metric].groupby("stage", sort=False).mean()
        table[f"{metric}_std"] = spreads[metric].groupby("stage", sort=False).mean()
        if len(runs) > 1:
            table[f"{metric}_seed_std"] = means[metric].groupby("stage", sort=False).std()
    table["images"], table["seeds"] = scores.groupby("stage")["image"].nunique(), len(runs)
    return table.rename_axis("stage").reset_index()


def paper_tables(runs: list[Run]) -> dict[str, pd.DataFrame]:
    """For each data set of the paper: metric, reported, reproduced, and where from or why not."""
    reported, tables = reported_numbers(), {}
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
    tables = {"stages": stages_table(runs)} | {f"paper_{name}": table for name, table in paper_tables(runs).items()}
    written = []
    for name, table in tables.items():
        texts = {"csv": table.to_csv(index=False, float_format="%.4f", lineterminator="\n")}
        shown = with_spread(table) if name == "stages" else table
        texts |= {"md": markdown(shown), "tex": latex(shown)}
        for suffix, text in texts.items():
            written.append(Path(folder) / f"{name}.{suffix}")
            write_text(text, written[-1])
    return written


def fill_in(path: str | Path, name: str, text: str) -> None:
    """Replace what stands between ``<!-- name -->`` and ``<!-- /name -->`` in a text file.

    Raises:
        CliplitError: the file has no such place.
    """
    start, end, path = f"<!-- {name} -->\n", f"<!-- /{name} -->", Path(path)
    before, opened, rest = path.read_text(encoding="utf-8").partition(start)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise CliplitError(f"{path}: no place for the table between {start.strip()} and {end}")
    write_text(f"{before}{start}{text}{end}{after}", path)


def with_spread(table: pd.DataFrame) -> pd.DataFrame:
    """The stages table for readers: "mean ± std" over images in one cell per metric, and ± over seeds if several."""
    shown = pd.DataFrame({"stage": table["stage"]})
    for metric in (name for name in table.columns if f"{name}_std" in table.columns):
        digits = 2 if table[metric].abs().max() > 2 else 3
        seeds = f"{metric}_seed_std"
        shown[metric] = [
            "no references"
            if pd.isna(row[metric])
            else f"{row[metric]:.{digits}f} ± {row[f'{metric}_std']:.{digits}f}"
            + (f" (seeds ± {row[seeds]:.{digits}f})" if seeds in table.columns else "")
            for _, row in table.iterrows()
        ]
    return shown


def reported_numbers() -> pd.DataFrame:
    """Published numbers with their source: data, method, metric, value, source."""
    package = Path(cliplit.__file__).parent
    candidates = (package.parent / "results" / "paper" / "reported.csv", package / "reported.csv")
    return pd.read_csv(next(path for path in candidates if path.is_file()))


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).values.tolist()]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def latex(table: pd.DataFrame) -> str:
    """A table in LaTeX, for the package booktabs."""
    rows = [" & ".join(_escape(cell) for cell in row) + r" \\" for row in table.astype(str).values.tolist()]
    head = " & ".join(_escape(name) for name in table.columns) + r" \\"
    columns = "l" * len(table.columns)
    lines = [
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        head,
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _check_seeds(runs: list[Run]) -> None:
    first, *others = (flatten(run.settings) for run in runs)
    for run, settings in zip(runs[1:], others):
        differing = [name for name in first if name != "seed" and settings[name] != first[name]]
        if differing:
            raise CliplitError(
                f"{run.path}: not a seed of the same experiment as {runs[0].path}: {differing[0]} differs"
            )
    seeds = [run.settings.seed for run in runs]
    if len(set(seeds)) < len(seeds):
        raise CliplitError(f"runs with the same seed ({', '.join(map(str, seeds))}) cannot be averaged as seeds")


def _escape(text: str) -> str:
    for plain, escaped in (
        ("\\", r"\textbackslash "),
        ("&", r"\&"),
        ("%", r"\%"),
        ("_", r"\_"),
        ("#", r"\#"),
        ("±", r"$\pm$"),
    ):
        text = text.replace(plain, escaped)
    return text


def _reproduced(runs: list[Run], data: str, count: int, paired: bool, metric: str) -> tuple[str, str]:
    """Our number for a table of the paper, or an empty cell and the reason."""
    settings = runs[0].settings
    info = read_json(runs[0].folder("evaluation") / "evaluation.json")
    roles = read_json(runs[0].folder("data") / "data.json")["roles"]
    stand_in = settings.clip.random or "tiny" in (settings.clip.similarity, settings.clip.identity)
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

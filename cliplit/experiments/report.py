"""The report of a run: all its tables, and whether it agrees with the published results."""

from pathlib import Path

import numpy as np
import pandas as pd

from cliplit.experiments import claims, tables
from cliplit.method.run import Run
from cliplit.profiles import profile as get_profile
from cliplit.scoring import summary
from cliplit.values import differing


def run_tables(runs: list[Run]) -> dict[str, pd.DataFrame]:
    """All tables of one or several runs (seeds) by name: stages, differences, claims, and the paper's data sets."""
    stages = tables.stages_table(runs)
    made = {"stages": stages, "differences": tables.differences_table(runs), "claims": claims.claims_table(runs)}
    return made | {f"paper_{data.lower()}": tables.paper_table(runs, stages, data) for data in tables.PAPER_DATA}


def for_readers(made: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Tables of `run_tables`, formatted for readers."""
    layouts = {"stages": summary.with_spread, "differences": summary.with_intervals, "claims": claims.for_readers}
    return {name: layouts[name](table) if name in layouts else table for name, table in made.items()}


def write_tables(made: dict[str, pd.DataFrame], folder: str | Path) -> list[Path]:
    """Write tables of `run_tables` as .csv, .md and .tex; returns the paths."""
    written = []
    for name, shown in for_readers(made).items():
        written += summary.write_table(made[name], shown, Path(folder), name)
    return written


def comparison(run: Run) -> pd.DataFrame:
    """A finished run next to published results: columns row, published, here, tolerance, agrees.

    The demo is compared with the PSNR of its published seeds, and the profile `paper` with the paper's numbers that are
    known. Other settings give no rows.
    """
    stages = tables.stages_table([run])
    rows: list[tuple[str, float, float, float]] = []
    if run.settings.profile == "paper":
        for data in tables.PAPER_DATA:
            table = tables.paper_table([run], stages, data)
            known = table[(table["reproduced"] != "") & (table["reported"] != tables.NOT_TOLD)]
            for row in known.itertuples():
                name = f"{data} {row.metric}"
                rows.append((name, float(row.reported), float(row.reproduced), float(row.tolerance)))
    elif not differing(run.settings, get_profile("demo", {"seed": run.settings.seed})):
        here = stages.set_index("stage")
        for row in tables.committed(tables.PUBLISHED).query("seed == @run.settings.seed").itertuples():
            rows.append(
                (f"{row.stage} {row.metric}", row.value, here[row.metric].get(row.stage, np.nan), row.tolerance)
            )
    table = pd.DataFrame(rows, columns=["row", "published", "here", "tolerance"]).round(4)  # like the published ones
    return table.assign(agrees=(table["here"] - table["published"]).abs() <= table["tolerance"])


def reproduced(table: pd.DataFrame) -> str:
    """The `comparison` in one line."""
    if table.empty:
        return "Not compared: no numbers are published for these settings and data."
    apart = table[~table["agrees"]]
    if apart.empty:
        count, widest = len(table), table["tolerance"].max()
        return f"Reproduced: {count} of {count} rows within their tolerances, at most {widest:g}, of what is published."
    rows = (f"{row.row} {row.here - row.published:+.2f} (tolerance {row.tolerance:g})" for row in apart.itertuples())
    return f"Not reproduced: {len(apart)} of {len(table)} rows differ from what is published: {'; '.join(rows)}."

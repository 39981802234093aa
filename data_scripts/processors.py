"""What another instruction set or number of threads changes: seed 0 of the demo, and the tolerances that follow from it.

    python data_scripts/processors.py RUNS --seeds DIR DIR DIR --output results/demo/tables

Each configuration is a run of its own in RUNS; finished ones are kept. It writes `processors` (CSV, Markdown, LaTeX), the
PSNR of every stage minus that of the first configuration, and `published.csv`, the PSNR of the published seeds with a
tolerance for each stage, which `cliplit reproduce` compares with.
"""

import argparse
import math
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import torch

from cliplit.experiments.tables import stages_table
from cliplit.method.run import Run
from cliplit.scoring.summary import write_table

# Name: threads, ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA. The first one is what `make results` uses.
CONFIGURATIONS = {
    "1 thread": (1, "", ""),
    "2 threads": (2, "", ""),
    "AVX2, 1 thread": (1, "avx2", "AVX2"),
    "SSE4.1, 1 thread": (1, "default", "SSE41"),
}
LEAST = 0.1  # dB: processors differ in more than was tried
STEP = 0.1  # dB, to which tolerances are rounded up
METRIC = "psnr"


def offered() -> dict[str, tuple[int, str, str]]:
    """The configurations that differ on this processor."""
    best = torch.backends.cpu.get_cpu_capability()
    return {name: each for name, each in CONFIGURATIONS.items() if best != "AVX2" or each[1] != "avx2"}


def train(folder: Path, threads: int, aten: str, onednn: str, options: list[str]) -> None:
    """Train and evaluate a run in a process of its own: libraries read these variables when they are loaded."""
    chosen = {"OMP_NUM_THREADS": str(threads), "ATEN_CPU_CAPABILITY": aten, "ONEDNN_MAX_CPU_ISA": onednn}
    environment = os.environ | {name: value for name, value in chosen.items() if value}
    command = [sys.executable, "-m", "cliplit", "train", "--run", str(folder), "--seed", "0", *options]
    subprocess.run(command, env=environment, check=True)


def differences(runs: dict[str, Run]) -> pd.DataFrame:
    """PSNR of every stage (columns) in every configuration (rows), minus that of the first one."""
    scores = {name: stages_table([run]).set_index("stage")[METRIC] for name, run in runs.items()}
    table = pd.DataFrame(scores).T
    return table - table.iloc[0]


def published(seeds: list[Run], moved: pd.DataFrame) -> pd.DataFrame:
    """PSNR of every seed and stage with its tolerance in dB: the largest difference between configurations, rounded up."""
    most = moved.abs().max()
    rows = []
    for run in seeds:
        for row in stages_table([run]).itertuples():
            near = max(LEAST, math.ceil(round(most[row.stage] / STEP, 6)) * STEP)
            rows.append((run.settings.seed, row.stage, METRIC, getattr(row, METRIC), near))
    return pd.DataFrame(rows, columns=["seed", "stage", "metric", "value", "tolerance"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, metavar="RUNS", help="folder of the runs of this command")
    parser.add_argument(
        "--seeds", type=Path, nargs="+", required=True, metavar="DIR", help="the runs that are published"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the tables")
    parser.add_argument("--profile", default="demo", help="of the runs; smoke tries the command")
    chosen = parser.parse_args()
    runs = {}
    for name, each in offered().items():
        folder = chosen.runs / name.replace(",", "").replace(" ", "-")
        train(folder, *each, [] if (folder / "manifest.json").is_file() else ["--profile", chosen.profile])
        runs[name] = Run.open(folder)
    moved = differences(runs)
    shown = moved.map("{:+.2f}".format)
    tables = (table.rename_axis("configuration").reset_index() for table in (moved, shown))
    write_table(*tables, chosen.output, "processors")
    table = published([Run.open(folder) for folder in chosen.seeds], moved)
    table.to_csv(chosen.output / "published.csv", index=False, float_format="%.4f", lineterminator="\n")
    print(shown.to_string())


if __name__ == "__main__":
    main()

"""Measure how results depend on the instruction set and the number of threads, and derive tolerances for the demo.

    python data_scripts/processors.py RUNS --seeds runs/results/seed0 runs/results/seed1 ... --output results/demo/tables

The first seed is trained again in RUNS with every configuration that this processor supports, without the random-CLIP
control. Finished runs are kept. The command writes two tables: `processors` (CSV, Markdown, LaTeX) has the PSNR of each
stage minus the PSNR of the published run, and `published.csv` has the PSNR of all published seeds with a tolerance for
each stage. `cliplit reproduce` compares a run with `published.csv`.
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
from cliplit.method.run import Run, choose_run
from cliplit.profiles import overrides
from cliplit.scoring.summary import write_table
from cliplit.settings import Settings

# Name: threads, ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA. The published runs use one thread and all instruction sets.
CONFIGURATIONS = {
    "2 threads": (2, "", ""),
    "AVX2": (1, "avx2", "AVX2"),
    "SSE4.1": (1, "default", "SSE41"),
}
LEAST = 0.1  # dB, smallest tolerance, since only few differences between processors are tried
STEP = 0.1  # dB, tolerances are rounded up to multiples of it
METRIC = "psnr"


def offered() -> dict[str, tuple[int, str, str]]:
    """The configurations that this processor supports and that differ."""
    best = torch.backends.cpu.get_cpu_capability()
    return {name: each for name, each in CONFIGURATIONS.items() if best != "AVX2" or each[1] != "avx2"}


def train(folder: Path, threads: int, aten: str, onednn: str, settings: Settings) -> Run:
    """Train and evaluate a run in a separate process, because libraries read these variables when they are loaded."""
    chosen = {"OMP_NUM_THREADS": str(threads), "ATEN_CPU_CAPABILITY": aten, "ONEDNN_MAX_CPU_ISA": onednn}
    environment = os.environ | {name: value for name, value in chosen.items() if value}
    run = choose_run(settings.profile, folder, overrides(settings) | {"evaluation.control": False})
    run.begin()
    subprocess.run([sys.executable, "-m", "cliplit", "train", "--run", str(folder)], env=environment, check=True)
    return run


def differences(base: Run, runs: dict[str, Run]) -> pd.DataFrame:
    """PSNR of every stage (columns) in every configuration (rows), minus the PSNR of the published run."""
    scores = {name: stages_table([run]).set_index("stage")[METRIC] for name, run in runs.items()}
    return (pd.DataFrame(scores).T - stages_table([base]).set_index("stage")[METRIC]).dropna(axis="columns")


def published(seeds: list[Run], moved: pd.DataFrame) -> pd.DataFrame:
    """PSNR of every seed and stage with its tolerance in dB.

    If a row differs between configurations, its tolerance is the largest difference of any row, rounded up, because
    only few configurations are tried. All other rows get `LEAST`.
    """
    most = moved.abs().max()
    most = most.where(most <= LEAST, most.max())
    rows = []
    for run in seeds:
        scores = stages_table([run]).set_index("stage")[METRIC]
        for stage in (stage for stage in scores.index if stage in most):
            near = max(LEAST, math.ceil(round(most[stage] / STEP, 6)) * STEP)
            rows.append((run.settings.seed, stage, METRIC, scores[stage], near))
    return pd.DataFrame(rows, columns=["seed", "stage", "metric", "value", "tolerance"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, metavar="RUNS", help="folder of the runs of this command")
    parser.add_argument(
        "--seeds", type=Path, nargs="+", required=True, metavar="DIR", help="the runs that are published"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the tables")
    chosen = parser.parse_args()
    seeds = [Run.open(folder) for folder in chosen.seeds]
    runs = {
        name: train(chosen.runs / name.replace(" ", "-"), *each, seeds[0].settings) for name, each in offered().items()
    }
    moved = differences(seeds[0], runs)
    shown = moved.map("{:+.2f}".format)
    tables = (table.rename_axis("configuration").reset_index() for table in (moved, shown))
    write_table(*tables, chosen.output, "processors")
    table = published(seeds, moved)
    table.to_csv(chosen.output / "published.csv", index=False, float_format="%.4f", lineterminator="\n")
    print(shown.to_string())


if __name__ == "__main__":
    main()

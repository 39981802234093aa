"""`cliplit` as processes that share what takes long to import, so that a start is quick."""

import multiprocessing
import os
import signal
import sys
from pathlib import Path

import torch

HEAVY = ["accelerate", "open_clip", "pyiqa", "scipy.stats", "jinja2", "cliplit.cli.app", "cliplit.cli.runs"]
HEAVY += ["cliplit.method.training", "cliplit.experiments.evaluation", "cliplit.experiments.tables"]
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(HEAVY)


def start(*arguments: str | Path, output: str | Path = os.devnull) -> multiprocessing.Process:
    """Start `cliplit` with arguments on one thread; what it shows goes to the file `output`."""
    process = FORKS.Process(target=run_command, args=[output, *map(str, arguments)])
    process.start()
    return process


def run_command(output: str | Path, *arguments: str) -> None:
    """Be `cliplit` with arguments in a started process."""
    os.environ["OMP_NUM_THREADS"] = "1"
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["cliplit", *arguments]
    torch.set_num_threads(1)
    from cliplit.cli.app import main

    with open(output, "w", encoding="utf-8") as file:
        sys.stdout = sys.stderr = file
        main()

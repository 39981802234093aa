"""What `cliplit plan` says that a run takes, and what it then takes.

    python benchmarks/plan.py [--profile demo] [--output results/benchmarks/plan.md]

Nothing else should run on the machine.
"""

import argparse
import tempfile
import time
from pathlib import Path

import pandas as pd

from cliplit.experiments.evaluation import evaluate, train_control
from cliplit.experiments.planning import measure
from cliplit.files.atomic import write_text
from cliplit.method.run import Run
from cliplit.method.training import train
from cliplit.profiles import profile
from cliplit.scoring.summary import markdown


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--profile", default="demo")
    options.add_argument("--output", type=Path, help="also write the table there")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder) / "run", profile(given.profile))
        plan = measure(run)
        began = time.monotonic()
        Run.start(run.path, run.settings)
        train(run)
        if run.settings.evaluation.control:
            train_control(run)
        evaluate(run)
        taken = time.monotonic() - began
    said = plan.seconds()
    row = [given.profile, f"{said:.0f}", f"{plan.measured_in:.0f}", f"{taken:.0f}", f"{said / taken:.2f}"]
    table = markdown(pd.DataFrame([row], columns=["profile", "said, s", "to say so, s", "taken, s", "said / taken"]))
    print(table)
    if given.output:
        write_text(table, given.output)


if __name__ == "__main__":
    main()

"""The kit needs no library of the extra `photos`: the whole method runs where none of them can be imported."""

import os
import subprocess
import sys

from cliplit.method.run import Run

BLOCKED = """
import sys
sys.modules.update(dict.fromkeys(["imagecodecs", "pillow_heif", "rawpy"]))  # each import raises ImportError
from cliplit.cli.app import main
try:
    main()
finally:
    assert "cliplit_photos.inference" not in sys.modules
"""


def test_the_method_runs_without_imagecodecs_pillow_heif_and_rawpy(tmp_path):
    changes = ["--set", "evaluation.control=false", "--set", "evaluation.longer=false", "--set", "refinement.rounds=1"]
    command = ["train", "--profile", "smoke", "--run", str(tmp_path / "run"), *changes]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    call = subprocess.run([sys.executable, "-c", BLOCKED, *command], capture_output=True, text=True, env=environment)
    assert call.returncode == 0, call.stderr
    run = Run.open(tmp_path / "run")
    assert run.finished() == list(run.plan) and "round1" in call.stdout

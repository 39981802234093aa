"""Throw-away notebooks, and one run of the real ones for all tests that look at its outcome."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["TQDM_DISABLE"] = "1"  # tqdm reads it when it is imported; tests look at stderr
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it, and so would children

import nbformat
import pytest
import torch

from cliplit.cli.app import main
from cliplit.errors import CliplitError
from cliplit.experiments import notebooks
from cliplit.experiments.notebooks import list_notebooks, notebooks_folder, reproduce
from cliplit.files.atomic import read_json
from cliplit.method.checkpoints import save_enhancer
from cliplit.method.enhancer import Enhancer
from cliplit.method.run import Run, start_run
from cliplit.profiles import SMOKE

SHARED = ("reproduced", "trained", "watched", "studied", "whole", "exported")  # slow: their tests share a process

PARAMETERS = 'profile = "demo"\nrun = ""\nseed = 0\noverrides = {}'


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For several processes (`-n 2 --dist loadgroup`): what was trained for several tests is trained once; long ones first."""
    for item in items:
        for name in set(SHARED) & set(item.fixturenames):
            item.add_marker(pytest.mark.xdist_group(name))
    items.sort(key=lambda item: not {"xdist_group", "slow"} & set(item.keywords))


def write_notebook(path: Path, *cells: str, parameters: str = PARAMETERS) -> Path:
    """A notebook with a cell tagged `parameters` and the given cells."""
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[first, *map(nbformat.v4.new_code_cell, cells)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def builds(run: Run) -> dict[str, str]:
    """Build id of every finished stage."""
    return {stage: read_json(run.path / stage / "stage.json")["build"] for stage in run.finished()}


@pytest.fixture
def cli(capsys, monkeypatch):
    """Run the command line in this process: exit code, lines on stdout, lines on stderr."""

    def call(*arguments) -> tuple[int, list[str], list[str]]:
        monkeypatch.setattr(sys, "argv", ["cliplit", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        shown = capsys.readouterr()
        return code, shown.out.splitlines(), shown.err.splitlines()

    return call


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """An enhancer that is quick and does something: bounded, so never dead."""
    path = tmp_path_factory.mktemp("enhancer") / "tiny.safetensors"
    network = Enhancer(width=8, downscale=4, max_illumination=1.5).initialize(1)
    for weight in network.parameters():
        weight.data *= 8  # until the map depends on the pixels
    save_enhancer(network, path, SMOKE, "enhancer0", 1)
    return path


@pytest.fixture
def enhance(cli, checkpoint, tmp_path_factory, monkeypatch):
    """Run `cliplit enhance` with that enhancer: exit code, lines on stdout and stderr."""
    monkeypatch.setenv("CLIPLIT_CACHE", str(tmp_path_factory.mktemp("cache")))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for such small photos several only wait for one another
    yield lambda *arguments: cli("enhance", *arguments, "--checkpoint", checkpoint)
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def kernel() -> Iterator[Any]:
    """A kernel for all tests that do not look at its start and end; each start takes seconds to import libraries."""
    with notebooks._kernel() as kernel:
        yield kernel


@pytest.fixture
def one_kernel(kernel, monkeypatch) -> None:
    """Have `reproduce` execute notebooks in that kernel."""
    monkeypatch.setattr(notebooks, "_kernel", lambda: nullcontext(kernel))


@dataclass
class Reproduced:
    """A run of the real notebooks that failed in 02 and then went on."""

    run: Run
    error: str  # of the failure
    builds: dict[str, str]  # at the failure
    resumed: list[Path]  # what was executed after it


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory, kernel) -> Reproduced:
    folder = tmp_path_factory.mktemp("reproduced")
    run = start_run("smoke", folder / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebooks, "_kernel", lambda: nullcontext(kernel))
        with pytest.raises(CliplitError) as failure:
            reproduce(run, _with_failing_end(folder / "notebooks", "02_enhancer_training"))
        before = builds(run)
        return Reproduced(run, str(failure.value), before, reproduce(run))


def _with_failing_end(folder: Path, name: str) -> Path:
    """A copy of the real notebooks, one of which fails in its last cell."""
    folder.mkdir()
    for source in list_notebooks(notebooks_folder()):
        shutil.copy(source, folder)
    notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("raise RuntimeError('pulled the plug')"))
    nbformat.write(notebook, folder / f"{name}.ipynb")
    return folder

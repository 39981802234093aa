"""`reproduce`: what is executed, what is left out, what a failure says; then the real notebooks, end to end."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import papermill
import pytest
from conftest import builds, write_notebook
from jupyter_client.manager import AsyncKernelManager
from processes import FORKS, run_command

from cliplit.errors import CliplitError
from cliplit.experiments import notebooks
from cliplit.experiments.notebooks import STUDIES, list_notebooks, notebooks_folder, parameters, reproduce
from cliplit.files.atomic import read_json
from cliplit.method.run import Run, start_run
from cliplit.method.run_images import prepare_data
from cliplit.profiles import SMOKE, profile

# A cell that leaves a trace of being executed, and one of what it was given.
TRACE = "from pathlib import Path\nwith open(Path(run) / 'trace', 'a') as file:\n    print({0!r}, profile, seed, overrides, file=file)"


def trace(run: Run) -> list[str]:
    """Which notebooks were executed since the last look."""
    path = run.path / "trace"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return [line.split()[0] for line in lines]


@pytest.fixture
def run(tmp_path):
    return Run.start(tmp_path / "run", SMOKE)


@pytest.fixture
def folder(tmp_path):
    """Three notebooks, whose names sort otherwise than their numbers."""
    for name in ("0_a", "2_b", "03_c"):
        write_notebook(tmp_path / "notebooks" / f"{name}.ipynb", TRACE.format(name))
    return tmp_path / "notebooks"


def one_line(error) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.usefixtures("one_kernel")
def test_executes_in_numeric_order_with_the_parameters_of_the_run(tmp_path, folder):
    run = Run.start(
        tmp_path / "run", profile("smoke", {"seed": 3, "enhancement.extend_above": 9, "prompts.zoom": "1,2"})
    )
    done = reproduce(run, folder)
    assert (run.path / "trace").read_text().splitlines() == [
        f"{name} smoke 3 {{'prompts.zoom': [1.0, 2.0], 'enhancement.extend_above': 9.0}}"
        for name in ("0_a", "2_b", "03_c")
    ]
    assert done == [run.path / "notebooks" / f"{name}.ipynb" for name in ("0_a", "2_b", "03_c")]
    assert all(nbformat.read(path, as_version=4).metadata.papermill.exception is None for path in done)


@pytest.mark.usefixtures("one_kernel")
def test_does_nothing_twice_and_redoes_from_what_changed(run, folder):
    reproduce(run, folder)
    assert trace(run) == ["0_a", "2_b", "03_c"]
    assert reproduce(run, folder) == [] and trace(run) == []
    write_notebook(folder / "2_b.ipynb", TRACE.format("changed"))
    reproduce(run, folder)
    assert trace(run) == ["changed", "03_c"]
    (run.path / "notebooks" / "03_c.ipynb").unlink()
    reproduce(run, folder)
    assert trace(run) == ["03_c"]


@pytest.mark.usefixtures("one_kernel")
def test_other_settings_are_refused_and_redo_all_on_demand(run, folder):
    prepare_data(run)
    reproduce(run, folder)
    other = Run(run.path, profile("smoke", {"evaluation.gammas": "0.5"}))
    with pytest.raises(CliplitError, match="evaluation.gammas 0.5,1.0 -> 0.5.*--rebuild"):
        reproduce(other, folder)
    reproduce(other, folder, rebuild=True)
    assert trace(run) == ["0_a", "2_b", "03_c"] * 2


@pytest.mark.usefixtures("one_kernel")
def test_a_notebook_that_names_no_kernel_is_given_one(run, folder):
    path = folder / "2_b.ipynb"
    notebook = nbformat.read(path, as_version=4)
    del notebook.metadata["kernelspec"]
    nbformat.write(notebook, path)
    reproduce(run, folder)
    assert trace(run) == ["0_a", "2_b", "03_c"]


@pytest.mark.usefixtures("one_kernel")
def test_a_run_may_be_moved(run, folder, tmp_path):
    reproduce(run, folder)
    run.path.rename(tmp_path / "moved")
    assert reproduce(Run.open(tmp_path / "moved"), folder) == []


@pytest.mark.usefixtures("one_kernel")
def test_a_missing_figure_is_drawn_again(run, tmp_path):
    draw = "from pathlib import Path\nfigures = Path(run) / 'figures'\nfigures.mkdir(exist_ok=True)\n(figures / 'a.png').touch()"
    write_notebook(tmp_path / "notebooks" / "0_a.ipynb", draw)
    reproduce(run, tmp_path / "notebooks")
    assert reproduce(run, tmp_path / "notebooks") == []
    (run.path / "figures" / "a.png").unlink()
    assert reproduce(run, tmp_path / "notebooks") and (run.path / "figures" / "a.png").exists()


@pytest.mark.usefixtures("one_kernel")
@pytest.mark.parametrize(
    "cell, says",
    [
        ("raise RuntimeError('first\\nsecond')", "RuntimeError: first second"),
        ("from cliplit import CliplitError\nraise CliplitError('no such lamp')", "2_b, cell [3]: no such lamp"),
    ],
)
def test_a_failure_in_one_line_and_goes_on_from_there(run, folder, cell, says):
    fail_and_go_on(run, folder, cell, says)


def test_a_kernel_that_died_in_one_line_and_goes_on_from_there(run, folder):
    fail_and_go_on(run, folder, "import os\nos._exit(1)", "the kernel died")


def fail_and_go_on(run: Run, folder: Path, cell: str, says: str) -> None:
    write_notebook(folder / "2_b.ipynb", cell)
    with pytest.raises(CliplitError) as error:
        reproduce(run, folder)
    message, copy = one_line(error), run.path / "notebooks" / "2_b.ipynb"
    assert says in message and message.startswith("2_b") and message.endswith(f"(executed copy: {copy})")
    assert nbformat.read(copy, as_version=4).cells and trace(run) == ["0_a"]
    write_notebook(folder / "2_b.ipynb", TRACE.format("mended"))
    reproduce(run, folder)
    assert trace(run) == ["mended", "03_c"]


@pytest.mark.usefixtures("one_kernel")
def test_the_same_failure_again_is_not_taken_for_done(run, folder):
    write_notebook(folder / "2_b.ipynb", "1 / 0")
    for _ in range(2):
        with pytest.raises(CliplitError, match="ZeroDivisionError: division by zero"):
            reproduce(run, folder)
    assert trace(run) == ["0_a"]


@pytest.mark.usefixtures("one_kernel")
def test_a_notebook_that_was_done_and_then_failed_is_not_done(run, folder):
    fragile = "from pathlib import Path\nassert not (Path(run) / 'broken').exists()\n"
    write_notebook(folder / "2_b.ipynb", fragile + TRACE.format("2_b"))
    reproduce(run, folder)
    (run.path / "broken").touch()
    (run.path / "notebooks" / "0_a.ipynb").unlink()
    with pytest.raises(CliplitError, match="AssertionError"):
        reproduce(run, folder)
    (run.path / "broken").unlink()
    reproduce(run, folder)
    assert trace(run) == ["0_a", "2_b", "03_c", "0_a", "2_b", "03_c"]


def test_no_notebooks_and_no_overwriting_of_sources(run, folder, tmp_path):
    with pytest.raises(CliplitError, match="no numbered notebooks"):
        reproduce(run, tmp_path)
    with pytest.raises(CliplitError, match="would replace the notebooks"):
        reproduce(Run(folder.parent, SMOKE), folder)


def test_missing_folders_and_weights_are_noticed_before_anything_runs(tmp_path, folder):
    for changes in ({"clip.similarity": "no-such-clip"}, {"data.backlit": "/nowhere", "data.well_lit": "/nowhere"}):
        run = Run(tmp_path / "run", profile("smoke", changes))
        with pytest.raises(CliplitError) as error:
            reproduce(run, folder)
        assert one_line(error) and not run.path.exists()


def test_the_kernel_is_this_interpreter_whatever_is_registered(run, tmp_path, monkeypatch):
    broken = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    broken.parent.mkdir(parents=True)
    broken.write_text(json.dumps({"argv": ["/no/such/python"], "display_name": "mine", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    tell = "import os, sys\nfrom pathlib import Path\n(Path(run) / 'told').write_text(f\"{sys.executable} {os.environ['TQDM_DISABLE']}\")"
    write_notebook(tmp_path / "notebooks" / "0_a.ipynb", tell)
    reproduce(run, tmp_path / "notebooks")
    assert (run.path / "told").read_text() == f"{sys.executable} 1" and "TQDM_DISABLE" not in os.environ


TRAINING = """
import torch
from cliplit.engine.interrupts import interrupts
from cliplit.engine.loop import Loop
from cliplit.engine.parts import Part
from cliplit.engine.record import Recorder
from cliplit.settings import Watch
module = torch.nn.Linear(1, 1)
optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
recorder = Recorder(Path(run) / "stage", Watch(save_seconds=600))
loop = Loop(Path(run) / "stage", Part("warmup", 500), module, optimizer, recorder)
with interrupts() as asked:
    for iteration in loop.until(asked):
        (Path(run) / "pid").write_text(str(os.getpid()))
        time.sleep(3)
        loop.step(module(torch.ones(1, 1)).sum())
"""


@pytest.mark.parametrize("waits", ["(Path(run) / 'pid').write_text(str(os.getpid()))\ntime.sleep(600)", TRAINING])
def test_ctrl_c_ends_the_kernel_too_and_saves_its_training(tmp_path, waits):
    pid = tmp_path / "run" / "pid"
    write_notebook(tmp_path / "notebooks" / "0_a.ipynb", f"import os, time\nfrom pathlib import Path\n{waits}")
    shown = tmp_path / "shown"
    process = FORKS.Process(target=_reproduce, args=[tmp_path / "notebooks", pid.parent, shown])
    process.start()
    _wait_for(lambda: process.exitcode is not None or (pid.exists() and pid.read_text()))
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    assert process.exitcode == 130 and "Traceback" not in shown.read_text()
    _wait_for(lambda: not _alive(int(pid.read_text())))
    assert read_json(tmp_path / "run" / "notebooks" / "0_a.json") is None
    assert (tmp_path / "run" / "stage" / "progress.pt").exists() == (waits == TRAINING)


def _reproduce(source: Path, run: Path, shown: Path) -> None:
    notebooks.notebooks_folder = lambda: source
    run_command(shown, "reproduce", "--profile", "smoke", "--run", str(run))


def _wait_for(condition, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# The real notebooks, with the profile smoke.


def test_an_interrupted_notebook_goes_on(reproduced):
    assert "02_enhancer_training" in reproduced.error and "RuntimeError: pulled the plug" in reproduced.error
    assert [path.stem[:2] for path in reproduced.resumed] == ["02", "03", "04"]
    assert set(reproduced.builds) == {"data", "prompts0", "warmup", "enhancer0"}
    assert builds(reproduced.run).items() > reproduced.builds.items()


def test_every_notebook_leaves_a_clean_executed_copy(reproduced):
    for source in (path for path in list_notebooks(notebooks_folder()) if int(path.name[:2]) < STUDIES):
        copy = nbformat.read(reproduced.run.path / "notebooks" / source.name, as_version=4)
        code = [cell for cell in copy.cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in code) and any(cell.outputs for cell in code)
        streams = [output.text for cell in code for output in cell.outputs if output.get("name") == "stderr"]
        assert not streams, f"{source.name}: {streams}"


def test_a_kernel_that_dies_at_its_start_is_started_again(run, folder, monkeypatch):
    start, failures = AsyncKernelManager.start_kernel, ["Kernel died before replying to kernel_info"] * 2

    async def sometimes(manager, **options):
        if failures:
            raise RuntimeError(failures.pop())
        return await start(manager, **options)

    monkeypatch.setattr(AsyncKernelManager, "start_kernel", sometimes)
    reproduce(run, folder)
    assert trace(run) == ["0_a", "2_b", "03_c"]
    failures += ["Kernel died before replying to kernel_info"] * 3
    (run.path / "notebooks" / "0_a.ipynb").unlink()
    with pytest.raises(CliplitError, match="the kernel of the notebooks cannot be started"):
        reproduce(run, folder)


def test_notebooks_share_a_kernel_but_no_names(run, tmp_path):
    tell = "import os, sys\nfrom pathlib import Path\nnames = sorted({'left', 'Path'} & set(globals()))\n"
    tell += "with open(Path(run) / 'told', 'a') as file:\n    print(os.getpid(), names, file=file)\nleft = 1"
    for name in ("0_a", "1_b"):
        write_notebook(tmp_path / "notebooks" / f"{name}.ipynb", tell)
    done = reproduce(run, tmp_path / "notebooks")
    first, second = (run.path / "told").read_text().splitlines()
    assert first == second and first.endswith("['Path']")
    counts = [[c.execution_count for c in nbformat.read(path, as_version=4).cells] for path in done]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("name", [2024, 1.5, True, "2024"])
def test_numbers_as_texts_of_a_notebook_are_texts(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    run = start_run("smoke", name, overrides=None)
    assert [path.name for path in tmp_path.iterdir()] == [str(name)] and run.path == Path(str(name))
    for bad, words in ((3, "unknown profile '3'"), (2.5, "unknown profile '2.5'")):
        with pytest.raises(CliplitError, match=words):
            start_run(bad, "run")
    with pytest.raises(CliplitError, match="override '5' is not of the form NAME=VALUE"):
        start_run("smoke", "run", overrides=5)


@pytest.mark.parametrize("number", range(7))
def test_every_notebook_takes_its_run_by_start_run(number):
    (source,) = notebooks_folder().glob(f"{number:02}_*.ipynb")
    code = [cell.source for cell in nbformat.read(source, as_version=4).cells if cell.cell_type == "code"]
    assert sum("cliplit.start_run(profile, run, seed, overrides)" in cell for cell in code) == 1


def test_odd_names_of_runs_and_notebooks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "-x {a}{0}{ [b]*? 50%s größe $HOME a'b\"c }"
    write_notebook(tmp_path / f"{name} notebooks" / "0_a.ipynb", TRACE.format("0_a"))
    run = Run.start(name, SMOKE)
    done = reproduce(run, tmp_path / f"{name} notebooks")
    assert done == [Path(name) / "notebooks" / "0_a.ipynb"] and done[0].is_file() and trace(run) == ["0_a"]
    assert reproduce(run, tmp_path / f"{name} notebooks") == []


@pytest.mark.usefixtures("one_kernel")
def test_a_damaged_record_of_a_notebook_has_it_executed_again(run, tmp_path):
    write_notebook(tmp_path / "notebooks" / "0_a.ipynb", TRACE.format("0_a"))
    reproduce(run, tmp_path / "notebooks")
    assert trace(run) == ["0_a"]
    for content in ("", "[]", '{"inputs": {}, "results": null}'):
        (run.path / "notebooks" / "0_a.json").write_text(content)
        reproduce(run, tmp_path / "notebooks")
        assert trace(run) == ["0_a"], content


def test_plain_papermill_works_as_well(tmp_path):
    given = {"profile": "smoke", "run": str(tmp_path / "run"), "overrides": "data.embedded_pairs=2 seed=4"}
    papermill.execute_notebook(
        notebooks_folder() / "00_setup_and_data.ipynb", tmp_path / "out.ipynb", given, progress_bar=False
    )
    run = Run.open(tmp_path / "run")
    assert run.finished() == ["data"] and (run.settings.seed, run.settings.data.embedded_pairs) == (4, 2)


def test_the_run_is_complete(reproduced):
    run = reproduced.run
    assert run.finished() == list(run.plan)
    assert {path.suffix for path in (run.path / "tables").iterdir()} == {".csv", ".md", ".tex"}
    assert {path.name[:2] for path in (run.path / "figures").iterdir()} >= {"00", "01", "02", "03", "04"}
    assert set(read_json(run.path / "manifest.json")["stages"]) == set(run.plan)


def test_the_first_notebook_counts_the_images(reproduced):
    copy = nbformat.read(reproduced.run.path / "notebooks" / "00_setup_and_data.ipynb", as_version=4)
    outputs = [
        output.data["text/plain"] for cell in copy.cells for output in cell.get("outputs", []) if "data" in output
    ]
    (counts,) = (text for text in outputs if "training, backlit" in text)
    assert [line.split()[-1] for line in counts.splitlines()[1:]] == ["8", "8", "3", "3", "0"]


def test_a_second_time_does_nothing_quickly(reproduced):
    command = [sys.executable, "-m", "cliplit", "reproduce", "--profile", "smoke", "--run", str(reproduced.run.path)]
    before, began = builds(reproduced.run), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert time.monotonic() - began < 10
    assert "nothing to do" in done.stdout and "warmup" in done.stdout and builds(reproduced.run) == before


@pytest.mark.usefixtures("one_kernel")
def test_a_deleted_stage_is_redone_to_the_same_bytes(reproduced, tmp_path):
    shutil.copytree(reproduced.run.path, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    before = builds(run)
    shutil.rmtree(run.path / "enhancer1")
    assert [path.stem[:2] for path in reproduce(run)] == ["03", "04"]
    assert builds(run) == before
    assert tables(run) == tables(reproduced.run)


def test_training_without_notebooks_ends_with_the_same_tables(reproduced, tmp_path, cli):
    code, out, _ = cli("train", "--profile", "smoke", "--run", tmp_path / "run")
    assert code == 0 and any("round2" in line for line in out)
    assert tables(Run.open(tmp_path / "run")) == tables(reproduced.run)


def tables(run: Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run.path / "tables").iterdir()}


def test_parameters_of_a_default_run_change_nothing(tmp_path):
    assert parameters(Run(tmp_path, SMOKE)) == {"profile": "smoke", "run": str(tmp_path), "seed": 0, "overrides": {}}


def test_only_cells_left_behind_are_not_told_of():
    from nbclient.exceptions import DeadKernelError

    for error, shown in ((DeadKernelError("Kernel died"), False), (ValueError("other"), True)):
        record = logging.LogRecord("asyncio", logging.ERROR, "", 0, "", (), (type(error), error, None))
        assert notebooks._is_no_dead_kernel(record) == shown

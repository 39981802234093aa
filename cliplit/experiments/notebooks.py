"""Execute the numbered notebooks of a run with papermill, and skip those that are up to date."""

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import dropwhile
from pathlib import Path
from typing import Any

from tqdm import tqdm

import cliplit
from cliplit.engine import processes
from cliplit.engine.stages import HOLDER
from cliplit.errors import CliplitError, one_line
from cliplit.experiments.planning import at_work
from cliplit.files.atomic import read_json, sha256, write_json
from cliplit.method.run import Run
from cliplit.profiles import overrides
from cliplit.scoring.weights import available_now

KERNEL_OPTIONS = ("--log-level=CRITICAL", "--HistoryManager.enabled=False")  # cell numbers start at 1 in each notebook
KERNEL_STARTS = 3  # most attempts to start the kernel
INTERRUPTED_WAIT = 60.0  # seconds that an interrupted training gets to finish its iteration
RESULTS = ("figures", "tables")  # folders that notebooks write to, besides the stages
FORGET_NAMES = "get_ipython().run_line_magic('reset_selective', '-f .')\nget_ipython().execution_count = 1"
STUDIES = 5  # notebooks from this number on are studies, which train many networks and run only on demand


def reproduce(run: Run, notebooks: Path | None = None, rebuild: bool = False, studies: bool = False) -> list[Path]:
    """Execute the notebooks of a run in numeric order, from the first one that is out of date.

    They share a kernel, so that libraries and CLIP are loaded once.

    A notebook is up to date if its source, parameters, stages and results have not changed since its last execution.
    Executed copies are written to <run>/notebooks, even after a failure.

    Args:
        notebooks: their folder; by default the one of the checkout or of the installed package.
        rebuild: as for `Run.start`.
        studies: also execute the studies, notebooks from 05 on.
    Returns:
        The executed copies; none if everything is up to date. Raises CliplitError if a cell fails.
    """
    if processes.count() > 1:
        raise CliplitError("several processes train with `cliplit train`; `cliplit reproduce` then resumes there")
    every = list_notebooks(notebooks or notebooks_folder())
    sources = [source for source in every if studies or _number(source) < STUDIES]
    if (run.path / "notebooks").resolve() == every[0].parent.resolve():
        raise CliplitError(f"{run.path}: executed copies would replace the notebooks; choose another one with --run")
    pending = list(dropwhile(lambda source: _up_to_date(source, run), sources))
    if pending:
        with at_work(run, rebuild), _kernel() as kernel, tqdm(pending, unit="notebook", dynamic_ncols=True) as bar:
            for source in pending:
                _executed(source, run).with_suffix(".json").unlink(missing_ok=True)
            for source in bar:
                bar.set_description(source.stem)
                _execute(source, run, kernel)
                kernel.run(FORGET_NAMES)
    return [_executed(source, run) for source in pending]


def notebooks_folder() -> Path:
    """The folder of the notebooks: in the checkout that cliplit runs from, or else in the installed package."""
    package = Path(cliplit.__file__).parent
    return (package.parent if (package.parent / "pyproject.toml").is_file() else package) / "notebooks"


def list_notebooks(folder: Path) -> list[Path]:
    """Numbered notebooks of a folder, in numeric order; raises CliplitError if there are none."""
    found = [path for path in folder.glob("*.ipynb") if re.match(r"\d+_", path.name)]
    if not found:
        raise CliplitError(f"{folder}: no numbered notebooks here (00_name.ipynb ...)")
    return sorted(found, key=lambda path: (_number(path), path.name))


def _number(notebook: Path) -> int:
    return int(notebook.name.split("_")[0])


def parameters(run: Run) -> dict[str, Any]:
    """The values for the cell tagged `parameters` in every notebook."""
    changed = overrides(run.settings)
    seed = changed.pop("seed", 0)
    return {"profile": run.settings.profile, "run": str(run.path), "seed": seed, "overrides": changed}


def _up_to_date(source: Path, run: Run) -> bool:
    copy = _executed(source, run)
    record = read_json(copy.with_suffix(".json"), inputs=dict, results=list)
    if record is None or record["inputs"] != _inputs(source, run):
        return False
    left = [copy, *(run.path / str(result) for result in record["results"])]
    stages = [stage.name for stage in run.plan.values() if stage.made_by == source.stem]
    if not all(file.is_file() for file in left) or not all(map(run.is_current, stages)):
        return False
    return "evaluation" not in stages or not available_now(run.notes("evaluation", "evaluation.json")["missing"])


def _inputs(source: Path, run: Run) -> dict[str, Any]:
    """The inputs of an executed copy besides its stages. `watch`, `device` and the run's path change no result."""
    changes = overrides(run.settings).items()
    matter = {name: value for name, value in changes if name != "device" and not name.startswith("watch.")}
    return {"notebook": sha256(source), "profile": run.settings.profile, "changes": matter}


def _executed(source: Path, run: Run) -> Path:
    return run.path / "notebooks" / source.name


def _execute(source: Path, run: Run, kernel: Any) -> None:
    import papermill
    from nbclient.exceptions import DeadKernelError

    target = _executed(source, run)
    inputs = _inputs(source, run)
    before = _results(run)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            _literal(source),
            _literal(target),
            parameters(run),
            kernel_name="python3",
            language="python",
            progress_bar=False,
            km=kernel,
            shutdown_kernel="graceful",
        )
    except papermill.PapermillExecutionError as error:
        message = " ".join(error.evalue.split())
        message = message if error.ename == CliplitError.__name__ else f"{error.ename}: {message}"
        raise CliplitError(f"{source.stem}, cell [{error.exec_count}]: {message} (executed copy: {target})") from None
    except DeadKernelError:
        raise CliplitError(f"{source.stem}: the kernel died, maybe out of memory (executed copy: {target})") from None
    except KeyboardInterrupt:
        logging.getLogger("asyncio").addFilter(_is_no_dead_kernel)
        raise
    written = sorted(name for name, changed in _results(run).items() if before.get(name) != changed)
    write_json({"inputs": inputs, "results": written}, target.with_suffix(".json"))


def _is_no_dead_kernel(record: logging.LogRecord) -> bool:
    """False for asyncio's messages after Ctrl-C about cells whose kernel was ended."""
    from nbclient.exceptions import DeadKernelError

    return not (record.exc_info and isinstance(record.exc_info[1], DeadKernelError))


def _literal(path: Path) -> str:
    """An escaped absolute path, since papermill reads {names} as parameters, and "-" as standard input."""
    return os.path.abspath(path).replace("{", "{{").replace("}", "}}")


@contextmanager
def _kernel() -> Iterator[Any]:
    """A kernel of the Python that runs cliplit, whatever kernels are registered; without progress bars."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.util import run_sync

    class ThisInterpreter(AsyncKernelManager):
        shutdown_wait_time = 2 * INTERRUPTED_WAIT
        kernel_spec = KernelSpec(
            argv=[sys.executable, "-m", "ipykernel_launcher", *KERNEL_OPTIONS, "-f", "{connection_file}"],
            env={"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore:IProgress not found", HOLDER: str(os.getpid())},
            display_name="Python 3",
            language="python",
        )

        def run(self, code: str) -> None:
            client = self.client()
            client.start_channels()
            run_sync(client.wait_for_ready)()
            run_sync(client.execute_interactive)(code, silent=True)
            client.stop_channels()

    for left in reversed(range(KERNEL_STARTS)):
        kernel = ThisInterpreter()
        try:
            run_sync(kernel.start_kernel)()
            kernel.run("pass")
            break
        except RuntimeError as error:  # two kernels that start at the same time may choose the same port
            with suppress(RuntimeError):
                run_sync(kernel.shutdown_kernel)(now=True)
            if not left:
                raise CliplitError(f"the kernel of the notebooks cannot be started ({one_line(error)})") from None
    try:
        yield kernel
    finally:
        with suppress(RuntimeError):  # the kernel died
            run_sync(kernel.shutdown_kernel)()


def _results(run: Run) -> dict[str, int]:
    """Figures and tables of a run, with their modification times."""
    files = (file for folder in RESULTS for file in (run.path / folder).rglob("*") if file.is_file())
    return {str(file.relative_to(run.path)): file.stat().st_mtime_ns for file in files}

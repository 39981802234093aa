"""Worker processes that try files. A worker may crash, hang, or use too much memory; these faults are reported."""

import contextlib
import multiprocessing
import os
import re
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

RESULT, REFUSED = "result", "refused"
FINE = (RESULT, REFUSED)  # any other outcome is a fault
MOST_TO_START = 120  # seconds to start a worker, including imports
ADDRESSES = 4 << 30  # most bytes that a worker may allocate, so that a fault does not stop the machine


class Fault(Exception):
    """Something that must not happen."""


@dataclass(frozen=True)
class Trial:
    """How to try files.

    Attributes:
        attempt: tries a file in a folder of its own, with or without a network; returns one of `FINE`, or raises.
        prepare: called first in every process.
        seconds: the longest time that a file may take.
        megabytes: the most memory that a file may add to the worker.
    """

    attempt: Callable[[Path, bool], str]
    prepare: Callable[[], None] | None = None
    seconds: float = 10
    megabytes: float = 300


class Worker:
    """A process that tries files. It is replaced if it crashes or hangs."""

    def __init__(self, trial: Trial):
        self._trial = trial
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, self._trial), daemon=True)
        self._process.start()
        theirs.close()
        if not self._pipe.poll(MOST_TO_START):
            raise RuntimeError("a worker does not start")
        self._pipe.recv()  # the worker is ready

    def try_file(self, path: Path, with_network: bool) -> dict[str, Any]:
        """Try a file and return its outcome, and the lines that libraries wrote to stderr."""
        try:
            self._pipe.send((path, with_network))
            if self._pipe.poll(self._trial.seconds):
                return self._pipe.recv()
            outcome = f"more than {self._trial.seconds:g} s"
        except (EOFError, ConnectionError):
            self._process.join()
            outcome = f"the process ended with {self._process.exitcode}"
        self._process.kill()
        self._process.join()
        self._pipe.close()
        self._start()
        return {"outcome": outcome, "said": []}

    def end(self) -> None:
        self._pipe.send(None)
        self._process.join()
        self._pipe.close()


def _work(pipe: Connection, trial: Trial) -> None:
    """Try the files that arrive on the pipe, and send back their outcomes."""
    _limit_addresses()
    warnings.simplefilter("always")
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)  # C libraries also write to it
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        warnings.formatwarning = _in_one_line
        if trial.prepare:
            trial.prepare()
        pipe.send(None)
        while given := pipe.recv():
            path, with_network = given
            said.seek(0)
            said.truncate()
            before = _peak_from_now()
            outcome = _tried(trial, path, with_network)
            if outcome in FINE and _peak() - before > trial.megabytes:
                outcome = f"more than {trial.megabytes:g} MB"
            sys.stderr.flush()
            said.seek(0)
            lines = said.read().decode(errors="replace").splitlines()
            pipe.send({"outcome": outcome, "said": sorted({_plain(line, path) for line in lines if line.strip()})})


def _in_one_line(message: Any, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    return f"{category.__name__}: {' '.join(str(message).split())}, at {Path(filename).name}:{lineno}\n"


def _tried(trial: Trial, path: Path, with_network: bool) -> str:
    try:
        return trial.attempt(path, with_network)
    except BaseException as error:
        if isinstance(error, Fault):
            return _plain(str(error), path)
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {_plain(str(error), path)}, at {Path(place.filename).name}:{place.lineno}"


def _plain(text: str, path: Path) -> str:
    """A message in one line, without the parts that depend on the file."""
    text = re.sub(r"0x[0-9a-f]+|\d+", "N", text.replace(str(path), "FILE").replace(path.name, "FILE"))
    return " ".join(text.split())[:200]


def _limit_addresses() -> None:
    """Limit how many more bytes this process may allocate. This works on Linux only."""
    with contextlib.suppress(ImportError, OSError):
        import resource

        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + ADDRESSES, resource.RLIM_INFINITY))


def _peak_from_now() -> float:
    """Start to measure the memory of this process; return its megabytes now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> float:
    """The peak memory of this process in megabytes, if the system reports it."""
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return int(found[1]) / 1024 if found else 0
    return 0

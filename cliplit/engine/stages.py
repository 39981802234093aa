"""A directory with one folder per stage, built as `make` builds files: what is current stays, anything else is built again.

A stage is current while its inputs and the builds of the stages it needs are those it was made from. A half-built
stage keeps its progress and resumes. One process works in a directory at a time, or several that were started together.
"""

import os
import platform
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cliplit.engine import processes
from cliplit.errors import CliplitError
from cliplit.files.atomic import LARGE, digest_of, read_json, sha256, write_json

OWNER = ".owner.json"
NOT_CHECKED = {"watch", "images"}  # folders within a stage whose files may change or go without harm


@dataclass(frozen=True)
class Stage:
    """One step: the stages it needs, the groups of settings it depends on, and what makes it (for messages)."""

    name: str
    needs: tuple[str, ...]
    settings: tuple[str, ...]
    made_by: str


class Stages:
    """The folders of the stages of a plan, in which each comes after what it needs.

    A subclass says what the stages depend on (`inputs_of`), and what is written about them (`write_manifest`).
    """

    def __init__(self, path: str | Path, plan: Mapping[str, Stage]):
        self.path = Path(path)
        self.plan = plan
        self._current: list[str] | None = None

    def inputs_of(self, stage: str) -> dict[str, Any]:
        """All that the stage is made from, beside the stages it needs, as plain values."""
        raise NotImplementedError

    def write_manifest(self) -> None:
        """Write down which stages are finished; called after each."""
        raise NotImplementedError

    def folder(self, stage: str) -> Path:
        """Folder of a finished stage.

        Raises:
            CliplitError: the stage has not been built, or is out of date.
        """
        if not self.is_current(stage):
            maker = self.plan[stage].made_by
            raise CliplitError(f"{self.path}: stage '{stage}' is missing or out of date; run {maker} first")
        return self.path / stage

    def is_current(self, stage: str) -> bool:
        """Whether the stage's outputs are there, and made from these inputs and these builds of what it needs."""
        return stage in self.current()

    def current(self) -> list[str]:
        """Names of the stages that are current, in the order of the plan. Files are looked at once; then `build` keeps count."""
        if self._current is None:
            found: list[str] = []
            for stage in self.plan.values():
                if all(need in found for need in stage.needs) and self.fits(stage.name, self.path / stage.name):
                    found.append(stage.name)
            self._current = found
        return list(self._current)

    def look_again(self) -> None:
        """Forget which stages are current: other processes may have built or removed some."""
        self._current = None

    def fits(self, stage: str, folder: Path) -> bool:
        """Whether a folder has the stage's outputs, made from these inputs and these builds of what it needs."""
        record = _record(folder)
        return bool(
            record
            and record["settings"] == self.inputs_of(stage)
            and record["needs"] == self._builds_needed(stage)
            and not _changed(folder, record)
        )

    def record(self, stage: str) -> dict[str, Any] | None:
        """What is known of a finished stage: its build, seconds, processes, sizes and digests of its outputs; else None."""
        return _record(self.path / stage)

    def notes(self, stage: str, name: str) -> dict[str, Any]:
        """The object in a JSON file that a finished stage left.

        Raises:
            CliplitError: as `folder`; or it is damaged.
        """
        path = self.folder(stage) / name
        content = read_json(path)
        if content is None:
            raise CliplitError(f"{path}: damaged; remove {path.parent}, and the same command makes it again")
        return content

    def build(self, stage: str, make: Callable[[Path], None], together: bool = False) -> Path:
        """Folder of a stage, made by `make(folder)` unless it is current.

        `make` may find the progress of an interrupted attempt with the same inputs in the folder.

        Args:
            together: all processes of `accelerate launch` call `make`, not only the main one.
        Raises:
            CliplitError: a stage that it needs is not current, or another process is at work here.
        """
        folder = self.path / stage
        if not self.is_current(stage):
            self.look_again()  # a finished stage of another process must not be built again
        if self.is_current(stage):
            return folder
        for need in self.plan[stage].needs:
            self.folder(need)
        processes.wait()  # until all have looked
        with held(self.path) if processes.is_main() else nullcontext():
            if processes.is_main():
                self._begin(stage)
            processes.wait()
            began = time.monotonic()
            if together or processes.is_main():
                make(folder)
            processes.wait()
            if processes.is_main():
                self._end(stage, time.monotonic() - began)
            self.note_built(stage)
            if processes.is_main():
                self.write_manifest()
        processes.wait()
        return folder

    def note_built(self, stage: str) -> None:
        """The stage is current, those made from its former build are no longer."""
        before = self.current()
        self._current = []
        for name, planned in self.plan.items():
            stays = name in before and stage not in planned.needs
            if (stays or name == stage) and all(need in self._current for need in planned.needs):
                self._current.append(name)

    def _begin(self, stage: str) -> None:
        """An empty folder, unless a former attempt had the same inputs."""
        folder = self.path / stage
        inputs = {"settings": self.inputs_of(stage), "needs": self._builds_needed(stage)}
        if read_json(folder / "building.json") != inputs:
            record = _record(folder)
            damaged = _changed(folder, record) if record else []
            begun = read_json(folder / "building.json", settings=dict, needs=dict)
            for name, readable in (("stage.json", record), ("building.json", record or begun)):
                if not readable and (folder / name).exists():
                    damaged.append(folder / name)
            for path in damaged:
                processes.say(f"{path}: damaged or changed; stage '{stage}' is made anew")
            for left in (folder, self.path / "watch" / stage):
                shutil.rmtree(left, ignore_errors=True)
            folder.mkdir(parents=True)
            write_json(inputs, folder / "building.json")

    def _end(self, stage: str, seconds: float) -> None:
        """The record of a finished stage."""
        folder = self.path / stage
        inputs = read_json(folder / "building.json") or {}
        (folder / "building.json").unlink()
        outputs = {
            str(path.relative_to(folder)): (path.stat().st_size, sha256(path))
            for path in sorted(folder.rglob("*"))
            if path.is_file()
            and not any(part in NOT_CHECKED or part.startswith(".") for part in path.relative_to(folder).parts)
        }
        record = {"build": uuid.uuid4().hex, "seconds": round(seconds, 1), "processes": processes.count()}
        write_json(record | inputs | {"outputs": outputs}, folder / "stage.json")

    def _builds_needed(self, stage: str) -> dict[str, str | None]:
        return {need: (self.record(need) or {}).get("build") for need in self.plan[stage].needs}


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a directory for this process alone.

    The operating system takes the lock back when the process ends, however it ends, so a dead process holds nothing.

    Raises:
        CliplitError: another process holds it; names the process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        other = owner(folder) or {"pid": "unknown", "host": "?", "since": "?"}
        raise CliplitError(
            f"{folder}: process {other['pid']} on {other['host']} is at work here since {other['since']}; "
            f"wait until it ends, or choose another directory with --run"
        ) from None
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        write_json({"pid": os.getpid(), "host": platform.node(), "since": since}, folder / OWNER)
        yield
    finally:
        (folder / OWNER).unlink(missing_ok=True)
        lock.release()


def owner(folder: Path) -> dict[str, Any] | None:
    """The process that holds a directory: pid, host, since; None if none does, as far as can be told from here."""
    import psutil

    found = read_json(folder / OWNER, pid=int, host=str, since=str)
    try:
        gone = found and found["host"] == platform.node() and not psutil.pid_exists(found["pid"])
    except OverflowError:  # no pid
        gone = True
    return None if gone else found


def _record(folder: Path) -> dict[str, Any] | None:
    """The record of a finished stage; None if there is none that can be read."""
    return read_json(folder / "stage.json", build=str, seconds=float, settings=dict, needs=dict, outputs=dict)


def _changed(folder: Path, record: Mapping[str, Any]) -> list[Path]:
    """Outputs of a stage that have not the size or, unless they are large, not the content that it recorded."""
    changed = []
    for name, left in record["outputs"].items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else -1
        if not isinstance(left, list) or left[:1] != [size] or not (size > LARGE or left[1:] == [digest_of(path)]):
            changed.append(path)
    return changed

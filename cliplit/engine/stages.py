"""A directory with one folder per stage. Finished stages stay; missing stages are built.

A stage is current while its inputs and the stages it needs are those it was made from. A stage that is out of date is
replaced only on demand, and the old one stays until the new one is complete. A half-built stage keeps its progress and
resumes. One command at a time writes to a directory. Readers need no lock and use finished stages, current or not.
"""

import hashlib
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cliplit.engine import processes
from cliplit.errors import CliplitError, shortened
from cliplit.files.atomic import LARGE, digest_of, read_json, sha256, write_json
from cliplit.settings import REMOVED, dotted

OWNER = ".owner.json"
HOLDER = "CLIPLIT_HOLDER"  # environment: the process that holds the directory for this one
NEW = ".new"  # folder of a stage that will replace a finished one
OLD = ".old"  # the stage that is being replaced
NOT_CHECKED = {"watch", "images", "building.json"}  # within a stage: files that may change or vanish


@dataclass(frozen=True)
class Stage:
    """One step: the stages it needs, the groups of settings it depends on, and what makes it (for messages)."""

    name: str
    needs: tuple[str, ...]
    settings: tuple[str, ...]
    made_by: str


class Stages:
    """The folders of the stages of a plan, which lists each stage after the stages it needs.

    A subclass defines what the stages depend on (`inputs_of`).

    Attributes:
        rebuilding: stages that are out of date may be replaced.
    """

    def __init__(self, path: str | Path, plan: Mapping[str, Stage]):
        self.path = Path(path)
        self.plan = plan
        self.rebuilding = False

    def inputs_of(self, stage: str) -> dict[str, Any]:
        """Everything the stage is made from, except the stages it needs, as plain values."""
        raise NotImplementedError

    def folder(self, stage: str) -> Path:
        """Folder of a finished stage; raises CliplitError if the stage has not been built."""
        if self.record(stage) is None:
            maker = f"`cliplit train --run {self.path}` makes it, or notebook {self.plan[stage].made_by}"
            raise CliplitError(f"{self.path}: stage '{stage}' is missing; {maker}")
        place = self.path / stage
        return place if _record(place) else self.path / NEW / stage  # its process was killed while replacing

    def record(self, stage: str) -> dict[str, Any] | None:
        """The record of a finished stage (build, seconds, processes, inputs and outputs), else None."""
        return _record(self.path / stage) or _record(self.path / NEW / stage)

    def finished(self) -> list[str]:
        """Names of the stages that are finished, in the order of the plan."""
        return [stage for stage in self.plan if self.record(stage)]

    def is_current(self, stage: str, folder: Path | None = None) -> bool:
        """Whether the stage is finished, in its folder or another one, and matches these inputs."""
        place = folder or self.path / stage
        return _record(place) is not None and not self.differences(stage, place)

    def notes(self, stage: str, name: str) -> dict[str, Any]:
        """The content of a JSON file of a finished stage. Raises CliplitError as `folder` does, or if it is damaged."""
        path = self.folder(stage) / name
        content = read_json(path)
        if content is None:
            again = f"rebuild it with `cliplit train --run {self.path} --rebuild`"
            raise CliplitError(f"{path}: damaged; restore it, or {again}")
        return content

    def outdated(self) -> dict[str, list[str]]:
        """Stages, finished or begun, that do not match these inputs, each with the differences."""
        found: dict[str, list[str]] = {}
        for name, stage in self.plan.items():
            needs = [f"stage '{need}'" for need in stage.needs if need in found and self.record(name)]
            if reasons := self.differences(name, self.path / name) or needs:
                found[name] = reasons
        return found

    def refuse_outdated(self) -> None:
        """Raise CliplitError if a stage is out of date, unless it may be replaced."""
        for stage, reasons in {} if self.rebuilding else self.outdated().items():
            raise CliplitError(
                f"{self.path}: stage '{stage}' is out of date ({shortened(reasons)}); "
                f"choose another --run, or rebuild it with `cliplit train --run {self.path} --rebuild`"
            )

    def differences(self, stage: str, folder: Path) -> list[str]:
        """How a finished or begun stage in a folder differs from the one that these inputs would make.

        Settings that exist only in this version, or only in the version that made the stage, do not count, except
        `REMOVED` ones.
        """
        made = _record(folder) or read_json(folder / "building.json", settings=dict, needs=dict)
        if made is None:
            return [f"{folder / 'stage.json'} is damaged"] if (folder / "stage.json").exists() else []
        before, now = dotted(made["settings"]), REMOVED | dotted(self.inputs_of(stage))
        found = [f"{n} {before[n]} -> {now[n]}" for n in sorted(before.keys() & now.keys()) if before[n] != now[n]]
        needed = {n: {"build": ""} for n in made["needs"]} | {n: self.record(n) for n in self.plan[stage].needs}
        found += [f"stage '{n}'" for n, there in needed.items() if there and made["needs"].get(n) != there["build"]]
        return found + [f"{path} is damaged or was changed" for path in _changed(folder, made.get("outputs", {}))]

    def build(self, stage: str, make: Callable[[Path], None], together: bool = False, again: bool = False) -> Path:
        """Folder of a stage, which `make(folder)` makes unless it is current.

        The folder may hold the progress of an interrupted attempt with the same inputs.

        Args:
            together: all processes of `accelerate launch` call `make`, not only the main one.
            again: replace the stage even if it is current.
        Raises:
            CliplitError: a stage it needs is missing, a stage must not be replaced, or another process uses the directory.
        """
        if self.is_current(stage) and not again:
            return self.path / stage
        for need in self.plan[stage].needs:
            self.folder(need)
        if not again:
            self.refuse_outdated()
        processes.wait()  # until all have checked
        with held(self.path):
            folder = self.path / (NEW if (self.path / stage / "stage.json").exists() else "") / stage
            with self._recorded(stage, folder):
                if together or processes.is_main():
                    make(folder)
        return self.path / stage

    @contextmanager
    def _recorded(self, stage: str, folder: Path) -> Iterator[None]:
        """Make a stage in the block. The main process records the inputs before it and the outputs after it.

        The folder is empty at first, unless it holds the progress of an attempt with the same inputs.
        """
        begun = read_json(folder / "building.json", settings=dict, needs=dict)
        if processes.is_main() and (begun is None or self.differences(stage, folder)):
            for left in (folder, self.path / "watch" / stage):
                shutil.rmtree(left, ignore_errors=True)
            folder.mkdir(parents=True)
            needs = {need: (self.record(need) or {}).get("build") for need in self.plan[stage].needs}
            begun = {"settings": self.inputs_of(stage), "needs": needs}
            write_json(begun, folder / "building.json")
        processes.wait()
        began = time.monotonic()
        yield
        processes.wait()
        if begun and processes.is_main():
            names = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
            checked = [name for name in names if not any(part in NOT_CHECKED or part[0] == "." for part in name.parts)]
            outputs = {str(name): ((folder / name).stat().st_size, sha256(folder / name)) for name in checked}
            build = hashlib.sha256(repr(outputs).encode()).hexdigest()[:32]  # the same outputs are the same build
            record = {"build": build, "seconds": round(time.monotonic() - began, 1), "processes": processes.count()}
            write_json(record | begun | {"outputs": outputs}, folder / "stage.json")
            (folder / "building.json").unlink()
            self.settle()
        processes.wait()

    def settle(self) -> None:
        """Replace finished stages with new ones. If killed at any moment, either the old or the new one is complete."""
        for new in [file.parent for file in self.path.glob(f"{NEW}/*/stage.json")]:
            place, old = self.path / new.name, self.path / OLD
            shutil.rmtree(old, ignore_errors=True)
            if place.exists():
                os.rename(place, old)
            os.rename(new, place)
            shutil.rmtree(old, ignore_errors=True)
            with suppress(OSError):  # another stage is half built there
                new.parent.rmdir()

    def adopt(self, stage: str, source: Path) -> None:
        """Take over a finished stage of another directory, with hard links if the disk supports them."""

        def link(file: str, target: str) -> None:
            try:
                os.link(file, target)
            except OSError:
                shutil.copy2(file, target)

        partial = self.path / f".{stage}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial, copy_function=link)
        shutil.rmtree(self.path / stage, ignore_errors=True)  # progress at most
        os.replace(partial, self.path / stage)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Lock a directory for this process and its workers until the outermost block ends.

    The operating system releases the lock when the process ends in any way, so a dead process holds nothing.

    Raises:
        CliplitError: another process holds the lock (the message names it), or the directory cannot be written.
    """
    other = read_json(folder / OWNER, pid=int, host=str, since=str) or {"pid": "unknown", "host": "?", "since": "?"}
    lock = FileLock(folder / ".lock", is_singleton=True)
    if lock.is_locked or str(other["pid"]) == os.environ.get(HOLDER) or not processes.is_main():
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise CliplitError(
            f"{folder}: process {other['pid']} on {other['host']} has used this run since {other['since']}; "
            f"wait until it ends, or choose another directory with --run"
        ) from None
    except OSError as error:
        raise CliplitError(f"{folder}: cannot write a run here ({error.strerror or error})") from None
    try:
        write_json({"pid": os.getpid(), "host": platform.node(), "since": time.ctime()}, folder / OWNER)
        yield
    finally:
        (folder / OWNER).unlink(missing_ok=True)
        lock.release()


def _record(folder: Path) -> dict[str, Any] | None:
    """The record of a finished stage; None if it is missing or cannot be read."""
    record = read_json(folder / "stage.json", build=str, seconds=float, settings=dict, needs=dict, outputs=dict)
    readable = record and all(isinstance(left, list) and len(left) == 2 for left in record["outputs"].values())
    return record if readable else None


def _changed(folder: Path, outputs: Mapping[str, Any]) -> Iterator[Path]:
    """Outputs of a stage whose size or (unless they are large) content differs from its record."""
    for name, (size, digest) in outputs.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size or (size <= LARGE and digest_of(path) != digest):
            yield path

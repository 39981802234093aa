"""Which photo goes where, and which are done: a job for every photo, and a ledger in the folder of the results.

Importing it does not import torch.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cliplit.errors import CliplitError
from cliplit.files.folders import find_images
from cliplit.files.formats import FORMATS, READ

LEDGER = "cliplit-enhance"  # .jsonl; of processes after the first with their number before it


@dataclass(frozen=True)
class Job:
    """A photo and where its result goes; the name is its path below what all photos have in common."""

    name: str
    source: Path
    target: Path

    def beside(self, ending: str) -> Path:
        """A file beside the result: its name and an ending."""
        return self.target.with_name(f"{self.target.name}.{ending}")

    @property
    def is_in_place(self) -> bool:
        """Whether the result would replace the photo."""
        return self.source.exists() and self.target.exists() and self.target.samefile(self.source)

    @property
    def kind(self) -> str:
        """The format of the result, one of the values of `FORMATS`."""
        return FORMATS[self.target.suffix.lower()]


def plan_jobs(inputs: Sequence[Path], out: Path, recursive: bool = False) -> tuple[list[Job], int]:
    """Jobs of photo files and folders, and the number of other files in these folders.

    A single file goes to `out` if that is a photo's name, everything else below the folder `out`, with the folders
    that it has below what all `inputs` have in common; so names never collide. Formats that are not written become
    PNG, with .png after their name. What lies in `out` itself is no input.

    Raises:
        CliplitError: a path that does not exist, no photos, two results of one name.
    """
    found = find_images(inputs, recursive, READ)
    sources = list(dict.fromkeys(path for path in found.images.values() if not _is_result(path, inputs, out)))
    if not sources:
        raise CliplitError(f"{', '.join(map(str, inputs))}: no photos here but those in {out}")
    if out.suffix.lower() in FORMATS and not out.is_dir():
        if len(inputs) > 1 or not inputs[0].is_file():
            raise CliplitError(f"{out}: several photos need a folder to go to, not a file")
        return [Job(sources[0].name, sources[0], out)], 0
    base = _common_folder(inputs)
    jobs = []
    for source in sources:
        name = Path(os.path.relpath(os.path.abspath(source), base)).as_posix()
        target = out / name
        if target.suffix.lower() not in FORMATS:
            target = Path(f"{target}.png")
        jobs.append(Job(name, source, target))
    targets: dict[Path, str] = {}
    for job in jobs:
        if job.target in targets:
            raise CliplitError(f"{targets[job.target]} and {job.name} would both become {job.target}")
        targets[job.target] = job.name
    return jobs, found.others


def _common_folder(inputs: Sequence[Path]) -> str:
    folders = [os.path.abspath(path if path.is_dir() else path.parent) for path in inputs]
    return os.path.commonpath(folders)


def _is_result(path: Path, inputs: Sequence[Path], out: Path) -> bool:
    """Whether a file was found only because the results lie below a folder of photos."""
    below = any(given.resolve() in out.resolve().parents for given in inputs)
    return below and path not in inputs and out.resolve() in path.resolve().parents


class Ledger:
    """What was made of which photo, with which settings: a line of JSON each.

    A line is added before the result takes its place, so every result has one; a line without its result counts for
    nothing. Files are known by size and time of change. Each process of a run has a file of its own and reads all.

    Args:
        folder: of the results; None keeps nothing.
        settings: everything that changes a result.
        rank: of this process.
    """

    def __init__(self, folder: Path | None, settings: Mapping[str, Any], rank: int = 0):
        self.settings = dict(settings)
        self._path: Path | None = None
        self._separator = b""  # before the next line
        self._lines: dict[str, list[dict[str, Any]]] = {}  # by the name of the photo
        if folder is None:
            return
        self._path = folder / (f"{LEDGER}.jsonl" if rank == 0 else f"{LEDGER}.{rank}.jsonl")
        if _is_cut_off(self._path):
            self._separator = b"\n"
        for path in sorted(folder.glob(f"{LEDGER}*.jsonl")):
            for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
                self._take(text)

    def __contains__(self, job: Job) -> bool:
        """Whether the result is there, made of this photo with these settings."""
        result = _stamp(job.target)
        if result is None:
            return False
        for line in self._lines.get(job.name, []):
            if line["settings"] != self.settings or line["result"] != result:
                continue
            # A photo that was replaced by its own result is done, although it is not what it was.
            if line["photo"] == _stamp(job.source) or job.is_in_place:
                return True
        return False

    def add(self, job: Job, result: Path) -> None:
        """Note the result of a photo, wherever it still lies."""
        if self._path is None:
            return
        line = {"name": job.name, "photo": _stamp(job.source), "result": _stamp(result), "settings": self.settings}
        with open(self._path, "ab") as file:
            file.write(self._separator + json.dumps(line).encode() + b"\n")
        self._separator = b""

    def _take(self, text: str) -> None:
        """Add a line of a file, unless it is cut off, or none of ours."""
        try:
            line = json.loads(text)
            if {"photo", "result", "settings"} <= line.keys():
                self._lines.setdefault(line["name"], []).append(line)
        except (ValueError, KeyError, TypeError, AttributeError):
            pass


def _is_cut_off(path: Path) -> bool:
    return path.is_file() and not path.read_bytes().endswith(b"\n")


def _stamp(path: Path) -> list[int] | None:
    """Size and time of the last change of a file."""
    if not path.is_file():
        return None
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]

"""Which photo goes where, and which are done: a job for every photo, and a ledger in the folder of the results.

Importing it does not import torch.
"""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cliplit.errors import CliplitError
from cliplit.files.atomic import sha256
from cliplit.files.folders import find_images
from cliplit.files.formats import FORMATS, RAW, READ

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


class Plan(NamedTuple):
    """What is to be done, and what is not.

    Attributes:
        jobs: one for every photo.
        others: number of other files in the folders.
        results: number of results of earlier calls in them.
        problems: one line for every photo that cannot be done.
    """

    jobs: list[Job]
    others: int = 0
    results: int = 0
    problems: Sequence[str] = ()


def plan_jobs(inputs: Sequence[Path], out: Path, recursive: bool = False) -> Plan:
    """Jobs of photo files and folders.

    A single file goes to `out` if that is a photo's name, everything else below the folder `out`, with the folders
    that it has below what all `inputs` have in common; so names never collide. Formats that are not written become
    PNG, RAW becomes TIFF, with the ending after their name. No input is what lies in `out`, and what a call into another
    folder below has made.

    Raises:
        CliplitError: a path that does not exist, no photos.
    """
    found = find_images(inputs, recursive, READ)
    problems = [f"{path}: {reason}" for path, reason in found.unread.items()]
    below = list(dict.fromkeys(path for path in found.images.values() if not _is_result(path, inputs, out)))
    earlier = _Results(inputs)
    sources = [path for path in below if path not in earlier]
    results = len(below) - len(sources)
    if not below:
        raise CliplitError(f"{', '.join(map(str, inputs))}: no photos here but those in {out}")
    if out.suffix.lower() in FORMATS and not out.is_dir():
        if len(inputs) > 1 or not inputs[0].is_file():
            raise CliplitError(f"{out}: several photos need a folder to go to, not a file")
        return Plan([Job(sources[0].name, sources[0], out)])
    base = _common_folder(inputs)
    jobs: dict[Path, Job] = {}
    replaced: dict[str, Job] = {}  # photos that give way to their results, by where they really lie
    for source in sources:
        name = Path(os.path.relpath(os.path.abspath(source), base)).as_posix()
        job = Job(name, source, out / result_name(name))
        other = jobs.get(job.target)
        if job.is_in_place:
            other = replaced.setdefault(os.path.realpath(source), job)
        if other and other is not job:
            problems.append(f"{source}: {other.name} would also become {job.target}; rename one, or move it elsewhere")
        else:
            jobs[job.target] = job
    return Plan(list(jobs.values()), found.others, results, problems)


def result_name(name: str) -> str:
    """What the result of a photo is called: as the photo, with an ending after it if such files are not written."""
    ending = Path(name).suffix.lower()
    if ending in FORMATS:
        return name
    return f"{name}.tif" if ending in RAW else f"{name}.png"


class _Results:
    """Results of earlier calls below folders that are given, by the ledgers there."""

    def __init__(self, inputs: Sequence[Path]):
        self._inputs = {Path(os.path.abspath(path)) for path in inputs}
        self._made: dict[
            Path, dict[str, list[Any]]
        ] = {}  # stamps, by the folder of the ledger and the name of the result

    def __contains__(self, path: Path) -> bool:
        file = Path(os.path.abspath(path))
        if file in self._inputs:
            return False
        for folder in file.parents:
            if folder in self._inputs:
                return False
            stamps = self._stamps(folder).get(file.relative_to(folder).as_posix(), [])
            if any(is_same(stamp, path) for stamp in stamps):
                return True
        return False

    def _stamps(self, folder: Path) -> dict[str, list[Any]]:
        if folder not in self._made:
            made: dict[str, list[Any]] = {}
            for line in read_ledgers(folder):
                made.setdefault(result_name(line["name"]), []).append(line["result"])
            self._made[folder] = made
        return self._made[folder]


def _common_folder(inputs: Sequence[Path]) -> str:
    folders = [os.path.abspath(path if path.is_dir() else path.parent) for path in inputs]
    return os.path.commonpath(folders)


def _is_result(path: Path, inputs: Sequence[Path], out: Path) -> bool:
    """Whether a file was found only because the results lie below a folder of photos."""
    below = any(given.resolve() in out.resolve().parents for given in inputs)
    return below and path not in inputs and out.resolve() in path.resolve().parents


def read_ledgers(folder: Path) -> list[dict[str, Any]]:
    """Lines of all ledgers in a folder, without those that are cut off or none of ours."""
    lines = []
    for path in sorted(folder.glob(f"{LEDGER}*.jsonl")):
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        for part in text.splitlines():
            with contextlib.suppress(ValueError, RecursionError):
                line = json.loads(part)
                if isinstance(line, dict) and isinstance(line.get("name"), str) and {"photo", "result"} <= line.keys():
                    lines.append(line)
    return lines


class Ledger:
    """What was made of which photo, with which settings: a line of JSON each.

    A line is added before the result takes its place, so every result has one; a line without its result counts for
    nothing. Files are known by size and time of change, or else, when they were copied, by their content. Each process
    of a run has a file of its own and reads all.

    Args:
        folder: of the ledger; None keeps nothing.
        settings: everything that changes a result.
        rank: of this process.
    Raises:
        CliplitError: something else lies in its place.
    """

    def __init__(self, folder: Path | None, settings: Mapping[str, Any], rank: int = 0):
        self.settings = dict(settings)
        self._path: Path | None = None
        self._separator = b""  # before the next line
        self._lines: dict[str, list[dict[str, Any]]] = {}  # by the name of the photo
        if folder is None:
            return
        self._path = folder / (f"{LEDGER}.jsonl" if rank == 0 else f"{LEDGER}.{rank}.jsonl")
        if self._path.exists() and not self._path.is_file():
            raise CliplitError(f"{self._path}: is where the list of what is done belongs; move it away")
        if _is_cut_off(self._path):
            self._separator = b"\n"
        for line in read_ledgers(folder):
            self._lines.setdefault(line["name"], []).append(line)

    def __contains__(self, job: Job) -> bool:
        """Whether the result is there, made of this photo with these settings."""
        for line in self._lines.get(job.name, []):
            if line.get("settings") != self.settings or not is_same(line["result"], job.target):
                continue
            # A photo that was replaced by its own result is done, although it is not what it was.
            if job.is_in_place or is_same(line["photo"], job.source):
                return True
        return False

    def add(self, job: Job, result: Path) -> None:
        """Note the result of a photo, wherever it still lies."""
        if self._path is None:
            return
        line = {"name": job.name, "photo": stamp(job.source), "result": stamp(result), "settings": self.settings}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with open(self._path, "ab") as file:
            file.write(self._separator + json.dumps(line, allow_nan=False).encode() + b"\n")
        self._separator = b""


def _is_cut_off(path: Path) -> bool:
    return path.is_file() and not path.read_bytes().endswith(b"\n")


def stamp(path: Path) -> list[int | str]:
    """By what a file is known: its size, the time of its last change, and the digest of its content."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, sha256(path)]


def is_same(stamp: Any, path: Path) -> bool:
    """Whether a file is that of a stamp; its content is looked at only if its time has changed and not its size."""
    if not isinstance(stamp, list) or len(stamp) < 2 or not path.is_file():
        return False
    status = path.stat()
    if stamp[0] != status.st_size:
        return False
    return stamp[1] == status.st_mtime_ns or (len(stamp) > 2 and stamp[2] == sha256(path))

"""Which photo goes where. Importing it does not import torch."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cliplit.errors import CliplitError
from cliplit.files.images import find_images
from cliplit.photos import FORMATS, READ


@dataclass(frozen=True)
class Job:
    """A photo and where its result goes; the name is its path below what all photos have in common."""

    name: str
    source: Path
    target: Path

    def beside(self, ending: str) -> Path:
        return self.target.with_name(f"{self.target.name}.{ending}")

    @property
    def is_in_place(self) -> bool:
        """Whether the result would replace the photo."""
        return self.source.exists() and self.target.exists() and self.target.samefile(self.source)

    @property
    def kind(self) -> str:
        return FORMATS[self.target.suffix.lower()]


def plan(inputs: Sequence[Path], out: Path, recursive: bool = False) -> tuple[list[Job], int]:
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
        jobs.append(Job(name, source, target if target.suffix.lower() in FORMATS else Path(f"{target}.png")))
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

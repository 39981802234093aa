"""Decides where each photo goes: a job for every photo, and a line for each photo without a job.

Importing it does not import torch.
"""

import contextlib
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cliplit.errors import CliplitError
from cliplit.files.folders import find_images
from cliplit_photos.formats import FORMATS, RAW, READ, UNREAD, kind_of
from cliplit_photos.ledger import EarlierResults

FILE_ENDING = re.compile(r"\.[a-z]{2,4}\d?")  # .pdf, .jgp, .mp4; but not .2024, .v2, .originals


@dataclass(frozen=True)
class Job:
    """A photo and the place of its result. The name is its path below the common folder of all photos."""

    name: str
    source: Path
    target: Path

    def beside(self, ending: str) -> Path:
        """A file beside the result: its name and an ending."""
        return self.target.with_name(f"{self.target.name}.{ending}")

    @property
    def kind(self) -> str:
        """The format of the result, one of the values of `FORMATS`."""
        return FORMATS[self.target.suffix.lower()]


class Plan(NamedTuple):
    """All files that were found: photos with a job, and the others.

    Attributes:
        jobs: no two of them write the same file.
        inputs: all photos that were found, with or without a job.
        others: number of files that are not photos.
        results: number of results of earlier calls, which are not enhanced again.
        passed: number of subfolders that were skipped.
        problems: a line for each photo without a job, with its file.
    """

    jobs: list[Job]
    inputs: Sequence[Path]
    others: int = 0
    results: int = 0
    passed: int = 0
    problems: Sequence[str] = ()


def plan_jobs(inputs: Sequence[Path], out: str | Path, recursive: bool = False) -> Plan:
    """Jobs of photo files and folders.

    A single file goes to `out` if that is the name of a photo. Everything else goes below the folder `out`, with the
    folders that it has below the common folder of all `inputs`. If names still collide, all of them are problems.
    Formats that cannot be written become PNG, and RAW becomes TIFF; the new ending follows the old name.

    Args:
        out: a folder if it exists as one, has no ending of a file, or ends in a slash.
    Raises:
        CliplitError: a path does not exist, there are no photos, or `out` is a file of a format that is not written.
    """
    ending = Path(os.path.basename(out)).suffix.lower()  # none before a slash
    out = Path(out)
    to_file = not out.is_dir() and (ending in READ | UNREAD.keys() or FILE_ENDING.fullmatch(ending))
    if to_file:
        kind_of(out, f", or a folder ({out}{os.sep})")

    def lies_beside_its_photo(path: Path) -> bool:  # as a.gif.png beside a.gif
        photo = path.with_suffix("")
        return photo.suffix.lower() in READ and result_name(photo.name) == path.name and photo.is_file()

    found = find_images(inputs, recursive, READ)
    earlier = EarlierResults(inputs, out)
    photos = [path for path in found.images.values() if path not in earlier]
    sources = [path for path in photos if not (lies_beside_its_photo(path) and earlier.names(path))]
    unread = {path: reason for path, reason in found.unread.items() if path not in earlier}
    others = found.others + len(found.unread) - len(unread)
    if not sources and not unread:
        raise CliplitError(
            f"{', '.join(map(str, inputs))}: only results of earlier calls here, no photos; "
            "to enhance them again, give their own folder"
        )
    if to_file:
        if len(inputs) > 1 or not inputs[0].is_file():
            raise CliplitError(f"{out}: several photos need a folder as OUT, not a file")
        return Plan([Job(sources[0].name, sources[0], out)], sources)
    folders = [os.path.abspath(path if path.is_dir() else path.parent) for path in inputs]
    base = os.path.commonpath(folders)
    names = [Path(os.path.relpath(os.path.abspath(source), base)).as_posix() for source in sources]
    all_jobs = [Job(name, source, out / result_name(name)) for name, source in zip(names, sources, strict=True)]
    problems = [f"{path}: {reason}" for path, reason in unread.items()]
    jobs = []
    for group in _by_written_file(all_jobs):
        if len(group) == 1:
            jobs += group
        else:
            together = " and ".join(job.name for job in group)
            problems += [f"{job.source}: {together} would both become {job.target}" for job in group]
    passed = sum(folder.resolve() != out.resolve() for folder in found.passed)
    return Plan(jobs, sources, others, len(found.images) - len(sources), passed, problems)


def result_name(name: str) -> str:
    """The file name of a photo's result: that of the photo, with another ending after it if its format is not written."""
    ending = Path(name).suffix.lower()
    if ending in FORMATS:
        return name
    return f"{name}.tif" if ending in RAW else f"{name}.png"


def _by_written_file(jobs: Iterable[Job]) -> Iterable[list[Job]]:
    """Groups of jobs that write the same file: through links, or because the file system treats their names as equal."""
    spellings: dict[str, str] = {}
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        written = os.path.realpath(job.target)
        first = spellings.setdefault(unicodedata.normalize("NFC", written).casefold(), written)
        if written != first and written not in groups and _are_one(Path(first), Path(written)):
            written = first
        groups.setdefault(written, []).append(job)
    return groups.values()


def _are_one(first: Path, second: Path) -> bool:
    """Whether two names mean the same file to that file system, as a.jpg and A.JPG do to many."""
    one, other = next((a, b) for a, b in zip(first.parts, second.parts, strict=True) if a != b)
    folder = next(folder for folder in first.parents if folder.is_dir())
    probe = folder / f".{os.getpid()}.{one}"
    try:
        probe.touch()
        return (folder / f".{os.getpid()}.{other}").exists()
    except OSError:  # not writable, which is reported later
        return False
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()

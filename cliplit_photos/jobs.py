"""Which photo goes where: a job for every photo, and a line for each that has none.

Importing it does not import torch.
"""

import contextlib
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cliplit.errors import CliplitError
from cliplit.files.folders import find_images
from cliplit_photos.formats import FORMATS, RAW, READ, UNREAD
from cliplit_photos.ledger import EarlierResults


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
        try:
            return self.target.samefile(self.source)
        except OSError:  # one of them is not there
            return False

    @property
    def kind(self) -> str:
        """The format of the result, one of the values of `FORMATS`."""
        return FORMATS[self.target.suffix.lower()]


class Plan(NamedTuple):
    """All files that were found: photos with a job, and what the others are.

    Attributes:
        jobs: no two of them write the same file, and none the photo of another.
        others: number of files that are no photos.
        results: number of results of earlier calls, which are no photos either.
        links: number of links to photos that are replaced already.
        passed: number of folders below that were not looked into.
        problems: a line for each photo that has no job, with its file.
    """

    jobs: list[Job]
    others: int = 0
    results: int = 0
    links: int = 0
    passed: int = 0
    problems: Sequence[str] = ()


def plan_jobs(inputs: Sequence[Path], out: Path, recursive: bool = False) -> Plan:
    """Jobs of photo files and folders.

    A single file goes to `out` if that is a photo's name, everything else below the folder `out`, with the folders
    that it has below what all `inputs` have in common; so names hardly collide, and where they do, both are problems.
    Formats that are not written become PNG, RAW becomes TIFF, with the ending after their name.

    Raises:
        CliplitError: a path that does not exist, no photos.
    """
    found = find_images(inputs, recursive, READ)
    earlier = EarlierResults(inputs, out)
    photos = [path for path in found.images.values() if path not in earlier]
    sources = [path for path in photos if not (_lies_beside_its_photo(path) and earlier.names(path))]
    unread = {path: reason for path, reason in found.unread.items() if path not in earlier}
    others = found.others + len(found.unread) - len(unread)
    if not sources and not unread:
        raise CliplitError(
            f"{', '.join(map(str, inputs))}: no photos here but results of earlier calls; "
            "to enhance these once more, give their own folder"
        )
    if out.suffix.lower() in (READ | UNREAD.keys()) - FORMATS.keys() and not out.is_dir():
        raise CliplitError(f"{out}: such files are not written; name one of {', '.join(FORMATS)}, or a folder")
    if out.suffix.lower() in FORMATS and not out.is_dir():
        if len(inputs) > 1 or not inputs[0].is_file():
            raise CliplitError(f"{out}: several photos need a folder to go to, not a file")
        return Plan([Job(sources[0].name, sources[0], out)])
    jobs, links, problems = _without_conflicts([_job(source, _common_folder(inputs), out) for source in sources])
    lines = [f"{path}: {reason}" for path, reason in unread.items()]
    passed = sum(folder.resolve() != out.resolve() for folder in found.passed)
    return Plan(jobs, others, len(found.images) - len(sources), links, passed, lines + problems)


def _common_folder(inputs: Sequence[Path]) -> str:
    folders = [os.path.abspath(path if path.is_dir() else path.parent) for path in inputs]
    return os.path.commonpath(folders)


def _job(source: Path, base: str, out: Path) -> Job:
    name = Path(os.path.relpath(os.path.abspath(source), base)).as_posix()
    return Job(name, source, out / result_name(name))


def result_name(name: str) -> str:
    """What the result of a photo is called: as the photo, with an ending after it if such files are not written."""
    ending = Path(name).suffix.lower()
    if ending in FORMATS:
        return name
    return f"{name}.tif" if ending in RAW else f"{name}.png"


def _lies_beside_its_photo(path: Path) -> bool:
    """Whether a file would be the result of one beside it, as a.gif.png of a.gif."""
    photo = path.with_suffix("")
    return photo.suffix.lower() in READ and result_name(photo.name) == path.name and photo.is_file()


def _without_conflicts(jobs: Sequence[Job]) -> tuple[list[Job], int, list[str]]:
    """Jobs that may be done side by side; how many only link to the photo of one; a line for each of the others."""
    photos = {os.path.realpath(job.source): job.source for job in jobs}
    free: list[Job] = []
    links = 0
    problems: list[str] = []
    for group in _by_written_file(jobs):
        different: dict[str, Job] = {}  # by photo; a link to one only if that is not there itself
        for job in sorted(group, key=lambda job: job.source.is_symlink()):
            different.setdefault(os.path.realpath(job.source), job)
        links += len(group) - len(different)
        names = " and ".join(job.name for job in different.values())
        for photo, job in different.items():
            written = os.path.realpath(job.target)
            if len(different) > 1:
                problems.append(f"{job.source}: {names} would both become {job.target}")
            elif written in photos and written != photo:
                problems.append(f"{job.source}: its result would replace {photos[written]}; choose another place")
            else:
                free.append(job)
    return free, links, problems


def _by_written_file(jobs: Iterable[Job]) -> list[list[Job]]:
    """Jobs that write one file together: by links, or since the file system takes their names for one."""
    alike: dict[str, dict[str, list[Job]]] = {}
    for job in jobs:
        written = os.path.realpath(job.target)
        folded = unicodedata.normalize("NFC", written).casefold()
        alike.setdefault(folded, {}).setdefault(written, []).append(job)
    groups: list[list[Job]] = []
    for spellings in alike.values():
        first, *others = spellings
        for other in others:
            if _are_one(Path(first), Path(other)):
                spellings[first] += spellings.pop(other)
        groups += spellings.values()
    return groups


def _are_one(first: Path, second: Path) -> bool:
    """Whether two names are one file for the file system there, as a.jpg and A.JPG are for many."""
    one, other = next((a, b) for a, b in zip(first.parts, second.parts, strict=True) if a != b)
    folder = next(folder for folder in first.parents if folder.is_dir())
    probe = folder / f".{os.getpid()}.{one}"
    try:
        probe.touch()
        return (folder / f".{os.getpid()}.{other}").exists()
    except OSError:  # nothing can be written there, as will be said
        return False
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()

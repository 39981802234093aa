"""What was made of which photo: ledgers in the folders of results, by which calls go on and know results of others.

Importing it does not import torch.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cliplit.errors import CliplitError
from cliplit.files.atomic import sha256, user_cache

if TYPE_CHECKING:
    from cliplit_photos.jobs import Job

NAME = "cliplit-enhance"  # .jsonl; of processes after the first with their number before it
REMEDY = "move it away, or choose another OUT"

Mark = list[Any]  # size, time of change in nanoseconds and, but in old ledgers, SHA-256


class File:
    """A file as it is now, to be held against marks. Raises OSError if it cannot be looked at, or read where it must."""

    def __init__(self, path: Path):
        status = path.stat()
        self.path = path
        self.size = status.st_size
        self.changed = status.st_mtime_ns

    @cached_property
    def digest(self) -> str:
        """Of its content; computed only when it is wanted."""
        return sha256(self.path)

    @property
    def mark(self) -> Mark:
        return [self.size, self.changed, self.digest]

    def fits(self, mark: Mark) -> bool:
        """Whether it is the file of a mark: copies, archives and other file systems change times, not contents."""
        size, changed, *digest = mark
        return size == self.size and (changed == self.changed or digest == [self.digest])


class Ledger:
    """What was made of which photo, with which settings: a line of JSON each.

    A line is added before the result takes its place, so every result has one; a line without its result counts for
    nothing. Each process of a run has a file of its own and reads all.

    Args:
        folder: of the results; None keeps nothing.
        settings: everything that changes a result.
        rank: of this process.
        optional: whether it does not matter if nothing can be kept.
    Raises:
        CliplitError: a ledger that is there and cannot be read or written.
    """

    def __init__(self, folder: Path | None, settings: Mapping[str, Any], rank: int = 0, optional: bool = False):
        self.settings = dict(settings)
        self._path: Path | None = None
        self._optional = optional
        self._separator = b""  # before the next line
        self._lines: dict[str, list[dict[str, Any]]] = {}  # by the name of the photo
        if folder is None:
            return
        path = folder / (f"{NAME}.jsonl" if rank == 0 else f"{NAME}.{rank}.jsonl")
        try:
            _check(path)
            self._separator = b"\n" if _is_cut_off(path) else b""
            for line in _lines(folder):
                self._lines.setdefault(_composed(line["name"]), []).append(line)
            self._path = path
        except OSError as error:
            if not optional:
                raise CliplitError(f"{error.filename}: cannot be gone on with ({error.strerror}); {REMEDY}") from None

    def __contains__(self, job: Job) -> bool:
        """Whether the result is there, made of this photo with these settings.

        Raises:
            OSError: the photo or the result cannot be read.
        """
        lines = [line for line in self._lines.get(_composed(job.name), []) if line["settings"] == self.settings]
        if not lines or not job.target.is_file():
            return False
        result = File(job.target)
        made_of = [line["photo"] for line in lines if result.fits(line["result"])]
        if job.is_in_place:  # then the photo is not what it was
            return bool(made_of)
        return bool(made_of) and any(map(File(job.source).fits, made_of))

    def add(self, job: Job, photo: Mark, result: Path) -> None:
        """Note the result of a photo, wherever it still lies.

        Args:
            photo: its mark, from before it was read.
        Raises:
            OSError: the line cannot be written.
        """
        if self._path is None:
            return
        line = {"name": job.name, "photo": photo, "result": File(result).mark, "settings": self.settings}
        text = json.dumps(line, allow_nan=False).encode()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "ab") as file:
                file.write(self._separator + text + b"\n")
        except OSError:
            if not self._optional:
                raise
        self._separator = b""


def _composed(name: str) -> str:
    """A name as it is wherever it was copied to: some systems take é apart."""
    return unicodedata.normalize("NFC", name)


def folder_of_one(result: Path) -> Path | None:
    """Where the ledger of a single result lies: not beside it, but where scores are kept; None without such a place."""
    place = os.fsencode(_place(result))
    try:
        return user_cache() / "enhanced" / hashlib.sha256(place).hexdigest()
    except CliplitError:
        return None


class EarlierResults:
    """Files that are found below what was given, but are results: of calls whose ledgers lie below, or in OUT.

    What is given itself, a file or a folder of results, is not meant by that.
    """

    def __init__(self, given: Sequence[Path], out: Path):
        self._given = {_place(path) for path in given}
        self._out = _place(out)
        self._known: dict[Path, set[tuple[Any, ...]]] = {}

    def __contains__(self, path: Path) -> bool:
        place = _place(path)
        if place in self._given:
            return False
        return any(map(self._is_result, {place, Path(os.path.realpath(path))}))

    def names(self, path: Path) -> bool:
        """Whether a ledger in any folder above names a file that was not given itself."""
        place = _place(path)
        return place not in self._given and self._is_named(place, place.parents)

    def _is_result(self, place: Path) -> bool:
        below = list(takewhile(lambda folder: folder not in self._given, place.parents))
        return self._out in below or self._is_named(place, below)

    def _is_named(self, place: Path, folders: Iterable[Path]) -> bool:
        return any(_is_known(place, self._known_in(folder)) for folder in folders)

    def _known_in(self, folder: Path) -> set[tuple[Any, ...]]:
        """Sizes of the results that the ledgers in a folder name; sizes with times of change, and with digests."""
        if folder not in self._known:
            known = self._known[folder] = set()
            with contextlib.suppress(OSError):  # what cannot be read says nothing
                for line in _lines(folder):
                    size, *others = line["result"]
                    known |= {(size,), *((size, other) for other in others)}
        return self._known[folder]


def _is_known(path: Path, known: set[tuple[Any, ...]]) -> bool:
    if not known:
        return False
    try:
        file = File(path)
        return (file.size,) in known and ((file.size, file.changed) in known or (file.size, file.digest) in known)
    except OSError:  # reading says more about it
        return False


def _place(path: Path) -> Path:
    """Where a file lies, or a link to one; of a folder the real one."""
    return Path(os.path.realpath(path)) if path.is_dir() else Path(os.path.realpath(path.parent)) / path.name


def _lines(folder: Path) -> Iterator[dict[str, Any]]:
    """Lines of all ledgers in a folder, but for those that are cut off, or none of ours."""
    for path in sorted(folder.glob(f"{NAME}*.jsonl")):
        for text in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue
            if _is_ours(line):
                yield line


def _is_ours(line: Any) -> bool:
    if not isinstance(line, dict):
        return False
    named = isinstance(line.get("name"), str) and isinstance(line.get("settings"), dict)
    return named and _is_mark(line.get("photo")) and _is_mark(line.get("result"))


def _is_mark(value: Any) -> bool:
    return isinstance(value, list) and [type(part) for part in value] in ([int, int], [int, int, str])


def _check(path: Path) -> None:
    """Raise OSError where a ledger cannot be added to, before hours of work."""
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _is_cut_off(path: Path) -> bool:
    return path.exists() and not path.read_bytes().endswith(b"\n")

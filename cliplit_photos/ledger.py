"""Ledgers in the folders of results: which files were written, and from which photos.

With them a call resumes, recognizes results of other calls, and replaces nothing else. Importing it does not import torch.
"""

import contextlib
import errno
import hashlib
import json
import os
import platform
import unicodedata
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

import psutil

from cliplit.errors import CliplitError, reason_of
from cliplit.files.atomic import sha256, user_cache

NAME = "cliplit-enhance"  # .jsonl; processes after the first put their number before it
HALF_WRITTEN = f".cliplit-{platform.node()}"  # then the number of the process, and a random part

Mark = list[Any]  # size, time of change in nanoseconds, SHA-256
Line = dict[str, Any]


class File:
    """A file as it is now, to compare with marks. Raises OSError if it cannot be accessed, or read when needed."""

    def __init__(self, path: Path):
        status = path.stat()
        self.path = path
        self.size = status.st_size
        self.changed = status.st_mtime_ns

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its content, computed only when needed."""
        return sha256(self.path)

    @property
    def mark(self) -> Mark:
        return [self.size, self.changed, self.digest]

    def fits(self, mark: Mark) -> bool:
        """Whether it is the file of a mark. Copies, archives and other file systems change times, but not contents."""
        size, changed, digest = mark
        return size == self.size and (changed == self.changed or digest == self.digest)


class Ledger:
    """All files that were written to OUT, as one line of JSON each, and the only way to write there.

    A file is written only to a free place, or over a file that the ledger names and whose content cliplit wrote. Its line
    is added first, so every file has one; a line without its file has no effect. Each process of a call has its own ledger
    and reads all of them.

    Args:
        out: folder of the results, or the single result; None keeps no ledger.
        settings: everything that changes a result.
        inputs: files of the call, which nothing replaces.
        rank: number of this process.
        single: whether `out` is the single result. Its ledger lies in the user's cache, if there is one.
    Raises:
        CliplitError: a ledger exists, but cannot be read or written.
    """

    def __init__(
        self,
        out: Path | None,
        settings: Mapping[str, Any],
        inputs: Iterable[Path] = (),
        rank: int = 0,
        single: bool = False,
    ):
        self.settings = dict(settings)
        self._inputs = {_identity(path) for path in inputs if path.exists()}
        self._root = out.parent if out and single else out
        self._single = single
        self._path: Path | None = None
        self._separator = b""  # before the next line
        self._lines: dict[str, list[Line]] = {}  # by the name of the file
        if out is None:
            return
        try:
            folder = out
            if single:  # not beside the result, but in the cache
                folder = user_cache() / "enhanced" / hashlib.sha256(os.fsencode(_place(out))).hexdigest()
            path = folder / (f"{NAME}.jsonl" if rank == 0 else f"{NAME}.{rank}.jsonl")
            if path.exists():
                if not os.access(path, os.R_OK | os.W_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
                self._separator = b"" if path.read_bytes().endswith(b"\n") else b"\n"
            self._path = path
            self.reread()
        except (OSError, CliplitError) as error:
            self._path = None
            if not single:
                reason = f"cannot be used ({reason_of(error)}); move it away, or choose another OUT"
                raise CliplitError(f"{path}: {reason}") from None

    def reread(self) -> None:
        """Read what all calls have recorded so far."""
        if self._path:
            self._lines = {}
            for line in _lines(self._path.parent):
                self._lines.setdefault(_composed(line["name"]), []).append(line)

    def is_done(self, photo: Path, result: Path) -> bool:
        """Whether a result exists that was made from this photo with these settings.

        Raises:
            OSError: the photo or the result cannot be read.
        """
        lines = [line for line in self._lines_of(result) if line.get("settings") == self.settings and "photo" in line]
        if not lines or not result.is_file():
            return False
        source, there = File(photo), File(result)
        return any(there.fits(line["result"]) and source.fits(line["photo"]) for line in lines)

    def refusal(self, path: Path, overwrite: bool) -> str | None:
        """Why a file must not be written: an invalid name, or the file it would replace. None if it may be written.

        Args:
            overwrite: whether it may replace a file that cliplit wrote there.
        """
        try:
            path.lstat()
            if path.exists() and _identity(path) in self._inputs:
                return f"{path}: this is an input, and photos are never replaced; choose another OUT"
            if not self._is_ours(path):
                return f"{path}: already exists and is not a result of cliplit; choose another OUT"
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"{path}: cannot be written ({reason_of(error)})"
        return None if overwrite else f"{path}: already exists; --overwrite replaces it"

    @contextlib.contextmanager
    def writing(self, path: Path, overwrite: bool, photo: Mark | None = None) -> Iterator[Path]:
        """A hidden file beside the file. At the end it replaces the file; if anything fails, it is removed.

        Args:
            overwrite: whether it may replace a file that cliplit wrote there.
            photo: the mark of a result's photo, taken before the photo was read.
        Raises:
            CliplitError: its place is taken.
            OSError: it cannot be written, e.g. because the disk is full; the error names the file.
        """
        temporary = path.with_name(f"{HALF_WRITTEN}-{os.getpid()}-{uuid.uuid4().hex[:8]}.partial")
        try:
            yield temporary
            about = {"photo": photo, "settings": self.settings} if photo else {}
            self._add({"name": self._name(path), "result": File(temporary).mark, **about})
            try:
                os.link(temporary, path)  # unlike renaming, it never replaces a file of another call
            except OSError:  # there is such a file, or the file system has no hard links
                if refusal := self.refusal(path, overwrite):
                    raise CliplitError(refusal) from None
                if not path.exists():
                    path.open("xb").close()
                os.replace(temporary, path)
        except OSError as error:
            if error.errno and error.filename in (None, str(temporary)):
                raise OSError(error.errno, error.strerror, str(path)) from None
            raise
        finally:
            temporary.unlink(missing_ok=True)

    def _is_ours(self, path: Path) -> bool:
        """Whether a ledger names the file with its present content."""
        if path.is_symlink() or not path.is_file():
            return False
        digest = sha256(path)
        if all(line["result"][2] != digest for line in self._lines_of(path)):
            self.reread()  # other calls may have written it meanwhile
        return any(line["result"][2] == digest for line in self._lines_of(path))

    def _name(self, path: Path) -> str:
        return Path(os.path.relpath(path, self._root) if self._root else path).as_posix()

    def _lines_of(self, path: Path) -> list[Line]:
        return self._lines.get(_composed(self._name(path)), [])

    def _add(self, line: Line) -> None:
        if self._path is None:
            return
        text = json.dumps(line, allow_nan=False).encode()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "ab") as file:
                file.write(self._separator + text + b"\n")
        except OSError:
            if not self._single:
                raise
        self._separator = b""
        self._lines.setdefault(_composed(line["name"]), []).append(line)


def remove_half_written(folder: Path, own: bool) -> None:
    """Remove half-written files of this process (`own`), or of killed processes of this machine."""
    for path in folder.glob(f"{HALF_WRITTEN}-*-*.partial"):
        process = path.name.split("-")[-2]
        if process.isdigit() and (int(process) == os.getpid() if own else not psutil.pid_exists(int(process))):
            with contextlib.suppress(OSError):
                path.unlink()


class EarlierResults:
    """Files found below the given paths that are results: of calls whose ledgers lie below, or in OUT.

    A given path itself, a file or a folder of results, does not count as such.
    """

    def __init__(self, given: Collection[Path], out: Path):
        self._given = {_place(path) for path in given}
        self._out = _place(out)
        self._known: dict[Path, set[tuple[Any, ...]]] = {}

    def __contains__(self, path: Path) -> bool:
        place = _place(path)
        return place not in self._given and any(map(self._is_result, {place, Path(os.path.realpath(path))}))

    def names(self, path: Path) -> bool:
        """Whether a ledger in any folder above names a file that was not given itself."""
        place = _place(path)
        return place not in self._given and self._is_named(place, place.parents)

    def _is_result(self, place: Path) -> bool:
        below = list(takewhile(lambda folder: folder not in self._given, place.parents))
        return self._out in below or self._is_named(place, below)

    def _is_named(self, place: Path, folders: Iterable[Path]) -> bool:
        known: set[tuple[Any, ...]] = set().union(*map(self._known_in, folders))
        with contextlib.suppress(OSError):  # reading says more about it
            file = File(place) if known else None
            if file and (file.size,) in known:
                return (file.size, file.changed) in known or (file.size, file.digest) in known
        return False

    def _known_in(self, folder: Path) -> set[tuple[Any, ...]]:
        """Sizes of the results that the ledgers in a folder name; sizes with times of change, and with digests."""
        if folder not in self._known:
            known = self._known[folder] = set()
            with contextlib.suppress(OSError):  # what cannot be read says nothing
                for line in _lines(folder):
                    size, changed, digest = line["result"]
                    known |= {(size,), (size, changed), (size, digest)}
        return self._known[folder]


def _composed(name: str) -> str:
    """A name in its composed form, because some systems decompose é."""
    return unicodedata.normalize("NFC", name)


def _identity(path: Path) -> tuple[int, int]:
    """What identifies a file whatever its name: links to it have the same."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _place(path: Path) -> Path:
    """The place of a file, or of a link to one; for a folder, the real folder."""
    return Path(os.path.realpath(path)) if path.is_dir() else Path(os.path.realpath(path.parent)) / path.name


def _lines(folder: Path) -> Iterator[Line]:
    """Lines of all ledgers in a folder, except those that are cut off or not from cliplit."""
    for path in sorted(folder.glob(f"{NAME}*.jsonl")):
        for text in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue
            if isinstance(line, dict) and isinstance(line.get("name"), str):
                marks = [line.get("result"), *([line["photo"]] if "photo" in line else [])]
                if all(isinstance(mark, list) and [*map(type, mark)] == [int, int, str] for mark in marks):
                    yield line

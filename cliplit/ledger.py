"""Which photos are done: lines of JSON beside the results, so that an interrupted run goes on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "cliplit-enhance"


class Ledger:
    """What was made of which photo, with which settings.

    A line is added before the result takes its place, so every result has one; a line without its result counts for
    nothing. Files are known by size and time of change. Each process of a run has a file of its own and reads all.

    Args:
        folder: of the results; None keeps nothing.
        settings: everything that changes a result.
        rank: of this process.
    """

    def __init__(self, folder: Path | None, settings: Mapping[str, Any], rank: int = 0):
        self.settings = dict(settings)
        self._path = folder and folder / (f"{NAME}.jsonl" if rank == 0 else f"{NAME}.{rank}.jsonl")
        self._lines: dict[str, list[dict[str, Any]]] = {}
        self._start = b"\n" if self._path and _is_cut_off(self._path) else b""
        for path in sorted(folder.glob(f"{NAME}*.jsonl")) if folder and folder.is_dir() else []:
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                self._take(line)

    def __contains__(self, item: tuple[str, Path, Path]) -> bool:
        """Whether the result (name, source, target) is there, made of this source with these settings."""
        name, source, target = item
        there = stamp(target)
        for line in self._lines.get(name, []):
            fits = line["settings"] == self.settings and line["result"] == there
            # A photo that was replaced by its own result is done, although it is not what it was.
            if there and fits and (line["photo"] == stamp(source) or source.samefile(target)):
                return True
        return False

    def add(self, name: str, source: Path, result: Path) -> None:
        """Note the result of a photo, wherever it still lies."""
        if self._path:
            line = {"name": name, "photo": stamp(source), "result": stamp(result), "settings": self.settings}
            with open(self._path, "ab") as file:
                file.write(self._start + json.dumps(line).encode() + b"\n")
            self._start = b""

    def _take(self, text: str) -> None:
        try:
            line = json.loads(text)
            if {"photo", "result", "settings"} <= line.keys():
                self._lines.setdefault(line["name"], []).append(line)
        except (ValueError, KeyError, TypeError, AttributeError):  # cut off, or none of ours
            pass


def _is_cut_off(path: Path) -> bool:
    return path.is_file() and not path.read_bytes().endswith(b"\n")


def stamp(path: Path) -> list[int] | None:
    """Size and time of the last change of a file."""
    if not path.is_file():
        return None
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]

"""A cache of scores, by everything that they depend on. It uses SQLite, so several processes can share it."""

import hashlib
import json
import sqlite3
from collections.abc import Collection, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cliplit.errors import told
from cliplit.scoring.metrics import Conventions, catalogue

PATIENCE = 60  # seconds to wait for other processes that write


def key(digests: tuple[str, str | None], metric: str, conventions: Conventions, device: str = "cpu") -> str:
    """Key of a score: contents of image and reference, metric, its conventions, versions and type of device."""
    used: dict[str, Any] = {"border": conventions.border} if catalogue()[metric].compares else {}
    used |= {name: value for name, value in vars(conventions).items() if name.split("_")[0] == metric.split("-")[0]}
    used |= {package: version(package) for package in ("pyiqa", "torch")}
    used |= {} if device == "cpu" else {"device": device}  # older entries are scores of a CPU
    text = json.dumps([*digests, {"metric": metric, "cliplit": 1} | used], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class ScoreCache:
    """Scores by key, or the reason for a missing score. `put` writes to disk, so an interrupted run keeps its scores.

    Without a path nothing is kept. Entries of other versions do no harm. A file that is not such a cache, or fails later,
    raises CliplitError.
    """

    def __init__(self, path: str | Path | None):
        what, hint = f"{path}: cannot be used as a cache of scores", "remove it, or use --no-cache"
        self._errors_named = partial(told, what, hint)
        with self._errors_named():
            if path:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path or ":memory:", timeout=PATIENCE, isolation_level=None)
            self._database.execute("CREATE TABLE IF NOT EXISTS scores (key TEXT PRIMARY KEY, score)")

    def get(self, keys: Collection[str]) -> dict[str, float | str | None]:
        """The known entries of these keys; None is a score that was not a number."""
        query = f"SELECT key, score FROM scores WHERE key IN ({', '.join('?' * len(keys))})"
        with self._errors_named():
            found = self._database.execute(query, list(keys)).fetchall()
        return {key: score for key, score in found if not isinstance(score, bytes)}  # bytes: damaged

    def put(self, scores: Mapping[str, float | str]) -> None:
        """Add scores or reasons."""
        with self._errors_named():
            self._database.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?)", scores.items())

"""What was found out before about images, by what it depends on: SQLite, so that several processes may share it."""

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cliplit.errors import CliplitError

PATIENCE = 60  # seconds, with other processes that write


def key(image: str, reference: str | None, fingerprint: Mapping[str, Any]) -> str:
    """Key of a score: digests of both files' contents, and what else it depends on."""
    text = json.dumps([image, reference, dict(fingerprint)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class ScoreCache:
    """Scores by key, or the reason why there is none; what is `put` is on disk, so an interrupted run keeps it.

    If the file fails later on, it is left alone from then on: what it has is unknown, and nothing more is kept.

    Args:
        path: the file; None keeps nothing. What other versions kept in it stays there and does no harm.
    Attributes:
        problem: what is wrong with the file, in one line, if it failed.
    Raises:
        CliplitError: a file that is there and is no such cache.
    """

    def __init__(self, path: str | Path | None):
        self.problem = ""
        self._path = path
        try:
            if path:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._database = _opened(path or ":memory:")
        except (sqlite3.Error, OSError) as error:
            raise CliplitError(self._fault(error)) from None

    def get(self, keys: Iterable[str]) -> dict[str, float | str | None]:
        """What is known of these; None: a score that was not a number."""
        known = {}
        with self._left_alone_if_it_fails():
            for wanted in keys:
                row = self._database.execute("SELECT score FROM scores WHERE key = ?", (wanted,)).fetchone()
                if row and not isinstance(row[0], bytes):  # bytes: damaged
                    known[wanted] = row[0]
        return known

    def put(self, scores: Mapping[str, float | str]) -> None:
        """Add scores or reasons."""
        with self._left_alone_if_it_fails():
            self._database.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?)", scores.items())

    @contextlib.contextmanager
    def _left_alone_if_it_fails(self) -> Iterator[None]:
        try:
            with self._database:
                yield
        except sqlite3.Error as error:
            self.problem = self._fault(error)
            self._database = _opened(":memory:")

    def _fault(self, error: Exception) -> str:
        return f"{self._path}: cannot be used as cache of scores ({error}); mend or remove it, or use --no-cache"


def _opened(path: str | Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=PATIENCE)
    with database:
        database.execute("CREATE TABLE IF NOT EXISTS scores (key TEXT PRIMARY KEY, score)")
    return database

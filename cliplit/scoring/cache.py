"""What was found out before about images, by what it depends on: SQLite, so that several processes may share it."""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cliplit.errors import CliplitError


def default_cache() -> Path:
    """$CLIPLIT_CACHE/scores.sqlite, by default below ~/.cache (or $XDG_CACHE_HOME)."""
    base = os.environ.get("CLIPLIT_CACHE") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "cliplit"
    return Path(base).expanduser() / "scores.sqlite"


def key(image: str, reference: str | None, fingerprint: Mapping[str, Any]) -> str:
    """Key of a score: digests of both files' contents, and what else it depends on."""
    text = json.dumps([image, reference, dict(fingerprint)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class ScoreCache:
    """Scores by key, or the reason why there is none; what is `put` is on disk, so an interrupted run keeps it.

    Args:
        path: the file; None keeps nothing. What other versions kept in it stays there and does no harm.
    Raises:
        CliplitError: a file that is there and is no such cache.
    """

    def __init__(self, path: str | Path | None):
        try:
            if path:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path or ":memory:", timeout=60)
            with self._database:
                self._database.execute("CREATE TABLE IF NOT EXISTS scores (key TEXT PRIMARY KEY, score)")
        except (sqlite3.Error, OSError) as error:
            raise CliplitError(
                f"{path}: cannot be used as cache of scores ({error}); remove it, or use --no-cache"
            ) from None

    def get(self, keys: Iterable[str]) -> dict[str, float | str]:
        """What is known of these."""
        known = {}
        for wanted in keys:
            row = self._database.execute("SELECT score FROM scores WHERE key = ?", (wanted,)).fetchone()
            if row:
                known[wanted] = row[0]
        return known

    def put(self, scores: Mapping[str, float | str]) -> None:
        """Add scores or reasons."""
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?)", scores.items())

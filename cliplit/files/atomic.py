"""Files written whole or not at all, JSON among them; and digests."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """A temporary name beside the file, which takes its place at the end, and is removed if anything fails."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """Content of a JSON file, or None if it is missing or broken."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def write_json(content: Any, path: Path) -> None:
    """Write JSON, indented, atomically."""
    write_text(json.dumps(content, indent=1) + "\n", path)


def write_text(text: str, path: Path) -> None:
    """Write a text file atomically."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def digest_of(path: Path) -> str | None:
    """A digest of a file, of its content if it is small; None if it is missing."""
    if not path.is_file():
        return None
    status = path.stat()
    if status.st_size > 50_000_000:
        return f"{status.st_size} bytes of {status.st_mtime_ns}"
    return _digest_then(path, status.st_size, status.st_mtime_ns)


@cache
def _digest_then(path: Path, size: int, changed: int) -> str:
    """SHA-256 of a file as it was then: whether a stage is current is asked many times, always of the same few files."""
    return sha256(path)

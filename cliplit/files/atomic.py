"""Atomic writing of files, including JSON; and digests."""

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from cliplit.errors import CliplitError

LARGE = 50_000_000  # bytes; the content of larger files is not checked every time
LONGEST_NAME = 255  # bytes of a file name on common systems


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """A hidden file beside the file. At the end it replaces the file; if anything fails, it is removed.

    A symbolic link stays, and the file that it points to is replaced. An OSError, e.g. of a full disk, names the file.
    """
    path = Path(os.path.realpath(path) if os.path.islink(path) else path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "there is a folder of this name; move it away", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    if len(os.fsencode(temporary.name)) > LONGEST_NAME:
        temporary = path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]}.partial")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno and error.filename in (None, str(temporary)):
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path, **kinds: type) -> dict[str, Any] | None:
    """The object in a JSON file; None if the file is missing or damaged, or holds no such object.

    Args:
        kinds: entries that it must have, and the type of each.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    return content if all(isinstance(content.get(key), kind) for key, kind in kinds.items()) else None


def write_json(content: Any, path: Path) -> None:
    """Write strict JSON, indented, atomically. Numbers that are not finite become null."""
    write_text(json.dumps(finite(content), indent=1, allow_nan=False) + "\n", path)


def finite(content: Any) -> Any:
    """Plain values with None for NaN and the infinities, which JSON does not have."""
    return json.loads(json.dumps(content), parse_constant=lambda _: None)


def write_text(text: str, path: Path) -> None:
    """Write a text file atomically. Text that UTF-8 cannot encode (odd file names) is escaped."""
    write_bytes(text.encode(errors="backslashreplace"), path)


def write_bytes(content: bytes, path: str | Path) -> None:
    """Write a file atomically."""
    with writing(path) as temporary:
        temporary.write_bytes(content)


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def digest_of(path: Path) -> str | None:
    """SHA-256 of a file; None if it is missing. A process computes it once, until the file changes."""
    if not path.is_file():
        return None
    status = path.stat()
    return _sha256_then(path, status.st_size, status.st_mtime_ns)


_sha256_then = cache(lambda path, size, changed: sha256(path))


def user_cache() -> Path:
    """$CLIPLIT_CACHE, by default ~/.cache/cliplit (or below $XDG_CACHE_HOME).

    Raises CliplitError if the user has no home folder.
    """
    base = os.environ.get("CLIPLIT_CACHE") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "cliplit"
    try:
        return Path(base).expanduser()
    except RuntimeError:
        raise CliplitError("no home folder for the cache; set CLIPLIT_CACHE to a folder") from None

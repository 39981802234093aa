"""A directory for one process at a time."""

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cliplit.errors import CliplitError
from cliplit.files.atomic import read_json, write_json

OWNER = ".owner.json"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a directory for this process alone.

    The operating system takes the lock back when the process ends, however it ends, so a dead process holds nothing.

    Raises:
        CliplitError: another process holds it; names the process.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        other = read_json(folder / OWNER) or {"pid": "unknown", "host": "?", "since": "?"}
        raise CliplitError(
            f"{folder}: process {other['pid']} on {other['host']} is at work here since {other['since']}; "
            f"wait until it ends, or choose another directory with --run"
        ) from None
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        write_json({"pid": os.getpid(), "host": platform.node(), "since": since}, folder / OWNER)
        yield
    finally:
        (folder / OWNER).unlink(missing_ok=True)
        lock.release()


def owner(folder: Path) -> dict | None:
    """The process that holds a directory; None if none does, as far as can be told from here."""
    found = read_json(folder / OWNER)
    if found and found["host"] == platform.node() and os.name == "posix":
        try:
            os.kill(found["pid"], 0)  # only asks whether it is there
        except ProcessLookupError:
            return None
        except PermissionError:
            return found
    return found

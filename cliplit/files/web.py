"""Files from the web and from Google Drive: resumed after an interruption, tried again, checked by size and SHA-256.

Also: whether an address can be reached at all. Google Drive needs gdown (the extra `drive`), imported only then.
"""

import errno
import http.client
import os
import shutil
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tqdm import tqdm

import cliplit
from cliplit.errors import CliplitError, one_line
from cliplit.files.archives import is_inside
from cliplit.files.atomic import read_json, sha256, write_json

REACH_TIMEOUT = 5.0  # seconds to find out whether an address answers
BLOCK = 1 << 16  # bytes read at once
LOCAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES}  # errors of this machine's disk: no use to try again
BY_HAND = "fetch the file by hand and give it with --from"
WEB_PAGE = "a web page came in place of the file (on Google Drive often: too many downloads)"


@dataclass(frozen=True)
class Patience:
    """How long a server may take."""

    attempts: int = 6  # in a row that bring less than a block
    first_wait: float = 1.0  # seconds before the second attempt; doubled from then on
    longest_wait: float = 300.0  # seconds; if a server asks to wait longer, fetch gives up
    silence: float = 30.0  # seconds without a byte


PATIENCE = Patience()


class _NotTheFile(CliplitError): ...


class _Again(Exception):
    """This attempt failed, the next one may not: the reason, and the seconds to wait if the server says so, else None."""


def fetch(
    url: str, target: Path, size: int | None = None, digest: str | None = None, patience: Patience = PATIENCE
) -> Path:
    """Download a file; an interrupted download resumes where it stopped.

    Until it is complete and checked, it lies beside the target with the ending .partial.

    Args:
        url: an address, or "drive:" and the id of a file on Google Drive.
        size: bytes that the file must have.
        digest: SHA-256 that it must have, in hexadecimal.
    Raises:
        CliplitError: it is not there, cannot be reached, is a web page, or has another size or SHA-256.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    notes = target.with_name(f"{partial.name}.json")
    resumed = _length(partial) > 0
    failures = 0
    while True:
        before = _length(partial)
        try:
            if url.startswith("drive:"):
                _attempt_on_drive(url, partial, patience)
            else:
                _attempt(url, partial, notes, size, patience)
            _check_file(partial, url, size, digest)
            os.replace(partial, target)
            notes.unlink(missing_ok=True)
            return target
        except _NotTheFile:
            partial.unlink(missing_ok=True)
            notes.unlink(missing_ok=True)
            if not resumed:
                raise
            resumed = False  # the old part may have been of another file: fetch all of it
        except _Again as error:
            reason, wait = error.args
            failures = 1 if _length(partial) - before >= BLOCK else failures + 1
            if failures >= patience.attempts:
                again = "run the same command again to resume"
                raise CliplitError(
                    f"{url}: given up after {failures} attempts ({reason}); {again}, or {BY_HAND}"
                ) from None
            if wait is not None and wait > patience.longest_wait:
                again = f"the server asks to wait {wait} s: run the same command again then"
                raise CliplitError(f"{url}: {reason}; {again}") from None
            time.sleep(patience.first_wait * 2 ** (failures - 1) if wait is None else wait)


def _check_file(path: Path, url: str, size: int | None, digest: str | None) -> None:
    with open(path, "rb") as file:
        head = file.read(512).lstrip().lower()
    reason = ""
    if head.startswith((b"<!doctype html", b"<html")):
        reason = WEB_PAGE
    elif size not in (None, path.stat().st_size):
        reason = f"{path.stat().st_size} bytes in place of {size}"
    elif digest is not None and (found := sha256(path)) != digest:
        reason = f"SHA-256 is {found[:12]}..., not {digest[:12]}... as expected"
    if reason:
        raise _NotTheFile(f"{url}: {reason}; nothing was kept; {BY_HAND}")


def _attempt(url: str, partial: Path, notes: Path, size: int | None, patience: Patience) -> None:
    """Fetch the bytes that are still missing. `notes` keep which version of the file the first ones are of."""
    known = read_json(notes) or {}
    have = _length(partial) if known.get("url") == url and known.get("version") else 0
    if have and have == known.get("total"):
        return
    headers = {"User-Agent": f"cliplit/{cliplit.__version__}", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": known["version"]}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=patience.silence) as response:
            have = have if response.status == 206 else 0
            if have and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                raise _Again("the server sent another part of the file than asked for", None)
            length = response.headers.get("Content-Length")
            total = have + int(length) if length else None
            wrong = WEB_PAGE if response.headers.get_content_type() == "text/html" else ""
            if total is not None and size not in (None, total):
                wrong = wrong or f"the server has {total} bytes in place of {size}"
            if wrong:
                raise _NotTheFile(f"{url}: {wrong}; nothing was kept; {BY_HAND}")
            free = shutil.disk_usage(partial.parent).free
            if total is not None and total - have > free:
                room = f"needs {(total - have) / 1e9:.1f} GB, {partial.parent} has {free / 1e9:.1f} GB free"
                raise CliplitError(f"{url}: {room}")
            version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
            version = "" if version.startswith("W/") else version  # a weak ETag does not promise the same bytes
            write_json({"url": url, "total": total, "version": version}, notes)
            with (
                open(partial, "ab" if have else "wb") as file,
                tqdm(desc=partial.stem, initial=have, total=total, unit="B", unit_scale=True, leave=False) as bar,
            ):
                while block := response.read1(BLOCK):
                    file.write(block)
                    bar.update(len(block))
    except urllib.error.HTTPError as error:
        reason = f"the server answers {error.code} {error.reason}"
        if error.code == 416:  # the part is longer than the file
            partial.unlink(missing_ok=True)
        elif error.code not in (408, 425, 429) and error.code < 500:
            raise CliplitError(f"{url}: {reason}; look for another address, or {BY_HAND}") from None
        wait = error.headers.get("Retry-After", "").strip()
        raise _Again(reason, int(wait) if wait.isdigit() else None) from None
    except (OSError, http.client.HTTPException) as error:
        if getattr(error, "errno", None) in LOCAL:
            raise
        raise _Again(one_line(getattr(error, "reason", error)), None) from None
    if total is not None and _length(partial) != total:
        raise _Again(f"the connection ended after {_length(partial)} of {total} bytes", None)


def _attempt_on_drive(url: str, partial: Path, patience: Patience) -> None:
    gdown, options = _gdown(patience)
    try:
        gdown.download(id=url.removeprefix("drive:"), output=str(partial), resume=True, **options)
    except gdown.exceptions.FileURLRetrievalError as error:
        reason = f"Google Drive does not give it ({one_line(error)}); try again tomorrow"
        raise CliplitError(f"{partial.stem}: {reason}, or {BY_HAND}") from None
    except Exception as error:  # requests, parsing and gdown's own
        raise _Again(one_line(error), None) from None


def list_drive(folder: str, patience: Patience = PATIENCE) -> dict[str, str]:
    """Files of a shared folder of Google Drive and its folders: path and id.

    Raises:
        CliplitError: gdown is not installed, or the folder cannot be listed.
    """
    gdown, options = _gdown(patience)
    try:
        listed = gdown.download_folder(id=folder, output=".", skip_download=True, **options)
    except Exception as error:
        raise CliplitError(f"Google Drive folder {folder}: cannot be listed ({one_line(error)}); {BY_HAND}") from None
    files = {file.path.replace(os.sep, "/"): file.id for file in listed}
    wrong = "several files of the same name" if len(files) < len(listed) else ""
    if not files or not all(is_inside(path) for path in files):
        wrong = "empty, or with names that lead out of it"
    if wrong:
        raise CliplitError(f"Google Drive folder {folder}: {wrong}; {BY_HAND}")
    return files


def _gdown(patience: Patience) -> tuple[ModuleType, dict[str, Any]]:
    """The module, which is optional, and options of all calls."""
    try:
        import gdown
    except ImportError:
        remedy = "pip install gdown; or fetch by hand and give it with --from"
        raise CliplitError(f"Google Drive needs gdown (the extra `drive`): {remedy}") from None
    return gdown, {"quiet": True, "use_cookies": False, "timeout": patience.silence}


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def reachable(url: str) -> bool:
    """Whether an address answers within a few seconds, even if the name server does not."""
    answers: list[bool] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=REACH_TIMEOUT).close()
            answers.append(True)
        except urllib.error.HTTPError as error:
            answers.append(error.code < 500)  # it answered, if only to say that there is no such page
        except OSError:
            pass

    probe = threading.Thread(target=ask, daemon=True)
    probe.start()
    probe.join(REACH_TIMEOUT)
    return any(answers)

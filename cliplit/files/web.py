"""Files from the web, whole or not at all: resumed, retried with back-off, checked by size and SHA-256.

And whether an address can be reached at all.
"""

import email.utils
import errno
import http.client
import os
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

import cliplit
from cliplit.errors import CliplitError, one_line
from cliplit.files.atomic import read_json, sha256, write_json

REACH_TIMEOUT = 5.0  # seconds to find out whether an address answers
BLOCK = 1 << 16  # bytes read at once
LOCAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES}  # errors of this machine's disk: no use to try again
BY_HAND = "fetch the file by hand and give it with --from"


@dataclass(frozen=True)
class Patience:
    """How long a server may take."""

    attempts: int = 6  # in a row that bring fewer than slow_bytes
    first_wait: float = 1.0  # seconds before the second attempt; doubled from then on
    longest_wait: float = 300.0  # seconds; a server that asks for more is left alone
    silence: float = 30.0  # seconds without a byte
    slow_seconds: float = 60.0  # span over which the speed is looked at
    slow_bytes: int = 60_000  # fewer in such a span are too slow


PATIENCE = Patience()


@dataclass(frozen=True)
class _Download:
    """What is fetched: from where, to where as long as it is not whole, its size in bytes if known, how patiently."""

    url: str
    partial: Path
    size: int | None
    patience: Patience


class _Again(Exception):
    """The attempt failed, another one may not: why, and the seconds that the server asks to wait."""

    def __init__(self, reason: str, wait: float | None = None):
        super().__init__(reason)
        self.wait = wait


def fetch(
    url: str, target: Path, size: int | None = None, digest: str | None = None, patience: Patience = PATIENCE
) -> Path:
    """Download a file; an interrupted download goes on where it stopped.

    Until it is whole and checked, it lies beside the target with the ending .partial.

    Args:
        size: bytes that the file must have.
        digest: SHA-256 that it must have, in hexadecimal.
    Raises:
        CliplitError: it is not there, cannot be reached, is a web page, or is not the file that it should be.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    began_with = _length(partial)
    _fetch_all(_Download(url, partial, size, patience))
    try:
        check_file(partial, url, size, digest)
    except CliplitError:
        _forget(partial)
        if not began_with:
            raise
        return fetch(url, target, size, digest, patience)  # the old part may have been of another file
    os.replace(partial, target)
    _forget(partial)
    return target


def check_file(path: Path, origin: str, size: int | None = None, digest: str | None = None) -> None:
    """Compare a file with what it should be.

    Raises:
        CliplitError: a web page, or another size or SHA-256 than expected.
    """
    with open(path, "rb") as file:
        head = file.read(512).lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        raise _web_page(origin)
    if size is not None and path.stat().st_size != size:
        raise CliplitError(f"{origin}: {path.stat().st_size} bytes in place of {size}; nothing was kept; {BY_HAND}")
    if digest is not None and (found := sha256(path)) != digest:
        raise CliplitError(
            f"{origin}: SHA-256 is {found[:12]}..., not {digest[:12]}... as expected; nothing was kept; {BY_HAND}"
        )


def _web_page(origin: str) -> CliplitError:
    return CliplitError(
        f"{origin}: a web page came in place of the file (on Google Drive often: too many downloads); {BY_HAND}"
    )


def _fetch_all(download: _Download) -> None:
    patience = download.patience
    failures = 0
    while True:
        before = _length(download.partial)
        try:
            return _fetch_on(download)
        except _Again as error:
            failures = 1 if _length(download.partial) - before > patience.slow_bytes else failures + 1
            if failures >= patience.attempts:
                raise CliplitError(
                    f"{download.url}: given up after {failures} attempts ({error}); run the same command again to go on, "
                    f"or {BY_HAND}"
                ) from None
            wait = error.wait if error.wait is not None else patience.first_wait * 2 ** (failures - 1)
            if wait > patience.longest_wait:
                raise CliplitError(
                    f"{download.url}: {error}; the server asks to wait {wait:.0f} s: run the same command again then"
                ) from None
            time.sleep(wait)


def _fetch_on(download: _Download) -> None:
    """One attempt: the bytes that are still missing."""
    url = download.url
    partial = download.partial
    notes = partial.with_name(f"{partial.name}.json")
    known = read_json(notes) or {}
    have = _length(partial) if known.get("url") == url and known.get("version") else 0
    if have and have == known.get("total"):
        return
    headers = {"User-Agent": f"cliplit/{cliplit.__version__}", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": known["version"]}
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=download.patience.silence) as response:
            have = have if response.status == 206 else 0
            total = _total(response, have)
            _check_answer(response, download, have, total)
            version = response.headers.get("ETag") or response.headers.get("Last-Modified")
            write_json({"url": url, "total": total, "version": _strong(version)}, notes)
            _save(response, download, have, total)
    except urllib.error.HTTPError as error:
        raise _failure(download, error) from None
    except (OSError, http.client.HTTPException) as error:
        if getattr(error, "errno", None) in LOCAL:
            raise
        raise _Again(one_line(getattr(error, "reason", error))) from None
    if total is not None and _length(partial) != total:
        raise _Again(f"the connection ended after {_length(partial)} of {total} bytes")


def _save(response: http.client.HTTPResponse, download: _Download, have: int, total: int | None) -> None:
    name = download.partial.name.removesuffix(".partial")
    with (
        open(download.partial, "ab" if have else "wb") as file,
        tqdm(desc=name, initial=have, total=total, unit="B", unit_scale=True, leave=False) as bar,
    ):
        for block in _blocks(response, download.patience):
            file.write(block)
            bar.update(len(block))


def _blocks(response: http.client.HTTPResponse, patience: Patience) -> Iterator[bytes]:
    """What arrives, as long as it arrives fast enough."""
    since = time.monotonic()
    received = 0
    while block := response.read1(BLOCK):
        yield block
        received += len(block)
        span = time.monotonic() - since
        if span > patience.slow_seconds:
            if received < patience.slow_bytes:
                raise _Again(f"too slow: {received} bytes in {span:.0f} s")
            since = time.monotonic()
            received = 0


def _check_answer(response: http.client.HTTPResponse, download: _Download, have: int, total: int | None) -> None:
    """Look at the head of an answer: the file itself, of the right size, and there is room for what is missing."""
    url = download.url
    if response.headers.get_content_type() == "text/html":
        _forget(download.partial)
        raise _web_page(url)
    if total is None:
        return
    if download.size is not None and total != download.size:
        _forget(download.partial)
        raise CliplitError(
            f"{url}: the server has {total} bytes in place of {download.size}; nothing was kept; {BY_HAND}"
        )
    folder = download.partial.parent
    free = shutil.disk_usage(folder).free
    if total - have > free:
        raise CliplitError(f"{url}: needs {(total - have) / 1e9:.1f} GB, {folder} has {free / 1e9:.1f} GB free")


def _failure(download: _Download, error: urllib.error.HTTPError) -> Exception:
    """What an answer other than the file means."""
    if error.code == 416:  # the part is longer than the file: begin anew
        _forget(download.partial)
        return _Again("the server has a shorter file than before")
    if error.code in (408, 425, 429) or error.code >= 500:
        return _Again(f"the server answers {error.code} {error.reason}", _retry_after(error.headers.get("Retry-After")))
    return CliplitError(
        f"{download.url}: the server answers {error.code} {error.reason}; look for another address, or {BY_HAND}"
    )


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, given as such or as a date."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _total(response: http.client.HTTPResponse, have: int) -> int | None:
    """Bytes of the whole file, if the server says so."""
    if response.status == 206:
        place, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        if not place.startswith(f"{have}-"):
            raise _Again("the server sent another part of the file than asked for")
        return int(total) if total.isdigit() else None
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _strong(version: str | None) -> str | None:
    """An ETag or date that may be used to go on; a weak ETag may not."""
    return None if version and version.startswith("W/") else version


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _forget(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    partial.with_name(f"{partial.name}.json").unlink(missing_ok=True)


def reachable(url: str) -> bool:
    """Whether an address answers within a few seconds, even if the name server does not."""
    answers: list[bool] = []
    probe = threading.Thread(target=lambda: answers.append(_answers(url)), daemon=True)
    probe.start()
    probe.join(REACH_TIMEOUT)
    return any(answers)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=REACH_TIMEOUT).close()
    except urllib.error.HTTPError as error:
        return error.code < 500  # it answered, if only to say that there is no such page
    except OSError:
        return False
    return True

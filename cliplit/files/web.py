"""Downloads and archives. Downloads resume after an interruption, are retried, and are checked by size and SHA-256. Archives
are unpacked safely: nothing outside the target, no links, no bombs, and all of it or nothing.

It also tells whether an address can be reached. Google Drive needs gdown (the extra `drive`), imported only when used.
"""

import contextlib
import lzma
import os
import shutil
import stat
import tarfile
import threading
import time
import zipfile
import zlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

import cliplit
from cliplit.errors import CliplitError, one_line, told
from cliplit.files.atomic import sha256

HUB = "https://huggingface.co"
REACH_TIMEOUT = 5.0  # seconds to find out whether an address answers
BLOCK = 1 << 16  # bytes read at once
BY_HAND = "download the file yourself and give it with --from"
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds after consecutive attempts that bring less than a block
LONGEST_WAIT = 300.0  # seconds; if a server asks to wait longer, fetch gives up
SILENCE = 30.0  # seconds without a byte after which an attempt has failed

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
JUNK = {"__MACOSX", ".DS_Store", "Thumbs.db"}  # what file managers leave behind
# Limits for an archive of photos. Photos hardly compress, so a high ratio means a bomb.
MOST_FILES = 200_000
MOST_BYTES = 200 * 10**9
MOST_RATIO = 100  # of all bytes unpacked to those of the archive
RATIO_FROM = 10**8  # bytes unpacked; below, the ratio does not matter
# Errors of the libraries about damaged archives; bz2 raises OSError without a number
DAMAGE = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, NotImplementedError, OSError)


class _Again(Exception):
    """An attempt that is worth repeating: the reason, and the seconds that the server asks to wait, or 0."""


def fetch(url: str, target: Path, size: int | None = None, digest: str | None = None) -> Path:
    """Download a file. An interrupted download resumes where it stopped.

    Until the file is complete and checked, it lies beside the target with the ending .partial.

    Args:
        size: expected size in bytes.
        digest: expected SHA-256, in hexadecimal.
    Raises:
        CliplitError: the file is missing, cannot be reached, is a web page, or has another size or SHA-256.
        OSError: it cannot be written, e.g. because the disk is full.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.partial")
    version = target.with_name(f"{part.name}.version")
    failures = 0
    while True:
        before = _length(part)
        try:
            _fetch_rest(url, part, version)
            break
        except _Again as error:
            reason, wait = error.args
            failures = 1 if _length(part) - before >= BLOCK else failures + 1
            if failures > len(WAITS) or wait > LONGEST_WAIT:
                again = f"run the same command again to resume, or {BY_HAND}"
                raise CliplitError(f"{url}: download failed after {failures} attempts ({reason}); {again}") from None
            time.sleep(wait or WAITS[failures - 1])
    version.unlink(missing_ok=True)
    with open(part, "rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        wrong = "the server sent a web page instead of the file"
    elif size not in (None, part.stat().st_size):
        wrong = f"{part.stat().st_size} bytes instead of {size}"
    elif digest and (found := sha256(part)) != digest:
        wrong = f"SHA-256 is {found[:12]}..., not {digest[:12]}... as expected"
    else:
        return part.replace(target)
    part.unlink()
    raise CliplitError(f"{url}: {wrong}; the download was deleted; {BY_HAND}")


def _fetch_rest(url: str, part: Path, version: Path) -> None:
    """Fetch the missing bytes. The file `version` holds the server's mark of the version that the first bytes are from."""
    import requests
    import urllib3

    mark = version.read_text("latin-1") if version.is_file() else ""
    have = _length(part) if mark else 0
    headers = {"User-Agent": f"cliplit/{cliplit.__version__}", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": mark}
    try:
        with requests.get(url, headers=headers, timeout=SILENCE, stream=True) as response:
            if not response.ok:
                reason = f"the server answers {response.status_code} {response.reason}"
                if response.status_code == 416:  # nothing is left to fetch
                    if response.headers.get("Content-Range", "").endswith(f"/{have}"):
                        return
                    part.unlink(missing_ok=True)
                elif response.status_code not in (408, 425, 429) and response.status_code < 500:
                    raise CliplitError(f"{url}: {reason}; use another source, or {BY_HAND}")
                wait = response.headers.get("Retry-After", "").strip()
                seconds = int(wait) if wait.isdigit() else 0
                raise _Again(f"{reason} and asks to wait {wait} s" if seconds else reason, seconds)
            have = have if response.status_code == 206 else 0
            length = response.headers.get("Content-Length")
            total = have + int(length) if length else None
            mark = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
            version.write_text("" if mark.startswith("W/") else mark, "latin-1")  # a weak ETag may mean other bytes
            response.raw.enforce_content_length = False  # keeps what came before the connection ended
            with (
                open(part, "ab" if have else "wb") as file,
                tqdm(desc=part.stem, initial=have, total=total, unit="B", unit_scale=True, leave=False) as bar,
            ):
                for block in response.raw.stream(BLOCK, decode_content=False):
                    file.write(block)
                    bar.update(len(block))
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        cause: BaseException = error
        while cause.__context__:
            cause = cause.__context__
        raise _Again(one_line(cause), 0) from None
    except OSError as error:
        raise OSError(error.errno, error.strerror, error.filename or str(part)) from None
    if total is not None and _length(part) != total:
        raise _Again(f"the connection ended after {_length(part)} of {total} bytes", 0)


def fetch_drive(folder: str, target: Path) -> None:
    """Download a shared folder of Google Drive with everything in it. Files that already exist are kept.

    Raises CliplitError if gdown is not installed, or the folder cannot be downloaded.
    """
    try:
        import gdown
    except ImportError:
        remedy = "pip install gdown, or download it yourself and give it with --from"
        raise CliplitError(f"Google Drive needs gdown (the extra `drive`): {remedy}") from None
    get = partial(gdown.download_folder, id=folder, output=str(target), use_cookies=False, timeout=SILENCE)
    again = f"run the same command again to resume (tomorrow if Google Drive refuses it), or {BY_HAND}"
    with told(f"Google Drive folder {folder}: not downloaded", again):
        paths = [file.path.replace(os.sep, "/") for file in get(skip_download=True, quiet=True)]
        if len({*paths}) < len(paths) or not all(map(is_inside, paths)):
            raise ValueError("it has several files of the same name, or names that lead out of it")
        get(resume=True, retries=len(WAITS), quiet=False)


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def reachable(url: str) -> bool:
    """Whether an address answers within a few seconds. A name server that does not answer delays it no longer."""
    import requests

    answers: list[bool] = []

    def ask() -> None:
        with contextlib.suppress(requests.RequestException):
            answers.append(requests.head(url, timeout=REACH_TIMEOUT).status_code < 500)

    probe = threading.Thread(target=ask, daemon=True)
    probe.start()
    probe.join(REACH_TIMEOUT)
    return any(answers)


def hub_address() -> str:
    """Hugging Face's hub, or the mirror in $HF_ENDPOINT."""
    return os.environ.get("HF_ENDPOINT", HUB)


def hub_digest(url: str) -> str | None:
    """SHA-256 of a large file on the hub, which states it; else None. Errors of the hub's library are passed on."""
    from huggingface_hub import get_hf_file_metadata

    stated = get_hf_file_metadata(url).etag or ""
    return stated if len(stated) == 64 else None


class Refused(CliplitError):
    """The archive itself is at fault."""


def extract(archive: Path, target: Path) -> Path:
    """Unpack a zip or tar archive into a new folder, which exists only if everything went well.

    Raises:
        Refused: not such an archive, damaged, encrypted, or with members that an archive of photos does not have:
            paths that lead out of it, absolute paths, links and devices, or far more bytes than plausible.
        OSError: it cannot be written, e.g. because the disk is full.
    """
    unpacked = target.with_name(f".{target.name}.partial")
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir(parents=True)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(unpacked, _checked(zipped.infolist(), archive))
        else:
            with tarfile.open(archive) as tar:
                files = _checked(tar, archive)
                tar.fileobj.seek(tar.offset)  # an empty block ends an archive; tarfile accepts archives without it
                if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise Refused("damaged: it ends early")
                tar.extractall(unpacked, files, filter="data")
        os.replace(unpacked, target)
    except Refused as error:
        raise Refused(f"{archive}: not unpacked: {error}") from None
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno:
            raise
        reason = f"not a zip or tar archive, or a damaged one ({one_line(error)})"
        raise Refused(f"{archive}: not unpacked: {reason}") from None
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    return target


def is_inside(path: str) -> bool:
    """Whether a relative path stays where it starts, on every system."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    return bool(parts) and ".." not in parts and not path.startswith(("/", "\\")) and ":" not in parts[0]


def _checked(members: Iterable[Any], archive: Path) -> list[Any]:
    """The files to unpack. Raises Refused at the first member that an archive of photos does not have."""
    files: dict[str, Any] = {}
    folders: set[str] = set()
    total = 0
    size = archive.stat().st_size
    for member in members:
        if isinstance(member, zipfile.ZipInfo):
            name, length, is_folder = member.filename, member.file_size, member.is_dir()
            is_file = stat.S_IFMT(member.external_attr >> 16) in (0, stat.S_IFREG)
            if member.flag_bits & 1:
                raise Refused("it is encrypted; unpack it by hand and give the folder with --from")
        else:
            name, length, is_folder, is_file = member.name, member.size, member.isdir(), member.isreg()
        if not (is_file or is_folder):
            raise Refused(f"'{name}' is a link or a device")
        if is_folder or JUNK & set(PurePosixPath(name).parts):
            continue
        if not is_inside(name):
            raise Refused(f"'{name}' leads out of the folder that it is unpacked to")
        if name in files:
            raise Refused(f"several members are named '{name}'")
        files[name] = member
        folders.update(map(str, PurePosixPath(name).parents))
        total += length
        if len(files) > MOST_FILES or total > MOST_BYTES:
            raise Refused(f"over {MOST_FILES} files or {MOST_BYTES / 1e9:.0f} GB, more than photos need")
        if total > RATIO_FROM and total > MOST_RATIO * size:
            raise Refused(f"{size / 1e6:.1f} MB would become {total / 1e9:.1f} GB or more")
    if both := files.keys() & folders:
        raise Refused(f"a member is both file and folder ({both.pop()})")
    return list(files.values())

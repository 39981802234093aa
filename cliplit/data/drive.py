"""Shared folders of Google Drive, through gdown, which is an optional extra."""

import os
import time
from pathlib import Path
from typing import Any

from cliplit.errors import CliplitError, one_line
from cliplit.files.archives import is_inside
from cliplit.files.web import BY_HAND, Patience, check_file

MISSING = "Google Drive needs gdown (the extra `drive`): pip install gdown; or fetch by hand and give it with --from"


def list_folder(folder: str, patience: Patience = Patience()) -> dict[str, str]:
    """Files of a shared folder and its folders: path and id.

    Raises:
        CliplitError: gdown is not installed, or the folder cannot be listed.
    """
    gdown = _gdown()
    try:
        listed = gdown.download_folder(
            id=folder, output=".", quiet=True, skip_download=True, use_cookies=False, timeout=patience.silence
        )
    except Exception as error:  # requests, parsing and gdown's own
        raise CliplitError(f"Google Drive folder {folder}: cannot be listed ({one_line(error)}); {BY_HAND}") from None
    files = {file.path.replace(os.sep, "/"): file.id for file in listed}
    if not files or not all(is_inside(path) for path in files):
        raise CliplitError(f"Google Drive folder {folder}: empty, or with names that lead out of it; {BY_HAND}")
    return files


def fetch_file(file: str, target: Path, digest: str | None = None, patience: Patience = Patience()) -> Path:
    """Download a file by its id; an interrupted download goes on where it stopped.

    Raises:
        CliplitError: gdown is not installed, or the file cannot be had, is a web page or not the one expected.
    """
    gdown, whole = _gdown(), target.with_name(f"{target.name}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, patience.attempts + 1):
        try:
            gdown.download(
                id=file, output=str(whole), quiet=True, resume=True, use_cookies=False, timeout=patience.silence
            )
            break
        except Exception as error:
            if attempt == patience.attempts or isinstance(error, gdown.exceptions.FileURLRetrievalError):
                raise CliplitError(
                    f"{target.name}: Google Drive does not give it ({one_line(error)}); try again tomorrow, "
                    f"or {BY_HAND}"
                ) from None
            time.sleep(patience.first_wait * 2 ** (attempt - 1))
    try:
        check_file(whole, f"Google Drive: {target.name}", None, digest)
    except CliplitError:
        whole.unlink()
        raise
    os.replace(whole, target)
    return target


def _gdown() -> Any:
    try:
        import gdown
    except ImportError:
        raise CliplitError(MISSING) from None
    return gdown

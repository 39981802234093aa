"""Known data sets from the network or from what was fetched by hand: unpacked, looked at, and only then in place.

Downloads come from the web (`cliplit.files.web`) or from shared folders of Google Drive. The latter need gdown, which is
optional (the extra `drive`) and imported only then.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from cliplit.data.catalog import DataSet, Location, find
from cliplit.data.manifest import Manifest, describe_image, has_manifest, keep_only, write_manifest
from cliplit.data.verify import Report, inspect_images, subset_images
from cliplit.errors import CliplitError, one_line, shortened
from cliplit.files.archives import SUFFIXES, Refused, extract, is_archive, is_inside
from cliplit.files.atomic import read_json, sha256, write_json
from cliplit.files.folders import EXTENSIONS
from cliplit.files.pairs import original
from cliplit.files.web import BY_HAND, PATIENCE, Patience, check_file, fetch

DOWNLOADS = "downloads"  # folder beside the data sets
CHECKSUMS = "checksums.json"  # file beside the data sets
NO_GDOWN = "Google Drive needs gdown (the extra `drive`): pip install gdown; or fetch by hand and give it with --from"


def get_data_set(
    name: str,
    root: Path,
    given: Iterable[Path] = (),
    source: str = "",
    accept_problems: bool = False,
    force: bool = False,
    say: Callable[[str], None] = lambda line: None,
    patience: Patience = PATIENCE,
) -> Path:
    """Put a known data set into root/name, with a dataset.json; what is there already is left as it is.

    Downloads stay in root/downloads, so that an interrupted one goes on; root/checksums.json keeps the SHA-256 of
    files whose publisher names none, as recorded when they were first found to be good.

    Args:
        given: archives or folders that were fetched by hand, in place of a download.
        source: where to download from; by default the data set's first source.
        accept_problems: keep the data set although it is not what it should be; dataset.json says so.
        force: make it again.
        say: takes a line on what is being done.
        patience: how long servers may take.
    Raises:
        CliplitError: unknown name or source, a download or archive that is refused, or images that are not the
            data set's. Nothing is left in root/name then.
    """
    data_set = find(name)
    target = root / name
    if has_manifest(target) and not force:
        say(f"{target}: already there (--force makes it again)")
        return target
    if target.exists() and not has_manifest(target):
        raise CliplitError(
            f"{target}: something else is there; give it with --from {target} and choose another --root, or move it"
        )
    staging = root / f".{name}.partial"
    shutil.rmtree(staging, ignore_errors=True)
    places = [Path(path) for path in given]
    downloaded: dict[str, Path] = {}
    try:
        if places:
            origin = f"by hand: {shortened(path.name for path in places)}"
        else:
            source = source or next(iter(data_set.sources))
            places, downloaded = _download(data_set, source, root, patience, say)
            origin = f"{source}: {' '.join(map(str, data_set.sources[source]))}"
        report = _collect(data_set, places, staging, say)
        _judge(report, accept_problems, say)
        _describe(data_set, report, staging / "set", origin)
        _replace(staging / "set", target, force)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    _record(downloaded, root, say)
    return target


# ---- downloads ----


def _download(
    data_set: DataSet, source: str, root: Path, patience: Patience, say: Callable[[str], None]
) -> tuple[list[Path], dict[str, Path]]:
    """Archives and folders of a source, and every downloaded file by its address."""
    if source not in data_set.sources:
        raise CliplitError(f"{data_set.name} has no source '{source}'; valid: {', '.join(data_set.sources)}")
    places: list[Path] = []
    files: dict[str, Path] = {}
    for location in data_set.sources[source]:
        say(f"{data_set.name}: downloading {location}")
        if location.url:
            files[location.url] = _from_web(location, root, patience)
            places.append(files[location.url])
        else:
            folder = root / DOWNLOADS / location.drive
            files |= _from_drive(data_set, location, folder, root, patience)
            places.append(folder)
    return places, files


def _from_web(location: Location, root: Path, patience: Patience) -> Path:
    target = root / DOWNLOADS / location.url.rsplit("/", 1)[-1]
    digest = location.sha256 or _known(root, location.url)
    if not target.is_file():
        fetch(location.url, target, location.bytes, digest, patience)
    _compare(target, digest, root)
    return target


def _from_drive(data_set: DataSet, location: Location, folder: Path, root: Path, patience: Patience) -> dict[str, Path]:
    listed = list_drive(location.drive, patience)
    files: dict[str, Path] = {}
    for path, file in listed.items():
        target = folder / path
        key = f"drive:{location.drive}/{path}"
        if not _is_wanted(path, data_set):
            continue
        if not target.is_file():
            fetch_from_drive(file, target, _known(root, key), patience)
        _compare(target, _known(root, key), root)
        files[key] = target
    if not files:
        raise CliplitError(
            f"{location}: neither archives nor images of {data_set.name} there, but {_names(listed)}; fetch by hand, "
            f"and give it with --from or prepare it with `cliplit data prepare`"
        )
    return files


def _is_wanted(path: str, data_set: DataSet) -> bool:
    """Whether a file of a shared folder is an archive, or an image in one of the data set's folders."""
    place = PurePosixPath(path).parent
    if PurePosixPath(path).suffix.lower() not in EXTENSIONS:
        return path.lower().endswith(SUFFIXES)
    names = [name for subset in data_set.subsets for name in (subset.folder, *subset.published)]
    return any(place == PurePosixPath(name) or f"/{place}".endswith(f"/{name}") for name in names)


def list_drive(folder: str, patience: Patience = PATIENCE) -> dict[str, str]:
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
    if len(files) < len(listed):
        raise CliplitError(f"Google Drive folder {folder}: several files of the same name; {BY_HAND}")
    if not files or not all(is_inside(path) for path in files):
        raise CliplitError(f"Google Drive folder {folder}: empty, or with names that lead out of it; {BY_HAND}")
    return files


def fetch_from_drive(file: str, target: Path, digest: str | None = None, patience: Patience = PATIENCE) -> Path:
    """Download a file by its id; an interrupted download goes on where it stopped.

    Raises:
        CliplitError: gdown is not installed, or the file cannot be had, is a web page or not the one expected.
    """
    gdown = _gdown()
    whole = target.with_name(f"{target.name}.partial")
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


def _gdown() -> ModuleType:
    """The module gdown, which is optional."""
    try:
        import gdown
    except ImportError:
        raise CliplitError(NO_GDOWN) from None
    return gdown


# ---- what was downloaded or given, to the data set ----


def _collect(data_set: DataSet, given: list[Path], staging: Path, say: Callable[[str], None]) -> Report:
    """Bring the images of every subset together in staging/set, and look at them."""
    roots: list[Path] = []
    for n, place in enumerate(given):
        if not place.exists():
            raise CliplitError(f"{place}: no such file or folder")
        archives = [place] if place.is_file() else sorted(path for path in place.rglob("*") if is_archive(path))
        for m, archive in enumerate(archives):
            say(f"{data_set.name}: unpacking {archive}")
            roots.append(_unpack(archive, staging / f"{n}-{m}" / archive.name.partition(".")[0]))
        if place.is_dir():
            roots.append(place.resolve())
    whole = staging / "set"
    for subset in data_set.subsets:
        found = subset_images(subset, roots)
        if not found:
            raise CliplitError(
                f"{data_set.name}: no images for {subset.role} in {_names(given)}: looked for folders named "
                f"{', '.join(name for name in subset.published if name != '.')}; if yours are named otherwise, "
                f"use `cliplit data prepare` with them"
            )
        folder = whole / subset.folder
        folder.mkdir(parents=True)
        for path in found:
            if path.is_relative_to(staging):
                os.replace(path, folder / path.name)
            else:
                shutil.copyfile(path, folder / path.name)
    say(f"{data_set.name}: looking at every image")
    files = {subset.role: sorted((whole / subset.folder).iterdir()) for subset in data_set.subsets}
    return inspect_images(data_set.name, whole, files, data_set)


def _unpack(archive: Path, target: Path) -> Path:
    """Unpack an archive; a download that is refused does not stay, or it would be taken again next time."""
    try:
        return extract(archive, target)
    except Refused:
        if DOWNLOADS in archive.parts:
            archive.unlink()
        raise


def _judge(report: Report, accept_problems: bool, say: Callable[[str], None]) -> None:
    for finding in report.findings:
        say(f"  {finding}")
    if report.problems and not accept_problems:
        first = report.problems[0]
        raise CliplitError(
            f"{report.name}: {len(report.problems)} problem(s), nothing was kept; the first: {first.kind} {first.path}: "
            f"{first.detail}; --accept-problems keeps the good images"
        )


def _describe(data_set: DataSet, report: Report, folder: Path, origin: str) -> None:
    """Leave the good images only, numbered copies that stand for their stem under its name, and describe them."""
    images = []
    for image in report.images:
        path = folder / image.path
        if data_set.numbered_copies and original(path.stem) != path.stem:
            path = path.rename(path.with_name(original(path.stem) + path.suffix))
        images.append(describe_image(path, folder, image.role, image.size))
    keep_only(images, folder)
    findings = tuple(str(finding) for finding in report.findings)
    source = f"{data_set.title}; {origin}"
    write_manifest(Manifest(data_set.name, source, data_set.licence, tuple(images), {}, findings), folder)


def _replace(folder: Path, target: Path, force: bool) -> None:
    """Put the new data set in its place; with `force`, an old one goes to the staging folder, which is removed."""
    if force and target.exists():
        os.replace(target, folder.with_name("old"))
    os.replace(folder, target)


# ---- SHA-256 of downloads whose publisher names none ----


def _known(root: Path, key: str) -> str | None:
    """SHA-256 of a file as recorded when it was first found to be good."""
    return _checksums(root).get(key, {}).get("sha256")


def _checksums(root: Path) -> dict[str, dict[str, Any]]:
    """SHA-256 and size of files by their address, as recorded.

    Raises:
        CliplitError: damaged; what it protects from would go unnoticed.
    """
    path = root / CHECKSUMS
    found = read_json(path) if path.exists() else {}
    if found is None or not all(isinstance(entry, dict) for entry in found.values()):
        raise CliplitError(f"{path}: damaged; put it back, or remove it to take downloads as they come")
    return found


def _compare(path: Path, digest: str | None, root: Path) -> None:
    if digest is not None and sha256(path) != digest:
        raise CliplitError(
            f"{path}: SHA-256 is not {digest[:12]}..., as published or recorded in {root / CHECKSUMS}; remove the file "
            f"to download it again"
        )


def _record(files: dict[str, Path], root: Path, say: Callable[[str], None]) -> None:
    known = _checksums(root)
    new = {
        key: {"bytes": path.stat().st_size, "sha256": sha256(path)} for key, path in files.items() if key not in known
    }
    if new:
        write_json(known | new, root / CHECKSUMS)
        say(f"SHA-256 of {len(new)} files recorded in {root / CHECKSUMS}: from now on they must stay the same")
    if files:
        say(f"{root / DOWNLOADS}: the downloads are no longer needed and may be removed")


def _names(paths: Iterable[Path | str]) -> str:
    return shortened(map(str, paths))

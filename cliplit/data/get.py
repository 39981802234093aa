"""Known data sets from the network, or from what was fetched by hand: unpacked, checked, and only then put in place."""

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from cliplit.data.catalog import DataSet, find
from cliplit.data.manifest import FOLDERS, Manifest, describe_image, has_manifest, keep_only, write_manifest
from cliplit.data.verify import Report, inspect_images, subset_images
from cliplit.errors import CliplitError, shortened
from cliplit.files.archives import SUFFIXES, Refused, extract, is_archive
from cliplit.files.atomic import read_json, sha256, write_json
from cliplit.files.folders import EXTENSIONS
from cliplit.files.pairs import original
from cliplit.files.web import fetch, list_drive

DOWNLOADS = "downloads"  # folder beside the data sets
CHECKSUMS = "checksums.json"  # file beside the data sets: SHA-256 of downloads whose publisher gives none


def get_data_set(
    name: str,
    root: Path,
    given: Iterable[Path] = (),
    source: str = "",
    accept_problems: bool = False,
    force: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Put a known data set into root/name, with a dataset.json; a data set that is there already stays as it is.

    Downloads stay in root/downloads, so that an interrupted one resumes. Where the publisher gives no SHA-256,
    root/checksums.json keeps that of the first download found to be good.

    Args:
        given: archives or folders that were fetched by hand, in place of a download.
        source: where to download from; by default the data set's first source.
        accept_problems: keep the data set although it is not what it should be; dataset.json says so.
        force: make it again.
        say: takes a line on what is being done.
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
    origin = f"by hand: {shortened(path.name for path in places)}"
    downloaded: dict[str, Path] = {}
    known: dict[str, Any] = {}
    try:
        if not places:
            source = source or next(iter(data_set.sources))
            if source not in data_set.sources:
                raise CliplitError(f"{name} has no source '{source}'; valid: {', '.join(data_set.sources)}")
            origin = f"{source}: {' '.join(map(str, data_set.sources[source]))}"
            known = _checksums(root)
            places, downloaded = _download(data_set, source, root, known, say)
        report = _collect(data_set, places, [*downloaded.values()], staging, say)
        for finding in report.findings:
            say(f"  {finding}")
        if report.problems and not accept_problems:
            first = report.problems[0]
            raise CliplitError(
                f"{name}: {len(report.problems)} problem(s), nothing was kept; the first: {first.kind} {first.path}: "
                f"{first.detail}; --accept-problems keeps the good images"
            )
        _describe(data_set, report, staging / "set", origin)
        if target.exists():
            os.replace(target, staging / "old")
        os.replace(staging / "set", target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    new = {file: {"bytes": path.stat().st_size, "sha256": sha256(path)} for file, path in downloaded.items()}
    if new.keys() - known.keys():
        write_json(new | known, root / CHECKSUMS)
        count = len(new.keys() - known.keys())
        say(f"SHA-256 of {count} files recorded in {root / CHECKSUMS}: from now on they must stay the same")
    if downloaded:
        say(f"{root / DOWNLOADS}: the downloads are no longer needed and may be removed")
    return target


def _checksums(root: Path) -> dict[str, dict[str, Any]]:
    """SHA-256 and size of files by their address. A damaged file is refused: what it protects from would go unnoticed."""
    path = root / CHECKSUMS
    found = read_json(path) if path.exists() else {}
    if found is None or not all(isinstance(entry, dict) for entry in found.values()):
        raise CliplitError(f"{path}: damaged; put it back, or remove it to take downloads as they come")
    return found


def _download(
    data_set: DataSet, source: str, root: Path, known: dict[str, Any], say: Callable[[str], None]
) -> tuple[list[Path], dict[str, Path]]:
    """Archives and folders of a source, and every downloaded file by its address."""
    places: list[Path] = []
    files: dict[str, Path] = {}
    for location in data_set.sources[source]:
        say(f"{data_set.name}: downloading {location}")
        place = root / DOWNLOADS / (location.drive or location.url.rsplit("/", 1)[-1])
        wanted = {location.url: (location.url, place)}
        if location.drive:
            listed = list_drive(location.drive)
            ours = {path: file for path, file in listed.items() if _is_wanted(path, data_set)}
            if not ours:
                raise CliplitError(
                    f"{location}: neither archives nor images of {data_set.name} there, but {shortened(listed)}; fetch "
                    f"by hand, and give it with --from or prepare it with `cliplit data prepare`"
                )
            wanted = {f"drive:{location.drive}/{path}": (f"drive:{file}", place / path) for path, file in ours.items()}
        for address, (url, target) in wanted.items():
            digest = location.sha256 or known.get(address, {}).get("sha256")
            if not target.is_file():
                fetch(url, target, location.bytes, digest)
            elif digest not in (None, sha256(target)):
                raise CliplitError(
                    f"{target}: SHA-256 is not {digest[:12]}..., as published or recorded in {root / CHECKSUMS}; "
                    f"remove the file to download it again"
                )
            files[address] = target
        places.append(place)
    return places, files


def _is_wanted(path: str, data_set: DataSet) -> bool:
    """Whether a file of a shared folder is an archive, or an image in one of the data set's folders."""
    place = PurePosixPath(path).parent
    if PurePosixPath(path).suffix.lower() not in EXTENSIONS:
        return path.lower().endswith(SUFFIXES)
    names = [name for subset in data_set.subsets for name in (FOLDERS[subset.role], *subset.published)]
    return any(place == PurePosixPath(name) or f"/{place}".endswith(f"/{name}") for name in names)


def _collect(
    data_set: DataSet, given: list[Path], downloaded: list[Path], staging: Path, say: Callable[[str], None]
) -> Report:
    """Bring the images of every subset together in staging/set, and look at them."""
    roots: list[Path] = []
    for n, place in enumerate(given):
        if not place.exists():
            raise CliplitError(f"{place}: no such file or folder")
        archives = [place] if place.is_file() else sorted(path for path in place.rglob("*") if is_archive(path))
        for m, archive in enumerate(archives):
            say(f"{data_set.name}: unpacking {archive}")
            try:
                roots.append(extract(archive, staging / f"{n}-{m}" / archive.name.partition(".")[0]))
            except Refused:
                if archive in downloaded:  # the next call would take it again
                    archive.unlink()
                raise
        if place.is_dir():
            roots.append(place.resolve())
    files: dict[str, list[Path]] = {}
    for subset in data_set.subsets:
        found = subset_images(subset, roots)
        if not found:
            raise CliplitError(
                f"{data_set.name}: no images for {subset.role} in {shortened(map(str, given))}: looked for folders named "
                f"{', '.join(name for name in subset.published if name != '.')}; if yours are named otherwise, "
                f"use `cliplit data prepare` with them"
            )
        folder = staging / "set" / FOLDERS[subset.role]
        folder.mkdir(parents=True)
        for path in found:
            move = os.replace if path.is_relative_to(staging) else shutil.copyfile
            move(path, folder / path.name)
        files[subset.role] = sorted(folder.iterdir())
    say(f"{data_set.name}: looking at every image")
    return inspect_images(data_set.name, staging / "set", files, data_set)


def _describe(data_set: DataSet, report: Report, folder: Path, origin: str) -> None:
    """Keep the good images only, and write dataset.json. A numbered copy that stands for its stem gets its name."""
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

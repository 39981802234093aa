"""Known data sets from the network, or from what was fetched by hand: unpacked, checked, and only then put in place."""

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from cliplit.data.manifest import CATALOG, FOLDERS, DataSet, Manifest, has_manifest, new_data_set, write_manifest
from cliplit.data.verify import subset_images, verify_folder
from cliplit.errors import CliplitError, did_you_mean, shortened
from cliplit.files.atomic import sha256
from cliplit.files.folders import find_images, original
from cliplit.files.web import SUFFIXES, Refused, extract, fetch, fetch_drive

DOWNLOADS = "downloads"  # folder beside the data sets


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

    Downloads stay in root/downloads, so that an interrupted one resumes.

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
    if name not in CATALOG:
        raise CliplitError(f"unknown data set '{name}'; valid: {', '.join(CATALOG)}{did_you_mean(name, CATALOG)}")
    data_set = CATALOG[name]
    target = root / name
    if has_manifest(target) and not force:
        say(f"{target}: already there (--force makes it again)")
        return target
    with new_data_set(target, force) as folder:
        places = [Path(path) for path in given]
        origin = f"by hand: {shortened(path.name for path in places)}"
        if downloaded := not places:
            source = source or next(iter(data_set.sources))
            if source not in data_set.sources:
                raise CliplitError(f"{name} has no source '{source}'; valid: {', '.join(data_set.sources)}")
            origin = f"{source}: {' '.join(map(str, data_set.sources[source]))}"
            places = _download(data_set, source, root / DOWNLOADS, say)
        _collect(data_set, places, downloaded, folder, say)
        say(f"{name}: looking at every image")
        report = verify_folder(folder, name)
        for finding in report.findings:
            say(f"  {finding}")
        if report.problems and not accept_problems:
            first = report.problems[0]
            raise CliplitError(
                f"{name}: {len(report.problems)} problem(s), nothing was kept; the first: {first.kind} {first.path}: "
                f"{first.detail}; --accept-problems keeps the good images"
            )
        images = []
        for image in report.images:
            path = PurePosixPath(image.path)  # a numbered copy that stands for its original gets the name of that
            named = path.with_stem(original(path.stem)) if data_set.numbered_copies else path
            (folder / path).rename(folder / named)
            images.append(replace(image, path=str(named)))
        findings = tuple(map(str, report.findings))
        source = f"{data_set.title}; {origin}"
        write_manifest(Manifest(name, source, data_set.licence, tuple(images), {}, findings), folder)
    if downloaded:
        say(f"{root / DOWNLOADS}: the downloads are no longer needed and may be removed")
    return target


def _download(data_set: DataSet, source: str, folder: Path, say: Callable[[str], None]) -> list[Path]:
    """Archives and folders of a source."""
    places: list[Path] = []
    for location in data_set.sources[source]:
        say(f"{data_set.name}: downloading {location}")
        place = folder / (location.drive or location.url.rsplit("/", 1)[-1])
        places.append(place)
        if location.drive:
            fetch_drive(location.drive, place)
        elif not place.is_file():
            fetch(location.url, place, location.bytes, location.sha256)
        elif location.sha256 not in (None, sha256(place)):
            digest = f"{location.sha256[:12]}..."
            raise CliplitError(f"{place}: SHA-256 is not {digest}, as published; remove the file to download it again")
    return places


def _collect(data_set: DataSet, given: list[Path], downloaded: bool, folder: Path, say: Callable[[str], None]) -> None:
    """Bring the images of every subset together in a folder."""
    unpacked = folder / "unpacked"
    roots: list[Path] = []
    for place in given:
        if not place.exists():
            raise CliplitError(f"{place}: no such file or folder")
        archives = [
            path for path in sorted(place.rglob("*")) if path.name.lower().endswith(SUFFIXES) and path.is_file()
        ]
        for archive in [place] if place.is_file() else archives:
            say(f"{data_set.name}: unpacking {archive}")
            try:
                roots.append(extract(archive, unpacked / str(len(roots)) / archive.name.partition(".")[0]))
            except Refused:
                if downloaded:  # the next call would take it again
                    archive.unlink()
                raise
        if place.is_dir():
            roots.append(place.resolve())
    images = list(find_images(roots, recursive=True).images.values())
    for subset in data_set.subsets:
        found = subset_images(subset, roots, images)
        if not found:
            raise CliplitError(
                f"{data_set.name}: no images for {subset.role} in {shortened(map(str, given))}: looked for folders named "
                f"{', '.join(name for name in subset.published if name != '.')}; if yours are named otherwise, "
                f"use `cliplit data prepare` with them"
            )
        place = folder / FOLDERS[subset.role]
        place.mkdir(parents=True)
        for path in found:
            move = os.replace if path.is_relative_to(unpacked) else shutil.copyfile
            move(path, place / path.name)
    shutil.rmtree(unpacked, ignore_errors=True)

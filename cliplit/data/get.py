"""Gets known data sets from the network or from local files: unpacked and checked before they are put in place. Also finds
problems of a data set: counts, unreadable files, duplicates, missing partners, sizes, changed files."""

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tqdm import tqdm

from cliplit.data.manifest import (
    CATALOG,
    FOLDERS,
    ROLES,
    DataSet,
    Entry,
    Manifest,
    describe_image,
    has_manifest,
    new_data_set,
    read_manifest,
    write_manifest,
)
from cliplit.engine.processes import say
from cliplit.errors import CliplitError, did_you_mean, shortened
from cliplit.files.atomic import sha256
from cliplit.files.folders import find_images, original
from cliplit.files.images import decode
from cliplit.files.web import SUFFIXES, Refused, extract, fetch, fetch_drive

DOWNLOADS = "downloads"  # folder beside the data sets


def get_data_set(
    name: str, root: Path, given: Iterable[Path] = (), source: str = "", skip_bad: bool = False, force: bool = False
) -> Path:
    """Put a known data set into root/name, with a dataset.json. A data set that already exists stays unchanged.

    Downloads stay in root/downloads, so that an interrupted one can resume.

    Args:
        given: archives or folders to use instead of a download.
        source: where to download from; by default the data set's first source.
        skip_bad: keep the good images even if the data set has problems; dataset.json lists them.
    Raises:
        CliplitError: unknown name or source, a download or archive that is refused, or images that are not the
            data set's. Then nothing is left in root/name.
    """
    if name not in CATALOG:
        raise CliplitError(f"unknown data set '{name}'; valid: {', '.join(CATALOG)}{did_you_mean(name, CATALOG)}")
    known = CATALOG[name]
    target = root / name
    if has_manifest(target) and not force:
        say(f"{target}: already exists (--force replaces it)")
        return target
    with new_data_set(target, force) as folder:
        places = list(given)
        origin = f"by hand: {shortened(path.name for path in places)}"
        if downloaded := not places:
            source = source or next(iter(known.sources))
            places = _download(known, source, root / DOWNLOADS)
            origin = f"{source}: {' '.join(map(str, known.sources[source]))}"
        _collect(known, places, downloaded, folder)
        say(f"{name}: checking every image")
        report = look_over(folder, known)
        for finding in report.findings:
            say(f"  {finding}")
        images = []
        for image in report.good_images(skip_bad):
            path = PurePosixPath(image.path)  # a numbered copy kept for its original gets its name
            named = path.with_stem(original(path.stem)) if known.numbered_copies else path
            (folder / path).rename(folder / named)
            images.append(replace(image, path=str(named)))
        problems = tuple(map(str, report.findings))
        write_manifest(Manifest(name, f"{known.title}; {origin}", known.licence, tuple(images), {}, problems), folder)
    if downloaded:
        say(f"{root / DOWNLOADS}: these downloads are no longer needed; you may remove them")
    return target


def _download(known: DataSet, source: str, folder: Path) -> list[Path]:
    """The files and folders of a source, downloaded unless they exist."""
    if source not in known.sources:
        raise CliplitError(f"{known.name} has no source '{source}'; valid: {', '.join(known.sources)}")
    places = []
    for location in known.sources[source]:
        say(f"{known.name}: downloading {location}")
        place = folder / (location.drive or location.url.rsplit("/", 1)[-1])
        if location.drive:
            fetch_drive(location.drive, place)
        elif not place.is_file():
            fetch(location.url, place, location.bytes, location.sha256)
        elif location.sha256 not in (None, sha256(place)):
            wrong = f"its SHA-256 is not {location.sha256[:12]}... as published"
            raise CliplitError(f"{place}: {wrong}; remove the file to download it again")
        places.append(place)
    return places


def _collect(known: DataSet, places: list[Path], downloaded: bool, folder: Path) -> None:
    """Collect the images of every subset in a folder."""
    unpacked = folder / "unpacked"
    roots: list[Path] = []
    for place in places:
        if not place.exists():
            raise CliplitError(f"{place}: no such file or folder")
        inside = [path for path in sorted(place.rglob("*")) if path.name.lower().endswith(SUFFIXES) and path.is_file()]
        for archive in [place] if place.is_file() else inside:
            say(f"{known.name}: unpacking {archive}")
            try:
                roots.append(extract(archive, unpacked / str(len(roots)) / archive.name.partition(".")[0]))
            except Refused:
                if downloaded:  # otherwise the next call would use it again
                    archive.unlink()
                raise
        if place.is_dir():
            roots.append(place.resolve())
    files = published_images(known, roots)
    for subset in known.subsets:
        if not files[subset.role]:
            raise CliplitError(
                f"{known.name}: no images for {subset.role} in {shortened(map(str, places))}; looked for folders named "
                f"{', '.join(name for name in subset.published if name != '.')}. If yours have other names, "
                f"use `cliplit data prepare`"
            )
        place = folder / FOLDERS[subset.role]
        place.mkdir(parents=True)
        for path in files[subset.role]:
            move = os.replace if path.is_relative_to(unpacked) else shutil.copyfile
            move(path, place / path.name)
    shutil.rmtree(unpacked, ignore_errors=True)


def published_images(known: DataSet, roots: list[Path]) -> dict[str, list[Path]]:
    """The images of every role of a known data set, from the folder below `roots` that has the first matching published name.

    Raises CliplitError if two folders have that name.
    """
    folders: dict[Path, list[Path]] = {}
    for path in find_images(roots, recursive=True).images.values():
        folders.setdefault(path.parent, []).append(path)
    chosen: dict[str, list[Path]] = {}
    for subset in known.subsets:
        for name in (FOLDERS[subset.role], *subset.published):
            named = roots if name == "." else [path for path in folders if f"/{path.as_posix()}".endswith(f"/{name}")]
            places = sorted({*named} & folders.keys())
            if len(places) > 1:
                raise CliplitError(
                    f"{subset.role}: several folders match ({', '.join(map(str, places))}); "
                    f"choose one with `cliplit data prepare`"
                )
            if places:
                break
        found = folders[places[0]] if places else []
        chosen[subset.role] = found[: subset.count] if name == subset.first_of else found
    return chosen


class Finding(NamedTuple):
    """One finding: its kind, the file or role, and the details.

    Kinds: "unreadable"; "unread", an image in a format that is not read; "missing" or "changed", compared with
    dataset.json; "count" of the images of a role; "duplicate", an image that this role already has, which is left out;
    "shared", the same file in another role; and for pairs "partner" (none), "stem" (not unique) and "size" (differs).
    """

    kind: str
    path: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind:10} {self.path}: {self.detail}"


class Report(NamedTuple):
    """The result of checking every file of a data set: the good images, without duplicates, and the findings."""

    images: list[Entry]
    findings: list[Finding]

    @property
    def problems(self) -> list[Finding]:
        """The findings that make the data set unusable; duplicates alone do not."""
        return [finding for finding in self.findings if finding.kind not in ("duplicate", "shared", "unread")]

    def good_images(self, skip_bad: bool) -> list[Entry]:
        """The images of a new data set. Raises CliplitError for problems, unless `skip_bad` and there are good images."""
        if self.problems and not (skip_bad and self.images):
            first = self.problems[0]
            hint = "--skip-bad keeps the good images" if self.images else "no image is usable"
            raise CliplitError(
                f"{len(self.problems)} problem(s), nothing was kept; the first: {first.kind} {first.path}: {first.detail}; {hint}"
            )
        return self.images


def verify_folder(folder: Path, name: str = "") -> Report:
    """Open every image of a data set, which is a known one in its publishers' layout, or has a dataset.json.

    `name` is the name of a known one, by default the folder's. Raises CliplitError for a folder that is neither.
    """
    name = name or folder.name
    if name in CATALOG and folder.is_dir() and not has_manifest(folder):
        return look_over(folder, CATALOG[name], published_images(CATALOG[name], [folder]))
    manifest = read_manifest(folder)
    files = {role: [folder / image.path for image in manifest.of(role)] for role in ROLES}
    hashes = {image.path: image.sha256 for image in manifest.images}
    return look_over(folder, CATALOG.get(manifest.name), files, hashes)


def look_over(
    folder: Path,
    known: DataSet | None = None,
    files: Mapping[str, Iterable[Path]] | None = None,
    promised: Mapping[str, str] | None = None,
) -> Report:
    """Open and check all images of a data set.

    Args:
        known: the known data set that it should be.
        files: the images of each role; by default those in its folder.
        promised: the SHA-256 of every image in dataset.json, by path.
    """
    files = files or {role: (folder / place).glob("*") for role, place in FOLDERS.items()}
    promised = promised or {}
    missing = [path for path in promised if not (folder / path).is_file()]
    findings = [Finding("missing", path, "listed in dataset.json, but not found") for path in missing]
    every = [(role, file) for role, paths in files.items() for file in paths if file.is_file()]
    every.sort(key=lambda item: ([*ROLES].index(item[0]), original(item[1].stem), len(item[1].stem)))
    paired = any(role == "test_reference" for role, _ in every)
    kept: list[Entry] = []
    first: dict[str, Entry] = {}  # by digest
    stems: dict[str, dict[str, Entry]] = {role: {} for role in ROLES}
    for role, file in tqdm(every, desc=f"checking {folder.name}", unit="image", leave=False, disable=None):
        try:
            entry = describe_image(file, folder, role, decode(file).shape[1::-1])
        except CliplitError as error:
            path = file.relative_to(folder).as_posix()
            findings.append(Finding("unreadable", path, str(error).removeprefix(f"{file}: ")))
            continue
        if promised.get(entry.path, entry.sha256) != entry.sha256:
            findings.append(Finding("changed", entry.path, "differs from the file that dataset.json lists"))
        stem = original(file.stem) if known and known.numbered_copies else file.stem
        namesake = stems[role].get(stem)
        earlier = first.get(entry.sha256)
        if namesake and stem != file.stem:
            findings.append(Finding("duplicate", entry.path, f"a numbered copy of {namesake.path}"))
        elif earlier and earlier.role == role:
            findings.append(Finding("duplicate", entry.path, f"the same file as {earlier.path}"))
        else:
            if earlier:
                findings.append(Finding("shared", entry.path, f"the same file as {earlier.path}"))
            if namesake and role.startswith("test_") and paired:
                findings.append(Finding("stem", entry.path, f"the same stem as {namesake.path}; rename or remove one"))
            first[entry.sha256] = entry
            stems[role].setdefault(stem, entry)
            kept.append(entry)
    inputs, references = stems["test_backlit"], stems["test_reference"]
    unequal = []  # references
    for stem in (inputs | references) if references else ():
        if stem not in references:
            findings.append(Finding("partner", inputs[stem].path, f"no usable reference with the stem '{stem}'"))
        elif stem not in inputs:
            findings.append(Finding("partner", references[stem].path, f"no usable input with the stem '{stem}'"))
        elif references[stem].size != inputs[stem].size:
            sizes = " and ".join(f"{side[stem].size[0]}x{side[stem].size[1]}" for side in (inputs, references))
            findings.append(Finding("size", inputs[stem].path, f"unlike {references[stem].path}: {sizes}"))
            unequal.append(references[stem].path)
    for subset in known.subsets if known else ():
        there = sum(entry.role == subset.role for entry in kept)
        if there != subset.count:
            findings.append(Finding("count", subset.role, f"{there} usable images, {subset.count} expected"))
    bad = {*unequal, *(finding.path for finding in findings if finding.kind in ("partner", "stem", "size"))}
    return Report([entry for entry in kept if entry.path not in bad], findings)

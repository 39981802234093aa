"""Known data sets from the network, or from what was fetched by hand: unpacked, checked, and only then put in place. And what
is wrong with a data set: counts, unreadable files, duplicates, missing partners, sizes, changed files."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from cliplit.data.manifest import (
    CATALOG,
    FOLDERS,
    ROLES,
    DataSet,
    Entry,
    Manifest,
    Subset,
    describe_image,
    has_manifest,
    new_data_set,
    read_manifest,
    write_manifest,
)
from cliplit.errors import CliplitError, did_you_mean, shortened
from cliplit.files.atomic import sha256
from cliplit.files.folders import find_images, original
from cliplit.files.images import decode
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
            for location in data_set.sources[source]:
                say(f"{name}: downloading {location}")
                place = root / DOWNLOADS / (location.drive or location.url.rsplit("/", 1)[-1])
                places.append(place)
                if location.drive:
                    fetch_drive(location.drive, place)
                elif not place.is_file():
                    fetch(location.url, place, location.bytes, location.sha256)
                elif location.sha256 not in (None, sha256(place)):
                    wrong = f"SHA-256 is not {location.sha256[:12]}..., as published"
                    raise CliplitError(f"{place}: {wrong}; remove the file to download it again")
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


@dataclass(frozen=True)
class Finding:
    """One thing found: its kind, the file or role, and the details.

    Kinds: "unreadable"; "unread", an image of a kind that is not read; "missing" or "changed", by dataset.json; "count" of the images of a role; "duplicate", the same
    image again in this role, counted once and left out; "shared", the same file in another role too; of pairs "partner"
    (none), "stem" (not unique) and "size" (differs).
    """

    kind: str
    path: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind:10} {self.path}: {self.detail}"


@dataclass(frozen=True)
class Report:
    """What a look at every file of a data set found.

    `images`: the good ones, by role, without duplicates; `expected`: their numbers, if they are known.
    """

    name: str
    folder: str
    images: tuple[Entry, ...]
    expected: Mapping[str, int]
    findings: tuple[Finding, ...]

    @property
    def problems(self) -> list[Finding]:
        """The findings that make the data set unfit; images that are there twice alone do not."""
        return [finding for finding in self.findings if finding.kind not in ("duplicate", "shared", "unread")]

    def counts(self) -> dict[str, int]:
        """Good images by role."""
        found = Counter(image.role for image in self.images)
        return {role: found[role] for role in ROLES if role in found or role in self.expected}

    def sizes(self) -> dict[str, list[tuple[int, int]]]:
        """Narrowest and widest image (width, height) of every role, in pixels."""
        found = {role: sorted(image.size for image in self.images if image.role == role) for role in ROLES}
        return {role: sorted({sizes[0], sizes[-1]}) for role, sizes in found.items() if sizes}

    def lines(self) -> list[str]:
        """The report for readers."""
        shown = [f"{self.name} in {self.folder}"]
        for role, count in self.counts().items():
            number = f"{count} of {self.expected[role]}" if role in self.expected else count
            between = " ... ".join(f"{width} x {height}" for width, height in self.sizes().get(role, []))
            shown.append(f"  {role:15} {number} images{', ' if between else ''}{between}")
        shown += [f"  {finding}" for finding in self.findings]
        problems = len(self.problems)
        return [*shown, f"  {problems} problems, {len(self.findings) - problems} images there twice"]

    def to_json(self) -> dict[str, Any]:
        """The report for programs."""
        numbers = {"problems": len(self.problems), "counts": self.counts(), "sizes": self.sizes()}
        return {key: value for key, value in asdict(self).items() if key != "images"} | numbers


def verify_folder(folder: Path, name: str = "") -> Report:
    """Open every image of a data set: a known one in its publishers' layout or ours, one with a dataset.json, or the
    folders of one that is being made.

    Args:
        name: of a known data set, whose counts are expected; by default that in dataset.json.
    Raises:
        CliplitError: no such folder, neither layout nor dataset.json found, or a broken dataset.json.
    """
    if not folder.is_dir():
        known = name or folder.name
        hint = f"; `cliplit data get {known}` makes it" if known in CATALOG else ""
        raise CliplitError(f"{folder}: no such folder{hint}")
    manifest = read_manifest(folder) if has_manifest(folder) else None
    name = name or (manifest.name if manifest else folder.name)
    if data_set := CATALOG.get(name):
        images = find_images([folder], recursive=True).images.values()
        files = {subset.role: subset_images(subset, [folder], images) for subset in data_set.subsets}
    elif manifest:
        files = {role: [folder / image.path for image in manifest.of(role)] for role in ROLES}
    else:
        files = {role: sorted((folder / place).glob("*")) for role, place in FOLDERS.items()}
        if not any(files.values()):
            raise CliplitError(
                f"{folder}: neither a known data set ({', '.join(CATALOG)}) nor one with a dataset.json; "
                f"`cliplit data get` downloads known ones, `cliplit data prepare` makes one of folders"
            )
    findings: list[Finding] = []
    promised = {image.path: image.sha256 for image in manifest.images} if manifest else {}
    for path in promised:
        if not (folder / path).is_file():
            findings.append(Finding("missing", path, "listed in dataset.json, but not there"))
    numbered = data_set is not None and data_set.numbered_copies
    kept: list[Entry] = []
    first: dict[str, Entry] = {}  # by digest
    stems: dict[str, dict[str, Entry]] = {role: {} for role in ROLES}
    every = [(role, file) for role, paths in files.items() for file in paths if file.is_file()]
    every.sort(key=lambda item: (list(ROLES).index(item[0]), original(item[1].stem), len(item[1].stem)))
    for role, file in tqdm(every, desc=f"looking at {folder.name}", unit="image", leave=False):
        try:
            entry = describe_image(file, folder, role, decode(file).shape[1::-1])
        except CliplitError as error:
            findings.append(
                Finding("unreadable", file.relative_to(folder).as_posix(), str(error).removeprefix(f"{file}: "))
            )
            continue
        if promised.get(entry.path, entry.sha256) != entry.sha256:
            findings.append(Finding("changed", entry.path, "not the file that dataset.json lists"))
        stem = original(file.stem) if numbered else file.stem
        namesake = stems[role].get(stem)
        earlier = first.get(entry.sha256)
        if namesake and stem != file.stem:
            findings.append(Finding("duplicate", entry.path, f"a numbered copy of {namesake.path}"))
        elif earlier and earlier.role == role:
            findings.append(Finding("duplicate", entry.path, f"the same file as {earlier.path}"))
        else:
            if earlier:
                findings.append(Finding("shared", entry.path, f"the same file as {earlier.path}"))
            if namesake and role.startswith("test_") and files.get("test_reference"):
                findings.append(Finding("stem", entry.path, f"the same stem as {namesake.path}; rename or remove one"))
            first[entry.sha256] = entry
            stems[role].setdefault(stem, entry)
            kept.append(entry)
    inputs, references = stems["test_backlit"], stems["test_reference"]
    for stem in (inputs | references) if references else ():
        if stem not in references:
            findings.append(Finding("partner", inputs[stem].path, f"no good reference of the stem '{stem}'"))
        elif stem not in inputs:
            findings.append(Finding("partner", references[stem].path, f"no good input of the stem '{stem}'"))
        elif references[stem].size != inputs[stem].size:
            sizes = " and ".join(f"{side[stem].size[0]}x{side[stem].size[1]}" for side in (inputs, references))
            findings.append(Finding("size", inputs[stem].path, f"differs from {references[stem].path}: {sizes}"))
    expected = {subset.role: subset.count for subset in data_set.subsets} if data_set else {}
    for role, count in expected.items():
        there = sum(entry.role == role for entry in kept)
        if there != count:
            findings.append(Finding("count", role, f"{there} good images, {count} expected"))
    return Report(name, str(folder), tuple(kept), expected, tuple(findings))


def subset_images(subset: Subset, roots: list[Path], images: Iterable[Path]) -> list[Path]:
    """Those of the images below some folders that belong to a subset: the folder of the first published name that is there.

    Raises:
        CliplitError: two folders of that name, so that it is not clear which one is meant.
    """
    folders: dict[Path, list[Path]] = {}
    for path in images:
        folders.setdefault(path.parent, []).append(path)
    for name in (FOLDERS[subset.role], *subset.published):
        named = roots if name == "." else [path for path in folders if f"/{path.as_posix()}".endswith(f"/{name}")]
        places = sorted({*named} & folders.keys())
        if len(places) > 1:
            raise CliplitError(
                f"{subset.role}: several folders could be meant ({', '.join(map(str, places))}); "
                f"give one with `cliplit data prepare`"
            )
        if places:
            found = folders[places[0]]
            return found[: subset.count] if name == subset.first_of else found
    return []

"""What is wrong with a data set: counts, unreadable files, duplicates, missing partners, sizes, changed files."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cliplit.data.catalog import CATALOG, DataSet, Subset
from cliplit.data.manifest import FOLDERS, ROLES, Entry, describe_image, has_manifest, read_manifest
from cliplit.errors import CliplitError
from cliplit.files.folders import images_in
from cliplit.files.images import decode
from cliplit.files.pairs import original, pair_by_stem

FINDINGS = {
    "count": "images missing or too many",
    "unreadable": "cannot be read as an image",
    "partner": "an input without reference, or a reference without input",
    "stem": "another image of this role has the same stem, so that pairs are not clear",
    "size": "an input and its reference differ in size",
    "missing": "listed in dataset.json, but not there",
    "changed": "not the file that dataset.json lists",
    "duplicate": "the same image again in this role; counted once and left out",
    "shared": "the same file serves in another role too",
}
HARMLESS = ("duplicate", "shared")


@dataclass(frozen=True)
class Finding:
    """One thing found: its kind (see FINDINGS), the file or role, and the details."""

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
    expected: Mapping[str, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def problems(self) -> list[Finding]:
        """The findings that make the data set unfit; images that are there twice alone do not."""
        return [finding for finding in self.findings if finding.kind not in HARMLESS]

    def counts(self) -> dict[str, int]:
        """Good images by role."""
        found = {role: sum(image.role == role for image in self.images) for role in ROLES}
        return {role: count for role, count in found.items() if count or role in self.expected}

    def sizes(self) -> dict[str, list[tuple[int, int]]]:
        """Narrowest and widest image (width, height) of every role, in pixels."""
        found = {role: sorted(image.size for image in self.images if image.role == role) for role in ROLES}
        return {role: sorted({sizes[0], sizes[-1]}) for role, sizes in found.items() if sizes}

    def lines(self) -> list[str]:
        """The report for readers."""
        shown = [f"{self.name} in {self.folder}"]
        sizes = self.sizes()
        for role, count in self.counts().items():
            expected = f" of {self.expected[role]}" if role in self.expected else ""
            between = " ... ".join(f"{width} x {height}" for width, height in sizes.get(role, []))
            separator = ", " if between else ""
            shown.append(f"  {role:15} {count}{expected} images{separator}{between}")
        harmless = len(self.findings) - len(self.problems)
        shown += [f"  {finding}" for finding in self.findings]
        return [*shown, f"  {len(self.problems)} problems, {harmless} images there twice"]

    def to_json(self) -> dict[str, Any]:
        """The report for programs."""
        numbers = {"counts": self.counts(), "expected": dict(self.expected), "sizes": self.sizes()}
        findings = [asdict(finding) for finding in self.findings]
        about = {"name": self.name, "folder": self.folder, "problems": len(self.problems)}
        return about | numbers | {"findings": findings}


def verify_folder(folder: Path, name: str = "") -> Report:
    """Look at every file of a data set: a known one in its publishers' layout or ours, or one with a dataset.json.

    Args:
        name: of a known data set, whose counts are expected; by default that in dataset.json.
    Raises:
        CliplitError: no such folder, neither layout nor dataset.json found, or a broken dataset.json.
    """
    if not folder.is_dir():
        known = name or folder.name
        hint = f"; `cliplit data get {known}` makes it" if known in CATALOG else ""
        raise CliplitError(f"{folder}: no such folder{hint}")
    listed = list(read_manifest(folder).images) if has_manifest(folder) else []
    name = name or (read_manifest(folder).name if listed else folder.name)
    if name in CATALOG:
        data_set = CATALOG[name]
        files = {subset.role: subset_images(subset, [folder]) for subset in data_set.subsets}
        return inspect_images(name, folder, files, data_set, listed)
    if not has_manifest(folder):
        raise CliplitError(
            f"{folder}: neither a known data set ({', '.join(CATALOG)}) nor one with a dataset.json; "
            f"`cliplit data get` downloads known ones, `cliplit data prepare` makes one of folders"
        )
    files = {role: [folder / image.path for image in listed if image.role == role] for role in ROLES}
    return inspect_images(name, folder, {role: paths for role, paths in files.items() if paths}, None, listed)


def subset_images(subset: Subset, roots: Iterable[Path]) -> list[Path]:
    """Images of a subset in folders as published or as here: of the first published name that is there.

    Raises:
        CliplitError: two folders of that name, so that it is not clear which one is meant.
    """
    folders = sorted({folder for root in roots for folder in (root, *root.rglob("*")) if folder.is_dir()})
    top = {*roots}
    for name in (FOLDERS[subset.role], *subset.published):
        wanted = tuple(name.split("/")) if name != "." else ()
        places = [folder for folder in folders if (folder.parts[-len(wanted) :] == wanted if wanted else folder in top)]
        filled = {folder: images for folder in places if (images := images_in(folder))}
        if len(filled) > 1:
            raise CliplitError(
                f"{subset.role}: several folders could be meant ({', '.join(map(str, filled))}); "
                f"give one with `cliplit data prepare`"
            )
        for images in filled.values():
            return images[: subset.count] if name == subset.first_of else images
    return []


def inspect_images(
    name: str,
    folder: Path,
    files: Mapping[str, list[Path]],
    data_set: DataSet | None = None,
    listed: Iterable[Entry] = (),
) -> Report:
    """Open every image of every role and compare it with what is known of it.

    Args:
        name: of the data set, for the report.
        folder: the data set's, which all files lie below.
        files: images by role.
        data_set: a known one, whose counts are expected and whose numbered copies are told apart.
        listed: what a dataset.json promises.
    """
    findings: list[Finding] = []

    def note(kind: str, place: Path | str, detail: str = "") -> None:
        shown = place.relative_to(folder).as_posix() if isinstance(place, Path) else place
        findings.append(Finding(kind, shown, detail or FINDINGS[kind]))

    promised = {folder / image.path: image.sha256 for image in listed}
    for path in promised:
        if not path.is_file():
            note("missing", path)
    read: dict[Path, Entry] = {}
    every = [(role, path) for role, paths in files.items() for path in paths if path.is_file()]
    for role, path in tqdm(every, desc=f"looking at {folder.name}", unit="image", leave=False):
        try:
            read[path] = describe_image(path, folder, role, decode(path).shape[1::-1])
        except CliplitError as error:
            note("unreadable", path, str(error).removeprefix(f"{path}: "))
    for path, entry in read.items():
        if promised.get(path, entry.sha256) != entry.sha256:
            note("changed", path)
    numbered = data_set is not None and data_set.numbered_copies
    copies = _numbered_copies(files) if numbered else {}
    kept: dict[Path, Entry] = {}
    first: dict[str, Path] = {}
    for path, entry in read.items():
        earlier = first.get(entry.sha256)
        if copies.get(path) in read:
            note("duplicate", path, f"a numbered copy of {read[copies[path]].path}")
        elif earlier is not None and read[earlier].role == entry.role:
            note("duplicate", path, f"the same file as {read[earlier].path}")
        else:
            if earlier is not None:
                note("shared", path, f"the same file as {read[earlier].path}")
            first[entry.sha256] = path
            kept[path] = entry
    if any(entry.role == "test_reference" for entry in kept.values()):
        _check_pairs(kept, {path: original(path.stem) if numbered else path.stem for path in kept}, note)
    expected = {subset.role: subset.count for subset in data_set.subsets} if data_set else {}
    for role, count in expected.items():
        there = sum(entry.role == role for entry in kept.values())
        if there != count:
            note("count", role, f"{there} good images, {count} expected")
    return Report(name, str(folder), tuple(kept.values()), expected, tuple(findings))


def _numbered_copies(files: Mapping[str, list[Path]]) -> dict[Path, Path]:
    """What a file like "0152(2)" is a copy of: "0152", or if that is not there the first copy, which stands for it."""
    copies: dict[Path, Path] = {}
    for paths in files.values():
        first = {path.stem: path for path in paths}
        for path in sorted(paths, key=lambda path: (len(path.stem), path.stem)):
            if original(path.stem) != path.stem and (stem := first.setdefault(original(path.stem), path)) != path:
                copies[path] = stem
    return copies


def _check_pairs(entries: Mapping[Path, Entry], stems: Mapping[Path, str], note: Callable[..., None]) -> None:
    sides: dict[str, dict[str, Path]] = {"test_backlit": {}, "test_reference": {}}
    for path, entry in entries.items():
        if entry.role in sides and (other := sides[entry.role].setdefault(stems[path], path)) != path:
            note("stem", path, f"the same stem as {entries[other].path}; rename or remove one")
    pairs, inputs, references = pair_by_stem(sides["test_backlit"], sides["test_reference"])
    for path in inputs:
        note("partner", path, f"no good reference of the stem '{stems[path]}'")
    for path in references:
        note("partner", path, f"no good input of the stem '{stems[path]}'")
    for path, reference in pairs:
        if entries[path].size != entries[reference].size:
            sizes = " and ".join("x".join(map(str, entries[file].size)) for file in (path, reference))
            note("size", path, f"differs from {entries[reference].path}: {sizes}")

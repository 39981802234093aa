"""What is wrong with a data set: counts, unreadable files, duplicates, missing partners, sizes, changed files."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cliplit.data.catalog import CATALOG, DataSet, Part
from cliplit.data.manifest import ROLES, Entry, describe_image, has_manifest, read_manifest
from cliplit.errors import CliplitError
from cliplit.files.images import EXTENSIONS, decode, original

KINDS = {
    "count": "images missing or too many",
    "unreadable": "cannot be read as an image",
    "partner": "an input without reference, or a reference without input",
    "size": "an input and its reference differ in size",
    "missing": "listed in dataset.json, but not there",
    "changed": "not the file that dataset.json lists",
    "duplicate": "the same image again in this role; counted once and left out",
    "shared": "the same file serves in another role too",
}
HARMLESS = ("duplicate", "shared")


@dataclass(frozen=True)
class Finding:
    """One thing found: its kind (see KINDS), the file or role, and the details."""

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
        shown, sizes = [f"{self.name} in {self.folder}"], self.sizes()
        for role, count in self.counts().items():
            expected = f" of {self.expected[role]}" if role in self.expected else ""
            between = " ... ".join(f"{width} x {height}" for width, height in sizes.get(role, []))
            shown.append(f"  {role:15} {count}{expected} images{', ' if between else ''}{between}")
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
        files = {part.role: part_images(part, [folder]) for part in data_set.parts}
        return inspect_images(name, folder, files, data_set, listed)
    if not has_manifest(folder):
        raise CliplitError(
            f"{folder}: neither a known data set ({', '.join(CATALOG)}) nor one with a dataset.json; "
            f"`cliplit data prepare` makes one of folders"
        )
    files = {role: [folder / image.path for image in listed if image.role == role] for role in ROLES}
    return inspect_images(name, folder, {role: paths for role, paths in files.items() if paths}, None, listed)


def part_images(part: Part, roots: Iterable[Path]) -> list[Path]:
    """Images of a part in folders as published or as here: of the first published name that is there.

    Raises:
        CliplitError: two folders of that name, so that it is not clear which one is meant.
    """
    folders = sorted({folder for root in roots for folder in (root, *root.rglob("*")) if folder.is_dir()})
    top = {*roots}
    for name in (part.folder, *part.published):
        wanted = tuple(name.split("/")) if name != "." else ()
        places = [folder for folder in folders if (folder.parts[-len(wanted) :] == wanted if wanted else folder in top)]
        filled = {
            folder: images
            for folder in places
            if (images := sorted(p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS and p.is_file()))
        }
        if len(filled) > 1:
            raise CliplitError(
                f"{part.role}: several folders could be meant ({', '.join(map(str, filled))}); "
                f"give one with `cliplit data prepare`"
            )
        for images in filled.values():
            return images[: part.count] if name == part.first_of else images
    return []


def inspect_images(
    name: str,
    folder: Path,
    files: Mapping[str, list[Path]],
    data_set: DataSet | None = None,
    listed: Iterable[Entry] = (),
) -> Report:
    """Open every image of every role and compare it with what is known of it."""
    findings: list[Finding] = []

    def found(kind: str, path: Path | str, detail: str = "") -> None:
        shown = path.relative_to(folder).as_posix() if isinstance(path, Path) else path
        findings.append(Finding(kind, shown, detail or KINDS[kind]))

    promised = {image.path: image for image in listed}
    for image in promised.values():
        if not (folder / image.path).is_file():
            found("missing", image.path)
    entries = _read(files, folder, found)
    for path, entry in entries.items():
        if entry.path in promised and promised[entry.path].sha256 != entry.sha256:
            found("changed", path)
    copies = _numbered_copies(files) if data_set and data_set.numbered_copies else {}
    entries = _without_duplicates(entries, copies, found)
    stems = {path: copies.get(path, (path.stem, None))[0] for path in entries}
    _check_pairs(entries, stems, found)
    expected = {part.role: part.count for part in data_set.parts} if data_set else {}
    for role, count in expected.items():
        there = sum(entry.role == role for entry in entries.values())
        if there != count:
            found("count", role, f"{there} good images, {count} expected")
    return Report(name, str(folder), tuple(entries.values()), expected, tuple(findings))


def _read(files: Mapping[str, list[Path]], folder: Path, found) -> dict[Path, Entry]:
    entries = {}
    every = [(role, path) for role, paths in files.items() for path in paths if path.is_file()]
    for role, path in tqdm(every, desc=f"looking at {folder.name}", unit="image", leave=False):
        try:
            entries[path] = describe_image(path, folder, role, decode(path).shape[1::-1])
        except CliplitError as error:
            found("unreadable", path, str(error).removeprefix(f"{path}: "))
    return entries


def _numbered_copies(files: Mapping[str, list[Path]]) -> dict[Path, tuple[str, Path | None]]:
    """For "0152(2)": the stem it belongs to, and the file it is a copy of, unless it is the first of its stem."""
    copies = {}
    for paths in files.values():
        first = {path.stem: path for path in paths}
        for path in sorted(paths, key=lambda path: (len(path.stem), path.stem)):
            if (stem := original(path.stem)) != path.stem:
                copies[path] = (stem, first.get(stem))
                first.setdefault(stem, path)
    return copies


def _without_duplicates(entries: dict[Path, Entry], copies, found) -> dict[Path, Entry]:
    """The images without those that their role has already; an image of another role is only named."""
    kept: dict[Path, Entry] = {}
    first: dict[str, Path] = {}
    for path, entry in entries.items():
        original, earlier = copies.get(path, ("", None))[1], first.get(entry.sha256)
        if original in entries:
            found("duplicate", path, f"a numbered copy of {entries[original].path}")
            continue
        if earlier is not None:
            same_role = entries[earlier].role == entry.role
            found("duplicate" if same_role else "shared", path, f"the same file as {entries[earlier].path}")
            if same_role:
                continue
        first[entry.sha256] = path
        kept[path] = entry
    return kept


def _check_pairs(entries: dict[Path, Entry], stems: Mapping[Path, str], found) -> None:
    sides: dict[str, dict[str, Path]] = defaultdict(dict)
    for path, entry in entries.items():
        sides[entry.role][stems[path]] = path
    if "test_reference" not in sides:
        return
    pairs, *lonely = pair_by_stem(sides["test_backlit"], sides["test_reference"])
    for paths, other in zip(lonely, ("reference", "input")):
        for path in paths:
            found("partner", path, f"no good {other} of the stem '{stems[path]}'")
    for path, reference in pairs:
        if entries[path].size != entries[reference].size:
            sizes = " and ".join("x".join(map(str, entries[file].size)) for file in (path, reference))
            found("size", path, f"differs from {entries[reference].path}: {sizes}")


def pair_by_stem(
    inputs: Mapping[str, Path], references: Mapping[str, Path]
) -> tuple[list[tuple[Path, Path]], list[Path], list[Path]]:
    """Pairs of the same stem, then the inputs and the references without partner."""
    pairs = [(path, references[stem]) for stem, path in inputs.items() if stem in references]
    alone = [path for stem, path in inputs.items() if stem not in references]
    return pairs, alone, [path for stem, path in references.items() if stem not in inputs]

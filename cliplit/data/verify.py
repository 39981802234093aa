"""What is wrong with a data set: counts, unreadable files, duplicates, missing partners, sizes, changed files."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cliplit.data.manifest import CATALOG, FOLDERS, ROLES, Entry, Subset, describe_image, has_manifest, read_manifest
from cliplit.errors import CliplitError
from cliplit.files.folders import find_images, original
from cliplit.files.images import decode

HARMLESS = ("duplicate", "shared")  # findings


@dataclass(frozen=True)
class Finding:
    """One thing found: its kind, the file or role, and the details.

    Kinds: "unreadable"; "missing" or "changed", by dataset.json; "count" of the images of a role; "duplicate", the same
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
        return [finding for finding in self.findings if finding.kind not in HARMLESS]

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

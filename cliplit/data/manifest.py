"""The roles of images, the known data sets, dataset.json, and the images that settings choose for each role.

The known data sets (catalog.json) are those of the paper and its successors. In a plain folder, all images have one role.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cliplit.errors import CliplitError, shortened
from cliplit.files.atomic import sha256, write_json
from cliplit.files.folders import find_images
from cliplit.files.web import is_inside
from cliplit.settings import Data

FILE = "dataset.json"
FORMAT = 1
ROLES = {
    "train_backlit": "backlit training images",
    "train_well_lit": "well-lit training images of other scenes",
    "test_backlit": "backlit test images",
    "test_reference": "well-lit references for the test images",
}
FOLDERS = {role: role.replace("_", "/", 1) for role in ROLES}  # where the images of a role lie in a data set
OPTIONS = {role: "--" + role.removeprefix("train_").replace("_", "-") for role in ROLES}


@dataclass(frozen=True)
class Location:
    """A file on the web, or a shared folder of Google Drive by its id; with size in bytes and SHA-256 if published."""

    url: str = ""
    drive: str = ""
    bytes: int | None = None
    sha256: str | None = None

    def __str__(self) -> str:
        return self.url or f"https://drive.google.com/drive/folders/{self.drive}"


@dataclass(frozen=True)
class Subset:
    """The images of one role: their number, and the names that publishers give to their folder.

    A published name is the end of a path; the first name that exists is used. `first_of` is the published name of a
    larger set; the first `count` images of it, by name, are used.
    """

    role: str
    count: int
    published: Sequence[str]
    first_of: str = ""


@dataclass(frozen=True)
class DataSet:
    """A known data set.

    `sources`: names and locations; the first source is the default. `numbered_copies`: "0152(2)" is a copy of "0152".
    """

    name: str
    title: str
    sources: Mapping[str, tuple[Location, ...]]
    subsets: tuple[Subset, ...]
    licence: str
    numbered_copies: bool = False


CATALOG: dict[str, DataSet] = {}
for _name, _known in json.loads(Path(__file__).with_name("catalog.json").read_text(encoding="utf-8"))["sets"].items():
    _sources = {source: tuple(Location(**place) for place in places) for source, places in _known["sources"].items()}
    _subsets = tuple(Subset(**subset) for subset in _known["subsets"])
    CATALOG[_name] = DataSet(_name, **_known | {"sources": _sources, "subsets": _subsets})


@dataclass(frozen=True)
class Entry:
    """An image: path below the data set's folder, role, SHA-256, bytes, (width, height) in pixels.

    If the image was made here, `made` holds the source file and the parameters.
    """

    path: str
    role: str
    sha256: str
    bytes: int
    size: tuple[int, int]
    made: dict[str, Any] | None = None


@dataclass(frozen=True)
class Manifest:
    """A data set: its name, source, licence, images, and problems with them."""

    name: str
    source: str
    licence: str
    images: tuple[Entry, ...]
    made: dict[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def of(self, role: str) -> list[Entry]:
        """The images of a role, in the order of their paths."""
        return [image for image in self.images if image.role == role]


def has_manifest(folder: str | Path) -> bool:
    """Whether a folder is a data set, which means that it contains a dataset.json."""
    return (Path(folder) / FILE).is_file()


def read_manifest(folder: str | Path) -> Manifest:
    """The dataset.json of a folder.

    Raises CliplitError if it is missing or broken, has an unknown format or role, or a path that leads out of the folder.
    """
    path = Path(folder) / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        images = tuple(Entry(**image | {"size": tuple(image["size"])}) for image in content.pop("images"))
        if len({image.path for image in images}) < len(images):
            raise ValueError("an image is listed twice")
        for image in images:
            if image.role not in ROLES:
                raise ValueError(f"unknown role '{image.role}'; valid: {', '.join(ROLES)}")
            if not is_inside(image.path):
                raise ValueError(f"'{image.path}' leads out of the folder")
        texts = [content[key] for key in ("name", "source", "licence")]
        if not all(isinstance(value, str) for value in (*texts, *content["problems"])):
            raise ValueError("its name, source, licence or problems are not texts")
        return Manifest(**content | {"images": images, "problems": tuple(content["problems"])})
    except FileNotFoundError:
        raise CliplitError(
            f"{folder}: not a data set (no {FILE}); use `cliplit data get` for known ones, `cliplit data prepare` for folders"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CliplitError(f"{path}: not a valid {FILE} ({reason}); make the data set again") from None


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write dataset.json, with the images ordered by role and path, and remove all files that it does not list."""
    order = list(ROLES)
    images = sorted(manifest.images, key=lambda image: (order.index(image.role), image.path))
    listed = {folder / image.path for image in images}
    for path in [path for path in folder.rglob("*") if path.is_file() and path not in listed]:
        path.unlink()
    entries = [{key: value for key, value in asdict(image).items() if value is not None} for image in images]
    write_json({"format": FORMAT} | asdict(manifest) | {"images": entries}, folder / FILE)


@contextmanager
def new_data_set(target: Path, force: bool) -> Iterator[Path]:
    """A temporary folder to make a data set in. At the end it becomes the target; if anything fails, it is removed.

    Raises CliplitError if the target exists, unless it is a data set that may be replaced (`force`).
    """
    if target.exists() and not (force and has_manifest(target)) and any(target.iterdir()):
        hint = "--force replaces it" if has_manifest(target) else "move it, or choose another name or --root"
        raise CliplitError(f"{target}: already exists; {hint}")
    folder, old = (target.with_name(f".{target.name}.{state}") for state in ("partial", "old"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(target, old)
        os.replace(folder, target)
    finally:
        for left in (folder, old):
            shutil.rmtree(left, ignore_errors=True)


def describe_image(
    path: Path, folder: Path, role: str, size: tuple[int, int], made: dict[str, Any] | None = None
) -> Entry:
    """The entry of an image in a data set's folder; `size` is (width, height) in pixels."""
    return Entry(path.relative_to(folder).as_posix(), role, sha256(path), path.stat().st_size, size, made)


@dataclass(frozen=True)
class Images:
    """The images of one role: their folder, files in the order of their names, and their source.

    `hashes` holds the SHA-256 of each file from dataset.json; for a plain folder it is empty. For a plain folder, `unread`
    has a line for every image that is not read and every subfolder, and `others` counts other files.
    """

    folder: str
    files: tuple[Path, ...]
    hashes: Mapping[Path, str]
    name: str = ""
    source: str = ""
    licence: str = ""
    unread: tuple[str, ...] = ()
    others: int = 0


def images_by_role(data: Data, for_run: bool = True) -> dict[str, Images]:
    """The images that settings give for every role. A folder that is given directly overrides the data sets.

    Test images that are given directly use only the references given with them, or have none.

    Args:
        for_run: backlit and well-lit training images are required together.
    Raises:
        CliplitError: a role that two data sets have, a missing file, a folder without images, or only one role of a pair.
    """
    given: dict[str, Images] = {}
    for role in ROLES:
        if folder := getattr(data, role.removeprefix("train_")):
            there = _from_set(folder) if has_manifest(folder) else {role: _from_folder(folder)}
            if role not in there:
                raise CliplitError(f"{folder}: no {ROLES[role]} here (role {role}); choose another {OPTIONS[role]}")
            wanted = (role, "test_reference") if role == "test_backlit" else (role,)
            given |= {each: there[each] for each in wanted if each in there}
    chosen: dict[str, Images] = {}
    for folder in data.sets:
        for role, images in _from_set(folder).items():
            if role in chosen:
                both = f"{chosen[role].folder} and {folder} both have {ROLES[role]} (role {role})"
                raise CliplitError(f"{both}; leave one out, or give their folder with {OPTIONS[role]}")
            if role not in given and not (role == "test_reference" and "test_backlit" in given):
                chosen[role] = images
    chosen |= given
    if "test_reference" in chosen and "test_backlit" not in chosen:
        raise CliplitError("--test-reference needs --test-backlit, the folder of its test images")
    sides = [chosen[role] for role in ("train_backlit", "train_well_lit") if role in chosen]
    if for_run and len(sides) == 1:
        raise CliplitError(
            f"--backlit and --well-lit go together, but there is only {sides[0].folder}; "
            f"give both, or none for the embedded images"
        )
    return chosen


def _from_folder(folder: str) -> Images:
    if not Path(folder).is_dir():
        raise CliplitError(f"{folder}: no such folder")
    found = find_images([folder])
    unread = [f"{path}: {reason}" for path, reason in found.unread.items()]
    unread += [f"{path}: subfolder skipped" for path in found.passed]
    return Images(folder, tuple(found.images.values()), {}, unread=tuple(unread), others=found.others)


def _from_set(folder: str) -> dict[str, Images]:
    manifest = read_manifest(folder)
    if missing := [image.path for image in manifest.images if not Path(folder, image.path).is_file()]:
        listed = f"{len(missing)} of its files are missing ({shortened(missing)})"
        raise CliplitError(f"{folder}: {listed}; make the data set again")
    chosen: dict[str, Images] = {}
    for role in dict.fromkeys(image.role for image in manifest.images):
        hashes = {Path(folder, image.path): image.sha256 for image in manifest.of(role)}
        chosen[role] = Images(folder, tuple(hashes), hashes, manifest.name, manifest.source, manifest.licence)
    return chosen


def by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """Images by stem, by which they are paired and split. Raises CliplitError if two have the same stem, and names both."""
    files: dict[str, Path] = {}
    for path in paths:
        if (first := files.setdefault(path.stem, path)) != path:
            raise CliplitError(f"{first} and {path} have the same stem; rename or remove one")
    return files

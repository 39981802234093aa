"""dataset.json: which images a data set has, what each is for, and their hashes; paths relative to it."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cliplit.errors import CliplitError
from cliplit.files.archives import is_inside
from cliplit.files.atomic import sha256, write_json

FILE, FORMAT = "dataset.json", 1
ROLES = {
    "train_backlit": "backlit training images",
    "train_well_lit": "well-lit training images, of other scenes",
    "test_backlit": "backlit test images",
    "test_reference": "their well-lit references, paired by file stem",
}


@dataclass(frozen=True)
class Entry:
    """An image: path from the data set's folder, role, SHA-256, bytes, (width, height) in pixels.

    `made` says how, if it was made here: the source file and the parameters.
    """

    path: str
    role: str
    sha256: str
    bytes: int
    size: tuple[int, int]
    made: dict[str, Any] | None = None


@dataclass(frozen=True)
class Manifest:
    """A data set: its name, where it comes from, under which licence, its images, and what is wrong with them."""

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
    """Whether a folder is a data set, that is holds a dataset.json."""
    return (Path(folder) / FILE).is_file()


def read_manifest(folder: str | Path) -> Manifest:
    """The dataset.json of a folder.

    Raises:
        CliplitError: none there, broken, of an unknown format or role, or with a path that leads out of the folder.
    """
    path = Path(folder) / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        images = tuple(_entry(image) for image in content.pop("images"))
        return Manifest(**content | {"images": images, "problems": tuple(content["problems"])})
    except FileNotFoundError:
        raise CliplitError(
            f"{folder}: no data set here (no {FILE}); `cliplit data prepare` makes one of folders"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CliplitError(f"{path}: not a data set's description ({reason}); make the data set again") from None


def write_manifest(manifest: Manifest, folder: str | Path) -> Path:
    """Write dataset.json, atomically, with the images in the order of roles and paths."""
    order = list(ROLES)
    images = sorted(manifest.images, key=lambda image: (order.index(image.role), image.path))
    path = Path(folder) / FILE
    write_json({"format": FORMAT} | asdict(manifest) | {"images": [_plain(image) for image in images]}, path)
    return path


def describe_image(
    path: Path, folder: Path, role: str, size: tuple[int, int], made: dict[str, Any] | None = None
) -> Entry:
    """The entry of an image in a data set's folder; `size` is (width, height) in pixels."""
    return Entry(path.relative_to(folder).as_posix(), role, sha256(path), path.stat().st_size, size, made)


def listed_files(folder: str | Path) -> list[Path]:
    """The files that the dataset.json of a folder lists, itself included."""
    return [Path(folder) / FILE, *(Path(folder) / image.path for image in read_manifest(folder).images)]


def shortened(items: Iterable[str], most: int = 3) -> str:
    """A few items and, where there are more, an ellipsis."""
    items = list(items)
    return ", ".join(items[:most]) + (" ..." if len(items) > most else "")


def _entry(image: dict[str, Any]) -> Entry:
    entry = Entry(**image | {"size": tuple(image["size"])})
    if entry.role not in ROLES:
        raise ValueError(f"unknown role '{entry.role}'; valid: {', '.join(ROLES)}")
    if not is_inside(entry.path):
        raise ValueError(f"'{entry.path}' leads out of the folder")
    return entry


def _plain(image: Entry) -> dict[str, Any]:
    return {key: value for key, value in asdict(image).items() if value is not None}

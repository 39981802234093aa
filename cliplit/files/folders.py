"""Image files found in folders. Importing it does not import torch."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from cliplit.errors import CliplitError
from cliplit.files.formats import READ

EXTENSIONS = READ


@dataclass(frozen=True)
class Found:
    """Image files that were asked for.

    Attributes:
        images: the name that tables give an image -> its file.
        others: number of other files that lay beside them.
        folders: whether a folder was among what was given.
    """

    images: dict[str, Path]
    others: int
    folders: bool


def list_images(folder: str | Path) -> list[Path]:
    """Image files of a folder by extension, sorted by name.

    Raises:
        CliplitError: no such folder, or no images in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CliplitError(f"{folder}: no such folder")
    found = images_in(folder)
    if not found:
        raise CliplitError(f"{folder}: no images in this folder (looked for {', '.join(sorted(EXTENSIONS))})")
    return found


def images_in(folder: Path) -> list[Path]:
    """Image files of a folder by extension, sorted by name; there may be none."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS and path.is_file())


def find_images(
    paths: Iterable[str | Path], recursive: bool = False, extensions: Collection[str] = EXTENSIONS
) -> Found:
    """Image files among files and folders, by extension and sorted within a folder; files that are named need no extension.

    An image's name is its path below the folder that was given; if several paths were given, with that path before it.

    Raises:
        CliplitError: a path that does not exist, or no images at all.
    """
    places = [Path(path) for path in paths]
    images: dict[str, Path] = {}
    others = 0
    for given in places:
        if not given.exists():
            raise CliplitError(f"{given}: no such file or folder")
        files = [given] if given.is_file() else sorted(given.rglob("*") if recursive else given.iterdir())
        for file in (file for file in files if file.is_file()):
            if file.suffix.lower() in extensions or file == given:
                images[_name(file, given, several=len(places) > 1)] = file
            else:
                others += 1
    if not images:
        raise CliplitError(
            f"{', '.join(map(str, places))}: no images here (looked for {', '.join(sorted(extensions))})"
        )
    return Found(images, others, any(place.is_dir() for place in places))


def _name(file: Path, given: Path, several: bool) -> str:
    if several:
        return file.as_posix()
    return file.name if file == given else file.relative_to(given).as_posix()

"""Image files found in folders. Importing it does not import torch."""

import os
import stat
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cliplit.errors import CliplitError, printable
from cliplit.files.images import EXTENSIONS, UNREAD

# What cameras, desktops and network storage leave beside photos, in lower case; names with a dot in front come on top.
CLUTTER = frozenset(
    {
        "@eadir",  # Synology: thumbnails
        "@tmp",
        "@sharebin",
        "#recycle",
        "#snapshot",
        "@recycle",  # QNAP
        "@recently-snapshot",
        "@__thumb",
        "~snapshot",  # NetApp
        "__macosx",  # archives made by macOS
        "network trash folder",
        "temporary items",
        "thevolumesettingsfolder",
        "$recycle.bin",  # Windows
        "recycler",
        "system volume information",
        "thumbs.db",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "lost+found",  # Linux
        "lost.dir",  # Android
    }
)
CLUTTER_ENDING = ".lrdata"  # Lightroom: folders of previews
SIDE_FILES = (".compare.jpg", ".illumination.png")  # of `enhance`, after the name of a result


@dataclass(frozen=True)
class Found:
    """Image files that were asked for.

    Attributes:
        images: the name that tables give an image -> its file.
        others: number of other files that lay beside them; a hidden folder counts as one.
        folders: whether a folder was among what was given.
        groups: every path that was given -> the names of its images; an image may be in several.
        unread: what may be an image, or hold some, and was not taken -> the reason.
        passed: folders below that were not looked into, for want of `recursive`.
    """

    images: dict[str, Path]
    others: int
    folders: bool
    groups: dict[str, list[str]] = field(default_factory=dict)
    unread: dict[Path, str] = field(default_factory=dict)
    passed: list[Path] = field(default_factory=list)


def list_images(folder: str | Path) -> list[Path]:
    """Image files of a folder by extension, sorted by name.

    Raises:
        CliplitError: no such folder, one that cannot be opened, or no images in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CliplitError(f"{folder}: no such folder")
    contents = _look_into(folder, False, EXTENSIONS)
    if not contents.images:
        raise CliplitError(f"{folder}: no images in this folder ({_what_else(contents.unread, EXTENSIONS)})")
    return contents.images


def images_in(folder: Path) -> list[Path]:
    """Image files of a folder by extension, sorted by name; there may be none.

    Raises:
        CliplitError: the folder cannot be opened.
    """
    return _look_into(folder, False, EXTENSIONS).images


def find_images(
    paths: Iterable[str | Path], recursive: bool = False, extensions: Collection[str] = EXTENSIONS
) -> Found:
    """Image files among files and folders, by extension and sorted within a folder; files that are named need no extension.

    Below a folder, what is hidden, clutter of systems (`is_clutter`) and files that `enhance` writes beside its results
    (`is_side_file`) are other files. Links to files are followed, links to folders are not.

    An image's name is its path below the folder that was given; if several paths were given, with that path before it;
    control characters and what is no Unicode are escaped. A file that is found twice is one image.

    Raises:
        CliplitError: a path that does not exist or cannot be opened, or no images at all.
    """
    places = list(dict.fromkeys(Path(path) for path in paths))
    images: dict[str, Path] = {}
    groups: dict[str, list[str]] = {}
    unread: dict[Path, str] = {}
    passed: list[Path] = []
    others = 0
    names: dict[str, str] = {}  # by absolute path
    for given in places:
        contents = _contents(given, recursive, extensions)
        others += contents.others
        unread |= contents.unread
        passed += contents.passed
        groups[str(given)] = []
        for file in contents.images:
            name = names.setdefault(os.path.abspath(file), _name(file, given, several=len(places) > 1))
            images.setdefault(name, file)
            groups[str(given)].append(name)
    if not images:
        raise CliplitError(f"{', '.join(map(str, places))}: no images here ({_what_else(unread, extensions, passed)})")
    unread |= {Path(given): "no images here" for given, names_there in groups.items() if not names_there}
    return Found(images, others, any(place.is_dir() for place in places), groups, unread, passed)


def is_clutter(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or known to be left behind by a camera, system or server."""
    return name.startswith(".") or name.lower() in CLUTTER or name.lower().endswith(CLUTTER_ENDING)


def is_side_file(name: str) -> bool:
    """Whether a file is called as those that `enhance` writes beside a result, such as `a.jpg.compare.jpg`."""
    return any(
        name.lower().endswith(ending) and Path(name[: -len(ending)]).suffix.lower() in EXTENSIONS
        for ending in SIDE_FILES
    )


@dataclass
class _Contents:
    images: list[Path] = field(default_factory=list)
    unread: dict[Path, str] = field(default_factory=dict)
    passed: list[Path] = field(default_factory=list)
    others: int = 0


def _contents(given: Path, recursive: bool, extensions: Collection[str]) -> _Contents:
    if given.is_dir():
        return _look_into(given, recursive, extensions)
    if given.is_file():
        return _Contents([given])
    wrong = "neither a file nor a folder" if given.exists() else "no such file or folder"
    raise CliplitError(f"{given}: {wrong}")


def _look_into(folder: Path, recursive: bool, extensions: Collection[str]) -> _Contents:
    """What a folder has, images sorted; that a folder below cannot be opened is noted."""
    found = _Contents()
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            entries = sorted(place.iterdir())
        except OSError as error:
            found.unread[place] = f"cannot be opened ({error.strerror})"
            continue
        for path in entries:
            if not os.path.isdir(path):
                _add(path, found, extensions)
            elif not recursive and not is_clutter(path.name):
                found.passed.append(path)
            elif recursive and is_clutter(path.name):
                found.others += 1
            elif recursive and not path.is_symlink():
                waiting.append(path)
            elif recursive and _leads_away(path, folder):
                found.unread[path] = "a link to another folder is not followed; give that folder by its name"
    if folder in found.unread:
        raise CliplitError(f"{folder}: {found.unread[folder]}")
    found.images.sort()
    return found


def _add(path: Path, found: _Contents, extensions: Collection[str]) -> None:
    """Put a file where it belongs."""
    ending = path.suffix.lower()
    reason = "" if ending in extensions else UNREAD.get(ending, "")
    try:
        is_file = stat.S_ISREG(path.stat().st_mode)  # no pipe, no device
    except OSError as error:  # a link that leads nowhere or in a circle, a folder whose files may not be looked at
        is_file = True
        reason = f"cannot be opened ({error.strerror})"
    known = ending in extensions or ending in UNREAD
    if not (known and is_file) or is_clutter(path.name) or is_side_file(path.name):
        found.others += 1
    elif reason:
        found.unread[path] = reason
    else:
        found.images.append(path)


def _leads_away(link: Path, folder: Path) -> bool:
    """Whether a link to a folder leads to what lies neither below the given folder nor above it: then nothing is lost."""
    top = folder.resolve()
    target = link.resolve()
    return not (target.is_relative_to(top) or top.is_relative_to(target))


def _what_else(unread: dict[Path, str], extensions: Collection[str], passed: Collection[Path] = ()) -> str:
    """What was found instead of images, or what was looked for."""
    if unread:
        path, reason = next(iter(unread.items()))
        return f"but {len(unread)} that cannot be used, such as {path}: {reason}"
    if passed:
        return f"but {len(passed)} folders below, such as {next(iter(passed))}: --recursive looks into them"
    return f"looked for {', '.join(sorted(extensions))}"


def _name(file: Path, given: Path, several: bool) -> str:
    below = Path(file.name) if file == given else file.relative_to(given)
    name = file if several else below
    return printable(name.as_posix())

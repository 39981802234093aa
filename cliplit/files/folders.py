"""Image files found in folders. Importing it does not import torch."""

import os
import stat
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from cliplit.errors import CliplitError, printable
from cliplit.files.images import EXTENSIONS, UNREAD

# What cameras, desktops and network storage leave beside photos, in lower case. Names with a dot in front are clutter too.
LEFT_BEHIND = (
    "@eadir|@tmp|@sharebin|#recycle|#snapshot|"  # Synology
    "@recycle|@recently-snapshot|@__thumb|~snapshot|"  # QNAP, NetApp
    "__macosx|network trash folder|temporary items|thevolumesettingsfolder|"  # macOS
    "$recycle.bin|recycler|system volume information|thumbs.db|ehthumbs.db|ehthumbs_vista.db|desktop.ini|"  # Windows
    "lost+found|lost.dir"  # Linux, Android
)
CLUTTER = frozenset(LEFT_BEHIND.split("|"))
CLUTTER_ENDING = ".lrdata"  # Lightroom: folders of previews
SIDE_FILES = (".compare.jpg", ".illumination.png")  # of `enhance`, after the name of a result


@dataclass
class Found:
    """Image files that were asked for.

    Attributes:
        images: the name that tables give an image -> its file.
        others: number of other files that lay beside them; a hidden folder counts as one.
        folders: whether a folder was among what was given.
        groups: every path that was given -> the names of its images; an image may be in several.
        unread: what may be an image, or hold some, and was not taken -> the reason.
        passed: folders below that were not looked into, for want of `recursive`.
        places: name of an image -> its path below the folder that was given.
    """

    images: dict[str, Path]
    others: int = 0
    folders: bool = True
    groups: dict[str, list[str]] = field(default_factory=dict)
    unread: dict[Path, str] = field(default_factory=dict)
    passed: list[Path] = field(default_factory=list)
    places: dict[str, PurePath] = field(default_factory=dict)


def list_images(folder: str | Path) -> list[Path]:
    """Image files of a folder by extension, sorted by name.

    Raises:
        CliplitError: no such folder, one that cannot be opened, or no images in it.
    """
    if not Path(folder).is_dir():
        raise CliplitError(f"{folder}: no such folder")
    return list(find_images([folder]).images.values())


def find_images(
    paths: Iterable[str | Path], recursive: bool = False, extensions: Collection[str] = EXTENSIONS
) -> Found:
    """Image files among files and folders, by extension and sorted within a folder; files that are named need no extension.

    Below a folder, what is hidden or clutter (`is_clutter`) counts as other files. Links to files are followed, links to
    folders are not.

    An image's name is its path below the folder that was given; if several paths were given, with that path before it;
    control characters and what is no Unicode are escaped. A file that is found twice is one image.

    Raises:
        CliplitError: a path that does not exist or cannot be opened, or no images at all.
    """
    given = list(dict.fromkeys(Path(path) for path in paths))
    found = Found({}, folders=any(path.is_dir() for path in given))
    names: dict[str, str] = {}  # by absolute path
    for place in given:
        if place.is_dir():
            files = _look_into(place, recursive, extensions, found)
        elif place.is_file():
            files = [place]
        else:
            wrong = "neither a file nor a folder" if place.exists() else "no such file or folder"
            raise CliplitError(f"{place}: {wrong}")
        found.groups[str(place)] = []
        for file in files:
            below = file.relative_to(place) if file != place else Path(file.name)
            shown = file if len(given) > 1 else below
            name = names.setdefault(os.path.abspath(file), printable(shown.as_posix()))
            found.images.setdefault(name, file)
            found.groups[str(place)].append(name)
            if file != place:
                found.places.setdefault(name, below)
    if not found.images:
        what_else = f"looked for {', '.join(sorted(extensions))}"
        if found.passed:
            how = "give it (score and enhance also have --recursive)"
            what_else = f"but {len(found.passed)} folders below, such as {found.passed[0]}; {how}"
        if found.unread:
            path, reason = next(iter(found.unread.items()))
            what_else = f"but {len(found.unread)} that cannot be used, such as {path}: {reason}"
        raise CliplitError(f"{', '.join(map(str, given))}: no images here ({what_else})")
    found.unread |= {Path(place): "no images here" for place, there in found.groups.items() if not there}
    return found


def is_clutter(name: str) -> bool:
    """Whether a file or folder of this name is hidden, left behind by a camera, system or server, or a file that `enhance`
    writes beside a result, such as `a.jpg.compare.jpg`."""
    name = name.lower()
    beside = any(name.endswith(end) and PurePath(name[: -len(end)]).suffix in EXTENSIONS for end in SIDE_FILES)
    return beside or name.startswith(".") or name in CLUTTER or name.endswith(CLUTTER_ENDING)


def _look_into(folder: Path, recursive: bool, extensions: Collection[str], found: Found) -> list[Path]:
    """The images of a folder, sorted; what else is there is noted in `found`."""

    def note_closed(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise CliplitError(f"{folder}: cannot be opened ({error.strerror})")
        found.unread[Path(error.filename)] = f"cannot be opened ({error.strerror})"

    images: list[Path] = []
    for place, folders, files in os.walk(folder, onerror=note_closed):
        below = sorted(name for name in folders if not is_clutter(name))
        if not recursive:
            found.passed += [Path(place, name) for name in below]
            folders.clear()
        else:
            found.others += len(folders) - len(below)
            folders[:] = below  # links are among them; they are not followed
        for path in [Path(place, name) for name in folders]:
            if path.is_symlink():
                target, top = path.resolve(), folder.resolve()
                if not (target.is_relative_to(top) or top.is_relative_to(target)):  # else nothing is lost
                    found.unread[path] = "a link to another folder is not followed; give that folder by its name"
        for path in [Path(place, name) for name in sorted(files)]:
            reason = "" if path.suffix.lower() in extensions else UNREAD.get(path.suffix.lower())  # None: no image
            if is_clutter(path.name):
                reason = None
            try:
                if reason is not None and not stat.S_ISREG(path.stat().st_mode):  # a pipe or device
                    reason = None
            except OSError as error:  # a link that leads nowhere or in a circle, a folder that may not be looked at
                reason = f"cannot be opened ({error.strerror})"
            if reason is None:
                found.others += 1
            elif reason:
                found.unread[path] = reason
            else:
                images.append(path)
    return sorted(images)

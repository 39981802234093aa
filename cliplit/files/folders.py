"""Image files found in folders, and paired with references by their names. Importing it does not import torch."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from cliplit.errors import CliplitError, printable
from cliplit.files.atomic import sha256
from cliplit.files.images import EXTENSIONS, UNREAD

# Names that cameras, desktops and network storage leave beside photos, in lower case. Names with a leading dot count too.
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

COPY = re.compile(r"(.+?) ?\(\d+\)")  # "0152(2)" and "0152 (2)" may be copies of "0152"


@dataclass
class Found:
    """The image files that were found.

    Attributes:
        images: the name of an image in tables -> its file.
        others: number of other files beside them; a hidden folder counts as one.
        groups: every given path -> the names of its images; an image may be in several groups.
        unread: files or folders that may be or hold images but were not read -> the reason.
        passed: subfolders that were skipped because `recursive` is off.
        places: name of an image in a given folder -> its path below that folder.
    """

    images: dict[str, Path]
    others: int = 0
    groups: dict[str, list[str]] = field(default_factory=dict)
    unread: dict[Path, str] = field(default_factory=dict)
    passed: list[Path] = field(default_factory=list)
    places: dict[str, PurePath] = field(default_factory=dict)


def list_images(folder: str | Path) -> list[Path]:
    """The image files of a folder by extension, sorted by name. Raises CliplitError as `find_images` does."""
    if not Path(folder).is_dir():
        raise CliplitError(f"{folder}: no such folder")
    return list(find_images([folder]).images.values())


def find_images(
    paths: Iterable[str | Path], recursive: bool = False, extensions: Collection[str] = EXTENSIONS
) -> Found:
    """The images among files and folders: by extension and sorted within a folder; given files may have any extension.

    In folders, hidden files and clutter (`is_clutter`) count as other files. Links to files are followed, and links to
    folders are not.

    The name of an image is its path below the given folder, preceded by that folder if several paths are given. Control
    characters and invalid Unicode are escaped. A file that is found twice is one image.

    Raises CliplitError for a path that does not exist or cannot be opened, and if there are no images at all.
    """
    given = list(dict.fromkeys(Path(path) for path in paths))
    found = Found({})
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
            what_else = f"but {len(found.passed)} subfolders, such as {found.passed[0]}; give it, or --recursive"
        if found.unread:
            path, reason = next(iter(found.unread.items()))
            what_else = f"but {len(found.unread)} that cannot be used, such as {path}: {reason}"
        raise CliplitError(f"{', '.join(map(str, given))}: no images here ({what_else})")
    found.unread |= {Path(place): "no images here" for place, there in found.groups.items() if not there}
    return found


def is_clutter(name: str) -> bool:
    """Whether a file or folder of this name is hidden, was left by a camera, system or server, or was written by `enhance`
    beside a result, such as `a.jpg.compare.jpg`."""
    name = name.lower()
    beside = any(name.endswith(end) and PurePath(name[: -len(end)]).suffix in EXTENSIONS for end in SIDE_FILES)
    return beside or name.startswith(".") or name in CLUTTER or name.endswith(CLUTTER_ENDING)


def _look_into(folder: Path, recursive: bool, extensions: Collection[str], found: Found) -> list[Path]:
    """The images of a folder, sorted. Everything else there is noted in `found`."""

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
                found.unread[path] = "links to folders are not followed; give the folder itself"
        for path in [Path(place, name) for name in sorted(files)]:
            ending = path.suffix.lower()
            special = os.path.exists(path) and not os.path.isfile(path)  # a pipe or device
            if special or is_clutter(path.name) or not (ending in extensions or ending in UNREAD):
                found.others += 1
            elif not os.path.exists(path):  # a broken or circular link, or a folder without access
                found.unread[path] = "cannot be opened"
            elif ending in extensions:
                images.append(path)
            else:
                found.unread[path] = UNREAD[ending]
    return sorted(images)


@dataclass(frozen=True)
class Pairs:
    """References by image name, and problems with the rest.

    Attributes:
        references: image name -> its reference; images without a reference are missing here.
        duplicates: names of images that are exact copies of another image in the folder, and are not scored.
        problems: one line for every missing partner and every ambiguous name; it lists all candidates.
    """

    references: dict[str, Path]
    duplicates: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def pair(found: Found, reference: str | Path, recursive: bool = False) -> Pairs:
    """Find the reference of every image: by its name without the ending in a folder, or the single given file.

    The path below the folder is tried first, then the stem alone, if only one reference has it. A stem matches exactly,
    then in another case or Unicode form, then without the ending that `enhance` keeps ("a.gif" of a.gif.png becomes "a"),
    and then without the number of a copy ("0152(2)" becomes "0152").

    Images of one folder that share a reference are scored once if they are exact copies. Different images are all scored
    if they have exactly its stem; otherwise a problem names them, and those with another stem get no reference.

    Raises CliplitError if there is no such folder, or it has no images (with `recursive`: in it or below).
    """
    images = found.images
    if Path(reference).is_file() and len(images) == 1:
        return Pairs(dict.fromkeys(images, Path(reference)))
    shelf = find_images([reference], recursive)
    places = {file: shelf.places.get(name, PurePath(file.name)) for name, file in shelf.images.items()}
    families = defaultdict(list)  # a file and its numbered copies
    for file in places:
        families[file.parent, original(file.stem)].append(file)
    same = {file: first for family in families.values() for file, first in _first_alike(family).items()}
    own_places = {name: found.places.get(name, PurePath(file.name)) for name, file in images.items()}
    candidates = _candidates(own_places, places)
    unread = {path.stem: f" that can be read ({path.name}: {reason})" for path, reason in shelf.unread.items()}
    claims: dict[str, Path] = {}
    problems: list[str] = []
    sharing = defaultdict(list)  # images of one folder that would share a reference or its copies
    for name, files in candidates.items():
        if len(files) == 1:
            claims[name] = files[0]
            sharing[images[name].parent, same[files[0]]].append(name)
        elif files:
            listed = ", ".join(places[file].as_posix() for file in files)
            problems.append(f"{files[0].stem}: several references ({listed}); keep only one")
        else:
            stem = images[name].stem
            problems.append(f"{name}: no file '{stem}.*' in {reference}{unread.get(stem, '')}")
    duplicates: list[str] = []
    unclear: list[str] = []
    for names in sharing.values():
        alike = _first_alike(images[name] for name in names)
        duplicates += [name for name in names if alike[images[name]] != images[name]]
        for file in {claims[name]: None for name in names}:
            rivals = [name for name in names if alike[images[name]] == images[name] and claims[name] == file]
            strangers = [name for name in rivals if images[name].stem != file.stem]
            if len(rivals) > 1 and strangers:
                about = f"different images that may belong to {file.name}; rename or remove all but one"
                problems.append(f"{' and '.join(rivals)}: {about}")
                unclear += strangers
    if found.places:  # not for single files
        used = {same[file] for files in candidates.values() for file in files}
        unused = [place for file, place in places.items() if same[file] not in used]
        problems += [f"{place.as_posix()}: a reference without an image" for place in unused]
    for name in duplicates + unclear:
        del claims[name]
    return Pairs(claims, duplicates, list(dict.fromkeys(problems)))


def original(stem: str) -> str:
    """The stem that a copy belongs to: "0152" for "0152(2)", else the stem itself."""
    match = COPY.fullmatch(stem)
    return match[1] if match else stem


def _candidates(images: Mapping[str, PurePath], references: Mapping[Path, PurePath]) -> dict[str, list[Path]]:
    """Possible references of every image: by its path, else by its stem alone, if no other image has their path."""
    found: dict[str, list[Path]] = {name: [] for name in images}
    taken: set[Path] = set()
    for alone in (False, True):
        index = defaultdict(list)
        for file, place in references.items():
            if file not in taken or place.parent == PurePath():  # all references in one folder, images in several
                for key in _keys(place, alone)[: 2 if alone else 3]:
                    index[key].append(file)
        for name, place in images.items():
            found[name] = found[name] or next((index[key] for key in _keys(place, alone) if key in index), [])
        taken = {file for files in found.values() for file in files}
    return found


def _keys(place: PurePath, alone: bool) -> list[Hashable]:
    """Keys to find the reference of an image in this place, the likeliest first: its path with the ending; its path or stem
    without the ending, exact and in one case and Unicode form; and the same for its likely original name."""
    keys: list[Hashable] = [] if alone else [(place, "with its ending")]
    ending = PurePath(place.stem).suffix
    bare = place.stem.removesuffix(ending) if ending.lower() in EXTENSIONS | UNREAD.keys() else place.stem
    for likely in (place.stem, bare, original(place.stem), original(bare)):
        path = PurePath(likely) if alone else place.parent / likely
        keys += [path, unicodedata.normalize("NFC", path.as_posix()).casefold()]
    return keys


def _first_alike(files: Iterable[Path]) -> dict[Path, Path]:
    """For each file, the exact copy of it with the shortest name, perhaps itself."""
    ordered = sorted(files, key=lambda file: (len(file.stem), file.name))
    first: dict[str, Path] = {}
    alike: dict[Path, Path] = {}
    for file in ordered:
        try:
            content = sha256(file) if len(ordered) > 1 else ""
        except OSError:
            content = str(file)  # cannot be opened, so it equals no other file
        alike[file] = first.setdefault(content, file)
    return alike

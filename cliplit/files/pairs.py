"""Images and references, paired by their names. Importing it does not import torch."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from cliplit.files.atomic import sha256
from cliplit.files.folders import EXTENSIONS, UNREAD, Found, find_images

COPY = re.compile(r"(.+?) ?\(\d+\)")  # "0152(2)" and "0152 (2)" may be copies of "0152"


@dataclass(frozen=True)
class Pairs:
    """References by image name, and what is to be said about the rest.

    Attributes:
        references: image name -> its reference; images without one are not in it.
        duplicates: names of images that are copies, byte for byte, of another one of the folder and are not scored.
        problems: one line for every missing partner and ambiguous name; it names all that could be meant.
        notes: one line for every reference that different images of its own stem share, such as a.jpg and a.png.
    """

    references: dict[str, Path]
    duplicates: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def pair(found: Found, reference: str | Path, recursive: bool = False) -> Pairs:
    """Find the reference of every image: by its name without the ending in a folder, or the one file given.

    The path below the folder counts first, then the stem alone, if only one reference has it. A stem is looked for as it
    is, in other case or Unicode form, without the ending that `enhance` added to ("a.gif" of a.gif.png becomes "a"),
    and without the number of a copy ("0152(2)" becomes "0152").

    Images of one folder that come to share a reference are scored once if they are the same, byte for byte. Different
    ones are all scored if they have its very stem; else it is a problem that names them, and those that have not get none.

    Args:
        recursive: also references in folders below.
    Raises:
        CliplitError: no such folder, or no images in it.
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
    sharing = defaultdict(list)  # images of one folder that would have the same reference, or copies of it
    for name, files in candidates.items():
        if len(files) == 1:
            claims[name] = files[0]
            sharing[images[name].parent, same[files[0]]].append(name)
        elif files:
            listed = ", ".join(places[file].as_posix() for file in files)
            problems.append(f"{files[0].stem}: several references ({listed}); remove all but one")
        else:
            stem = images[name].stem
            problems.append(f"{name}: no file '{stem}.*' in {reference}{unread.get(stem, '')}")
    duplicates: list[str] = []
    unclear: list[str] = []
    notes: list[str] = []
    for names in sharing.values():
        alike = _first_alike(images[name] for name in names)
        duplicates += [name for name in names if alike[images[name]] != images[name]]
        for file in {claims[name]: None for name in names}:
            rivals = [name for name in names if alike[images[name]] == images[name] and claims[name] == file]
            strangers = [name for name in rivals if images[name].stem != file.stem]
            listed = " and ".join(rivals)
            if len(rivals) > 1 and strangers:
                remedy = "rename or remove all but one"
                problems.append(f"{listed}: different images that may belong to {file.name}; {remedy}")
                unclear += strangers
            elif len(rivals) > 1:
                notes.append(f"{listed}: different images with one reference, {file.name}; each is scored")
    if found.folders:  # single files are asked for one by one
        used = {same[file] for files in candidates.values() for file in files}
        unused = [place for file, place in places.items() if same[file] not in used]
        problems += [f"{place.as_posix()}: a reference without an image" for place in unused]
    for name in duplicates + unclear:
        del claims[name]
    return Pairs(claims, duplicates, list(dict.fromkeys(problems)), notes)


def original(stem: str) -> str:
    """The stem that a copy belongs to: "0152" for "0152(2)", else the stem itself."""
    match = COPY.fullmatch(stem)
    return match[1] if match else stem


def _candidates(images: Mapping[str, PurePath], references: Mapping[Path, PurePath]) -> dict[str, list[Path]]:
    """References that an image may have: that of its very path, those of its path but for the ending, those of its stem
    if no other image has their path."""
    same = {place: [file] for file, place in references.items()}
    index = _index(references)
    candidates = {name: same.get(place) or _look_up(place, index) for name, place in images.items()}
    taken = {file for files in candidates.values() for file in files}
    free = {
        file: PurePath(place.name)
        for file, place in references.items()
        if file not in taken or place.parent == PurePath()  # all references in one folder, images in several
    }
    index = _index(free)
    return {name: files or _look_up(PurePath(images[name].name), index) for name, files in candidates.items()}


def _index(places: Mapping[Path, PurePath]) -> dict[PurePath | str, list[Path]]:
    """Files by their place without the ending, and by the same in one case and Unicode form."""
    index: defaultdict[PurePath | str, list[Path]] = defaultdict(list)
    for file, place in places.items():
        index[place.parent / place.stem].append(file)
        index[_folded(place.parent / place.stem)].append(file)
    return index


def _look_up(place: PurePath, index: Mapping[PurePath | str, list[Path]]) -> list[Path]:
    """References for an image in this place: of the likeliest stem that some have, exactly so if there are such."""
    stem = place.stem
    ending = PurePath(stem).suffix
    bare = stem.removesuffix(ending) if ending.lower() in EXTENSIONS | UNREAD.keys() else stem
    likely = [place.parent / name for name in (stem, bare, original(stem), original(bare))]
    return next((index[key] for path in likely for key in (path, _folded(path)) if key in index), [])


def _folded(path: PurePath) -> str:
    return unicodedata.normalize("NFC", path.as_posix()).casefold()


def _first_alike(files: Iterable[Path]) -> dict[Path, Path]:
    """For each of several files the one of the shortest name that is the same, byte for byte."""
    ordered = sorted(files, key=lambda file: (len(file.stem), file.name))
    first: dict[str, Path] = {}
    return {file: first.setdefault(_content(file), file) if len(ordered) > 1 else file for file in ordered}


def _content(file: Path) -> str:
    """A digest; the path of a file that cannot be opened, which is like no other."""
    try:
        return sha256(file)
    except OSError:
        return str(file)

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

_Key = tuple[str, str]


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
    places = {shelf.images[name]: place for name, place in _places(shelf).items()}
    unread = {path.stem: f" that can be read ({path.name}: {reason})" for path, reason in shelf.unread.items()}
    claims: dict[str, Path] = {}
    problems: list[str] = []
    notes: list[str] = []
    candidates = _candidates(_places(found), places)
    for name, files in candidates.items():
        stem = images[name].stem
        if len(files) == 1:
            claims[name] = files[0]
        elif files:
            listed = ", ".join(places[file].as_posix() for file in files)
            problems.append(f"{files[0].stem}: several references ({listed}); remove all but one")
        else:
            problems.append(f"{name}: no file '{stem}.*' in {reference}{unread.get(stem, '')}")
    duplicates = _copies(images, claims)
    for name in duplicates:
        del claims[name]
    for file, names in _sharing(images, claims):
        strangers = [name for name in names if images[name].stem != file.stem]
        listed = " and ".join(names)
        if strangers:
            problems.append(f"{listed}: different images that may belong to {file.name}; rename or remove all but one")
        else:
            notes.append(f"{listed}: different images with one reference, {file.name}; each is scored")
        for name in strangers:
            del claims[name]
    if found.folders:  # single files are asked for one by one
        used = {file for files in candidates.values() for file in files}
        problems += [f"{places[file].as_posix()}: a reference without an image" for file in _unused(places, used)]
    return Pairs(
        {name: claims[name] for name in images if name in claims}, duplicates, list(dict.fromkeys(problems)), notes
    )


def pair_by_stem(
    images: Mapping[str, Path], references: Mapping[str, Path]
) -> tuple[list[tuple[Path, Path]], list[Path], list[Path]]:
    """Images and references by stem, put together.

    Returns:
        The pairs of the same stem, the images without a reference, and the references without an image, each in the
        order given.
    """
    pairs = [(path, references[stem]) for stem, path in images.items() if stem in references]
    images_alone = [path for stem, path in images.items() if stem not in references]
    references_alone = [path for stem, path in references.items() if stem not in images]
    return pairs, images_alone, references_alone


def original(stem: str) -> str:
    """The stem that a copy belongs to: "0152" for "0152(2)", else the stem itself."""
    match = COPY.fullmatch(stem)
    return match[1] if match else stem


def _places(found: Found) -> dict[str, PurePath]:
    """Paths of images below the folder that was given, by name."""
    places: dict[str, PurePath] = {}
    for given, names in found.groups.items():
        for name in names:
            file = found.images[name]
            if Path(given) in file.parents:
                places.setdefault(name, file.relative_to(given))
    return {name: places.get(name, PurePath(file.name)) for name, file in found.images.items()}


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


def _index(places: Mapping[Path, PurePath]) -> dict[_Key, list[Path]]:
    index = defaultdict(list)
    for file, place in places.items():
        for key in _keys(place.parent / place.stem):
            index[key].append(file)
    return index


def _look_up(place: PurePath, index: Mapping[_Key, list[Path]]) -> list[Path]:
    for stem in _stems(place.stem):
        for key in _keys(place.parent / stem):
            if key in index:
                return index[key]
    return []


def _keys(path: PurePath) -> tuple[_Key, _Key]:
    """What is looked for first, and what then."""
    text = path.as_posix()
    return ("exactly", text), ("nearly", unicodedata.normalize("NFC", text).casefold())


def _stems(stem: str) -> Iterable[str]:
    """What the reference of an image may be called, the likeliest first."""
    ending = PurePath(stem).suffix
    bare = stem.removesuffix(ending) if ending.lower() in EXTENSIONS | UNREAD.keys() else stem
    return dict.fromkeys((stem, bare, original(stem), original(bare)))


def _copies(images: Mapping[str, Path], claims: Mapping[str, Path]) -> list[str]:
    """Images that are the same as another one of their folder, and so are their references."""
    families = defaultdict(list)
    for name, file in claims.items():
        families[images[name].parent, file.parent, original(file.stem)].append(name)
    copies = []
    for names in families.values():
        first: dict[tuple[str, str], str] = {}
        if len(names) > 1:
            for name in sorted(names, key=lambda name: (len(images[name].stem), name)):
                if first.setdefault((_content(images[name]), _content(claims[name])), name) != name:
                    copies.append(name)
    return copies


def _sharing(images: Mapping[str, Path], claims: Mapping[str, Path]) -> list[tuple[Path, list[str]]]:
    """References that several images of one folder have, and these."""
    sharing = defaultdict(list)
    for name, file in claims.items():
        sharing[images[name].parent, file].append(name)
    return [(file, names) for (_, file), names in sharing.items() if len(names) > 1]


def _unused(references: Iterable[Path], used: set[Path]) -> list[Path]:
    """References that no image has, but for copies of those that one has."""
    families = defaultdict(list)
    for file in used:
        families[file.parent, original(file.stem)].append(file)

    def is_copy(file: Path) -> bool:
        return any(_content(file) == _content(other) for other in families[file.parent, original(file.stem)])

    return [file for file in references if file not in used and not is_copy(file)]


def _content(file: Path) -> str:
    """A digest; the path of a file that cannot be opened, which is like no other."""
    try:
        return sha256(file)
    except OSError:
        return str(file)

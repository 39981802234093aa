"""Images and references, paired by their names. Importing it does not import torch."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
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
    candidates = _candidates(
        {name: found.places.get(name, PurePath(file.name)) for name, file in images.items()}, places
    )
    unread = {path.stem: f" that can be read ({path.name}: {reason})" for path, reason in shelf.unread.items()}
    claims: dict[str, Path] = {}
    problems: list[str] = []
    for name, files in candidates.items():
        stem = images[name].stem
        if len(files) == 1:
            claims[name] = files[0]
        elif files:
            listed = ", ".join(places[file].as_posix() for file in files)
            problems.append(f"{files[0].stem}: several references ({listed}); remove all but one")
        else:
            problems.append(f"{name}: no file '{stem}.*' in {reference}{unread.get(stem, '')}")
    duplicates = []
    for names in _grouped(claims, lambda name: (images[name].parent, _family(claims[name]))):
        first: dict[tuple[str, str], str] = {}
        for name in sorted(names, key=lambda name: (len(images[name].stem), name)):
            if first.setdefault((_content(images[name]), _content(claims[name])), name) != name:
                duplicates.append(name)
    claims = {name: file for name, file in claims.items() if name not in duplicates}
    notes: list[str] = []
    for names in _grouped(claims, lambda name: (images[name].parent, claims[name])):
        file = claims[names[0]]
        listed = " and ".join(names)
        strangers = [name for name in names if images[name].stem != file.stem]
        if strangers:
            problems.append(f"{listed}: different images that may belong to {file.name}; rename or remove all but one")
        else:
            notes.append(f"{listed}: different images with one reference, {file.name}; each is scored")
        for name in strangers:
            del claims[name]
    if found.folders:  # single files are asked for one by one
        used = {file for files in candidates.values() for file in files}
        unused = [file for file in places if file not in used]
        near = set(map(_family, unused))
        copied = {(_family(file), _content(file)) for file in used if _family(file) in near}
        for file in unused:
            if (_family(file), _content(file)) not in copied:
                problems.append(f"{places[file].as_posix()}: a reference without an image")
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


def _index(places: Mapping[Path, PurePath]) -> dict[str, list[tuple[PurePath, Path]]]:
    """Files by their place without the ending, in one case and Unicode form; each with that place as it is."""
    index = defaultdict(list)
    for file, place in places.items():
        bare = place.parent / place.stem
        index[_folded(bare)].append((bare, file))
    return index


def _look_up(place: PurePath, index: Mapping[str, list[tuple[PurePath, Path]]]) -> list[Path]:
    """References for an image in this place: of the likeliest stem that some have, exactly so if there are such."""
    stem = place.stem
    ending = PurePath(stem).suffix
    bare = stem.removesuffix(ending) if ending.lower() in EXTENSIONS | UNREAD.keys() else stem
    for likely in (stem, bare, original(stem), original(bare)):
        wanted = place.parent / likely
        near = index.get(_folded(wanted), [])
        if near:
            return [file for there, file in near if there == wanted] or [file for _, file in near]
    return []


def _folded(path: PurePath) -> str:
    return unicodedata.normalize("NFC", path.as_posix()).casefold()


def _grouped(names: Iterable[str], key: Callable[[str], Hashable]) -> list[list[str]]:
    """Names of the same key together, where there are several."""
    groups = defaultdict(list)
    for name in names:
        groups[key(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def _family(file: Path) -> tuple[Path, str]:
    """What a file and its numbered copies have in common."""
    return file.parent, original(file.stem)


def _content(file: Path) -> str:
    """A digest; the path of a file that cannot be opened, which is like no other."""
    try:
        return sha256(file)
    except OSError:
        return str(file)

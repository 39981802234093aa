"""Images and references, paired by their names. Importing it does not import torch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cliplit.files.folders import Found, find_images

COPY = re.compile(r"(.+?) ?\(\d+\)")  # "0152(2)" and "0152 (2)" are copies of "0152"


@dataclass(frozen=True)
class Pairs:
    """References by image name, and what is to be said about the rest.

    Attributes:
        references: image name -> its reference; images without one are not in it.
        duplicates: names of images that are copies of another one of the folder and are not scored.
        problems: one line for every missing partner and ambiguous name.
    """

    references: dict[str, Path]
    duplicates: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def pair(found: Found, reference: str | Path) -> Pairs:
    """Find the reference of every image: the file of the same stem in the reference folder, or the one file given.

    "0152(2)" belongs to "0152" unless the references have its own name and none of "0152"; images that so come to
    share a reference are copies of one another, and the first by name is scored (BAID's test set has such).

    Raises:
        CliplitError: no such folder, or no images in it.
    """
    candidates = find_images([reference]).images
    images = found.images
    if Path(reference).is_file() and len(images) == 1:
        return Pairs(dict.fromkeys(images, Path(reference)))
    by_stem: dict[str, list[Path]] = {}
    for path in candidates.values():
        by_stem.setdefault(path.stem, []).append(path)
    problems = [
        f"{stem}: several references ({', '.join(path.name for path in files)}); remove all but one"
        for stem, files in by_stem.items()
        if len(files) > 1
    ]
    references: dict[str, Path] = {}
    duplicates: list[str] = []
    taken: set[tuple[Path, str]] = set()  # folders of images, and stems of references that have theirs there
    for name, path in sorted(images.items(), key=lambda item: (item[1].parent, original(item[1].stem), item[1].stem)):
        stem = original(path.stem) if original(path.stem) in by_stem else path.stem
        if stem not in by_stem:
            problems.append(f"{name}: no file '{path.stem}.*' in {reference}")
        elif (path.parent, stem) in taken:
            duplicates.append(name)
        else:
            taken.add((path.parent, stem))
            references[name] = by_stem[stem][0]
    if found.folders:  # single files are asked for one by one
        used = {stem for _, stem in taken}
        unused = sorted(stem for stem in by_stem if stem not in used and original(stem) not in used)
        problems += [f"{by_stem[stem][0].name}: a reference without an image" for stem in unused]
    return Pairs({name: references[name] for name in images if name in references}, duplicates, problems)


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

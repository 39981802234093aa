"""Image files: found in folders, paired by their names, opened defensively. Importing it does not import torch."""

import contextlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cliplit.errors import CliplitError

EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm"}
COPY = re.compile(r"(.+?) ?\(\d+\)")  # "0152(2)" and "0152 (2)" are copies of "0152"
ORIENTATION = 0x0112  # EXIF tag; 5 to 8 lie on their side


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


def decode(path: str | Path) -> np.ndarray:
    """An image file as RGB (H, W, 3), upright, of 8 bits, or 16 if it has them; grey is repeated, transparency dropped.

    Raises:
        CliplitError: not an image, truncated, or too large to be honest; names the file.
    """
    with readable(path) as opened:
        image = ImageOps.exif_transpose(opened)
        image.load()
        if image.mode.startswith("I"):
            grey = np.asarray(image).clip(0, 65535).astype(np.uint16)
            return np.repeat(grey[..., None], 3, axis=-1)
        return np.array(image.convert("RGB"))


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height of an image as shown, from the header of its file.

    Raises:
        CliplitError: not an image.
    """
    with readable(path) as image:
        width, height = image.size
        return (height, width) if image.getexif().get(ORIENTATION, 1) >= 5 else (width, height)


def to_8_bits(array: np.ndarray) -> np.ndarray:
    """An image of 16 bits rounded to 8; others as they are."""
    return (array / 257).round().astype(np.uint8) if array.dtype == np.uint16 else array


def squared(array: np.ndarray, size: int) -> np.ndarray:
    """An image (H, W, 3) as a square of `size` pixels and 8 bits (Lanczos), as the released training resizes."""
    return np.array(Image.fromarray(to_8_bits(array)).resize((size, size), Image.Resampling.LANCZOS))


@contextlib.contextmanager
def readable(path: str | Path) -> Iterator[Image.Image]:
    """An opened image file.

    Raises:
        CliplitError: not an image, or whatever Pillow says of it while it is used; names the file.
    """
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError:
        raise CliplitError(f"{path}: no such file") from None
    except UnidentifiedImageError:
        raise CliplitError(f"{path}: not an image, or of an unknown kind") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CliplitError(f"{path}: cannot be read as an image ({error}); mend or remove the file") from None

"""What is kept, what is converted and said, what is refused: tried on every format, and the table of it in docs/formats.md.

python tests/photos/test_kept.py        # writes the table
"""

import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from field_files import CASES  # noqa: E402

from cliplit.errors import CliplitError  # noqa: E402
from cliplit_photos.formats import FORMATS, Photo, read_photo, write_photo  # noqa: E402

PAGE = ROOT / "docs" / "formats.md"
KINDS = {
    kind: next(ending for ending in FORMATS if FORMATS[ending] == kind) for kind in dict.fromkeys(FORMATS.values())
}
RAMP = np.linspace(0, 1, 24 * 32 * 3, dtype=np.float32).reshape(24, 32, 3)
EIGHT = (RAMP * 255).round().astype(np.uint8)
LOSSY = 12  # steps of 8 bits, at most, that writing may cost


class Feature(NamedTuple):
    """Something that a photo may have: how it looks with it, and how it is told from a photo that was read."""

    has: Callable[[], Photo]
    tell: Callable[[Photo], Any]


def exif() -> bytes:
    tags = Image.Exif()
    tags[0x10F] = "A maker"
    tags.get_ifd(0x8769)[0x9003] = "2023:10:02 09:30:00"
    return tags.tobytes().removeprefix(b"Exif\0\0")


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta>'
IPTC = b"8BIM\x04\x04\0\0\0\0\0\x0c\x1c\x02\x78\0\x07Harbour"
FEATURES = {
    "EXIF, GPS, makers' notes": Feature(lambda: Photo(EIGHT, exif=exif()), lambda photo: b"A maker" in photo.exif),
    "XMP": Feature(lambda: Photo(EIGHT, xmp=XMP), lambda photo: photo.xmp == XMP),
    "IPTC": Feature(lambda: Photo(EIGHT, iptc=IPTC), lambda photo: photo.iptc == IPTC),
    "colour profile": Feature(lambda: Photo(EIGHT, icc=PROFILE), lambda photo: photo.icc == PROFILE),
    "resolution": Feature(
        lambda: Photo(EIGHT, options={"dpi": (300.0, 300.0)}),
        lambda photo: np.allclose(photo.options.get("dpi", 0), 300, atol=1),
    ),
    "transparency": Feature(
        lambda: Photo(EIGHT, alpha=EIGHT[..., 0]),
        lambda photo: photo.alpha is not None and np.abs(photo.alpha.astype(int) - EIGHT[..., 0]).max() <= LOSSY,
    ),
    "grey": Feature(lambda: Photo(EIGHT[..., :1]), lambda photo: photo.pixels.shape[2] == 1),
    "16 bits": Feature(
        lambda: Photo((RAMP * 65535).round().astype(np.uint16)), lambda photo: photo.pixels.dtype == np.uint16
    ),
    "floats": Feature(lambda: Photo(RAMP), lambda photo: photo.pixels.dtype == np.float32),
}


def outcome(feature: Feature, kind: str, folder: Path) -> str:
    """ "kept", "said" or, which must not be, "lost"."""
    path = folder / f"a{KINDS[kind]}"
    photo = feature.has()
    photo.kind = kind
    notes = write_photo(photo, path, kind)
    if feature.tell(read_photo(path)):
        return "kept"
    return "said" if notes else "lost"


def rewritten(name: str, folder: Path) -> list[str]:
    """What is said of a field file that is written again in its own format."""
    source = folder / name
    source.write_bytes(CASES[name].make()[0])
    ending = source.suffix.lower()
    target = folder / f"again-{name}{'' if ending in FORMATS else '.png'}"
    photo = read_photo(source)
    return photo.notes + write_photo(photo, target, FORMATS[target.suffix.lower()])


def told(folder: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Notes and refusals of all field files, with the names of those files."""
    notes: dict[str, list[str]] = {}
    refusals: dict[str, list[str]] = {}
    for name in CASES:
        try:
            for note in rewritten(name, folder):
                notes.setdefault(note, []).append(name)
        except CliplitError as error:
            reason = str(error).removeprefix(f"{folder / name}: ")
            refusals.setdefault(reason, []).append(name)
    return notes, refusals


def rows(found: dict[str, list[str]], head: str) -> list[str]:
    lines = [f"| {head} | seen in |", "| --- | --- |"]
    for text, names in sorted(found.items()):
        more = " …" if len(names) > 3 else ""
        lines.append(f"| {text.replace('|', '/')} | {', '.join(f'`{name}`' for name in names[:3])}{more} |")
    return lines


def table() -> str:
    """All of it, in Markdown."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        lines = [f"| kept in the same format? | {' | '.join(KINDS)} |", "| --- |" + " --- |" * len(KINDS)]
        for name, feature in FEATURES.items():
            lines.append(f"| {name} | {' | '.join(outcome(feature, kind, folder) for kind in KINDS)} |")
        notes, refusals = told(folder)
        lines += ["", *rows(notes, "converted or lost, and said"), "", *rows(refusals, "refused, and why")]
        return "\n".join(lines)


def test_nothing_is_lost_unsaid_and_the_page_tells_it(recwarn):
    now = table()
    assert " lost |" not in now.split("\n\n")[0]
    page = PAGE.read_text(encoding="utf-8")
    assert now in page, "run: python tests/photos/test_kept.py"


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    filled = re.sub(
        r"(<!-- kept -->\n).*(\n<!-- /kept -->)", lambda found: found[1] + table() + found[2], text, flags=re.S
    )
    PAGE.write_text(filled, encoding="utf-8")

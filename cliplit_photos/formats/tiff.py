"""TIFF: tifffile reads any depth; Pillow reads palettes, CMYK and the like. Tags are copied as bytes."""

import contextlib
import errno
import io
import mmap
import os
import struct
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cliplit.files.images import GREY_OR_RGB, ROWS, TIFF_HEADS, tiff_channels, tiff_page, upright
from cliplit_photos.formats.exif import ORIENTATION, Entry, Tags, pack_block, pack_tags, read_block
from cliplit_photos.formats.kinds import UNREAD
from cliplit_photos.formats.photo import Photo, split

GREY = (0, 1)  # photometric interpretations: white is 0, black is 0
PREMULTIPLIED, STRAIGHT = 1, 2  # kinds of alpha
LOSSLESS = {1: None, 5: "lzw", 8: "zlib", 32773: "packbits", 34925: "lzma", 50000: "zstd"}  # kept; others are deflated
COMPRESSION = 259  # tags
RESOLUTION = 282
XMP = 700
IPTC = 33723
PHOTOSHOP = 34377
ICC = 34675
LAYERS = 37724
PREDICTED = ("zlib", "lzw", "zstd", "lzma")  # better compressed as differences of neighbours
# Tags that say how the file is laid out; and those, too, that `Photo` holds elsewhere (the last two are ImageJ's).
LAYOUT = {*range(254, 268), 273, *range(277, 285), *range(290, 298), 317, *range(320, 348), *range(512, 533)}
NO_EXIF = LAYOUT | {ORIENTATION, XMP, PHOTOSHOP, ICC, LAYERS, 50838, 50839}
FIRST = "page 1 ("
NAMED = 3  # pictures in a note
MOST_PICTURES = 1000
MOST_DPI = 1_000_000  # others are damage


def _pictures(file: BinaryIO) -> list[tuple[str, int, int]]:
    """Names of the pictures of a TIFF, and places of their directories and of the ones above (or 0): the photo first, which
    is the largest, thumbnails and masks last. Damaged pages and those after them are left out, and all after MOST_PICTURES:
    a damaged file may seem to have millions."""
    import tifffile

    found: list[tuple[bool, int, int, tuple[str, int, int]]] = []
    file.seek(0)
    with contextlib.suppress(Exception), tifffile.TiffFile(file) as tiff:  # damaged pages raise every kind
        page: Any
        for number, page in enumerate(islice(tiff.pages, MOST_PICTURES), 1):
            below = islice(page.pages or (), MOST_PICTURES)
            for inner, above in ((page, 0), *((inner, page.offset) for inner in below)):
                width, height = inner.imagewidth, inner.imagelength
                name = f"{'inside ' if above else ''}page {number} ({width} x {height})"
                picture = (name, inner.offset, above)
                found.append((inner.subfiletype & 5 != 0, -width * height, len(found), picture))
    return [picture for _, pixels, _, picture in sorted(found) if pixels]


def largest_first(file: BinaryIO) -> BinaryIO:
    """A TIFF whose first picture is the photo: the same file, or one in memory. Other files stay the same.

    A photo inside a page also gets the page's metadata.
    """
    file.seek(0)
    if file.read(4) not in TIFF_HEADS:
        return file
    name, place, above = next(iter(_pictures(file)), (FIRST, 0, 0))
    if name.startswith(FIRST):
        return file
    file.seek(0)
    content = bytearray(file.read())
    order = "<" if content[:1] == b"I" else ">"
    where = (order + "Q", content, 8) if b"+" in content[:4] else (order + "I", content, 4)
    struct.pack_into(*where, place)
    tags = read_block(content).tags
    if above and tags:  # not of a BigTIFF
        struct.pack_into(*where, above)
        tags = {tag: entry for tag, entry in read_block(content).tags.items() if tag not in LAYOUT} | tags
        content += b"\0" * (len(content) % 2)
        struct.pack_into(*where, len(content))
        content += pack_tags(tags, order, len(content))
    memory = io.BytesIO(content)
    memory.name = getattr(file, "name", "")  # type: ignore[attr-defined]
    return memory


def read_tiff(file: BinaryIO, max_pixels: int) -> Photo | None:
    """A grey or RGB TIFF with 8 bits or more; None for other files. Its tags are not filled in."""
    with tiff_page(file, max_pixels, UNREAD) as page:
        if page is None:
            return None
        bits = int(np.max(page.bitspersample))
        if bits < 8 or (bits == 8 and page.photometric not in GREY_OR_RGB):
            return None
        notes = []
        further = None
        channels = tiff_channels(page)
        if channels.dtype.kind == "f" and (channels.min() < 0 or channels.max() > 1):
            np.clip(channels, 0, 1, out=channels)
            notes.append("values outside [0, 1] clipped")
        white = {1: 255, 2: 65535, 4: 1}[channels.dtype.itemsize]
        number = 1 if page.photometric in GREY else 3  # of colours
        extra = range(number, channels.shape[2])
        kinds = page.extrasamples or (STRAIGHT,) * (len(extra) == 1)
        alphas = [at for at, kind in zip(extra, kinds, strict=False) if kind in (PREMULTIPLIED, STRAIGHT)][:1]
        if len(extra) > len(alphas):
            further = channels[..., [at for at in extra if at not in alphas]]
            channels = channels[..., [*range(number), *alphas]]
        if alphas and kinds[alphas[0] - number] == PREMULTIPLIED:
            notes.append("premultiplied transparency written as straight")
            channels = _straight(channels, white)
        orientation = _orientation(page.tags.valueof(ORIENTATION))
        photo = Photo(*split(upright(channels, orientation)), kind="TIFF", notes=notes)
        photo.further = None if further is None else upright(further, orientation)
        with contextlib.suppress(ValueError):  # of odd values
            dpi = page.get_resolution("INCH") if RESOLUTION in page.tags and page.resolutionunit in (2, 3) else (0,)
            if all(0 < dots < MOST_DPI for dots in dpi):
                photo.options["dpi"] = dpi
    return photo


def read_tags(file: BinaryIO, alone: BinaryIO, photo: Photo) -> None:
    """Fill in what a TIFF holds besides its pixels.

    Args:
        file: the whole file; `alone` begins with the photo.
    """
    names = [name for name, *_ in _pictures(file)]
    if len(names) > 1:
        which = "first" if names[0].startswith(FIRST) else "largest"
        more = f" and {len(names) - 1 - NAMED} more" if len(names) > 1 + NAMED else ""
        photo.notes.append(f"{which} of several pictures taken, without {', '.join(names[1 : 1 + NAMED])}{more}")
    in_memory = isinstance(alone, io.BytesIO)
    content = alone.getvalue() if in_memory else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # type: ignore
    block = read_block(content)
    if block.problem:
        what = "all tags of a BigTIFF" if b"+" in content[:4] else f"some of its tags ({block.problem})"
        photo.notes.append(f"{what} left out")
    tags = block.tags
    photo.icc = value(tags, ICC)
    photo.xmp = value(tags, XMP)
    photo.iptc = resources(tags)
    photo.exif = pack_block({tag: entry for tag, entry in tags.items() if tag not in NO_EXIF}, block.order)
    photo.options["orientation"] = _orientation(block.number(ORIENTATION))
    photo.options["compression"] = block.number(COMPRESSION, 1)
    if LAYERS in tags:
        photo.notes.append("Photoshop's layers left out")
    if block.number(262) == 5 and block.number(277) > 4:  # colours are inks; samples
        photo.notes.append("channels beside CMYK left out")


def _orientation(found: Any) -> int:
    return int(found) if found in range(1, 9) else 1


def _is_big(path: Path) -> bool:
    """Whether a file is a BigTIFF."""
    with open(path, "rb") as file:
        return b"+" in file.read(4)


def value(tags: Tags, tag: int) -> bytes:
    """The value of a tag; empty if it is not there."""
    return tags[tag].value if tag in tags else b""


def resources(tags: Tags) -> bytes:
    """Photoshop's image resources, or IPTC as one of them."""
    iptc = value(tags, IPTC)
    bare = struct.pack(">4sHHI", b"8BIM", 1028, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2) if iptc else b""
    return value(tags, PHOTOSHOP) or bare


def _straight(channels: np.ndarray, white: int) -> np.ndarray:
    """Colours divided by the alpha that multiplied them."""
    result = channels.copy()
    for top in range(0, len(channels), ROWS):
        strip = channels[top : top + ROWS].astype(np.float32)
        colours = strip[..., :-1]
        white_or_nothing = (colours > 0).astype(np.float32)  # where alpha is 0, or less than the colour
        alpha = strip[..., -1:]
        straight = np.divide(colours, alpha, out=white_or_nothing, where=alpha > colours) * white
        result[top : top + ROWS, :, :-1] = straight if white == 1 else straight.round()
    return result


def write_tiff(photo: Photo, path: Path) -> list[str]:
    """Write a TIFF of any depth, compressed like its source if that is lossless, else deflated. Returns what is lost.

    Raises:
        OSError: it cannot be written.
    """
    import tifffile

    block = read_block(photo.exif)
    alpha = [] if photo.alpha is None else ["unassalpha"]
    further = [] if photo.further is None else ["unspecified"] * photo.further.shape[2]
    channels = photo.channels if photo.further is None else np.dstack([photo.channels, photo.further])
    compression = LOSSLESS.get(photo.options.get("compression", 1), "zlib")
    predictor = (2 if channels.dtype.kind == "u" else 3) if compression in PREDICTED else None
    if find_spec("imagecodecs") is None:  # then tifffile has no other compressions
        compression = compression and "zlib"
        predictor = 2 if predictor == 2 else None
    try:
        tifffile.imwrite(
            path,
            channels if channels.shape[2] > 1 else channels[..., 0],
            byteorder=block.order,
            photometric="rgb" if photo.pixels.shape[2] == 3 else "minisblack",
            planarconfig="contig" if channels.shape[2] > 1 else None,
            extrasamples=alpha + further or None,
            compression=compression,
            predictor=predictor,
            rowsperstrip=ROWS,
            resolution=photo.options.get("dpi"),
            resolutionunit="INCH" if "dpi" in photo.options else None,
            metadata=None,
            software=False,
            maxworkers=1,
        )
    except OSError as error:
        if error.errno:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from None  # NumPy only says: less written
    if _is_big(path):
        return ["EXIF, XMP and colour profile left out: the TIFF is too large"]
    tags = {tag: entry for tag, entry in block.tags.items() if tag not in NO_EXIF}
    iptc = photo.iptc if IPTC not in tags else b""
    blobs = ((XMP, 1, photo.xmp), (PHOTOSHOP, 1, iptc), (ICC, 7, photo.icc))
    tags |= {tag: Entry(kind, value) for tag, kind, value in blobs if value}
    if tags:
        _add_tags(path, tags)
    return []


def _add_tags(path: Path, tags: Tags) -> None:
    """Append a new first directory, with more tags and with directories below, and let the header point to it."""
    with open(path, "r+b") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            written = read_block(content)
        place = file.seek(0, 2)
        place += file.write(b"\0" * (place % 2))
        file.write(pack_tags(written.tags | tags, written.order, place))
        file.seek(4)
        file.write(struct.pack(written.order + "I", place))

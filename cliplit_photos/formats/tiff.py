"""TIFF: tifffile reads any depth; Pillow reads palettes, CMYK and the like. Tags are copied as bytes."""

import errno
import mmap
import os
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cliplit.files.images import GREY_OR_RGB, ROWS, tiff_channels, tiff_page, upright
from cliplit_photos.formats.exif import ORIENTATION, Block, Entry, Tags, pack_block, pack_tags, read_block
from cliplit_photos.formats.kinds import UNREAD
from cliplit_photos.formats.photo import Photo, split

GREY = (0, 1)  # photometric interpretations: white is 0, black is 0
PREMULTIPLIED = 1  # a kind of alpha
LOSSLESS = {1: None, 5: "lzw", 8: "zlib", 32773: "packbits", 34925: "lzma", 50000: "zstd"}  # kept; others are deflated
COMPRESSION = 259  # tags
RESOLUTIONS = (282, 283)
UNIT = 296
XMP = 700
IPTC = 33723
PHOTOSHOP = 34377
ICC = 34675
LAYERS = 37724
SMALLER = 330
PREDICTED = ("zlib", "lzw", "zstd", "lzma")  # better compressed as differences of neighbours
# Tags that say how the file is laid out, or that `Photo` holds elsewhere.
LAYOUT = {*range(254, 268), 273, *range(277, 285), *range(290, 298), 317, *range(320, 348), *range(512, 533)}
LAYOUT |= {ORIENTATION, XMP, PHOTOSHOP, ICC, LAYERS, 50838, 50839}  # the last two are ImageJ's


def read_tiff(file: BinaryIO, max_pixels: int) -> Photo | None:
    """A grey or RGB TIFF with 8 bits or more; None for other files. Its tags are not filled in."""
    with tiff_page(file, max_pixels, UNREAD) as page:
        if page is None:
            return None
        bits = int(np.max(page.bitspersample))
        if bits < 8 or (bits == 8 and page.photometric not in GREY_OR_RGB):
            return None
        notes = ["first of several pictures taken"] if len(page.parent.pages) > 1 else []
        channels = tiff_channels(page)
        if channels.dtype.kind == "f":
            notes += _clip(channels)
        white = {1: 255, 2: 65535, 4: 1}[channels.dtype.itemsize]
        number = 1 if page.photometric in GREY else 3  # of colours
        extra = channels.shape[2] - number
        if extra > 1 or (extra and page.extrasamples and page.extrasamples[0] == 0 and number == 1):
            notes.append(f"{extra} extra channels left out")
            channels = channels[..., :number]
        elif extra and page.extrasamples and page.extrasamples[0] == PREMULTIPLIED:
            notes.append("premultiplied transparency written as straight")
            channels = _straight(channels, white)
        orientation = page.tags.valueof(ORIENTATION, 1)
        orientation = orientation if orientation in range(1, 9) else 1
    return Photo(*split(upright(channels, orientation)), kind="TIFF", notes=notes)


def read_tags(path: Path, photo: Photo) -> None:
    """Fill in what a TIFF holds besides its pixels."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        block = read_block(content)
    if block.problem:
        what = "all tags of a BigTIFF" if _is_big(path) else f"some of its tags ({block.problem})"
        photo.notes.append(f"{what} left out")
    tags = block.tags
    photo.icc = _value(tags, ICC)
    photo.xmp = _value(tags, XMP)
    photo.iptc = _value(tags, PHOTOSHOP)
    if not photo.iptc and IPTC in tags:
        iptc = tags[IPTC].value  # bare; as one of Photoshop's image resources:
        photo.iptc = struct.pack(">4sHHI", b"8BIM", 1028, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
    photo.exif = pack_block({tag: entry for tag, entry in tags.items() if tag not in LAYOUT}, block.order)
    photo.options["compression"] = block.number(COMPRESSION, 1)
    dpi = [_resolution(block, tag) for tag in RESOLUTIONS]
    if all(dpi):
        photo.options["dpi"] = tuple(dpi)
    if LAYERS in tags:
        photo.notes.append("Photoshop's layers left out")
    if SMALLER in tags:
        photo.notes.append("pictures of other sizes left out")


def _is_big(path: Path) -> bool:
    """Whether a file is a BigTIFF."""
    with open(path, "rb") as file:
        return b"+" in file.read(4)


def _value(tags: Tags, tag: int) -> bytes:
    return tags[tag].value if tag in tags else b""


def _resolution(block: Block, tag: int) -> float:
    """Dots per inch; 0 if unknown."""
    entry = block.tags.get(tag)
    if entry is None or len(entry.value) != 8 or entry.type != 5:
        return 0
    dots, parts = struct.unpack(block.order + "II", entry.value)
    inches = {2: 1, 3: 2.54}.get(block.number(UNIT, 2), 0)
    return dots / parts * inches if parts else 0


def _clip(channels: np.ndarray) -> list[str]:
    """Bring floats into [0, 1], in place."""
    low = channels.min()
    high = channels.max()
    if low >= 0 and high <= 1:
        return []
    np.clip(channels, 0, 1, out=channels)
    return ["values outside [0, 1] clipped"]


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
    channels = photo.channels
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
            photometric="rgb" if channels.shape[2] > 2 else "minisblack",
            planarconfig="contig" if channels.shape[2] > 1 else None,
            extrasamples=None if photo.alpha is None else ["unassalpha"],
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
    tags = {tag: entry for tag, entry in block.tags.items() if tag not in LAYOUT}
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

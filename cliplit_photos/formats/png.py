"""PNG: copies chunks unchanged, around what OpenCV encodes with 8 or 16 bits."""

import contextlib
import mmap
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cliplit_photos.formats.photo import Photo

START = b"\x89PNG\r\n\x1a\n"
HEADER = 33  # bytes, with that of the file
END = 12  # bytes, of the last chunk
XMP = b"XML:com.adobe.xmp\0"  # keyword
RAW_EXIF = (b"Raw profile type exif\0", b"Raw profile type APP1\0")  # ImageMagick's, before PNG had EXIF
# Chunks that stay valid for other pixels of the same colours, besides those safe to copy (a small last letter).
SAFE = (b"cHRM", b"gAMA", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"sCAL", b"tIME")
OTHERWISE = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"iCCP", b"eXIf", b"pHYs")  # in `Photo`, or of the encoding
DROPPED = (b"sBIT", b"bKGD", b"hIST", b"sPLT", b"acTL", b"fcTL", b"fdAT")  # of the source's palette, depth, frames
LEVEL = 4  # of compression, 0 to 9


def chunks(content: Any) -> Iterator[tuple[bytes, bytes, bool]]:
    """Names and data of a PNG's chunks, without pixels, and whether they are intact. It stops at a truncated chunk.

    Args:
        content: bytes, or an object that is sliced like bytes.
    """
    at = len(START)
    while at + 12 <= len(content):
        length, name = struct.unpack_from(">I4s", content, at)
        end = at + 12 + length
        if end > len(content):
            return
        data = b"" if name == b"IDAT" else bytes(content[at + 8 : end - 4])
        sound = name == b"IDAT" or struct.unpack_from(">I", content, end - 4)[0] == zlib.crc32(name + data)
        yield name, data, sound
        at = end


def says_more_behind(path: Path) -> bool:
    """Whether there are texts or EXIF after the pixels, which Pillow sees only after decoding the pixels."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        names = [name for name, _, _ in chunks(content)]
    behind = names[names.index(b"IDAT") :] if b"IDAT" in names else []
    return not {b"eXIf", b"tEXt", b"zTXt", b"iTXt"}.isdisjoint(behind)


def read_chunks(content: bytes, photo: Photo) -> None:
    """Fill in what a PNG holds besides its pixels, profile and XMP."""
    for name, data, sound in chunks(content):
        if not sound:
            photo.notes.append(f"PNG's damaged chunk {name.decode('latin-1')!r} left out")
        elif name == b"IDAT":
            photo.options.setdefault("in_front", len(photo.own))
        elif name in OTHERWISE or name in DROPPED or data.startswith((XMP, *RAW_EXIF)):
            continue
        elif name in SAFE or name[3:].islower():
            photo.own.append((name.decode("latin-1"), data))
        else:
            what = "content credentials (C2PA)" if name == b"caBX" else f"chunk {name.decode('latin-1')!r}"
            photo.notes.append(f"PNG's {what} left out")


def unpacked(texts: Mapping[Any, Any]) -> bytes:
    """EXIF from ImageMagick's text of hexadecimal digits below three lines; empty if there is no such text.

    Args:
        texts: `info` of an image opened by Pillow.
    """
    for keyword in RAW_EXIF:
        with contextlib.suppress(ValueError):
            lines = str(texts.get(keyword[:-1].decode(), "")).split("\n")
            return bytes.fromhex("".join(lines[3:]))
    return b""


def encode_png(photo: Photo) -> bytes:
    """The content of a PNG file."""
    bare = _encode(photo.channels)
    parts = [bare[:HEADER]]
    if photo.icc:
        parts.append(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(photo.icc)))
    if photo.exif:
        parts.append(_chunk(b"eXIf", photo.exif))
    if photo.xmp:
        parts.append(_chunk(b"iTXt", XMP + b"\0\0\0\0" + photo.xmp))
    if "dpi" in photo.options:
        per_metre = [min(round(dots / 0.0254), 0x7FFFFFFF) for dots in photo.options["dpi"]]
        parts.append(_chunk(b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    own = [_chunk(name.encode("latin-1"), data) for name, data in photo.own]
    in_front = photo.options.get("in_front", len(own))  # of the pixels; readers are more lenient after them
    return b"".join([*parts, *own[:in_front], bare[HEADER:-END], *own[in_front:], bare[-END:]])


def _encode(channels: np.ndarray) -> bytes:
    """A PNG of only pixels (H, W, 1 to 4) of 8 or 16 bits."""
    import cv2

    height, width, number = channels.shape
    if number != 2:
        ordered = channels if number == 1 else channels[..., [2, 1, 0, *range(3, number)]]
        return cv2.imencode(".png", ordered, [cv2.IMWRITE_PNG_COMPRESSION, LEVEL])[1].tobytes()
    bits = 8 * channels.itemsize  # grey with alpha, which OpenCV cannot write
    rows = channels.astype(f">u{channels.itemsize}").reshape(height, -1).view(np.uint8)
    filtered = np.pad(np.diff(rows, axis=0, prepend=np.uint8(0)), ((0, 0), (1, 0)), constant_values=2)  # 2: from above
    header = struct.pack(">IIBBBBB", width, height, bits, 4, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes(), LEVEL)), (b"IEND", b""))
    return START + b"".join(_chunk(*part) for part in parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

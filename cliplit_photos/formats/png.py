"""PNG: copies chunks unchanged, around what OpenCV encodes with 8 or 16 bits."""

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from cliplit_photos.formats.photo import Photo

START = b"\x89PNG\r\n\x1a\n"
HEADER = 33  # bytes, with that of the file
END = 12  # bytes, of the last chunk
XMP = b"XML:com.adobe.xmp\0"  # keyword
RAW_EXIF = (b"Raw profile type exif\0", b"Raw profile type APP1\0")  # ImageMagick's, before PNG had EXIF
# Chunks that stay valid for other pixels of the same colours, besides those safe to copy (a small last letter).
SAFE = (b"cHRM", b"gAMA", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"sCAL", b"tIME")
SHOWN = (b"tRNS", b"iCCP", b"eXIf", b"pHYs")  # in `Photo`, by Pillow
OTHERWISE = (b"IHDR", b"PLTE", b"IDAT", b"IEND")  # of the encoding
DROPPED = (b"sBIT", b"bKGD", b"hIST", b"sPLT", b"fcTL", b"fdAT")  # of the source's palette, depth, frames
LEVEL = 4  # of compression, 0 to 9


def chunks(content: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Names of a PNG's chunks, and the whole chunks. It stops at a truncated chunk."""
    view = memoryview(content)
    at = len(START)
    while at + 12 <= len(view):
        length, name = struct.unpack_from(">I4s", view, at)
        end = at + 12 + length
        if end > len(view):
            return
        yield name, view[at:end]
        at = end


def bare_png(content: bytes) -> bytes:
    """A PNG of only what Pillow must see, and in front of the pixels. Damaged or long data beside them cost no photo. One
    without pixels stays as it is."""
    needed, shown = [], []
    size = len(START)
    for name, chunk in chunks(content):
        size += len(chunk)
        if name[:1].isupper():
            needed.append(chunk)
        elif _is_shown(name, chunk) and _is_usable(chunk, content):
            shown.append(chunk)
    if not any(chunk[4:8] == b"IDAT" for chunk in needed):
        return content
    rest = content[size:] if content[size + 4 : size + 8] == b"IDAT" else b""  # for Pillow, which refuses it
    return b"".join([START, *needed[:1], *shown, *needed[1:], rest])


def _is_shown(name: bytes, chunk: memoryview) -> bool:
    return name in SHOWN or bytes(chunk[8:40]).startswith((XMP, *RAW_EXIF))


def _is_usable(chunk: memoryview, content: bytes) -> bool:
    """Whether the check sum of a chunk is right, and Pillow accepts it in a small PNG of the same kind."""
    if int.from_bytes(chunk[-4:], "big") != zlib.crc32(chunk[4:-4]):
        return False
    at = content.find(b"IHDR") + 12  # its depth and what follows; it should be the first chunk
    header = _chunk(b"IHDR", struct.pack(">II", 1, 1) + content[at : at + 5])
    try:
        if _is_shown(bytes(chunk[4:8]), chunk):
            Image.open(io.BytesIO(START + header + chunk + _chunk(b"IDAT", b"")), formats=["PNG"])
    except Exception:  # damaged chunks raise every kind
        return False
    return True


def read_chunks(content: bytes, photo: Photo) -> None:
    """Fill in what a PNG holds besides its pixels, profile and XMP."""
    for name, chunk in chunks(content):
        data = b"" if name == b"IDAT" else bytes(chunk[8:-4])
        if name == b"IDAT":
            photo.options.setdefault("in_front", len(photo.own))
        elif not _is_usable(chunk, content) or (name == b"iCCP" and not photo.icc):
            photo.notes.append(f"PNG's damaged chunk {name.decode('latin-1')!r} left out")
        elif name == b"acTL":
            photo.notes.append("first of several pictures taken")
        elif name == b"cICP" and data[2:] == b"\0\1":
            photo.options["cicp"] = tuple(data[:2])
        elif name in OTHERWISE or name in DROPPED or _is_shown(name, chunk):
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
    if "cicp" in photo.options:
        parts.append(_chunk(b"cICP", bytes([*photo.options["cicp"], 0, 1])))
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

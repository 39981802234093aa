"""JPEG: copies segments unchanged, around what OpenCV encodes (any subsampling, progressive)."""

import contextlib
import io
import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, BinaryIO

from PIL import Image, UnidentifiedImageError

from cliplit.errors import CliplitError
from cliplit.files.images import opened
from cliplit_photos.formats.photo import Photo

EXIF = b"Exif\0\0"
XMP = b"http://ns.adobe.com/xap/1.0/\0"
ICC = b"ICC_PROFILE\0"
PHOTOSHOP = b"Photoshop 3.0\0"  # image resources, IPTC among them
THUMBNAILS = (1033, 1036)  # image resources
LONGEST = 65533  # bytes of a segment
# Segments that `Photo` holds elsewhere, or that say how the picture was encoded.
OTHERWISE = (EXIF, XMP, ICC, PHOTOSHOP, b"JFIF\0", b"JFXX\0", b"Adobe", b"Ducky", b"MPF\0")
LOST = {
    b"FPXR\0": "FlashPix segment",
    b"JP": "APP11 segment, such as content credentials,",
}  # that apply only to the source
START, END = b"\xff\xd8", b"\xff\xd9"
# Data with every restart mark, in which a decoder goes on that has not yet finished the picture.
MORE = [b"".join(bits * 99 + bytes([0xFF, 0xD0 + n]) for n in range(8)) for bits in (b"\x55", b"\xaa", b"\xc8\x21\xfe")]
SAMPLINGS = (0x111111, 0x121111, 0x211111, 0x221111, 0x411111)  # horizontal and vertical factors, as OpenCV has them


def openable(file: BinaryIO) -> BinaryIO:
    """A JPEG without the segments of data that Pillow refuses: the same file, or one in memory.

    Raises:
        CliplitError: it has more than 8 bits.
    """
    with contextlib.suppress(UnidentifiedImageError), opened(file, 1 << 62):
        return file
    file.seek(0)
    content = file.read()
    for marker, at in _headers(content):
        bits = content[at + 4 : at + 5]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and bits > b"\x08":
            kind = "lossless JPEG" if marker & 3 == 3 else "JPEG"
            raise CliplitError(f"{kind} of {bits[0]} bits is not supported; convert it to a 16-bit TIFF or PNG")
    places = [at for _, at in _headers(content)]
    segments = [content[at:end] for at, end in pairwise([*places, len(content)])]
    bare = [segment for segment in segments if segment[1] < 0xE0]
    kept = []
    for segment in segments:
        with contextlib.suppress(Exception):  # damaged segments raise every kind
            if segment[1] >= 0xE0:
                Image.open(io.BytesIO(b"".join([START, segment, *bare])), formats=["JPEG"])
            kept.append(segment)
    return io.BytesIO(b"".join([START, *kept]))


def loaded(image: Image.Image, file: BinaryIO) -> Image.Image:
    """An opened image, decoded. A JPEG may lack its end mark: it is whole if no data in that place change its pixels."""
    try:
        image.load()
        return image
    except OSError:
        if image.format not in ("JPEG", "MPO"):
            raise
        file.seek(0)
        content = file.read().rstrip(b"\xff")  # half an end mark
        whole, *longer = (Image.open(io.BytesIO(content + more + END), formats=["JPEG"]) for more in (b"", *MORE))
        if not _is_complete(whole, content + MORE[0]) or any(other.tobytes() != whole.tobytes() for other in longer):
            raise
        return whole


def _is_complete(image: Image.Image, content: bytes) -> bool:
    """Whether the scans of a JPEG, of which a progressive one has many, begin with all bits of all coefficients."""
    missing: dict[tuple[int, int], int] = {}  # bits by component and coefficient
    at = max(place for _, place in _headers(content))
    while at > 0:
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        *components, first, last, bits = content[at + 5 : at + 2 + length]
        missing |= {(component, n): bits & 15 for component in components[::2] for n in range(first, last + 1)}
        at = content.find(b"\xff\xda", at + 4)
    return len(missing) == 64 * len(image.getbands()) and not any(missing.values())


def profile(image: Image.Image) -> bytes:
    """The colour profile in the segments of a JPEG: each part once, in their order, however they are counted."""
    segments: list[tuple[str, bytes]] = getattr(image, "applist", [])
    parts = {data[len(ICC) :] for _, data in segments if data.startswith(ICC)}
    return b"".join(part[2:] for part in sorted(parts))


def read_segments(image: Image.Image, content: bytes, photo: Photo) -> None:
    """Fill in what a JPEG holds besides its pixels.

    Args:
        image: opened by Pillow, which lists the segments.
        content: content of the file.
    """
    segments: list[tuple[str, bytes]] = getattr(image, "applist", [])
    resources = b"".join(data.removeprefix(PHOTOSHOP) for _, data in segments if data.startswith(PHOTOSHOP))
    photo.iptc = _without_thumbnails(resources)
    for name, data in segments:
        lost = [what for start, what in LOST.items() if data.startswith(start)]
        if lost:
            photo.notes = sorted({*photo.notes, f"{lost[0]} left out"})
        elif name == "COM" or not data.startswith(OTHERWISE):
            photo.own.append((name, data))
    photo.options["jfif"] = next((data[:12] for _, data in segments if data.startswith(b"JFIF\0")), b"")
    photo.options["progressive"] = bool(image.info.get("progressive"))
    layers = getattr(image, "layer", [])
    if len(layers) == 3:
        factors = "".join(f"{layer[1]:x}{layer[2]:x}" for layer in layers)
        photo.options["subsampling"] = int(factors, 16)
    behind = _behind(content)
    if behind is None:
        photo.notes.append("the end mark of the JPEG was missing")
    if any(data.startswith(b"MPF\0") for _, data in segments):
        photo.notes.append("first of several pictures taken")
    elif behind and behind.strip(b"\0"):
        photo.notes.append("what follows the picture left out (a film, or data of the maker)")


def write_jpeg(photo: Photo, quality: int) -> tuple[bytes, list[str]]:
    """The content of a JPEG file, and what it cannot hold."""
    import cv2

    notes = []
    sampling = photo.options.get("subsampling", 0x111111)
    if sampling not in SAMPLINGS:
        notes.append("unusual chroma subsampling written as 4:4:4")
        sampling = 0x111111
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        sampling,
        cv2.IMWRITE_JPEG_PROGRESSIVE,
        int(photo.options.get("progressive", False)),
    ]
    pixels = photo.pixels
    done, encoded = cv2.imencode(".jpg", pixels[..., ::-1] if pixels.shape[2] == 3 else pixels, options)
    if not done:
        raise ValueError("JPEG holds at most 65535 pixels a side")
    bare = encoded.tobytes()
    parts = [bare[:2]]
    jfif = _jfif(photo.options)
    if jfif:
        parts.append(_segment("APP0", jfif))
    for what, name, prefix, data in (
        ("EXIF", "APP1", EXIF, photo.exif),
        ("XMP", "APP1", XMP, photo.xmp),
        ("IPTC", "APP13", PHOTOSHOP, photo.iptc),
    ):
        if data and len(prefix + data) > LONGEST:
            notes.append(f"{what} left out: it is too long for a JPEG")
        elif data:
            parts.append(_segment(name, prefix + data))
    step = LONGEST - len(ICC) - 2
    profile = [photo.icc[at : at + step] for at in range(0, len(photo.icc), step)]
    parts += [_segment("APP2", ICC + bytes([n, len(profile)]) + part) for n, part in enumerate(profile, 1)]
    parts += [_segment(name, data) for name, data in photo.own]
    (length,) = struct.unpack_from(">H", bare, 4)  # of OpenCV's own APP0, which is replaced
    parts.append(bare[4 + length :])
    return b"".join(parts), notes


def _jfif(options: dict[str, Any]) -> bytes:
    """The JFIF header: that of the source, without thumbnail, or a new one for its resolution."""
    if options.get("jfif"):
        return bytes(options["jfif"]).ljust(12, b"\0") + b"\0\0"
    if "dpi" in options and "jfif" not in options:
        across, down = (min(round(dots), 65535) for dots in options["dpi"])
        return struct.pack(">5s2BBHHBB", b"JFIF\0", 1, 1, 1, across, down, 0, 0)
    return b""


def _segment(name: str, data: bytes) -> bytes:
    marker = 0xFE if name == "COM" else 0xE0 + int(name.removeprefix("APP"))
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def _headers(content: bytes) -> Iterator[tuple[int, int]]:
    """Markers and places of the segments, up to the scan."""
    at = 2
    while content[at : at + 1] == b"\xff" and at + 4 <= len(content):
        yield content[at + 1], at
        if content[at + 1] == 0xDA:
            return
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")


def _behind(content: bytes) -> bytes | None:
    """The bytes after the end of the picture; None if it has no end."""
    places = [at for _, at in _headers(content)]
    end = content.find(END, places[-1]) if places else -1
    return content[end + 2 :] if end > 0 else None


def _without_thumbnails(resources: bytes) -> bytes:
    """Photoshop's image resources without the thumbnails of the old photo."""
    kept = []
    at = 0
    while resources[at : at + 4] == b"8BIM" and at + 12 <= len(resources):
        (number,) = struct.unpack_from(">H", resources, at + 4)
        name = resources[at + 6] + 1  # bytes, with that of its length
        size_at = at + 6 + name + name % 2
        size = int.from_bytes(resources[size_at : size_at + 4], "big")
        end = size_at + 4 + size + size % 2
        if number not in THUMBNAILS:
            kept.append(resources[at:end])
        at = end
    return b"".join(kept) + resources[at:]

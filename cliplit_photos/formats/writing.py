"""Writes a photo as far as the format can hold it, and returns notes on what it cannot hold."""

import contextlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cliplit.errors import CliplitError
from cliplit.files.images import opened, to_8_bits, to_16_bits
from cliplit_photos.formats.exif import ORIENTATION, pack_block, read_block
from cliplit_photos.formats.heif import write_heif
from cliplit_photos.formats.jpeg import write_jpeg
from cliplit_photos.formats.kinds import FORMATS
from cliplit_photos.formats.photo import Photo
from cliplit_photos.formats.png import encode_png
from cliplit_photos.formats.tiff import write_tiff

QUALITY = {"JPEG": 95, "WEBP": 95, "HEIF": 90, "AVIF": 90}  # unless `Photo.options` has another one
MIDDLE = 3688  # sum of libjpeg's quantization table of quality 50
DEPTHS = {"PNG": np.uint16, "PPM": np.uint16, "HEIF": np.uint16, "TIFF": np.float32}  # the deepest; others 8 bits
WITH_ALPHA = ("PNG", "TIFF", "WEBP", "HEIF", "AVIF")
WITH_RESOLUTION = ("JPEG", "PNG", "TIFF", "BMP")
COLOUR_ONLY = ("WEBP", "HEIF", "AVIF")
# Fields of `Photo` that formats hold besides the pixels.
HELD = {
    "JPEG": ("exif", "xmp", "icc", "iptc"),
    "PNG": ("exif", "xmp", "icc"),
    "TIFF": ("exif", "xmp", "icc", "iptc"),
    "WEBP": ("exif", "xmp", "icc"),
    "HEIF": ("exif", "xmp", "icc"),
    "AVIF": ("exif", "xmp", "icc"),
    "BMP": (),
    "PPM": (),
}
PRIMARIES, TRANSFERS = (1, 2), (1, 2, 6, 13)  # by CICP (ITU-T H.273): of sRGB, or not specified
PRIMARIES_NAMED = {9: "BT.2020", 12: "Display P3"}
TRANSFERS_NAMED = {13: "sRGB", 16: "PQ", 18: "HLG"}
OWN_NAMES = {"COM": "comment", "tEXt": "text", "zTXt": "text", "iTXt": "text", "gAMA": "gamma", "cHRM": "primaries"}
NAMES = {"exif": "EXIF", "xmp": "XMP", "icc": "colour profile", "iptc": "IPTC"}


def write_photo(photo: Photo, path: Path, kind: str) -> list[str]:
    """Write a photo. Returns what the format cannot hold.

    Args:
        path: the file to write; its ending does not matter.
        kind: one of the values of `FORMATS`.
    Raises:
        OSError, ValueError: it cannot be written, or the image is too large for the format.
    """
    photo, notes = _fitting(photo, kind)
    quality = photo.options.get("quality") or QUALITY.get(kind, 0)
    if kind == "JPEG":
        content, more = write_jpeg(photo, quality)
        path.write_bytes(content)
        return notes + more
    if kind == "TIFF":
        return notes + write_tiff(photo, path)
    if kind == "PNG":
        path.write_bytes(encode_png(photo))
    elif kind == "PPM":
        height, width, channels = photo.pixels.shape
        deep = photo.pixels.dtype == np.uint16
        header = f"P{6 if channels == 3 else 5}\n{width} {height}\n{65535 if deep else 255}\n"
        path.write_bytes(header.encode() + photo.pixels.astype(">u2" if deep else "u1", copy=False).tobytes())
    elif kind == "HEIF":
        write_heif(photo, path, quality)
    else:
        _write_by_pillow(photo, path, kind, quality)
    return notes


def kind_of(path: Path, more: str = "") -> str:
    """The format of a file to write, by its ending. Raises CliplitError if it is not one of `FORMATS`."""
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise CliplitError(f"{path}: cannot write this format; use one of {', '.join(FORMATS)}{more}")
    return kind


def jpeg_quality(path: Path) -> int:
    """The quality of a JPEG file, estimated from its first quantization table; 0 if Pillow cannot tell."""
    with contextlib.suppress(Exception), open(path, "rb") as file, opened(file, 1 << 62) as image:
        coarseness = sum(image.quantization[0]) / MIDDLE  # type: ignore[attr-defined]
        return max(1, round(100 - 50 * coarseness if coarseness < 1 else 50 / coarseness))
    return 0


def _fitting(photo: Photo, kind: str) -> tuple[Photo, list[str]]:
    """The photo as far as the format can hold it, and notes on the rest."""
    notes = []
    changes: dict[str, Any] = {}
    deepest = np.dtype(DEPTHS.get(kind, np.uint8))
    if deepest.itemsize < photo.pixels.dtype.itemsize:
        notes.append(f"reduced to {8 * deepest.itemsize} bits, the most that {kind} can hold")
        narrow = partial(to_16_bits, white=1) if deepest == np.uint16 else to_8_bits
        changes["pixels"] = narrow(photo.pixels)
        changes["alpha"] = None if photo.alpha is None else narrow(photo.alpha)
    if photo.alpha is not None and kind not in WITH_ALPHA:
        notes.append(f"transparency left out: {kind} cannot hold it")
        changes["alpha"] = None
    if photo.further is not None and kind != "TIFF":
        notes.append(f"{photo.further.shape[2]} extra channels left out")
    if photo.pixels.shape[2] == 1 and kind in COLOUR_ONLY:
        notes.append(f"grey written as colours: {kind} cannot hold grey")
        if photo.icc[16:20] == b"GRAY":
            notes.append("colour profile left out: it is for grey")
            changes["icc"] = b""
    primaries, transfer = photo.options.get("cicp", (1, 1))
    if kind not in ("PNG", "HEIF") and (primaries not in PRIMARIES or transfer not in TRANSFERS):
        space = f"{PRIMARIES_NAMED.get(primaries, primaries)}, {TRANSFERS_NAMED.get(transfer, transfer)}"
        notes.append(f"colour space left out, and colours not converted: {kind} cannot hold it ({space})")
    if "dpi" in photo.options and kind not in WITH_RESOLUTION:
        notes.append(f"resolution left out: {kind} cannot hold it")
    for name in NAMES:
        if getattr(photo, name) and name not in HELD[kind]:
            notes.append(f"{NAMES[name]} left out: {kind} cannot hold it")
            changes[name] = b""
    if photo.kind != kind:
        own = sorted({OWN_NAMES.get(name, name) for name, _ in photo.own})
        if own:
            notes.append(f"data that only {photo.kind} can hold left out ({', '.join(own)})")
        changes["own"] = []
    return replace(photo, **changes), notes


def _write_by_pillow(photo: Photo, path: Path, kind: str, quality: int) -> None:
    """A WebP, AVIF or BMP."""
    options: dict[str, Any] = {"quality": quality}
    if kind == "WEBP":
        options |= {"exact": True, "lossless": photo.options.get("lossless", False)}
    if kind == "AVIF":
        block = read_block(photo.exif)
        exif = pack_block({tag: entry for tag, entry in block.tags.items() if tag != ORIENTATION}, block.order)
        options |= {"subsampling": "4:4:4", "exif": exif}  # else Pillow rewrites it
    elif photo.exif:
        options["exif"] = photo.exif
    if photo.xmp:
        options["xmp"] = photo.xmp
    if photo.icc:
        options["icc_profile"] = photo.icc
    if "dpi" in photo.options:
        options["dpi"] = photo.options["dpi"]
    channels = photo.channels
    if channels.shape[2] == 1:
        channels = channels[..., 0]
    Image.fromarray(channels).save(path, kind, **options)

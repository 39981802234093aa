"""Writes a photo as far as the format can hold it, and returns notes on what it cannot hold."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cliplit.files.images import to_8_bits, to_16_bits
from cliplit_photos.formats.exif import ORIENTATION, pack_block, read_block
from cliplit_photos.formats.heif import write_heif
from cliplit_photos.formats.jpeg import write_jpeg
from cliplit_photos.formats.photo import Photo
from cliplit_photos.formats.png import encode_png
from cliplit_photos.formats.tiff import write_tiff

QUALITY = 95  # of JPEG and WebP
FINER_QUALITY = 90  # of HEIC and AVIF, where a lower number looks the same
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
    if kind == "JPEG":
        content, more = write_jpeg(photo, QUALITY)
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
        write_heif(photo, path, FINER_QUALITY)
    else:
        _write_by_pillow(photo, path, kind)
    return notes


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
    if photo.pixels.shape[2] == 1 and kind in COLOUR_ONLY:
        notes.append(f"grey written as colours: {kind} cannot hold grey")
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


def _write_by_pillow(photo: Photo, path: Path, kind: str) -> None:
    """A WebP, AVIF or BMP."""
    options: dict[str, Any] = {"quality": QUALITY if kind == "WEBP" else FINER_QUALITY}
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

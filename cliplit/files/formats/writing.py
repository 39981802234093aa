"""Writing: as far as the format holds it, and what it does not hold is said."""

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from cliplit.files.formats.photo import BGRA, Photo, exif_block, opencv, rounded
from cliplit.files.formats.tiff import write_tiff

QUALITY = 95  # of JPEG and WebP
DEPTHS = {"PNG": np.uint16, "PPM": np.uint16, "TIFF": np.float32}  # the deepest that a format holds; others 8 bits
WITH_ALPHA = {"PNG", "TIFF", "WEBP"}


def write_photo(photo: Photo, path: Path, kind: str) -> list[str]:
    """Write a photo; returns what the format cannot hold.

    Args:
        path: where to, whatever its ending.
        kind: one of the values of `FORMATS`.
    Raises:
        OSError, ValueError: it cannot be written, or the format does not hold so large an image.
    """
    photo, notes = _fitting(photo, kind)
    if kind == "TIFF":
        write_tiff(photo, path)
    elif photo.pixels.dtype == np.uint16:
        path.write_bytes(_encode_deep(photo, kind))
    else:
        _write_plain(photo, path, kind)
    return notes


def _fitting(photo: Photo, kind: str) -> tuple[Photo, list[str]]:
    """The photo as far as the format holds it, and what it does not."""
    notes = []
    pixels = photo.pixels
    alpha = photo.alpha
    deepest = np.dtype(DEPTHS.get(kind, np.uint8))
    if deepest.itemsize < pixels.dtype.itemsize:
        notes.append(f"reduced to {8 * deepest.itemsize} bits, for {kind} holds no more")
        pixels = _to_depth(pixels, deepest)
        alpha = None if alpha is None else _to_depth(alpha, deepest)
    if alpha is not None and kind == "PNG" and pixels.dtype == np.uint16 and pixels.shape[2] == 1:
        notes.append("grey with transparency written as colour, for want of a writer of such PNG")
    if alpha is not None and kind not in WITH_ALPHA:
        notes.append(f"transparency left out, for {kind} holds none")
        alpha = None
    return replace(photo, pixels=pixels, alpha=alpha), notes


def _to_depth(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype == np.uint16:
        return (array * np.float32(65535)).round().astype(np.uint16)
    return rounded(array)


def _write_plain(photo: Photo, path: Path, kind: str) -> None:
    """A photo of 8 bits."""
    options: dict[str, Any] = {}
    if "dpi" in photo.options:
        options["dpi"] = photo.options["dpi"]
    if photo.icc:
        options["icc_profile"] = photo.icc
    if photo.exif:
        options["exif"] = b"Exif\0\0" + exif_block(photo.exif)
    if kind == "JPEG":
        options |= {"quality": QUALITY, "subsampling": 0}
        options |= {name: photo.options[name] for name in ("subsampling", "progressive") if photo.options.get(name)}
    if kind == "WEBP":
        options |= {"quality": QUALITY, "exact": True}
    if kind in ("JPEG", "WEBP") and photo.xmp:
        options["xmp"] = photo.xmp
    channels = photo.channels
    if channels.shape[2] == 1:
        channels = channels[..., 0]
    Image.fromarray(channels).save(path, kind, **options)


def _encode_deep(photo: Photo, kind: str) -> bytes:
    """A PNG or PPM of 16 bits."""
    channels = photo.channels
    if channels.shape[2] == 2:  # OpenCV writes no grey with alpha
        channels = channels[..., [0, 0, 0, 1]]
    if channels.shape[2] > 1:
        channels = channels[..., BGRA[: channels.shape[2]]]
    ending = {"PNG": ".png", "PPM": ".pgm" if channels.shape[2] == 1 else ".ppm"}[kind]
    done, encoded = opencv().imencode(ending, channels)
    if not done:
        raise ValueError(f"cannot be encoded as {kind} of 16 bits")
    return _with_notes(encoded.tobytes(), photo) if kind == "PNG" else encoded.tobytes()


def _with_notes(png: bytes, photo: Photo) -> bytes:
    """A PNG with the profile and EXIF after its header."""
    header = 33  # bytes
    out = io.BytesIO()
    out.write(png[:header])
    if photo.icc:
        PngImagePlugin.putchunk(out, b"iCCP", b"ICC Profile\0\0", zlib.compress(photo.icc))
    if photo.exif:
        PngImagePlugin.putchunk(out, b"eXIf", exif_block(photo.exif))
    if "dpi" in photo.options:
        per_metre = [round(dots / 0.0254) for dots in photo.options["dpi"]]
        PngImagePlugin.putchunk(out, b"pHYs", struct.pack(">IIB", *per_metre, 1))
    out.write(png[header:])
    return out.getvalue()

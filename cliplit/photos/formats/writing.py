"""Writing: as far as the format holds it, and what it does not hold is said."""

import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from cliplit.photos.formats.photo import Photo, exif_block, opencv, rounded
from cliplit.photos.formats.tiff import write_tiff

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
    notes, pixels, alpha = [], photo.pixels, photo.alpha
    deepest = DEPTHS.get(kind, np.uint8)
    if np.dtype(deepest).itemsize < pixels.dtype.itemsize:
        bits = 8 * np.dtype(deepest).itemsize
        notes.append(f"reduced to {bits} bits, for {kind} holds no more")
        pixels, alpha = (x if x is None else _to_depth(x, deepest) for x in (pixels, alpha))
    if alpha is not None and kind == "PNG" and pixels.dtype == np.uint16 and pixels.shape[2] == 1:
        notes.append("grey with transparency written as colour, for want of a writer of such PNG")
    if alpha is not None and kind not in WITH_ALPHA:
        notes.append(f"transparency left out, for {kind} holds none")
        alpha = None
    return replace(photo, pixels=pixels, alpha=alpha), notes


def _to_depth(array: np.ndarray, dtype: Any) -> np.ndarray:
    if dtype == np.uint16:
        return (array * np.float32(65535)).round().astype(np.uint16)
    return rounded(array)


def _joined(photo: Photo) -> np.ndarray:
    """(H, W) or (H, W, C), with alpha."""
    joined = photo.pixels if photo.alpha is None else np.dstack([photo.pixels, photo.alpha])
    return joined[..., 0] if joined.shape[2] == 1 else joined


def _write_plain(photo: Photo, path: Path, kind: str) -> None:
    options = {"dpi": photo.options["dpi"]} if "dpi" in photo.options else {}
    options |= {"icc_profile": photo.icc} if photo.icc else {}
    options |= {"exif": b"Exif\0\0" + exif_block(photo.exif)} if photo.exif else {}
    if kind == "JPEG":
        stored = {name: photo.options[name] for name in ("subsampling", "progressive") if photo.options.get(name)}
        options |= {"quality": QUALITY, "subsampling": 0} | stored
    if kind == "WEBP":
        options |= {"quality": QUALITY, "exact": True}
    if kind in ("JPEG", "WEBP") and photo.xmp:
        options["xmp"] = photo.xmp
    Image.fromarray(_joined(photo)).save(path, kind, **options)


def _encode_deep(photo: Photo, kind: str) -> bytes:
    """A PNG or PPM of 16 bits."""
    channels = _joined(photo)
    if channels.ndim == 3 and channels.shape[2] == 2:  # OpenCV writes no grey with alpha
        channels = np.dstack([photo.pixels] * 3 + [photo.alpha])
    if channels.ndim == 3:
        channels = channels[..., [2, 1, 0, 3][: channels.shape[2]]]
    done, encoded = opencv().imencode({"PNG": ".png", "PPM": ".ppm" if channels.ndim == 3 else ".pgm"}[kind], channels)
    if not done:
        raise ValueError(f"cannot be encoded as {kind} of 16 bits")
    return _with_notes(encoded.tobytes(), photo) if kind == "PNG" else encoded.tobytes()


def _with_notes(png: bytes, photo: Photo) -> bytes:
    """A PNG with the profile and EXIF after its header."""
    header, out = 33, io.BytesIO()
    out.write(png[:header])
    if photo.icc:
        PngImagePlugin.putchunk(out, b"iCCP", b"ICC Profile\0\0", zlib.compress(photo.icc))
    if photo.exif:
        PngImagePlugin.putchunk(out, b"eXIf", exif_block(photo.exif))
    if "dpi" in photo.options:
        PngImagePlugin.putchunk(
            out, b"pHYs", struct.pack(">IIB", *(round(n / 0.0254) for n in photo.options["dpi"]), 1)
        )
    out.write(png[header:])
    return out.getvalue()

"""TIFF: tifffile reads what is deep, Pillow writes the directory, for it knows EXIF."""

import logging
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, TiffTags
from PIL import TiffImagePlugin as Tiff

from cliplit.errors import CliplitError
from cliplit.files.formats.photo import (
    BGRA,
    ROWS,
    TIFF_KEPT,
    XMP,
    Photo,
    Tags,
    check_size,
    directory_of,
    kept,
    opencv,
    split,
    upright,
    upright_xmp,
)
from cliplit.files.images import ORIENTATION

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
WHITE_IS_ZERO = 0  # photometric interpretations
BLACK_IS_ZERO = 1
RGB = 2
GREY = (WHITE_IS_ZERO, BLACK_IS_ZERO)
DEEP = [np.dtype(name) for name in ("u2", "f2", "f4", "f8")]


def read_deep_tiff(path: Path, max_pixels: int) -> Photo | None:
    """A TIFF of more than 8 bits; None if it has no more."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what matters is raised
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        if max(np.atleast_1d(page.bitspersample)) <= 8:
            return None
        check_size(page.imagewidth, page.imagelength, max_pixels)
        if page.photometric not in (*GREY, RGB) or page.dtype not in DEEP:
            raise CliplitError(f"a TIFF of {_kind(page)} is not known; convert it to RGB of 16 bits")
        channels = _tiff_pixels(path, page)
        notes = []
        if len(tiff.pages) > 1:
            notes.append("first of several pictures taken")
        if channels.dtype.kind == "f":
            channels = channels.astype(np.float32, copy=False)
            notes += _clip(channels)
        if page.photometric == WHITE_IS_ZERO:
            channels = (1 if channels.dtype == np.float32 else 65535) - channels
        colours = 1 if page.photometric in GREY else 3
        if channels.shape[2] > colours + 1:
            notes.append(f"{channels.shape[2] - colours} extra channels left out")
            channels = channels[..., :colours]
        stored: dict[str, Any] = {"compressed": page.compression != 1}
        if Tiff.X_RESOLUTION in page.tags:
            stored["dpi"] = page.get_resolution("inch")
        icc = page.tags.valueof(Tiff.ICCPROFILE, b"")
        xmp = upright_xmp(page.tags.valueof(XMP, b""))
        orientation = page.tags.valueof(ORIENTATION, 1)
    pixels, alpha = split(upright(channels, orientation))
    return Photo(pixels, alpha, _exif(path), icc, xmp, stored, notes)


def _exif(path: Path) -> Tags:
    exif = Image.Exif()
    with open(path, "rb") as file:
        exif.load_from_fp(file)
        return kept(exif, TIFF_KEPT)


def _kind(page: Any) -> str:
    photometric = getattr(page.photometric, "name", str(page.photometric)).lower()
    return f"{np.max(page.bitspersample)}-bit {page.dtype or 'samples'} in {photometric} colours"


def _tiff_pixels(path: Path, page: Any) -> np.ndarray:
    """(H, W, C) of a page; OpenCV decompresses what tifffile alone cannot, such as LZW."""
    if page.compression in (1, 8, 32946, 32773):
        pixels = page.asarray()
        pixels = np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels
    else:
        if page.planarconfig == 2 and page.samplesperpixel > 1:
            raise CliplitError("a TIFF of compressed separate planes is not known; save it without compression")
        content = np.fromfile(path, np.uint8)
        if ORIENTATION in page.tags:  # which OpenCV follows, but not always
            place = page.tags[ORIENTATION].valueoffset
            content[place : place + 2] = np.array([1], page.parent.byteorder + "u2").view(np.uint8)
        pixels = opencv().imdecode(content, -1)
        if pixels is None:
            raise CliplitError("cannot be decompressed; mend the file, or save it with another compression")
        if pixels.ndim == 3 and pixels.shape[2] > 2:
            pixels = pixels[..., BGRA[: pixels.shape[2]]]
    return pixels.reshape(*pixels.shape[:2], -1)


def _clip(channels: np.ndarray) -> list[str]:
    """Bring floats into [0, 1], in place."""
    low = channels.min()
    high = channels.max()
    if not np.isfinite(low) or not np.isfinite(high):
        raise CliplitError("holds values that are not numbers, or infinite")
    if low >= 0 and high <= 1:
        return []
    np.clip(channels, 0, 1, out=channels)
    return ["values outside [0, 1] clipped"]


def write_tiff(photo: Photo, path: Path) -> None:
    """Write a TIFF of any depth, its strips straight from the pixels, deflated if the source was compressed."""
    channels = photo.channels
    height, width, count = channels.shape
    deflated = photo.options.get("compressed", False)
    floats = channels.dtype.kind == "f"
    strips = [channels[top : top + ROWS] for top in range(0, height, ROWS)]
    packed = [_deflated(strip) if deflated else np.ascontiguousarray(strip).data for strip in strips]
    sizes = [memoryview(data).nbytes for data in packed]
    tags = {
        Tiff.IMAGEWIDTH: width,
        Tiff.IMAGELENGTH: height,
        Tiff.BITSPERSAMPLE: (8 * channels.dtype.itemsize,) * count,
        Tiff.COMPRESSION: 8 if deflated else 1,
        Tiff.PHOTOMETRIC_INTERPRETATION: BLACK_IS_ZERO if count < 3 else RGB,
        Tiff.SAMPLESPERPIXEL: count,
        Tiff.ROWSPERSTRIP: ROWS,
        Tiff.STRIPOFFSETS: tuple(np.cumsum([0, *sizes[:-1]]).tolist()),
        Tiff.STRIPBYTECOUNTS: tuple(sizes),
        Tiff.PLANAR_CONFIGURATION: 1,
        Tiff.PREDICTOR: 2 if deflated and not floats else None,
        Tiff.EXTRASAMPLES: None if photo.alpha is None else 2,
        Tiff.SAMPLEFORMAT: (3 if floats else 1,) * count,
        Tiff.ICCPROFILE: photo.icc or None,
        XMP: photo.xmp or None,
        **_resolution(photo.options.get("dpi")),
        **{tag: value for tag, value in photo.exif.items() if tag in TIFF_KEPT},
    }
    directory = directory_of({tag: value for tag, value in tags.items() if value is not None})
    directory.tagtype[Tiff.STRIPOFFSETS] = TiffTags.LONG
    with open(path, "wb") as file:
        directory.save(file)
        file.writelines(packed)


def _deflated(strip: np.ndarray) -> bytes:
    """Compressed, integers as differences from the pixel to the left."""
    if strip.dtype.kind != "f":
        strip = np.concatenate([strip[:, :1], np.diff(strip, axis=1)], 1)
    return zlib.compress(strip.tobytes())


def _resolution(dpi: tuple[float, float] | None) -> dict[int, Any]:
    """Tags of dots per inch, across and down."""
    if not dpi:
        return {}
    return {Tiff.X_RESOLUTION: dpi[0], Tiff.Y_RESOLUTION: dpi[1], Tiff.RESOLUTION_UNIT: 2}

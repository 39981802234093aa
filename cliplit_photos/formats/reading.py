"""Reads photos: Pillow reads 8 bits, and the library made for a format reads the rest."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from cliplit.errors import CliplitError
from cliplit.files.images import (
    MAX_PIXELS,
    ROWS,
    cmyk_transform,
    deep_pixels,
    errors_named,
    opened,
    orientation_of,
    tiff_page,
    upright,
)
from cliplit_photos.formats import heif, jpeg, png, raw, tiff
from cliplit_photos.formats.exif import ORIENTATION, upright_block
from cliplit_photos.formats.kinds import RAW, UNREAD
from cliplit_photos.formats.photo import Photo, split
from cliplit_photos.formats.xmp import upright_xmp

WITH_OWN = ("JPEG", "MPO", "PNG", "WEBP")  # hold more than Pillow reports
HEAD = 4096  # bytes of a file that show its kind


def read_photo(path: str | Path, max_pixels: int = MAX_PIXELS) -> Photo:
    """Read a photo, whatever its ending.

    Raises:
        CliplitError: not a photo, truncated, in an unsupported format, or larger than `max_pixels`; names the file.
    """
    path = Path(path)
    with errors_named(path, UNREAD), open(path, "rb") as file:
        photo = _read(file, path, max_pixels)
        height, width = photo.pixels.shape[:2]
        photo.exif, notes = upright_block(photo.exif, width, height)
        photo.xmp, more = upright_xmp(photo.xmp)
        photo.notes += notes + more
        return photo


def photo_size(path: str | Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Width and height of a photo as shown, from the header of its file.

    Raises:
        CliplitError: as `read_photo` does.
    """
    path = Path(path)
    with errors_named(path, UNREAD), open(path, "rb") as file:
        if path.suffix.lower() in RAW:
            with raw.open_raw(path, max_pixels) as undeveloped:
                sizes = undeveloped.sizes
                return (sizes.iheight, sizes.iwidth) if sizes.flip & 4 else (sizes.iwidth, sizes.iheight)
        if heif.is_heif(file.read(HEAD)):
            return heif.open_heif(path, max_pixels).size
        with tiff_page(file, max_pixels, UNREAD) as page:
            if page is not None:
                size, orientation = (page.imagewidth, page.imagelength), page.tags.valueof(ORIENTATION, 1)
        if page is None:
            with opened(file, max_pixels) as image:
                if image.format == "PNG" and png.says_more_behind(path):
                    image.load()
                size, orientation = image.size, orientation_of(image)
        return (size[1], size[0]) if orientation in (5, 6, 7, 8) else size


def _read(file: BinaryIO, path: Path, max_pixels: int) -> Photo:
    """A photo with its EXIF and XMP unchanged."""
    if path.suffix.lower() in RAW:
        return raw.read_raw(path, max_pixels)
    start = file.read(HEAD)
    if heif.is_heif(start):
        return heif.read_heif(path, max_pixels)
    photo = tiff.read_tiff(file, max_pixels)
    if photo is None:
        with opened(file, max_pixels) as image:
            photo = _of_pillow(image, file, start)
    if photo.kind == "TIFF":
        tiff.read_tags(path, photo)
    return photo


def _of_pillow(image: Image.Image, file: BinaryIO, start: bytes) -> Photo:
    """An opened image with everything in its file."""
    several = image.format != "MPO" and _frames(image) > 1  # JPEG's segments show an MPO
    image.load()
    file.seek(0)
    content = file.read() if image.format in WITH_OWN else b""
    deep = deep_pixels(file, image)
    if deep is not None:
        if deep.shape[2] == 1 and "transparency" in image.info:
            alpha = np.where(deep == image.info["transparency"], 0, 65535)
            deep = np.dstack([deep, alpha.astype(np.uint16)])
        photo = Photo(*split(upright(deep, orientation_of(image))))
    elif image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise CliplitError(f"{image.format} of this depth is not supported; convert it to a 16-bit TIFF or PNG")
    else:
        photo = _pixels(image)
    photo.kind = {"MPO": "JPEG", "DIB": "BMP"}.get(str(image.format), str(image.format))
    if several:
        photo.notes.append("first of several pictures taken")
    info = image.info
    photo.icc = b"" if image.mode == "CMYK" else info.get("icc_profile") or b""
    photo.xmp = _bytes(info.get("xmp"))
    photo.exif = _bytes(info.get("exif")) or png.unpacked(info)
    if info.get("dpi"):
        photo.options["dpi"] = tuple(float(dots) for dots in info["dpi"])
    if photo.kind == "JPEG":
        jpeg.read_segments(image, content, photo)
    if photo.kind == "PNG":
        png.read_chunks(content, photo)
    if photo.kind == "WEBP":
        photo.options["lossless"] = b"VP8L" in content[: content.find(b"ANMF")]
    depth_at = start.find(b"pixi") + 9
    if photo.kind == "AVIF" and depth_at >= 9 and start[depth_at : depth_at + 1] > b"\x08":
        photo.notes.append("read as 8 bits: there is no deeper reader for AVIF")
    if photo.kind == "GIF" and image.info.get("comment"):
        photo.own.append(("comment", image.info["comment"]))
    return photo


def _frames(image: Image.Image) -> int:
    """Number of pictures; 1 if those after the first one are damaged."""
    try:
        return getattr(image, "n_frames", 1)
    except Exception:  # damaged frames raise every kind
        return 1


def _pixels(image: Image.Image) -> Photo:
    """Pixels of 8 bits from a loaded image, strip by strip into an upright array."""
    transform = cmyk_transform(image)
    notes = []
    if image.mode == "CMYK":
        notes = ["CMYK converted to RGB" if transform else "CMYK converted to RGB without a profile"]
    grey = image.mode in ("1", "L", "LA", "La")
    transparent = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    mode = ("L" if grey else "RGB") + ("A" if transparent else "")
    width, height = image.size
    orientation = orientation_of(image)
    size = (width, height) if orientation >= 5 else (height, width)
    channels = np.empty((*size, len(mode)), np.uint8)
    lying = upright(channels, {6: 8, 8: 6}.get(orientation, orientation))  # each other turn is its own reverse
    for top in range(0, height, ROWS):
        bottom = min(top + ROWS, height)
        strip = image.crop((0, top, width, bottom))
        converted = transform.apply(strip) if transform else strip.convert(mode)
        lying[top:bottom] = np.asarray(converted).reshape(bottom - top, width, -1)
    return Photo(*split(channels), notes=notes)


def _bytes(found: bytes | str | None) -> bytes:
    return found.encode() if isinstance(found, str) else found or b""

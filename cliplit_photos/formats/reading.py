"""Reads photos: Pillow reads 8 bits, and the library made for a format reads the rest."""

import io
import struct
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
    size_in,
    upright,
)
from cliplit_photos.formats import heif, jpeg, png, raw, tiff
from cliplit_photos.formats.exif import upright_block
from cliplit_photos.formats.kinds import RAW, UNREAD
from cliplit_photos.formats.photo import Photo, fits, split
from cliplit_photos.formats.xmp import upright_xmp

WITH_OWN = ("JPEG", "MPO", "PNG", "WEBP", "AVIF")  # hold more than Pillow reports
HEAD = 4096  # bytes of a file that show its kind


def read_photo(path: str | Path, max_pixels: int = MAX_PIXELS) -> Photo:
    """Read a photo, whatever its ending.

    Raises:
        CliplitError: not a photo, truncated, in an unsupported format, or larger than `max_pixels`; names the file.
    """
    path = Path(path)
    with errors_named(path, UNREAD), open(path, "rb") as file:
        photo = _read(file, path, max_pixels)
        put_right(photo)
        return photo


def put_right(photo: Photo) -> None:
    """Let EXIF, XMP and profile fit the pixels of a photo, which were turned upright from `options["orientation"]`."""
    if photo.icc and not fits(photo.icc, photo.pixels.shape[2]):
        photo.icc = b""
        photo.notes.append("colour profile left out: it is damaged, or made for other colours")
    height, width = photo.pixels.shape[:2]
    orientation = photo.options.get("orientation", 1)
    photo.exif, notes = upright_block(photo.exif, width, height, orientation)
    photo.xmp, more = upright_xmp(photo.xmp, width, height, orientation, photo.kind == "RAW")
    photo.notes += notes + more


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
        return size_in(_alone(file), max_pixels, UNREAD)


def _alone(file: BinaryIO) -> BinaryIO:
    """The file itself, or one in memory that readers open at the right picture and are not kept from its pixels."""
    file.seek(0)
    head = file.read(len(png.START))
    file.seek(0)
    if head == png.START:
        return io.BytesIO(png.bare_png(file.read()))
    return jpeg.openable(file) if head.startswith(jpeg.START) else tiff.largest_first(file)


def _read(file: BinaryIO, path: Path, max_pixels: int) -> Photo:
    """A photo with its EXIF and XMP unchanged."""
    if path.suffix.lower() in RAW:
        return raw.read_raw(path, max_pixels)
    if heif.is_heif(file.read(HEAD)):
        return heif.read_heif(path, max_pixels)
    alone = _alone(file)
    photo = tiff.read_tiff(alone, max_pixels)
    if photo is None:
        with opened(alone, max_pixels) as image:
            photo = _of_pillow(image, alone, file)
    if photo.kind == "TIFF":
        tiff.read_tags(file, alone, photo)
    return photo


def _of_pillow(image: Image.Image, alone: BinaryIO, file: BinaryIO) -> Photo:
    """An opened image with everything in its file."""
    several = image.format not in ("MPO", "TIFF") and _frames(image) > 1  # these are counted elsewhere
    image = jpeg.loaded(image, alone)
    file.seek(0)
    content = file.read() if image.format in WITH_OWN else b""
    if image.format in ("JPEG", "MPO"):
        image.info["icc_profile"] = jpeg.profile(image)
    deep = deep_pixels(alone, image)
    if deep is not None:
        if deep.shape[2] == 1 and "transparency" in image.info:
            alpha = np.where(deep == image.info["transparency"], 0, 65535)
            deep = np.dstack([deep, alpha.astype(np.uint16)])
        photo = Photo(*split(upright(deep, orientation_of(image))))
    elif image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise CliplitError(f"{image.format} of this depth is not supported; convert it to a 16-bit TIFF or PNG")
    else:
        photo = _pixels(image)
    photo.options["orientation"] = orientation_of(image)
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
        photo.notes += ["damaged segments of the JPEG left out"] if alone is not file else []
        jpeg.read_segments(image, content, photo)
    if photo.kind == "PNG":
        png.read_chunks(content, photo)
    if photo.kind == "WEBP":
        photo.options["lossless"] = b"VP8L" in content[: content.find(b"ANMF")]
    if photo.kind == "AVIF":
        if b"pixi" in content[:HEAD] and content[content.find(b"pixi") + 9] > 8:
            photo.notes.append("read as 8 bits: there is no deeper reader for AVIF")
        if b"colrnclx" in content[:HEAD] and not photo.icc:
            photo.options["cicp"] = struct.unpack_from(">HH", content, content.find(b"colrnclx") + 8)
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

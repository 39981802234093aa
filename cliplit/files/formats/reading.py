"""Reading: by Pillow, and by OpenCV what is deep; `tiff.py` reads deep TIFF."""

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageFile, JpegImagePlugin

from cliplit.errors import CliplitError, one_line
from cliplit.files.formats.photo import (
    BGRA,
    MAX_PIXELS,
    ROWS,
    TIFF_KEPT,
    Photo,
    check_size,
    kept,
    opencv,
    split,
    turned,
    upright,
    upright_canvas,
    upright_xmp,
)
from cliplit.files.formats.tiff import TIFF_STARTS, read_deep_tiff
from cliplit.files.images import ORIENTATION, readable


def read_photo(path: str | Path, max_pixels: int = MAX_PIXELS) -> Photo:
    """Read a photo.

    Pillow has a limit of its own, lower than `max_pixels`, unless `without_pillows_limit`.

    Raises:
        CliplitError: not a photo, truncated, of a kind that is not known, or larger than `max_pixels`; names the file.
    """
    path = Path(path)
    try:
        deep = read_deep_tiff(path, max_pixels) if _starts(path) in TIFF_STARTS else None
        if deep:
            return deep
        with readable(path) as image:
            check_size(*image.size, max_pixels)
            return _read_deep(path, image) if _is_deep(image) else _read_plain(image)
    except CliplitError as error:
        raise error if str(error).startswith(str(path)) else CliplitError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise CliplitError(f"{path}: no such file") from None
    except MemoryError:
        raise CliplitError(f"{path}: more pixels than this machine has memory for") from None
    except Exception as error:  # there is nothing that a broken file cannot make a decoder raise
        raise CliplitError(f"{path}: cannot be read as an image ({one_line(error)}); mend or remove the file") from None


@contextlib.contextmanager
def without_pillows_limit() -> Iterator[None]:
    """Lift Pillow's limit of pixels, a variable of its own, where `read_photo` checks them."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _starts(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(4)


def _read_plain(image: Image.Image) -> Photo:
    """A photo of 8 bits from an opened file."""
    notes = []
    if getattr(image, "is_animated", False) and image.format != "MPO":
        notes.append("first of several pictures taken")
    if image.mode == "CMYK":
        notes.append("CMYK converted to RGB")
    mode = _plain_mode(image)
    convert = _converter(image, mode)
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise CliplitError(f"{image.format} of more than 8 bits is not known; convert it to a TIFF or PNG of 16 bits")
    exif = kept(image.getexif(), only=TIFF_KEPT if image.format == "TIFF" else None)  # `load` may close the file
    image.load()
    orientation = image.getexif().get(ORIENTATION, 1)  # `load` turns a TIFF
    width, height = image.size
    channels = upright_canvas(orientation, height, width, len(mode), np.uint8)
    lying = turned(channels, orientation)
    for top in range(0, height, ROWS):
        bottom = min(top + ROWS, height)
        strip = convert(image.crop((0, top, width, bottom)))
        lying[top:bottom] = np.asarray(strip).reshape(bottom - top, width, -1)
    return Photo(
        *split(channels),
        exif=exif,
        icc=b"" if image.mode == "CMYK" else image.info.get("icc_profile") or b"",
        xmp=upright_xmp(image.info.get("xmp") or b""),
        options=_stored(image),
        notes=notes,
    )


def _plain_mode(image: Image.Image) -> str:
    """The mode that holds all that the image's own mode does."""
    grey = image.mode in ("1", "L", "LA", "La")
    transparent = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    if grey:
        return "LA" if transparent else "L"
    return "RGBA" if transparent else "RGB"


def _converter(image: Image.Image, mode: str) -> Callable[[Image.Image], Image.Image]:
    """Conversion of strips to a mode; of CMYK to sRGB by the image's profile, if it has a good one."""
    if image.mode == "CMYK" and "icc_profile" in image.info:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
            transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), "CMYK", "RGB")
            return transform.apply
        except (OSError, ImageCms.PyCMSError):
            pass
    return lambda strip: strip.convert(mode)


def _stored(image: Image.Image) -> dict[str, Any]:
    """How the file holds the pixels, as `Photo.options`."""
    stored: dict[str, Any] = {}
    if image.info.get("dpi"):
        stored["dpi"] = tuple(float(value) for value in image.info["dpi"])
    if image.format in ("JPEG", "MPO"):
        stored["subsampling"] = max(0, JpegImagePlugin.get_sampling(image))
        stored["progressive"] = bool(image.info.get("progressive"))
    if image.format == "TIFF":
        stored["compressed"] = image.info.get("compression", "raw") != "raw"
    return stored


def _is_deep(image: Image.Image) -> bool:
    """Whether a PNG or PPM has 16 bits."""
    if not isinstance(image, ImageFile.ImageFile) or not image.tile:
        return False
    arguments = image.tile[0][3]  # of the decoder: the raw mode, for a PPM also the value of white
    if image.format == "PNG":
        return "16" in str(arguments)
    if image.format == "PPM":
        return "16" in str(arguments) or (isinstance(arguments, tuple) and arguments[-1] > 255)
    return False


def _read_deep(path: Path, image: Image.Image) -> Photo:
    """A PNG or PPM of 16 bits."""
    grey = _plain_mode(image)[0] == "L" or image.mode[0] == "I"
    if image.format == "PNG":
        with Image.open(path) as again:
            again.verify()  # OpenCV may not mind a file that ends early
    channels = opencv().imdecode(np.fromfile(path, np.uint8), -1)
    if channels is None:
        raise CliplitError("cannot be read as an image; mend or remove the file")
    channels = channels.reshape(*channels.shape[:2], -1)
    if channels.shape[2] > 2:
        channels = channels[..., [0, 3] if grey else BGRA[: channels.shape[2]]]
    orientation = image.getexif().get(ORIENTATION, 1)
    return Photo(
        *split(upright(channels, orientation)),
        exif=kept(image.getexif()),
        icc=image.info.get("icc_profile") or b"",
        options=_stored(image),
    )

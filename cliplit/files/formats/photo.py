"""A photo in memory: its pixels, upright, and its tags (EXIF, XMP), as far as they can be written again."""

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

from cliplit.errors import CliplitError
from cliplit.files.folders import EXTENSIONS
from cliplit.files.images import ORIENTATION, to_8_bits

MAX_PIXELS = 1 << 28  # 268 megapixels; an honest photo has fewer, a decompression bomb more
READ = EXTENSIONS | {".gif"}
FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".ppm": "PPM",
}
ROWS = 256  # of a strip
BGRA = [2, 1, 0, 3]  # order of OpenCV's channels

Tags = dict[int, Any]  # EXIF by number; directories below are dictionaries in it
XMP = 700
DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)  # below, with tags of their own
# What a TIFF says of the photo rather than of its own layout: description, camera, software, times, people, rights,
# ratings, IPTC.
TIFF_KEPT = (270, 271, 272, 305, 306, 315, 316, 18246, 18249, 33432, 33723, *DIRECTORIES)


@dataclass
class Photo:
    """A photo as shown, upright, with what its file says beside the pixels.

    Attributes:
        pixels: (H, W, 3), or (H, W, 1) for grey, of uint8, uint16 or float32 in [0, 1], in the colours of `icc`.
        alpha: (H, W) of the same type, or None.
        exif: without orientation, thumbnail and, of a TIFF, layout.
        icc: colour profile; empty for sRGB.
        xmp: without orientation.
        options: how the source was stored: chroma subsampling, compression, resolution.
        notes: what could not be kept.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    exif: Tags = field(default_factory=dict)
    icc: bytes = b""
    xmp: bytes = b""
    options: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def channels(self) -> np.ndarray:
        """Colours and alpha, if there is one: (H, W, 1 to 4)."""
        return self.pixels if self.alpha is None else np.dstack([self.pixels, self.alpha])


def check_size(width: int, height: int, limit: int) -> None:
    """Raise CliplitError above the limit of pixels."""
    if width * height > limit:
        raise CliplitError(
            f"{width} x {height} pixels, above the limit of {limit} against decompression bombs; --max-pixels lifts it"
        )


def upright_canvas(orientation: int, height: int, width: int, channels: int, dtype: Any) -> np.ndarray:
    """An array for the upright image of what lies in a file as (height, width)."""
    return np.empty((width, height, channels) if orientation >= 5 else (height, width, channels), dtype)


def turned(upright: np.ndarray, orientation: int) -> np.ndarray:
    """A view of an upright image as it lies in a file of this EXIF orientation."""
    if orientation >= 5:
        upright = upright.swapaxes(0, 1)
    down = -1 if orientation in (3, 4, 6, 7) else 1
    right = -1 if orientation in (2, 3, 7, 8) else 1
    return upright[::down, ::right]


def upright(lying: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels as they lie in a file of this orientation, turned."""
    if orientation == 1:
        return lying
    height, width, channels = lying.shape
    canvas = upright_canvas(orientation, height, width, channels, lying.dtype)
    turned(canvas, orientation)[:] = lying
    return canvas


def split(channels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Colours (H, W, 1 or 3) and alpha (H, W), if there is one."""
    if channels.shape[2] % 2:
        return np.ascontiguousarray(channels), None
    return np.ascontiguousarray(channels[..., :-1]), np.ascontiguousarray(channels[..., -1])


def reduced(pixels: np.ndarray, side: int) -> Image.Image:
    """A small picture (8 bits, RGB) of a photo, its longer side at most `side` pixels."""
    step = max(1, max(pixels.shape[:2]) // (4 * side))  # then little is lost, and little memory needed
    small = rounded(pixels[::step, ::step])
    colours = np.broadcast_to(small, (*small.shape[:2], 3))
    image = Image.fromarray(np.ascontiguousarray(colours))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def rounded(array: np.ndarray) -> np.ndarray:
    """Pixels of any type in 8 bits, strip by strip."""
    if array.dtype == np.uint8:
        return array
    result = np.empty(array.shape, np.uint8)
    for top in range(0, len(array), ROWS):
        strip = array[top : top + ROWS]
        result[top : top + ROWS] = (strip * 255).round() if strip.dtype == np.float32 else to_8_bits(strip)
    return result


def opencv() -> Any:
    """OpenCV, silent."""
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what matters is raised
    return cv2


def kept(exif: Image.Exif, only: tuple[int, ...] | None = None) -> Tags:
    """Tags that can be written again, without orientation and thumbnail; of a TIFF certain tags `only`."""
    tags: Tags = {}
    for tag, value in exif.items():
        if tag in DIRECTORIES:
            tags[tag] = {
                inner: content
                for inner, content in exif.get_ifd(tag).items()
                if inner != ExifTags.IFD.Interop and _can_be_written(inner, content, tag)
            }
        elif tag != ORIENTATION and (only is None or tag in only) and _can_be_written(tag, value):
            tags[tag] = value
    return tags


def directory_of(tags: Tags, group: int | None = None) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Tags as Pillow writes them; those of a directory below belong to its number, the group."""
    directory = TiffImagePlugin.ImageFileDirectory_v2(group=group)
    for tag, value in tags.items():
        directory[tag] = value
    return directory


def exif_block(tags: Tags) -> bytes:
    """The content of an EXIF block."""
    return b"II*\0\x08\0\0\0" + directory_of(tags).tobytes(8)


def upright_xmp(xmp: bytes | str) -> bytes:
    """XMP without the orientation that has been applied."""
    if isinstance(xmp, str):
        xmp = xmp.encode()
    return re.sub(rb"""(tiff:Orientation(?:=["']|>))\d""", rb"\g<1>1", xmp)


def _can_be_written(tag: int, value: Any, group: int | None = None) -> bool:
    """Whether Pillow can write a value: broken EXIF has many that it reads only."""
    try:
        return bool(directory_of({tag: value}, group).tobytes())
    except Exception:  # of any kind
        return False

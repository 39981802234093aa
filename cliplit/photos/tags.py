"""EXIF and XMP, as far as they are about the photo and not about its file."""

import re
from typing import Any

from PIL import ExifTags, Image, TiffImagePlugin

from cliplit.files.images import ORIENTATION

Tags = dict[int, Any]  # EXIF by number; directories below are dictionaries in it

XMP, SUB_IFDS = 700, (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
# What a TIFF says of the photo rather than of its own layout: description, camera, software, times, people, rights,
# ratings, IPTC.
TIFF_KEPT = (270, 271, 272, 305, 306, 315, 316, 18246, 18249, 33432, 33723, *SUB_IFDS)


def kept(exif: Image.Exif, only: tuple[int, ...] | None = None) -> Tags:
    """What can be written again, without orientation and thumbnail; of a TIFF certain tags `only`."""
    kept: Tags = {}
    for tag, value in exif.items():
        if tag in SUB_IFDS:
            below = exif.get_ifd(tag)
            kept[tag] = {t: v for t, v in below.items() if t != ExifTags.IFD.Interop and _can_be_written(t, v, tag)}
        elif tag != ORIENTATION and (only is None or tag in only) and _can_be_written(tag, value):
            kept[tag] = value
    return kept


def directory_of(tags: Tags, group: int | None = None) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Tags as Pillow writes them; those of a directory below belong to its number, the group."""
    directory = TiffImagePlugin.ImageFileDirectory_v2(group=group)
    for tag, value in tags.items():
        directory[tag] = value
    return directory


def _can_be_written(tag: int, value: Any, group: int | None = None) -> bool:
    """Whether Pillow can write a value: broken EXIF has many that it reads only."""
    try:
        return bool(directory_of({tag: value}, group).tobytes())
    except Exception:  # of any kind
        return False


def exif_block(tags: Tags) -> bytes:
    """The content of an EXIF block."""
    return b"II*\0\x08\0\0\0" + directory_of(tags).tobytes(8)


def upright_xmp(xmp: bytes | str) -> bytes:
    """XMP without the orientation that has been applied."""
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    return re.sub(rb"""(tiff:Orientation(?:=["']|>))\d""", rb"\g<1>1", xmp)

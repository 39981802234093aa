"""HEIC, the format of phones, by libheif."""

from pathlib import Path
from typing import Any

import numpy as np

from cliplit.files.images import check_size
from cliplit_photos.formats.exif import ORIENTATION, PREFIX, read_block
from cliplit_photos.formats.photo import Photo, extra, split

BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1")


def is_heif(start: bytes) -> bool:
    """Whether these first bytes of a file are those of a HEIC, and not of an AVIF, which Pillow reads."""
    return start[4:8] == b"ftyp" and any(brand in start[8:64] for brand in BRANDS) and b"avi" not in start[8:64]


def open_heif(path: Path, max_pixels: int) -> Any:
    """A HEIC, not yet decoded, with at most `max_pixels`."""
    opened = extra("pillow_heif").open_heif(path, convert_hdr_to_8bit=False)
    width, height = opened.size
    check_size(width, height, max_pixels)
    return opened


def read_heif(path: Path, max_pixels: int) -> Photo:
    """A HEIC of 8, 10 or 12 bits, turned upright by libheif."""
    opened = open_heif(path, max_pixels)
    array = np.asarray(opened)
    info = opened.info
    photo = Photo(*split(array.reshape(*array.shape[:2], -1)), kind="HEIF")
    photo.exif = info.get("exif") or b""
    photo.xmp = info.get("xmp") or b""
    photo.icc = info.get("icc_profile") or b""
    turned = read_block(photo.exif.removeprefix(PREFIX)).number(
        ORIENTATION, 1
    )  # as phones say it, besides the container
    photo.options["orientation"] = turned if turned in range(1, 9) else 1
    nclx = info.get("nclx_profile")
    if nclx and not photo.icc:
        photo.options["cicp"] = (int(nclx["color_primaries"]), int(nclx["transfer_characteristics"]))
    if len(opened) > 1:
        photo.notes.append("first of several pictures taken")
    if info.get("depth_images") or info.get("aux"):
        photo.notes.append("gain map or depth left out")
    return photo


def write_heif(photo: Photo, path: Path, quality: int) -> None:
    """Write a HEIC of 8 bits, or of 10 bits if the photo has more than 8."""
    pillow_heif = extra("pillow_heif")
    channels = photo.channels
    deep = channels.dtype == np.uint16
    if channels.shape[2] < 3:  # libheif has no grey with alpha
        channels = channels[..., [0, 0, 0, *range(1, channels.shape[2])]]
    mode = ("RGB", "RGBA")[channels.shape[2] - 3] + (";16" if deep else "")
    image = pillow_heif.from_bytes(mode, channels.shape[1::-1], np.ascontiguousarray(channels).tobytes())
    options: dict[str, Any] = {"quality": quality, "chroma": 444, "format": "HEIF"}
    if "cicp" in photo.options:
        primaries, transfer = photo.options["cicp"]
        options |= {"color_primaries": primaries, "transfer_characteristics": transfer, "full_range_flag": 1}
        options["matrix_coefficients"] = 9 if primaries == 9 else 6
    if photo.exif:
        options["exif"] = b"Exif\0\0" + photo.exif
    if photo.xmp:
        options["xmp"] = photo.xmp
    if photo.icc:
        image.info["icc_profile"] = photo.icc
        image.info["icc_profile_type"] = "prof"
    with open(path, "wb") as file:
        image.save(file, **options)

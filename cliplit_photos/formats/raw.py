"""Camera RAW, developed by LibRaw (the extra `photos`): 16 bits, in sRGB, with the camera's white balance."""

import contextlib
import io
import mmap
from pathlib import Path
from typing import Any

from PIL import Image

from cliplit.errors import CliplitError
from cliplit.files.images import check_size
from cliplit_photos.formats.exif import EXIF, GPS, pack_block, read_block
from cliplit_photos.formats.photo import Photo, extra
from cliplit_photos.formats.tiff import XMP, resources, value

KEPT = (270, 271, 272, 305, 306, 315, 18246, 33432, EXIF, GPS)  # description, camera, software, time, people, rating
TURNS = {3: 3, 5: 8, 6: 6}  # LibRaw's, as orientations


def open_raw(path: Path, max_pixels: int) -> Any:
    """A RAW, not yet developed, with at most `max_pixels`."""
    rawpy = extra("rawpy")
    try:
        raw = rawpy.imread(str(path))
    except rawpy.LibRawError as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else error
        raise CliplitError(f"LibRaw cannot read this RAW ({reason}); convert it to DNG or TIFF") from None
    check_size(raw.sizes.iwidth, raw.sizes.iheight, max_pixels)
    return raw


def read_raw(path: Path, max_pixels: int) -> Photo:
    """A RAW, developed with its own exposure and turned upright by LibRaw."""
    with open_raw(path, max_pixels) as raw:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            block = read_block(content)  # most RAW files are built like a TIFF
        exif = pack_block({tag: entry for tag, entry in block.tags.items() if tag in KEPT}, block.order)
        xmp, iptc = value(block.tags, XMP), resources(block.tags)
        if not exif:
            exif, xmp = _of_thumbnail(raw)
        orientation = TURNS.get(raw.sizes.flip, 1)
        pixels = raw.postprocess(use_camera_wb=True, no_auto_bright=True, output_bps=16)
    notes = ["RAW developed to 16 bits, in sRGB"] + ([] if exif else ["EXIF of this kind of RAW left out"])
    return Photo(pixels, kind="RAW", exif=exif, xmp=xmp, iptc=iptc, options={"orientation": orientation}, notes=notes)


def _of_thumbnail(raw: Any) -> tuple[bytes, bytes]:
    """EXIF and XMP of any other RAW, from its JPEG thumbnail, if that has them."""
    import rawpy

    with contextlib.suppress(rawpy.LibRawError, OSError, SyntaxError):
        thumbnail = raw.extract_thumb()
        if thumbnail.format == rawpy.ThumbFormat.JPEG:
            with Image.open(io.BytesIO(thumbnail.data), formats=["JPEG"]) as image:
                return image.info.get("exif", b""), image.info.get("xmp", b"")
    return b"", b""

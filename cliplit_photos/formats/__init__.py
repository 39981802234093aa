"""Reads and writes photo files faithfully: depth, transparency, metadata and colour profile are kept, or reported as lost.

photo       a photo in memory
kinds       which endings are read and written, and why others are not
reading     Pillow reads 8 bits, other libraries deeper formats; `writing` does the reverse
exif, xmp   metadata as bytes; only values that became wrong are changed
jpeg, png, tiff, heif, raw   the details of one format

Pillow decodes, OpenCV encodes JPEG and PNG, and tifffile TIFF; with the extra `photos`, libheif handles HEIC and LibRaw
RAW. To save memory, pixels are decoded in strips into one array that is upright from the start. Nothing imports torch.
"""

from cliplit.files.images import MAX_PIXELS
from cliplit_photos.formats.kinds import FORMATS, RAW, READ, UNREAD
from cliplit_photos.formats.photo import Photo, reduced
from cliplit_photos.formats.reading import photo_size, read_photo
from cliplit_photos.formats.writing import jpeg_quality, kind_of, write_photo

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "RAW",
    "READ",
    "UNREAD",
    "Photo",
    "jpeg_quality",
    "kind_of",
    "photo_size",
    "read_photo",
]
__all__ += ["reduced", "write_photo"]

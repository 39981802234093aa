"""Photo files read and written faithfully: depth, transparency, metadata and colour profile kept, or named as lost.

photo       a photo in memory
kinds       which endings are read and written, and why others are not
reading     by Pillow what has 8 bits, by others what is deeper; `writing` the same way back
exif, xmp   metadata as bytes; only what has become wrong is changed
jpeg, png, tiff, heif, raw   what is to be known of one format

Pillow decodes, OpenCV encodes JPEG and PNG, tifffile TIFF; of the extra `photos`, libheif HEIC and LibRaw RAW. Pixels are
decoded in strips into one array that is upright from the start, for the sake of memory. Nothing here imports torch.
"""

from cliplit.files.images import MAX_PIXELS
from cliplit_photos.formats.kinds import FORMATS, RAW, READ, UNREAD
from cliplit_photos.formats.photo import Photo, reduced
from cliplit_photos.formats.reading import photo_size, read_photo
from cliplit_photos.formats.writing import write_photo

__all__ = [
    "FORMATS",
    "MAX_PIXELS",
    "RAW",
    "READ",
    "UNREAD",
    "Photo",
    "photo_size",
    "read_photo",
    "reduced",
    "write_photo",
]

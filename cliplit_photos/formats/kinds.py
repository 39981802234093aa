"""Kinds of photo files by their endings: what is written and read, and why other image files are not read."""

from cliplit.files.images import EXTENSIONS, OTHER_KINDS
from cliplit.files.images import UNREAD as UNREAD_BY_KIT

# Endings of what is written, in lower case, and its format.
FORMATS = {
    ending: kind
    for kind, endings in {
        "JPEG": ".jpg .jpeg .jpe .jfif .mpo",
        "PNG": ".png .apng",
        "TIFF": ".tif .tiff",
        "WEBP": ".webp",
        "HEIF": OTHER_KINDS["HEIC"],
        "AVIF": ".avif",
        "BMP": ".bmp .dib",
        "PPM": ".ppm .pgm .pnm",
    }.items()
    for ending in endings.split()
}
RAW = frozenset(OTHER_KINDS["RAW"].split())
READ = EXTENSIONS | FORMATS.keys() | RAW
UNREAD = {ending: reason for ending, reason in UNREAD_BY_KIT.items() if ending not in READ}  # named, not ignored

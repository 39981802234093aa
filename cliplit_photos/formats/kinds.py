"""Kinds of photo files by their endings: which are written and read, and why other image files are not read."""

from cliplit.files import images

# Endings that are written, in lower case, and their formats.
FORMATS = {
    ending: kind
    for kind, endings in {
        "JPEG": ".jpg .jpeg .jpe .jfif .mpo",
        "PNG": ".png .apng",
        "TIFF": ".tif .tiff",
        "WEBP": ".webp",
        "HEIF": images.HEIC,
        "AVIF": ".avif",
        "BMP": ".bmp .dib",
        "PPM": ".ppm .pgm .pnm",
    }.items()
    for ending in endings.split()
}
RAW = frozenset(images.RAW.split())
READ = images.EXTENSIONS | FORMATS.keys() | RAW
UNREAD = {ending: reason for ending, reason in images.UNREAD.items() if ending not in READ}  # reported, not ignored

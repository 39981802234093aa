"""Kinds of image files by their endings: read and written, read only, and known but not read."""

from cliplit_photos.formats import raw

# Endings of what is written, in lower case, and its format.
FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".mpo": "JPEG",
    ".png": "PNG",
    ".apng": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".heic": "HEIF",
    ".heif": "HEIF",
    ".hif": "HEIF",
    ".avif": "AVIF",
    ".bmp": "BMP",
    ".dib": "BMP",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pnm": "PPM",
}
READ = frozenset({*FORMATS, ".gif", ".pbm", *(raw.ENDINGS if raw.can_be_read() else ())})
KINDS = {
    "JPEG XL": ".jxl",
    "JPEG 2000": ".jp2 .j2k .jpf .jpx .jpc",
    "JPEG XR": ".jxr .wdp .hdp",
    "a Photoshop file": ".psd .psb",
    "a GIMP file": ".xcf",
    "a Krita file": ".kra",
    "OpenEXR": ".exr",
    "Radiance HDR": ".hdr",
    "PFM": ".pfm",
    "Targa": ".tga",
    "FITS": ".fit .fits",
    "an icon": ".ico .icns",
    "a drawing": ".svg .svgz .eps .ai",
}
# Image files that are named rather than ignored, and why they are not read.
UNREAD = {
    ending: f"{kind} is not read; convert it to PNG or TIFF"
    for kind, endings in KINDS.items()
    for ending in endings.split()
} | dict.fromkeys(raw.ENDINGS - READ, raw.WITHOUT_LIBRAW)

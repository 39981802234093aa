"""Kinds of image files by their endings: read and written, read only, and known but not read."""

from cliplit.files.formats import raw

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
CONVERT = "convert it to PNG or TIFF"
# Image files that are named rather than ignored, and why they are not read.
UNREAD = {
    ending: f"pictures of this kind ({ending}) are not read; {CONVERT}"
    for ending in [
        ".jxl",
        ".jp2",
        ".j2k",
        ".jpf",
        ".jpx",
        ".jxr",
        ".psd",
        ".psb",
        ".xcf",
        ".kra",
        ".exr",
        ".hdr",
        ".pfm",
        ".tga",
        ".pcx",
        ".svg",
        ".eps",
        ".ai",
        ".ico",
        ".icns",
        ".dds",
        ".qoi",
        ".fits",
        ".fit",
    ]
} | {ending: "RAW is read with LibRaw alone: pip install 'cliplit[raw]'" for ending in raw.ENDINGS - READ}

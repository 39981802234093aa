"""TIFF: depths, compressions, layouts, colours, metadata."""

import io
import zlib
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image

from field_files import parts
from field_files.checks import Right
from field_files.parts import EXIF, GPS, USUAL_TAGS, lying, noise, shorts, smooth
from field_files.registry import LOSSY, Made, case

DEPTH = "TIFF of every depth keeps it, exactly"
LAYOUT = "TIFF of every compression and layout keeps its pixels, exactly"
COLOURS = "TIFF in other colours is converted rightly, or refused"


def by_tifffile(pixels: np.ndarray, **options: Any) -> bytes:
    """A TIFF of (H, W, C)."""
    channels = pixels.shape[2]
    options = {"photometric": "rgb" if channels > 2 else "minisblack", "metadata": None} | options
    if channels in (2, 4):
        options.setdefault("extrasamples", ["unassalpha"])
    if channels > 1:
        options.setdefault("planarconfig", "contig")
    if options.get("planarconfig") == "separate":
        pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    file = io.BytesIO()
    tifffile.imwrite(file, pixels[..., 0] if channels == 1 else pixels, **options)
    return file.getvalue()


def kept(pixels: np.ndarray, options: dict[str, Any]) -> Made:
    return by_tifffile(pixels, **options), Right(pixels, bits=pixels.dtype.itemsize * 8)


GREYS = noise(1, np.uint16), noise(2, np.uint16)
COLOUR = noise(3, np.uint16)
FLOATS = noise(3, np.float32)
for name, pixels in {"grey_16": GREYS[0], "grey_alpha_16": GREYS[1], "colour_alpha_16": noise(4, np.uint16)}.items():
    case(f"{name}.tif", DEPTH, pixels, {})(kept)
case("grey_float.tif", DEPTH, noise(1, np.float32), {})(kept)
case("colour_float.tif", DEPTH, FLOATS, {"compression": "zlib"})(kept)
case("big_endian_16.tif", DEPTH, COLOUR, {"byteorder": ">"})(kept)
case("big_endian_float.tif", DEPTH, FLOATS, {"byteorder": ">"})(kept)
case("big.tif", LAYOUT, COLOUR, {"bigtiff": True})(kept)
case("planes_16.tif", LAYOUT, COLOUR, {"planarconfig": "separate"})(kept)
case("planes_zlib_16.tif", LAYOUT, COLOUR, {"planarconfig": "separate", "compression": "zlib"})(kept)
case("tiles_16.tif", LAYOUT, COLOUR, {"tile": (16, 16)})(kept)
case("strips_16.tif", LAYOUT, COLOUR, {"rowsperstrip": 3, "compression": "zlib"})(kept)


@case("packed_12.tif", DEPTH)
def packed_12() -> Made:
    grey = noise(1, np.uint16)[..., 0] >> 4
    grey[0] = 4095
    pairs = grey.reshape(-1, 2).astype(np.uint32)
    triples = (pairs[:, 0] << 12) | pairs[:, 1]
    packed = np.stack([triples >> 16, triples >> 8, triples], 1).astype(np.uint8).tobytes()
    shown = (grey[..., None] / 4095).astype(np.float32)
    return parts.tiff(parts.SIZE, [packed], {258: shorts(12)}), Right(shown, 2e-4, bits=16)


@case("half_float.tif", DEPTH)
def half_float() -> Made:
    grey = noise(1, np.float32).astype(np.float16)
    content = parts.tiff(parts.SIZE, [grey.tobytes()], {258: shorts(16), 339: shorts(3)})
    return content, Right(grey.astype(np.float32), 1e-3, bits=16)


@case("double_float.tif", DEPTH)
def double_float() -> Made:
    return by_tifffile(noise(1, np.float32).astype(np.float64)), Right(noise(1, np.float32), 1e-6, bits=32)


@case("predicted_float.tif", LAYOUT)
def predicted_float() -> Made:
    """Of Photoshop and the like: bytes of a row by significance, and their differences."""
    grey = noise(1, np.float32)[..., 0]
    height, width = grey.shape
    planes = grey.astype(">f4").view(np.uint8).reshape(height, width, 4).transpose(0, 2, 1).reshape(height, -1)
    differences = np.diff(planes, axis=1, prepend=np.zeros((height, 1), np.uint8)).astype(np.uint8)
    tags = {258: shorts(32), 259: shorts(8), 317: shorts(3), 339: shorts(3)}
    content = parts.tiff(parts.SIZE, [zlib.compress(differences.tobytes())], tags)
    return content, Right(grey[..., None], bits=32)


def by_opencv(compression: int, predictor: int) -> Made:
    flags = [cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_PREDICTOR, predictor]
    return cv2.imencode(".tif", COLOUR[..., ::-1], flags)[1].tobytes(), Right(COLOUR, bits=16)


for name, arguments in {
    "lzw": (5, 1),
    "lzw_predicted": (5, 2),
    "packbits": (32773, 1),
    "zlib_predicted": (8, 2),
}.items():
    case(f"{name}_16.tif", LAYOUT, *arguments)(by_opencv)


def by_pillow(compression: str, channels: int) -> Made:
    lossy = compression == "jpeg"
    pixels = smooth(channels) if lossy else noise(channels)
    options = {"quality": 97} if lossy else {}
    return parts.saved(pixels, "TIFF", compression=compression, **options), Right(pixels, LOSSY if lossy else 0)


for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
    case(f"{name}_8.tif", LAYOUT, name, 3)(by_pillow)
case("alpha_lzw.tif", LAYOUT, "tiff_lzw", 4)(by_pillow)


@case("fax.tif", LAYOUT)
def fax() -> Made:
    white = noise(1)[..., 0] > 127
    file = io.BytesIO()
    Image.fromarray(white).save(file, "TIFF", compression="group4")
    return file.getvalue(), Right(np.where(white, 255, 0).astype(np.uint8)[..., None])


@case("planes_lzw_16.tif", LAYOUT)
def planes_lzw() -> Made:
    planes = [parts.saved(COLOUR[..., n : n + 1], "TIFF", compression="tiff_lzw") for n in range(3)]
    strips = []
    for plane in planes:
        with tifffile.TiffFile(io.BytesIO(plane)) as tiff:
            page = tiff.pages[0]
            strips.append(plane[page.dataoffsets[0] :][: page.databytecounts[0]])
    tags = {258: shorts(16, 16, 16), 259: shorts(5), 262: shorts(2), 277: shorts(3), 284: shorts(2)}
    return parts.tiff(parts.SIZE, strips, tags), Right(COLOUR, bits=16)


def white_is_zero(pixels: np.ndarray) -> Made:
    return by_tifffile(np.iinfo(pixels.dtype).max - pixels, photometric="miniswhite"), Right(pixels)


case("white_is_zero_8.tif", COLOURS, noise(1))(white_is_zero)
case("white_is_zero_16.tif", COLOURS, GREYS[0])(white_is_zero)


def associated(pixels: np.ndarray) -> Made:
    white = np.iinfo(pixels.dtype).max
    pixels[..., 3] |= 1 << (pixels.dtype.itemsize * 8 - 1)  # never so clear that the colours are lost
    multiplied = pixels.copy()
    multiplied[..., :3] = (pixels[..., :3].astype(np.float64) * pixels[..., 3:] / white).round()
    return by_tifffile(multiplied, extrasamples=["assocalpha"]), Right(pixels, 4e-3)


case("associated_8.tif", "alpha that is multiplied into the colours changes no colour", noise(4))(associated)
case("associated_16.tif", "alpha that is multiplied into the colours changes no colour", noise(4, np.uint16))(
    associated
)


@case("palette.tif", COLOURS)
def palette() -> Made:
    table = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
    image = Image.fromarray(noise(1)[..., 0], "P")
    image.putpalette(table.tobytes())
    file = io.BytesIO()
    image.save(file, "TIFF")
    return file.getvalue(), Right(table[noise(1)[..., 0]], 0.005)  # of 16 bits, and white is 65280


@case("cmyk.tif", COLOURS)
def cmyk() -> Made:
    ink = np.broadcast_to(np.uint8([0, 255, 255, 0]), (20, 30, 4))
    red = np.broadcast_to(np.uint8([255, 0, 0]), (20, 30, 3))
    return by_tifffile(ink, photometric="separated", extrasamples=[]), Right(red, 0.13, said="CMYK")


@case("infrared.tif", "samples beside colours and alpha are said to be lost, or kept")
def infrared() -> Made:
    pixels = noise(5)
    content = by_tifffile(pixels, extrasamples=["unspecified", "unspecified"])
    return content, Right(pixels[..., :3])


def turned_deep(orientation: int) -> Made:
    tags = [(274, 3, 1, orientation, False)]
    return by_tifffile(lying(COLOUR, orientation), extratags=tags), Right(COLOUR, bits=16)


for n in range(2, 9):
    case(f"turned_16_{n}.tif", "upright, whatever the orientation", n)(turned_deep)


def described(bits: int) -> Made:
    """All that a TIFF says beside its pixels."""
    pixels = noise(3, np.uint16 if bits == 16 else np.uint8)
    inner = {0x829A: (5, b"\1\0\0\0\x7d\0\0\0"), 0x9003: parts.text("2023:10:02 09:30:00")}
    place = {1: parts.text("N"), 2: parts.ratios(48, 30, 36), 3: parts.text("E"), 4: parts.ratios(9, 3, 0)}
    iptc = parts.iptc_resource(b"Harbour")
    entries: dict[int, Any] = {
        258: shorts(bits, bits, bits),
        262: shorts(2),
        277: shorts(3),
        0x10F: parts.text("A maker"),
        0x13B: parts.text("José Müll"),
        282: parts.ratios(118),
        283: parts.ratios(118),
        296: shorts(3),
        700: (1, parts.xmp_packet()),
        33723: (7, iptc[12 : 12 + 12]),
        34377: (1, iptc),
        34675: (7, parts.P3),
        EXIF: inner,
        GPS: place,
    }
    names = ("EXIF:Make", "EXIF:ExposureTime", "EXIF:DateTimeOriginal", "EXIF:GPSLatitude")
    tags = {name: USUAL_TAGS[name] for name in names}
    tags |= {"EXIF:Artist": "José Müll", "XMP:Rating": 4, "IPTC:ObjectName": "Harbour"}
    content = parts.tiff(parts.SIZE, [pixels.tobytes()], entries)
    return content, Right(pixels, tags=tags, icc=parts.P3, bits=bits)


case("described_8.tif", "EXIF, GPS, IPTC, XMP and colour profile of TIFF are kept", 8)(described)
case("described_16.tif", "EXIF, GPS, IPTC, XMP and colour profile of TIFF are kept", 16)(described)


@case("centimetres.tif", "resolution is kept")
def centimetres() -> Made:
    content = by_tifffile(noise(), resolution=(120, 120), resolutionunit="CENTIMETER")
    return content, Right(noise(), dpi=304.8)

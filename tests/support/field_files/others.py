"""WebP, BMP, GIF, PPM, HEIC and AVIF."""

import importlib.util
import io
import struct

import numpy as np
from PIL import Image

from field_files import parts
from field_files.checks import Right
from field_files.parts import USUAL_TAGS, lying, noise, smooth
from field_files.registry import Made, case, like


def lossless_webp(channels: int) -> Made:
    pixels = noise(channels)
    options = {"lossless": True, "exact": True, "exif": b"Exif\0\0" + parts.usual_exif(), "icc_profile": parts.P3}
    content = parts.saved(pixels, "WEBP", xmp=parts.xmp_packet(), **options)
    return content, Right(pixels, tags=USUAL_TAGS | {"XMP:Rating": 4}, icc=parts.P3)


case("lossless.webp", "lossless WebP stays lossless, with all metadata", 3)(lossless_webp)
case("lossless_alpha.webp", "lossless WebP stays lossless, with all metadata", 4)(lossless_webp)


@case("lossy_alpha.webp", "lossless WebP stays lossless, with all metadata")
def lossy_webp() -> Made:
    pixels = smooth(4)
    pixels[..., 3] |= 128
    return parts.saved(pixels, "WEBP", quality=97, exact=True), like(pixels)


def plain(content: bytes, pixels: np.ndarray) -> Made:
    return content, Right(pixels)


def bmp_with_alpha() -> bytes:
    """A BMP with a header of version 5, from top to bottom."""
    header = struct.pack("<IiiHHIIiiII", 124, 30, -20, 1, 32, 3, 2400, 2835, 2835, 0, 0)
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    whole = (header + masks + b"BGRs").ljust(124, b"\0") + noise(4)[..., [2, 1, 0, 3]].tobytes()
    return b"BM" + struct.pack("<IHHI", 14 + len(whole), 0, 0, 14 + 124) + whole


BMP = "BMP of every sort keeps its pixels"
case("colour.bmp", BMP, parts.saved(noise(), "BMP"), noise())(plain)
case("grey.bmp", BMP, parts.saved(noise(1), "BMP"), noise(1))(plain)


@case("alpha.bmp", "transparency in BMP is kept, or said to be lost")
def alpha_bmp() -> Made:
    return bmp_with_alpha(), Right(noise(4), or_said="transparency|alpha")


case("colour.dib", BMP, parts.saved(noise(), "BMP"), noise())(plain)


@case("palette.gif", "GIF keeps its colours, and its transparency")
def palette_gif() -> Made:
    table = np.random.default_rng(0).integers(0, 256, (16, 3), dtype=np.uint8)
    picked = noise(1)[..., 0] >> 4
    image = Image.fromarray(picked, "P")
    image.putpalette(table.tobytes())
    file = io.BytesIO()
    image.save(file, "GIF", transparency=5)
    alpha = np.where(picked == 5, 0, 255).astype(np.uint8)
    return file.getvalue(), Right(np.dstack([table[picked], alpha]))


PNM = "PPM, PGM and PBM of any white keep their light"


def pnm(head: bytes, samples: np.ndarray, white: int) -> Made:
    content = head + samples.astype(">u2" if white > 255 else np.uint8).tobytes()
    return content, Right(
        (samples / white).astype(np.float32), 1e-5 if white > 255 else 2e-3, bits=16 if white > 255 else 8
    )


WHITE = np.full((20, 30, 3), 1023, np.uint16)
case("white_10.ppm", PNM, b"P6\n30 20\n1023\n", WHITE, 1023)(pnm)
case("deep.ppm", PNM, b"P6\n# by hand\n30 20\n65535\n", noise(3, np.uint16), 65535)(pnm)
case("of_1000.pgm", PNM, b"P5 30 20 1000\n", noise(1, np.uint16) % 1001, 1000)(pnm)
case("of_100.pgm", PNM, b"P5 30 20 100\n", noise(1) % 101, 100)(pnm)
case("deep.pgm", PNM, b"P5\n30 20\n65535\n", noise(1, np.uint16), 65535)(pnm)


@case("words.ppm", PNM)
def words_ppm() -> Made:
    return b"P3\n30 20\n255\n" + " ".join(map(str, noise().ravel().tolist())).encode() + b"\n", Right(noise())


@case("bits.pbm", PNM)
def bits_pbm() -> Made:
    black = noise(1)[..., 0] > 127
    return b"P4\n30 20\n" + np.packbits(black, axis=1).tobytes(), Right(
        np.where(black, 0, 255).astype(np.uint8)[..., None]
    )


def phone(orientation: int, deep: bool) -> Made:
    """As phones write it: turned by libheif, with an orientation in EXIF that must not be followed again."""
    import pillow_heif

    pixels = smooth(size=(64, 96))
    samples = lying(pixels, orientation)
    samples = samples.astype(np.uint16) * 257 if deep else samples
    height, width, _ = samples.shape
    image = pillow_heif.from_bytes("RGB;16" if deep else "RGB", (width, height), samples.tobytes())
    image.info["icc_profile"] = parts.P3
    image.info["icc_profile_type"] = "prof"
    file = io.BytesIO()
    block = b"Exif\0\0" + parts.usual_exif(orientation)
    image.save(file, quality=97, exif=block, xmp=parts.xmp_packet(), chroma=444)
    tags = {"EXIF:Make": "A maker", "EXIF:GPSLatitude": 48.51, "XMP:Rating": 4}
    return file.getvalue(), like(pixels, tags=tags, icc=parts.P3, bits=16 if deep else 8)


for n in (1, 6, 7):
    case(f"turned_{n}.heic", "HEIC is read as shown, with its depth and metadata", n, False)(phone)
case("deep.heic", "HEIC is read as shown, with its depth and metadata", 6, True)(phone)


@case("turned.dng", "RAW is developed, upright; or refused, if there is no LibRaw")
def raw() -> Made:
    """As a camera of half the light on the left, and a quarter on the right, in colours that need no balance."""
    light = np.where(np.arange(96) < 48, 8192, 4096) * np.ones((64, 1))
    matrix = (3.2405, -1.5371, -0.4985, -0.9693, 1.8760, 0.0416, 0.0556, -0.2040, 1.0573)  # of sRGB
    entries = {
        258: parts.shorts(16),
        262: parts.shorts(32803),
        272: parts.text("A camera"),
        274: parts.shorts(6),
        33421: parts.shorts(2, 2),
        33422: (1, b"\0\1\1\2"),
        50706: (1, b"\1\4\0\0"),
        50708: parts.text("A camera"),
        50717: parts.longs(16383),
        50721: (10, struct.pack("<18i", *(part for value in matrix for part in (round(10000 * value), 10000)))),
        50728: parts.ratios(1, 1, 1),
        50778: parts.shorts(21),
    }
    lying_light = lying(light, 6).astype("<u2")
    content = parts.tiff(lying_light.shape, [lying_light.tobytes()], entries)
    shown = np.where(light == 8192, 0.705, 0.49)[..., None].astype(np.float32)
    there = importlib.util.find_spec("rawpy")
    return content, Right(shown.repeat(3, 2), 0.02, bits=16, said="RAW") if there else Right(None)


@case("profile.avif", "AVIF keeps its metadata")
def avif() -> Made:
    options = {"exif": parts.usual_exif(), "xmp": parts.xmp_packet(), "icc_profile": parts.P3}
    content = parts.saved(smooth(), "AVIF", quality=97, subsampling="4:4:4", **options)
    return content, like(
        smooth(), tags={"EXIF:Make": "A maker", "EXIF:GPSLatitude": 48.51, "XMP:Rating": 4}, icc=parts.P3
    )

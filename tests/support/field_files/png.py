"""PNG: chunks, depths, transparency."""

import struct
import zlib

import numpy as np
from PIL import PngImagePlugin

from field_files import parts
from field_files.checks import Right
from field_files.parts import USUAL_TAGS, chunk, lying, noise
from field_files.registry import Made, case


def plain_chunks(pixels: np.ndarray, bits: int, chunks: dict[bytes, bytes], said: str) -> Made:
    packed = [chunk(name, data) for name, data in chunks.items()]
    return parts.png(pixels, *packed, bits=bits), Right(pixels, kept=b"".join(packed), or_said=said, bits=bits)


CHROMATICITIES = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
for depth, values in (8, noise()), (16, noise(3, np.uint16)):
    for name, chunks in {
        "gamma": {b"gAMA": struct.pack(">I", 100000)},
        "primaries": {b"gAMA": struct.pack(">I", 45455), b"cHRM": CHROMATICITIES},
        "pq": {b"cICP": bytes([9, 16, 0, 1])},
    }.items():
        about = "gamma, primaries and HDR of PNG are kept, or pixels converted, or said to be lost"
        case(f"{name}_{depth}.png", about, values, depth, chunks, name)(plain_chunks)


def texts(bits: int) -> Made:
    pixels = noise(3, np.uint16 if bits == 16 else np.uint8)
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", parts.xmp_packet().decode())
    info.add_itxt("Description", "Gasthaus „Schöne Aussicht“")
    info.add_text("Title", "Harbour")
    info.add_text("Comment", "scanned by me", zip=True)
    chunks = [chunk(name, data) for name, data, *_ in info.chunks]
    tags = {"XMP:Rating": 4, "PNG:Title": "Harbour", "PNG:Comment": "scanned by me"}
    right = Right(pixels, tags=tags | {"PNG:Description": "Gasthaus „Schöne Aussicht“"}, bits=bits)
    return parts.png(pixels, *chunks, bits=bits), right


case("texts_8.png", "texts and XMP of PNG are kept", 8)(texts)
case("texts_16.png", "texts and XMP of PNG are kept", 16)(texts)


@case("raw_profile.png", "EXIF as ImageMagick writes it into PNG is kept, and followed")
def raw_profile() -> Made:
    block = b"Exif\0\0" + parts.usual_exif(6)
    lines = "\n".join(block.hex()[at : at + 72] for at in range(0, 2 * len(block), 72))
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(block):8d}\n{lines}\n", zip=True)
    chunks = [chunk(name, data) for name, data, *_ in info.chunks]
    return parts.png(lying(noise(), 6), *chunks), Right(noise(), tags=USUAL_TAGS)


def resolved(bits: int) -> Made:
    pixels = noise(4, np.uint16 if bits == 16 else np.uint8)
    block = chunk(b"eXIf", parts.usual_exif()) + chunk(b"pHYs", struct.pack(">IIB", 11811, 11811, 1))
    right = Right(pixels, tags=USUAL_TAGS, dpi=300, icc=parts.P3, bits=bits)
    return parts.png(pixels, chunk(b"iCCP", b"P3\0\0" + zlib.compress(parts.P3)), block, bits=bits), right


case("metadata_8.png", "EXIF, colour profile and resolution of PNG are kept", 8)(resolved)
case("metadata_16.png", "EXIF, colour profile and resolution of PNG are kept", 16)(resolved)


def deep_png(channels: int) -> Made:
    pixels = noise(channels, np.uint16)
    return parts.png(pixels, bits=16), Right(pixels, bits=16)


for n, name in enumerate(("grey", "grey_alpha", "colour", "colour_alpha"), 1):
    case(f"deep_{name}.png", "16 bits stay 16 bits, exactly", n)(deep_png)


@case("interlaced.png", "16 bits stay 16 bits, exactly")
def interlaced() -> Made:
    pixels = noise(3, np.uint16)
    return parts.png(pixels, bits=16, interlaced=True), Right(pixels, bits=16)


def few_bits(bits: int) -> Made:
    pixels = noise(1) >> (8 - bits)
    return parts.png(pixels, bits=bits), Right(pixels * np.uint8(255 // (2**bits - 1)))


for n in (1, 2, 4):
    case(f"bits_{n}.png", "grey of few bits stays grey, exactly", n)(few_bits)


def see_through(bits: int, channels: int) -> Made:
    pixels = noise(channels, np.uint16 if bits == 16 else np.uint8)
    clear = pixels[3, 4]
    white = np.iinfo(pixels.dtype).max
    alpha = np.where((pixels == clear).all(2, keepdims=True), 0, white).astype(pixels.dtype)
    content = parts.png(pixels, chunk(b"tRNS", clear.astype(">u2").tobytes()), bits=bits)
    return content, Right(np.concatenate([pixels, alpha], 2), bits=bits)


for depth in (8, 16):
    for n, name in (1, "grey"), (3, "colour"):
        case(f"clear_{name}_{depth}.png", "a transparent colour stays transparent", depth, n)(see_through)


@case("palette.png", "a palette keeps its colours, and its transparency")
def palette() -> Made:
    table = np.random.default_rng(0).integers(0, 256, (16, 4), dtype=np.uint8)
    picked = noise(1) >> 4
    content = parts.png(picked, chunk(b"tRNS", table[:, 3].tobytes()), bits=4, palette=table[:, :3].tobytes())
    return content, Right(table[picked[..., 0]])

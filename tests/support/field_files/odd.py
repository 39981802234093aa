"""What holds several pictures, ends early, or is a bomb."""

import io
import struct

import numpy as np
from PIL import Image

from field_files import others, parts
from field_files.checks import Right
from field_files.parts import chunk, noise
from field_files.registry import LOSSY, Made, case


def animated(kind: str, ending: str) -> Made:
    frames = [Image.new("RGB", (30, 20), colour) for colour in ("red", "blue", "lime")]
    file = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], **options)
    red = np.broadcast_to(np.uint8([255, 0, 0]), (20, 30, 3))
    return file.getvalue(), Right(red, LOSSY if ending == "avif" else 0.001, said="first of several|animation|pages")


for kind, ending in {"PNG": "png", "WEBP": "webp", "GIF": "gif", "TIFF": "tif", "AVIF": "avif"}.items():
    case(f"several.{ending}", "the first of several pictures, and said", kind, ending)(animated)


def truncated(content: bytes) -> Made:
    return content[: len(content) * 2 // 3], Right(None)


LARGE = noise(size=(120, 100))
WHOLE = {
    "jpg": parts.jpeg(LARGE),
    "png": parts.png(LARGE),
    "deep.png": parts.png(noise(3, np.uint16, (120, 100)), bits=16),
    "tif": parts.saved(LARGE, "TIFF"),
    "lzw.tif": parts.saved(LARGE, "TIFF", compression="tiff_lzw"),
    "webp": parts.saved(LARGE, "WEBP", lossless=True),
    "avif": parts.saved(LARGE, "AVIF"),
    "gif": parts.saved(LARGE, "GIF"),
    "bmp": parts.saved(LARGE, "BMP"),
    "ppm": parts.saved(LARGE, "PPM"),
    "heic": others.phone(1, False)[0],
    "dng": others.raw()[0],
}
for ending, content in WHOLE.items():
    case(f"truncated.{ending}", "what ends early is refused", content)(truncated)


def bomb(content: bytes) -> Made:
    return content, Right(None)


HUGE = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
PNG_BOMB = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", HUGE) + chunk(b"IDAT", b"x\x9c\3\0") + chunk(b"IEND", b"")
case("bomb.png", "3600 megapixels in a few bytes are refused", PNG_BOMB)(bomb)
case("bomb.pgm", "3600 megapixels in a few bytes are refused", b"P5\n60000 60000\n255\n\0\0\0")(bomb)

"""EXIF, broken and whole, and orientation."""

import struct
from typing import Any

from field_files import parts
from field_files.checks import Right
from field_files.parts import EXIF, INTEROP, USUAL_TAGS, exif_block, lying, noise, shorts, smooth, text
from field_files.registry import LOSSY, Made, case, like


def row(tag: int, kind: int, count: int, value: bytes) -> bytes:
    return struct.pack("<HHI", tag, kind, count) + value


BROKEN = {  # blocks after their header of eight bytes
    "short": b"",
    "text_for_number": b"\1\0" + row(0x112, 2, 2, b"6\0\0\0") + bytes(4),
    "text_for_ratio": b"\1\0" + row(0x11A, 2, 3, b"72\0\0") + bytes(4),
    "endless": b"\2\0" + row(0x10F, 2, 0xFFFFFFFF, b"\x08\0\0\0") + row(EXIF, 4, 1, b"\x08\0\0\0") + bytes(4),
    "loop": b"\1\0" + row(EXIF, 4, 1, b"\x08\0\0\0") + b"\x08\0\0\0",
    "no_such_type": b"\1\0" + row(0x9C9B, 99, 4, b"\xff\xff\xff\xff") + bytes(4),
    "of_65535_tags": b"\xff\xff" + row(0x112, 3, 1, b"\1\0\0\0"),
}


def broken_exif(rest: bytes) -> Made:
    return parts.jpeg(smooth(), parts.exif_segment(b"II*\0\x08\0\0\0" + rest), dpi=(72, 72)), like(smooth())


for name, rest in BROKEN.items():
    case(f"exif_{name}.jpg", "broken EXIF costs no photo", rest)(broken_exif)


@case("utf8.jpg", "text in EXIF stays byte for byte")
def utf8() -> Made:
    block = exif_block({0x13B: text("José Müll"), 0x8298: text("© 2024 Ångbåt")})
    right = like(smooth(), kept="José Müll\0".encode(), tags={"EXIF:Copyright": "© 2024 Ångbåt"})
    return parts.jpeg(None, parts.exif_segment(block)), right


def ordered_exif(order: str) -> Made:
    block = parts.usual_exif(order=order)
    return parts.jpeg(None, parts.exif_segment(block)), like(smooth(), tags=USUAL_TAGS)


case("little_endian.jpg", "EXIF is kept, GPS too", "<")(ordered_exif)
case("big_endian.jpg", "EXIF is kept, GPS too", ">")(ordered_exif)


@case("maker_note.jpg", "maker's notes still say what they said, or are said to be lost")
def maker_note() -> Made:
    entries: dict[int, Any] = {0x10F: text("Canon"), 0x110: text("Canon EOS 5D")}
    entries[EXIF] = {0x927C: (7, b"?" * 64), 0x9003: text("2023:10:02 09:30:00")}
    at = exif_block(entries).index(b"?" * 64)
    note = parts.directory({6: text("A type of image"), 9: text("The owner's name")}, at).ljust(64, b"\0")
    entries[EXIF][0x927C] = (7, note)
    tags = {"MakerNotes:CanonImageType": "A type of image", "MakerNotes:OwnerName": "The owner's name"}
    right = like(smooth(), tags=tags | {"ExifTool:Warning": None}, or_said="maker")
    return parts.jpeg(None, parts.exif_segment(exif_block(entries))), right


@case("adobe_rgb.jpg", "Adobe RGB by DCF stays so; dimensions in EXIF are the picture's")
def adobe_rgb() -> Made:
    inner = {0xA001: shorts(65535), 0xA002: shorts(20), 0xA003: shorts(30)}
    inner[INTEROP] = {1: text("R03"), 2: (7, b"0100")}
    block = exif_block({0x112: shorts(6), EXIF: inner})
    tags = {"EXIF:InteropIndex": "R03", "EXIF:ExifImageWidth": 30, "EXIF:ExifImageHeight": 20, "EXIF:ColorSpace": 65535}
    return parts.jpeg(lying(smooth(), 6), parts.exif_segment(block)), like(smooth(), tags=tags)


@case("thumbnail.jpg", "no thumbnail of another picture")
def thumbnail() -> Made:
    block = parts.usual_exif(6, thumbnail=parts.jpeg(noise(), quality=40))
    right = like(smooth(), tags=USUAL_TAGS | {"EXIF:ThumbnailImage": None})
    return parts.jpeg(lying(smooth(), 6), parts.exif_segment(block)), right


def turned(kind: str, orientation: int) -> Made:
    pixels = smooth() if kind in ("JPEG", "WEBP", "AVIF") else noise()
    options = {"quality": 97} if kind in ("JPEG", "WEBP", "AVIF") else {}
    block = b"Exif\0\0" + parts.usual_exif(orientation)
    exif = block[6:] if kind == "AVIF" else block
    content = parts.saved(lying(pixels, orientation), kind, exif=exif, **options)
    return content, Right(pixels, LOSSY if options else 0, USUAL_TAGS)


TURNED = {"jpg": range(2, 9), "png": (3, 6), "webp": (5, 8), "tif": (6, 7), "avif": (6, 3)}
for ending, orientations in TURNED.items():
    for n in orientations:
        kind = {"jpg": "JPEG", "tif": "TIFF"}.get(ending, ending.upper())
        case(f"turned_{n}.{ending}", "upright, whatever the orientation", kind, n)(turned)


@case("turned_in_xmp.jpg", "upright, whatever the orientation")
def turned_in_xmp() -> Made:
    xmp = parts.xmp_packet(b"<tiff:Orientation>6</tiff:Orientation>")
    right = like(smooth(), gone=b"Orientation>6<")
    return parts.jpeg(lying(smooth(), 6), parts.xmp_segment(xmp)), right

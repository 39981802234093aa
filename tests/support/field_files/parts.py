"""What files of photos are put together from: EXIF blocks, segments, chunks, profiles, pictures."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

SIZE = (20, 30)  # height, width
EXIF, GPS, INTEROP = 0x8769, 0x8825, 0xA005  # tags that point to a directory below
BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 10: 8}  # of a value, by its type

Entry = tuple[int, bytes]  # type and values


def noise(channels: int = 3, dtype: Any = np.uint8, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, C) random values over the whole range of a type."""
    random = np.random.default_rng(channels).random((*size, channels), np.float32)
    return random if dtype == np.float32 else (random * np.iinfo(dtype).max).round().astype(dtype)


def smooth(channels: int = 3, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, C) of 8 bits that a lossy format changes little, other at each corner."""
    small = np.random.default_rng(channels).integers(0, 256, (3, 4, channels), dtype=np.uint8)
    planes = [Image.fromarray(small[..., n]).resize(size[::-1], Image.Resampling.BICUBIC) for n in range(channels)]
    return np.dstack([np.asarray(plane) for plane in planes])


def lying(upright: np.ndarray, orientation: int) -> np.ndarray:
    """An upright picture as it lies in a file of this EXIF orientation."""
    turns = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }
    return np.ascontiguousarray(turns[orientation])


def saved(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    """A file by Pillow of (H, W, C)."""
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, kind, **options)
    return file.getvalue()


def jpeg(pixels: np.ndarray | None = None, *segments: bytes, **options: Any) -> bytes:
    """A JPEG that loses little, with segments at its start."""
    options = {"quality": 97, "subsampling": 0} | options
    plain = saved(smooth() if pixels is None else pixels, "JPEG", **options)
    return plain[:2] + b"".join(segments) + plain[2:]


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def exif_segment(block: bytes) -> bytes:
    return segment(0xE1, b"Exif\0\0" + block)


def xmp_segment(xmp: bytes) -> bytes:
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)


def icc_segments(profile: bytes, most: int = 65000) -> bytes:
    """APP2 segments of a profile that needs several."""
    parts = [profile[start : start + most] for start in range(0, len(profile), most)]
    numbered = ((n, part) for n, part in enumerate(parts, 1))
    return b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes([n, len(parts)]) + part) for n, part in numbered)


def iptc_resource(title: bytes) -> bytes:
    """Photoshop's resource with the title of IPTC."""
    record = b"\x1c\x02\x05" + struct.pack(">H", len(title)) + title
    return b"8BIM\x04\x04\0\0" + struct.pack(">I", len(record)) + record + b"\0" * (len(record) % 2)


def xmp_packet(properties: bytes = b"<xmp:Rating>4</xmp:Rating>") -> bytes:
    """XMP with properties in elements."""
    return (
        b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        b'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
        b'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
        b'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" '
        b'xmlns:Container="http://ns.google.com/photos/1.0/container/" '
        b'xmlns:Item="http://ns.google.com/photos/1.0/container/item/">'
        + properties
        + b'</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )


def directory(entries: dict[int, Any], at: int, order: str = "<", following: int = 0) -> bytes:
    """A directory of a TIFF at an offset: entries of type and values, or directories below."""
    rows = b""
    body = b""
    start = at + 2 + 12 * len(entries) + 4
    for tag, entry in sorted(entries.items()):
        where = start + len(body)
        if isinstance(entry, dict):
            rows += struct.pack(order + "HHII", tag, 4, 1, where)
            body += directory(entry, where, order)
            continue
        kind, values = entry
        rows += struct.pack(order + "HHI", tag, kind, len(values) // BYTES[kind])
        if len(values) <= 4:
            rows += values.ljust(4, b"\0")
        else:
            rows += struct.pack(order + "I", where)
            body += values + b"\0" * (len(values) % 2)
    return struct.pack(order + "H", len(entries)) + rows + struct.pack(order + "I", following) + body


def exif_block(entries: dict[int, Any], order: str = "<", thumbnail: bytes = b"") -> bytes:
    """A block as in EXIF, from its header on, perhaps with a thumbnail."""
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    first = directory(entries, 8, order)
    if not thumbnail:
        return header + first
    second = 8 + len(first)
    pointers = {0x201: (4, bytes(4)), 0x202: (4, struct.pack(order + "I", len(thumbnail)))}
    pointers[0x201] = (4, struct.pack(order + "I", second + len(directory(pointers, second, order))))
    return header + directory(entries, 8, order, second) + directory(pointers, second, order) + thumbnail


def text(words: str) -> Entry:
    return 2, words.encode() + b"\0"


def shorts(*values: int, order: str = "<") -> Entry:
    return 3, struct.pack(f"{order}{len(values)}H", *values)


def longs(*values: int, order: str = "<") -> Entry:
    return 4, struct.pack(f"{order}{len(values)}I", *values)


def ratios(*values: int, order: str = "<") -> Entry:
    return 5, struct.pack(f"{order}{2 * len(values)}I", *(part for value in values for part in (value, 1)))


def usual_exif(orientation: int = 1, order: str = "<", **options: Any) -> bytes:
    """Camera, time, place, and the dimensions, as phones write them."""
    height, width = lying(np.empty(SIZE), orientation).shape
    return exif_block(
        {
            0x10F: text("A maker"),
            0x112: shorts(orientation, order=order),
            EXIF: {
                0x829A: (5, struct.pack(order + "II", 1, 125)),
                0x9003: text("2023:10:02 09:30:00"),
                0x9286: (7, b"UNICODE\0" + "Nørre".encode("utf-16-be" if order == ">" else "utf-16-le")),
                0xA002: longs(width, order=order),
                0xA003: longs(height, order=order),
            },
            GPS: {1: text("N"), 2: ratios(48, 30, 36, order=order), 3: text("E"), 4: ratios(9, 3, 0, order=order)},
        },
        order,
        **options,
    )


def tiff(size: tuple[int, int], strips: list[bytes], entries: dict[int, Any], order: str = "<") -> bytes:
    """A TIFF of (height, width); by default uncompressed grey of 8 bits."""
    whole = {
        256: longs(size[1], order=order),
        257: longs(size[0], order=order),
        258: shorts(8, order=order),
        259: shorts(1, order=order),
        262: shorts(1, order=order),
        273: longs(*(0 for _ in strips), order=order),
        277: shorts(1, order=order),
        278: longs(size[0], order=order),
        279: longs(*map(len, strips), order=order),
        **entries,
    }
    starts = np.cumsum([8 + len(directory(whole, 8, order)), *map(len, strips[:-1])]).tolist()
    whole[273] = longs(*starts, order=order)
    return exif_block(whole, order) + b"".join(strips)


USUAL_TAGS = {
    "EXIF:Make": "A maker",
    "EXIF:ExposureTime": 0.008,
    "EXIF:DateTimeOriginal": "2023:10:02 09:30:00",
    "EXIF:UserComment": "Nørre",
    "EXIF:GPSLatitude": 48.51,
    "EXIF:ExifImageWidth": SIZE[1],
    "EXIF:ExifImageHeight": SIZE[0],
}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(pixels: np.ndarray, *chunks: bytes, bits: int = 8, palette: bytes = b"", interlaced: bool = False) -> bytes:
    """A PNG of (H, W, C) of any number of bits, with chunks before its pixels, perhaps interlaced (Adam7)."""
    height, width, channels = pixels.shape
    colour = 3 if palette else {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [pixels[y::down, x::right] for y, x, down, right in passes] if interlaced else [pixels]
    rows = b"".join(b"\0" + _row(row, bits) for part in parts if part.size for row in part)
    tables = chunk(b"PLTE", palette) if palette else b""
    body = tables + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def _row(row: np.ndarray, bits: int) -> bytes:
    if bits == 16:
        return row.astype(">u2").tobytes()
    if bits == 8:
        return row.astype(np.uint8).tobytes()
    planes = np.unpackbits(row.astype(np.uint8).reshape(-1, 1), axis=1)[:, 8 - bits :]
    return np.packbits(planes).tobytes()


def rgb_profile(name: str, colourants: tuple[tuple[float, float, float], ...], gamma: float = 2.2) -> bytes:
    """An ICC profile of a matrix and a gamma; red, green and blue as XYZ under D50."""
    xyz = {tag: colour for tag, colour in zip((b"rXYZ", b"gXYZ", b"bXYZ"), colourants, strict=True)}
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", len(name) + 1) + name.encode() + bytes(79)}
    tags |= {tag: b"XYZ " + bytes(4) + _fixed(colour) for tag, colour in xyz.items()}
    tags[b"wtpt"] = b"XYZ " + bytes(4) + _fixed((0.9642, 1, 0.8249))
    curve = b"curv" + bytes(4) + struct.pack(">IHH", 1, round(gamma * 256), 0)
    tags |= {tag: curve for tag in (b"rTRC", b"gTRC", b"bTRC")}
    tags[b"cprt"] = b"text" + bytes(4) + b"none\0"
    return _profile(b"RGB ", tags)


def _fixed(values: tuple[float, ...]) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    table = struct.pack(">I", len(tags))
    body = b""
    for name, data in tags.items():
        table += name + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(">I4sI4s4s4s", 0, bytes(4), 0x02400000, b"mntr", space, b"XYZ ")
    header += struct.pack(">6H4s", 2023, 10, 2, 9, 30, 0, b"acsp") + bytes(28) + _fixed((0.9642, 1, 0.8249))
    whole = header.ljust(128, b"\0") + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


P3 = rgb_profile("Display P3", ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)))
ADOBE = rgb_profile(
    "Adobe RGB", ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
)

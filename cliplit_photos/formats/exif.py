"""EXIF as bytes: walks the directories of tags and changes only values that became wrong. The rest stays unchanged.

A block is a small TIFF: a header, then directories of rows of 12 bytes (tag, type, count, value or its offset).
"""

import struct
from dataclasses import dataclass, field
from typing import Any, Literal

ORIENTATION = 0x0112
EXIF = 0x8769  # directories below
GPS = 0x8825
INTEROPERABILITY = 0xA005
DIRECTORIES = (EXIF, GPS, INTEROPERABILITY)
SUBJECTS = (0x9214, 0xA214)  # a point, a circle or a rectangle, which begin with a point
SIDES = {0x0100: 0, 0x0101: 1, 0xA002: 0, 0xA003: 1}  # tags that give the width (0) or the height (1)
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}  # bytes of a value, by type
NUMBERS = {1: "B", 3: "H", 4: "I"}  # types that a whole number may have
ROW = 12  # bytes
MOST_ROWS = 4096  # of a valid directory
PREFIX = b"Exif\0\0"  # of a block, in some formats


@dataclass
class Entry:
    """The row of a tag: its type, its value as in the file, the offsets of the row and of the value, and the directory it
    points to."""

    type: int
    value: bytes
    row: int = 0
    place: int = 0
    below: "Tags | None" = None


Tags = dict[int, Entry]


@dataclass
class Block:
    """The content of a block.

    Attributes:
        order: "<" or ">", as in `struct`.
        tags: tags of the first directory, with those below.
        problem: what is damaged; the tags are those before the damage.
        end: end of the first directory and all below it, with their values.
        next: position of the offset of the next directory, which is that of the thumbnail.
    """

    order: Literal["<", ">"]
    tags: Tags = field(default_factory=dict)
    problem: str = ""
    end: int = 0
    next: int = 0

    def number(self, tag: int, default: int = 0) -> int:
        """The value of a tag that is a whole number."""
        entry = self.tags.get(tag)
        if entry is None or entry.type not in NUMBERS:
            return default
        return int(struct.unpack_from(self.order + NUMBERS[entry.type], entry.value)[0])


def read_block(data: Any) -> Block:
    """Walk a block or a whole TIFF. It raises nothing; damage is reported in `problem`.

    Args:
        data: bytes, or an object that is sliced like bytes.
    """
    if bytes(data[:4]) not in (b"II*\0", b"MM\0*"):
        return Block("<", problem="no header")
    block = Block("<" if data[:1] == b"I" else ">")
    try:
        (start,) = struct.unpack_from(block.order + "I", data, 4)
        block.next = _walk(data, start, block, block.tags, {start})
    except struct.error:
        block.problem = block.problem or "it ends early"
    except ValueError as error:
        block.problem = block.problem or str(error)
    return block


def _walk(data: Any, start: int, block: Block, tags: Tags, seen: set[int]) -> int:
    """Fill in the tags of a directory. Returns the position of the offset of the next one."""
    (count,) = struct.unpack_from(block.order + "H", data, start)
    if count > MOST_ROWS:
        raise ValueError("a directory without end")
    for row in range(start + 2, start + 2 + ROW * count, ROW):
        tag, kind, number = struct.unpack_from(block.order + "HHI", data, row)
        size = SIZES.get(kind, 0) * number
        (at,) = struct.unpack_from(block.order + "I", data, row + 8)
        place = row + 8 if size <= 4 else at
        if kind not in SIZES or place + size > len(data):
            block.problem = block.problem or f"tag {tag:#06x} has no proper value"
            continue
        entry = Entry(kind, bytes(data[place : place + size]), row, place)
        if tag in DIRECTORIES:
            if at in seen:
                raise ValueError("directories in a circle")
            entry.below = {}
            _walk(data, at, block, entry.below, seen | {at})
        tags[tag] = entry
        block.end = max(block.end, place + size)
    end = start + 2 + ROW * count
    block.end = max(block.end, end + 4)
    return end


def turned_point(x: float, y: float, width: float, height: float, orientation: int) -> tuple[float, float]:
    """The place in the upright picture of a point in a picture of this size and orientation (1 to 8)."""
    x = width - x if orientation in (2, 3, 7, 8) else x
    y = height - y if orientation in (3, 4, 6, 7) else y
    return (y, x) if orientation > 4 else (x, y)


def upright_block(data: bytes, width: int, height: int, orientation: int) -> tuple[bytes, list[str]]:
    """The block of a picture that was turned upright, without the old thumbnail; and notes on what was lost.

    Everything else keeps its place, byte for byte, because makers' notes hold offsets. A damaged block is left out.

    Args:
        width: of the upright picture, as `height`.
        orientation: that the picture had.
    """
    data = data.removeprefix(PREFIX)
    if not data:
        return b"", []
    block = read_block(data)
    if block.problem:
        return b"", [f"EXIF left out: it is damaged ({block.problem})"]
    result = bytearray(data)
    notes = []
    if ORIENTATION in block.tags and not _put(result, block, block.tags[ORIENTATION], 1):
        row = block.tags[ORIENTATION].row
        struct.pack_into(block.order + "HHIHH", result, row, ORIENTATION, 3, 1, 1, 0)
        notes.append("EXIF's orientation ignored: it is not a number")
    below = block.tags.get(EXIF)
    for tags in (block.tags, below.below if below and below.below else {}):
        for tag in SIDES.keys() & tags.keys():
            _put(result, block, tags[tag], (width, height)[SIDES[tag]])
        for entry in (tags[tag] for tag in SUBJECTS if tag in tags and orientation != 1):
            _turn(result, block, entry, (height, width) if orientation > 4 else (width, height), orientation)
    if block.next + 4 <= len(result):
        (thumbnail,) = struct.unpack_from(block.order + "I", result, block.next)
        struct.pack_into(block.order + "I", result, block.next, 0)
        if thumbnail >= block.end:  # nothing that is kept lies after it
            del result[thumbnail:]
        notes += ["thumbnail of the old photo left out"] if thumbnail else []
    return bytes(result), notes


def _turn(result: bytearray, block: Block, entry: Entry, lying: tuple[int, int], orientation: int) -> None:
    """Turn an area, in place: its point, and width and height if it has four numbers."""
    form = f"{block.order}{len(entry.value) // 2}H"
    if entry.type == 3 and len(entry.value) in (4, 6, 8):
        x, y, *size = struct.unpack(form, entry.value)
        point = (min(max(0, round(side)), 0xFFFF) for side in turned_point(x, y, *lying, orientation))
        struct.pack_into(form, result, entry.place, *point, *(size[::-1] if orientation > 4 else size))


def _put(result: bytearray, block: Block, entry: Entry, number: int) -> bool:
    """Change a tag that is one whole number, in place. Returns whether the tag can hold the number."""
    if entry.type not in NUMBERS or len(entry.value) != SIZES[entry.type] or number >> 8 * SIZES[entry.type]:
        return False
    struct.pack_into(block.order + NUMBERS[entry.type], result, entry.row + 8, number)
    return True


def pack_block(tags: Tags, order: str) -> bytes:
    """A block of these tags, whose values have this byte order."""
    if not tags:
        return b""
    return struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8) + pack_tags(tags, order, 8)


def pack_tags(tags: Tags, order: str, start: int) -> bytes:
    """A directory for the position `start`, followed by its values and by the directories below."""
    rows = struct.pack(order + "H", len(tags))
    behind = b""
    for tag, entry in sorted(tags.items()):
        place = start + 2 + ROW * len(tags) + 4 + len(behind)
        kind = entry.type
        value = entry.value
        if entry.below is not None:
            kind = 4
            value = struct.pack(order + "I", place)
            behind += pack_tags(entry.below, order, place)
        elif len(value) > 4:
            behind += value
            value = struct.pack(order + "I", place)
        count = 1 if entry.below is not None else len(entry.value) // SIZES[kind]
        rows += struct.pack(order + "HHI", tag, kind, count) + value.ljust(4, b"\0")
        behind += b"\0" * (len(behind) % 2)  # values begin at even places
    return rows + b"\0\0\0\0" + behind

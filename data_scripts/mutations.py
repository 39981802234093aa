"""Change files at random in vulnerable places: bytes, lengths, tag directories, order of parts."""

import re
import struct
import zlib
from collections.abc import Callable, Iterator

from numpy.random import Generator

Number = tuple[int, int, str]  # position in a file, number of bytes, byte order as in `struct`
Part = tuple[int, int]  # start, end
MOST_CHANGES = 3
FORMATS = {1: "B", 2: "H", 4: "I", 8: "Q"}
EDGES = (0, 1, 2, 7, 8, 255, 0x7F, 0x80)


def mutated(content: bytes, other: bytes, random: Generator) -> bytes:
    """A file after a few random changes. It may contain parts of another file."""
    for _ in range(min(MOST_CHANGES, random.geometric(0.6))):
        change = CHANGES[random.integers(len(CHANGES))]
        content = change(content, other, random)
    return with_right_sums(content) if random.random() < 0.9 else content


def flip(content: bytes, other: bytes, random: Generator) -> bytes:
    """Flip a few bits."""
    changed = bytearray(content)
    for at in random.integers(0, max(1, len(content)), random.integers(1, 9)):
        changed[at : at + 1] = bytes(byte ^ (1 << int(random.integers(8))) for byte in changed[at : at + 1])
    return bytes(changed)


def overwrite(content: bytes, other: bytes, random: Generator) -> bytes:
    """Fill a range of bytes with one value or with random values."""
    at, length = _range(content, random)
    return content[:at] + _filling(length, random) + content[at + length :]


def insert(content: bytes, other: bytes, random: Generator) -> bytes:
    at, length = _range(content, random)
    return content[:at] + _filling(length, random) + content[at:]


def delete(content: bytes, other: bytes, random: Generator) -> bytes:
    at, length = _range(content, random)
    return content[:at] + content[at + length :]


def truncate(content: bytes, other: bytes, random: Generator) -> bytes:
    return content[: random.integers(0, len(content) + 1)]


def splice(content: bytes, other: bytes, random: Generator) -> bytes:
    """Join the start of one file and the end of another."""
    start = random.integers(0, len(content) + 1)
    end = random.integers(0, len(other) + 1)
    return content[:start] + other[end:]


def set_number(content: bytes, other: bytes, random: Generator) -> bytes:
    """Set a length, offset, count or tag to an extreme value."""
    found = [number for number in numbers(content) if number[0] + number[1] <= len(content)]
    if not found:
        return overwrite(content, other, random)
    at, size, order = found[random.integers(len(found))]
    (before,) = struct.unpack_from(order + FORMATS[size], content, at)
    most = (1 << 8 * size) - 1
    values = (*EDGES, most, most - 1, most >> 1, (most >> 1) + 1, len(content), before - 1, before + 1, 2 * before, at)
    value = values[random.integers(len(values))] & most
    return content[:at] + struct.pack(order + FORMATS[size], value) + content[at + size :]


def set_word(content: bytes, other: bytes, random: Generator) -> bytes:
    """Change a number that is written as text, in PPM or XMP."""
    found = list(re.finditer(rb"(?<![\w.])\d{1,9}(?![\w.])", content[: 1 << 16]))
    if not found:
        return set_number(content, other, random)
    word = found[random.integers(len(found))]
    values = (b"0", b"1", b"-1", b"255", b"256", b"65535", b"65536", b"2147483647", b"99999999999", b"", b"1e9", b"nan")
    return content[: word.start()] + values[random.integers(len(values))] + content[word.end() :]


def shuffle(content: bytes, other: bytes, random: Generator) -> bytes:
    """Remove, repeat or swap a segment, chunk or box, or replace it by one from another file."""
    mine = list(parts(content))
    if len(mine) < 2:
        return splice(content, other, random)
    start, end = mine[random.integers(len(mine))]
    to = mine[random.integers(len(mine))][0]
    part = content[start:end]
    theirs = list(parts(other))
    how = random.integers(4)
    if how == 0:
        return content[:start] + content[end:]
    if how == 1:
        return content[:to] + part + content[to:]
    if how == 2 and theirs:
        start, end = theirs[random.integers(len(theirs))]
        return content[:to] + other[start:end] + content[to:]
    rest = content[:start] + content[end:]
    to = min(to, len(rest))
    return rest[:to] + part + rest[to:]


CHANGES: tuple[Callable[[bytes, bytes, Generator], bytes], ...] = (
    flip,
    overwrite,
    insert,
    delete,
    truncate,
    splice,
    *(set_number,) * 6,  # the change that breaks most libraries
    set_word,
    *(shuffle,) * 2,
)


def _range(content: bytes, random: Generator) -> Part:
    """A random position and length. Most lengths are small."""
    return int(random.integers(0, len(content) + 1)), int(2 ** random.uniform(0, 8))


def _filling(length: int, random: Generator) -> bytes:
    if random.random() < 0.5:
        return bytes([(0, 1, 0x7F, 0x80, 0xFE, 0xFF)[random.integers(6)]]) * length
    return random.bytes(length)


def parts(content: bytes) -> Iterator[Part]:
    """Segments of a JPEG, chunks of a PNG or WebP, and boxes of HEIC and AVIF, including their headers."""
    if content[:2] == b"\xff\xd8":
        yield from _segments(content)
    elif content[:4] == b"\x89PNG":
        yield from _chunks(content, 8, ">", 12)
    elif content[:4] == b"RIFF":
        yield from _chunks(content, 12, "<", 8)
    elif content[4:8] == b"ftyp":
        yield from _boxes(content, 0, len(content))


def numbers(content: bytes) -> Iterator[Number]:
    """Positions of numbers that readers rely on."""
    kind = content[:4]
    for start, _ in parts(content):
        if kind[:2] == b"\xff\xd8":
            yield from ((start + 2, 2, ">"), (start + 5, 2, ">"), (start + 7, 2, ">"))  # length and size of a frame
        elif kind == b"RIFF":
            yield from ((start + 4, 4, "<"), (start + 8, 4, "<"))
        else:
            yield from ((start, 4, ">"), (start + 8, 4, ">"), (start + 12, 4, ">"))
    if kind[:2] == b"BM":
        yield from ((at, 4, "<") for at in range(2, min(70, len(content) - 4), 4))
        yield from ((26, 2, "<"), (28, 2, "<"))
    if kind == b"GIF8":
        yield from ((at, 2, "<") for at in (6, 8))
        yield from ((at, 1, "<") for at in range(10, min(60, len(content))))
    for block in re.finditer(rb"II\*\0|MM\0\*|II\+\0", content):
        yield from _directories(content, block.start())


def _segments(content: bytes) -> Iterator[Part]:
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        yield at, min(end, len(content))
        at = end
    if at + 9 <= len(content):
        yield at, len(content)


def _chunks(content: bytes, at: int, order: str, around: int) -> Iterator[Part]:
    place = 0 if order == ">" else 4
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(order + "I", content, at + place)
        end = at + length + around + (length % 2 if order == "<" else 0)
        yield at, min(end, len(content))
        at = end


def _boxes(content: bytes, at: int, end: int) -> Iterator[Part]:
    while at + 16 <= end:
        length = max(8, int.from_bytes(content[at : at + 4], "big"))
        yield at, min(at + length, end)
        inside = {b"meta": 12, b"iprp": 8, b"ipco": 8}.get(content[at + 4 : at + 8])
        if inside:
            yield from _boxes(content, at + inside, min(at + length, end))
        at += length


def _directories(content: bytes, base: int, most: int = 12) -> Iterator[Number]:
    """Numbers in the directories of a TIFF or an EXIF block that starts at `base`."""
    order = "<" if content[base : base + 1] == b"I" else ">"
    yield base + 4, 4, order
    waiting = [int.from_bytes(content[base + 4 : base + 8], "little" if order == "<" else "big")]
    for _ in range(most):
        if not waiting or base + waiting[-1] + 2 > len(content):
            return
        at = base + waiting.pop()
        (count,) = struct.unpack_from(order + "H", content, at)
        yield at, 2, order
        for row in range(at + 2, min(at + 2 + 12 * count, len(content) - 16), 12):
            yield from ((row, 2, order), (row + 2, 2, order), (row + 4, 4, order), (row + 8, 4, order))
            tag, _, _, value = struct.unpack_from(order + "HHII", content, row)
            if tag in (0x8769, 0x8825, 0xA005, 0x14A):
                waiting.append(value)
            if base + value + 4 <= len(content):
                yield base + value, 4, order  # the first of the values stored elsewhere
        after = at + 2 + 12 * count
        if after + 4 <= len(content):
            yield after, 4, order


def with_right_sums(content: bytes) -> bytes:
    """A PNG with corrected checksums. With wrong ones it would be refused for them alone."""
    if content[:4] != b"\x89PNG":
        return content
    changed = bytearray(content)
    for start, end in _chunks(content, 8, ">", 12):
        if end - start >= 12:
            changed[end - 4 : end] = struct.pack(">I", zlib.crc32(changed[start + 4 : end - 4]))
    return bytes(changed)

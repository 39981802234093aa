"""Whether the result of a photo is right, seen by other means than cliplit: Pillow, OpenCV, tifffile, libheif, ExifTool."""

import io
import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageOps

from field_files.parts import lying

EXIFTOOL = shutil.which("exiftool")


@dataclass(frozen=True)
class Right:
    """What must hold of the result of a photo whose pixels are not changed.

    Attributes:
        pixels: (H, W, 1 to 4) as shown, of any type over its whole range; None if the photo must be refused.
        off: share of white that the mean pixel may be off.
        tags: values by ExifTool's names; None for what must not be there.
        icc: the profile; None if it does not matter.
        dpi: resolution; None if it does not matter.
        bits: of a sample, at least.
        kept: bytes that the file must have.
        gone: bytes that the file must not have.
        said: pattern of a note that must be given.
        or_said: pattern of a note that excuses alpha, tags, profile and bytes that are not as they should be.
    """

    pixels: np.ndarray | None
    off: float = 0
    tags: dict[str, Any] = field(default_factory=dict)
    icc: bytes | None = None
    dpi: float | None = None
    bits: int = 8
    kept: bytes = b""
    gone: bytes = b""
    said: str = ""
    or_said: str = ""


def wrong(right: Right, result: Path, notes: list[str]) -> str:
    """What is wrong with a result, shortly; empty if nothing is."""
    if right.pixels is None:
        return "made without a word"
    said = "; ".join(notes)
    excused = bool(right.or_said) and re.search(right.or_said, said, re.I)
    return (
        _wrong_pixels(right, result, 3 if excused else 4)
        or ("" if excused else _wrong_metadata(right, result))
        or ("unsaid" if right.said and not re.search(right.said, said, re.I) else "")
    )


def _wrong_pixels(right: Right, result: Path, channels: int) -> str:
    shown = look(result)
    if shown.dtype.itemsize * 8 < right.bits:
        return f"{shown.dtype.itemsize * 8} bits"
    if shown.shape[:2] != right.pixels.shape[:2]:
        return "not upright" if shown.shape[1::-1] == right.pixels.shape[:2] else f"of shape {shown.shape}"
    if shown.shape[2] > 2 and right.pixels.shape[2] <= 2:
        return "grey became colour"
    off = np.abs(_rgba(shown) - _rgba(right.pixels))[..., :channels].mean()
    return "" if off <= right.off + 1e-7 else f"pixels off by {off:.0%}" if off >= 0.01 else f"pixels off by {off:.1g}"


def _wrong_metadata(right: Right, result: Path) -> str:
    content = result.read_bytes()
    if right.kept and right.kept not in content:
        return "bytes lost"
    if right.gone and right.gone in content:
        return f"{right.gone.decode()} still there"
    if right.icc is not None and profile(result) != right.icc:
        return "colour profile lost"
    if right.dpi is not None and abs(resolution(result) - right.dpi) > 0.1:
        return "resolution lost"
    if not (right.tags and EXIFTOOL):
        return ""
    there = tags(result)
    bad = [name for name, value in right.tags.items() if not _same(there.get(name), value)]
    return "; ".join(f"{name} {'lost' if there.get(name) is None else 'wrong'}" for name in bad)


def look(path: Path) -> np.ndarray:
    """The picture of a file as shown: (H, W, C) of its own type, upright, alpha not multiplied in."""
    content = path.read_bytes()
    if content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _look_at_tiff(content)
    if content[:2] in (b"P4", b"P5", b"P6"):
        return _look_at_pnm(content)
    if content[:4] == b"\x89PNG" and content[24] == 16:
        deep = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        deep = deep.reshape(*deep.shape[:2], -1)
        colours = deep if deep.shape[2] == 1 else deep[..., [2, 1, 0, 3][: deep.shape[2]]]
        return colours[..., [0, -1]] if content[25] == 4 else colours  # grey and alpha, which OpenCV shows as colour
    if content[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1"):
        import pillow_heif

        heif = np.asarray(pillow_heif.open_heif(path, convert_hdr_to_8bit=False))
        return heif.reshape(*heif.shape[:2], -1)
    with Image.open(io.BytesIO(content)) as image:
        shown = ImageOps.exif_transpose(image)
        if "transparency" in image.info:
            shown = shown.convert("LA" if shown.mode in ("1", "L") else "RGBA")
        if shown.mode not in ("L", "LA", "RGB", "RGBA"):
            shown = shown.convert("L" if shown.mode == "1" else "RGB")
        array = np.asarray(shown)
        return array.reshape(*array.shape[:2], -1)


def _look_at_tiff(content: bytes) -> np.ndarray:
    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        page = tiff.pages[0]
        array = page.asarray()
        array = np.moveaxis(array, 0, -1) if page.axes == "SYX" else array
        array = array.reshape(*array.shape[:2], -1)
        if array.dtype == bool:
            array = array * np.uint8(255)
        if 8 < page.bitspersample < 16:
            array = (array * (65535 / (2**page.bitspersample - 1))).round().astype(np.uint16)
        if page.photometric == 0:
            array = np.iinfo(array.dtype).max - array
        if page.photometric == 3:
            array = page.colormap[:, array[..., 0]].transpose(1, 2, 0)
        if array.shape[2] in (2, 4) and 1 in page.extrasamples:
            alpha = array[..., -1:] / _white(array)
            array[..., :-1] = (array[..., :-1] / np.maximum(alpha, 1e-6)).round()
        turn = page.tags.valueof(274, 1)
        return lying(array, {6: 8, 8: 6}.get(turn, turn))


def _look_at_pnm(content: bytes) -> np.ndarray:
    numbers = 2 if content[:2] == b"P4" else 3
    head = re.match(rb"P\d" + rb"\s+(?:#[^\n]*\n\s*)*(\d+)" * numbers + rb"\s", content)
    width, height, *most = map(int, head.groups())
    body = content[head.end() :]
    if not most:
        bits = np.unpackbits(np.frombuffer(body, np.uint8).reshape(height, -1), axis=1)[:, :width]
        return (255 * (1 - bits))[..., None].astype(np.uint8)
    deep = most[0] > 255
    channels = 1 if content[:2] == b"P5" else 3
    samples = np.frombuffer(body, ">u2" if deep else np.uint8, height * width * channels)
    whole = samples.reshape(height, width, channels) / most[0]
    return (whole * 65535).round().astype(np.uint16) if deep else (whole * 255).round().astype(np.uint8)


def _rgba(array: np.ndarray) -> np.ndarray:
    """Any picture as (H, W, 4) from 0 to 1."""
    scaled = array / _white(array)
    alpha = scaled[..., -1:] if array.shape[2] in (2, 4) else np.ones_like(scaled[..., :1])
    colours = scaled[..., : 1 if array.shape[2] <= 2 else 3]
    return np.concatenate([np.broadcast_to(colours, (*array.shape[:2], 3)), alpha], 2)


def _white(array: np.ndarray) -> float:
    return 1.0 if array.dtype.kind == "f" else float(np.iinfo(array.dtype).max)


def profile(path: Path) -> bytes:
    """The colour profile of a file; empty if there is none."""
    if path.suffix in (".heic", ".heif"):
        import pillow_heif

        return pillow_heif.open_heif(path).info.get("icc_profile") or b""
    if path.suffix in (".tif", ".tiff"):
        with tifffile.TiffFile(path) as tiff:
            return tiff.pages[0].tags.valueof(34675, b"")
    with Image.open(path) as image:
        return image.info.get("icc_profile") or b""


def resolution(path: Path) -> float:
    """Dots per inch across; 0 if it is not known."""
    with Image.open(path) as image:
        return float(image.info.get("dpi", (0, 0))[0])


def tags(path: Path) -> dict[str, Any]:
    """What ExifTool says of a file, with names as EXIF:Artist."""
    told = subprocess.run([EXIFTOOL, "-j", "-n", "-G0", str(path)], capture_output=True, check=False)
    return json.loads(told.stdout)[0]


def _same(there: Any, expected: Any) -> bool:
    if isinstance(expected, float):
        return there is not None and abs(there - expected) < 1e-3
    return there == expected

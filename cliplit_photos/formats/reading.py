"""Reading: by Pillow what has 8 bits, else by the library that is made for the format."""

import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from cliplit.errors import CliplitError, one_line
from cliplit_photos.formats import heif, jpeg, png, pnm, raw, tiff
from cliplit_photos.formats.exif import ORIENTATION, PREFIX, read_block, upright_block
from cliplit_photos.formats.kinds import UNREAD
from cliplit_photos.formats.photo import (
    MAX_PIXELS,
    ROWS,
    Photo,
    check_size,
    split,
    turned,
    upright,
    upright_canvas,
)
from cliplit_photos.formats.xmp import orientation_of, upright_xmp

PILLOWS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "PPM", "TIFF", "AVIF")  # no others: some start programs
KINDS = {"MPO": "JPEG", "DIB": "BMP"}
WITH_OWN = ("JPEG", "MPO", "PNG", "WEBP")  # hold more than Pillow tells
START = 4096  # bytes of a file that tell its kind
_opening = threading.Lock()


def read_photo(path: str | Path, max_pixels: int = MAX_PIXELS) -> Photo:
    """Read a photo, whatever its ending says.

    Raises:
        CliplitError: not a photo, truncated, of a kind that is not read, or larger than `max_pixels`; names the file.
    """
    path = Path(path)
    with named(path):
        photo = _read(path, max_pixels)
        height, width = photo.pixels.shape[:2]
        photo.exif, notes = upright_block(photo.exif, width, height)
        photo.xmp, more = upright_xmp(photo.xmp)
        photo.notes += notes + more
        return photo


def photo_size(path: str | Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Width and height of a photo as shown, from the header of its file.

    Raises:
        CliplitError: as `read_photo`.
    """
    path = Path(path)
    with named(path):
        start = _start(path)
        if path.suffix.lower() in raw.ENDINGS:
            with raw.open_raw(path, max_pixels) as opened:
                lies = bool(opened.sizes.flip & 4)
                size = (opened.sizes.iwidth, opened.sizes.iheight)
        elif heif.is_heif(start):
            lies = False
            size = heif.open_heif(path, max_pixels).size
        elif start[:4] in tiff.STARTS:
            lies, size = tiff.lying_size(path)
        else:
            with opened_by_pillow(path, max_pixels) as image:
                if image.format == "PNG" and png.says_more_behind(path):
                    image.load()
                lies = _orientation(image) >= 5
                size = image.size
        check_size(*size, max_pixels)
        return (size[1], size[0]) if lies else size


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Make whatever is raised about a file a CliplitError in one line that names it.

    There is nothing that a broken file cannot make a decoder raise.
    """
    try:
        yield
    except CliplitError as error:
        raise error if str(error).startswith(f"{path}: ") else CliplitError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise CliplitError(f"{path}: no such file") from None
    except MemoryError:
        raise CliplitError(f"{path}: more pixels than this machine has memory for") from None
    except UnidentifiedImageError:
        reason = UNREAD.get(path.suffix.lower(), "not an image of a known kind, or damaged; mend or remove the file")
        raise CliplitError(f"{path}: {reason}") from None
    except Exception as error:
        raise CliplitError(
            f"{path}: cannot be read as an image ({one_line(error)}); mend or remove the file"
        ) from error


@contextlib.contextmanager
def opened_by_pillow(path: Path, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """An opened image of at most so many pixels.

    Pillow has a limit of its own, a variable of the module, which is lifted for as long as it opens the file.
    """
    with _opening:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            image = Image.open(path, formats=PILLOWS)
        finally:
            Image.MAX_IMAGE_PIXELS = before
    with image:
        check_size(*image.size, max_pixels)
        yield image


def _start(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(START)


def _read(path: Path, max_pixels: int) -> Photo:
    """A photo with its EXIF and XMP as they are."""
    start = _start(path)
    if path.suffix.lower() in raw.ENDINGS:
        return raw.read_raw(path, max_pixels)
    if heif.is_heif(start):
        return heif.read_heif(path, max_pixels)
    if start[:4] in tiff.STARTS:
        photo = tiff.read_tiff(path, max_pixels) or _read_by_pillow(path, max_pixels)
        tiff.read_tags(path, photo)
        return photo
    return _read_by_pillow(path, max_pixels)


def _read_by_pillow(path: Path, max_pixels: int) -> Photo:
    with opened_by_pillow(path, max_pixels) as image:
        white = pnm.white_of(image)
        if white:
            return pnm.read_deep_pnm(path, image, white)
        if (image.mode in ("I", "F") and image.format != "PNG") or (
            image.mode.startswith("I;") and image.format == "TIFF"
        ):
            raise CliplitError(f"{image.format} of such depth is not known; convert it to a TIFF or PNG of 16 bits")
        content = path.read_bytes() if image.format in WITH_OWN else b""
        several = getattr(image, "n_frames", 1) > 1 and image.format != "MPO"  # of which JPEG's segments tell
        image.load()
        photo = _pixels(image, content)
        photo.kind = KINDS.get(str(image.format), str(image.format))
        if several:
            photo.notes.append("first of several pictures taken")
        _take_blocks(image, photo)
        if photo.kind == "JPEG":
            jpeg.read_segments(image, content, photo)
        if photo.kind == "PNG":
            png.read_chunks(content, photo)
        if photo.kind == "WEBP":
            photo.options["lossless"] = b"VP8L" in content[: content.find(b"ANMF")]
        if photo.kind == "AVIF" and avif_depth(_start(path)) > 8:
            photo.notes.append("read as 8 bits, for want of a deeper reader of AVIF")
        if photo.kind == "GIF" and image.info.get("comment"):
            photo.own.append(("comment", image.info["comment"]))
        return photo


def _take_blocks(image: Image.Image, photo: Photo) -> None:
    """Profile, XMP, EXIF and resolution, as Pillow finds them."""
    info = image.info
    photo.icc = b"" if image.mode == "CMYK" else info.get("icc_profile") or b""
    photo.xmp = _bytes(info.get("xmp"))
    photo.exif = _bytes(info.get("exif")) or png.unpacked(info)
    if info.get("dpi"):
        photo.options["dpi"] = tuple(float(dots) for dots in info["dpi"])


def _pixels(image: Image.Image, content: bytes) -> Photo:
    """Pixels from a loaded image, strip by strip into an upright array."""
    orientation = _orientation(image)
    if png.is_deep(content):
        import imagecodecs

        channels = imagecodecs.png_decode(content)
        return Photo(*split(upright(channels.reshape(*channels.shape[:2], -1), orientation)))
    mode = _plain_mode(image)
    convert, notes = _converter(image, mode)
    width, height = image.size
    channels = upright_canvas(orientation, height, width, len(mode), np.uint8)
    lying = turned(channels, orientation)
    for top in range(0, height, ROWS):
        bottom = min(top + ROWS, height)
        strip = convert(image.crop((0, top, width, bottom)))
        lying[top:bottom] = np.asarray(strip).reshape(bottom - top, width, -1)
    return Photo(*split(channels), notes=notes)


def _orientation(image: Image.Image) -> int:
    """1 to 8, by EXIF or else by XMP; Pillow turns TIFF by itself."""
    if image.format == "TIFF":
        return 1
    exif = _bytes(image.info.get("exif")) or png.unpacked(image.info)
    block = read_block(exif.removeprefix(PREFIX))
    return block.orientation if ORIENTATION in block.tags else orientation_of(_bytes(image.info.get("xmp")))


def _bytes(found: bytes | str | None) -> bytes:
    return found.encode() if isinstance(found, str) else found or b""


def _plain_mode(image: Image.Image) -> str:
    """The mode that holds all that the image's own mode does."""
    grey = image.mode in ("1", "L", "LA", "La")
    transparent = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    if grey:
        return "LA" if transparent else "L"
    return "RGBA" if transparent else "RGB"


def _converter(image: Image.Image, mode: str) -> tuple[Callable[[Image.Image], Image.Image], list[str]]:
    """Conversion of strips to a mode, of CMYK to sRGB by the image's profile, if it has a good one; and what is said."""
    if image.mode != "CMYK":
        return lambda strip: strip.convert(mode), []
    with contextlib.suppress(OSError, KeyError, ImageCms.PyCMSError):
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), "CMYK", "RGB")
        return transform.apply, ["CMYK converted to RGB"]
    return lambda strip: strip.convert("RGB"), ["CMYK converted to RGB without a profile"]


def avif_depth(start: bytes) -> int:
    """Bits of an AVIF's values, by the first bytes of the file."""
    at = start.find(b"pixi")
    return start[at + 9] if 0 <= at < len(start) - 9 else 8

"""Decodes image files to arrays, defensively. Importing it does not import torch.

The photo tool (`cliplit_photos.formats`) reads more: HEIC, RAW, odd TIFFs, and everything beside the pixels.
"""

import contextlib
import io
import logging
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageCms, PngImagePlugin, UnidentifiedImageError

from cliplit.errors import CliplitError, one_line, printable

MAX_PIXELS = 1 << 28  # 268 megapixels; a photo has fewer, a decompression bomb more
ROWS = 256  # rows of the strips in which large arrays are converted
DECODERS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "PPM", "TIFF", "AVIF")  # Pillow's; some others run programs
READ = ".jpg .jpeg .jpe .jfif .mpo .png .apng .tif .tiff .webp .avif .bmp .dib .gif .ppm .pgm .pnm .pbm"
EXTENSIONS = frozenset(READ.split())
HEIC = ".heic .heif .hif"
RAW = (
    ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2 .rwl .sr2 "
    ".srf .srw .x3f"
)
OTHERS = (
    ".jxl .jp2 .j2k .jpf .jpx .jpc .jxr .wdp .hdp .psd .psb .xcf .kra .exr .hdr .pfm .tga .fit .fits .ico .icns .svg "
    ".svgz .eps .ai"
)
UNREAD = {ending: f"{ending} files are not supported; convert it to PNG or TIFF" for ending in OTHERS.split()} | {
    ending: f"{ending} files are not supported here; convert it, e.g. cliplit enhance FILE -o FILE.png --strength 0"
    for ending in f"{HEIC} {RAW}".split()
}  # image files by ending: the reason, for messages
NOT_AN_IMAGE = "not an image of a known format, or damaged; repair or remove the file"
NEEDS_PHOTOS = "damaged, or compressed in a way that needs the extra photos: pip install 'cliplit[photos]'"
ORIENTATION = 0x0112  # tag of EXIF and TIFF
GREY_OR_RGB = (0, 1, 2)  # photometric interpretations of TIFF; in the first one, white is 0
TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PPM_HEAD = re.compile(rb"P[56]" + 3 * rb"(?:\s|#[^\n]*\n)+(\d+)" + rb"\s")  # width, height, value of white
_opening = threading.Lock()
logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what matters is raised
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # one text may be as long as all texts


def decode(path: str | Path, max_pixels: int | None = None) -> np.ndarray:
    """An image file as upright RGB (H, W, 3) of uint8, uint16 or float32 in [0, 1]. Grey is repeated and alpha dropped.

    Raises CliplitError, which names the file, if it is not an image, truncated, or larger than `max_pixels` (MAX_PIXELS).
    """
    path = Path(path)
    with errors_named(path), open(path, "rb") as file:
        lying = None
        with tiff_page(file, max_pixels) as page:
            if page is not None and np.max(page.bitspersample) > 8:  # Pillow reads the others
                lying, orientation = tiff_channels(page), page.tags.valueof(ORIENTATION, 1)
                lying = lying.clip(0, 1) if lying.dtype.kind == "f" else lying
        if lying is None:
            with opened(file, max_pixels) as image:
                image.load()  # refuses a truncated file, and turns a TIFF upright
                lying, orientation = deep_pixels(file, image), orientation_of(image)
                if lying is None and (image.mode in ("I", "F") or image.mode.startswith("I;")):
                    raise CliplitError(f"{image.format} of this depth is not supported; convert it to a 16-bit PNG")
                if lying is None:
                    transform = cmyk_transform(image)
                    lying = np.asarray(transform.apply(image) if transform else image.convert("RGB"))
        colours = lying[..., :3] if lying.shape[2] >= 3 else np.repeat(lying[..., :1], 3, axis=2)
        return np.require(upright(colours, orientation), requirements=["C", "W"])


def size_in(file: BinaryIO, max_pixels: int | None = None, unread: Mapping[str, str] = UNREAD) -> tuple[int, int]:
    """Width and height of an upright image, from the header of its open file. Errors of decoders are passed on."""
    with tiff_page(file, max_pixels, unread) as page:
        if page is not None:
            size, orientation = (page.imagewidth, page.imagelength), page.tags.valueof(ORIENTATION, 1)
    if page is None:
        with opened(file, max_pixels) as image:
            size, orientation = image.size, orientation_of(image)
    return (size[1], size[0]) if orientation in (5, 6, 7, 8) else size


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of an upright image, from the header of its file. Raises CliplitError if there is no such header."""
    with errors_named(path), open(path, "rb") as file:
        return size_in(file)


def upright(lying: np.ndarray, orientation: int) -> np.ndarray:
    """An upright view of pixels (H, W, C) as stored in a file with this EXIF orientation (1 to 8)."""
    down = -1 if orientation in (3, 4, 6, 7) else 1
    right = -1 if orientation in (2, 3, 7, 8) else 1
    flipped = lying[::down, ::right]
    return flipped.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else flipped


def to_8_bits(array: np.ndarray) -> np.ndarray:
    """Pixels of uint16, or of float32 in [0, 1], rounded to uint8, strip by strip."""
    if array.dtype == np.uint8:
        return array
    result = np.empty(array.shape, np.uint8)
    for top in range(0, len(array), ROWS):
        strip = array[top : top + ROWS]
        result[top : top + ROWS] = (strip / 257 if array.dtype == np.uint16 else strip * 255).round()
    return result


def to_16_bits(array: np.ndarray, white: int) -> np.ndarray:
    """Values from 0 to `white`, clipped there, scaled and rounded to uint16, strip by strip."""
    result = np.empty(array.shape, np.uint16)
    for top in range(0, len(array), ROWS):
        result[top : top + ROWS] = (np.minimum(array[top : top + ROWS], white) * (65535 / white)).round()
    return result


def squared(array: np.ndarray, size: int) -> np.ndarray:
    """An image (H, W, 3) as a square of `size` pixels and 8 bits (Lanczos), as the released training resizes."""
    return np.array(Image.fromarray(to_8_bits(array)).resize((size, size), Image.Resampling.LANCZOS))


@contextlib.contextmanager
def errors_named(path: Path, unread: Mapping[str, str] = UNREAD) -> Iterator[None]:
    """Turn any error of a decoder into one line that names the file.

    Args:
        unread: for extensions that are not read, the reason.
    """
    try:
        yield
    except Exception as error:
        reason = f"cannot be read as an image ({one_line(error)}); repair or remove the file"
        if isinstance(error, CliplitError):
            reason = str(error).removeprefix(f"{path}: ")
        elif isinstance(error, FileNotFoundError):
            reason = "no such file"
        elif isinstance(error, MemoryError):
            reason = "more pixels than this machine has memory for"
        elif isinstance(error, UnidentifiedImageError):
            reason = unread.get(path.suffix.lower(), NOT_AN_IMAGE)
        elif "imagecodecs" in str(error) or isinstance(error, ImportError):
            reason = NEEDS_PHOTOS
        raise CliplitError(f"{path}: {reason}") from error


@contextlib.contextmanager
def opened(file: BinaryIO, max_pixels: int | None) -> Iterator[Image.Image]:
    """An opened image with at most `max_pixels`. Pillow's own lower limit is lifted while the file is opened.

    Pillow gets an open file, not a path: from a path, it maps raw TIFFs into memory, which scrambles rotated ones.
    """
    file.seek(0)
    with _opening:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            image = Image.open(file, formats=DECODERS)
        finally:
            Image.MAX_IMAGE_PIXELS = before
    with image:
        check_size(*image.size, max_pixels)
        yield image


def check_size(width: int, height: int, limit: int | None) -> None:
    """Raise CliplitError above a limit of pixels. Commands that set a limit have the option --max-pixels."""
    if width * height > (limit or MAX_PIXELS):
        remedy = "--max-pixels raises it" if limit else "use a smaller copy"
        most = f"above the limit of {limit or MAX_PIXELS} against decompression bombs"
        raise CliplitError(f"{width} x {height} pixels are {most}; {remedy}")


def orientation_of(image: Image.Image) -> int:
    """The orientation, 1 to 8. It is 1 if EXIF and XMP give no valid one, and for a TIFF, which Pillow turns itself."""
    try:
        found = 1 if image.format == "TIFF" else image.getexif().get(ORIENTATION)
    except Exception:  # damaged EXIF raises every kind
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


@contextlib.contextmanager
def tiff_page(file: BinaryIO, max_pixels: int | None, unread: Mapping[str, str] = UNREAD) -> Iterator[Any]:
    """The first page of a TIFF by tifffile; None for other files."""
    file.seek(0)
    if file.read(4) not in TIFF_HEADS:
        yield None
        return
    if reason := unread.get(Path(file.name).suffix.lower()):  # many RAW files are TIFFs whose first page is a thumbnail
        raise CliplitError(reason)
    import tifffile

    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        size = (page.imagewidth, page.imagelength)
        if not all(isinstance(side, int) and side > 0 for side in size):  # a damaged tag may be anything
            raise CliplitError("a TIFF without a valid size; repair or remove the file")
        check_size(*size, max_pixels)
        yield page


def tiff_channels(page: Any) -> np.ndarray:
    """Pixels (H, W, C) of a grey or RGB page, as stored: uint8, uint16 up to 65535, or finite float32.

    Raises CliplitError for other depths and colours, and for values that are NaN or infinite.
    """
    bits = int(np.max(page.bitspersample))
    if page.photometric not in GREY_OR_RGB or page.dtype not in ("u1", "u2", "f2", "f4", "f8"):
        colours = str(getattr(page.photometric, "name", page.photometric)).lower()
        kind = f"{bits}-bit {page.dtype or 'samples'} in {colours} colours"
        raise CliplitError(f"a TIFF of {printable(kind)} is not supported; convert it to 16-bit RGB")
    channels = page.asarray()
    channels = np.moveaxis(channels, 0, -1) if page.axes == "SYX" else channels
    channels = channels.reshape(*channels.shape[:2], -1)
    if channels.dtype.kind == "f":
        with np.errstate(over="ignore"):  # overflow becomes infinite, which is refused below
            channels = channels.astype(np.float32)
        if not (np.isfinite(channels.min()) and np.isfinite(channels.max())):
            raise CliplitError("contains values that are NaN or infinite; repair or remove the file")
    elif 8 < bits < 16:
        channels = to_16_bits(channels, (1 << bits) - 1)
    white = 1 if channels.dtype.kind == "f" else np.iinfo(channels.dtype).max
    return np.dstack([white - channels[..., :1], channels[..., 1:]]) if page.photometric == GREY_OR_RGB[0] else channels


def deep_pixels(file: BinaryIO, image: Image.Image) -> np.ndarray | None:
    """Pixels (H, W, C) as uint16 of a PNG, PPM or PGM with more than 8 bits, as stored; None for all others.

    Args:
        image: the same file, opened and loaded by Pillow, which refuses truncated files; OpenCV accepts them.
    """
    import cv2

    file.seek(0)
    head = file.read(4096)
    ppm = PPM_HEAD.match(head)
    deep = int(ppm[3]) > 255 if ppm else image.format == "PNG" and head[24] == 16  # bits
    if not deep:
        return None
    file.seek(0)
    content, at = file.read(), 8
    while not ppm and at < len(content) and content[at + 4 : at + 8] != b"IEND":  # OpenCV makes room for any length
        at += 12 + int.from_bytes(content[at : at + 4], "big")
    pixels = None if at > len(content) else cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise CliplitError(NOT_AN_IMAGE)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if pixels.shape[2] > 1:
        pixels[..., [0, 2]] = pixels[..., [2, 0]]
    if ppm:
        return to_16_bits(pixels, int(ppm[3]))
    return pixels[..., [0, 3]] if head[25] == 4 else pixels  # grey with alpha, which OpenCV reads as colours


def cmyk_transform(image: Image.Image) -> Any:
    """A transform from CMYK to sRGB by the image's own profile; None for other images, or without a valid profile."""
    if image.mode == "CMYK":
        with contextlib.suppress(OSError, KeyError, ImageCms.PyCMSError):
            profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
            return ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), "CMYK", "RGB")
    return None

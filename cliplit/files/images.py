"""Image files decoded to arrays, defensively. Importing it does not import torch.

The photo tool (`cliplit_photos.formats`) reads more: HEIC, RAW, odd TIFFs, and what a file says beside its pixels.
"""

import contextlib
import io
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from cliplit.errors import CliplitError, one_line

MAX_PIXELS = 1 << 28  # 268 megapixels; an honest photo has fewer, a decompression bomb more
DECODERS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "PPM", "TIFF", "AVIF")  # Pillow's; some others start programs
EXTENSIONS = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".png",
        ".apng",
        ".tif",
        ".tiff",
        ".webp",
        ".avif",
        ".bmp",
        ".dib",
        ".gif",
        ".ppm",
        ".pgm",
        ".pnm",
        ".pbm",
    ]
)
OTHER_KINDS = {  # image files that this reader does not read
    "HEIC": ".heic .heif .hif",
    "RAW": ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2 "
    ".rwl .sr2 .srf .srw .x3f",
    "JPEG XL": ".jxl",
    "JPEG 2000": ".jp2 .j2k .jpf .jpx .jpc",
    "JPEG XR": ".jxr .wdp .hdp",
    "Photoshop": ".psd .psb",
    "GIMP": ".xcf",
    "Krita": ".kra",
    "OpenEXR": ".exr",
    "Radiance HDR": ".hdr",
    "PFM": ".pfm",
    "Targa": ".tga",
    "FITS": ".fit .fits",
    "icon": ".ico .icns",
    "drawing": ".svg .svgz .eps .ai",
}
BY_PHOTO_TOOL = ("HEIC", "RAW")
UNREAD = {  # extension: the reason, for messages
    extension: f"{kind} files are not read here; convert it, e.g. with cliplit enhance FILE -o FILE.png --strength 0"
    if kind in BY_PHOTO_TOOL
    else f"{kind} files are not read; convert it to PNG or TIFF"
    for kind, extensions in OTHER_KINDS.items()
    for extension in extensions.split()
}
ORIENTATION = 0x0112  # EXIF tag
GREY, RGB = (0, 1), 2  # photometric interpretations of TIFF; in the first one, white is 0
TIFF_SIZE = (256, 257)  # tags: width and height as they lie
_opening = threading.Lock()


def decode(path: str | Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """An image file as RGB (H, W, 3), upright, of uint8, uint16 or float32 in [0, 1]; grey is repeated, alpha dropped.

    Raises:
        CliplitError: not an image, truncated, or of more than `max_pixels`; names the file.
    """
    path = Path(path)
    with errors_named(path), opened(path, max_pixels) as image:
        channels = _deep(path, image)
        if channels is None:
            image.load()  # turns a TIFF upright
            channels = np.asarray(_in_rgb(image))
        channels = upright(channels, _orientation(image))
    colours = channels[..., :3] if channels.shape[2] >= 3 else np.repeat(channels[..., :1], 3, axis=2)
    return np.require(colours, requirements=["C", "W"])


def image_size(path: str | Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Width and height of an upright image, from the header of its file.

    Raises:
        CliplitError: as `decode`.
    """
    with errors_named(Path(path)), opened(Path(path), max_pixels) as image:
        width, height = (image.tag_v2[tag] for tag in TIFF_SIZE) if image.format == "TIFF" else image.size
        return (height, width) if _orientation(image) >= 5 else (width, height)


def upright(lying: np.ndarray, orientation: int) -> np.ndarray:
    """A view of pixels (H, W, C) as they lie in a file of this EXIF orientation (1 to 8), turned upright."""
    down = -1 if orientation in (3, 4, 6, 7) else 1
    right = -1 if orientation in (2, 3, 7, 8) else 1
    flipped = lying[::down, ::right]
    return flipped.swapaxes(0, 1) if orientation >= 5 else flipped


def to_8_bits(array: np.ndarray) -> np.ndarray:
    """Pixels of uint16, or of float32 in [0, 1], rounded to uint8."""
    if array.dtype == np.uint8:
        return array
    return (array / 257 if array.dtype == np.uint16 else array * 255).round().astype(np.uint8)


def squared(array: np.ndarray, size: int) -> np.ndarray:
    """An image (H, W, 3) as a square of `size` pixels and 8 bits (Lanczos), as the released training resizes."""
    return np.array(Image.fromarray(to_8_bits(array)).resize((size, size), Image.Resampling.LANCZOS))


@contextlib.contextmanager
def errors_named(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises about a broken file into one line that names the file."""
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
        if "imagecodecs" in str(error):
            reason = "its compression needs the extra photos: pip install 'cliplit[photos]'"
            raise CliplitError(f"{path}: {reason}") from None
        raise CliplitError(f"{path}: cannot be read as an image ({one_line(error)}); mend or remove it") from error


@contextlib.contextmanager
def opened(path: Path, max_pixels: int) -> Iterator[Image.Image]:
    """An opened image of at most so many pixels. Pillow's own limit is lower, and lifted while the file is opened.

    Pillow gets an open file, not a path: from a path, it maps raw TIFFs into memory, which scrambles turned ones.
    """
    with open(path, "rb") as file:
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


def check_size(width: int, height: int, limit: int) -> None:
    """Raise CliplitError above the limit of pixels."""
    if width * height > limit:
        raise CliplitError(f"{width} x {height} pixels; above {limit}, a file may be a decompression bomb")


def _orientation(image: Image.Image) -> int:
    """1 to 8; 1 where EXIF and XMP say nothing, or nonsense."""
    try:
        found = image.tag_v2.get(ORIENTATION) if image.format == "TIFF" else image.getexif().get(ORIENTATION)
    except Exception:  # damaged EXIF raises every kind
        return 1
    return found if found in range(1, 9) else 1


def _deep(path: Path, image: Image.Image) -> np.ndarray | None:
    """Pixels (H, W, C) of more than 8 bits, as they lie in the file; None if Pillow reads all of the image."""
    if image.format == "TIFF":
        return _deep_tiff(path)
    coding = str(image.tile[0][3]) if image.tile else ""
    if image.format == "PNG" and "16B" in coding:
        import cv2

        image.load()  # refuses a truncated file, which OpenCV does not
        deep = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
        return deep[..., None] if deep.ndim == 2 else deep[..., [2, 1, 0, *range(3, deep.shape[2])]]
    white = int(coding.strip("()").split(", ")[-1]) if coding.startswith("(") and image.format == "PPM" else 0
    if white > 255 or "16B" in coding:
        white = white or 65535
        shape = (image.height, image.width, 3 if image.mode == "RGB" else 1)
        values = np.fromfile(path, ">u2", int(np.prod(shape)), offset=image.tile[0][2])
        return _to_16_bits(values.reshape(shape), white)  # reshaping refuses a truncated file
    return None


def _deep_tiff(path: Path) -> np.ndarray | None:
    """The first page of a TIFF of grey or RGB by tifffile; None for palettes, CMYK and fewer than 8 bits."""
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what matters is raised
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        bits = int(np.max(page.bitspersample))
        if bits < 8 or (bits == 8 and page.photometric not in (*GREY, RGB)):
            return None
        if page.photometric not in (*GREY, RGB) or page.dtype not in ("u1", "u2", "f2", "f4", "f8"):
            raise CliplitError(
                f"a TIFF of {bits} bits and this kind of colour is not read; convert it to RGB of 16 bits"
            )
        channels = page.asarray()
        channels = np.moveaxis(channels, 0, -1) if page.axes == "SYX" else channels
        channels = channels.reshape(*channels.shape[:2], -1)
        if channels.dtype.kind == "f":
            channels = channels.astype(np.float32)
            if not np.isfinite(channels).all():
                raise CliplitError("holds values that are infinite or not a number")
            channels = channels.clip(0, 1)
        elif 8 < bits < 16:
            channels = _to_16_bits(channels, (1 << bits) - 1)
        if page.photometric == 0:
            channels = (1 if channels.dtype.kind == "f" else np.iinfo(channels.dtype).max) - channels
        return channels


def _to_16_bits(values: np.ndarray, white: int) -> np.ndarray:
    return (np.minimum(values, white) * (65535 / white)).round().astype(np.uint16)


def _in_rgb(image: Image.Image) -> Image.Image:
    """An image of 8 bits as RGB; CMYK by its profile, if it has a good one."""
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise CliplitError(f"{image.format} of such depth is not read; convert it to a TIFF or PNG of 16 bits")
    if image.mode == "CMYK":
        with contextlib.suppress(OSError, KeyError, ImageCms.PyCMSError):
            profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
            transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), "CMYK", "RGB")
            return transform.apply(image)
    return image.convert("RGB")

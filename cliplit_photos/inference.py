"""Enhances images of any kind and size: exactly, quickly and in bounded memory."""

import warnings
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import cliplit
from cliplit.engine.compute import find_device, limits_told, usable_precision
from cliplit.errors import CliplitError, one_line
from cliplit.files.atomic import writing
from cliplit.files.images import orientation_of, to_8_bits, upright
from cliplit.method.checkpoints import load_enhancer
from cliplit.method.enhancer import Enhancer
from cliplit.values import check_values
from cliplit_photos.formats import Photo, kind_of, write_photo
from cliplit_photos.formats.photo import split
from cliplit_photos.formats.reading import put_right
from cliplit_photos.options import BatchOptions, Inference
from cliplit_photos.preview import predict_small
from cliplit_photos.regions import Region
from cliplit_photos.tiles import device_of, predict, to_planes, white

SHIPPED_ENHANCER = Path(cliplit.__file__).parent / "models" / "enhancer.safetensors"  # the shipped checkpoint
BAND = 256  # rows of a tile that are divided at a time, to save memory
MODES = ("L", "LA", "RGB", "RGBA", "I;16")  # of PIL images

Picture = TypeVar("Picture", np.ndarray, Tensor, Image.Image)


def enhance(
    image: Picture, checkpoint: str | Path | Enhancer | None = None, device: str = "auto", **options: Any
) -> Picture:
    """An enhanced image of the same kind, shape and type.

    Grey is enhanced as three equal channels and stays grey, because all channels are divided by the same map. Alpha stays
    unchanged.

    Args:
        image: array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or tensor (C, H, W) or (N, C, H, W) with C = 3 or 1, of
            uint8, uint16 or floats in [0, 1]; or PIL image of mode L, LA, RGB, RGBA or I;16, not rotated by EXIF.
        checkpoint: a file, ours or a released one, or a network; by default the one in the package.
        device: auto, cpu, cuda ...; a given network computes on its own device.
        options: fields of `Inference`.
    Raises:
        CliplitError: another kind of image, values that are not in [0, 1], no such checkpoint, unknown options.
    """
    valid = [item.name for item in fields(Inference)]
    unknown = [name for name in options if name not in valid]
    if unknown:
        raise CliplitError(f"unknown option '{unknown[0]}'; valid: {', '.join(valid)}")
    chosen = Inference(**options)
    check_values(chosen)
    if not isinstance(checkpoint, Enhancer):
        checkpoint = load_enhancer(checkpoint or SHIPPED_ENHANCER).to(find_device(device))
    chosen = replace(chosen, precision=usable_precision(chosen.precision, device_of(checkpoint)))
    if isinstance(image, Tensor) and image.ndim == 4 and len(image):
        return torch.stack([enhance(one, checkpoint, **options) for one in image])
    result = _enhance_array(checkpoint, _array_of(image), chosen)
    if isinstance(image, Image.Image):
        made = Image.fromarray(result)
        made.info = dict(image.info)
        return made
    if isinstance(image, Tensor):
        return torch.from_numpy(result).movedim(-1, 0).contiguous().to(image)
    return result


def write_image(image: Picture, path: str | Path, quality: int = 0) -> None:
    """Write an image of any kind that `enhance` returns, atomically, as `cliplit enhance` writes its results.

    uint16 is written with 16 bits if the format has them, and all else with 8. A PIL image keeps its metadata and colour
    profile. It is turned upright, as its EXIF says. A warning names what the format cannot hold.

    Args:
        image: as for `enhance`; a batch may hold one image only.
        path: its ending determines the format.
        quality: of JPEG, HEIC, AVIF and WebP, 1 to 100; 0: 95, and 90 for HEIC and AVIF.
    Raises:
        CliplitError: another kind of image, values that are not in [0, 1], another format or quality.
        OSError: the file cannot be written.
    """
    path = Path(path)
    kind = kind_of(path)
    check_values(BatchOptions(quality=quality))
    array = _plain(_array_of(image[0] if isinstance(image, Tensor) and image.ndim == 4 and len(image) == 1 else image))
    array = array[..., None] if array.ndim == 2 else array
    _check_pixels(array, (1, 2, 3, 4))
    array = to_8_bits(array) if array.dtype == np.float32 else array
    if isinstance(image, Image.Image):
        array = upright(array, orientation_of(image))
    photo = Photo(*split(array), options={"quality": quality})
    if isinstance(image, Image.Image):
        photo.exif, photo.xmp, photo.icc = (image.info.get(name) or b"" for name in ("exif", "xmp", "icc_profile"))
        photo.options["orientation"] = orientation_of(image)
        put_right(photo)
    with writing(path) as temporary:
        try:
            photo.notes += write_photo(photo, temporary, kind)
        except ValueError as error:
            raise CliplitError(f"{path}: cannot be written as {kind} ({one_line(error)})") from None
    for note in photo.notes:
        warnings.warn(f"{path}: {note}", stacklevel=2)


def _array_of(image: Picture) -> np.ndarray:
    """The pixels of an image, channels last."""
    if isinstance(image, Image.Image):
        if image.mode not in MODES or "transparency" in image.info:
            what = "a transparent colour" if image.mode in MODES else image.mode
            raise CliplitError(f"expected a PIL image of mode {', '.join(MODES)}, got {what}; convert it first")
        return np.asarray(image)
    if isinstance(image, Tensor):
        if image.ndim != 3 or image.shape[0] not in (1, 3):
            raise CliplitError(f"expected a tensor of shape (3, H, W) or (N, 3, H, W), got {tuple(image.shape)}")
        image = image.detach().cpu()
        if image.dtype == torch.bfloat16:  # NumPy does not have it
            image = image.float()
        return image.movedim(0, -1).numpy()
    if isinstance(image, np.ndarray):
        return image
    raise CliplitError(f"expected an array, a tensor or a PIL image, got {type(image).__name__}")


def _enhance_array(network: Enhancer, array: np.ndarray, options: Inference) -> np.ndarray:
    if array.ndim == 2:
        return _enhance_array(network, array[..., None], options)[..., 0]
    plain = _plain(array)
    if plain.dtype != array.dtype:
        return _enhance_array(network, plain, options).astype(array.dtype)
    if array.ndim == 3 and array.shape[2] in (2, 4):
        alpha = array[..., -1:]
        return np.concatenate([enhance_pixels(network, array[..., :-1], options), alpha], 2)
    return enhance_pixels(network, array, options)


def _plain(array: np.ndarray) -> np.ndarray:
    """The array in this machine's byte order; floats become float32."""
    dtype = array.dtype.newbyteorder("=")
    return array.astype(np.float32 if dtype in (np.float16, np.float64) else dtype, copy=False)


def enhance_pixels(
    network: Enhancer,
    pixels: np.ndarray,
    options: Inference | None = None,
    illumination: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """An enhanced image of the same shape and type, computed on the device of the network.

    Args:
        pixels: (H, W, 3), or (H, W, 1) for grey, of uint8, uint16, or float32 in [0, 1].
        illumination: float32 (H, W); receives the illumination map, before `strength`.
        out: receives the result; it may be `pixels` itself, to save memory.
    Raises:
        CliplitError: another shape or type, values that are not in [0, 1], or invalid options.
    """
    options = options or Inference()
    _check_pixels(pixels)
    check_values(options)
    result = np.empty(pixels.shape, pixels.dtype) if out is None else out
    pixels = np.require(pixels, requirements=["A", "C"])  # PyTorch takes no negative strides
    hint = f"lower max_memory (--max-memory), which is {options.max_memory >> 20} MB"
    # The caller's autocast and default device must not change the result.
    with limits_told(hint), torch.autocast(device_of(network).type, enabled=False), torch.device("cpu"):
        return _enhance_pixels(network, pixels, options, illumination, result)


def _enhance_pixels(
    network: Enhancer, pixels: np.ndarray, options: Inference, illumination: np.ndarray | None, result: np.ndarray
) -> np.ndarray:
    def divided(tile: Region, map_: Tensor, planes: Tensor) -> None:
        if illumination is not None:
            illumination[tile.slices] = map_.cpu().numpy()
        planes = network.divide(planes, map_ if options.strength == 1 else map_**options.strength)
        if result.dtype != np.float32:
            planes = planes.mul_(white(result.dtype)).round_()
        for channel, plane in enumerate(planes.cpu().numpy()):
            result[(*tile.slices, channel)] = plane

    longer_side = network.architecture["longer_side"] or options.preview
    if 0 < longer_side < max(pixels.shape[:2]):  # no strip reads the pixels of another one
        predict_small(network, pixels, options, divided, longer_side)
        return result
    source = pixels.copy() if result is pixels else pixels  # a tile reads pixels of others

    def by_bands(tile: Region, map_: Tensor) -> None:
        for first in range(*tile.rows, BAND):
            band = Region(tile.size, (first, min(first + BAND, tile.rows[1])), tile.columns)
            part = map_[first - tile.rows[0] : band.rows[1] - tile.rows[0]]
            divided(band, part, to_planes(source[band.slices], map_.device))

    for _ in predict(network, source, options, by_bands):
        pass
    return result


def _check_pixels(pixels: np.ndarray, channels: tuple[int, ...] = (1, 3)) -> None:
    if pixels.ndim != 3 or pixels.shape[2] not in channels or 0 in pixels.shape:
        raise CliplitError(f"expected an image of shape (H, W, 3), (H, W, 1) or (H, W), got {pixels.shape}")
    if pixels.dtype not in (np.uint8, np.uint16, np.float32):
        raise CliplitError(f"expected an image of uint8, uint16 or float32, got {pixels.dtype}")
    if pixels.dtype == np.float32:
        low = pixels.min()
        high = pixels.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            raise CliplitError("the image has values that are NaN or infinite")
        if low < 0 or high > 1:
            raise CliplitError(f"expected values from 0 to 1, got {low:g} to {high:g}")

"""Reads and writes images and tensors: images as RGB in [0, 1], files opened defensively, without running code in them."""

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from cliplit.errors import CliplitError, one_line
from cliplit.files.atomic import write_bytes, writing
from cliplit.files.images import decode, squared


def read_image(path: str | Path, size: int | None = None) -> Tensor:
    """Read an image as upright RGB (3, H, W) in [0, 1]. Grey is repeated, alpha is dropped, and 16 bits are scaled.

    If `size` is given, it is resized to this square (Lanczos), as in the released training. Raises CliplitError as
    `decode` does.
    """
    array = squared(decode(path), size) if size else decode(path)
    return to_tensor(array).contiguous()  # the layout changes the last digit of metrics


def read_readable(
    paths: Iterable[Path], skip_bad: bool, size: int | None = None
) -> tuple[dict[Path, Tensor], list[str]]:
    """Images by path, and a line for each unreadable one. Raises CliplitError for these unless `skip_bad`, or if all are."""
    images: dict[Path, Tensor] = {}
    problems: list[str] = []
    for path in paths:
        try:
            images[path] = read_image(path, size)
        except CliplitError as error:
            problems.append(str(error))
    if problems and not skip_bad:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise CliplitError(f"{problems[0]}{more}; --skip-bad skips such images")
    if not images:
        raise CliplitError(f"none of {len(problems)} images can be read; the first: {problems[0]}")
    return images, problems


def write_image(image: Tensor, path: str | Path) -> None:
    """Write an image (3, H, W) or (1, H, W) in [0, 1] with 8 bits, atomically. The extension determines the format."""
    path = Path(path)
    array = to_uint8(image)
    kind = Image.registered_extensions().get(path.suffix.lower())
    with writing(path) as temporary:
        Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array).save(temporary, kind)


def save_tensors(content: Any, path: str | Path) -> None:
    """Write what `load_tensors` reads, atomically. An OSError names the file, which that of `torch.save` would not."""
    whole = io.BytesIO()
    torch.save(content, whole)
    write_bytes(whole.getvalue(), path)


def load_tensors(path: str | Path) -> Any:
    """Tensors and plain values, on the CPU. Raises CliplitError for a file that is damaged or would run code."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises errors of pickle, zip, struct and the system
        name = type(error).__name__
        reason = name if len(one_line(error)) > 80 else f"{name}: {one_line(error)}"
        raise CliplitError(
            f"{path}: not a file of tensors that can be loaded without running code ({reason})"
        ) from None


def to_uint8(image: Tensor) -> np.ndarray:
    """(..., C, H, W) in [0, 1] to (..., H, W, C) in 0 ... 255, rounded."""
    return (image.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).movedim(-3, -1).numpy()


def to_tensor(array: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """(..., H, W, C) of 8 or 16 bits, or floats in [0, 1], to (..., C, H, W) in [0, 1]. The device converts the integers."""
    pixels = torch.from_numpy(np.require(array, requirements=["C", "W"])).to(device)
    white = 1 if array.dtype == np.float32 else np.iinfo(array.dtype).max
    return pixels.movedim(-1, -3).float() / white


def psnr(images: Tensor, references: Tensor) -> Tensor:
    """PSNR (N,) of images (N, C, H, W) in [0, 1], in dB, at most 100."""
    return -10 * (images - references).square().flatten(1).mean(1).clamp_min(1e-10).log10()


def box_mean(x: Tensor, radius: int) -> Tensor:
    """Means of images (N, C, H, W) over windows of 2 radius + 1 pixels a side; only pixels inside the image count."""
    return F.avg_pool2d(x, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)


def guided_fit(guide: Tensor, target: Tensor, radius: int, smoothing: float) -> tuple[Tensor, Tensor]:
    """The linear fit of the guided filter (He et al., ECCV 2010): target = slope x guide + offset in every window.

    Args:
        guide, target: ``(N, 1, H, W)``.
        radius: windows have 2 radius + 1 pixels a side.
        smoothing: variance of the guide below which a window counts as flat.
    Returns:
        Slope and offset ``(N, 1, H, W)``, averaged over the windows that a pixel is in.
    """
    mean = box_mean(guide, radius)
    mean_target = box_mean(target, radius)
    covariance = box_mean(guide * target, radius) - mean * mean_target
    slope = covariance / (box_mean(guide * guide, radius) - mean * mean + smoothing)
    return box_mean(slope, radius), box_mean(mean_target - slope * mean, radius)

"""Simulates backlight on well-lit photos, in linear light, on batches ``(N, 3, H, W)`` in [0, 1].

Exposure is measured in stops (EV): one stop more is twice the light. All randomness is drawn on the CPU.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from cliplit.engine.randomness import generator as seeded
from cliplit.errors import check_images
from cliplit.files.tensors import box_mean, guided_fit
from cliplit.settings import Backlight

BACKLIGHT = Backlight()
# Degrees of simulated backlight for controlled experiments (`cliplit data synthesize`).
SEVERITIES = {
    "mild": Backlight(stops_min=1.0, stops_max=2.0),
    "medium": Backlight(stops_min=2.5, stops_max=3.5),
    "severe": Backlight(stops_min=4.0, stops_max=5.0),
}
LEVELS = SEVERITIES | {  # from well-lit to severe, to train on
    "mixed": Backlight(stops_min=0.0, stops_max=4.5),
    "any": Backlight(stops_min=0.0, stops_max=5.5, background_stops=1.0, overall=True, local=0.5, untouched=0.2),
}

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
MASK_GRID = 32  # pixels; masks are drawn on this grid, so that they do not depend on the image's size
MASK_RADIUS = 2  # pixels of this grid: radius of the windows of the guided filter
MASK_SMOOTHING = 1e-2  # variance of luma below which a window counts as flat


def srgb_to_linear(images: Tensor) -> Tensor:
    """sRGB values in [0, 1] to linear light in [0, 1] (IEC 61966-2-1)."""
    return torch.where(images <= 0.04045, images / 12.92, ((images.clamp_min(0) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(light: Tensor) -> Tensor:
    """Linear light to sRGB values, both clipped to [0, 1] (IEC 61966-2-1)."""
    light = light.clamp(0, 1)
    return torch.where(light <= 0.0031308, light * 12.92, 1.055 * light.clamp_min(1e-8) ** (1 / 2.4) - 0.055)


def luma(images: Tensor) -> Tensor:
    """Luma ``(N, 1, H, W)`` of sRGB values ``(N, 3, H, W)``."""
    return (images * images.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)


def expose(images: Tensor, stops: Tensor | float) -> Tensor:
    """Change the exposure by `stops` (EV; broadcasts against ``(N, 3, H, W)``), clipping at white."""
    return linear_to_srgb(srgb_to_linear(images) * 2.0**stops)


def capture(images: Tensor, generator: Generator, photons: float | Tensor = 4000.0, read_noise: float = 0.0) -> Tensor:
    """Add the noise of a sensor (shot noise as a Gaussian, read noise) and round to 8 bits."""
    light = srgb_to_linear(images)
    noise = torch.randn(light.shape, generator=generator) * (light / photons + read_noise**2).sqrt()
    return (linear_to_srgb(light + noise) * 255).round() / 255


def uniform(n: int, low: float, high: float, generator: Generator) -> Tensor:
    """One number in [low, high) per image, ``(n, 1, 1, 1)``."""
    return low + (high - low) * torch.rand(n, 1, 1, 1, generator=generator)


def smooth_noise(n: int, size: Sequence[int], generator: Generator, cells: int = 4) -> Tensor:
    """Smooth random fields ``(n, 1, *size)``, about -1 … 1, with `cells` independent values a side."""
    field = 2 * torch.rand(n, 1, cells, cells, generator=generator) - 1
    return resized(field, size)


def foreground_mask(images: Tensor, generator: Generator, settings: Backlight = BACKLIGHT) -> Tensor:
    """Soft masks ``(N, 1, H, W)`` in [0, 1] of the foreground, which follow the edges of the picture.

    Dark, low and central places score highest, with some smooth randomness. The picture is split where the scores of the
    two sides differ most (Otsu's criterion), so at an edge if there is one, with `coverage_min` … `coverage_max` of the
    picture in the foreground. A guided filter with the luma as guide (He et al., ECCV 2010; computed on a coarse grid as
    in arXiv 1505.00996) aligns the edges of the mask with those of the picture.

    Raises ValueError for images of another shape than ``(N, 3, H, W)``.
    """
    check_images(images)
    guide = luma(images)
    coarse = F.interpolate(guide, (MASK_GRID, MASK_GRID), mode="bilinear", antialias=True)
    blurred = box_mean(coarse, MASK_RADIUS)
    axis = torch.linspace(-1, 1, MASK_GRID)
    score = (
        -(blurred - blurred.mean((2, 3), keepdim=True)) / (blurred.std((2, 3), keepdim=True) + 1e-3)
        + settings.wander * 2 * smooth_noise(len(images), coarse.shape[-2:], generator)
        + settings.down * axis.view(-1, 1)
        - settings.centre * axis.abs()
    )
    threshold = _split(score, settings.coverage_min, settings.coverage_max)
    mask = torch.sigmoid((score - threshold) / settings.softness)
    fit = guided_fit(coarse, mask, MASK_RADIUS, MASK_SMOOTHING)
    slope, offset = (resized(x, guide.shape[-2:], mode="bilinear") for x in fit)
    return ((slope * guide + offset - 0.5) * settings.contrast + 0.5).clamp(0, 1)


def backlit(
    images: Tensor, generator: Generator, settings: Backlight = BACKLIGHT, strength: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The same scenes against the light: foreground `stops_min` … `stops_max` EV darker, background kept or brighter.

    images: ``(N, 3, H, W)`` in [0, 1]; strength: ``(N, 1, 1, 1)`` in [0, 1], the position in the range of stops, drawn
    uniformly if not given. Returns noisy 8-bit sRGB values in [0, 1], and the drawn numbers, (N,) each:

    `stops` and `background_stops` in EV: darkening of the foreground and brightening of the background; `coverage`: the
    share of the foreground in the picture. With `settings.overall` also `overall`: the share of the stops that the
    background loses too; its brightening shrinks by the same share. It is 0 in a quarter of the pictures, and 1 in another;
    `settings.local` of all pictures get 0 instead.
    """
    mask = foreground_mask(images, generator, settings)
    strength = uniform(len(images), 0, 1, generator) if strength is None else strength
    stops = settings.stops_min + (settings.stops_max - settings.stops_min) * strength
    lift = uniform(len(images), 0, settings.background_stops, generator)
    if settings.untouched:
        touched = uniform(len(images), 0, 1, generator) >= settings.untouched
        stops, lift = stops * touched, lift * touched
    drawn = {"stops": stops.flatten(), "background_stops": lift.flatten(), "coverage": mask.mean((1, 2, 3))}
    if settings.overall:
        overall = uniform(len(images), -0.5, 1.5, generator).clamp(0, 1)
        if settings.local:
            overall = overall * (uniform(len(images), 0, 1, generator) >= settings.local)
        drawn["overall"] = overall.flatten()
        lift = lift * (1 - overall)
        mask = overall + (1 - overall) * mask
    dark = capture(expose(images, lift * (1 - mask) - stops * mask), generator, settings.photons, settings.read_noise)
    return dark, drawn


def relight_photo(photo: Tensor, name: str, level: str, seed: int) -> tuple[Tensor, dict[str, float]]:
    """A photo (3, H, W) in [0, 1] against the light, and the numbers drawn for it: stops and share of the foreground.

    Mask, noise and position in the level's range of stops depend on name and seed, not on the level.
    """
    random = seeded("synthesize", seed, name)
    strength = uniform(1, 0, 1, random)
    dark, drawn = backlit(photo[None], random, LEVELS[level], strength)
    return dark[0], {key: round(value.item(), 4) for key, value in drawn.items()}


def resized(x: Tensor, size: Sequence[int], mode: str = "bicubic") -> Tensor:
    """Images or fields ``(N, C, H, W)`` at another size (height, width) in pixels."""
    return F.interpolate(x, list(size), mode=mode, align_corners=False)


def _split(score: Tensor, least: float, most: float) -> Tensor:
    """Otsu's thresholds ``(N, 1, 1, 1)`` that leave a share of `least` … `most` of the scores above."""
    ranked = score.flatten(1).sort(1, descending=True).values
    share = torch.arange(1, ranked.shape[1] + 1) / ranked.shape[1]
    partial = ranked.cumsum(1) / ranked.shape[1]
    total = ranked.mean(1, keepdim=True)
    between = (partial - total * share) ** 2 / (share * (1 - share)).clamp_min(1e-6)
    best = between.masked_fill((share < least) | (share > most), -1).argmax(1, keepdim=True)
    return ranked.gather(1, best).view(-1, 1, 1, 1)

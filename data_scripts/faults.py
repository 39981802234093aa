"""Bad light other than backlight, and faults of enhancement methods, simulated for `train_tiny_clip.py`."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from cliplit.data.relight import backlit, capture, expose, foreground_mask, luma, resized, smooth_noise, uniform
from cliplit.settings import Backlight


def lifted(images: Tensor, generator: Generator, share: Tensor) -> Tensor:
    """Backlit images that get back a share of the missing light, by a division like the enhancer's."""
    dark, _ = backlit(images, generator)
    return (dark / illumination(dark, images) ** share).clamp(0, 1)


def illumination(dark: Tensor, images: Tensor, grid: int = 16) -> Tensor:
    """The smooth map ``(N, 1, H, W)`` for which ``dark / map`` comes closest to `images`, in [0.02, 1.5]."""
    size = (grid, grid)
    moments = [F.interpolate(m, size, mode="bilinear", antialias=True) for m in (luma(dark), luma(images))]
    ratio = (moments[0] + 1e-3) / (moments[1] + 1e-3)
    return resized(ratio.clamp(0.02, 1.5), images.shape[-2:], mode="bilinear")


def well_lit(images: Tensor, generator: Generator, strength: Tensor) -> Tensor:
    """The photo as taken, with up to 0.2 EV more or less light and a little noise."""
    return capture(expose(images, 0.4 * (strength - 0.5)), generator)


def against_the_light(images: Tensor, generator: Generator, strength: Tensor) -> Tensor:
    """Backlit by 0.3 to 4.5 EV."""
    return backlit(images, generator, Backlight(stops_min=0.3, stops_max=4.5), strength)[0]


def underexposed(images: Tensor, generator: Generator, strength: Tensor) -> Tensor:
    """Underexposed everywhere by 0.3 to 4 EV."""
    return capture(expose(images, -0.3 - 3.7 * strength), generator)


def dim(images: Tensor, generator: Generator, strength: Tensor) -> Tensor:
    """Backlit and underexposed: 0.3 to 4.5 EV in all, divided between both at random."""
    return backlit(images, generator, Backlight(stops_min=0.3, stops_max=4.5, overall=True), strength)[0]


def overexposed(images: Tensor, generator: Generator, strength: Tensor) -> Tensor:
    """Overexposed everywhere by 0.3 to 2 EV, and clipped."""
    return capture(expose(images, 0.3 + 1.7 * strength), generator)


def washed_out(images: Tensor, generator: Generator, strength: Tensor) -> Tensor:
    """A bright veil that takes 20 to 70 % of the contrast."""
    veil = uniform(len(images), 0.5, 0.95, generator)
    return torch.lerp(images, veil.expand_as(images), 0.2 + 0.5 * strength)


def tinted(images: Tensor, generator: Generator, strength: Tensor) -> Tensor:
    """A colour cast of 0.4 to 1.6 EV between channels, everywhere or in the foreground only."""
    cast = torch.randn(len(images), 3, 1, 1, generator=generator)
    cast = F.normalize(cast - cast.mean(1, keepdim=True), dim=1) * (0.4 + 1.2 * strength)
    everywhere = (uniform(len(images), 0, 1, generator) < 0.5).float()
    return expose(images, cast * torch.maximum(everywhere, foreground_mask(images, generator)))


def half_lifted(images: Tensor, generator: Generator, strength: Tensor) -> Tensor:
    """Backlit, then enhanced too little: 25 to 75 % of the missing stops come back, less with higher strength."""
    return lifted(images, generator, 0.75 - 0.5 * strength)


def over_lifted(images: Tensor, generator: Generator, strength: Tensor) -> Tensor:
    """Backlit, then enhanced too much: 140 to 220 % of the missing stops, so shadows become grey and flat."""
    return lifted(images, generator, 1.4 + 0.8 * strength)


def blown_out(images: Tensor, generator: Generator, strength: Tensor) -> Tensor:
    """Backlit, then brightened everywhere by the gain of the foreground, so the background clips."""
    dark, _ = backlit(images, generator)
    return expose(dark, 1 + 2 * strength)


def greyed(images: Tensor, generator: Generator, strength: Tensor) -> Tensor:
    """Divided by 50 to 100 % of its own smooth brightness, so light and shade vanish, as in naive retinex."""
    smooth = resized(F.interpolate(luma(images), (8, 8), mode="bilinear", antialias=True), images.shape[-2:])
    flat = 0.6 * images / smooth.clamp(0.05, 1)
    return torch.lerp(images, flat, 0.5 + 0.5 * strength).clamp(0, 1)


def halo(images: Tensor, generator: Generator, strength: Tensor) -> Tensor:
    """A shadow brightened with a mask that is too soft at its edges: bright and dark rims of 1 to 3 EV."""
    mask = foreground_mask(images, generator)
    soft = resized(F.interpolate(mask, (10, 10), mode="bilinear", antialias=True), mask.shape[-2:])
    return expose(images, (1 + 2 * strength) * (soft - mask))


def rippled(images: Tensor, generator: Generator, strength: Tensor) -> Tensor:
    """Stripes or a chequered pattern of 0.2 to 1 EV with 2 to 16 periods across."""
    n, (height, width) = len(images), images.shape[-2:]
    angle, phase = (uniform(n, 0, 2 * torch.pi, generator) for _ in range(2))
    frequency = torch.pi * 2 ** uniform(n, 2, 5, generator)
    y, x = torch.linspace(0, 1, height).view(-1, 1), torch.linspace(0, 1, width)
    stripes = torch.sin(frequency * (x * angle.cos() + y * angle.sin()) + phase)
    across = torch.sin(frequency * (y * angle.cos() - x * angle.sin()) + phase)
    chequered = uniform(n, 0, 1, generator) < 0.5
    return expose(images, (0.2 + 0.8 * strength) * torch.where(chequered, stripes * across, stripes))


def patchy(images: Tensor, generator: Generator, strength: Tensor) -> Tensor:
    """Smooth light and dark patches of 0.7 to 2.5 EV that do not follow the picture."""
    return expose(images, (0.7 + 1.8 * strength) * smooth_noise(len(images), images.shape[-2:], generator, 5))


def noisy(images: Tensor, generator: Generator, strength: Tensor) -> Tensor:
    """Shot noise of a sensor with 20 to 320 electrons at white."""
    return capture(images, generator, 20 * 2 ** (4 - 4 * strength))


Relight = Callable[[Tensor, Generator, Tensor], Tensor]
LIGHTS: dict[str, Relight] = {
    "well_lit": well_lit,
    "backlit": against_the_light,
    "underexposed": underexposed,
    "dim": dim,
    "overexposed": overexposed,
    "washed_out": washed_out,
    "tinted": tinted,
}
ARTEFACTS: dict[str, Relight] = {
    "half_lifted": half_lifted,
    "over_lifted": over_lifted,
    "blown_out": blown_out,
    "greyed": greyed,
    "halo": halo,
    "rippled": rippled,
    "patchy": patchy,
    "noisy": noisy,
}


def relit(kind: str, images: Tensor, generator: Generator, strength: Tensor) -> Tensor:
    """Images ``(N, 3, S, S)`` under a kind of light. `relit` is backlit, then brightened to its original light."""
    if kind == "relit":
        return lifted(images, generator, 0.9 + 0.2 * strength)
    return {**LIGHTS, **ARTEFACTS}[kind](images, generator, strength)

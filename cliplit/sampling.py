"""Randomness that depends only on (seed, purpose, iteration), so that an interrupted run goes on exactly."""

import hashlib

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def generator(*keys: object) -> Generator:
    """A CPU generator for these keys, e.g. ``generator(seed, "warmup", iteration)``."""
    digest = hashlib.sha256(repr(keys).encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def batch_indices(count: int, batch_size: int, iteration: int, *keys: object) -> list[int]:
    """Indices of the `iteration`-th batch of an endless walk over `count` items, shuffled anew in every epoch."""
    picked = []
    for position in range(iteration * batch_size, (iteration + 1) * batch_size):
        epoch, place = divmod(position, count)
        if place == 0 or not picked:
            order = torch.randperm(count, generator=generator(*keys, "order", epoch)).tolist()
        picked.append(order[place])
    return picked


def augment(images: Tensor, matrices: Tensor) -> Tensor:
    """Images (N, 3, H, W) moved by affine matrices (N, 2, 3) of `augmentation`; borders are reflected."""
    grid = F.affine_grid(matrices.to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, "bilinear", "reflection", align_corners=False)


def augmentation(count: int, zoom: tuple[float, float], random: Generator) -> Tensor:
    """Affine matrices (N, 2, 3) of the released augmentation.

    Flips and transposition (each with probability 1/2), zoom of both axes (0.3), rotation by up to 90 degrees
    either way (0.3).

    Args:
        zoom: smallest and largest factor.
    """
    chance = torch.rand(count, 5, generator=random)
    identity = torch.eye(2).repeat(count, 1, 1)
    flip = torch.diag_embed(1 - 2 * (chance[:, :2] < 0.5).float())
    swap = torch.where((chance[:, 2] < 0.5).view(-1, 1, 1), identity.flip(-1), identity)
    factors = zoom[0] + (zoom[1] - zoom[0]) * torch.rand(count, 2, generator=random)
    scale = torch.where((chance[:, 3] < 0.3).view(-1, 1, 1), torch.diag_embed(1 / factors), identity)
    angle = torch.pi * (torch.rand(count, generator=random) - 0.5)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).view(-1, 2, 2)
    turn = torch.where((chance[:, 4] < 0.3).view(-1, 1, 1), turn, identity)
    return F.pad(flip @ swap @ scale @ turn, (0, 1))


def random_view(groups: list[Tensor], smallest: float, random: Generator) -> list[Tensor]:
    """One random square view of the images, mirrored or not, the same for all groups (N, 3, H, W).

    Args:
        smallest: smallest side of the view as a fraction of the shorter side; 1 keeps the images as they are.
    """
    if smallest >= 1:
        return groups
    height, width = groups[0].shape[-2:]
    draw = torch.rand(4, generator=random).tolist()
    side = max(8, round(min(height, width) * (smallest + (1 - smallest) * draw[0])))
    top, left = (int(place * (length - side + 1)) for place, length in zip(draw[1:3], (height, width)))
    views = [images[..., top : top + side, left : left + side] for images in groups]
    return [view.flip(-1) for view in views] if draw[3] < 0.5 else views


def random_scale(images: Tensor, smallest: float, sizes: tuple[int, ...], random: Generator) -> Tensor:
    """A `random_view` of the images (N, 3, H, W), resized to the square of one of the sizes, or not if there are none."""
    (view,) = random_view([images], smallest, random)
    if not sizes:
        return view
    side = sizes[int(torch.randint(len(sizes), (), generator=random))]
    return F.interpolate(view, (side, side), mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)

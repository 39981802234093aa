"""The released augmentation: batches of images for the network, and CLIP features for the stages that learn prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from tqdm import tqdm

from cliplit.engine import processes
from cliplit.engine.randomness import batch_indices, generator
from cliplit.files.tensors import to_tensor
from cliplit.method.clip import ClipBackbone
from cliplit.method.run_images import TrainingImages
from cliplit.settings import Settings

CHUNK = 64  # images encoded at a time for the bank of views


def augmented_batch(
    images: TrainingImages, settings: Settings, stage: str, iteration: int, device: torch.device
) -> Tensor:
    """Augmented images (n, 3, H, W) in [0, 1] of an iteration of the network: this process's share of the batch.

    All are cropped at the same place, and have the size of the crop or one of `enhancement.sizes`. The name of the
    stage seeds all random draws, together with the seed.
    """
    options, seed = settings.enhancement, settings.seed
    batch = batch_indices(len(images), options.batch_size, iteration, seed, stage)
    matrices = augmentation(len(batch), options.zoom, generator(seed, "augment", stage, iteration))
    mine = processes.share(len(batch))
    moved = augment(images.batch(batch[mine], device), matrices[mine])
    random = generator(seed, "scale", stage, iteration)
    (view,) = random_view([moved], options.crop, random)
    if not options.sizes:
        return view
    side = options.sizes[int(torch.randint(len(options.sizes), (), generator=random))]
    return F.interpolate(view, (side, side), mode="bilinear", antialias=True).clamp(0, 1)


@dataclass(frozen=True)
class ViewFeatures:
    """CLIP features of augmented views, in batches.

    With `prompts.views_per_image` = 0, new views are encoded in every iteration, as the authors do. Otherwise a bank
    holds that many views of every image, encoded once, and the batches are drawn from it.

    Attributes:
        groups: 8-bit images (N, S, S, 3). Images at the same position of different groups get the same augmentation.
        stage: its name seeds all random draws, together with the seed.
        partners: images (M, S, S, 3) of other scenes. Each image of a batch gets a partner with the same augmentation.
    """

    clip: ClipBackbone
    groups: Sequence[np.ndarray]
    settings: Settings
    stage: str
    partners: np.ndarray | None = None

    def __call__(self, batch: list[int], iteration: int) -> Tensor:
        """Features (G, n, D) of images by number: of all groups, and of the partners last; this process's share."""
        mine = processes.share(len(batch))
        if not self.settings.prompts.views_per_image:
            return self._encode(batch, iteration, self.stage, mine)
        random = generator(self.settings.seed, "view", self.stage, iteration)
        drawn = torch.randint(self.bank.shape[2], (len(batch),), generator=random)
        return self.bank[:, batch[mine], drawn[mine]]

    @cached_property
    def bank(self) -> Tensor:
        """Features (G, N, V, D) of V views of all images, encoded at the first use."""
        views = self.settings.prompts.views_per_image
        chunks = [part.tolist() for part in torch.arange(len(self.groups[0])).split(CHUNK)]
        draws = tqdm(range(views * len(chunks)), desc=f"{self.stage}: views", leave=False, disable=None)
        parts = [self._encode(chunks[draw % len(chunks)], draw, f"{self.stage} bank") for draw in draws]
        rows = [torch.cat(parts[view : view + len(chunks)], 1) for view in range(0, len(parts), len(chunks))]
        return torch.stack(rows, 2)

    @torch.no_grad()
    def _encode(self, batch: list[int], draw: int, stage: str, mine: slice = slice(None)) -> Tensor:
        seed, zoom = self.settings.seed, self.settings.prompts.zoom
        matrices = augmentation(len(batch), zoom, generator(seed, "augment", stage, draw))[mine]
        pixels = [group[batch[mine]] for group in self.groups]
        if self.partners is not None:
            others = batch_indices(len(self.partners), len(batch), draw, seed, stage, "well_lit")
            pixels.append(self.partners[others[mine]])
        views = [augment(to_tensor(side, self.clip.mean.device), matrices) for side in pixels]
        return self.clip.encode_image(torch.cat(views)).unflatten(0, (len(views), -1))


def augment(images: Tensor, matrices: Tensor) -> Tensor:
    """Images (N, 3, H, W) transformed by the affine matrices (N, 2, 3) of `augmentation`; borders are reflected."""
    grid = F.affine_grid(matrices.to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, "bilinear", "reflection", align_corners=False)


def augmentation(count: int, zoom: tuple[float, float], random: Generator) -> Tensor:
    """Affine matrices (N, 2, 3) of the released augmentation.

    Flips and transposition have probability 1/2 each. Zoom of each axis by a factor in the range `zoom`, and rotation
    by up to 90 degrees either way, have probability 0.3 each.
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
    """A random square crop of the images, mirrored or not, the same for all groups (N, 3, H, W).

    Its side is at least `smallest` times the shorter side of the images; 1 leaves the images unchanged.
    """
    if smallest >= 1:
        return groups
    height, width = groups[0].shape[-2:]
    draw = torch.rand(4, generator=random).tolist()
    side = max(8, round(min(height, width) * (smallest + (1 - smallest) * draw[0])))
    top = int(draw[1] * (height - side + 1))
    left = int(draw[2] * (width - side + 1))
    views = [images[..., top : top + side, left : left + side] for images in groups]
    return [view.flip(-1) for view in views] if draw[3] < 0.5 else views

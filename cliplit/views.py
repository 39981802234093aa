"""CLIP features of augmented views of images, for the stages that learn prompts."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cliplit import processes
from cliplit.backbone import ClipBackbone
from cliplit.files.tensors import to_tensor
from cliplit.sampling import augment, augmentation, batch_indices, generator
from cliplit.settings import Settings

CHUNK = 64  # images encoded at a time for the bank


class ViewFeatures:
    """Features of views, in batches: encoded anew in every iteration as the authors do, or drawn from a bank.

    The bank holds `prompts.views_per_image` views of every image, encoded once; 0 is no bank.

    Args:
        groups: images (N, S, S, 3) of 8 bits; those of the same number are augmented alike.
        stage: its name is a key of all random draws.
        partners: images of other scenes, of which each view of a group gets one, augmented like the group.
    """

    def __init__(
        self,
        clip: ClipBackbone,
        groups: Sequence[np.ndarray],
        settings: Settings,
        stage: str,
        partners: np.ndarray | None = None,
    ):
        self._clip, self._groups, self._partners = clip, groups, partners
        self._settings, self._stage = settings, stage

    def __call__(self, batch: list[int], iteration: int) -> Tensor:
        """Features (G, n, D) of a batch by number, of every group and, last, the partners: this process's share."""
        mine = processes.share(len(batch))
        if not self._settings.prompts.views_per_image:
            return self._encode(batch, iteration, self._stage, mine)
        random = generator(self._settings.seed, "view", self._stage, iteration)
        drawn = torch.randint(self.bank.shape[2], (len(batch),), generator=random)
        return self.bank[:, batch[mine], drawn[mine]]

    @cached_property
    def bank(self) -> Tensor:
        """Features (G, N, V, D) of V views of all images, encoded at the first use."""
        views, count = self._settings.prompts.views_per_image, len(self._groups[0])
        chunks = [list(range(start, min(start + CHUNK, count))) for start in range(0, count, CHUNK)]
        draws = tqdm(range(views * len(chunks)), desc=f"{self._stage}: views", leave=False, disable=None)
        parts = [self._encode(chunks[draw % len(chunks)], draw, f"{self._stage} bank") for draw in draws]
        rows = [torch.cat(parts[view : view + len(chunks)], 1) for view in range(0, len(parts), len(chunks))]
        return torch.stack(rows, 2)

    @torch.no_grad()
    def _encode(self, batch: list[int], draw: int, stage: str, mine: slice = slice(None)) -> Tensor:
        seed, zoom = self._settings.seed, self._settings.prompts.zoom
        matrices = augmentation(len(batch), zoom, generator(seed, "augment", stage, draw))[mine]
        pixels = [group[batch[mine]] for group in self._groups]
        if self._partners is not None:
            others = batch_indices(len(self._partners), len(batch), draw, seed, stage, "well_lit")
            pixels.append(self._partners[others[mine]])
        views = [augment(to_tensor(side, self._clip.mean.device), matrices) for side in pixels]
        return self._clip.encode_image(torch.cat(views)).unflatten(0, (len(views), -1))

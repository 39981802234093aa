"""Randomness that depends only on (seed, purpose, iteration), so that an interrupted run resumes exactly."""

import hashlib

import torch
from torch import Generator


def generator(*keys: object) -> Generator:
    """A CPU generator for these keys, e.g. ``generator(seed, "warmup", iteration)``."""
    digest = hashlib.sha256(repr(keys).encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def batch_indices(count: int, batch_size: int, iteration: int, *keys: object) -> list[int]:
    """Indices of the `iteration`-th batch of an endless walk over `count` items, reshuffled in every epoch."""
    picked: list[int] = []
    for position in range(iteration * batch_size, (iteration + 1) * batch_size):
        epoch, place = divmod(position, count)
        if place == 0 or not picked:
            order = torch.randperm(count, generator=generator(*keys, "order", epoch)).tolist()
        picked.append(order[place])
    return picked

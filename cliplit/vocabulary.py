"""CLIP's vocabulary, to read a direction in its latent space: the nearest tokens tell what it encodes (RAVE)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cliplit.backbone import ClipBackbone

BATCH = 512  # tokens encoded at a time


@dataclass(frozen=True)
class Tokens:
    """Words, their text features (n, D), and their cosine similarity to the direction (n,)."""

    words: list[str]
    features: Tensor
    similarity: Tensor


@torch.no_grad()
def nearest_tokens(clip: ClipBackbone, direction: Tensor, count: int) -> tuple[Tokens, Tokens]:
    """The tokens with the highest and with the lowest cosine similarity to a direction (D,), outermost first.

    Every token of the vocabulary is encoded as a text of its own: 49,408 for CLIP, the words it has seen for `tiny`.
    """
    ids = clip.vocabulary()
    features = torch.cat([clip.encode_tokens(batch) for batch in ids.split(BATCH)])
    similarity = F.normalize(features, dim=-1) @ F.normalize(direction, dim=-1)
    order = similarity.argsort(descending=True, stable=True)

    def tokens(picked: Tensor) -> Tokens:
        words = [clip.word(int(ids[place])) for place in picked]
        return Tokens(words, features[picked], similarity[picked])

    return tokens(order[:count]), tokens(order.flip(0)[:count])

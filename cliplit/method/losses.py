"""The four losses of CLIP-LIT, and a smoothness loss on the illumination map.

Image and text features are (N, D) and (2, D) and need not be normalised. The prompt pair is (backlit, well-lit).
Scores are P(backlit), the probability of the backlit prompt, in [0, 1].
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

SMOOTHNESS_GRID = 64  # cells per side of the grid on which the smoothness of illumination maps is measured
LEAST_LIGHT = 1e-3  # smaller illumination values count as this one in the smoothness loss
PAPER_SCALE = 100.0  # factor on the cosine similarity before the softmax (released code)


def similarity_logits(image_features: Tensor, text_features: Tensor, scale: float = PAPER_SCALE) -> Tensor:
    """``scale`` x cosine similarity of every image (N, D) and both prompts (2, D): (N, 2)."""
    return scale * F.normalize(image_features, dim=-1) @ F.normalize(text_features, dim=-1).T


def backlit_scores(image_features: Tensor, text_features: Tensor, scale: float = PAPER_SCALE) -> Tensor:
    """Score P(backlit) of every image: (N,) in [0, 1] (paper, section 3.1)."""
    return similarity_logits(image_features, text_features, scale).softmax(-1)[:, 0]


def prompt_initialization_loss(
    image_features: Tensor, text_features: Tensor, labels: Tensor, scale: float = PAPER_SCALE, smoothing: float = 0.0
) -> Tensor:
    """Cross-entropy of the prompt pair as classifier of backlit (label 0) and well-lit (1) images (paper, 3.1)."""
    logits = similarity_logits(image_features, text_features, scale)
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def clip_enhance_loss(image_features: Tensor, text_features: Tensor, scale: float = PAPER_SCALE) -> Tensor:
    """CLIP-Enhance loss: mean P(backlit) of the enhanced images, to be minimised (paper, section 3.1)."""
    return backlit_scores(image_features, text_features, scale).mean()


def identity_loss(predicted: Sequence[Tensor], target: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Identity loss: weighted squared distance of CLIP-ResNet activations (paper, section 3.1).

    The distance is averaged over each activation and **summed** over the batch, as in the released code.

    Args:
        predicted, target: activations (N, C_k, H_k, W_k) of stem and stages 1-4, of results and inputs.
        weights: one per activation; released: (1, 1, 1, 1, 1) in warm-up, then (1, 1, 1, 1, 0.5).
    Raises:
        ValueError: the numbers of activations and weights differ, or the shapes.
    """
    if not len(predicted) == len(target) == len(weights):
        raise ValueError(f"{len(predicted)} and {len(target)} activations, but {len(weights)} weights")
    total = predicted[0].new_zeros(())
    for weight, ours, theirs in zip(weights, predicted, target, strict=True):
        if ours.shape != theirs.shape:
            raise ValueError(
                f"expected two tensors of the same shape, got {tuple(ours.shape)} and {tuple(theirs.shape)}"
            )
        total = total + weight * (ours - theirs).square().flatten(1).mean(1).sum()
    return total


def smoothness_loss(illumination: Tensor) -> Tensor:
    """Smoothness of illumination maps: mean squared difference of the logarithm between neighbours (not in the paper).

    The map is averaged on a grid of 64 x 64 cells, so that the loss does not depend on the size of the images. Like the
    identity loss it is **summed** over the batch. Zero-DCE (Guo et al., CVPR 2020, section 3.3) has a similar loss.

    Args:
        illumination: (N, 1, H, W), positive.
    """
    cells = F.interpolate(illumination, (SMOOTHNESS_GRID, SMOOTHNESS_GRID), mode="area")
    logarithm = cells.clamp_min(LEAST_LIGHT).log()
    across = logarithm.diff(dim=-1)
    down = logarithm.diff(dim=-2)
    return len(illumination) * (across.square().mean() + down.square().mean())


def margin_ranking_loss(scores: Sequence[Tensor], far: float = 0.9, near: float = 0.2) -> Tensor:
    """Margin ranking loss of scores P(backlit): backlit > older result > newer result > well-lit (paper, section 3.2).

    Each score should exceed the next one by a margin. The margin is `far` between the backlit image and the first
    result, and between the backlit and the well-lit image. It is `near` between all later neighbours.

    Args:
        scores: two, three or four tensors (N,): backlit, [older result,] [newer result,] well-lit.
        far, near: released values: 1.0 and none for pairs, 0.9 and 0.2 for triples, 0.9 and 0.1 for quadruples.
    """
    if not 2 <= len(scores) <= 4:
        raise ValueError(f"expected two to four groups of scores, got {len(scores)}")
    backlit, *results, well_lit = scores
    loss = _hinge(backlit, well_lit, far)
    chain = [*results, well_lit] if results else []
    if results:
        loss = loss + _hinge(backlit, results[0], far)
    for higher, lower in pairwise(chain):
        loss = loss + _hinge(higher, lower, near)
    return loss


def _hinge(higher: Tensor, lower: Tensor, margin: float) -> Tensor:
    return torch.relu(margin - (higher - lower)).mean()

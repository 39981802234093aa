"""No guidance: the identity loss alone, as a control."""

from torch import Tensor

from cliplit.guidance.base import Guidance, Seen


class NoGuidance(Guidance):
    """Loss 0; every image scores 1/2."""

    def loss(self, results: Seen) -> Tensor:
        return results.images.new_zeros(())

    def score(self, images: Seen) -> Tensor:
        return images.images.new_full((len(images.images),), 0.5)

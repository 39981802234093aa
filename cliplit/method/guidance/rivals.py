"""What stands in for CLIP's guidance in CLIP-LIT's ablations: an adversarial loss, or none."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cliplit.method.clip import ClipBackbone
from cliplit.method.guidance.base import Guidance, Seen
from cliplit.settings import Settings


class AdversarialGuidance(Guidance):
    """A small PatchGAN discriminator, unpaired, with least-squares targets: well-lit patches 1, results 0.

    Its score is 1 - the mean over patches, clamped to [0, 1]: how little the image looks like a well-lit one.
    """

    def __init__(self, settings: Settings, clip: ClipBackbone):
        super().__init__(settings, clip)
        self.factor = settings.guidance.adversarial_factor
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.discriminator = patch_discriminator(settings.guidance.adversarial_width)

    @property
    def learning_rate(self) -> float:
        return self.settings.guidance.adversarial_learning_rate

    def loss(self, results: Seen) -> Tensor:
        fixed = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        return (functional_call(self.discriminator, fixed, results.images) - 1).square().mean()

    def score(self, images: Seen) -> Tensor:
        return 1 - self.discriminator(images.images).flatten(1).mean(1).clamp(0, 1)

    def companion_loss(self, results: Seen, well_lit: Seen) -> Tensor:
        real = self.discriminator(well_lit.images)
        fake = self.discriminator(results.images)
        return ((real - 1).square().mean() + fake.square().mean()) / 2


def patch_discriminator(width: int) -> nn.Sequential:
    """Images (N, 3, H, W) in [0, 1] to one number per overlapping patch of 34 x 34 pixels."""
    return nn.Sequential(
        nn.Conv2d(3, width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(2 * width, 4 * width, 4, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(4 * width, 1, 4, padding=1),
    )


class NoGuidance(Guidance):
    """Loss 0; every image scores 1/2."""

    def loss(self, results: Seen) -> Tensor:
        return results.images.new_zeros(())

    def score(self, images: Seen) -> Tensor:
        return images.images.new_full((len(images.images),), 0.5)

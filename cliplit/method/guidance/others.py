"""Guidances without a learned pair: RAVE's residual (ECCV 2024), the adversarial loss of CLIP-LIT's ablations, none."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from cliplit.method.clip import ClipBackbone
from cliplit.method.guidance.base import Guidance, Seen
from cliplit.settings import Settings


class ResidualGuidance(Guidance):
    """RAVE's fixed residual vector: the projection of results on it should equal the mean of well-lit images.

    The score is this mean minus the projection: 0 for an average well-lit image, more for darker ones, no probability.
    """

    def __init__(self, settings: Settings, clip: ClipBackbone):
        super().__init__(settings, clip)
        self.factor = settings.guidance.rave_factor
        self.register_buffer("residual", torch.zeros(clip.embed_dim))
        self.register_buffer("threshold", torch.zeros(()))

    def fit(self, backlit: Tensor, well_lit: Tensor) -> None:
        self.residual = residual_vector(backlit, well_lit)
        self.threshold = mean_direction(well_lit) @ self.residual

    def score(self, images: Seen) -> Tensor:
        return self.threshold - F.normalize(images.features, dim=-1) @ self.residual

    def loss(self, results: Seen) -> Tensor:
        return self.score(results).square().mean()


def mean_direction(features: Tensor) -> Tensor:
    """Unit vector (D,) in the direction of the mean of normalised features (N, D)."""
    return F.normalize(F.normalize(features, dim=-1).mean(0), dim=0)


def residual_vector(backlit: Tensor, well_lit: Tensor) -> Tensor:
    """Unit vector (D,) from the mean direction of backlit features (N, D) to the one of well-lit features (M, D)."""
    return F.normalize(mean_direction(well_lit) - mean_direction(backlit), dim=0)


class AdversarialGuidance(Guidance):
    """A small PatchGAN discriminator for unpaired images, with least-squares targets: well-lit patches 1, results 0.

    The score is 1 - the mean output over patches, clamped to [0, 1]: how little the image looks like a well-lit one.
    """

    def __init__(self, settings: Settings, clip: ClipBackbone):
        super().__init__(settings, clip)
        self.factor = settings.guidance.adversarial_factor
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            width = settings.guidance.adversarial_width
            self.discriminator = nn.Sequential(  # one output per overlapping patch of 34 x 34 pixels
                nn.Conv2d(3, width, 4, stride=2, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(2 * width, 4 * width, 4, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(4 * width, 1, 4, padding=1),
            )

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


class NoGuidance(Guidance):
    """No guidance: the loss is 0, and every image scores 1/2."""

    def loss(self, results: Seen) -> Tensor:
        return results.images.new_zeros(())

    def score(self, images: Seen) -> Tensor:
        return images.images.new_full((len(images.images),), 0.5)

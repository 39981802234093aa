"""Guidance by two vectors in CLIP's latent space: the prompt pair of CLIP-LIT (section 3.1), and RAVE's latent pair."""

import torch
from torch import Tensor, nn

from cliplit.engine.randomness import generator
from cliplit.errors import CliplitError
from cliplit.method import losses
from cliplit.method.clip import ClipBackbone
from cliplit.method.guidance.base import Guidance, Seen
from cliplit.settings import Settings


class PairGuidance(Guidance):
    """Two features, 0 = backlit and 1 = well-lit. The score is P(backlit), the softmax over both (section 3.1)."""

    refined = True

    def pair(self) -> Tensor:
        """Both features, (2, D)."""
        raise NotImplementedError

    def score(self, images: Seen) -> Tensor:
        return losses.backlit_scores(images.features, self.pair(), self.settings.clip.softmax_scale)

    def loss(self, results: Seen) -> Tensor:
        return losses.clip_enhance_loss(results.features, self.pair(), self.settings.clip.softmax_scale)

    def learning_loss(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        pair = self.pair()
        scale = self.settings.clip.softmax_scale
        smoothing = self.settings.prompts.label_smoothing
        loss = losses.prompt_initialization_loss(features, pair, labels, scale, smoothing)
        return loss, losses.backlit_scores(features, pair.detach(), scale)

    def frozen(self) -> Guidance:
        return LatentGuidance(self.settings, self.clip, self.pair().detach()).requires_grad_(False)


class PromptGuidance(PairGuidance):
    """Token embeddings (2, L, W) of both prompts, encoded by CLIP's frozen text tower at position `end`.

    They start from "X X ... X" twice, or from two texts in the settings. Raises CliplitError if these texts have
    different numbers of tokens, since there is only one `end`.
    """

    def __init__(self, settings: Settings, clip: ClipBackbone):
        super().__init__(settings, clip)
        words = [text or " ".join(["X"] * settings.prompts.length) for text in settings.prompts.initial]
        backlit, self.end = clip.embed(words[0])
        well_lit, other = clip.embed(words[1])
        if self.end != other:
            raise CliplitError(
                f"prompts.initial: '{words[0]}' has {self.end - 1} tokens, '{words[1]}' {other - 1}; make them equal"
            )
        self.embedding_prompt = nn.Parameter(torch.cat([backlit, well_lit]).clone())

    def pair(self) -> Tensor:
        return self.clip.encode_prompts(self.embedding_prompt, self.end)


class LatentGuidance(PairGuidance):
    """CLIP-LIT-Latent of RAVE: the two features are learned directly, without a text tower, starting from N(0, 1)."""

    def __init__(self, settings: Settings, clip: ClipBackbone, vectors: Tensor | None = None):
        super().__init__(settings, clip)
        if vectors is None:
            vectors = torch.randn(2, clip.embed_dim, generator=generator(settings.seed, "latent pair"))
        self.vectors = nn.Parameter(vectors.clone())

    @property
    def learning_rate(self) -> float:
        return self.settings.guidance.latent_learning_rate

    def pair(self) -> Tensor:
        return self.vectors

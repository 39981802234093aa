"""The guidance of CLIP-LIT: a learned prompt pair (section 3.1)."""

import torch
from torch import Tensor, nn

from cliplit.backbone import ClipBackbone
from cliplit.errors import CliplitError
from cliplit.guidance.latent import PairGuidance
from cliplit.settings import Settings


class PromptGuidance(PairGuidance):
    """Token embeddings (2, L, W) of both prompts, read at position `end` of CLIP's frozen text tower.

    They start from "X X ... X" twice, or from the texts of the settings.

    Raises:
        CliplitError: texts of different numbers of tokens; the pair is read at one position.
    """

    def __init__(self, settings: Settings, clip: ClipBackbone):
        super().__init__(settings, clip)
        words = [text or " ".join(["X"] * settings.prompts.length) for text in settings.prompts.initial]
        (backlit, self.end), (well_lit, other) = (clip.embed(text) for text in words)
        if self.end != other:
            raise CliplitError(
                f"prompts.initial: '{words[0]}' has {self.end - 1} tokens, '{words[1]}' {other - 1}; make them equal"
            )
        self.embedding_prompt = nn.Parameter(torch.cat([backlit, well_lit]).clone())

    def pair(self) -> Tensor:
        return self.clip.encode_prompts(self.embedding_prompt, self.end)

"""The interface of all guidances. A new idea is one file with one class; docs/guidance.md has a recipe."""

from collections.abc import Callable
from functools import cached_property

from torch import Tensor, nn

from cliplit.method.clip import ClipBackbone
from cliplit.settings import Settings


class Seen:
    """A batch of images as CLIP sees it; features are computed once, when first asked for.

    Args:
        images: (N, 3, H, W) in [0, 1]; None where only features are at hand.
        features: image features (N, D), not normalised, or what computes them.
    """

    def __init__(self, images: Tensor | None, features: Tensor | Callable[[], Tensor]):
        self._images = images
        self._features = features

    @property
    def images(self) -> Tensor:
        """(N, 3, H, W) in [0, 1]; a ValueError where only features are at hand."""
        if self._images is None:
            raise ValueError("only features are at hand here, no images")
        return self._images

    @cached_property
    def features(self) -> Tensor:
        """Image features (N, D), not normalised."""
        return self._features if isinstance(self._features, Tensor) else self._features()


class Guidance(nn.Module):
    """What leads the network to well-lit images.

    A guidance gets what it knows in one of three ways:
    *  `fit`, once, from the features of all training images;
    *  by gradient: with `refined` it has a `learning_loss` before the training, and is refined in every round by
       margin ranking of its scores;
    *  along with the network, if it has a `companion_loss`.

    What it learns are its parameters, what it computes its buffers; both are stored with the run. CLIP is no part of
    them.
    """

    clip: ClipBackbone
    refined = False  # learned by gradient before the training, and refined by ranking in every round
    factor = 1.0  # of its loss, in units of `enhancement.clip_weight`

    def __init__(self, settings: Settings, clip: ClipBackbone):
        super().__init__()
        self.settings = settings
        self.__dict__["clip"] = clip  # not a submodule: it is neither trained nor stored

    @property
    def learned(self) -> list[nn.Parameter]:
        """What is still to be learned."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    @property
    def learning_rate(self) -> float:
        """Of what it learns, for Adam."""
        return self.settings.prompts.learning_rate

    def loss(self, results: Seen) -> Tensor:
        """Loss (scalar) of results of the network."""
        raise NotImplementedError

    def score(self, images: Seen) -> Tensor:
        """How backlit every image looks, (N,); a probability in [0, 1] unless the class says otherwise."""
        raise NotImplementedError

    def fit(self, backlit: Tensor, well_lit: Tensor) -> None:
        """Compute what follows from the features (N, D) of all training images; not for refined ones."""

    def learning_loss(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (scalar) and scores (N,), without gradient, of labelled features: 0 backlit, 1 well-lit."""
        raise NotImplementedError

    def companion_loss(self, results: Seen, well_lit: Seen) -> Tensor | None:
        """Loss of what is learned along with the network, from results without gradient and well-lit images; or None."""
        return None

    def frozen(self) -> "Guidance":
        """What guides the network between two refinements, without gradient to what is refined."""
        return self.requires_grad_(False) if self.refined else self

"""The interface of all guidances. To add your own, write one class in one file: see docs/guidance.md."""

from collections.abc import Callable
from functools import cached_property

from torch import Tensor, nn

from cliplit.method.clip import ClipBackbone
from cliplit.settings import Settings


class Seen:
    """A batch of images and their CLIP features, which are computed once, at the first use.

    Args:
        images: (N, 3, H, W) in [0, 1]; None if there are only features.
        features: image features (N, D), not normalised, or a function that computes them.
    """

    def __init__(self, images: Tensor | None, features: Tensor | Callable[[], Tensor]):
        self._images = images
        self._features = features

    @property
    def images(self) -> Tensor:
        """(N, 3, H, W) in [0, 1]; raises ValueError if there are only features."""
        if self._images is None:
            raise ValueError("only features are at hand here, no images")
        return self._images

    @cached_property
    def features(self) -> Tensor:
        """Image features (N, D), not normalised."""
        return self._features if isinstance(self._features, Tensor) else self._features()


class Guidance(nn.Module):
    """A loss that leads the network to well-lit results, and a score that says how backlit an image looks.

    A guidance is trained in one of three ways:
    *  `fit` computes it once from the features of all training images;
    *  with `refined`, gradient descent on `learning_loss` trains it before the network, and every round refines it by
       margin ranking of its scores;
    *  with a `companion_loss`, it is trained together with the network.

    Learned values are parameters, and computed values are buffers. Both are stored with the run, but without CLIP.
    """

    clip: ClipBackbone
    refined = False  # trained before the network, and refined by ranking in every round
    factor = 1.0  # weight of its loss, in units of `enhancement.clip_weight`

    def __init__(self, settings: Settings, clip: ClipBackbone):
        super().__init__()
        self.settings = settings
        self.__dict__["clip"] = clip  # not a submodule: it is neither trained nor stored

    @property
    def learned(self) -> list[nn.Parameter]:
        """The parameters that are still trained."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    @property
    def learning_rate(self) -> float:
        """Adam's learning rate for its parameters."""
        return self.settings.prompts.learning_rate

    def loss(self, results: Seen) -> Tensor:
        """Loss (scalar) of the network's results."""
        raise NotImplementedError

    def score(self, images: Seen) -> Tensor:
        """How backlit each image looks, (N,): a probability in [0, 1] unless the class says otherwise."""
        raise NotImplementedError

    def fit(self, backlit: Tensor, well_lit: Tensor) -> None:
        """Compute its buffers from the features (N, D) of all training images; not called if `refined`."""

    def learning_loss(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (scalar), and scores (N,) without gradient, of labelled features: 0 backlit, 1 well-lit."""
        raise NotImplementedError

    def companion_loss(self, results: Seen, well_lit: Seen) -> Tensor | None:
        """Loss that trains the guidance with the network, from detached results and well-lit images; or None."""
        return None

    def frozen(self) -> "Guidance":
        """The guidance while the network is trained: refined parameters are fixed."""
        return self.requires_grad_(False) if self.refined else self

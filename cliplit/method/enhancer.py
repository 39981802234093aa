"""The enhancement network of CLIP-LIT: image -> illumination map; result = image / illumination map."""

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cliplit.errors import check_images
from cliplit.files.tensors import guided_fit
from cliplit.settings import Enhancement

# The settings of the group `enhancement` that define the architecture. Every checkpoint holds them.
ARCHITECTURE = ("width", "downscale", "max_illumination", "longer_side", "min_illumination", "keep_highlights")
EDGE_RADIUS = 1  # radius of the guided filter's windows, in pixels of the small image
EDGE_SMOOTHING = 1e-4  # windows with a lower variance of brightness count as flat
START = 2.0  # initial argument of the sigmoid for a map with two bounds: the map starts near the upper bound
LIVELY = 0.02  # share of softsign mixed into this sigmoid
LEAST_FOURTH = 1e-12  # lower bound of the map's fourth power, since its root has no gradient at 0
EPSILON = 1e-9  # added to the illumination map before the division (released train.py; its test script drops it)


def divide(images: Tensor, illumination: Tensor, keep_highlights: bool = False) -> Tensor:
    """Result of the method: ``clamp(images / (illumination + 1e-9), 0, 1)`` (paper, section 3.1).

    Args:
        images: (N, 3, H, W) in [0, 1].
        illumination: (N, 1, H, W), not negative.
        keep_highlights: clip no highlights, see `sparing_highlights`. Released: False.
    """
    if keep_highlights:
        illumination = sparing_highlights(illumination, images)
    return (images / (illumination + EPSILON)).clamp_(0, 1)


def sparing_highlights(illumination: Tensor, images: Tensor) -> Tensor:
    """Illumination maps (N, 1, H, W), moved towards 1 (no change) where the pixel is bright (not in the paper).

    The new map is (l⁴ (1 - m⁴) + m⁴)^¼ for illumination l and largest channel m. It is never below m, so nothing is
    clipped. Shadows are brightened as before. White, the order of pixels by brightness, and hues do not change.
    """
    weight = images.amax(-3, keepdim=True).square().square()
    fourth = torch.lerp(illumination.square().square(), torch.ones_like(weight), weight)
    return fourth.clamp_min(LEAST_FOURTH).sqrt().sqrt()


class ResidualBlock(nn.Module):
    """conv, LeakyReLU, conv, add, LeakyReLU; no biases, reflection padding."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.leaky_relu(_convolve(self.conv1, x, "reflect"), 0.2)
        return F.leaky_relu(x + _convolve(self.conv2, inner, "reflect"), 0.2)


class PyramidPooling(nn.Module):
    """Global context: averages over bins x bins cells, upsampled and fused with the input.

    Products with small matrices give the same numbers as PyTorch's adaptive pooling and bilinear interpolation with
    aligned corners. PyTorch's own gradients on a GPU add in random order, which loses much precision in bfloat16.
    """

    def __init__(self, channels: int, bins: tuple[int, ...] = (1, 2, 3, 6)):
        super().__init__()
        reduced = channels // len(bins)
        self.bins = bins
        self.features = nn.ModuleList(
            nn.Sequential(nn.Identity(), nn.Conv2d(channels, reduced, 1, bias=False), nn.PReLU()) for _ in bins
        )
        self.fuse = nn.Sequential(
            nn.Conv2d(channels + reduced * len(bins), channels, 3, padding=1, bias=False), nn.PReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        rows = torch.cat([averages(cells, height, x) for cells in self.bins])
        strips = _times(rows, x.permute(0, 2, 3, 1)).split(self.bins, 1)  # for every number of bins b: (N, b, W, C)
        pooled = [
            branch((averages(cells, width, x) @ strip).permute(0, 3, 1, 2))
            for branch, cells, strip in zip(self.features, self.bins, strips, strict=True)
        ]
        return self.fuse(torch.cat([x, *(_upsample(cells, height, width) for cells in pooled)], 1))


def _upsample(cells: Tensor, height: int, width: int) -> Tensor:
    """Bilinear upsampling with aligned corners: (N, C, b, b) to (N, C, H, W), channels last."""
    corners = torch.eye(cells.shape[-1], device=cells.device)[None]
    rows, columns = (
        F.interpolate(corners, side, mode="linear", align_corners=True)[0].T.to(cells) for side in (height, width)
    )
    return _times(rows, columns @ cells.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def averages(cells: int, side: int, like: Tensor) -> Tensor:
    """Matrix (cells, side) that averages the pixels in each cell of adaptive pooling."""
    cell = torch.arange(cells, device=like.device)
    place = torch.arange(side, device=like.device)
    first, after = (cell * side // cells)[:, None], ((cell + 1) * side + cells - 1)[:, None] // cells
    return (((place >= first) & (place < after)) / (after - first)).to(like)


def _times(matrix: Tensor, x: Tensor) -> Tensor:
    """Product of a matrix (K, H) with the rows of x (N, H, W, C): (N, K, W, C)."""
    return (matrix @ x.flatten(2)).unflatten(2, x.shape[2:])


class Enhancer(nn.Module):
    """The released U-Net (278,790 parameters at width 32). Attributes are named like the released state keys.

    The arguments are the settings of `ARCHITECTURE`, in this order or by name. The defaults give the released network.
    """

    bf16 = False  # compute in bfloat16 where it is safe, except for the last convolution

    def __init__(self, *architecture: Any, **named: Any):
        super().__init__()
        chosen = replace(Enhancement(), **dict(zip(ARCHITECTURE, architecture, strict=False)), **named)
        self.architecture: dict[str, Any] = {name: getattr(chosen, name) for name in ARCHITECTURE}
        width = self.architecture["width"]
        self.cond1 = nn.Conv2d(3, width, 3)
        self.ResidualBlock1 = ResidualBlock(width)
        self.ResidualBlock2 = ResidualBlock(width)
        self.PPM1 = PyramidPooling(width)
        self.condx = nn.Conv2d(width, 2 * width, 3)
        self.ResidualBlock3 = ResidualBlock(2 * width)
        self.ResidualBlock4 = ResidualBlock(2 * width)
        self.condy = nn.Conv2d(2 * width, width, 3)
        self.ResidualBlock5 = ResidualBlock(width)
        self.ResidualBlock6 = ResidualBlock(width)
        self.cond_add1 = nn.Conv2d(width, 1, 3)

    def initialize(self, seed: int, std: float = 0.02) -> "Enhancer":
        """Draw weights of convolutions from N(0, std), and biases uniformly as PyTorch does (released train.py: 0.02).

        If the last layer is a ReLU, about half of the seeds start with no gradient. The guard of the warm-up restarts.
        """
        generator = torch.Generator().manual_seed(seed)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0.0, std, generator=generator)
                if layer.bias is not None:
                    bound = layer.weight[0].numel() ** -0.5
                    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
        return self

    def forward(self, images: Tensor, padding: str = "reflect") -> Tensor:
        """Illumination map (N, 1, H, W) >= 0 of images (N, 3, H, W) in [0, 1]; ValueError for another shape or type.

        Args:
            padding: of the four convolutions outside the residual blocks: "reflect" at inference, "zeros" in training,
                as in the released code. The blocks always pad by reflection.
        """
        check_images(images)
        full = images.shape[-2:]
        small = reduced_size(full, self.architecture["longer_side"])
        copy = images if small == full else F.interpolate(images, small, mode="area")
        size = working_size(small, self.architecture["downscale"])
        if size == small:
            maps = self.layers(copy, padding)
        else:
            maps = self.layers(F.interpolate(copy, size, mode="area"), padding)
            maps = F.interpolate(maps, small, mode="bilinear")
        return maps if small == full else upsample_along_edges(maps, copy, images)

    def layers(self, images: Tensor, padding: str = "reflect") -> Tensor:
        """Illumination map of images, computed by all layers at the size of the images."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            x = F.leaky_relu(_convolve(self.cond1, images, padding), 0.2)
            x = self.PPM1(self.ResidualBlock2(self.ResidualBlock1(x)))
            x = self.ResidualBlock4(self.ResidualBlock3(_convolve(self.condx, x, padding)))
            x = self.ResidualBlock6(self.ResidualBlock5(_convolve(self.condy, x, padding)))
        return self.positive(_convolve(self.cond_add1, x.to(images), padding))

    def positive(self, x: Tensor) -> Tensor:
        """The illumination map from the output of the last convolution.

        With an upper bound, a sigmoid replaces the last ReLU, so that every pixel has a gradient. If there is also a
        lower bound, the sigmoid gives the logarithm of the map. Then a training step changes small and large gains by
        the same number of stops, and the untrained network hardly brightens the image.
        """
        least, most = self.architecture["min_illumination"], self.architecture["max_illumination"]
        if most == float("inf"):
            return F.relu(x)
        if not least:
            return most * torch.sigmoid(x)
        # The gradient of softsign fades slowly. Without it, a map far from its start could never return.
        x = -START - x
        return most * (least / most) ** ((1 - LIVELY) * torch.sigmoid(x) + LIVELY * (F.softsign(x) + 1) / 2)

    def enhance(self, images: Tensor, padding: str = "reflect") -> Tensor:
        """Enhanced images (N, 3, H, W) in [0, 1]."""
        return self.divide(images, self(images, padding))

    def divide(self, images: Tensor, illumination: Tensor) -> Tensor:
        """Divide images (N, 3, H, W) by illumination maps (N, 1, H, W), as `enhance` does."""
        return divide(images, illumination, self.architecture["keep_highlights"])


def working_size(size: tuple[int, ...], downscale: int) -> tuple[Any, Any]:
    """Size at which the illumination map of an image is predicted: at least 2 pixels a side, for the padding."""
    height, width = (torch.sym_max(2, side // downscale) for side in size)
    return height, width


def reduced_size(size: tuple[int, ...], longer_side: int) -> tuple[Any, Any]:
    """Size of an image after its longer side is reduced to at most so many pixels, rounded; 0: unchanged."""
    own = torch.sym_max(*size)  # max, which also works in torch.export, where sides may be unknown
    limit = longer_side or own
    longer = torch.sym_max(own, limit)
    height, width = (torch.sym_max(1, (2 * side * limit + longer) // (2 * longer)) for side in size)
    return height, width


def upsample_along_edges(maps: Tensor, small: Tensor, images: Tensor) -> Tensor:
    """Illumination maps (N, 1, h, w) of small images (N, 3, h, w), upsampled to the size of images (N, 3, H, W).

    This is the fast guided filter (He and Sun, arXiv 1505.00996). In each window of the small image, the map is fitted
    as a linear function of brightness. The two coefficients of this function are upsampled instead of the map.
    """
    slope, offset = (F.interpolate(x, images.shape[-2:], mode="bilinear") for x in edge_fit(small, maps))
    low, high = (bound(maps, (1, 2, 3), keepdim=True) for bound in (torch.amin, torch.amax))
    return (slope * images.mean(1, keepdim=True) + offset).clamp(low, high)


def edge_fit(small: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and offset (N, 1, h, w) of maps as linear functions of brightness, the mean of the channels."""
    return guided_fit(small.mean(1, keepdim=True), maps, EDGE_RADIUS, EDGE_SMOOTHING)


def _convolve(layer: nn.Conv2d, x: Tensor, padding: str) -> Tensor:
    if padding == "reflect" and torch.are_deterministic_algorithms_enabled():
        x = torch.cat([x[..., 1:2, :], x, x[..., -2:-1, :]], -2)  # the gradient of F.pad adds in random order
        return layer(torch.cat([x[..., 1:2], x, x[..., -2:-1]], -1))
    return layer(F.pad(x, (1, 1, 1, 1), mode="constant" if padding == "zeros" else padding))

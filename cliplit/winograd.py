"""A 3x3 convolution with half of the multiplications: Winograd's minimal filtering F(4, 3) along the columns.

Four rows of output are six products of transformed input and transformed weights, instead of twelve (Winograd,
Arithmetic Complexity of Computations, 1980; Lavin and Gray, arXiv 1509.09308). Each product is a 1x3 convolution, as
quick as the processor can multiply; the transforms are sums of rows. Equal to the convolution but for rounding, about
three times that of the direct one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WEIGHTS = ((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6)) + (
    ((1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1))  # the transform of a column of weights
)


class Winograd(nn.Module):
    """A convolution without padding, (1, C, h, w) -> (1, D, h - 2, w - 2), channels last, float32; for inference."""

    def __init__(self, layer: nn.Conv2d):
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        transform = torch.tensor(WEIGHTS, dtype=torch.float64, device=layer.weight.device)
        products = torch.einsum("kr,oirs->kois", transform, layer.weight.double())[:, :, :, None].to(layer.weight.dtype)
        self.products = [product.contiguous(memory_format=torch.channels_last) for product in products]

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2] - 2, x.shape[-1] - 2
        y = x.new_empty(1, height, width, len(self.weight)).movedim(-1, 1)
        whole = height // 4 * 4
        if whole:
            self._fours(x[0, :, : whole + 2].movedim(0, -1), y[0, :, :whole].movedim(0, -1))
        if whole < height:
            y[:, :, whole:] = F.conv2d(x[:, :, whole:], self.weight, self.bias)
        return y

    def _fours(self, x: Tensor, y: Tensor) -> None:
        """Rows (4n + 2, w, C) to rows (4n, w - 2, D), in place: memory that is still in the cache is used again."""
        add, sub, product = torch.add, torch.sub, self._product
        x0, x1, x2, x3, x4, x5 = (x[i : i + len(y) : 4][: len(y) // 4] for i in range(6))
        y0, y1, y2, y3 = (y[i::4] for i in range(4))
        p, q, r = (torch.empty_like(x0, memory_format=torch.contiguous_format) for _ in range(3))
        u, v = (torch.empty_like(y0, memory_format=torch.contiguous_format) for _ in range(2))

        sub(x4, x2, alpha=4, out=p), sub(x3, x1, alpha=4, out=q), add(p, q, out=r)
        a, b = product(1, r, self.bias), product(2, p.sub_(q))
        sub(a, b, out=u), a.add_(b)
        sub(x4, x2, out=p), sub(x3, x1, out=q), add(p, q, alpha=2, out=r)
        c, d = product(3, r), product(4, p.sub_(q, alpha=2))
        sub(c, d, out=v), c.add_(d)

        add(u, v, alpha=2, out=y1)
        add(a, c, alpha=4, out=y2)
        add(product(0, sub(x4, x2, alpha=5, out=p).add_(x0, alpha=4)), a.add_(c), out=y0)
        add(product(5, sub(x5, x3, alpha=5, out=p).add_(x1, alpha=4)), u.add_(v, alpha=8), out=y3)

    def _product(self, k: int, rows: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(rows.movedim(-1, 0)[None], self.products[k], bias)[0].movedim(0, -1)

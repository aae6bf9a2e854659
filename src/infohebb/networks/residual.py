"""Residual: a layer to which its input is added, for a plain nn.Sequential."""

from torch import Tensor, nn


class Residual(nn.Module):
    """x + inner(x), which must be of one shape.

    `from_sequential` makes one block of it, so `inner` is an nn.Sequential of one layer of weights with its batch norm,
    activation and layer norm; pooling, divisive norm and dropout come after the Residual.
    """

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Add what `inner` makes of it."""
        return x + self.inner(x)

"""The working-memory rule's objective the plain way: autograd of each hidden layer's loss, one AdamW over everything.

Memory rows are constants, and so is what one layer hands to the next: the gradients are the current sample's own.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class AutogradWindow:
    """HSIC(X, Z) - gamma HSIC(Y, Z) for each hidden layer of an MLP with layer norm, cross-entropy for its readout."""

    def __init__(self, sizes: Sequence[int], sigmas: tuple[float, float, float] = (0.5, 0.1, 1.0), gamma: float = 2.0):
        layers = [nn.Linear(below, above) for below, above in pairwise(sizes)]
        self.sigmas, self.gamma, self.hidden, self.readout = sigmas, gamma, layers[:-1], layers[-1]
        parameters = [parameter for layer in layers for parameter in layer.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=1e-4, betas=(0.9, 0.99), weight_decay=1e-4)

    def step(self, x: Tensor, y: Tensor) -> None:
        """One training step on a window whose last row is current; y is one-hot."""
        self.optimizer.zero_grad()
        loss, z = torch.zeros(()), x
        for layer in self.hidden:
            z = functional.layer_norm(torch.relu(layer(z)), (layer.out_features,), eps=1e-6)
            loss = loss + self.loss(x, y, torch.cat([z[:-1].detach(), z[-1:]]))
            z = z.detach()
        (loss + functional.cross_entropy(self.readout(z), y)).backward()
        self.optimizer.step()

    def loss(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """The objective of one layer's activities."""
        of_x, of_y, of_z = (gram(v, sigma) for v, sigma in zip((x, y, z), self.sigmas, strict=True))
        return hsic(of_x, of_z) - self.gamma * hsic(of_y, of_z)


def gram(v: Tensor, sigma: float) -> Tensor:
    """Gaussian kernel of all rows, its width scaled by √d."""
    return torch.exp(-(v[:, None] - v[None]).square().mean(2) / (2 * sigma**2))


def hsic(a: Tensor, b: Tensor) -> Tensor:
    """tr(A H B H) / (N - 1)²."""
    n = len(a)
    centring = torch.eye(n) - 1 / n
    return torch.trace(a @ centring @ b @ centring) / (n - 1) ** 2

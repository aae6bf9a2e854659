"""The same objective the plain way: pairwise distances, autograd, one optimizer per layer.

The authors' code takes distances pair by pair and squares them, which is the default here; `by_product=True` has torch
take them from a matrix product, which is quicker.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class AutogradPeer:
    """pHSIC with a grouped Gaussian kernel and divisive norm, each layer's loss minimised by its own SGD."""

    def __init__(self, widths: tuple[int, ...], groups: int, by_product: bool = False):
        self.distances = f"{'' if by_product else 'donot_'}use_mm_for_euclid_dist"
        self.groups, self.sigma, self.gamma = groups, 5.0, 2.0
        self.layers = [nn.Linear(a, b, bias=False) for a, b in pairwise(widths)]
        self.readout = nn.Linear(widths[-1], 10)
        options = {"momentum": 0.95, "weight_decay": 1e-7}
        self.optimizers = [torch.optim.SGD(layer.parameters(), lr=1.0, **options) for layer in self.layers]
        self.last = torch.optim.SGD(self.readout.parameters(), lr=1e-3, **options)

    def step(self, x: Tensor, labels: Tensor) -> None:
        """One training step: forward, local loss, backward and step, layer by layer."""
        one_hot = functional.one_hot(labels, 10).float() - 0.1
        unit = functional.normalize(one_hot)
        label_gram = unit @ unit.T
        for layer, optimizer in zip(self.layers, self.optimizers, strict=True):
            z = functional.leaky_relu(layer(x), 0.01)
            optimizer.zero_grad()
            self.loss(z, label_gram).backward()
            optimizer.step()
            x = functional.dropout(self.normalise(z.detach()), 0.01)
        self.last.zero_grad()
        functional.cross_entropy(self.readout(x), labels).backward()
        self.last.step()

    def variance(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Centred groups and their smoothed variance."""
        grouped = z.view(len(z), self.groups, -1)
        centred = grouped - grouped.mean(2, keepdim=True)
        return centred, (centred.pow(2).sum(2) + 1) / grouped.shape[2]

    def loss(self, z: Tensor, label_gram: Tensor) -> Tensor:
        """pHSIC(Z, Z) - gamma pHSIC(Y, Z)."""
        signal = self.variance(z)[1].pow(0.8)
        signal = signal - signal.mean(1, keepdim=True)
        gram = torch.exp(-torch.cdist(signal, signal, compute_mode=self.distances).pow(2) / (2 * self.sigma**2))
        centred = gram - gram.mean()
        return (centred * centred).mean() - self.gamma * (centred * (label_gram - label_gram.mean())).mean()

    def normalise(self, z: Tensor) -> Tensor:
        """Divisive normalisation."""
        centred, variance = self.variance(z)
        return (centred / variance.pow(0.2).unsqueeze(2)).view_as(z)

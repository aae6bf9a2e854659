"""The same objective the plain way: pairwise distances, autograd, one optimizer per layer.

The authors' code takes distances pair by pair and squares them, which is the default here; `by_product=True` has torch
take them from a matrix product, which is quicker.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class AutogradPeer:
    """pHSIC with a grouped Gaussian kernel and divisive norm, each layer's loss minimised by its own SGD.

    `layers` go from one activity to the next, weight, nonlinearity and pooling; `outputs` is the size of the last one.
    """

    def __init__(
        self,
        layers: Sequence[nn.Module],
        outputs: int,
        groups: int,
        drop: Callable[[Tensor], Tensor],
        by_product: bool = False,
        rates: tuple[float, float] = (1.0, 1e-3),
    ):
        self.distances = f"{'' if by_product else 'donot_'}use_mm_for_euclid_dist"
        self.groups, self.sigma, self.gamma, self.drop = groups, 5.0, 2.0, drop
        self.layers, self.readout = layers, nn.Linear(outputs, 10).to(next(layers[0].parameters()).device)
        options = {"momentum": 0.95, "weight_decay": 1e-7}
        self.optimizers = [torch.optim.SGD(layer.parameters(), lr=rates[0], **options) for layer in layers]
        self.last = torch.optim.SGD(self.readout.parameters(), lr=rates[1], **options)

    def step(self, x: Tensor, labels: Tensor) -> None:
        """One training step: forward, local loss, backward and step, layer by layer."""
        one_hot = functional.one_hot(labels, 10).float() - 0.1
        unit = functional.normalize(one_hot)
        label_gram = unit @ unit.T
        for layer, optimizer in zip(self.layers, self.optimizers, strict=True):
            z = layer(x)
            optimizer.zero_grad()
            self.loss(z, label_gram).backward()
            optimizer.step()
            x = self.drop(self.normalise(z.detach()))
        self.last.zero_grad()
        functional.cross_entropy(self.readout(x.flatten(1)), labels).backward()
        self.last.step()

    def variance(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Centred groups and their smoothed variance."""
        grouped = z.reshape(len(z), self.groups, -1)
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


def mlp_peer(widths: Sequence[int], groups: int, *, by_product: bool = False) -> AutogradPeer:
    """The peer of an MLP with leaky ReLU."""
    layers = [nn.Sequential(nn.Linear(a, b, bias=False), nn.LeakyReLU(0.01)) for a, b in pairwise(widths)]
    return AutogradPeer(layers, widths[-1], groups, lambda x: functional.dropout(x, 0.01), by_product)


def conv_peer(
    channels: Sequence[int], pooled: Sequence[int], width: int, groups: int, device: str = "cpu"
) -> AutogradPeer:
    """The peer of the paper's convolutional network on images (3, 32, 32), with SELU."""
    layers, side = [], 32
    for place, (below, count) in enumerate(pairwise([3, *channels]), 1):
        pool = [nn.MaxPool2d(2)] if place in pooled else []
        layers.append(nn.Sequential(nn.Conv2d(below, count, 3, padding=1, bias=False), nn.SELU(), *pool))
        side //= 2 if pool else 1
    features = channels[-1] * side**2
    layers.append(nn.Sequential(nn.Flatten(), nn.Linear(features, width, bias=False), nn.SELU()))
    layers = [layer.to(device) for layer in layers]
    return AutogradPeer(layers, width, groups, lambda x: functional.alpha_dropout(x, 0.05, True), rates=(0.4, 1e-4))

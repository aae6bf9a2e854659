"""Small networks of plain torch on which the learner is tried."""

import torch
from torch import nn


class Basic(nn.Module):
    """A residual block, with a strided shortcut where channels change."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        return torch.relu(self.convs(x) + self.shortcut(x))


class ResNet(nn.Module):
    """Stem, three residual blocks, a Linear: with a forward of its own."""

    def __init__(self, channels=1):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.layers = nn.ModuleList([Basic(8, 8), Basic(8, 16, 2), Basic(16, 16)])
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        return self.fc(x.mean((2, 3)))


def sequential():
    """Two layers and a head, on 64 features."""
    return nn.Sequential(nn.Linear(64, 16), nn.LeakyReLU(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 10))


def images(samples=24, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, 1, 8, 8, generator=generator, dtype=dtype)
    return x, torch.randint(10, (samples,), generator=generator)


def rows(samples=24, dtype=torch.float64):
    x, y = images(samples, dtype)
    return x.flatten(1), y


def gradients(module):
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def largest_difference(ones, others):
    """Relative to each gradient's largest entry, or a thousandth of the largest of all."""
    assert ones.keys() == others.keys()
    floor = 1e-3 * max(float(g.abs().max()) for g in others.values())
    return max(
        float((ones[name] - others[name]).abs().max()) / max(float(others[name].abs().max()), floor) for name in ones
    )

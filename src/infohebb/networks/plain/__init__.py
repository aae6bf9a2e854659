"""Networks as plain nn.Modules: train mode, eval mode and autograd mean what they mean in PyTorch."""

from infohebb.networks.plain.convnet import ConvNet
from infohebb.networks.plain.divisive_norm import DivisiveNorm
from infohebb.networks.plain.dropout import Dropout
from infohebb.networks.plain.leaky import LeakyIntegrator, LeakyMLP
from infohebb.networks.plain.mlp import MLP
from infohebb.networks.plain.stacked import StackedLinear, stack_networks, unstack

__all__ = [
    "MLP",
    "ConvNet",
    "DivisiveNorm",
    "Dropout",
    "LeakyIntegrator",
    "LeakyMLP",
    "StackedLinear",
    "stack_networks",
    "unstack",
]

"""Networks as plain nn.Modules: train mode, eval mode and autograd mean what they mean in PyTorch."""

from infohebb.networks.plain.convnet import ConvNet
from infohebb.networks.plain.divisive_norm import DivisiveNorm
from infohebb.networks.plain.dropout import Dropout
from infohebb.networks.plain.mlp import MLP

__all__ = ["MLP", "ConvNet", "DivisiveNorm", "Dropout"]

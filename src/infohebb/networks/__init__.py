"""Floor 1: modules that know nothing of learning; `network(x)` predicts."""

from infohebb.networks.blocks import Block, DivisiveNorm, Response
from infohebb.networks.convnet import ConvNet
from infohebb.networks.layered import Layered
from infohebb.networks.mlp import MLP

__all__ = ["MLP", "Block", "ConvNet", "DivisiveNorm", "Layered", "Response"]

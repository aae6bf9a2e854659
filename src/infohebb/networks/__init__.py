"""Floor 1: modules that know nothing of learning; `network(x)` predicts."""

from infohebb.networks.blocks import Block, DivisiveNorm, Response
from infohebb.networks.conversion import from_sequential
from infohebb.networks.convnet import ConvNet
from infohebb.networks.layered import Layered
from infohebb.networks.mlp import MLP
from infohebb.networks.residual import Residual

__all__ = ["MLP", "Block", "ConvNet", "DivisiveNorm", "Layered", "Residual", "Response", "from_sequential"]

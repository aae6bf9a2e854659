"""Floor 1: modules that know nothing of learning; `network(x)` predicts."""

from infohebb.networks.blocks import Block, DivisiveNorm, Response
from infohebb.networks.conversion import from_sequential
from infohebb.networks.convnet import ConvNet
from infohebb.networks.corinfomax import CorInfoMaxNetwork
from infohebb.networks.energy import EquilibriumNetwork
from infohebb.networks.ensemble import alone, side_by_side
from infohebb.networks.layered import Layered
from infohebb.networks.leaky import LeakyMLP
from infohebb.networks.mlp import MLP
from infohebb.networks.predictive_coding import PredictiveCodingNetwork
from infohebb.networks.residual import Residual
from infohebb.networks.settling import Settling

__all__ = [
    "MLP",
    "Block",
    "ConvNet",
    "CorInfoMaxNetwork",
    "DivisiveNorm",
    "EquilibriumNetwork",
    "Layered",
    "LeakyMLP",
    "PredictiveCodingNetwork",
    "Residual",
    "Response",
    "Settling",
    "alone",
    "from_sequential",
    "side_by_side",
]

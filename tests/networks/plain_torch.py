"""The same networks in plain torch, for autograd to differentiate: parameters by name, the constructor's words."""

import torch
from torch import nn

from functional import oracles
from functional.oracles import normal
from infohebb.networks import MLP

FUNCTIONS = {
    "leaky_relu": lambda a: nn.functional.leaky_relu(a, 0.01),
    "relu": torch.relu,
    "selu": torch.selu,
    "tanh": torch.tanh,
    "identity": lambda a: a,
}


def make_network(inputs=5, outputs=3, widths=(8, 12), seed=0, **options):
    """An MLP in float64 whose parameters and running statistics are all drawn at random."""
    network = MLP(inputs, outputs, widths, **options).double()
    with torch.no_grad():
        for position, (name, tensor) in enumerate(network.state_dict().items()):
            if name.endswith("weight") and tensor.dim() == 2:
                tensor.copy_(normal(*tensor.shape, seed=100 * seed + position) / tensor.shape[1] ** 0.5)
            elif name.endswith("running_var"):
                tensor.copy_(normal(*tensor.shape, seed=100 * seed + position).exp())
            elif tensor.is_floating_point():
                tensor.copy_(1 + 0.3 * normal(*tensor.shape, seed=100 * seed + position))
    return network


def block_parameters(network, position):
    """A block's parameters by name, as leaves of a graph of their own."""
    named = network.blocks[position].named_parameters()
    return {name: parameter.detach().clone().requires_grad_() for name, parameter in named}


def activity(x, parameters, statistics=None, *, nonlinearity="leaky_relu", norm=None, **_):
    """What the local objective sees; batch norm by the batch's own statistics, or by a (mean, variance) given."""
    a = x.flatten(1) @ parameters["weight"].T
    if "bias" in parameters:
        a = a + parameters["bias"]
    if norm == "batch":
        scale, shift = parameters["batch_norm.weight"], parameters["batch_norm.bias"]
        a = nn.functional.batch_norm(a, *(statistics or (None, None)), scale, shift, training=statistics is None)
    h = FUNCTIONS[nonlinearity](a)
    return nn.functional.layer_norm(h, h.shape[1:]) if norm == "layer" else h


def output(z, *, divisive_norm=None, **_):
    """What the next block receives, dropout aside."""
    return oracles.divisive_norm(z, **divisive_norm) if divisive_norm else z


def predict(network, x, **options):
    """Logits as in evaluation."""
    for position, block in enumerate(network.blocks):
        norm = block.batch_norm
        statistics = None if norm is None else (norm.running_mean, norm.running_var)
        x = output(activity(x, block_parameters(network, position), statistics, **options), **options)
    return x @ network.readout.weight.T + network.readout.bias

"""Networks side by side: their weights stacked, so that one batched product serves them all."""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from infohebb.errors import MismatchError
from infohebb.networks.layered import Layered


def side_by_side(networks: Sequence[Layered]) -> Layered:
    """One network of stacked weights (nets × outputs × inputs), buffers too, that computes what each of them does.

    They share their input; convolutions, batch norm, divisive norm and dropout do not stand side by side.
    Raises MismatchError for those, for networks of different shapes, and for none.
    """
    if not networks:
        raise MismatchError("no networks to put side by side; give at least one")
    together = copy.deepcopy(networks[0])
    for name, block in together.named_blocks():
        odd = block.geometry is not None or block.batch_norm or block.divisive_norm or block.dropout or block.residual
        if odd:
            raise MismatchError(f"{name} is not fully connected and plain or with layer norm; train it one by one")
    for name, parameter in dict(together.named_parameters()).items():
        stacked = nn.Parameter(_stack([dict(each.named_parameters())[name] for each in networks], name))
        stacked.requires_grad_(parameter.requires_grad)
        _owner(together, name).register_parameter(name.rpartition(".")[2], stacked)
    for name in dict(together.named_buffers()):
        stacked = _stack([each.get_buffer(name) for each in networks], name)
        _owner(together, name).register_buffer(name.rpartition(".")[2], stacked)
    return together


def alone(networks: Layered, place: int) -> Layered:
    """One of the networks that stand side by side, by its place."""
    single = copy.deepcopy(networks)
    for name, parameter in dict(networks.named_parameters()).items():
        owner, last = _owner(single, name), name.rpartition(".")[2]
        owner.register_parameter(last, nn.Parameter(parameter.detach()[place].clone()))
    for name, buffer in dict(networks.named_buffers()).items():
        _owner(single, name).register_buffer(name.rpartition(".")[2], buffer[place].clone())
    return single


def _stack(tensors: Sequence[torch.Tensor], name: str) -> torch.Tensor:
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) > 1:
        raise MismatchError(f"{name} has shapes {sorted(shapes)}: networks side by side have the same layers")
    return torch.stack([tensor.detach() for tensor in tensors])


def _owner(network: nn.Module, name: str) -> nn.Module:
    return network.get_submodule(name.rpartition(".")[0])

"""Networks side by side: their weights stacked, so that one batched product serves them all."""

import copy
from collections.abc import Sequence
from functools import partial
from types import NoneType
from typing import Any

import torch
from torch import nn

from infohebb.errors import MismatchError
from infohebb.networks.layered import Layered

PLAIN = (bool, int, float, str, NoneType)


def side_by_side(networks: Sequence[Layered]) -> Layered:
    """One network of stacked weights (nets × outputs × inputs), buffers too, that computes what each of them does.

    They share their input; convolutions, batch norm, divisive norm and dropout do not stand side by side.
    Raises MismatchError for those, for networks that differ in more than their weights, and for none.
    """
    if not networks:
        raise MismatchError("no networks to put side by side; give at least one")
    for network in networks:
        if not isinstance(network, Layered):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MismatchError(f"a {type(network).__name__} stands alone: only networks of blocks go side by side")
    _check_alike(networks)
    together = copy.deepcopy(networks[0])
    for name, block in together.named_blocks():
        odd = block.geometry is not None or block.batch_norm or block.divisive_norm or block.dropout or block.residual
        if odd:
            raise MismatchError(f"{name} is not fully connected and plain or with layer norm; train it one by one")
    for name, parameter in dict(together.named_parameters()).items():
        stacked = nn.Parameter(_stack([each.get_parameter(name) for each in networks]))
        stacked.requires_grad_(parameter.requires_grad)
        _owner(together, name).register_parameter(name.rpartition(".")[2], stacked)
    for name in dict(together.named_buffers()):
        stacked = _stack([each.get_buffer(name) for each in networks])
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


def _stack(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack([tensor.detach() for tensor in tensors])


def _check_alike(networks: Sequence[Layered]) -> None:
    """Raise MismatchError naming what the networks differ in beside the values of their weights."""
    first, *others = map(_described, networks)
    for place, other in enumerate(others, 1):
        for name in {**first, **other}:
            one, another = first.get(name), other.get(name)
            if one != another:
                values = f": {one}, and {another}" if isinstance(one, PLAIN) else ""
                raise MismatchError(
                    f"{name} differs{values} in network {place}; side by side they have the same layers and settings"
                )


def _described(network: Layered) -> dict[str, Any]:
    """Class of each module, then its weights' shapes and types, then its settings: what it has public and no tensor."""
    modules = {name or "the network": module for name, module in network.named_modules()}
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {
        **{f"the class of {name}": type(module).__name__ for name, module in modules.items()},
        **{name: f"{tuple(t.shape)} {t.dtype}, requires_grad={t.requires_grad}" for name, t in tensors.items()},
        **{
            f"{setting} of {name}": _comparable(value)
            for name, module in modules.items()
            for setting, value in vars(module).items()
            if not setting.startswith("_") and setting != "training"
        },
    }


def _comparable(value: Any) -> Any:
    """The same for functions with the same arguments filled in, which are objects of their own."""
    if isinstance(value, tuple):
        return tuple(map(_comparable, value))
    return (value.func, value.args, value.keywords) if isinstance(value, partial) else value


def _owner(network: nn.Module, name: str) -> nn.Module:
    return network.get_submodule(name.rpartition(".")[0])

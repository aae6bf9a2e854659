"""Several networks of one architecture in one: their weights stacked, so that one batched product serves them all."""

import copy
from collections.abc import Sequence
from functools import partial
from types import NoneType
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infohebb.errors import MismatchError
from infohebb.networks.plain.layered import LayeredNetwork
from infohebb.networks.plain.layers import Layer
from infohebb.networks.plain.leaky import LeakyIntegrator

Network = TypeVar("Network", bound=LayeredNetwork)
PLAIN = (bool, int, float, str, NoneType)
STACKABLE = (nn.Linear, nn.LayerNorm, LeakyIntegrator)  # of modules that hold tensors, or look at shapes
CONTAINERS = (LayeredNetwork, Layer, nn.ModuleList, nn.Sequential)


class StackedLinear(nn.Module):
    """The linear layers of several networks: `weight` (networks × outputs × inputs), `bias` (networks × outputs).

    Takes one input for all, (m × inputs), or one for each, (m × networks × inputs); gives (m × networks × outputs).
    """

    def __init__(self, layers: Sequence[nn.Linear]):
        super().__init__()
        self.weight = _stacked([layer.weight for layer in layers])
        biases = [layer.bias for layer in layers if layer.bias is not None]
        self.bias = _stacked(biases) if biases else None

    @property
    def out_features(self) -> int:
        """Number of outputs of each network."""
        return self.weight.shape[1]

    @property
    def in_features(self) -> int:
        """Number of inputs of each network."""
        return self.weight.shape[2]

    def forward(self, x: Float[Tensor, "m *inputs"]) -> Float[Tensor, "m networks outputs"]:
        """Return W x + b of each network.  Raises MismatchError for inputs of another size."""
        if x.shape[-1] != self.in_features:
            raise MismatchError(f"samples of {x.shape[-1]} numbers do not fit layers of {self.in_features} inputs")
        each = x if x.dim() == 2 else x.transpose(0, 1)
        product = (each @ self.weight.mT).transpose(0, 1)
        return product if self.bias is None else product + self.bias

    def extra_repr(self) -> str:
        """Return the sizes as text."""
        return f"networks={len(self.weight)}, in_features={self.in_features}, out_features={self.out_features}"


def stack_networks(networks: Sequence[Network]) -> Network:
    """Return one network that computes what each of the networks does: logits are (m × networks × outputs).

    They share their input. Convolutions, batch norm, divisive norm and dropout cannot be stacked.
    Raises MismatchError for those, for networks that differ in more than their weights, and for none.
    """
    if not networks:
        raise MismatchError("no networks to stack; give at least one")
    for network in networks:
        if not isinstance(network, LayeredNetwork) or network.stacked is not None:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MismatchError(f"a {type(network).__name__} cannot be stacked; give MLPs or LeakyMLPs, single ones")
    check_alike(networks)
    together = copy.deepcopy(networks[0])
    for name, module in networks[0].named_modules():
        holds = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if (holds or "Dropout" in type(module).__name__ or "Norm" in type(module).__name__) and not isinstance(
            module, STACKABLE
        ):
            raise MismatchError(f"{name} is a {type(module).__name__}, which cannot be stacked; train one by one")
        each = [network.get_submodule(name) for network in networks]
        if isinstance(module, nn.Linear):
            _replace(together, name, StackedLinear(each))  # pyright: ignore[reportArgumentType]
        elif not isinstance(module, (*STACKABLE, *CONTAINERS)):
            check_apart(name, module)
        for buffer in dict(module.named_buffers(recurse=False)):
            stacked = torch.stack([one.get_buffer(buffer).detach() for one in each], 1)
            together.get_submodule(name).register_buffer(buffer, stacked)
    together.stacked = len(networks)
    return together


def check_apart(name: str, module: nn.Module) -> None:
    """Raise MismatchError for a module that mixes stacked networks, such as a softmax over axis 1."""
    x = torch.linspace(-2, 2, 48).view(2, 3, 8).sin_()
    try:
        with torch.no_grad(), torch.random.fork_rng():
            apart = torch.stack([module(x[:, place].clone()) for place in range(x.shape[1])], 1)
            together = module(x.clone())
    except Exception as error:
        words = " ".join(str(error).split())[:100]
        raise MismatchError(f"{name} is a {type(module).__name__}, which cannot be stacked ({words})") from error
    if together.shape != apart.shape or not torch.allclose(together, apart, atol=1e-5, equal_nan=True):
        raise MismatchError(f"{name} is a {type(module).__name__}, which mixes networks where they are stacked")


def unstack(stacked: Network, place: int) -> Network:
    """Return one of the networks that are stacked, by its place.

    Raises MismatchError for a single network, and for a place that is not there.
    """
    if stacked.stacked is None:
        raise MismatchError(f"this {type(stacked).__name__} is a single network; give one of stack_networks")
    if not 0 <= place < stacked.stacked:
        raise MismatchError(f"there is no network {place} among {stacked.stacked}; give 0 to {stacked.stacked - 1}")
    single = copy.deepcopy(stacked)
    for name, module in stacked.named_modules():
        if isinstance(module, StackedLinear):
            _replace(single, name, _linear_of(module, place))
        for buffer, value in module.named_buffers(recurse=False):
            single.get_submodule(name).register_buffer(buffer, value[:, place].clone())
    single.stacked = None
    return single


def _linear_of(layers: StackedLinear, place: int) -> nn.Linear:
    """Return one of the layers."""
    weight, bias = layers.weight[place].detach().clone(), layers.bias
    linear = nn.Linear(layers.in_features, layers.out_features, bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight, layers.weight.requires_grad)
    if bias is not None:
        linear.bias = nn.Parameter(bias[place].detach().clone(), bias.requires_grad)
    return linear


def _stacked(parameters: Sequence[Tensor]) -> nn.Parameter:
    return nn.Parameter(torch.stack([p.detach() for p in parameters]), parameters[0].requires_grad)


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, last = name.rpartition(".")
    network.get_submodule(owner).register_module(last, module)


def check_alike(networks: Sequence[nn.Module]) -> None:
    """Raise MismatchError naming what the networks differ in beside the values of their weights."""
    first, *others = map(_described, networks)
    for place, other in enumerate(others, 1):
        for name in {**first, **other}:
            one, another = first.get(name), other.get(name)
            if one != another:
                values = f": {one}, and {another}" if isinstance(one, PLAIN) else ""
                raise MismatchError(
                    f"{name} differs{values} in network {place}; stacked networks have the same layers and settings"
                )


def _described(network: nn.Module) -> dict[str, Any]:
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
    """Return the same for functions with the same arguments filled in, which are objects of their own."""
    if isinstance(value, tuple):
        return tuple(map(_comparable, value))
    return (value.func, value.args, value.keywords) if isinstance(value, partial) else value

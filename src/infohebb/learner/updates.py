"""Steps of torch's optimizers as functions, for a graph that holds them together with what they step by."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import Parameter
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.adam import adam
from torch.optim.sgd import sgd

State = Mapping[str, Tensor]


def update_by_sgd(table: Mapping[str, Any], parameters: list[Parameter], states: list[State]) -> None:
    """Step by torch's SGD."""
    options = {name: table[name] for name in ("weight_decay", "momentum", "lr", "dampening", "nesterov", "maximize")}
    buffers = [state.get("momentum_buffer") for state in states]
    sgd(list(parameters), gradients_of(parameters), buffers, foreach=False, fused=False, **options)


def update_by_adam(table: Mapping[str, Any], parameters: list[Parameter], states: list[State]) -> None:
    """Step by torch's Adam or AdamW."""
    options = {name: table[name] for name in ("amsgrad", "lr", "weight_decay", "eps", "maximize")}
    options["decoupled_weight_decay"] = table["decoupled_weight_decay"]
    beta1, beta2 = table["betas"]
    means, squares = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq"))
    largest = [state["max_exp_avg_sq"] for state in states] if table["amsgrad"] else []
    counts = [state["step"] for state in states]
    adam(
        list(parameters), gradients_of(parameters), means, squares, largest, counts, foreach=False, fused=False,
        capturable=False, differentiable=False, beta1=beta1, beta2=beta2, **options,
    )  # fmt: skip


UPDATES = {SGD: update_by_sgd, Adam: update_by_adam, AdamW: update_by_adam}


def gradients_of(parameters: list[Parameter]) -> list[Tensor]:
    """Return the gradients that are there."""
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def parameters_of(optimizer: Optimizer) -> list[Parameter]:
    """Return all that an optimizer steps."""
    return [parameter for table in optimizer.param_groups for parameter in table["params"]]


def states_of(optimizer: Optimizer, table: Mapping[str, Any]) -> list[State]:
    """Return what the optimizer keeps for each parameter of one of its groups."""
    return [optimizer.state.get(parameter) or {} for parameter in table["params"]]


def has_state(optimizer: Optimizer) -> bool:
    """Whether the optimizer keeps something for each parameter that it will ever keep something for."""
    return all(
        (isinstance(optimizer, SGD) and not table["momentum"]) or all(map(optimizer.state.get, table["params"]))
        for table in optimizer.param_groups
    )

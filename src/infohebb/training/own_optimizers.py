"""Optimizers that papers use and torch lacks."""

# pyright: reportPrivateImportUsage=false

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class SGDThenDecay(Optimizer):
    """Decay after the step, of what the step has made: p ← (1 - d)(p - lr grad), d = lr weight_decay.  [CIM 8.1]

    With `decay_follows_rate=False` d = initial lr · weight_decay whatever a schedule makes of lr, as in the lateral
    matrix of contrastive similarity matching. Raises ValueError.
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, weight_decay: float = 0.0, *, decay_follows_rate: bool = True
    ) -> None:
        check_at_least_zero(lr=lr, weight_decay=weight_decay)
        if not isinstance(decay_follows_rate, bool):
            raise ValueError(f"decay_follows_rate is {decay_follows_rate!r}; give true or false")
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "decay_follows_rate": decay_follows_rate})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step and decay what has a gradient."""
        loss = recomputed(closure)
        for table in self.param_groups:
            learned, gradients = with_gradients(table)
            if not learned:
                continue
            torch._foreach_add_(learned, gradients, alpha=-table["lr"])
            rate = table["lr"] if table["decay_follows_rate"] else table.get("initial_lr", table["lr"])
            if table["weight_decay"]:
                torch._foreach_mul_(learned, 1 - rate * table["weight_decay"])
        return loss


class AdamEpsilonHat(Optimizer):
    """Adam in Kingma and Ba's second form: epsilon stands beside the root as it is, not corrected.  [CIM 8.2]

    p ← p - lr √(1 - β2^t) / (1 - β1^t) m / (√v + eps); `weight_decay` p is added to the gradient. Raises ValueError.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        check_at_least_zero(lr=lr, eps=eps, weight_decay=weight_decay)
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas are {betas!r}; give two numbers of at least 0 and below 1")
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step what has a gradient."""
        loss = recomputed(closure)
        for table in self.param_groups:
            learned, gradients = with_gradients(table)
            if not learned:
                continue
            states = [self._state_of(parameter) for parameter in learned]
            means, squares = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq"))
            beta1, beta2 = table["betas"]
            if table["weight_decay"]:
                gradients = torch._foreach_add(gradients, learned, alpha=table["weight_decay"])
            torch._foreach_lerp_(means, gradients, 1 - beta1)
            torch._foreach_mul_(squares, beta2)
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
            roots = torch._foreach_sqrt(squares)
            torch._foreach_add_(roots, table["eps"])
            rates = [table["lr"] * (1 - beta2 ** s["step"]) ** 0.5 / (1 - beta1 ** s["step"]) for s in states]
            torch._foreach_addcdiv_(learned, means, roots, [-rate for rate in rates])
        return loss

    def _state_of(self, parameter: Tensor) -> dict[str, Any]:
        """Count of steps, this one included, and the two averages."""
        state = self.state[parameter]
        if not state:
            averages = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
            state.update(step=0, **averages)
        state["step"] += 1
        return state


OWN: dict[str, type[Optimizer]] = {"sgd_then_decay": SGDThenDecay, "adam_epsilon_hat": AdamEpsilonHat}


def check_at_least_zero(**options: float) -> None:
    """Raise ValueError for the first number that is negative or NaN."""
    for name, value in options.items():
        if not value >= 0:
            raise ValueError(f"{name} is {value!r}; it must be at least 0")


def recomputed(closure: Callable[[], Any] | None) -> Any:
    """The loss of a closure, as torch's optimizers give it back."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def with_gradients(table: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """The parameters of a group that have a gradient, and those gradients."""
    learned = [parameter for parameter in table["params"] if parameter.grad is not None]
    return learned, [parameter.grad for parameter in learned]

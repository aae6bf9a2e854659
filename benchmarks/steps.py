"""A training step of a rule, as `train` takes it."""

from collections.abc import Callable, Mapping

from torch import Tensor

from infohebb import Layered, LearningRule
from infohebb.rules.base import Diagnostics
from infohebb.training import make_optimizer
from infohebb.training.compiling import compile_step
from infohebb.training.epoch import plain_step


def training_step(
    rule: LearningRule,
    rates: Mapping[str, float],
    network: Layered,
    x: Tensor,
    labels: Tensor,
    learn: Callable[..., Diagnostics] | None = None,
) -> Callable[[], object]:
    """`learn`, the rule's own or as it was compiled, and the fused SGD step, on one batch."""
    rule.attach(network)
    kinds = rule.groups(network)
    lr = {kind: rates[kind] for kind in kinds}
    optimizer = make_optimizer(kinds, "sgd", lr=lr, momentum=0.95, weight_decay=1e-7)

    step = plain_step(rule, optimizer, learn)
    return lambda: step(network, x, labels)


def window_step(
    rule: LearningRule, network: Layered, x: Tensor, labels: Tensor, *, hold: int = 1, compiled: bool = False
) -> Callable[[], None]:
    """A window (N samples) held for some time steps, in each of which the rule learns and fused AdamW steps."""
    rule.attach(network)
    options = {"lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 1e-4}
    optimizer = make_optimizer(rule.groups(network), "adamw", **options)
    step = compile_step(rule, optimizer, whole=True) if compiled else plain_step(rule, optimizer)

    def run() -> None:
        for time_step in range(hold):
            step(network, x, labels, onset=time_step == 0)

    return run

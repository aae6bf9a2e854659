"""A training step of a rule, as `train` takes it."""

from collections.abc import Callable, Mapping

from torch import Tensor

from infohebb import Layered, LearningRule
from infohebb.training import make_optimizer


def training_step(
    rule: LearningRule,
    rates: Mapping[str, float],
    network: Layered,
    x: Tensor,
    labels: Tensor,
    learn: Callable[..., object] | None = None,
) -> Callable[[], None]:
    """`learn`, the rule's own or as it was compiled, and the fused SGD step, on one batch."""
    rule.attach(network)
    learn = learn or rule.learn
    kinds = rule.groups(network)
    lr = {kind: rates[kind] for kind in kinds}
    optimizer = make_optimizer(kinds, "sgd", lr=lr, momentum=0.95, weight_decay=1e-7)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        learn(network, x, labels)
        optimizer.step()

    return run

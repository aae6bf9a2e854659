"""One batch update of CorInfoMax as its equations are written down: sweep by sweep, outer product by outer product.

States are columns (n × m) of one sample each. Nothing is remembered from one sweep to the next, W x included.
As a script it makes one update for each line that it reads, with memory managed as Python has it.
"""

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from infohebb import CorInfoMaxNetwork


class PlainCorInfoMax:
    """A network's weights, and the update of box-constrained layers in two phases, with a constant step."""

    def __init__(
        self,
        network: CorInfoMaxNetwork,
        forgetting: float,
        forward_rates: Sequence[float],
        feedback_rates: Sequence[float],
    ):
        layers: list[Any] = list(network.layers)
        self.forward = [layer.feedforward.weight.detach().clone() for layer in layers]
        self.feedback = [layer.feedback.weight.detach().clone() for layer in layers[:-1]]
        self.inverse = [layer.inverse_correlation.clone() for layer in layers]
        self.epsilon, self.leak, self.step = network.epsilon, network.leak, network.step
        self.steps, self.forgetting, self.gain = network.steps, forgetting, network.entropy_gain
        self.rates = forward_rates, feedback_rates

    def settle(self, x: Tensor, y: Tensor, rates: list[Tensor], steps: int, nudge: float) -> list[Tensor]:
        """One phase, from these rates."""
        rates, top = [r.clone() for r in rates], len(rates) - 1
        potentials = [r.clone() for r in rates]
        for _ in range(steps):
            for k, v in enumerate(potentials):
                r, basal = rates[k], self.forward[k] @ (x if k == 0 else rates[k - 1])
                lateral = self.inverse[k] @ r
                change = (basal - v) / self.epsilon + self.leak * (r - v)
                if k < top:
                    change += (self.feedback[k] @ rates[k + 1] - v) / self.epsilon + 2 * self.gain * lateral
                else:
                    change += self.gain * lateral - v - nudge * (r - y)
                potentials[k] = v + self.step * change
                rates[k] = potentials[k].clamp(0, 1)
        return rates

    def update(self, x: Tensor, y: Tensor, nudge: float, nudged_steps: int) -> None:
        """Free phase, nudged phase, and what each matrix learns from the two."""
        free = self.settle(x, y, [x.new_zeros(len(w), x.shape[1]) for w in self.forward], self.steps, 0.0)
        told = self.settle(x, y, free, nudged_steps, nudge)
        a, b, changes = [x, *free], [x, *told], []
        for k, (w, rate) in enumerate(zip(self.forward, self.rates[0], strict=True)):
            error_free, error_told = a[k + 1] - w @ a[k], b[k + 1] - w @ b[k]
            changes.append((w, rate, outer(error_told, b[k]) - outer(error_free, a[k])))
        for k, (v, rate) in enumerate(zip(self.feedback, self.rates[1], strict=True), 1):
            error_free, error_told = a[k] - v @ a[k + 1], b[k] - v @ b[k + 1]
            changes.append((v, rate, outer(error_told, b[k + 1]) - outer(error_free, a[k + 1])))
        for weight, rate, change in changes:
            weight += rate / nudge * change
        gamma = (1 - self.forgetting) / self.forgetting
        for k, inverse in enumerate(self.inverse):
            z = inverse @ told[k]
            self.inverse[k] = (inverse - gamma * outer(z, z)) / self.forgetting


def outer(post: Tensor, pre: Tensor) -> Tensor:
    """The mean over samples of each one's outer product."""
    return torch.einsum("im,jm->mij", post, pre).mean(0)


def published(samples: int, dtype: torch.dtype = torch.float32) -> tuple[CorInfoMaxNetwork, Tensor, Tensor]:
    """The network of the published setting, and a batch with as many zeros as digits have."""
    torch.manual_seed(0)
    network = CorInfoMaxNetwork(784, 10, (500,)).to(dtype)
    x = torch.rand(samples, 784, dtype=dtype)
    return network, x * (torch.rand_like(x) < 0.2), torch.randint(10, (samples,))


def main() -> None:
    """Serve updates, line by line."""
    torch.set_num_threads(1)
    network, x, labels = published(20)
    columns, wanted = x.T.contiguous(), torch.eye(10)[labels].T.contiguous()
    plain = PlainCorInfoMax(network, 0.99999, [0.0, 0.0], [0.0])
    for _ in sys.stdin:
        plain.update(columns, wanted, 1.0, 10)
        print(flush=True)


if __name__ == "__main__":
    main()

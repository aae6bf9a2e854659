"""Write a local rule of your own in 15 lines, compare it with autograd, and train by it.

    python examples/own_rule.py        handwritten digits, 15 s on one CPU core

Similarity matching with labels: two samples of one class should have similar activities, other samples should not.
Each unit minimises L = mean((K - Y)²) / 4. K = z zᵀ / n (m × m) compares the activities z (m × n) of m samples. Y is 1
for two samples of one class, else 0. A rule states dL/dz in closed form; here it is (K - Y) z / (m² n).
Prints the difference from autograd, what the contract suite finds, and accuracies of the rule and of frozen units.
"""

import torch
from torch import nn

import infohebb
from infohebb import LocalError, Locality, LocalRule
from infohebb.data import batches, digits


class SimilarityMatching(LocalRule):
    locality = Locality(shared=frozenset({"samples"}))  # all neurons of a unit share a number for each pair of samples

    def context(self, inputs, targets, classes, /):
        return (targets[:, None] == targets).to(inputs.dtype)  # Y, once per batch

    def error(self, z, signal, context, unit):
        flat = z.flatten(1)
        difference = flat @ flat.T / flat.shape[1] - context  # K - Y
        third_factor = difference / (len(z) ** 2 * flat.shape[1])
        terms = {"objective": difference.square().mean() / 4}  # to look at, in step.terms
        return LocalError(third_factor, z, (third_factor @ flat).view_as(z), terms, shared="samples")


def compare_with_autograd() -> float:
    z, targets = torch.randn(50, 20, dtype=torch.float64, requires_grad=True), torch.randint(10, (50,))
    context = SimilarityMatching().context(z, targets, 10)
    found = SimilarityMatching().error(z.detach(), infohebb.Signal(), context, infohebb.Unit("unit", 0)).error
    (expected,) = torch.autograd.grad((z @ z.T / 20 - context).square().mean() / 4, z)
    return float((found - expected).abs().max() / expected.abs().max())


def train(rule: LocalRule) -> float:
    torch.manual_seed(0)
    data, hidden = digits(), [layer for n in (64, 128, 128) for layer in (nn.Linear(n, 128), nn.ReLU())]
    model = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(128, 10))
    learner = infohebb.Learner(model, rule)  # in an nn.Sequential, each Linear with its ReLU is a unit
    optimizer = torch.optim.AdamW(learner.param_groups(units=1e-3, head=1e-2))
    for _ in range(10):
        for x, y in batches(data.train, 100, shuffle=True):
            optimizer.zero_grad()
            learner.backward(data.normalise(x), y)
            optimizer.step()
    return infohebb.evaluate(model, data)["accuracy"]


if __name__ == "__main__":
    torch.manual_seed(0)
    print(f"relative difference from autograd {compare_with_autograd():.1e}")
    print(f"contract suite: {len(infohebb.check_rule(SimilarityMatching, networks=['MLP']))} checks hold")
    print(f"similarity matching: test accuracy {train(SimilarityMatching()):.1f} %")
    print(f"frozen units: test accuracy {train(infohebb.LastLayer()):.1f} %")

"""One training step beside its unavoidable matrix products, and beside the same objective by autograd.

The bf16 products are timed twice: on tensors that are bf16 already, and on the fp32 tensors that a step has (master
weights, fp32 activities and gradients), which must be read, rounded and written. "Bare step" is those products of fp32
tensors and the fused SGD step with nothing in between: what no step with fp32 master weights can undercut.

    THP_MEM_ALLOC_ENABLE=1 python benchmarks/step.py [--json FILE] [--threads 2]          as `make bench` does

Batch 256, 3 x 1024 on 784 inputs, Gaussian kernel, 32 groups, divisive norm, dropout 0.01, and the fused SGD step.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch

from infohebb import Backprop, KernelizedBottleneck, LearningRule
from infohebb.functional.products import Precision, product
from infohebb.networks import MLP
from infohebb.training import make_optimizer
from infohebb.training.devices import keep_freed_memory
from peer import mlp_peer
from steps import training_step
from timing import compared, take_turns, tell

BATCH, INPUTS, WIDTHS = 256, 784, (1024, 1024, 1024)
BOUNDS = {
    "fp32 step / its products": "at most 1.4",
    "bf16 step / its products": "at most 2.2",
    "fp32 autograd / fp32 step": "at least 1.7",
    "fp32 autograd / bf16 step": "at least 4.5",
    "fp32 step / bf16 step": "at least 2.3",
}


def products(dtype: torch.dtype, precision: Precision = "fp32") -> Callable[[], None]:
    """Forward and weight-gradient product of each layer, on operands of that type."""
    ins = [torch.randn(BATCH, n).to(dtype) for n in (INPUTS, *WIDTHS[:-1])]
    weights = [torch.randn(n, x.shape[1]).to(dtype) for n, x in zip(WIDTHS, ins, strict=True)]
    errors = [torch.randn(BATCH, n).to(dtype) for n in WIDTHS]

    def run() -> None:
        for x, weight, error in zip(ins, weights, errors, strict=True):
            product(x, weight.T, precision)
            product(error.T, x, precision)

    return run


def bare_step(precision: Precision) -> Callable[[], None]:
    """The products of fp32 tensors, and the SGD step that takes the weight gradients."""
    ins, errors = ([torch.randn(BATCH, n) for n in sizes] for sizes in ((INPUTS, *WIDTHS[:-1]), WIDTHS))
    weights = [torch.nn.Parameter(torch.randn(n, x.shape[1])) for n, x in zip(WIDTHS, ins, strict=True)]
    optimizer = make_optimizer({"local": weights}, "sgd", lr=1e-3, momentum=0.95, weight_decay=1e-7)

    @torch.no_grad()
    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        for x, weight, error in zip(ins, weights, errors, strict=True):
            product(x, weight.T, precision)
            weight.grad = product(error.T, x, precision)
        optimizer.step()

    return run


def step(rule: LearningRule, precision: Precision, x: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    """A training step of the rule."""
    network = MLP(INPUTS, 10, WIDTHS, divisive_norm={"groups": 32}, dropout=0.01)
    network.precision = precision
    return training_step(rule, {"local": 1.0, "readout": 1e-3}, network, x, labels)


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=25)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    keep_freed_memory()
    x, labels = torch.randn(BATCH, INPUTS), torch.randint(10, (BATCH,))
    peer, quicker_peer = (mlp_peer((INPUTS, *WIDTHS), groups=32, by_product=way) for way in (False, True))
    work = {
        "fp32 products": products(torch.float32),
        "fp32 step": step(KernelizedBottleneck(), "fp32", x, labels),
        "bf16 products": products(torch.bfloat16),
        "bf16 products of fp32 tensors": products(torch.float32, "bf16"),
        "bf16 step": step(KernelizedBottleneck(), "bf16", x, labels),
        "fp32 bare step": bare_step("fp32"),
        "bf16 bare step": bare_step("bf16"),
        "fp32 autograd": lambda: peer.step(x, labels),
        "fp32 autograd, distances by product": lambda: quicker_peer.step(x, labels),
        "fp32 backprop": step(Backprop(), "fp32", x, labels),
        "bf16 backprop": step(Backprop(), "bf16", x, labels),
    }
    seconds = take_turns(work, asked.rounds)
    pairs = [
        ("fp32 step", "fp32 products", "fp32 step / its products"),
        ("bf16 step", "bf16 products", "bf16 step / its products"),
        ("bf16 step", "bf16 products of fp32 tensors", "bf16 step / its products of fp32 tensors"),
        ("fp32 autograd", "fp32 step", "fp32 autograd / fp32 step"),
        ("fp32 autograd", "bf16 step", "fp32 autograd / bf16 step"),
        ("fp32 autograd, distances by product", "fp32 step", "fp32 autograd, distances by product / fp32 step"),
        ("fp32 autograd, distances by product", "bf16 step", "fp32 autograd, distances by product / bf16 step"),
        ("fp32 step", "bf16 step", "fp32 step / bf16 step"),
        ("fp32 bare step", "fp32 products", "fp32 bare step / its products"),
        ("bf16 bare step", "bf16 products", "bf16 bare step / its products"),
        ("fp32 bare step", "bf16 bare step", "fp32 bare step / bf16 bare step"),
        ("fp32 backprop", "fp32 step", "fp32 backprop / fp32 step"),
        ("bf16 backprop", "bf16 step", "bf16 backprop / bf16 step"),
    ]
    tell(compared(seconds, pairs), BOUNDS, asked.json)


if __name__ == "__main__":
    main()

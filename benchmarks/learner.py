"""A step of a Learner on plain modules beside the closed forms of version 1, and what it keeps alive at its peak.

    THP_MEM_ALLOC_ENABLE=1 python benchmarks/learner.py [--json FILE] [--threads 1]          as `make bench` does

The 3 x 1024 network (batch 256) and the paper's convolutional network at a quarter of its width (batch 128, channels
last), Gaussian kernel, divisive norm, sparse dropout, the fused SGD step. bf16 is `torch.autocast` around the Learner's
step, and bf16 products inside version 1's. Then peak storage of live tensors beyond weights and gradients: an MLP of
depth 4 and 64, and the convolutional network at full width beside backprop.
"""

import argparse
import contextlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from infohebb import Backprop, KernelizedBottleneck, Learner
from infohebb.networks import MLP, ConvNet, plain
from infohebb.training.devices import keep_freed_memory
from memory import LiveStorage
from steps import training_step
from timing import compared, take_turns, tell

INPUTS, WIDTHS, MLP_BATCH, CONV_BATCH = 784, (1024, 1024, 1024), 256, 128
RATES = {"local": 1.0, "readout": 1e-3}
BOUNDS = {
    "mlp, fp32: new / old step": "at most 1.05",
    "mlp, bf16: new / old step": "at most 1.15",
    "conv, fp32: new / old step": "at most 1.05",
    "conv, bf16: new / old step": "at most 0.95",
    "mlp: depth 64 / depth 4, peak storage": "at most 1.05",
    "1x conv, batch 128: local rule / backprop, peak storage": "at most 0.5",
}


def learner_step(
    model: nn.Module, x: Tensor, labels: Tensor, precision: str, rule: type = KernelizedBottleneck
) -> Callable[[], None]:
    """A step as in any user's loop: zero_grad, backward, the optimizer's step."""
    learner = Learner(model, rule())
    groups = learner.param_groups(units=1.0, head=1e-3)
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=0.95, weight_decay=1e-7, fused=True)
    autocast = precision == "bf16"

    def run() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16) if autocast else contextlib.nullcontext():
            learner.backward(x, labels)
        optimizer.step()

    return run


def mlp_steps(batch: int = MLP_BATCH) -> dict[str, Callable[[], object]]:
    """New and old steps of the fully connected network."""
    x, labels = torch.randn(batch, INPUTS), torch.randint(10, (batch,))
    settings = {"divisive_norm": {"groups": 32}, "dropout": 0.01}
    work: dict[str, Callable[[], object]] = {}
    for precision in ("fp32", "bf16"):
        old, new = MLP(INPUTS, 10, WIDTHS, **settings), plain.MLP(INPUTS, 10, WIDTHS, **settings)
        old.precision = precision
        work[f"mlp, {precision}: old"] = training_step(KernelizedBottleneck(), RATES, old, x, labels)
        work[f"mlp, {precision}: new"] = learner_step(new, x, labels, precision)
    return work


def conv_settings(factor: float) -> dict[str, object]:
    """The paper's network; groups scale with its width."""
    return {"factor": factor, "divisive_norm": {"groups": max(round(64 * factor), 2)}, "dropout": 0.05}


def conv_steps(factor: float, batch: int = CONV_BATCH) -> dict[str, Callable[[], object]]:
    """New and old steps of the convolutional network, channels last."""
    x, labels = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))
    last = x.contiguous(memory_format=torch.channels_last)
    work: dict[str, Callable[[], object]] = {}
    for precision in ("fp32", "bf16"):
        old, new = ConvNet(**conv_settings(factor)), plain.ConvNet(**conv_settings(factor))
        old.precision = precision
        for network in (old, new):
            network.to(memory_format=torch.channels_last)
        work[f"conv, {precision}: old"] = training_step(KernelizedBottleneck(), RATES, old, last, labels)
        work[f"conv, {precision}: new"] = learner_step(new, last, labels, precision)
    return work


def peak_of(learner: Learner, x: Tensor, labels: Tensor) -> int:
    """Peak of one step beyond weights and the gradients that it leaves."""
    gradients = sum(p.numel() * p.element_size() for p in learner.parameters() if p.requires_grad)
    known = [*learner.parameters(), *learner.buffers(), x, labels]
    with LiveStorage(known) as storage:
        learner.backward(x, labels)
    return storage.peak - gradients


def storage(width: int = 256, batch: int = 256, factor: float = 1.0, conv_batch: int = CONV_BATCH) -> dict[str, float]:
    """Peak storage against depth, and of the convolutional network beside backprop's."""
    x, labels = torch.randn(batch, width), torch.randint(10, (batch,))
    settings = {"divisive_norm": {"groups": 32}, "dropout": 0.01}
    peaks = [
        peak_of(Learner(plain.MLP(width, 10, (width,) * depth, **settings), KernelizedBottleneck()), x, labels)
        for depth in (4, 64)
    ]
    images, classes = torch.randn(conv_batch, 3, 32, 32), torch.randint(10, (conv_batch,))
    local, backprop = (
        peak_of(Learner(plain.ConvNet(**conv_settings(factor)), rule), images, classes)
        for rule in (KernelizedBottleneck(), Backprop())
    )
    return {
        "mlp: depth 4, peak storage (MiB)": peaks[0] / 2**20,
        "mlp: depth 64, peak storage (MiB)": peaks[1] / 2**20,
        "mlp: depth 64 / depth 4, peak storage": peaks[1] / peaks[0],
        f"{factor:g}x conv, batch {conv_batch}: local rule, peak storage (MiB)": local / 2**20,
        f"{factor:g}x conv, batch {conv_batch}: backprop, peak storage (MiB)": backprop / 2**20,
        f"{factor:g}x conv, batch {conv_batch}: local rule / backprop, peak storage": local / backprop,
    }


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--factor", type=float, default=0.25)
    parser.add_argument("--whole-factor", type=float, default=1.0)
    parser.add_argument("--batch", type=int)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    keep_freed_memory()
    figures = storage(factor=asked.whole_factor, conv_batch=asked.batch or CONV_BATCH)
    for name, work in {
        "mlp": mlp_steps(asked.batch or MLP_BATCH),
        "conv": conv_steps(asked.factor, asked.batch or CONV_BATCH),
    }.items():
        seconds = take_turns(work, asked.rounds, repeats=8 if name == "mlp" else 2)
        pairs = [(f"{name}, {p}: new", f"{name}, {p}: old", f"{name}, {p}: new / old step") for p in ("fp32", "bf16")]
        figures |= compared(seconds, pairs)
    tell(figures, BOUNDS, asked.json)


if __name__ == "__main__":
    main()

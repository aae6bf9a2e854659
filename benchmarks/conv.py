"""One training step of the convolutional network beside the convolutions it cannot avoid, and beside autograd.

    THP_MEM_ALLOC_ENABLE=1 python benchmarks/conv.py [--json FILE] [--threads 2] [--factor 0.25] [--steps 20]

The network of the paper at a quarter of its width: batch 128, SELU, Gaussian kernel, 16 groups, divisive norm, dropout,
the fused SGD step. "Its convolutions" are the forward pass and the weight gradient of each layer alone, in the faster
memory layout (channels last). The peer is the published code's form of the step: autograd of each layer's objective,
distances pair by pair, an optimizer per layer. Then the network at full width (1x): seconds per step over 20 steps.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from infohebb import Backprop, KernelizedBottleneck
from infohebb.functional.convolution import convolution_gradient, convolve
from infohebb.functional.products import Precision, product
from infohebb.networks import ConvNet
from infohebb.networks.convnet import CHANNELS, POOLED
from infohebb.training.devices import keep_freed_memory
from memory import peak_of
from peer import conv_peer
from steps import training_step
from timing import compared, ratio, take_turns, tell

BATCH = 128
RATES = {"local": 0.4, "readout": 1e-4}
BOUNDS = {
    "fp32 step / its convolutions": "at most 1.5",
    "fp32 autograd / fp32 step": "at least 1.5",
    "1x, batch 128: local rule / backprop, peak storage": "at most 0.5",
}


def make_network(factor: float, *, channels_last: bool = True, precision: Precision = "fp32") -> ConvNet:
    """The paper's network; groups scale with its width."""
    groups = max(round(64 * factor), 2)
    network = ConvNet(factor=factor, divisive_norm={"groups": groups}, dropout=0.05)
    network.precision = precision
    if channels_last:
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return network


def convolutions(
    factor: float, precision: Precision, *, channels_last: bool = True, device: str = "cpu"
) -> Callable[[], None]:
    """Forward and weight gradient of each layer, on tensors that lie there already, of the precision's own type."""
    network, work = make_network(factor, channels_last=channels_last).to(device), []
    layout = torch.channels_last if channels_last else torch.contiguous_format
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    x = torch.randn(BATCH, 3, 32, 32, device=device)
    for _, block in network.named_blocks():
        response = block.respond(x)
        weight, geometry, pre = block.weight.detach().to(kind), block.geometry, response.pre.to(kind)
        if geometry is None:
            work.append((pre, weight, torch.randn(BATCH, len(weight), dtype=kind, device=device), None))
        else:
            error = torch.randn(BATCH, len(weight), *pre.shape[2:], dtype=kind, device=device)
            pre, error = (each.contiguous(memory_format=layout) for each in (pre, error))
            work.append((pre, weight, error, geometry))
        x = response.activity.detach()

    @torch.no_grad()
    def run() -> None:
        for pre, weight, error, geometry in work:
            if geometry is None:
                product(pre, weight.T)
                product(error.T, pre)
            else:
                convolve(pre, weight, geometry)
                convolution_gradient(pre, error, geometry)

    return run


step = partial(training_step, rates=RATES)


def quarter(x: torch.Tensor, labels: torch.Tensor, factor: float, rounds: int) -> dict[str, float]:
    """Ratios at the small width."""
    peer = conv_peer([round(factor * count) for count in CHANNELS], POOLED, 1024, max(round(64 * factor), 2))
    work: dict[str, Callable[[], None]] = {"fp32 autograd": lambda: peer.step(x, labels)}
    for precision in ("fp32", "bf16"):
        work |= {
            f"{precision} convolutions": convolutions(factor, precision),
            f"{precision} convolutions, channels first": convolutions(factor, precision, channels_last=False),
            f"{precision} step": training_step(
                KernelizedBottleneck(), RATES, make_network(factor, precision=precision), x, labels
            ),
            f"{precision} backprop": training_step(
                Backprop(), RATES, make_network(factor, precision=precision), x, labels
            ),
        }
    seconds = take_turns(work, rounds, repeats=2)
    pairs = [
        ("fp32 step", "fp32 convolutions", "fp32 step / its convolutions"),
        ("fp32 step", "fp32 convolutions, channels first", "fp32 step / its convolutions, channels first"),
        ("bf16 step", "bf16 convolutions", "bf16 step / its convolutions"),
        ("fp32 autograd", "fp32 step", "fp32 autograd / fp32 step"),
        ("fp32 autograd", "bf16 step", "fp32 autograd / bf16 step"),
        ("fp32 step", "bf16 step", "fp32 step / bf16 step"),
        ("fp32 backprop", "fp32 step", "fp32 backprop / fp32 step"),
        ("bf16 backprop", "bf16 step", "bf16 backprop / bf16 step"),
    ]
    return compared(seconds, pairs)


def whole(x: torch.Tensor, labels: torch.Tensor, steps: int) -> dict[str, float]:
    """Seconds per step of the network at full width, ours and the published code's form, step by step in turns."""
    peer = conv_peer(CHANNELS, POOLED, 1024, 64)
    work = {
        "fp32": step(KernelizedBottleneck(), network=make_network(1.0), x=x, labels=labels),
        "bf16": step(KernelizedBottleneck(), network=make_network(1.0, precision="bf16"), x=x, labels=labels),
        "autograd": lambda: peer.step(x, labels),
    }
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(steps):
        for name, call in work.items():
            began = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - began)
    figures = {
        f"1x, {name}: seconds per step, median of {steps}": sorted(s)[len(s) // 2] for name, s in seconds.items()
    }
    figures |= {f"1x: autograd / {name} step": ratio(seconds, "autograd", name) for name in ("fp32", "bf16")}
    return figures


def storage(x: torch.Tensor, labels: torch.Tensor, factor: float) -> dict[str, float]:
    """Peak storage of live tensors in one `learn` of the network at full width, beyond weights and gradients."""
    local, backprop = (peak_of(rule, make_network(factor), x, labels) for rule in (KernelizedBottleneck(), Backprop()))
    return {
        "1x, batch 128: local rule, peak storage (MiB)": local / 2**20,
        "1x, batch 128: backprop, peak storage (MiB)": backprop / 2**20,
        "1x, batch 128: local rule / backprop, peak storage": local / backprop,
    }


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--factor", type=float, default=0.25)
    parser.add_argument("--whole-factor", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=BATCH)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    keep_freed_memory()
    x, labels = torch.randn(asked.batch, 3, 32, 32), torch.randint(10, (asked.batch,))
    figures = storage(x, labels, asked.whole_factor) | quarter(x, labels, asked.factor, asked.rounds)
    tell(figures | (whole(x, labels, asked.steps) if asked.steps else {}), BOUNDS, asked.json)


if __name__ == "__main__":
    main()

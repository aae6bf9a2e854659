"""The convolutional network on a GPU: how much of the card the products take, and an epoch beside autograd.

    python benchmarks/gpu.py [--json FILE] [--device cuda] [--factor 1.0] [--batches 391]     as `make bench-gpu` does

bf16 products, channels last, batch 128, random images. The card's peak is that of a large bf16 matrix product, measured
here. "Share of peak" is the operations of forward pass and weight gradient of all layers over their time, or that of a
whole step, over that peak. An epoch is `batches` steps of the Gaussian rule, of the same objective by autograd (the
published code's form, bf16 by autocast), and of backprop. `--device cpu --factor 0.0625 --batches 2` tries it without.
"""

import argparse
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import torch

from conv import BATCH, RATES, convolutions, make_network
from infohebb import Backprop, KernelizedBottleneck, LearningRule
from infohebb.networks.convnet import CHANNELS, POOLED
from infohebb.training.compiling import compile_learning, every_shape_compiled
from peer import conv_peer
from steps import training_step
from timing import synchronize, tell


def seconds(work: Callable[[], None], repeats: int) -> float:
    """Seconds per call, after a warm-up."""
    work()
    synchronize()
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    synchronize()
    return (time.perf_counter() - began) / repeats


def peak_rate(device: str, size: int) -> float:
    """Operations per second of a square bf16 product."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / seconds(lambda: torch.mm(a, b), 20)


def operations(factor: float) -> float:
    """Of forward pass and weight gradient: two for each weight, position and sample, twice."""
    network, side, total = make_network(factor), 32, 0
    for place, (_, block) in enumerate(network.named_blocks(), 1):
        total += block.weight.numel() * (side**2 if block.geometry else 1)
        side //= 2 if place in POOLED else 1
    return 4.0 * BATCH * total


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--factor", type=float, default=1.0)
    parser.add_argument("--batches", type=int, default=391)
    asked = parser.parse_args()
    if asked.device.startswith("cuda") and not torch.cuda.is_available():
        parser.exit(1, "benchmarks/gpu.py: no CUDA device here, so nothing is measured\n")
    torch.manual_seed(0)
    on_gpu = asked.device.startswith("cuda")
    peak = peak_rate(asked.device, 8192 if on_gpu else 512)
    products = seconds(convolutions(asked.factor, "bf16", device=asked.device), 20 if on_gpu else 2)
    x, labels = torch.randn(BATCH, 3, 32, 32, device=asked.device), torch.randint(10, (BATCH,), device=asked.device)
    figures = {"share of peak in its products": operations(asked.factor) / products / peak}
    rules: dict[str, tuple[LearningRule, dict[str, bool] | None]] = {
        "local rule": (KernelizedBottleneck(), None),
        "backprop": (Backprop(), None),
    }
    if on_gpu:
        rules["local rule, compiled"] = (KernelizedBottleneck(), {})
        rules["local rule, compiled, CUDA graphs"] = (KernelizedBottleneck(), {"cuda_graphs": True})
    for name, (rule, how) in rules.items():
        network = make_network(asked.factor, precision="bf16").to(asked.device)
        learn = None if how is None else compile_learning(rule, **how)
        work = training_step(rule, RATES, network, x, labels, learn)
        with every_shape_compiled(network) if learn else contextlib.nullcontext():
            figures[f"{name}: epoch (s)"] = asked.batches * seconds(work, min(asked.batches, 50))
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            work()
            figures[f"{name}: peak memory (MiB)"] = torch.cuda.max_memory_allocated() / 2**20
    groups = max(round(64 * asked.factor), 2)
    peer = conv_peer([round(asked.factor * count) for count in CHANNELS], POOLED, 1024, groups, device=asked.device)

    def by_autograd() -> None:
        with torch.autocast(torch.device(asked.device).type, torch.bfloat16):
            peer.step(x, labels)

    figures["same objective by autograd: epoch (s)"] = asked.batches * seconds(by_autograd, min(asked.batches, 50))
    local = figures["local rule: epoch (s)"]
    figures["share of peak in the whole step"] = operations(asked.factor) / (local / asked.batches) / peak
    for other in [*(name for name in rules if name != "local rule"), "same objective by autograd"]:
        figures[f"{other} / local rule"] = figures[f"{other}: epoch (s)"] / local
    tell(figures, {}, asked.json)


if __name__ == "__main__":
    main()

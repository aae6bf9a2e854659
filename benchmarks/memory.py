"""Peak storage of live tensors inside one `learn`, beyond weights and gradients: depth 4 beside depth 64.

    python benchmarks/memory.py [--json FILE]

Counted tensor by tensor on the CPU (every storage that an operation allocates, until Python or autograd lets it go), by
the allocator on CUDA.
"""

import argparse
import weakref
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from infohebb import Backprop, KernelizedBottleneck, LearningRule
from infohebb.networks import MLP, Layered
from timing import tell

BATCH, WIDTH = 256, 256


class LiveStorage(TorchDispatchMode):
    """Adds up the bytes of storages that are alive, and remembers the most."""

    def __init__(self, known: list[Tensor]):
        super().__init__()
        self.seen = {tensor.untyped_storage()._cdata for tensor in known}
        self.live = self.peak = 0

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
        """Run the operation and count what it allocates."""
        result = operation(*arguments, **(keywords or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.count(leaf.untyped_storage())
        return result

    def count(self, storage: torch.UntypedStorage) -> None:
        """Take in a storage the first time it is seen, and let go of it when it dies."""
        key, size = storage._cdata, storage.nbytes()
        if key not in self.seen:
            self.seen.add(key)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self.release, key, size)

    def release(self, key: int, size: int) -> None:
        """A storage is gone."""
        self.seen.discard(key)
        self.live -= size


def peak_bytes(rule: LearningRule, depth: int) -> int:
    """Peak of one learn of an MLP of that depth."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = MLP(WIDTH, 10, (WIDTH,) * depth, divisive_norm={"groups": 32}, dropout=0.01).to(device)
    x, labels = torch.randn(BATCH, WIDTH, device=device), torch.randint(10, (BATCH,), device=device)
    return peak_of(rule, network, x, labels)


def peak_of(rule: LearningRule, network: Layered, x: Tensor, labels: Tensor) -> int:
    """Peak of one learn beyond weights and the gradients that it leaves."""
    rule.attach(network)
    gradients = sum(p.numel() * p.element_size() for p in network.parameters() if _learns(rule, network, p))
    if x.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        rule.learn(network, x, labels)
        return torch.cuda.max_memory_allocated() - before - gradients
    with LiveStorage([*network.parameters(), *rule.parameters(), *rule.buffers(), x, labels]) as storage:
        rule.learn(network, x, labels)
    return storage.peak - gradients


def _learns(rule: LearningRule, network: Layered, parameter: Tensor) -> bool:
    return any(parameter is other for group in rule.groups(network).values() for other in group)


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    figures = {}
    for rule in (KernelizedBottleneck(), Backprop()):
        name = type(rule).__name__
        shallow, deep = peak_bytes(rule, 4), peak_bytes(rule, 64)
        figures[f"{name}, depth 4 (MiB)"] = shallow / 2**20
        figures[f"{name}, depth 64 (MiB)"] = deep / 2**20
        figures[f"{name}, depth 64 / depth 4"] = deep / shallow
    tell(figures, {"KernelizedBottleneck, depth 64 / depth 4": "at most 1.05"}, parser.parse_args().json)


if __name__ == "__main__":
    main()

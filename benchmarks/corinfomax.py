"""One batch update of CorInfoMax, 784-500-10, 30 + 10 sweeps: beside its equations written plainly, beside the products
that it cannot avoid, and how much a large batch and bf16 bring.

python benchmarks/corinfomax.py [--json FILE] [--rounds N]
"""

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from corinfomax_plain import PlainCorInfoMax, published
from infohebb import CorInfoMax, CorInfoMaxNetwork, Learner
from infohebb.functional import dynamics
from infohebb.networks.corinfomax import Presented
from infohebb.training.devices import keep_freed_memory
from infohebb.training.epoch import plain_step
from timing import compared, take_turns, tell

SIZES, BATCH, LARGE, NUDGED = (784, 500, 10), 20, 500, 10
FORWARD, FEEDBACK, FORGETTING = [1.0, 0.7], [0.15], 0.99999
GAINS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
BOUNDS = {
    "plain / ours": "at least 10",
    "ours / unavoidable products": "at most 1.5",
    "per sample, batch 20 / batch 500": "at least 1.6",
    "by a Learner / ours": "at most 1.03",
    "ours - plain after 3 updates (float64)": "at most 1e-12",
}


def our_update(network: CorInfoMaxNetwork, x: Tensor, labels: Tensor, *, still: bool = False) -> Callable[[], object]:
    """The library's training step: learn, and SGD at a rate for each matrix (0 where weights are to stand still)."""
    rule = CorInfoMax(random_sign=False, forgetting=FORGETTING, nudged_steps=NUDGED)
    rule.attach(network)
    groups = rule.groups(network)
    pairs = [*zip(groups["forward"], FORWARD, strict=True), *zip(groups["feedback"], FEEDBACK, strict=True)]
    tables = [{"params": [weight], "lr": 0.0 if still else rate} for weight, rate in pairs]
    step = plain_step(rule, torch.optim.SGD(tables, lr=0.0, fused=True))
    return lambda: step(network, x, labels)


def learner_update(
    network: CorInfoMaxNetwork, x: Tensor, labels: Tensor, *, still: bool = False
) -> Callable[[], object]:
    """The same by a Learner, as `fit` does it."""
    rule = CorInfoMax(random_sign=False, forgetting=FORGETTING, nudged_steps=NUDGED)
    learner = Learner(network, rule)
    forward, feedback = ([0.0 if still else rate for rate in rates] for rates in (FORWARD, FEEDBACK))
    optimizer = torch.optim.SGD(learner.param_groups(forward=forward, feedback=feedback), lr=0.0, fused=True)
    parameters = list(network.parameters())

    def run() -> None:
        for parameter in parameters:
            parameter.grad = None
        learner.backward(x, labels)
        optimizer.step()

    return run


def plain_update(network: CorInfoMaxNetwork, x: Tensor, labels: Tensor, *, still: bool = False) -> Callable[[], object]:
    """The same, written plainly."""
    forward, feedback = ([0.0 if still else rate for rate in rates] for rates in (FORWARD, FEEDBACK))
    plain, y = PlainCorInfoMax(network, FORGETTING, forward, feedback), torch.eye(SIZES[-1], dtype=x.dtype)[labels]
    return lambda: plain.update(x.T.contiguous(), y.T.contiguous(), 1.0, NUDGED)


@contextlib.contextmanager
def served() -> Iterator[Callable[[], object]]:
    """The plain form in a process of its own, whose memory is managed as Python has it: a call is one update."""
    command = [sys.executable, str(Path(__file__).with_name("corinfomax_plain.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        asked, told = process.stdin, process.stdout
        assert asked is not None
        assert told is not None

        def update() -> None:
            asked.write("\n")
            told.readline()

        yield update
        asked.close()


def unavoidable(x: Tensor) -> Callable[[], object]:
    """Per sweep B r, V r, W r above the first layer; per update W x, the weight gradients and one z zᵀ."""
    m, (inputs, n, outputs) = len(x), SIZES
    r, top, B = torch.rand(m, n), torch.rand(m, outputs), torch.rand(n, n)
    W0, W1, V1 = torch.rand(inputs, n), torch.rand(n, outputs), torch.rand(outputs, n)
    both, both_top = torch.rand(2 * m, n), torch.rand(2 * m, outputs)
    hidden, out = torch.empty(m, n), torch.empty(m, outputs)
    into = [torch.empty(n, inputs), torch.empty(outputs, n), torch.empty(n, outputs), torch.empty(n, n)]

    def products() -> None:
        torch.mm(x, W0, out=hidden)
        for _ in range(30 + NUDGED):
            torch.mm(r, B, out=hidden)
            torch.mm(top, V1, out=hidden)
            torch.mm(r, W1, out=out)
        torch.mm(r.T, x, out=into[0])
        torch.mm(both_top.T, both, out=into[1])
        torch.mm(both.T, both_top, out=into[2])
        torch.mm(r.T, r, out=into[3])

    return products


def lateral(samples: int) -> Callable[[], object]:
    """B r of all sweeps."""
    r, B, out = torch.rand(samples, SIZES[1]), torch.rand(SIZES[1], SIZES[1]), torch.empty(samples, SIZES[1])
    return lambda: [torch.mm(r, B, out=out) for _ in range(30 + NUDGED)]


def largest_difference() -> float:
    """Between the two forms' weights after three updates from the same ones, in double precision."""
    network, x, labels = published(BATCH, torch.float64)
    layers = list(network.compartmental())
    y = torch.eye(SIZES[-1], dtype=x.dtype)[labels]
    plain = PlainCorInfoMax(network, FORGETTING, FORWARD, FEEDBACK)
    step = our_update(network, x, labels)
    for _ in range(3):
        step()
        plain.update(x.T.contiguous(), y.T.contiguous(), 1.0, NUDGED)
    pairs = [(layer.feedforward.weight, other) for layer, other in zip(layers, plain.forward, strict=True)]
    pairs += [(layer.inverse_correlation, other) for layer, other in zip(layers, plain.inverse, strict=True)]
    pairs += [(layer.feedback.weight, v) for layer, v in zip(layers, plain.feedback, strict=False) if layer.feedback]
    return max(float((one - other).detach().abs().max()) for one, other in pairs)


def renewed(gain: float) -> int:
    """In how many of the first batch's 40 sweeps the hidden layer's lateral current is computed."""
    network, x, labels = published(BATCH)
    network.entropy_gain = gain
    shown, seen = Presented(network, x), []
    hidden = shown.layers[0]
    watch = lambda _: seen.append(hidden.steady)  # noqa: E731
    shown.settle(network.steps, watch=watch)
    shown.settle(NUDGED, torch.eye(SIZES[-1])[labels], 1.0, watch)
    if hidden.current.tolerance == 0:
        return len(seen)
    return 1 + sum(one is not other for one, other in pairwise(seen))


def float32_differences() -> dict[str, float]:
    """Of what the first layer learns in a batch: lateral currents kept or not, and single precision or double."""
    learned = {}
    for name, dtype, wide in (
        ("kept", torch.float32, 64),
        ("renewed", torch.float32, 10**9),
        ("double", torch.float64, 64),
    ):
        before, dynamics.WIDE = dynamics.WIDE, wide
        network, x, labels = published(BATCH)
        rule = CorInfoMax(random_sign=False, forgetting=FORGETTING, nudged_steps=NUDGED)
        rule.attach(network.to(dtype))
        rule.learn(network, x.to(dtype), labels)
        dynamics.WIDE = before
        learned[name] = network.get_submodule("layers.0.feedforward").weight.grad.double()
    of_double = learned["double"].abs().max()
    return {
        f"{name} - double, of the largest update (float32)": float(
            (learned[name] - learned["double"]).abs().max() / of_double
        )
        for name in ("kept", "renewed")
    }


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    small, large = (published(samples) for samples in (BATCH, LARGE))
    coarse_small, coarse = published(BATCH), published(LARGE)
    coarse[0].precision = coarse_small[0].precision = "bf16"
    with served() as apart:
        alike = {"ours": our_update(*small, still=True), "unavoidable": unavoidable(small[1]), "plain apart": apart}
        alike |= {"lateral": lateral(BATCH)}
        seconds = take_turns({**alike, "plain": plain_update(*small, still=True)}, asked.rounds, 4)
    pairs = [("plain apart", "ours", "plain / ours"), ("ours", "unavoidable", "ours / unavoidable products")]
    pairs += [("plain", "ours", "plain / ours, freed memory kept by both")]
    pairs += [("lateral", "unavoidable", "B r of 40 sweeps / unavoidable products")]
    figures = compared(seconds, pairs)
    work = {"ours": our_update(*small, still=True), "by a Learner": learner_update(*small, still=True)}
    seconds = take_turns(work, 20 * asked.rounds, 1)
    rows = [("by a Learner", "ours", "by a Learner / ours")]
    figures |= {key: value for key, value in compared(seconds, rows).items() if "(ms" not in key}
    work = {"batch 20": our_update(*small, still=True), "batch 20, bf16": our_update(*coarse_small, still=True)}
    work |= {"batch 500": our_update(*large, still=True), "batch 500, bf16": our_update(*coarse, still=True)}
    seconds = take_turns(work, max(1, asked.rounds // 3), 2)
    share = {name: [each / LARGE * BATCH for each in seconds[name]] for name in ("batch 500", "batch 500, bf16")}
    rows = [("batch 20", "batch 500", "per sample, batch 20 / batch 500")]
    rows += [("batch 20", "batch 500, bf16", "per sample, batch 20 / batch 500, bf16")]
    rows += [("batch 20", "batch 20, bf16", "fp32 / bf16, batch 20")]
    figures |= {key: value for key, value in compared({**seconds, **share}, rows).items() if "(ms" not in key}
    counts = {f"sweeps of 40 that renew the lateral current, gain {gain:g}": renewed(gain) for gain in GAINS}
    exact = {"ours - plain after 3 updates (float64)": largest_difference(), **float32_differences()}
    tell({**figures, **counts, **exact}, BOUNDS, asked.json)


if __name__ == "__main__":
    main()

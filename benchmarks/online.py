"""One step of the online rule at batch size one, beside what it cannot avoid and beside its plain form.

"Unavoidable" is a matrix-vector product for each layer, a write of rank two (of the readout: one) into each `.grad`,
and the same optimizer step. "Plain form" is the equations as they are read: layer by layer, with explicit outer
products, and an SGD for each layer as torch makes it by default; once with all groups of a layer in one product, and
once group by group. Both give the same weights as the step (asserted in float64).

    THP_MEM_ALLOC_ENABLE=1 taskset -c 1 python benchmarks/online.py [--json FILE]         as `make bench` does

784-256-256-256-10, two-point form, 32 groups, divisive norm, SGD with momentum, one thread.
"""

import argparse
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import torch
from torch import Tensor

from infohebb import KernelizedBottleneckOnline, LastLayer
from infohebb.networks import MLP
from infohebb.training import make_optimizer
from infohebb.training.compiling import compile_step, every_shape_compiled
from infohebb.training.devices import keep_freed_memory
from infohebb.training.epoch import plain_step
from timing import compared, take_turns, tell

INPUTS, WIDTHS, OUTPUTS, GROUPS = 784, (256, 256, 256), 10, 32
SIGMA, GAMMA, POWER, DELTA, SLOPE, RATE = 0.5, 2.0, 0.2, 1.0, 0.01, 1e-3
SGD = {"lr": 1e-3, "momentum": 0.95}
BOUNDS = {
    "plain form / step": "at least 5",
    "step / unavoidable": "at most 3",
    "plain form / compiled step": "at least 5",
    "compiled step / unavoidable": "at most 3",
}


def make_network() -> MLP:
    """The network, always the same."""
    torch.manual_seed(0)
    return MLP(INPUTS, OUTPUTS, WIDTHS, slope=SLOPE, divisive_norm={"groups": GROUPS, "power": POWER, "delta": DELTA})


Stimuli = list[tuple[Tensor, Tensor]]


class Step:
    """A training step of the rule, on one stimulus after the other."""

    def __init__(
        self, network: MLP, stimuli: Stimuli, *, compiled: bool = False, rule: type = KernelizedBottleneckOnline
    ):
        settings = {"sigma": SIGMA, "gamma": GAMMA, "rate": RATE} if rule is KernelizedBottleneckOnline else {}
        self.network, self.rule, self.stimuli = network, rule(**settings), cycle(stimuli)
        self.rule.attach(network)
        optimizer = make_optimizer(self.rule.groups(network), "sgd", **SGD)
        self.step = compile_step(self.rule, optimizer, whole=True) if compiled else plain_step(self.rule, optimizer)

    def __call__(self) -> None:
        """Take the next stimulus."""
        self.step(self.network, *next(self.stimuli))


class PlainLayer:
    """Weights, what is kept of the stimulus before, and an optimizer."""

    def __init__(self, weight: Tensor, *, by_group: bool):
        self.weight, self.by_group = weight, by_group
        self.kappa = torch.zeros((), dtype=weight.dtype)
        self.before: tuple[Tensor, ...] | None = None
        self.optimizer = torch.optim.SGD([weight], **SGD)

    def step(self, x: Tensor, teaching: float | None, eta: float) -> Tensor:
        """Learn from one stimulus, and send on what it gives."""
        z = torch.nn.functional.leaky_relu(self.weight @ x, SLOPE)
        slope = torch.where(z > 0, 1.0, SLOPE)
        size = len(z) // GROUPS
        centred = z.view(GROUPS, size) - z.view(GROUPS, size).mean(1, keepdim=True)
        u = (DELTA + centred.square().sum(1)) / size
        v = u ** (1 - POWER)
        v = v - v.mean()
        r = (centred / u[:, None] ** POWER).flatten()
        if self.before is not None and teaching is not None:
            v_before, post_before, x_before = self.before
            k_z = torch.exp(-(v - v_before).square().sum() / (2 * SIGMA**2))
            self.kappa = self.kappa + eta * (k_z - self.kappa)
            M = -(GAMMA * teaching - 2 * (k_z - self.kappa)) * k_z / SIGMA**2
            third_factor, post = 2 * (1 - POWER) / size * M * (v - v_before), r * slope
            if self.by_group:
                self.weight.grad = torch.empty_like(self.weight)
                for a, factor in enumerate(third_factor):
                    own = slice(a * size, (a + 1) * size)
                    change = torch.outer(post[own], x) - torch.outer(post_before[own], x_before)
                    self.weight.grad[own] = -factor * change
            else:
                change = torch.outer(post, x) - torch.outer(post_before, x_before)
                self.weight.grad = -(third_factor.repeat_interleave(size)[:, None] * change)
            self.optimizer.step()
        self.before = v, r * slope, x
        return r


class PlainForm:
    """The same step, written as the equations are."""

    def __init__(self, network: MLP, stimuli: Stimuli, *, by_group: bool = False):
        weights = [block.weight.detach().clone() for _, block in network.named_blocks()]
        self.layers = [PlainLayer(weight, by_group=by_group) for weight in weights]
        self.readout = [p.detach().clone() for p in (network.readout.weight, network.readout.bias)]
        self.optimizer = torch.optim.SGD(self.readout, **SGD)
        self.stimuli, self.label, self.seen, self.kappa_y = cycle(stimuli), None, 0, 0.0

    @torch.no_grad()
    def __call__(self) -> None:
        """Take the next stimulus."""
        (x,), label = next(self.stimuli)
        teaching, eta = None, max(RATE, 1 / max(self.seen, 1))
        if self.label is not None:
            k_y = 1.0 if bool(label == self.label) else -1 / (OUTPUTS - 1)
            self.kappa_y = self.kappa_y + eta * (k_y - self.kappa_y)
            teaching = k_y - self.kappa_y
        for layer in self.layers:
            x = layer.step(x, teaching, eta)
        if teaching is not None:
            weight, bias = self.readout
            error = torch.softmax(weight @ x + bias, 0) - torch.nn.functional.one_hot(label[0], OUTPUTS)
            weight.grad, bias.grad = torch.outer(error, x), error
            self.optimizer.step()
        self.label, self.seen = label, self.seen + 1


def unavoidable(network: MLP) -> Callable[[], None]:
    """Products, writes of rank two, and the optimizer's step."""
    layers = [block.weight for _, block in network.named_blocks()] + [network.readout.weight]
    ins = [torch.randn(2 if weight is not layers[-1] else 1, weight.shape[1]) for weight in layers]
    outs = [1e-6 * torch.randn(len(pre), len(weight)) for pre, weight in zip(ins, layers, strict=True)]
    optimizer = make_optimizer(KernelizedBottleneckOnline().groups(network), "sgd", **SGD)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)

    @torch.no_grad()
    def run() -> None:
        for weight, pre, post in zip(layers, ins, outs, strict=True):
            torch.mv(weight, pre[0])
            torch.mm(post.T, pre, out=weight.grad)
        optimizer.step()

    return run


def assert_the_same() -> None:
    """All forms have the same weights after some stimuli, in float64."""
    stimuli = some_stimuli(20, torch.float64)
    network, plain = make_network().double(), make_network().double()
    forms = [Step(network, stimuli), *(PlainForm(plain, stimuli, by_group=by_group) for by_group in (False, True))]
    for _ in range(50):
        for form in forms:
            form()
    ours = [*(block.weight for _, block in network.named_blocks()), *network.readout.parameters()]
    for form in forms[1:]:
        assert isinstance(form, PlainForm)
        for weight, other in zip(ours, [*(layer.weight for layer in form.layers), *form.readout], strict=True):
            torch.testing.assert_close(weight.detach(), other, rtol=1e-9, atol=1e-12)
    for weight, drawn in zip(ours, plain.parameters(), strict=False):
        assert not torch.equal(weight, drawn), "nothing was learned"


def some_stimuli(count: int, dtype: torch.dtype = torch.float32) -> Stimuli:
    """Inputs and labels, one by one."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.rand(count, 1, INPUTS, generator=generator).to(dtype)
    return list(zip(inputs, torch.randint(OUTPUTS, (count, 1), generator=generator), strict=True))


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--eager", action="store_true", help="leave the compiled step out")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    assert_the_same()
    stimuli = some_stimuli(64)
    work = {
        "unavoidable": unavoidable(make_network()),
        "step": Step(make_network(), stimuli),
        "step of the readout alone": Step(make_network(), stimuli, rule=LastLayer),
        "plain form": PlainForm(make_network(), stimuli),
        "plain form, group by group": PlainForm(make_network(), stimuli, by_group=True),
    }
    if not asked.eager:
        compiled = make_network()
        work["compiled step"] = Step(compiled, stimuli, compiled=True)
        with every_shape_compiled(compiled):
            for _ in range(4):
                work["compiled step"]()
    seconds = take_turns(work, asked.rounds, asked.repeats)
    pairs = []
    for name in ("step", "compiled step") if not asked.eager else ("step",):
        pairs.append((name, "unavoidable", f"{name} / unavoidable"))
        pairs += [(plain, name, f"{plain} / {name}") for plain in ("plain form", "plain form, group by group")]
    figures = compared(seconds, [*pairs, ("plain form", "unavoidable", "plain form / unavoidable")])
    figures |= {f"{name} (per second)": 1 / min(times) for name, times in seconds.items()}
    tell(figures, BOUNDS, asked.json)


if __name__ == "__main__":
    main()

"""Promises on what a layer's synapses are given, and on what an update makes of it."""

from collections.abc import Iterator

import torch
from torch import Tensor

from infohebb.networks import Block
from infohebb.rules.base import POSTSYNAPTIC, PRESYNAPTIC, Signals
from infohebb.testing.cases import SAMPLES, Build, Case, close, explain, largest


def update_follows_from_signals(build: Build) -> None:
    """`update` of what was recorded, by a rule that never saw the batch, is the gradient of all that learns."""
    case, stranger = build(), build().rule
    explained = {}
    for layer, signals in case.learn(record=True).signals.items():
        explained |= {f"{layer}.{name}": gradient for name, gradient in explain(stranger, signals).items()}
    gradients = case.gradients()
    for name, gradient in gradients.items():
        assert name in explained, f"no signals explain the gradient of {name}"
        assert close(explained[name], gradient, largest(gradients)), (
            f"the recorded signals do not give the gradient of {name}"
        )


def update_is_local(build: Build) -> None:
    """Entry (i, j) of an update depends on presynaptic j, postsynaptic i, and declared, small broadcasts alone.

    Entry i of a bias's or a batch norm's update depends on postsynaptic i and those broadcasts. In a convolution i and
    j are channels: its synapses are shared by all positions.
    """
    case, stranger = build(), build().rule
    for layer, signals in case.learn(record=True).signals.items():
        for name, signal in signals.items():
            _check_role(case, layer, name, signal)
        before = explain(stranger, signals)
        neurons, inputs = before["weight"].shape[:2]
        presynaptic = explain(stranger, _nudge(signals, PRESYNAPTIC, 1, inputs))["weight"]
        moved = _moved(before["weight"], presynaptic)
        assert _moves_only(moved.transpose(0, 1), 1), f"{layer}: presynaptic 1 acts on other columns"
        after = explain(stranger, _nudge(signals, POSTSYNAPTIC, 1, neurons))
        assert _moves_only(_moved(before["weight"], after["weight"]), 1), f"{layer}: postsynaptic 1 acts on other rows"
        for name in before.keys() - {"weight"}:
            moved = _moved(before[name], after[name], largest(before))
            moved[1] = False
            assert not bool(moved.any()), f"{layer}: postsynaptic 1 acts on other neurons' {name}"


def _check_role(case: Case, layer: str, name: str, signal: Tensor) -> None:
    """A signal is presynaptic, postsynaptic, a bias's one number, or a declared broadcast of few numbers."""
    if name in PRESYNAPTIC or name in POSTSYNAPTIC:
        return
    if name == "bias_pre":
        assert signal.numel() == 1, f"{layer}: a bias receives one number, not {signal.numel()}"
        return
    if name == "geometry":
        block = case.layer(layer)
        assert isinstance(block, Block), f"{layer}: only a block has a geometry"
        assert block.geometry is not None, f"{layer}: geometry of a layer that is no map"
        same = signal.tolist() == [number for pair in block.geometry for number in pair]
        assert same, f"{layer}: geometry is not that of the layer"
        return
    assert name in case.rule.broadcasts, f"{layer}: signal {name!r} has no declared role"
    module = case.layer(layer)
    norm = getattr(module, "divisive_norm", None)
    neurons = getattr(module, "width", None) or len(module.get_parameter("weight"))
    factors = norm.groups if norm is not None else neurons // 2
    samples = 2 if case.rule.consumes == "sample" else SAMPLES  # the one that is there, and one that is kept
    pixels = signal.shape[-2:].numel() if name == "layer_factors" and signal.dim() > 3 else 1  # normed each
    most = samples * (factors if name == "third_factor" else samples) * pixels
    assert signal.numel() <= most, f"{layer}: {name} broadcasts {signal.numel()} numbers, more than {most}"


def by_neuron(signal: Tensor, neurons: int) -> Tensor:
    """A view (m × neurons × positions) of a signal; one of numbers per neuron has one moment and one position."""
    return signal.view(1 if signal.dim() == 1 else len(signal), neurons, -1)


def _nudge(signals: Signals, roles: frozenset[str], position: int, neurons: int) -> Signals:
    """Signals with those of the given roles changed at one neuron; which one won a pool is turned round.

    Each signal changes by other numbers, for some act by their difference.
    """
    changed = dict(signals)
    for place, name in enumerate(sorted(roles & signals.keys()), 1):
        changed[name] = signals[name].clone()
        change = by_neuron(changed[name], neurons)[:, position]
        if change.is_floating_point():
            change += torch.linspace(0.3, 0.7, change.numel(), dtype=change.dtype).pow(1 + place).view_as(change)
        else:
            change.copy_(change.flip(-1))
    return changed


def _moved(before: Tensor, after: Tensor, scale: float | None = None) -> Tensor:
    """Which numbers changed by more than rounding; `scale` is that of the numbers they are made of."""
    return (before - after).abs() > 1e-12 * (float(before.abs().max()) if scale is None else scale)


def _moves_only(moved: Tensor, row: int) -> bool:
    """Whether something in a row moved, and nothing elsewhere."""
    elsewhere = moved.clone()
    elsewhere[row] = False
    return bool(moved[row].any()) and not bool(elsewhere.any())


def presynaptic_signals_are_what_came_in(build: Build) -> None:
    """The `pre` that is recorded for a block or the readout is what it received of the batch.

    Of a rule that consumes samples or windows each row of it is what the layer received of one of them, and a
    `pre_average` is a weighted sum of that, with the same weights for each input.
    """
    case = build()
    received = case.received()
    for layer, signals in build().learn(record=True).signals.items():
        for name in PRESYNAPTIC & signals.keys() if layer in received else ():
            pre, got = received[layer], signals[name]
            if name == "pre" and case.rule.consumes == "batch":
                same = got.shape == pre.shape and close(got, pre, largest(received))
            else:
                same = got.shape[1:] == pre.shape[1:] and _made_of(got, pre, name, largest(received))
            assert same, f"{layer}: signal {name!r} is not what the layer received"


def _made_of(rows: Tensor, received: Tensor, name: str, scale: float) -> bool:
    """Whether each row is one of those received or, if it is an average, the same weighted sum of them everywhere."""
    if name == "pre":
        return all(any(close(row, each, scale) for each in received) for row in rows)
    known, wanted = received.flatten(1), rows.flatten(1)
    return close(wanted @ torch.linalg.pinv(known) @ known, wanted, scale)


def postsynaptic_signals_are_the_neurons_own(build: Build) -> None:
    """The weights that neurons receive act on no postsynaptic signal of neurons outside their normalisation group.

    For each pair of groups in a block, there is a change of weights that one group undergoes and the other does not. A
    rule that declares `global_error` is exempt; so are the readout, whose softmax is its own, and layers of the rule.
    """
    case = build()
    if case.rule.global_error:
        return
    recorded = case.learn_twice().signals
    for layer, block in case.network.named_blocks():
        signals = {name: signal for name, signal in recorded.get(layer, {}).items() if name in POSTSYNAPTIC}
        for name, signal in signals.items():
            per_neuron = len(block.weight) in signal.shape[:2] or signal.shape[-1:] == (block.width,)
            assert per_neuron, f"{layer}: signal {name!r} has no entry for each neuron"
        for chosen in _splits(_groups(block, recorded.get(layer, {}))) if signals else ():
            changed = _signals_after_change(build(), layer, chosen)
            for name, signal in signals.items():
                others = [by_neuron(each.double(), len(chosen))[:, ~chosen] for each in (changed[name], signal)]
                same = close(others[0], others[1], largest(signals))
                assert same, f"{layer}: signal {name!r} of a neuron depends on weights of others"


def _groups(block: Block, signals: Signals) -> Tensor:
    """The normalisation group of each neuron: the layer's, a group's of the divisive norm or the rule, or its own."""
    neurons = len(block.weight)  # or channels, none of which is in two groups
    counts = [1 if block.layer_norm is not None else neurons]
    if block.layer_norm is None and block.divisive_norm is not None:
        counts = [block.divisive_norm.groups]
    elif block.layer_norm is None and "third_factor" in signals:
        counts += [c for c in signals["third_factor"].shape[1:] if c > 1 and neurons % c == 0]
    return torch.arange(neurons) // (neurons // min(counts))


def _splits(groups: Tensor) -> Iterator[Tensor]:
    """Masks of whole groups such that each two groups are told apart, either way, by one of them."""
    for bit in range(int(groups.max()).bit_length()):
        chosen = (groups >> bit) % 2 == 1
        yield chosen
        yield ~chosen


def _signals_after_change(case: Case, layer: str, chosen: Tensor) -> Signals:
    """What a block's synapses are given where the incoming weights of some neurons are others."""
    weight = case.layer(layer).get_parameter("weight")
    with torch.no_grad():
        weight[chosen] += torch.randn(
            weight[chosen].shape, dtype=weight.dtype, generator=torch.Generator().manual_seed(0)
        )
    return case.learn_twice().signals[layer]


PROMISES = (
    update_follows_from_signals,
    update_is_local,
    presynaptic_signals_are_what_came_in,
    postsynaptic_signals_are_the_neurons_own,
)

"""The kernelized information bottleneck from a stream, one stimulus at a time: no batch, no memory but the last one.

Pogodin & Latham, NeurIPS 2020, arXiv:2006.07123: Eqs. 18 to 22. Each block has a circuit (`rules.circuit`) that makes
its third factor from running quantities; its synapses keep pre and post of the stimulus before, or fast traces of them.

x (n')  what the weights received      z (n)  activity      f' (n)  slope of the nonlinearity
r (n)   z, divisively normalised       v (c)  signals of c groups of s neurons, power 1 - p of their variance
M       the circuit's modulator        Δ      now minus before, or minus the trace

    grouped    third factor 2 (1 - p) / s M Δv, one number for each group,    post r f'
    plain      third factor M, one number,                                    post Δz f'

Over all pairs of stimuli, each with itself too, and with averages that are those of the batch, the mean of the update
is that of `KernelizedBottleneck`.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from infohebb.errors import MismatchError, is_number, unknown_name
from infohebb.functional import grouping, online, plasticity
from infohebb.functional.online import Rows
from infohebb.functional.products import Precision
from infohebb.networks import Block, Layered, Response
from infohebb.networks.unit import Unit
from infohebb.rules import contract
from infohebb.rules.base import Diagnostics, Inputs, Signals, Targets, attached_before, right_answers
from infohebb.rules.circuit import Cells, Circuit, TeachingCell, follow
from infohebb.rules.contract import Locality, Neurons, Step, Walk, label_loss
from infohebb.rules.grouped import GroupedRule, Grouping
from infohebb.rules.layered import LocalStep, assign_gradient, block_signals, check_fit, readout_signals, synaptic_step


class Heard(NamedTuple):
    """One stimulus at one block: what its weights received (n'), each neuron's own part of the update (n), what the
    circuit sees (c), and the block's output."""

    pre: Tensor
    own: Tensor
    signal: Tensor
    output: Tensor | None


class Time(NamedTuple):
    """A time step, for all blocks: the teaching signal, the share of the way of slow cells (None: they rest), whether
    something is learned, and the share of what is there that is kept."""

    teaching: Tensor
    share: Tensor | None
    learns: bool
    kept: float


class Synapses(nn.Module):
    """What a unit keeps of the stream, in buffers, and its circuit; `weight` is that of its layer.

    `pre` (n') and `own` (n), of the stimulus before or running averages; for eligibility traces `factor`, the third
    factor of the stimulus before, and, where it is the plain rule's, `change` (n), its Δz.
    """

    pre: Tensor
    own: Tensor
    factor: Tensor
    change: Tensor

    def __init__(self, weight: Tensor, grouping: Grouping | None, rule: "KernelizedBottleneckOnline"):
        super().__init__()
        (outputs, inputs), like = weight.shape, weight.detach()
        self.grouping = grouping
        self.circuit = Circuit(grouping.groups if grouping else outputs, rule.sigma, rule.gamma, like)
        self.register_buffer("pre", like.new_zeros(inputs))
        self.register_buffer("own", like.new_zeros(outputs))
        if rule.form == "eligibility":
            self.register_buffer("factor", like.new_zeros(grouping.groups if grouping else 1))
            if grouping is None:
                self.register_buffer("change", like.new_zeros(outputs))

    def remember(self, heard: Heard, share: float) -> None:
        """Move what is kept by a share of the way to what is there."""
        self.circuit.remember(heard.signal, share)
        follow(self.pre, heard.pre, share)
        follow(self.own, heard.own, share)

    def third_factor(self, cells: Cells) -> Tensor:
        """Minus the modulator (1), or one for each group (c), scaled so that the mean update is the batch rule's."""
        if self.grouping is None:
            return cells.modulator[None].neg()
        return cells.for_groups * (-2 * self.grouping.power * self.grouping.groups / len(self.own))


def two_point(synapses: Synapses, heard: Heard, cells: Cells) -> Signals:
    """The stimulus and the one before."""
    now, before = heard.own, synapses.own
    if synapses.grouping is None:
        now, before = now * cells.difference, before * cells.difference
    return online.two_points(synapses.third_factor(cells), now, before, heard.pre, synapses.pre)._asdict()


def mean_activity(synapses: Synapses, heard: Heard, cells: Cells) -> Signals:
    """Activity and input, each minus its running average."""
    return _one_row(synapses.third_factor(cells), cells.difference, heard.pre) | {
        "pre_average": synapses.pre.clone()[None]
    }


def trace(synapses: Synapses, heard: Heard, cells: Cells) -> Signals:
    """Pre and post, and the running averages of both."""
    averages = {"pre_average": synapses.pre.clone()[None], "post_average": synapses.own.clone()[None]}
    return _one_row(synapses.third_factor(cells), heard.own, heard.pre) | averages


def eligibility(synapses: Synapses, heard: Heard, cells: Cells) -> Signals:
    """The stimulus before, with its own third factor minus that of the one that has come now."""
    del heard
    factor, own, pre = synapses.third_factor(cells), synapses.own.clone(), synapses.pre.clone()
    if synapses.grouping:
        rows = online.eligible(synapses.factor, factor, own, pre)
    else:
        change = torch.stack([synapses.change, cells.difference])
        rows = Rows(torch.stack([synapses.factor, -factor]), change * own, pre.expand(2, -1))
        synapses.change.copy_(cells.difference)
    synapses.factor.copy_(factor)
    return rows._asdict()


def _one_row(third_factor: Tensor, post: Tensor, pre: Tensor) -> Signals:
    return {"third_factor": third_factor[None], "post": post[None], "pre": pre[None]}


SIGNALS: dict[str, Callable[[Synapses, Heard, Cells], Signals]] = {
    "two_point": two_point,
    "mean_activity": mean_activity,
    "trace": trace,
    "eligibility": eligibility,
}
SETTLED = ("form", "sigma", "gamma", "groups_per_block", "power", "delta")  # settings that stay once a Learner is made
WITH_TRACES = ("mean_activity", "trace")
STREAMED = ("label", "same", "average", "stimuli", "before", "pre", "own", "factor", "change")  # buffers of a stream


class KernelizedBottleneckOnline(contract.LearningRule, GroupedRule):
    """KernelizedBottleneck with a Gaussian kernel, from a stream of single samples with class labels.

    `form`: "two_point" compares a stimulus with the one before (Eqs. 18 and 19); "mean_activity" (plain, Eq. 20) and
    "trace" (grouped, Eq. 21) with traces that follow it within about `trace_steps` time steps; "eligibility" (Eq. 22)
    is the two-point form with traces of one stimulus, applied when the next one comes. `sigma`, `gamma`, `groups`,
    `power` and `delta` are those of KernelizedBottleneck. Averages of similarities, in place of a batch's, move by a
    share max(`rate`, 1/t) of the way. While a stimulus is held (onset=False) nothing is learned, unless `gate` is
    False, which the forms with traces allow, though they need the gate to learn what the batch rule does. The readout
    learns when the blocks do: not from the first stimulus.
    Raises MismatchError, GroupingError, UnknownNameError from `attach`, also for maps and for batch or layer norm, and
    MismatchError for more than one sample at once or targets that are numbers.
    """

    consumes: ClassVar[Literal["batch", "sample", "window", "time_step"]] = "sample"
    needs_neurons: ClassVar[bool] = True
    locality = Locality(shared=frozenset({"groups"}))
    updated_buffers: ClassVar[frozenset[str]] = frozenset(STREAMED)
    order_matters = True
    broadcasts = frozenset({"third_factor"})
    advances = STREAMED

    def __init__(
        self,
        form: Literal["two_point", "mean_activity", "trace", "eligibility"] = "two_point",
        sigma: float = 5.0,
        groups: int | None = None,
        power: float | None = None,
        delta: float | None = None,
        gamma: float = 2.0,
        rate: float = 1e-3,
        trace_steps: float = 2.0,
        gate: bool = True,
    ):
        super().__init__(sigma, groups, power, delta, gamma)
        self.form, self.rate, self.trace_steps, self.gate = form, rate, trace_steps, gate
        self.teaching: TeachingCell | None = None
        self.synapses = nn.ModuleList()
        self._kept_for: tuple[Any, ...] | None = None
        self._settled: dict[str, Any] | None = None  # settings that what is kept was made for
        self._stimuli: int | None = 0  # so far, up to 2: known without waiting for a device

    def attach(self, network: Layered) -> None:
        """Check settings and blocks, and allocate what the stream leaves behind.

        It stays while the network does, and the settings that decide what is kept.
        """
        super().attach(network)
        self.check_settings(network)
        self._check_form()
        for name, block in network.named_blocks():
            self._check_block(name, block)
        groupings = [self.grouping(block) for _, block in network.named_blocks()]
        settings = (str(self.form), self.sigma, self.gamma, groupings)
        if attached_before(self, network) and settings == self._kept_for:
            return
        self._kept_for = settings
        weights = [block.weight for _, block in network.named_blocks()]
        self._allocate(weights, groupings, network.readout.out_features)

    def _allocate(self, weights: Sequence[Tensor], groupings: Sequence[Grouping | None], classes: int) -> None:
        """Make what the stream leaves behind in each unit, whose layer has that weight."""
        self.teaching = TeachingCell(classes, weights[0].detach())
        each = zip(weights, groupings, strict=True)
        self.synapses = nn.ModuleList(Synapses(weight, grouping, self) for weight, grouping in each)
        self._stimuli = 0

    def reset(self) -> None:
        """Forget the stream."""
        self.teaching, self.synapses, self._kept_for = None, nn.ModuleList(), None

    def setup(self, units: Sequence[Unit], head: Sequence[Parameter], classes: int | None) -> None:
        """Check settings and units, and allocate what the stream leaves behind; it stays while the settings do."""
        del head
        self.check_numbers()
        self._check_form()
        if classes is None:
            raise MismatchError("KernelizedBottleneckOnline needs the number of classes: give Learner(..., classes=10)")
        weights = [at_least_single(unit.linear.weight) for unit in units if unit.linear is not None]
        for unit, weight in zip(units, weights, strict=True):
            self.check_grouping(unit.name, unit, len(weight))
            self._check_grouped(unit.name, grouped=self.grouping(unit) is not None)
        groupings = [self.grouping(unit) for unit in units]
        kept_for = [(unit.name, *weight.shape) for unit, weight in zip(units, weights, strict=True)]
        self._settled = {name: getattr(self, name) for name in SETTLED}
        settings = (str(self.form), self.sigma, self.gamma, groupings, kept_for, classes)
        if settings != self._kept_for:
            self._kept_for = settings
            self._allocate(weights, groupings, classes)

    def fitting_norm(self, norm: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return `norm` with the rule's own groups, power and delta; None for groups of which it learns nothing."""
        return GroupedRule.fitting_norm(self, norm)

    def _check_settled(self) -> None:
        """Raise MismatchError for a setting that is another than when the stream began."""
        for name, value in (self._settled or {}).items():
            if getattr(self, name) != value:
                raise MismatchError(
                    f"{name} was {value!r} when the Learner was made and is {getattr(self, name)!r}: what is kept of "
                    "the stream is of the former; make a new rule and a new Learner"
                )

    @torch.no_grad()
    def backward(self, walk: Walk, inputs: Tensor, targets: Targets) -> Step:
        """Let each unit learn from one stimulus and what it kept of the stream; then the head."""
        self._check_single(inputs, targets)
        self._check_settled()
        time = self._begin(targets[0], walk.onset)

        def learn(unit: Unit, neurons: Neurons) -> Tensor | None:
            synapses = self.synapses[unit.place]
            assert isinstance(synapses, Synapses)
            heard = heard_of(synapses.grouping, neurons.pre[0], neurons.z[0], neurons.slope[0])
            if time.learns:
                cells = synapses.circuit(heard.signal, time.teaching, time.share)
                rows = rows_of(SIGNALS[self.form](synapses, heard, cells))
                third_factor, post, learns_bias = rows.third_factor, rows.post, self.form != "mean_activity"
                error = plasticity.modulate(third_factor, post)
                walk.give(neurons.layer, rows.pre, error, third_factor=third_factor, post=post, bias=learns_bias)
            if time.kept:
                synapses.remember(heard, time.kept)
            return None if unit.divisive_norm is None else heard.output

        output = walk.neurons(learn)
        if output.logits is None:
            return Step(None, None, targets, waiting=not time.learns)
        logits = output.logits.detach()
        loss, error = label_loss(logits, targets)
        if time.learns:
            walk.send(output.logits, error, loss)
        return Step(loss, logits, targets, waiting=not time.learns)

    def _check_form(self) -> None:
        if str(self.form) not in SIGNALS:
            raise unknown_name("form", str(self.form), SIGNALS)
        if not is_number(self.rate) or not 0 <= self.rate <= 1:
            raise MismatchError(f"rate {self.rate!r}: give a share of the way, from 0 to 1, such as 0.001")
        if not is_number(self.trace_steps) or self.trace_steps < 1:
            raise MismatchError(f"trace_steps {self.trace_steps!r}: give at least 1, the time step itself")
        if not isinstance(self.gate, bool):
            raise MismatchError(f"gate {self.gate!r}: give true or false")
        if not self.gate and self.form not in WITH_TRACES:
            raise MismatchError(
                f"form {self.form!r} compares whole stimuli, once each; gate=False is for {' and '.join(WITH_TRACES)}"
            )

    def _check_block(self, name: str, block: Block) -> None:
        """Raise MismatchError for a block that the rule, or its form, cannot train."""
        batch = "take KernelizedBottleneck, which learns from batches"
        if block.geometry is not None:
            raise MismatchError(f"{name} is a convolution, and the online rule trains fully connected blocks; {batch}")
        if block.batch_norm is not None or block.layer_norm is not None:
            raise MismatchError(
                f"{name} has batch or layer norm, of which a stream knows nothing; leave it out, or {batch}"
            )
        self._check_grouped(name, grouped=self.grouping(block) is not None)

    def _check_grouped(self, name: str, *, grouped: bool) -> None:
        """Raise MismatchError for a form that is the other kernel's."""
        if self.form == "mean_activity" and grouped:
            raise MismatchError(f"{name} is grouped, and 'mean_activity' is the plain rule's; take form 'trace'")
        if self.form == "trace" and not grouped:
            raise MismatchError(
                f"{name} has no groups, and 'trace' is the grouped rule's; give groups, or take form 'mean_activity'"
            )

    @torch.no_grad()
    def learn(
        self, network: Layered, inputs: Inputs, targets: Targets, *, onset: bool = True, record: bool = False
    ) -> Diagnostics:
        """Walk one stimulus up the blocks, each learning from it and what it kept of the stream; then the readout."""
        check_fit(network, inputs, targets)
        self._check_stimulus(network, inputs, targets)
        time = self._begin(targets[0], onset)
        recorded, x = {}, inputs
        for synapses, (name, block) in zip(self.synapses, network.named_blocks(), strict=True):
            response = block.respond(x, learning=True)
            assert isinstance(synapses, Synapses)
            step = self.local_step(block, response, (synapses, time))
            if step.signals is not None:
                self._assign(block, self.update(step.signals, network.precision))
                recorded |= {name: step.signals} if record else {}
            x = block.emit(response.activity, learning=True, normalised=step.normalised)
        logits = network.read_out(x)
        loss, signals = readout_signals(x.flatten(1), logits, targets)
        if time.learns:
            self._assign(network.readout, self.update(signals))
            recorded |= {"readout": signals} if record else {}
        return Diagnostics(loss, right_answers(logits, targets), {}, recorded, waiting=not time.learns)

    def _assign(self, layer: nn.Module, gradients: dict[str, Tensor]) -> None:
        """All that such a layer has are weight and bias: faster than to look for more."""
        for name in gradients.keys() & vars(layer)["_parameters"].keys():
            parameter = getattr(layer, name)
            if parameter is not None:
                assign_gradient(parameter, gradients[name])

    def local_step(self, block: Block, response: Response, context: tuple[Synapses, Time]) -> LocalStep:
        """What the block's synapses are given, from its own response and what it kept; then it keeps this stimulus."""
        synapses, time = context
        heard = hear(block, synapses.grouping, response)
        signals = None
        if time.learns:
            cells = synapses.circuit(heard.signal, time.teaching, time.share)
            signals = block_signals(block, response) | SIGNALS[self.form](synapses, heard, cells)
        if time.kept:
            synapses.remember(heard, time.kept)
        return LocalStep(signals, {}, heard.output)

    def _check_stimulus(self, network: Layered, inputs: Tensor, targets: Tensor) -> None:
        check_fit(network, inputs, targets)
        if self.teaching is None or len(self.synapses) != len(network.blocks):
            raise MismatchError("the rule keeps nothing of a stream for this network; call rule.attach(network) first")
        self._check_single(inputs, targets)

    def _check_single(self, inputs: Tensor, targets: Tensor) -> None:
        """Raise MismatchError for several samples at once, and for targets that are numbers."""
        if len(inputs) != 1:
            raise MismatchError(f"{len(inputs)} samples at once: the online rule takes one; give batch = 1")
        if targets.is_floating_point():
            raise MismatchError("targets are numbers, and the teaching signal compares labels; give class labels")

    def _begin(self, label: Tensor, onset: bool) -> Time:
        """Let the teaching cell hear the label of a new stimulus."""
        cell = self.teaching
        assert cell is not None
        if self._stimuli is None:  # after state was loaded
            self._stimuli = int(cell.stimuli)
        share = cell.hear(label, self.rate) if onset and self._stimuli else None
        if onset:
            cell.remember(label)
            self._stimuli = min(self._stimuli + 1, 2)
        compares, traces = self._stimuli > 1, self.form in WITH_TRACES
        kept = (1 / self.trace_steps if traces and compares else 1.0) if onset or traces else 0.0
        return Time(cell.signal, share, compares and (onset or not self.gate), kept)

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        super()._load_from_state_dict(*arguments, **options)
        self._stimuli = None

    def update(self, signals: Signals, precision: Precision = "fp32") -> dict[str, Tensor]:
        """Minus the update of a layer: third factor × post × pre, summed over rows."""
        if "error" in signals:
            return super().update(signals, precision)
        rows = rows_of(signals)
        error = plasticity.modulate(rows.third_factor, rows.post)
        gradients = synaptic_step({**signals, "pre": rows.pre}, error, precision).gradients
        if "bias" in gradients and self.form == "mean_activity":
            gradients["bias"].zero_()  # it receives a constant, minus its average
        return gradients


def at_least_single(weight: Tensor) -> Tensor:
    """Return a weight in the precision of the rule's arithmetic: float32, or float64 if it is."""
    return weight.detach() if weight.dtype == torch.float64 else weight.detach().float()


def rows_of(signals: Signals) -> Rows:
    """What is summed over, with running averages as rows of their own."""
    third_factor, post, pre = (signals[name] for name in ("third_factor", "post", "pre"))
    if "pre_average" not in signals:
        return Rows(third_factor, post, pre)
    average = signals["pre_average"][0]
    if "post_average" not in signals:
        return online.running_activity(third_factor[0], post[0], pre[0], average)
    return online.running_hebb(third_factor[0], post[0], signals["post_average"][0], pre[0], average)


def hear(block: Block, settings: Grouping | None, response: Response) -> Heard:
    """What one stimulus is for a block."""
    hidden = response.hidden[0]
    slope = block.nonlinearity.gate(torch.ones_like(hidden), hidden)
    return heard_of(settings, response.pre[0], response.activity[0], slope)


def heard_of(settings: Grouping | None, pre: Tensor, z: Tensor, slope: Tensor) -> Heard:
    """What one stimulus is for a unit that received `pre` (n'), whose activity is z (n), of that slope (n)."""
    if settings is None:
        return Heard(pre, slope, z, None)
    signal, normalised = grouping.signal_and_norm(z, *settings)
    return Heard(pre, normalised * slope, signal, normalised[None])

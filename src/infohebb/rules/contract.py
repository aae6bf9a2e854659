"""The contract of a learning rule that trains any network through a Learner.

z (m × n, m × n × h × w, …)  activity of a unit for m samples, channels (or features) on axis 1
error (shape of z)           dL/dz, the rule's closed form at that activity
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from infohebb.errors import MismatchError
from infohebb.functional import convolution, plasticity
from infohebb.functional.products import Precision
from infohebb.functional.readout import cross_entropy, mean_squared_error
from infohebb.networks.unit import Unit
from infohebb.rules.base import Targets

Shared = Literal["groups", "samples", "classes", "neurons"]
Loss = Literal["cross_entropy", "mean_squared_error"]
NOTHING: Mapping[str, Tensor] = {}  # torch.compile cannot follow a read-only view of it


@dataclass(frozen=True)
class Locality:
    """What a rule's weight changes may depend on beyond the unit's own input and output; the contract suite tests it.

    `weight_transport`: the value of weights elsewhere. `global_error`: what happens downstream of the unit.
    `update_locking`: a unit learns only after the units above it have been computed. `shared`: which signals all
    neurons of a unit receive, by their size: numbers per sample and group of neurons ("groups"), per pair of samples
    ("samples"), per sample and class ("classes"), per sample and neuron, from a network beside it ("neurons").
    `layer_mean`: each neuron also knows the mean over its unit, one number per sample.
    """

    weight_transport: bool = False
    global_error: bool = False
    update_locking: bool = False
    layer_mean: bool = False
    shared: frozenset[Shared] = frozenset()


class Signal(NamedTuple):
    """What `signal` returns: `shared` (m × numbers) is gathered over processes, `own` stays with the unit's samples."""

    shared: Tensor | None = None
    own: Any = None


class LocalError(NamedTuple):
    """The error at a unit's activity, and the two factors that it is the product of.

    `third_factor`: (m × groups), (m × m), (m × classes) or (m × neurons), as `shared` says; None where a neuron's error
    needs no signal from other neurons. `post`: each neuron's own factor, shaped like z, or (classes × …) fixed weights;
    of a rule of windows it may have a row for each remembered sample, and the third factor a column. `error`: dL/dz,
    shaped like z. `terms`: numbers to report, among them "objective". `gradients`: dL/d of the rule's own
    parameters, by their name in the rule. `normalised`: what the unit's divisive norm will make of z, if the rule has
    computed just that, so that it need not be computed again.
    """

    third_factor: Tensor | None
    post: Tensor
    error: Tensor
    terms: Mapping[str, Tensor] = NOTHING
    shared: Shared = "groups"
    gradients: Mapping[str, Tensor] = NOTHING
    normalised: Tensor | None = None


def product_of_factors(error: LocalError) -> Tensor:
    """Return third factor × postsynaptic factor, shaped like the error: what the error of a local rule must equal.

    Per group: each neuron's factor times its group's number. Per sample or class: a weighted sum of the rows of `post`,
    with the same weights for all neurons; of a map that a classifier averages over windows, shared by their places.
    """
    if error.third_factor is None:
        return error.post
    if error.shared in {"groups", "neurons"}:
        return plasticity.modulate(error.third_factor, error.post).view(error.error.shape)
    weighted = (error.third_factor @ error.post.flatten(1)).unflatten(1, error.post.shape[1:])
    return convolution.spread_over(weighted, error.error.shape)


@dataclass(frozen=True)
class Step:
    """What one step lets one see; nothing in it carries a graph.

    `loss`: the label loss at the network's output, mean over the batch, and `logits` (m × outputs); both None for a
    local rule on a network without a head. `targets` of the batch. `terms`: numbers by unit, such as
    step.terms["layers.0"]["objective"]. `waiting`: there was nothing to learn yet. Of E stacked networks loss and terms
    are (E) and logits (m × E × outputs).
    """

    loss: Tensor | None
    logits: Tensor | None
    targets: Tensor
    terms: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    waiting: bool = False

    @property
    def correct(self) -> Tensor | None:
        """Which samples are classified correctly, (m) or (m × E) booleans; None for numbers, or without logits."""
        if self.logits is None or self.targets.is_floating_point():
            return None
        winners = self.logits.argmax(-1)
        return winners == (self.targets if winners.dim() == 1 else self.targets[:, None])


class Output(NamedTuple):
    """The network's output: `logits` with the graph that reaches what the walk left connected, and the head's input.

    A local walk through a network without a head has no logits.
    """

    logits: Tensor | None
    features: Tensor | None


class Neurons(NamedTuple):
    """What the neurons of a unit of one Linear and an elementwise activation did, all (m × neurons) but `pre`.

    `layer`: name of the Linear in the model. `pre` (m × inputs): what it received. `z`: the activity. `slope`: dz/da,
    the derivative of each neuron's activity by its own preactivation.
    """

    layer: str
    pre: Tensor
    z: Tensor
    slope: Tensor


@runtime_checkable
class Walk(Protocol):
    """One pass of a batch through the network, as a Learner offers it to a rule's `backward`.

    `onset`: whether the samples have just come; False while a stream holds them for another time step. `head_modules`:
    names of the head's modules in the model.
    """

    model: nn.Module
    units: list[Unit]
    classes: int | None
    has_head: bool
    head_modules: tuple[str, ...]
    onset: bool
    terms: dict[str, Mapping[str, Tensor]]

    def restrict(self, rows: slice) -> None:
        """Take only these samples of the batch through the network; call it before the pass."""
        ...

    def local(self, learn: Callable[[Unit, Tensor], LocalError | None], *, once: bool = False) -> Output:
        """Run the network; each unit learns from `learn(unit, z)` before the next one runs.

        With `once` MismatchError is raised for a unit that is called twice, for rules that keep something of each step.
        """
        ...

    def cut(self) -> tuple[Output, list[tuple[Unit, Tensor]]]:
        """Run the network with each unit on a graph of its own; return its output, and each unit's output.

        A unit that was called several times is listed as often.
        """
        ...

    def frozen(self) -> Output:
        """Run the network without graphs below the head."""
        ...

    def whole(self) -> Output:
        """Run the network on one graph."""
        ...

    def send(self, output: Tensor, error: Tensor, value: Tensor | None = None) -> None:
        """Send dL/d(output) back to the parameters that output depends on; `value` is L, None if it has none."""
        ...

    def neurons(self, learn: Callable[[Unit, Neurons], Tensor | None]) -> Output:
        """Run the network without graphs below the head; `learn` gives gradients of each unit by `give`.

        It returns the divisively normalised activity if it has just that, so that it need not be computed again.
        Frozen units are shown too: what a rule keeps of a stream goes on.
        Raises MismatchError for a unit that is not one Linear and an elementwise activation, or is called twice.
        """
        ...

    def give(
        self,
        layer: str,
        pre: Tensor,
        error: Tensor,
        *,
        third_factor: Tensor | None = None,
        post: Tensor | None = None,
        bias: bool = True,
        value: Tensor | None = None,
        precision: Precision = "fp32",
    ) -> None:
        """Fill the gradients of the weight layer of that name: error × pre, summed over rows, and for its bias error.

        `pre` (rows × inputs) is what it received, `error` (rows × outputs) the error at its output; of stacked
        networks both have the networks first. `third_factor` (rows × groups) and `post` (rows × outputs) are the two
        factors that the error is the product of: they are recorded, and rules that learn by `neurons` state them.
        Without `bias` that one's gradient is zero. `value` is that of the objective, if it has one.
        Raises MismatchError for other shapes, for a layer that is not W x + b, and for one that is given twice.
        """
        ...


class LearningRule(nn.Module, ABC):
    """How a network's weights change: fills `.grad`, never steps. A module: its own weights and memories are saved.

    A constructor has a default for each argument and only stores. `consumes` is what `fit` presents in one step: a
    batch, one sample, or a window of samples that slides by one. `needs_units` says whether the rule must know the
    units of a network; `trains_units` whether it trains them, or the head alone; `needs_neurons` whether each must be
    one Linear and an elementwise activation, for `Walk.neurons`; `compares_inputs` whether its objective depends on the
    network's input; `intercepts_calls` whether it intercepts calls of torch, so that units are not compiled.
    `updated_buffers` names the buffers, its own and the network's, that a step changes. `own_network` is the type of
    the networks that it trains, where these are not any: such a rule takes neither units nor a head. `stacks` says
    whether it trains stacked networks too, each by itself. `learns_from_last` says that the error is zero but at a
    batch's last sample. `traceable` says whether torch.compile can follow a step from end to end, `owns_parameters`
    whether the rule has parameters of its own that learn. `loss` names the label loss, in steps and in validation; None
    is cross-entropy for class indices and the mean squared error for numbers.
    """

    consumes: ClassVar[Literal["batch", "sample", "window", "time_step"]] = "batch"
    locality: Locality = Locality()
    compares_inputs: bool = False
    needs_units: ClassVar[bool] = True
    trains_units: ClassVar[bool] = True
    needs_neurons: ClassVar[bool] = False
    intercepts_calls: ClassVar[bool] = False
    own_network: ClassVar[type[nn.Module] | None] = None
    stacks: ClassVar[bool] = False
    learns_from_last: ClassVar[bool] = False
    traceable: ClassVar[bool] = True
    owns_parameters: ClassVar[bool] = False
    updated_buffers: ClassVar[frozenset[str]] = frozenset()
    loss: Loss | None = None

    def settings(self) -> dict[str, Any]:
        """Return the constructor's arguments and their values."""
        stored = {**vars(self), "groups": vars(self).get("groups_per_block")}  # its name until version 1 is gone
        return {name: stored[name] for name in inspect.signature(type(self)).parameters if name in stored}

    def extra_repr(self) -> str:
        """Return the settings that differ from their defaults, as text."""
        defaults = {name: each.default for name, each in inspect.signature(type(self)).parameters.items()}
        differing = {name: value for name, value in self.settings().items() if value is not defaults[name]}
        return ", ".join(f"{name}={value!r}" for name, value in differing.items() if value != defaults[name])

    def setup(self, units: Sequence[Unit], head: Sequence[Parameter], classes: int | None) -> None:
        """Check settings against the units, and allocate what depends on their shapes.

        `head` holds the head's parameters: what is allocated goes to their device. Raises MismatchError.
        """
        del units, head, classes

    def setup_model(self, model: nn.Module, /) -> None:
        """Do what needs the whole network, before `setup`: the default does nothing.  Raises MismatchError."""
        del model

    def fitting_norm(self, norm: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return the arguments of a DivisiveNorm with which this rule learns well, for a network that is to be made.

        `norm` holds those that were asked for; None is no divisive norm. The default returns `norm`.
        """
        return norm

    def roles(self, model: nn.Module, /) -> Mapping[str, Sequence[Mapping[str, Parameter]]] | None:
        """Return what learns by role and layer, parameters by their name in the model; None for units and head."""
        del model

    def reset(self) -> None:
        """Forget what `setup` has allocated: called before it when the rule is given another network."""

    @abstractmethod
    def backward(self, walk: Walk, inputs: Tensor, targets: Targets) -> Step:
        """Fill `.grad` by one pass of the batch; `inputs` (m × ...) in the precision of the rule's arithmetic."""

    @property
    def changes_gradients(self) -> bool:
        """Whether `before_step` does something, so that steps need `Learner.bind`; the default: if it is overridden."""
        return type(self).before_step is not LearningRule.before_step

    def before_step(self, parameters: Iterable[Parameter]) -> None:
        """Change gradients just before the optimizer's step."""
        del parameters

    def monitor(self, model: nn.Module, inputs: Any, targets: Targets) -> dict[str, dict[str, float]]:
        """Return numbers to follow over training, by measure and layer; changes nothing."""
        del model, inputs, targets
        return {}


class LocalRule(LearningRule):
    """A rule that states the error at each unit's activity in closed form; the unit's own derivative does the rest.

    Write `error`, and `context` and `signal` where it needs them. All three run under no_grad.
    """

    def context(self, inputs: Tensor, targets: Targets, classes: int | None, /) -> Any:
        """Return what is computed once per batch and handed to each unit, such as the labels' Gram matrix."""
        del inputs, targets, classes

    def signal(self, z: Tensor, unit: Unit) -> Signal:
        """Return what samples share with each other, such as group signals; the default shares nothing."""
        del z, unit
        return Signal()

    @abstractmethod
    def error(self, z: Tensor, signal: Signal, context: Any, unit: Unit) -> LocalError | None:
        """Return dL/dz of the unit's local objective in closed form; None if the unit has nothing to learn."""

    def readout(self, features: Tensor | None, logits: Tensor, targets: Targets, context: Any) -> tuple[Tensor, Tensor]:
        """Return the head's loss and its derivative by the logits; the default is the delta rule.

        `features` is what the head received. Cross-entropy for class indices, mean squared error for numbers.
        """
        del features, context
        return label_loss(logits, targets)

    @torch.no_grad()
    def backward(self, walk: Walk, inputs: Tensor, targets: Targets) -> Step:
        """Let each unit learn from its own error while the batch passes, then the head from the label loss."""
        context = self.context(inputs, targets, walk.classes) if self.trains_units else None

        def learn(unit: Unit, z: Tensor) -> LocalError | None:
            signal = self.signal(z, unit)
            signal = Signal(signal) if isinstance(signal, Tensor) else signal
            if signal.shared is not None:
                signal = signal._replace(shared=unit.gather(signal.shared))
            return self.error(z, signal, context, unit)

        output = walk.local(learn) if self.trains_units else walk.frozen()
        if output.logits is None:
            return Step(None, None, targets, walk.terms)
        logits = output.logits.detach()
        loss, error = self.readout(output.features, logits, targets, context)
        walk.send(output.logits, error, loss.sum())
        return Step(loss, logits, targets, walk.terms)


def label_loss(logits: Tensor, targets: Targets, loss: Loss | None = None) -> tuple[Tensor, Tensor]:
    """Return the label loss, mean over the batch, and its derivative by the logits (m × outputs).

    Without a `loss` named it is cross-entropy for class indices and the mean squared error for numbers. Of stacked
    networks, whose logits are (m × networks × outputs), it is one loss for each.
    Raises MismatchError for cross-entropy with numbers.
    """
    if logits.dim() == 3:
        value, error = label_loss_of_each(logits.transpose(0, 1), targets, loss)
        return value, error.transpose(0, 1)
    return label_loss_of_each(logits, targets, loss)


def label_loss_of_each(logits: Tensor, targets: Targets, loss: Loss | None) -> tuple[Tensor, Tensor]:
    """Return the same for logits (… × m × outputs): a loss for each of several networks."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    continuous = targets.is_floating_point()
    if continuous and loss == "cross_entropy":
        raise MismatchError("cross-entropy needs class labels, not numbers; use loss='mean_squared_error'")
    targets = targets.to(logits.dtype) if continuous else targets
    squared = continuous or loss == "mean_squared_error"
    value, error = (mean_squared_error if squared else cross_entropy)(logits, targets)
    return value, error

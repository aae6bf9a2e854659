"""The contract of a learning rule."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal
from uuid import uuid4

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import Parameter

from infohebb.errors import EmptyBatchError, LabelError, MismatchError, is_number
from infohebb.functional.feedback import random_feedback
from infohebb.networks import Layered, LeakyMLP

Inputs = Float[Tensor, "m *features"]
Targets = Int[Tensor, "m"] | Float[Tensor, "m n"]
Signals = dict[str, Tensor]

PRESYNAPTIC = frozenset({"pre", "pre_average"})  # one number per input; "bias_pre" is what a bias always receives
POSTSYNAPTIC = frozenset(
    {
        *("post", "post_average", "memory", "gain", "error", "winners"),
        *("batch_normalised", "batch_scale", "layer_normalised"),
    }
)  # "geometry", which synapse of a map sees what, is a constant of the layer

FEW = 64


@dataclass(frozen=True)
class Diagnostics:
    """What one call of `learn` lets one see; nothing in it carries a graph.

    `loss` is the readout's, mean over the batch; `correct` says for each sample whether it was classified rightly
    (None for continuous targets). `objectives` holds the terms of each block's local objective. `signals`, filled with
    `record=True`, holds what the synapses of each layer were given, by the layer's name in the network. `waiting` says
    that there is nothing to learn yet. Of networks side by side each number is one per network.
    """

    loss: Float[Tensor, "*nets"]
    correct: Bool[Tensor, "*nets m"] | None
    objectives: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    signals: dict[str, Signals] = field(default_factory=dict)
    waiting: bool = False


class LearningRule(nn.Module, ABC):
    """How a network's weights change; a module, so that its own weights, traces and memories are saved with it.

    A constructor has a default for each argument and only stores. The training step is the same for every rule:
    `zero_grad(set_to_none=True)`, `learn`, `finish`, `step`, with any optimizer: `.grad` holds minus the update.
    """

    network_type: ClassVar[type[nn.Module]] = Layered
    consumes: ClassVar[Literal["batch", "sample", "window", "time_step"]] = "batch"
    weight_transport: bool = False  # an update may depend on the value of other layers' weights
    global_error: bool = False  # an update may depend on what happens downstream
    update_locking: bool = False  # a layer's update waits for the layers above it
    side_by_side: ClassVar[bool] = False  # it can train networks that stand side by side
    compiles: ClassVar[bool] = True  # torch.compile brings it something
    order_matters: ClassVar[bool] = False  # the order of samples in a batch may change its update
    broadcasts: ClassVar[frozenset[str]] = frozenset()  # signals that a layer's synapses share
    advances: ClassVar[tuple[str, ...]] = (
        "running_mean",
        "running_var",
        "num_batches_tracked",
    )  # buffers `learn` moves

    def attach(self, network: Any) -> None:
        """Make the rule ready for `network`, allocating what depends on shapes.

        Raises MismatchError when the rule cannot train it.
        """
        if not isinstance(network, self.network_type):
            wanted, got = self.network_type.__name__, type(network).__name__
            raise MismatchError(f"{type(self).__name__} trains a {wanted} network, not a {got}")
        if getattr(network, "networks", None) is not None and not self.side_by_side:
            raise MismatchError(f"{type(self).__name__} trains one network at a time, not several side by side")
        if isinstance(network, LeakyMLP) and self.consumes != "window":
            raise MismatchError(f"{type(self).__name__} does not learn from time steps; take an MLP, or HSICMemory")

    def fitting_norm(self, norm: dict[str, Any] | None) -> dict[str, Any] | None:
        """The arguments of a DivisiveNorm by which this rule learns well, for a network to be, in place of `norm`'s."""
        return norm

    @abstractmethod
    def groups(self, network: Any) -> dict[str, list[Parameter]]:
        """What learns, by kind of learning rate: parameters of the network, or the rule's own."""

    @abstractmethod
    def learn(
        self, network: Any, inputs: Inputs, targets: Targets, *, onset: bool = True, record: bool = False
    ) -> Diagnostics:
        """Fill `.grad` of what learns with minus the update for one batch; never step.

        inputs (m, ...), targets (m) class indices or (m, n) numbers. `record` keeps the signals, at the cost of memory.
        Raises EmptyBatchError, LabelError, MismatchError.
        """

    @abstractmethod
    def update(self, signals: Signals) -> dict[str, Tensor]:
        """Minus the update of one layer's parameters, by their name in the layer, from its signals alone.

        The very function that `learn` calls.
        """

    def watch(self, network: Any, inputs: Inputs, targets: Targets) -> dict[str, dict[str, float]]:
        """Numbers to follow over training, by measure and layer: what `train` asks for before it and after each epoch.

        Of some training samples, always the same. Changes nothing. Raises DivergenceError, naming layer and mend, for a
        network that there is no sense in training on.
        """
        del network, inputs, targets
        return {}

    def finish(self, parameters: Iterable[Parameter]) -> None:
        """Last change to the gradients, after they are summed over devices and before the step."""
        del parameters


class FixedFeedback(nn.Module):
    """Random matrices that a rule draws once for a network, by the place of a layer: buffers, saved with the rule."""

    def prepare(self, shapes: Mapping[int, tuple[int, ...]], like: Tensor, *, keep: bool) -> None:
        """A matrix for each place, of the type and on the device of `like`, and no others.

        With `keep` those that are there stay, if they have these shapes.
        """
        if keep and shapes == {
            int(place): tuple(matrix.shape) for place, matrix in self._buffers.items() if matrix is not None
        }:
            self.to(like.device, like.dtype)
            return
        self._buffers.clear()
        for place, shape in shapes.items():
            self.register_buffer(str(place), random_feedback(*shape, like=like.detach()))

    def __getitem__(self, place: int) -> Tensor:
        """The matrix of that place."""
        return self.get_buffer(str(place))

    def fitting(self, place: int, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """The matrix of that place.  Raises MismatchError for one that was not drawn, or for another network."""
        matrix = self._buffers.get(str(place))
        if matrix is None or matrix.shape != shape or matrix.dtype != like.dtype:
            raise MismatchError("the rule has no feedback that fits this layer; call rule.attach(network) first")
        return matrix


def attached_before(rule: LearningRule, network: nn.Module) -> bool:
    """Whether the rule is attached to this network already, as when it is trained further; it is from now on.

    Both bear the mark of it, so that a rule and a network that are copied or pickled still know each other.
    """
    known, mark = vars(rule).get("_attached_to"), vars(network).setdefault("_mark", uuid4().hex)
    vars(rule)["_attached_to"] = mark
    return known == mark


def check_kernels(gamma: object, **widths: object) -> None:
    """Raise MismatchError for a kernel's width that is none, or a gamma that is no number."""
    for name, width in widths.items():
        if not is_number(width) or not width > 0:  # pyright: ignore[reportOperatorIssue]
            raise MismatchError(f"{name} {width!r}: give a width above 0")
    if not is_number(gamma):
        raise MismatchError(f"gamma {gamma!r}: give a finite number")


def check_batch(inputs: Tensor, targets: Tensor, outputs: int) -> None:
    """Raise EmptyBatchError, MismatchError or LabelError for a batch that no rule could learn from.

    Labels are looked at on the CPU only, and by no compiled step: that would wait for their numbers.
    """
    if len(inputs) == 0:
        raise EmptyBatchError("an empty batch: there is nothing to learn from; drop it")
    if len(inputs) != len(targets):
        raise MismatchError(f"{len(inputs)} inputs but {len(targets)} targets in one batch")
    if targets.is_floating_point():
        if targets.dim() != 2 or targets.shape[1] != outputs:
            raise MismatchError(
                f"continuous targets {tuple(targets.shape)} do not fit a readout of {outputs}; give "
                f"(samples, {outputs}) numbers, or integers if they are class labels (y.long())"
            )
    elif targets.dim() != 1 or targets.dtype not in (torch.int64, torch.int32):
        raise LabelError(
            f"labels {targets.dtype}{list(targets.shape)}: give one int64 class index per sample, shape (m)"
        )
    elif targets.device.type == "cpu" and not torch.compiler.is_compiling():
        check_range(targets, outputs)


def check_range(targets: Tensor, outputs: int) -> None:
    """Raise LabelError for class indices on the CPU that are none of so many classes."""
    listed = targets.tolist() if len(targets) <= FEW else targets.aminmax()  # few are looked at faster one by one
    low, high = min(listed), max(listed)
    if low < 0 or high >= outputs:
        low, high = int(low), int(high)
        mend = "take y - y.min()" if high - low < outputs else f"it takes a network of {high - low + 1} outputs"
        raise LabelError(f"labels run from {low} to {high}, but the readout has classes 0 to {outputs - 1}; {mend}")


def right_answers(logits: Tensor, targets: Tensor) -> Tensor | None:
    """Which samples are classified rightly; None for continuous targets."""
    return None if targets.is_floating_point() else torch.argmax(logits, -1) == targets

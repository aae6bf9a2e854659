"""Layer-wise classification: each block learns from a classifier of its own, which sees this block alone.

As in Pogodin & Latham's comparison (their "layer-wise classification" and "layer-wise + feedback alignment").

z (m × n)  activity of a block    z̄ (m × d)  z, or the mean of a map over windows: d numbers
P (N × d)  its classifier         e (m × N)  the classifier's error: softmax - one-hot    F (N × d)  feedback

    dL/dP = eᵀ z̄                dL/dz̄ = e F, where F is P itself, its signs, or a fixed random matrix
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from torch import Tensor, nn
from torch.nn import Parameter

from infohebb.errors import MismatchError, is_whole, unknown_name
from infohebb.functional import convolution
from infohebb.functional.feedback import sign_feedback
from infohebb.networks import Block, Layered, Response
from infohebb.networks.unit import Shape, Unit
from infohebb.rules.base import FixedFeedback, Signals, attached_before
from infohebb.rules.contract import LocalError, Locality, LocalRule, Signal, label_loss
from infohebb.rules.layered import (
    LayeredRule,
    LocalStep,
    as_geometry,
    readout_signals,
    with_slope,
)

FEEDBACK = ("exact", "random", "sign")


class Batch(NamedTuple):
    """The targets, the number of classes, and which classifier belongs to which block."""

    targets: Tensor
    outputs: int
    places: dict[Block, int]


class LayerwiseClassification(LocalRule, LayeredRule):
    """Each unit descends the loss of a linear classifier of its activity; the classifiers learn too, never predict.

    `feedback` is the classifier's own weight ("exact"), a fixed "random" matrix, or the weight's "sign". A map of C
    channels is averaged over ⌊projection / C⌋ windows first. For continuous targets the loss is the squared error.
    Raises UnknownNameError, and MismatchError for a projection smaller than a map's channels.
    """

    broadcasts = frozenset({"class_error", "layer_factors"})
    owns_parameters: ClassVar[bool] = True

    def __init__(self, feedback: Literal["exact", "random", "sign"] = "exact", projection: int = 2048):
        super().__init__()
        self.feedback, self.projection = feedback, projection
        self.weight_transport = feedback != "random"  # of a classifier's weights, to the block that it sees
        self.classifiers, self.fixed = nn.ModuleList(), FixedFeedback()

    def attach(self, network: Any) -> None:
        """Draw a classifier for each block, and its feedback if that is random; they stay while the network does."""
        super().attach(network)
        self.check_names()
        self.weight_transport = self.feedback != "random"
        like, shapes = network.readout.weight.detach(), {}
        for place, (name, block) in enumerate(network.named_blocks()):
            features = len(block.weight) * math.prod(self._windows(name, block) or ())
            shapes[place] = (network.readout.out_features, features)
        there = [tuple(classifier.get_parameter("weight").shape) for classifier in self.classifiers]
        keep = attached_before(self, network) and there == list(shapes.values())
        if not keep:
            self.classifiers = nn.ModuleList(nn.Linear(inputs, outputs) for outputs, inputs in shapes.values())
        self.classifiers.to(like.device, like.dtype)
        self.fixed.prepare(shapes if self.feedback == "random" else {}, like, keep=keep)

    def check_names(self) -> None:
        """Raise UnknownNameError or MismatchError for settings that cannot be."""
        if self.feedback not in FEEDBACK:
            raise unknown_name("feedback", str(self.feedback), FEEDBACK)
        if not is_whole(self.projection) or self.projection < 1:
            raise MismatchError(f"projection {self.projection!r}: give a whole number above 0")

    @property
    def locality(self) -> Locality:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Class errors are shared; the weights of a unit's classifier reach the unit unless feedback is random."""
        return Locality(weight_transport=self.feedback != "random", shared=frozenset({"classes"}))

    def reset(self) -> None:
        """Forget classifiers and feedback."""
        self.classifiers, self.fixed = nn.ModuleList(), FixedFeedback()

    def setup(self, units: Sequence[Unit], head: Sequence[Parameter], classes: int | None) -> None:
        """Draw a classifier for each unit, and its feedback if that is random; those that fit stay."""
        self.check_names()
        if classes is None:
            raise MismatchError("LayerwiseClassification needs the number of classes: give Learner(..., classes=10)")
        like, shapes = head[0].detach(), {}
        for unit in units:
            if unit.shape is None:
                raise MismatchError(
                    f"LayerwiseClassification needs the shape of unit {unit.name}'s activity: give "
                    "Learner(..., example=x), a batch or the shape of one sample"
                )
            windows = self._windows_of(unit.name, unit.shape)
            shapes[unit.place] = (classes, unit.shape[0] * math.prod(windows))
        there = [tuple(classifier.get_parameter("weight").shape) for classifier in self.classifiers]
        keep = there == list(shapes.values())
        if not keep:
            self.classifiers = nn.ModuleList(nn.Linear(inputs, outputs) for outputs, inputs in shapes.values())
        self.classifiers.to(like.device, like.dtype)
        self.fixed.prepare(shapes if self.feedback == "random" else {}, like, keep=keep)

    def context(self, inputs: Tensor, targets: Tensor, classes: int | None, /) -> Tensor:
        """Return the targets."""
        del inputs, classes
        return targets

    def error(self, z: Tensor, signal: Signal, context: Tensor, unit: Unit) -> LocalError:
        """Return e F: the classifier's error times its feedback, shared by the positions that it averages over."""
        del signal
        pooled = average(z, self._windows_of(unit.name, tuple(z.shape[1:])))
        flat, classifier = pooled.flatten(1), self.classifiers[unit.place]
        weight, bias = (classifier.get_parameter(name).detach().to(z.dtype) for name in ("weight", "bias"))
        loss, class_error = label_loss(nn.functional.linear(flat, weight, bias), context)
        feedback = self._feedback_weight(unit.place, classifier).to(z.dtype).unflatten(1, pooled.shape[1:])
        error = (class_error @ feedback.flatten(1)).unflatten(1, pooled.shape[1:])
        place = f"classifiers.{unit.place}"
        gradients = {f"{place}.weight": class_error.T @ flat, f"{place}.bias": class_error.sum(0)}
        spread = convolution.spread_over(error, z.shape)
        return LocalError(class_error, feedback, spread, {"objective": loss}, "classes", gradients)

    def _windows_of(self, name: str, shape: Shape) -> Shape:
        """Return into how many windows the positions of an activity are averaged; () for vectors."""
        share = self.projection // shape[0]
        if len(shape) > 1 and share < 1:
            raise MismatchError(f"{name} has {shape[0]} channels; take a projection of at least as many")
        if len(shape) == 3:
            columns = math.isqrt(share)
            return share // columns, columns
        if len(shape) > 3:
            raise MismatchError(f"LayerwiseClassification takes vectors, sequences and maps, not {shape} of {name}")
        return (share,) if len(shape) == 2 else ()

    def _windows(self, name: str, block: Block) -> tuple[int, int] | None:
        """Into how many rows and columns of windows a block's map is averaged."""
        if block.geometry is None:
            return None
        rows, columns = self._windows_of(name, (len(block.weight), 1, 1))
        return rows, columns

    def groups(self, network: Layered) -> dict[str, list[Parameter]]:
        """Blocks and their classifiers learn at the `local` rate, the readout at the `readout` rate."""
        groups = super().groups(network)
        return {**groups, "local": [*groups["local"], *self.classifiers.parameters()]}

    def batch_context(self, network: Layered, inputs: Tensor, targets: Tensor) -> Batch:
        """The targets, what a classifier predicts, and the place of each block."""
        del inputs
        return Batch(
            targets,
            network.readout.out_features,
            {block: place for place, (_, block) in enumerate(network.named_blocks())},
        )

    def local_step(self, block: Block, response: Response, context: Batch) -> LocalStep:
        """The classifier's error, and the part of its feedback that each neuron has."""
        place = context.places[block]
        windows = self._windows(f"blocks.{place}", block)
        z = response.activity if windows is None else convolution.spread_pool(response.activity, windows)
        classifier = self._classifier(place, (context.outputs, z[0].numel()), z)
        loss, own = readout_signals(z.flatten(1), classifier(z.flatten(1)), context.targets)
        post = self._feedback_weight(place, classifier).unflatten(1, z.shape[1:])
        signals = with_slope(block, response, {"class_error": own["error"], "post": post}, activity_error)
        return LocalStep(signals, {"objective": loss}, own={f"classifiers.{place}": own})

    def _classifier(self, place: int, shape: tuple[int, int], like: Tensor) -> nn.Module:
        """The block's classifier.  Raises MismatchError for one that was not drawn, or for another network."""
        weight = self.classifiers[place].get_parameter("weight") if place < len(self.classifiers) else None
        if weight is None or weight.shape != shape or weight.dtype != like.dtype:
            raise MismatchError("the rule has no classifier that fits this block; call rule.attach(network) first")
        return self.classifiers[place]

    def _feedback_weight(self, place: int, classifier: nn.Module) -> Tensor:
        weight = classifier.get_parameter("weight").detach()
        if self.feedback == "random":
            return self.fixed.fitting(place, tuple(weight.shape), weight)
        return weight.clone() if self.feedback == "exact" else sign_feedback(weight)

    def activity_error(self, signals: Signals) -> Tensor:
        """The error at the activity, as below."""
        return activity_error(signals)


def average(z: Tensor, windows: Shape) -> Tensor:
    """Return the means of an activity over windows of its positions: one (sequences) or two numbers (maps) of them."""
    if len(windows) == 2:
        return convolution.spread_pool(z, (windows[0], windows[1]))
    return nn.functional.adaptive_avg_pool1d(z, windows[0]) if windows else z


def activity_error(signals: Signals) -> Tensor:
    """dL/dz = e F, of a map shared by the places that were averaged."""
    class_error, post = signals["class_error"], signals["post"]
    error = (class_error @ post.flatten(1)).unflatten(1, post.shape[1:])
    if "geometry" not in signals:
        return error
    pre, size = signals["pre"], signals["winners"].shape[2:] if "winners" in signals else None
    rows, columns = size or as_geometry(signals["geometry"]).map_size((pre.shape[2], pre.shape[3]))
    return convolution.spread_pool_backward(error, (rows, columns))

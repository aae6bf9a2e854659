"""Block: from weight to activity, which the local objective sees, and on to output, which the next block receives."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infohebb.errors import GroupingError, MismatchError, is_number, is_whole
from infohebb.functional import dropout, grouping, normalisation
from infohebb.functional.nonlinearities import Nonlinearity
from infohebb.functional.products import Precision, product

Activity = Float[Tensor, "m n"]


class Response(NamedTuple):
    """What one block did with one batch, as far as its own synapses can know it.

    `batch` and `layer` hold what a normalisation inside the block left for its backward, if there is one.
    """

    pre: Tensor  # (m, inputs) what the weight received
    hidden: Tensor  # (m, outputs) the nonlinearity's output
    activity: Tensor  # (m, outputs) what the local objective sees
    batch: normalisation.Normalised | None
    layer: normalisation.Normalised | None


class DivisiveNorm(nn.Module):
    """Divisive normalisation: each group centred and divided by a power of its variance, sample by sample.

    `groups` consecutive blocks of a layer's neurons, exponent `power`, and `delta` in (delta + Σ zc²) / group size.
    Raises GroupingError for fewer than two groups, a power or delta that is no finite number, a delta below zero, and
    at the first batch whose width the groups do not divide.
    """

    def __init__(self, groups: int = 32, power: float = 0.2, delta: float = 1.0):
        super().__init__()
        if not is_whole(groups) or groups < 2:
            raise GroupingError(
                f"{groups!r} groups; take 2 or more, a whole number: one's variance centred over groups is zero"
            )
        if not is_number(power):
            raise GroupingError(f"power {power!r} of the groups' variance; take a finite number, such as 0.2")
        if not is_number(delta) or delta < 0:
            raise GroupingError(
                f"delta {delta!r}: below 0 variances are negative; take 0 (no silent groups then) or more"
            )
        self.groups, self.power, self.delta = groups, power, delta

    def forward(self, activity: Activity) -> Activity:
        """Normalise a batch."""
        check_groups(self.groups, activity.shape[1:].numel())
        return grouping.divisive_normalisation(activity, self.groups, self.power, self.delta)

    def extra_repr(self) -> str:
        """The three numbers."""
        return f"groups={self.groups}, power={self.power}, delta={self.delta}"


def check_groups(groups: int, width: int) -> None:
    """Raise GroupingError unless `groups` cut `width` neurons into two or more equal groups of two or more."""
    if not is_whole(groups) or groups < 2 or width % groups or width // groups < 2:
        fitting = [c for c in range(2, width // 2 + 1) if width % c == 0]
        choice = ", ".join(map(str, fitting[:8] + (["…"] if len(fitting) > 8 else []))) or "none"
        raise GroupingError(
            f"{groups!r} groups do not cut a layer of {width} neurons into two or more groups of two or more; "
            f"possible: {choice}"
        )


class Block(nn.Module):
    """weight [+ bias], [batch norm], nonlinearity, [layer norm] = activity; [divisive norm], [dropout] = output.

    It takes the parameters of `synapses` as its own. Normalisation and dropout behave as in training only where a rule
    asks for it: whatever `module.training` says, calling the block predicts.
    """

    def __init__(
        self,
        synapses: nn.Linear,
        nonlinearity: Nonlinearity,
        batch_norm: nn.BatchNorm1d | None = None,
        layer_norm: nn.LayerNorm | None = None,
        divisive_norm: DivisiveNorm | None = None,
        dropout: float = 0.0,
    ):
        super().__init__()
        if batch_norm is not None and (
            batch_norm.running_mean is None or batch_norm.weight is None or not batch_norm.momentum
        ):
            raise MismatchError("a block's batch norm needs affine weights, running statistics and a momentum")
        if layer_norm is not None and layer_norm.elementwise_affine:
            raise MismatchError("a block's layer norm has no weights of its own: take elementwise_affine=False")
        self.weight, self.bias = synapses.weight, synapses.bias
        self.nonlinearity = nonlinearity
        self.batch_norm, self.layer_norm, self.divisive_norm = batch_norm, layer_norm, divisive_norm
        self.dropout = dropout
        self.precision: Precision = "fp32"
        if divisive_norm is not None:
            check_groups(divisive_norm.groups, self.width)

    @property
    def width(self) -> int:
        """Number of neurons."""
        return len(self.weight)

    def respond(self, x: Float[Tensor, "m *features"], *, learning: bool = False) -> Response:
        """From input to activity; `learning` normalises by the batch's statistics and advances their averages.

        Raises MismatchError when samples do not fit the weight, or batch norm is to learn from a single one.
        """
        pre = x.flatten(1)
        if pre.shape[1] != self.weight.shape[1]:
            raise MismatchError(
                f"samples of {pre.shape[1]} numbers do not fit a block of {self.weight.shape[1]} inputs"
            )
        drive = product(pre, self.weight.T, self.precision)
        if self.bias is not None:
            drive = drive + self.bias
        drive, batch = self._batch_normalise(drive, learning)
        hidden = self.nonlinearity.apply_(drive)
        layer = None if self.layer_norm is None else normalisation.layer_norm(hidden, self.layer_norm.eps)
        return Response(pre, hidden, hidden if layer is None else layer.normalised, batch, layer)

    def _batch_normalise(self, drive: Tensor, learning: bool) -> tuple[Tensor, normalisation.Normalised | None]:
        norm = self.batch_norm
        if norm is None:
            return drive, None
        mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        if learning:
            if len(drive) < 2:
                raise MismatchError(
                    "batch norm cannot learn from a batch of one sample, which has no variance; choose a batch size "
                    "that leaves no last batch of one"
                )
            variance, mean = torch.var_mean(drive, 0, correction=0)
            _advance_statistics(norm, mean, variance, len(drive))
        batch = normalisation.batch_norm(drive, mean, variance, norm.eps)
        return batch.normalised * norm.weight + norm.bias, batch._replace(scale=batch.scale * norm.weight)

    def emit(self, activity: Activity, *, learning: bool = False, normalised: Activity | None = None) -> Activity:
        """From activity to output; `normalised` is the divisively normalised activity where a rule has it already."""
        output = activity
        if self.divisive_norm is not None:
            output = self.divisive_norm(activity) if normalised is None else normalised
        if not learning or self.dropout == 0:
            return output
        drop = dropout.alpha_dropout if self.nonlinearity.self_normalising else dropout.dropout
        return drop(output, self.dropout)

    def forward(self, x: Float[Tensor, "m *features"]) -> Activity:
        """The output, as in evaluation."""
        return self.emit(self.respond(x).activity)


@torch.no_grad()
def _advance_statistics(norm: nn.BatchNorm1d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Running averages of a batch's mean and unbiased variance."""
    unbiased = variance * (count / (count - 1))
    momentum = norm.momentum or 0.0
    norm.get_buffer("running_mean").lerp_(mean, momentum)
    norm.get_buffer("running_var").lerp_(unbiased, momentum)
    norm.get_buffer("num_batches_tracked").add_(1)

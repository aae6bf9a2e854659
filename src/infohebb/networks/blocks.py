"""Block: from weight to activity, which the local objective sees, and on to output, which the next block receives."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from infohebb.errors import GroupingError, MismatchError, is_number, is_whole
from infohebb.functional import convolution, dropout, grouping, normalisation
from infohebb.functional.convolution import Geometry
from infohebb.functional.nonlinearities import Nonlinearity
from infohebb.functional.products import Precision, product

Activity = Float[Tensor, "m n *map"]  # or nets × m × n
Output = Float[Tensor, "m n *averaged"]


class Response(NamedTuple):
    """What one block did with one batch, as far as its own synapses can know it.

    `batch` and `layer` hold what a normalisation inside the block left for its backward, if there is one.
    """

    pre: Tensor  # (m, inputs), or the map (m, channels, h, w), that the weight received
    hidden: Tensor  # the nonlinearity's output, of a block that pools at the winners only
    activity: Tensor  # (m, outputs) or a map: what the local objective sees
    batch: normalisation.Normalised | None
    layer: normalisation.Normalised | None
    winners: Tensor | None = None  # where in its channel each pooled value comes from


class Emission(NamedTuple):
    """What a block sends on, and which units dropout struck, if it did."""

    output: Tensor
    struck: Tensor | None


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
    """weight [+ bias], [batch norm], nonlinearity, [layer norm], [+ input], [max pool] = activity; [average pool],
    [divisive norm], [dropout] = output. Layer norm goes over the neurons of a sample, or the channels of a pixel.

    It takes the parameters of `synapses` as its own. Normalisation and dropout behave as in training only where a rule
    asks for it: whatever `module.training` says, calling the block predicts. A `residual` block adds what it received,
    which must have the activity's shape before pooling. A convolutional block may `pool` and `average` over windows,
    and knows the number of its neurons if it is told the `map_size` (rows, columns) of its activity. Weights (nets ×
    outputs × inputs) are those of several networks side by side, and activities then (nets × m × outputs).
    Raises MismatchError, GroupingError.
    """

    share: float = 1.0  # of the way to what drives it that a neuron goes in one time step

    def __init__(
        self,
        synapses: nn.Linear | nn.Conv2d,
        nonlinearity: Nonlinearity,
        batch_norm: nn.BatchNorm1d | nn.BatchNorm2d | None = None,
        layer_norm: nn.LayerNorm | None = None,
        divisive_norm: DivisiveNorm | None = None,
        dropout: float = 0.0,
        *,
        residual: bool = False,
        pool: Geometry | None = None,
        average: Geometry | None = None,
        map_size: tuple[int, int] | None = None,
    ):
        super().__init__()
        if batch_norm is not None and (
            batch_norm.running_mean is None or None in (batch_norm.weight, batch_norm.bias) or not batch_norm.momentum
        ):
            raise MismatchError("a block's batch norm needs affine weights, running statistics and a momentum")
        if layer_norm is not None and layer_norm.elementwise_affine:
            raise MismatchError("a block's layer norm has no weights of its own: take elementwise_affine=False")
        if not is_number(dropout) or not 0 <= dropout < 1:
            raise MismatchError(f"dropout {dropout} is no probability below 1")
        self.weight, self.bias = synapses.weight, synapses.bias
        self.nonlinearity = nonlinearity
        self.batch_norm, self.layer_norm, self.divisive_norm = batch_norm, layer_norm, divisive_norm
        self.geometry = None if isinstance(synapses, nn.Linear) else _geometry(synapses)
        if self.geometry is None and (pool is not None or average is not None):
            raise MismatchError("a block of a linear layer has no map to pool")
        if layer_norm is not None and pool is not None:
            raise MismatchError("a block with layer norm takes no maxima: it would pool what is normalised; average")
        self.residual, self.pool, self.average, self.map_size = residual, pool, average, map_size
        self.dropout = dropout
        self.precision: Precision = "fp32"
        if divisive_norm is not None and self.output_width is not None:
            check_groups(divisive_norm.groups, self.output_width)

    @property
    def width(self) -> int | None:
        """Number of neurons; None for maps of unknown size."""
        if self.geometry is None:
            return self.weight.shape[-2]
        return None if self.map_size is None else len(self.weight) * math.prod(self.map_size)

    @property
    def output_width(self) -> int | None:
        """Size of a sample's output; None for maps of unknown size."""
        if self.average is None or self.map_size is None:
            return self.width
        return len(self.weight) * math.prod(self.average.map_size(self.map_size))

    def respond(self, x: Float[Tensor, "m *features"], *, learning: bool = False) -> Response:
        """From input to activity; `learning` normalises by the batch's statistics and advances their averages.

        Raises MismatchError when samples do not fit the weight or the map_size told, or batch norm is to learn from a
        single one.
        """
        pre = x.flatten(1) if self.geometry is None and self.weight.dim() == 2 else x
        drive, batch = self._batch_normalise(self._drive(pre), learning)
        return self.activate(pre, drive, batch)

    def activate(self, pre: Tensor, drive: Tensor, batch: normalisation.Normalised | None = None) -> Response:
        """From what drives the nonlinearity, which is overwritten, to activity."""
        if self.pool is not None and self.nonlinearity.increasing and not self.residual:
            drive, winners = convolution.max_pool(drive, self.pool)
            hidden = self.nonlinearity.apply_(drive)
            return Response(pre, hidden, hidden, batch, None, winners)
        hidden = self.nonlinearity.apply_(drive)
        layer = None if self.layer_norm is None else normalisation.layer_norm(hidden, self.layer_norm.eps)
        activity = hidden if layer is None else layer.normalised
        if self.residual:
            activity = activity + self._skipped(pre, activity)
        if self.pool is None:
            return Response(pre, hidden, activity, batch, layer)
        pooled, winners = convolution.max_pool(activity, self.pool)
        hidden = convolution.at_winners(hidden, winners) if self.residual else pooled
        return Response(pre, hidden, pooled, batch, layer, winners)

    def _check_maps(self, size: tuple[int, int], geometry: Geometry) -> None:
        """Raise MismatchError for maps of which nothing is left, or of another size than the block was told."""
        for stage, windows in {"convolve": geometry, "pool": self.pool, "average": self.average}.items():
            before, size = size, size if windows is None else windows.map_size(size)
            if min(size) < 1:
                raise MismatchError(f"a block cannot {stage} a map of {_by(before)}: nothing is left of it")
            if stage == "pool" and self.map_size not in (None, size):
                told = _by(self.map_size or ())
                raise MismatchError(
                    f"samples give a map of {_by(size)} where the block was told {told}; give inputs of its size"
                )

    def _skipped(self, pre: Tensor, activity: Tensor) -> Tensor:
        if pre.shape != activity.shape:
            raise MismatchError(
                f"a residual block adds what it received, {tuple(pre.shape[1:])}, to {tuple(activity.shape[1:])}; "
                "give its layer as many outputs as inputs, of a map with stride 1 and padding that keeps its size"
            )
        return pre

    def _drive(self, pre: Tensor) -> Tensor:
        if self.geometry is not None:
            return self._map_drive(pre, self.geometry)
        expected = self.weight.shape[-1]
        if pre.shape[-1] != expected:
            raise MismatchError(f"samples of {pre.shape[-1]} numbers do not fit a block of {expected} inputs")
        drive = product(pre, self.weight.mT, self.precision)
        return drive if self.bias is None else drive.add_(self.bias.unsqueeze(-2))

    def _map_drive(self, pre: Tensor, geometry: Geometry) -> Tensor:
        expected = self.weight.shape[1]
        if pre.dim() != 4 or pre.shape[1] != expected:
            shape = tuple(pre.shape[1:])
            raise MismatchError(f"samples of shape {shape} do not fit a convolution of {expected} channels")
        self._check_maps((pre.shape[2], pre.shape[3]), geometry)
        drive = convolution.convolve(pre, self.weight, geometry, self.precision)
        return drive if self.bias is None else drive + normalisation.spread(self.bias, drive)

    def _batch_normalise(self, drive: Tensor, learning: bool) -> tuple[Tensor, normalisation.Normalised | None]:
        norm = self.batch_norm
        if norm is None:
            return drive, None
        mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        if learning:
            if drive.numel() // drive.shape[1] < 2:
                raise MismatchError(
                    "batch norm cannot learn from a batch of one sample, which has no variance; choose a batch size "
                    "that leaves no last batch of one"
                )
            batch, mean, variance = normalisation.batch_norm(drive, norm.eps)
            _advance_statistics(norm, mean, variance, drive.numel() // len(mean))
        else:
            batch = normalisation.batch_norm_by(drive, mean, variance, norm.eps)
        normalised = normalisation.affine(batch.normalised, norm.weight, norm.bias)
        return normalised, batch._replace(scale=batch.scale * norm.weight)

    def emission(self, activity: Activity, *, learning: bool = False, normalised: Activity | None = None) -> Emission:
        """From activity to output; `normalised` is the divisively normalised activity where a rule has it already."""
        output = self.averaged(activity)
        if self.divisive_norm is not None:
            output = self.divisive_norm(output) if normalised is None or self.average is not None else normalised
        if not learning or self.dropout == 0:
            return Emission(output, None)
        struck = dropout.strike(output, self.dropout)
        drop = dropout.alpha_dropout if self.nonlinearity.self_normalising else dropout.dropout
        return Emission(drop(output, self.dropout, struck), struck)

    def averaged(self, activity: Activity) -> Output:
        """The activity after average pooling, where there is any: what divisive norm receives."""
        return activity if self.average is None else convolution.average_pool(activity, self.average)

    def emit(self, activity: Activity, *, learning: bool = False, normalised: Activity | None = None) -> Output:
        """The output of `emission` alone."""
        return self.emission(activity, learning=learning, normalised=normalised).output

    def forward(self, x: Float[Tensor, "m *features"]) -> Tensor:
        """The output, as in evaluation."""
        return self.emit(self.respond(x).activity)


def _by(size: Iterable[int]) -> str:
    return " × ".join(map(str, size))


def _geometry(synapses: nn.Conv2d) -> Geometry:
    """Raises MismatchError for a convolution that is dilated, grouped, or padded with anything but zeros."""
    if synapses.groups != 1 or set(synapses.dilation) != {1} or synapses.padding_mode != "zeros":
        raise MismatchError("a block's convolution is neither grouped nor dilated, and padded with zeros")
    kernel, stride = ((pair[0], pair[1]) for pair in (synapses.kernel_size, synapses.stride))
    if synapses.padding == "same" and not (kernel[0] % 2 and kernel[1] % 2):
        raise MismatchError(f"padding 'same' of a kernel {_by(kernel)} is more on one side; take odd kernels")
    named = {"valid": (0, 0), "same": (kernel[0] // 2, kernel[1] // 2)}
    padding = named[synapses.padding] if isinstance(synapses.padding, str) else synapses.padding
    return Geometry(kernel, stride, (padding[0], padding[1]))


@torch.no_grad()
def _advance_statistics(norm: nn.BatchNorm1d | nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    """Running averages of a batch's mean and unbiased variance."""
    unbiased = variance * (count / (count - 1))
    momentum = norm.momentum or 0.0
    norm.get_buffer("running_mean").lerp_(mean, momentum)
    norm.get_buffer("running_var").lerp_(unbiased, momentum)
    norm.get_buffer("num_batches_tracked").add_(1)

"""The kernelized information bottleneck: three-factor Hebbian learning from a batch.

Pogodin & Latham, "Kernelized information bottleneck leads to biologically plausible 3-factor Hebbian learning in deep
networks", NeurIPS 2020, arXiv:2006.07123.

z (m × n)  activity of a block              x (m × n')  what its weights received     f'  slope of its nonlinearity
c groups of s neurons                       u (m × c)   variance of each group        zc  z minus its group's mean
v (m × c)  group signal                     K (m × m)   Gram matrix of v (or of z)    Y   Gram matrix of the targets
G = dL/dK, and the kernel's coupling Q:     dL/dv = Q v

    plain      dL/dW = Σ_i f'_i (Q z)_i x_iᵀ                      Q: a number for each pair of moments
    grouped    dL/dW = Σ_i F_i u_i^(power-1) zc_i f'_i x_iᵀ       F = (2 power / s) Q v: a number for each group
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from infohebb.errors import GroupingError, MismatchError, naming, unknown_name
from infohebb.functional import grouping, hsic, kernels, plasticity
from infohebb.functional.kernels import Kernel
from infohebb.functional.readout import one_hot
from infohebb.networks import Block, Layered, Response
from infohebb.networks.blocks import check_groups
from infohebb.networks.unit import Unit
from infohebb.rules.base import Signals
from infohebb.rules.contract import LocalError, Locality, LocalRule, Signal
from infohebb.rules.grouped import GroupedRule
from infohebb.rules.layered import LocalStep, block_signals, with_slope

AGAINST_ITSELF = {"phsic": hsic.phsic_objective, "hsic": hsic.hsic_objective}
AGAINST_INPUT = {
    "phsic_bottleneck": hsic.phsic_bottleneck,
    "hsic_bottleneck": hsic.hsic_bottleneck,
    "nhsic_bottleneck": hsic.nhsic_bottleneck,
}
OBJECTIVES = AGAINST_ITSELF | AGAINST_INPUT
KERNELS: dict[str, Callable[[float], Kernel]] = {
    "gaussian": kernels.gaussian,
    "gaussian_per_sqrt_dim": partial(kernels.gaussian, scaling="per_sqrt_dim"),
    "gaussian_median": partial(kernels.gaussian, scaling="median"),
    "cosine": lambda sigma: kernels.cosine(),  # noqa: ARG005
    "linear": lambda sigma: kernels.linear(),  # noqa: ARG005
}
NEED_CLASSES = ("labels", "frequency_centred_labels", "inverse_frequency_labels")
UNBALANCED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "frequency_centred_labels": kernels.label_gram_frequency_centred,
    "inverse_frequency_labels": kernels.label_gram_inverse_frequency,
}


class Grams(NamedTuple):
    """What a batch hands to each block: Gram matrices of the targets and, where the objective needs it, the input."""

    targets: Tensor
    inputs: Tensor | None


class KernelizedBottleneck(LocalRule, GroupedRule):
    """Each unit minimises pHSIC(Z, Z) - gamma pHSIC(Y, Z) by itself; the readout learns by its delta rule.

    `kernel` of the activity: "gaussian", "cosine", "linear", "gaussian_per_sqrt_dim", "gaussian_median", or a `Kernel`;
    `sigma` is the Gaussians' width. `groups`, `delta` and `power` of the grouped kernel are those of the block's
    divisive norm if it has one (power = 1 - its power) and may then be left out; without groups the kernel sees the
    plain activity, minus its mean over neurons if `centre`. The signals of 2 groups, centred, differ in sign only, and
    the cosine kernel learns nothing of them. `objective`: "phsic" (Eq. 9), "hsic", or the bottlenecks
    against the network's input "phsic_bottleneck", "hsic_bottleneck" (Eq. 2), "nhsic_bottleneck". `target_kernel`:
    "labels" (for continuous targets a Gaussian of median width), "frequency_centred_labels",
    "inverse_frequency_labels", or a kernel on the numbers or one-hot labels. `input_kernel` defaults to `kernel`.
    Raises GroupingError, MismatchError, UnknownNameError from `attach`, also for `power` or `delta` without groups, and
    MismatchError at the first batch of which a kernel's Gram matrix is not m × m.
    """

    broadcasts = frozenset({"third_factor", "pair_factor", "layer_mean", "layer_factors"})

    def __init__(
        self,
        kernel: str | Kernel = "gaussian",
        sigma: float = 5.0,
        groups: int | None = None,
        power: float | None = None,
        delta: float | None = None,
        gamma: float = 2.0,
        objective: Literal["phsic", "hsic", "phsic_bottleneck", "hsic_bottleneck", "nhsic_bottleneck"] = "phsic",
        target_kernel: str | Kernel = "labels",
        input_kernel: str | Kernel | None = None,
        centre: bool = False,
    ):
        super().__init__(sigma, groups, power, delta, gamma)
        self.kernel, self.objective, self.centre = kernel, objective, centre
        self.target_kernel, self.input_kernel = target_kernel, input_kernel

    @property
    def locality(self) -> Locality:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Group signals, or a number per pair of samples; with `centre` the mean over the unit too."""
        return Locality(layer_mean=self.centre, shared=frozenset({"groups", "samples"}))

    @property
    def compares_inputs(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the objective is a bottleneck against the network's input."""
        return self.objective in AGAINST_INPUT

    def attach(self, network: Layered) -> None:
        """Check numbers, kernels and objective, and the grouping against each block."""
        super().attach(network)
        self.check_numbers()
        self.check_names()
        self.check_settings(network)

    def check_names(self) -> None:
        """Raise UnknownNameError, MismatchError for kernels and objectives that do not exist."""
        if str(self.objective) not in OBJECTIVES:
            raise unknown_name("objective", str(self.objective), OBJECTIVES)
        for kernel in (self.kernel, self.kernel if self.input_kernel is None else self.input_kernel):
            named_kernel(kernel, self.sigma)
        target_gram(torch.tensor([0, 1]), 2, self.target_kernel, self.sigma)

    def setup(self, units: Sequence[Unit], head: Sequence[Parameter], classes: int | None) -> None:
        """Check numbers, kernels and objective, and the grouping of each unit against its divisive norm."""
        del head
        self.check_numbers()
        self.check_names()
        for unit in units:
            self.check_grouping(unit.name, unit, None if unit.shape is None else math.prod(unit.shape))
        if classes is None and self.target_kernel in NEED_CLASSES:
            raise MismatchError(
                f"target_kernel={self.target_kernel!r} needs the number of classes: give Learner(..., classes=10)"
            )

    def context(self, inputs: Tensor, targets: Tensor, classes: int | None, /) -> Grams:
        """Gram matrices of the targets and, for a bottleneck against the network's input, of the input."""
        dtype = inputs.dtype if inputs.is_floating_point() else torch.float32
        labels = target_gram(targets, classes or 0, self.target_kernel, self.sigma, dtype)
        check_square("target_kernel", labels, len(targets))
        if self.objective not in AGAINST_INPUT:
            return Grams(labels, None)
        if not inputs.is_floating_point():
            raise MismatchError(f"objective={self.objective!r} needs inputs that are numbers, not {inputs.dtype}")
        which = "kernel" if self.input_kernel is None else "input_kernel"
        gram = named_kernel(getattr(self, which), self.sigma).gram(inputs.flatten(1))
        check_square(which, gram, len(inputs))
        return Grams(labels, gram)

    def signal(self, z: Tensor, unit: Unit) -> Signal:
        """Return the group signal v (m × c) or, for a plain kernel, the activity (m × n)."""
        settings = self.grouping(unit)
        if settings is None:
            flat = z.flatten(1)
            return Signal(flat - flat.mean(1, keepdim=True) if self.centre else flat)
        with naming(unit.name, GroupingError):
            check_groups(settings.groups, z[0].numel())
        grouped = grouping.group(z, settings.groups, settings.delta)
        return Signal(grouping.group_signal(grouped.variance, settings.power), (grouped, settings.power))

    def error(self, z: Tensor, signal: Signal, context: Grams, unit: Unit) -> LocalError | None:
        """Return Q z for a plain kernel, F u^(power-1) zc for a grouped one: third × postsynaptic factor.

        None for a batch of one sample, which has no other to compare with.
        """
        v = signal.shared
        assert v is not None
        if len(v) < 2:
            return None
        inputs = None if context.inputs is None else context.inputs.to(v.dtype)
        Q, terms = self._coupling(v, Grams(context.targets.to(v.dtype), inputs))
        if signal.own is None:
            return LocalError(Q, v.view(z.shape), (Q @ v).view(z.shape), terms, "samples")
        grouped, power = signal.own
        third_factor = grouping.group_factor(Q @ v, power, grouped.size)
        post = grouping.normalise_groups(grouped, 1 - power)
        norm = unit.divisive_norm  # `check_grouping` has seen that its groups, power and delta are these
        normalised = None if norm is None else post
        return LocalError(third_factor, post, plasticity.modulate(third_factor, post), terms, normalised=normalised)

    def fewest_groups(self) -> int:
        """The cosine kernel learns nothing of 2."""
        return 3 if self.kernel == "cosine" else 2

    def fitting_norm(self, norm: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return `norm` with the rule's own groups, power and delta; None for groups of which it learns nothing."""
        return GroupedRule.fitting_norm(self, norm)

    def batch_context(self, network: Layered, inputs: Tensor, targets: Tensor) -> Grams:
        """Gram matrices of the targets and, for a bottleneck, of the network's input."""
        return self.context(inputs, targets, network.readout.out_features)

    def local_step(self, block: Block, response: Response, context: Grams) -> LocalStep:
        """Third factor and Hebbian factors of one block, and its objective's terms."""
        settings = self.grouping(block)
        if settings is None:
            return self._plain_step(block, response, context)
        check_groups(settings.groups, response.activity[0].numel())
        grouped = grouping.group(response.activity, settings.groups, settings.delta)
        v = grouping.group_signal(grouped.variance, settings.power)
        Q, terms = self._coupling(v, context)
        third_factor = grouping.group_factor(Q @ v, settings.power, grouped.size)
        normalised = grouping.normalise_groups(grouped, 1 - settings.power)
        signals = self._signals(block, response, {"third_factor": third_factor, "post": normalised})
        return LocalStep(signals, terms, normalised)

    def _plain_step(self, block: Block, response: Response, context: Grams) -> LocalStep:
        z = response.activity.flatten(1)
        mean = {"layer_mean": z.mean(1, keepdim=True)} if self.centre else {}
        Q, terms = self._coupling(centred(z, mean), context)
        given = {"pair_factor": Q, "post": response.activity, **mean}
        return LocalStep(self._signals(block, response, given), terms)

    def _coupling(self, v: Tensor, context: Grams) -> tuple[Tensor, dict[str, Tensor]]:
        """Q and the terms of the objective for the rows of v."""
        kernel = named_kernel(self.kernel, self.sigma)
        K = kernel.gram(v)
        check_square("kernel", K, len(v))
        at = OBJECTIVES[self.objective](K, context.targets, context.inputs, self.gamma)
        terms = {"objective": at.objective, "compression": at.compression, "relevance": at.relevance}
        return kernel.coupling(v, K, at.derivative), terms

    def _signals(self, block: Block, response: Response, signals: Signals) -> Signals:
        """Add the slope of the nonlinearity, to `post` itself where a group shares its factor."""
        if "third_factor" not in signals or response.layer is not None:
            return with_slope(block, response, signals, activity_error)
        post = block.nonlinearity.gate(signals["post"], response.hidden)
        return {**block_signals(block, response), **signals, "post": post}

    def activity_error(self, signals: Signals) -> Tensor:
        """The error at the activity, as below."""
        return activity_error(signals)


def activity_error(signals: Signals) -> Tensor:
    """dL/dz: a number per group, or per pair of moments, times the postsynaptic factor."""
    if "third_factor" in signals:
        return plasticity.modulate(signals["third_factor"], signals["post"])
    z = signals["post"]
    return (signals["pair_factor"] @ centred(z.flatten(1), signals)).view(z.shape)


def centred(z: Tensor, signals: Signals) -> Tensor:
    """z minus its mean over the layer, where that is broadcast."""
    return z - signals["layer_mean"] if "layer_mean" in signals else z


def named_kernel(kernel: str | Kernel, sigma: float) -> Kernel:
    """The kernel of that name.  Raises UnknownNameError."""
    if isinstance(kernel, Kernel):
        return kernel
    if not isinstance(kernel, str):
        raise MismatchError(
            f"kernel is {kernel!r}; give a name or an infohebb.functional.kernels.Kernel(gram, coupling)"
        )
    if kernel not in KERNELS:
        raise unknown_name("kernel", kernel, KERNELS)
    return KERNELS[kernel](sigma)


def check_square(kernel: str, gram: object, samples: int) -> None:
    """Raise MismatchError unless a kernel gave a Gram matrix, samples × samples."""
    if not isinstance(gram, Tensor) or gram.shape != (samples, samples):
        got = list(gram.shape) if isinstance(gram, Tensor) else type(gram).__name__
        raise MismatchError(f"{kernel}: its gram gave {got} for {samples} samples; it must give [{samples}, {samples}]")


def target_gram(
    targets: Tensor, classes: int, kernel: str | Kernel, sigma: float, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Gram matrix (m × m) of class indices (m), or of numbers (m × d), by the kernel of that name."""
    if targets.is_floating_point():
        if kernel in UNBALANCED:
            raise MismatchError(f"target_kernel {kernel!r} needs class labels, not numbers")
        continuous = kernels.gaussian(1.0, "median") if kernel == "labels" else named_kernel(kernel, sigma)
        return continuous.gram(targets.to(dtype))
    if kernel == "labels":
        return kernels.label_gram(targets, classes, dtype)
    if isinstance(kernel, str) and kernel in UNBALANCED:
        return UNBALANCED[kernel](targets, kernels.class_frequencies(targets, classes, dtype))
    return named_kernel(kernel, sigma).gram(one_hot(targets, classes, dtype))

"""The layer-wise HSIC bottleneck of a batch: every sample learns. What the working memory's rule is held against."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor
from torch.nn import Parameter

from infohebb.errors import MismatchError
from infohebb.functional import working_memory
from infohebb.functional.kernels import gaussian_gram
from infohebb.networks import Block, Layered, Response
from infohebb.networks.unit import Unit
from infohebb.rules.base import Signals, check_kernels
from infohebb.rules.contract import LocalError, Locality, LocalRule, Signal
from infohebb.rules.layered import LayeredRule, LocalStep, with_slope


class HSICBottleneck(LocalRule, LayeredRule):
    """Each unit minimises HSIC(X, Z) - gamma HSIC(Y, Z) over a batch, whose samples all learn.

    The control of the working-memory paper, and what HSICMemory does with each sample as the current one.
    `sigma_x`, `sigma_y`, `sigma_z`: widths of the Gaussian kernels of input, target and activity, each times the root
    of its dimension. A batch of one sample teaches the readout only. Raises MismatchError.
    """

    side_by_side = True
    stacks: ClassVar[bool] = True
    broadcasts = frozenset({"pair_factor", "layer_factors"})
    locality = Locality(shared=frozenset({"samples"}))
    compares_inputs = True

    def __init__(self, gamma: float = 2.0, sigma_x: float = 0.5, sigma_y: float = 0.1, sigma_z: float = 1.0):
        super().__init__()
        self.gamma, self.sigma_x, self.sigma_y, self.sigma_z = gamma, sigma_x, sigma_y, sigma_z

    def attach(self, network: Layered) -> None:
        """Check numbers."""
        super().attach(network)
        check_kernels(self.gamma, sigma_x=self.sigma_x, sigma_y=self.sigma_y, sigma_z=self.sigma_z)

    def setup(self, units: Sequence[Unit], head: Sequence[Parameter], classes: int | None) -> None:
        """Check numbers."""
        del units, head
        check_kernels(self.gamma, sigma_x=self.sigma_x, sigma_y=self.sigma_y, sigma_z=self.sigma_z)
        if classes is None:
            raise MismatchError("HSICBottleneck needs the number of classes: give Learner(..., classes=10)")

    def context(self, inputs: Tensor, targets: Tensor, classes: int | None, /) -> Tensor:
        """Return Q = K_x - gamma K_y of the batch (m × m)."""
        if not inputs.is_floating_point():
            raise MismatchError(f"HSICBottleneck compares inputs that are numbers, not {inputs.dtype}")
        return working_memory.window_coupling(
            inputs.flatten(1), targets, classes or 0, self.gamma, self.sigma_x, self.sigma_y
        )

    def signal(self, z: Tensor, unit: Unit) -> Signal:
        """Return the activity (m × n)."""
        del unit
        return Signal(z.flatten(1))

    def error(self, z: Tensor, signal: Signal, context: Tensor, unit: Unit) -> LocalError | None:
        """Return L z, L (m × m) the graph Laplacian of the pair factors; a single sample has none."""
        flat = signal.shared
        assert flat is not None
        if len(flat) < 2:
            return None
        if unit.stacked is not None:
            return self._error_of_each(z, context.to(flat.dtype))
        Q, K = context.to(flat.dtype), gaussian_gram(flat, self.sigma_z, "per_sqrt_dim")
        laplacian = -working_memory.pair_factors(Q, K, self.sigma_z**2 * flat.shape[1]).fill_diagonal_(0)
        laplacian.diagonal().sub_(laplacian.sum(1))
        terms = {"objective": working_memory.window_hsic(Q, K)}
        return LocalError(laplacian, z, (laplacian @ flat).view(z.shape), terms, "samples")

    def _error_of_each(self, z: Tensor, Q: Tensor) -> LocalError:
        """Return the same for stacked networks, z (m × networks × n)."""
        rows = z.transpose(0, 1)
        K = gaussian_gram(rows, self.sigma_z, "per_sqrt_dim")
        factors = working_memory.pair_factors(Q, K, self.sigma_z**2 * rows.shape[-1])
        error = working_memory.weigh_pairs(factors, rows).transpose(0, 1)
        return LocalError(None, error, error, {"objective": working_memory.window_hsic(Q, K)}, "samples")

    def batch_context(self, network: Layered, inputs: Tensor, targets: Tensor) -> Tensor:
        """Q of the batch."""
        return self.context(inputs, targets, network.outputs)

    def local_step(self, block: Block, response: Response, context: Tensor) -> LocalStep:
        """Pair factors of one block, and its objective; one sample alone has neither.  [WMH 4.5]"""
        if len(context) < 2:
            return LocalStep(None, terms={})
        z = response.activity.flatten(1) if response.activity.dim() == 4 else response.activity
        K = gaussian_gram(z, self.sigma_z, "per_sqrt_dim")
        factors = working_memory.pair_factors(context, K, self.sigma_z**2 * z.shape[-1])
        signals = {"pair_factor": factors, "post": response.activity}
        terms = {"objective": working_memory.window_hsic(context, K)}
        return LocalStep(with_slope(block, response, signals, activity_error), terms)

    def activity_error(self, signals: Signals) -> Tensor:
        """The error at the activity, as below."""
        return activity_error(signals)


def activity_error(signals: Signals) -> Tensor:
    """dL/dz: what each neuron makes of a number per pair of samples, from its own activities."""
    z = signals["post"]
    flat = z.flatten(1) if z.dim() == 4 else z
    return working_memory.weigh_pairs(signals["pair_factor"], flat).view(z.shape)

"""The layer-wise HSIC bottleneck of a batch: every sample learns. What the working memory's rule is held against."""

from torch import Tensor

from infohebb.functional import working_memory
from infohebb.functional.kernels import gaussian_gram
from infohebb.networks import Block, Layered, Response
from infohebb.rules.base import Signals, check_kernels
from infohebb.rules.layered import LayeredRule, LocalStep, with_slope


class HSICBottleneck(LayeredRule):
    """Each hidden layer minimises HSIC(X, Z) - gamma HSIC(Y, Z) over a batch, whose samples all learn.

    The control of the working-memory paper, and what HSICMemory does with each sample as the current one.
    `sigma_x`, `sigma_y`, `sigma_z`: widths of the Gaussian kernels of input, target and activity, each times the root
    of its dimension. A batch of one sample teaches the readout only. Raises MismatchError.
    """

    side_by_side = True
    broadcasts = frozenset({"pair_factor", "layer_factors"})

    def __init__(self, gamma: float = 2.0, sigma_x: float = 0.5, sigma_y: float = 0.1, sigma_z: float = 1.0):
        super().__init__()
        self.gamma, self.sigma_x, self.sigma_y, self.sigma_z = gamma, sigma_x, sigma_y, sigma_z

    def attach(self, network: Layered) -> None:
        """Check numbers."""
        super().attach(network)
        check_kernels(self.gamma, sigma_x=self.sigma_x, sigma_y=self.sigma_y, sigma_z=self.sigma_z)

    def context(self, network: Layered, inputs: Tensor, targets: Tensor) -> Tensor:
        """Q of the batch."""
        return working_memory.window_coupling(
            inputs.flatten(1), targets, network.outputs, self.gamma, self.sigma_x, self.sigma_y
        )

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

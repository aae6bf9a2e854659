"""Only the readout learns: hidden weights stay as they were drawn. The floor that any rule must beat."""

from typing import Any, ClassVar

from torch import Tensor
from torch.nn import Parameter

from infohebb.networks import Block, Layered, Response
from infohebb.networks.unit import Unit
from infohebb.rules.contract import LocalRule, Signal
from infohebb.rules.layered import LayeredRule, LocalStep, learning


class LastLayer(LocalRule, LayeredRule):
    """The readout learns by its delta rule on fixed random features."""

    needs_units: ClassVar[bool] = False
    trains_units: ClassVar[bool] = False

    def error(self, z: Tensor, signal: Signal, context: Any, unit: Unit) -> None:
        """Nothing: units do not learn."""
        del z, signal, context, unit

    def batch_context(self, network: Layered, inputs: Tensor, targets: Tensor) -> None:
        """Nothing."""
        del network, inputs, targets

    def groups(self, network: Layered) -> dict[str, list[Parameter]]:
        """The readout alone."""
        return {"readout": learning([network.readout])}

    def local_step(self, block: Block, response: Response, context: None) -> LocalStep:
        """Nothing."""
        del block, response, context
        no_terms: dict[str, Tensor] = {}
        return LocalStep(None, no_terms)

"""Only the readout learns: hidden weights stay as they were drawn. The floor that any rule must beat."""

from torch import Tensor
from torch.nn import Parameter

from infohebb.networks import Block, Layered, Response
from infohebb.rules.layered import LayeredRule, LocalStep, learning


class LastLayer(LayeredRule):
    """The readout learns by its delta rule on fixed random features."""

    def groups(self, network: Layered) -> dict[str, list[Parameter]]:
        """The readout alone."""
        return {"readout": learning([network.readout])}

    def local_step(self, block: Block, response: Response, context: None) -> LocalStep:
        """Nothing."""
        del block, response, context
        no_terms: dict[str, Tensor] = {}
        return LocalStep(None, no_terms)

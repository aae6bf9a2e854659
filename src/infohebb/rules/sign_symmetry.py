"""Sign symmetry: the error comes down through the signs of the weights.

Liao, Leibo & Poggio, "How important is weight symmetry in backpropagation?", AAAI 2016; Xiao, Chen, Liao & Poggio, ICLR
2019. As in Pogodin & Latham's comparison: all of size one, no scaling; the large gradients that this makes can be
replaced by their signs ("batch manhattan").

    dL/dW = δᵀ x                error at x = δ sign(W), where backprop has δ W
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.nn import Parameter

from infohebb.errors import MismatchError
from infohebb.functional.feedback import sign_feedback
from infohebb.networks import Block
from infohebb.rules.transport import TransportRule


class SignSymmetry(TransportRule):
    """Backprop that knows only the signs of the weights above; `gradient_signs` steps by the gradients' signs, too.

    A step then has the size of the rate for each parameter, readout and normalisation included.
    """

    weight_transport = True  # of one bit per weight

    def __init__(self, gradient_signs: bool = False):
        super().__init__()
        self.gradient_signs = gradient_signs

    def attach(self, network: Any) -> None:
        """Raises MismatchError for `gradient_signs` that is neither true nor false, too."""
        super().attach(network)
        if not isinstance(self.gradient_signs, bool):
            raise MismatchError(f"gradient_signs {self.gradient_signs!r}: give True or False")

    def feedback_weight(self, position: int, layer: Block | nn.Linear) -> Tensor:
        """The signs of the layer's weights, as they are now."""
        del position
        return sign_feedback(layer.weight)

    def finish(self, parameters: Iterable[Parameter]) -> None:
        """Replace each gradient by its sign, if asked to; momentum and weight decay come after that."""
        for parameter in parameters if self.gradient_signs else ():
            if parameter.grad is not None:
                parameter.grad.sign_()

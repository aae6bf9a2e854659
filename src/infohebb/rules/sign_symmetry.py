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
from infohebb.rules.carried_errors import FeedbackRule
from infohebb.rules.contract import Locality
from infohebb.rules.transport import TransportRule


class SignSymmetry(FeedbackRule, TransportRule):
    """Backprop that knows only the signs of the weights above; `gradient_signs` steps by the gradients' signs, too.

    A step then has the size of the rate for each parameter, readout and normalisation included; through a Learner that
    takes `learner.bind(optimizer)`. It trains any module: see FeedbackRule for the calls that it covers.
    """

    weight_transport = True  # of one bit per weight
    locality = Locality(weight_transport=True, global_error=True, update_locking=True)

    def __init__(self, gradient_signs: bool = False):
        super().__init__()
        self.gradient_signs = gradient_signs

    def attach(self, network: Any) -> None:
        """Raises MismatchError for `gradient_signs` that is neither true nor false, too."""
        super().attach(network)
        self._check_settings()

    def feedback_weight(self, position: int, layer: Block | nn.Linear) -> Tensor:
        """The signs of the layer's weights, as they are now."""
        del position
        return sign_feedback(layer.weight)

    def finish(self, parameters: Iterable[Parameter]) -> None:
        """Replace each gradient by its sign, if asked to; momentum and weight decay come after that."""
        self.before_step(parameters)

    def setup_model(self, model: nn.Module, /) -> None:
        """Raise MismatchError for `gradient_signs` that is neither true nor false."""
        del model
        self._check_settings()

    def feedback_matrix(self, name: str, weight: Tensor) -> Tensor:
        """Return the signs of the weight, as they were in the forward pass."""
        del name
        return sign_feedback(weight)

    @property
    def changes_gradients(self) -> bool:
        """Whether gradients are replaced by their signs."""
        return self.gradient_signs

    def before_step(self, parameters: Iterable[Parameter]) -> None:
        """Replace each gradient by its sign, if asked to; momentum and weight decay come after that."""
        for parameter in parameters if self.gradient_signs else ():
            if parameter.grad is not None:
                parameter.grad.sign_()

    def _check_settings(self) -> None:
        if not isinstance(self.gradient_signs, bool):
            raise MismatchError(f"gradient_signs {self.gradient_signs!r}: give True or False")

"""What picks a tensor out of an output: an activity out of a unit's, or the logits out of a model's."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

Choose = Callable[[Any], Tensor]

"""What a fit can do besides training: `infohebb.fit(..., callbacks=[...])`, as `infohebb.callbacks`."""

from infohebb.training.callbacks.alignment import Alignment
from infohebb.training.callbacks.base import Callback, State
from infohebb.training.callbacks.checkpoint import Checkpoint
from infohebb.training.callbacks.early_stopping import EarlyStopping
from infohebb.training.callbacks.monitor import Monitor
from infohebb.training.callbacks.progress import Progress
from infohebb.training.callbacks.snapshots import Snapshots
from infohebb.training.callbacks.tensorboard import TensorBoard

__all__ = [
    "Alignment",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "Monitor",
    "Progress",
    "Snapshots",
    "State",
    "TensorBoard",
]

"""Callbacks of `infohebb.fit`."""

from infohebb.training.callbacks import (
    Alignment,
    Callback,
    Checkpoint,
    EarlyStopping,
    Monitor,
    Progress,
    Snapshots,
    State,
    TensorBoard,
)

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

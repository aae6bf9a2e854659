"""Floor 3: the loop, evaluation, optimizers, seeding, checkpoints, diagnosis; names no rule."""

from infohebb.training.diagnose import Diagnose
from infohebb.training.epoch import split_curves
from infohebb.training.evaluation import evaluate, predict
from infohebb.training.fitting import fit
from infohebb.training.loop import Checkpoints, train
from infohebb.training.optimizers import make_optimizer

__all__ = ["Checkpoints", "Diagnose", "evaluate", "fit", "make_optimizer", "predict", "split_curves", "train"]

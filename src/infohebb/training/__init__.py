"""Floor 3: the loop, evaluation, optimizers, checkpoints; names no rule."""

"""Floor 1: names to tensors; knows nothing of learning."""

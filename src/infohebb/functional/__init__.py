"""Floor 0: tensors in, tensors out; no state, no modules."""

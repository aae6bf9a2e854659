"""Floor 1: modules that know nothing of learning."""

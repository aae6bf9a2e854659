"""Deep networks without backpropagation, by local rules derived from information theory."""

"""Recipes that take a moment."""

TINY = """
title = "Tiny"
paper = "arXiv:0000.00000"
seeds = [0, 1]

[base]
data = { name = "blobs" }
network = { name = "mlp", widths = [8, 8], divisive_norm = { groups = 2 } }
rule = { name = "KernelizedBottleneck", kernel = "cosine" }
training = { epochs = 2, batch = 50 }
optimizer = { name = "sgd", lr = { units = 0.5, head = 0.05 } }

[[row]]
name = "blobs/cosine/divnorm"
published = 99.5

[[row]]
name = "blobs/backprop/divnorm"
rule = { name = "Backprop" }
optimizer = { lr = 0.05 }
"""

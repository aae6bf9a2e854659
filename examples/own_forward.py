"""Train a module with its own forward: two branches that meet, and a skip connection from one unit to another.

    python examples/own_forward.py        handwritten digits, 10 s on one CPU core

Prints the suggested units, then the accuracy on held-out training images for each epoch, then the test accuracy.
"""

import argparse

import torch
from torch import nn

import infohebb
from infohebb.data import batches, digits


class TwoBranches(nn.Module):
    """A convolutional and a dense branch; `mix` receives both, `deep` adds to what `mix` gives."""

    def __init__(self):
        super().__init__()
        self.maps = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.dense = nn.Sequential(nn.Linear(64, 128), nn.ReLU())
        self.mix = nn.Sequential(nn.Linear(32 * 16 + 128, 256), nn.ReLU())
        self.deep = nn.Sequential(nn.Linear(256, 256), nn.ReLU())
        self.head = nn.Linear(256, 10)

    def forward(self, x):
        both = torch.cat([self.maps(x).flatten(1), self.dense(x.flatten(1))], dim=1)
        mixed = self.mix(both)
        return self.head(mixed + self.deep(mixed))


parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=10)
epochs = parser.parse_args().epochs

torch.manual_seed(0)
data = digits()
held_out = data.validation()  # a tenth of the training images, for choices such as the number of epochs
model = TwoBranches()
units = infohebb.suggest_units(model)
print("units:", units)  # look at them: what belongs together only you can tell
learner = infohebb.Learner(model, infohebb.KernelizedBottleneck(kernel="cosine", groups=16), units=units, head="head")
optimizer = torch.optim.AdamW(learner.param_groups(units=1e-3, head=1e-2), weight_decay=1e-4)

for epoch in range(epochs):
    for x, y in batches(held_out.train, 100, shuffle=True):
        optimizer.zero_grad()
        learner.backward(data.normalise(x), y)
        optimizer.step()
    accuracy = infohebb.evaluate(model, held_out)["accuracy"]
    print(f"epoch {epoch + 1}: validation accuracy {accuracy:.1f} %")
print(f"test accuracy {infohebb.evaluate(model, data)['accuracy']:.1f} %")

"""Train local units on top of a frozen backbone, such as a pretrained network.

    python examples/frozen_backbone.py        handwritten digits, 5 s on one CPU core

The backbone here has random weights, for nothing is downloaded. Prints the test accuracy, and that the backbone has
not changed: neither its weights nor the statistics of its batch norm.
"""

import argparse
import copy

import torch
from torch import nn

import infohebb
from infohebb.data import batches, digits

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=10)
epochs = parser.parse_args().epochs


class Model(nn.Module):
    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone.requires_grad_(False)  # frozen parameters belong to no unit
        self.layers = nn.Sequential(*[nn.Sequential(nn.Linear(n, 128), nn.ReLU()) for n in (512, 128)])
        self.head = nn.Linear(128, 10)

    def train(self, mode: bool = True):
        super().train(mode)
        self.backbone.eval()  # batch norm keeps its statistics
        return self

    def forward(self, x):
        return self.head(self.layers(self.backbone(x)))


torch.manual_seed(0)
data = digits()
convolution = [nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()]
model = Model(nn.Sequential(*convolution, nn.MaxPool2d(2), nn.Flatten()))
before = copy.deepcopy(model.backbone.state_dict())

rule = infohebb.KernelizedBottleneck(kernel="cosine", groups=16)
learner = infohebb.Learner(model, rule, units="layers.*", head="head")
optimizer = torch.optim.AdamW(learner.param_groups(units=1e-3, head=1e-2))  # holds no frozen parameter
for _ in range(epochs):
    model.train()
    for x, y in batches(data.train, 100, shuffle=True):
        optimizer.zero_grad()
        learner.backward(data.normalise(x), y)
        optimizer.step()

print(f"test accuracy {infohebb.evaluate(model.eval(), data)['accuracy']:.1f} %")
same = all(torch.equal(tensor, before[name]) for name, tensor in model.backbone.state_dict().items())
print("backbone unchanged:", same)

"""Train local units on top of a frozen backbone, such as a pretrained network.

    python examples/frozen_backbone.py        handwritten digits, 10 s on one CPU core

The backbone here has random weights, because nothing is downloaded. Prints the test accuracy, and whether the backbone
stayed the same: its weights, and the statistics of its batch norm.
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
        self.backbone = backbone
        self.layers = nn.Sequential(*[nn.Sequential(nn.Linear(n, 128), nn.ReLU()) for n in (512, 128)])
        self.head = nn.Linear(128, 10)

    def forward(self, x):
        return self.head(self.layers(self.backbone(x)))


torch.manual_seed(0)
data = digits()
convolution = [nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()]
model = Model(nn.Sequential(*convolution, nn.MaxPool2d(2), nn.Flatten()))
model.backbone.requires_grad_(False)  # frozen parameters need no unit
model.backbone.eval()  # batch norm keeps its statistics; after model.train(), call this again
before = copy.deepcopy(model.backbone.state_dict())

rule = infohebb.KernelizedBottleneck(kernel="cosine", groups=16)
learner = infohebb.Learner(model, rule, units="layers.*", head="head")
optimizer = torch.optim.AdamW(learner.param_groups(units=1e-3, head=1e-2))  # frozen parameters are not in it
for _ in range(epochs):
    for x, y in batches(data.train, 100, shuffle=True):
        optimizer.zero_grad()
        learner.backward(data.normalise(x), y)
        optimizer.step()

print(f"test accuracy {infohebb.evaluate(model, data)['accuracy']:.1f} %")
same = all(torch.equal(tensor, before[name]) for name, tensor in model.backbone.state_dict().items())
print("backbone unchanged:", same)

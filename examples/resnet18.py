"""Train a ResNet-18 by a local rule in a plain PyTorch loop; the stem and each residual block learn on their own.

    python examples/resnet18.py                                  handwritten digits, 30 s on one CPU core
    python examples/resnet18.py --data-dir DIR --device cuda     CIFAR-10, whose files are in DIR

Prints the label loss of the last batch and the test accuracy after each epoch.
"""

import argparse

import torch
from torch import nn

import infohebb
from infohebb.data import batches, digits, load


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        strided = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut = nn.Identity() if inputs == outputs and stride == 1 else strided

    def forward(self, x):
        return torch.relu(self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x))))) + self.shortcut(x))


class ResNet18(nn.Module):
    def __init__(self, channels: int, classes: int, w: int):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, w, 3, 1, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU())
        sizes = [(w, w, 1), (w, 2 * w, 2), (2 * w, 4 * w, 2), (4 * w, 8 * w, 2)]  # for images of 32 × 32 pixels
        self.layers = nn.Sequential(*[nn.Sequential(Block(a, b, stride), Block(b, b, 1)) for a, b, stride in sizes])
        self.fc = nn.Linear(8 * w, classes)

    def forward(self, x):
        return self.fc(self.layers(self.stem(x)).mean((2, 3)))


parser = argparse.ArgumentParser()
for option, kind, default in [("data-dir", str, ""), ("width", int, 64), ("epochs", int, 5), ("device", str, "cpu")]:
    parser.add_argument(f"--{option}", type=kind, default=default)
args = parser.parse_args()
torch.manual_seed(0)
data = (load("cifar10", args.data_dir) if args.data_dir else digits()).to(args.device)
model = ResNet18(data.input_shape[0], data.outputs, args.width).to(args.device)
learner = infohebb.Learner(model, infohebb.KernelizedBottleneck(kernel="cosine"), units=["stem", "layers.*.*"])
optimizer = torch.optim.AdamW(learner.param_groups(units=1e-3, head=1e-2), weight_decay=0.0)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)
for epoch in range(args.epochs):
    for x, y in batches(data.train, 128, shuffle=True):
        optimizer.zero_grad()
        step = learner.backward(data.normalise(x), y)  # fills .grad, unit by unit
        optimizer.step()
    scheduler.step()
    accuracy = infohebb.evaluate(model, data)["accuracy"]
    print(f"epoch {epoch + 1}: label loss {float(step.loss):.3f}, test accuracy {accuracy:.1f} %")

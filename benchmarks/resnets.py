"""Residual networks for small images, of plain torch: what the learner is measured on."""

from collections.abc import Sequence

from torch import Tensor, nn

UNITS = ["stem", "layers.*"]  # of both networks


class Basic(nn.Module):
    """Return relu(convolutions(x) + shortcut(x)); the shortcut is a strided 1 × 1 convolution where shapes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        same = inputs == outputs and stride == 1
        conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.shortcut = nn.Identity() if same else nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's activity."""
        return (self.convs(x) + self.shortcut(x)).relu_()


class ResNet(nn.Module):
    """Return the logits of a stem, residual blocks, the mean over positions, and a Linear.

    `blocks` lists (channels, stride) of each block; the stem has as many channels as `stem` says.
    """

    def __init__(self, inputs: int, classes: int, stem: int, blocks: Sequence[tuple[int, int]]):
        super().__init__()
        conv = nn.Conv2d(inputs, stem, 3, 1, 1, bias=False)
        self.stem = nn.Sequential(conv, nn.BatchNorm2d(stem), nn.ReLU(inplace=True))
        below = [stem, *(channels for channels, _ in blocks)]
        self.layers = nn.ModuleList(
            Basic(before, channels, stride) for before, (channels, stride) in zip(below, blocks, strict=False)
        )
        self.fc = nn.Linear(below[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (m × classes) of images (m × inputs × rows × columns)."""
        x = self.stem(x)
        for layer in self.layers:
            x = layer(x)
        return self.fc(x.mean((2, 3)))


def small_resnet(inputs: int = 3, classes: int = 10) -> ResNet:
    """Return a stem of 16 channels and three blocks of 16, 32 and 64: 78 thousand weights."""
    return ResNet(inputs, classes, 16, [(16, 1), (32, 2), (64, 2)])


def resnet18(width: int = 64, inputs: int = 3, classes: int = 10) -> ResNet:
    """Return ResNet-18 for 32 × 32 images: a 3 × 3 stem, and two blocks at 1, 2, 4 and 8 times `width` channels."""
    blocks = [(width * scale, stride) for scale in (1, 2, 4, 8) for stride in (1 if scale == 1 else 2, 1)]
    return ResNet(inputs, classes, width, blocks)

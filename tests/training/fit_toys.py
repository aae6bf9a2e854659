"""Small plain modules to fit, with batch norm and dropout, and a module with a forward of its own."""

import torch
from torch import nn

import infohebb


def arrays(samples=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, 8, generator=generator)
    return x, (x[:, 0] > 0).long()


def sequential(dropout=0.2):
    torch.manual_seed(5)
    first = [nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*first, nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))


class Own(nn.Module):
    """Two inputs: numbers and an optional scale, which is a keyword argument."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.stem, self.body, self.fc = nn.Linear(8, 12), nn.Linear(12, 12), nn.Linear(12, 2)

    def forward(self, x, scale=None):
        x = torch.relu(self.stem(x))
        x = x + torch.relu(self.body(x))
        return self.fc(x if scale is None else x * scale)


def own_learner(rule=None):
    rule = infohebb.KernelizedBottleneck() if rule is None else rule
    return infohebb.Learner(Own(), rule, units=["stem", "body"], head="fc")


def learner(rule=None, **options):
    return infohebb.Learner(sequential(**options), infohebb.KernelizedBottleneck() if rule is None else rule)


def weights(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)

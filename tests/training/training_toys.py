"""Small things to train, and a rule that only keeps a diary."""

import torch

from infohebb import MLP, Diagnostics, KernelizedBottleneck, LearningRule
from infohebb.data import DataSet, Split, blobs


class Untouchable(Split):
    """A test split that may not be looked at."""

    def __getattribute__(self, name):
        if name in ("inputs", "targets", "to", "select"):
            raise AssertionError("the test split was read")
        return super().__getattribute__(name)

    def __iter__(self):
        raise AssertionError("the test split was read")

    def __getitem__(self, key):
        raise AssertionError("the test split was read")


class Diary(LearningRule):
    """Notes what happens around it; its loss is the mean of the inputs, its gradients are all one."""

    def __init__(self):
        super().__init__()
        self.events = []

    def groups(self, network):
        return {"readout": list(network.readout.parameters())}

    def learn(self, network, inputs, targets, *, onset=True, record=False):
        fresh = all(p.grad is None for p in network.readout.parameters())
        self.events.append(("learn", fresh, network.readout.bias.detach().clone(), inputs.clone(), targets.clone()))
        for p in network.readout.parameters():
            p.grad = torch.ones_like(p)
        return Diagnostics(inputs.mean(), torch.arange(len(inputs)) % 2 == 0)

    def update(self, signals):
        return {}

    def finish(self, parameters):
        parameters = list(parameters)
        self.events.append(("finish", len(parameters), parameters[1].grad.clone()))
        parameters[1].grad.mul_(2)


def network(outputs=2, **options):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return MLP(8, outputs, **{"widths": (16, 16), "divisive_norm": {"groups": 4}, **options})


def rule(**options):
    return KernelizedBottleneck(**options)


def data(samples=60, **options) -> DataSet:
    return blobs(samples, features=8, **options)


def weights(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


class StreamDiary(LearningRule):
    """Notes each step of a stream: samples' first numbers, targets, onset; its loss is the last sample's mean."""

    def __init__(self, consumes="sample", waits=0, noise=False):
        super().__init__()
        self.consumes = consumes
        self.waits, self.noise, self.steps = waits, noise, []

    def groups(self, network):
        return {"readout": list(network.readout.parameters())}

    def learn(self, network, inputs, targets, *, onset=True, record=False):
        self.steps.append((inputs[:, 0].tolist(), targets.tolist(), onset))
        correct = torch.ones(1, dtype=torch.bool)
        if len(self.steps) <= self.waits:
            return Diagnostics(torch.tensor(torch.nan), ~correct, waiting=True)
        for p in network.readout.parameters():
            p.grad = torch.rand_like(p) if self.noise else torch.ones_like(p)
        return Diagnostics(inputs[-1].mean(), correct)

    def update(self, signals):
        return {}

"""A training step on meta tensors: it waits for no number and touches no second device."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from infohebb import KernelizedBottleneck, Learner, LocalError, LocalRule
from infohebb.networks import plain
from infohebb.rules.kernelized_bottleneck import KERNELS, OBJECTIVES
from learner.nets import ResNet

SAMPLES, GROUPS = 12, 4
EXEMPT = {  # kernels whose step waits for a number, and why
    "gaussian_median": "the median distance of the batch becomes a Python number, the width of the Gaussian",
    "frequency_centred_labels": "torch.bincount waits for the largest label, to know how many counts to return",
    "inverse_frequency_labels": "torch.bincount waits for the largest label, to know how many counts to return",
}
FREE = [kernel for kernel in KERNELS if kernel not in EXEMPT]


class OneDevice(TorchDispatchMode):
    """Refuses operations that take or return a tensor of another kind of device, even one without axes.

    Meta tensors have no numbers, so `.item()` and `if tensor:` fail by themselves. But torch lets a number on the CPU
    into operations of any device: on a GPU that is a transfer.
    """

    def __init__(self, device="meta"):
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
        result = operation(*arguments, **(keywords or {}))
        for leaf in tree_leaves((arguments, keywords, result)):
            if isinstance(leaf, torch.Tensor) and leaf.device.type != self.device:
                raise RuntimeError(f"{operation} touches a tensor on {leaf.device}")
        return result


def mlp(norm):
    return plain.MLP(32, 10, (16, 16), divisive_norm=norm, dropout=0.1), (32,), None


def conv(norm):
    settings = {"divisive_norm": norm, "norm": "batch", "dropout": 0.1}
    return plain.ConvNet((3, 8, 8), 10, (8, 8), (2,), (16,), **settings), (3, 8, 8), None


def resnet(norm):
    return ResNet(), (1, 8, 8), ["stem", "layers.*"]


def step_on_meta(rule, build=mlp, norm=None):
    """Returns the network after one step, gradients filled."""
    network, shape, units = build(norm)
    learner = Learner(network.to("meta"), rule, units)
    inputs = torch.empty(SAMPLES, *shape, device="meta")
    labels = torch.empty(SAMPLES, dtype=torch.int64, device="meta")
    with OneDevice():
        learner.backward(inputs, labels)
    return network


@pytest.mark.parametrize("kernel", FREE)
@pytest.mark.parametrize("groups", [None, GROUPS], ids=["plain", "grouped"])
@pytest.mark.parametrize("build", [mlp, conv, resnet])
def test_a_step_waits_for_no_number_and_stays_on_its_device(build, groups, kernel):
    norm = {"groups": groups} if groups else None
    network = step_on_meta(KernelizedBottleneck(kernel=kernel, groups=groups), build, norm)
    assert all(parameter.grad.device.type == "meta" for parameter in network.parameters())


@pytest.mark.parametrize("settings", [{"objective": o} for o in OBJECTIVES] + [{"target_kernel": k} for k in FREE])
def test_objectives_and_target_kernels_wait_for_no_number(settings):
    step_on_meta(KernelizedBottleneck(groups=GROUPS, **settings), norm={"groups": GROUPS})


@pytest.mark.parametrize("kernel", EXEMPT)
def test_exempt_kernels_wait_for_a_number(kernel):
    """Whoever removes the wait takes the kernel off the list."""
    which = "kernel" if kernel in KERNELS else "target_kernel"
    with pytest.raises(RuntimeError, match=r"item|bincount"):
        step_on_meta(KernelizedBottleneck(**{which: kernel}))


class Waits(LocalRule):
    """Reads a number of the batch."""

    def error(self, z, signal, context, unit):
        error = z / z.abs().max().item()
        return LocalError(None, error, error)


class Transfers(LocalRule):
    """Adds a number that lies on the CPU."""

    offset = torch.tensor(2.0)

    def error(self, z, signal, context, unit):
        error = z + self.offset
        return LocalError(None, error, error)


def test_a_rule_that_reads_a_number_is_noticed():
    with pytest.raises(RuntimeError, match="item"):
        step_on_meta(Waits())


def test_a_rule_that_uses_a_number_on_the_cpu_is_noticed():
    with pytest.raises(RuntimeError, match="touches a tensor on cpu"):
        step_on_meta(Transfers())

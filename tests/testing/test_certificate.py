"""The locality certificate: each unit's level, from the derivative of its activity by its preactivation."""

from functools import partial

import pytest
import torch
from torch import nn

from infohebb import (
    Backprop,
    HSICBottleneck,
    HSICMemory,
    KernelizedBottleneck,
    KernelizedBottleneckOnline,
    LastLayer,
    LayerwiseClassification,
    Learner,
)
from infohebb.errors import MismatchError
from infohebb.networks.plain import MLP, DivisiveNorm, LeakyMLP, stack_networks
from infohebb.testing import certify
from infohebb.testing.contract.networks import CLASSES, IMAGE, example_networks
from infohebb.training.seeding import seeded
from testing import broken_rules as cheats

SYNAPSE, GROUP, UNIT = "synapse", "normalisation group", "unit"


class GatedLinear(nn.Module):
    """Half of the preactivations gate the other half."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(32, 24)

    def forward(self, x):
        return nn.functional.glu(self.linear(x.flatten(1)))


def dense(*after):
    """One unit of a Linear and what follows it, and a head."""
    return nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(32, 12), *after), nn.Linear(12, CLASSES))


def convolution(*after):
    unit = nn.Sequential(nn.Conv2d(IMAGE[0], 4, 3, padding=1), *after)
    return nn.Sequential(unit, nn.Flatten(), nn.Linear(64, CLASSES))


def levels(model, rule=None, units=None, dtype=torch.float32, **options):
    with seeded(0):
        x, y = torch.randn(6, *IMAGE, dtype=dtype), torch.arange(6) % CLASSES
        learner = Learner(model.to(dtype), rule or KernelizedBottleneck(), units, example=x, **options)
        return certify(learner, x, y)


EXPECTED = {
    "MLP": [SYNAPSE] * 3,
    "MLP, divisive norm": [SYNAPSE] * 3,  # the norm follows the unit
    "MLP, layer norm": [GROUP] * 3,
    "MLP, dropout": [SYNAPSE] * 3,
    "convolution, batch norm": [SYNAPSE] * 2,
    "convolution, divisive norm": [SYNAPSE] * 3,
    "residual": [SYNAPSE, UNIT, UNIT],
    "sequence": [SYNAPSE] * 2,
}


@pytest.mark.parametrize("name", EXPECTED)
def test_levels_of_networks(name):
    example = example_networks()[name]
    found = levels(example.make(), units=example.units, head=example.head)
    assert list(found.values()) == EXPECTED[name]


UNITS = {
    "activation": (partial(dense, nn.GELU()), SYNAPSE),
    "batch norm": (partial(dense, nn.BatchNorm1d(12), nn.Tanh()), SYNAPSE),
    "layer norm": (partial(dense, nn.LayerNorm(12), nn.ReLU()), GROUP),
    "group norm": (partial(dense, nn.GroupNorm(3, 12), nn.ReLU()), GROUP),
    "softmax": (partial(dense, nn.Softmax(1)), GROUP),
    "two layers": (partial(dense, nn.ReLU(), nn.Linear(12, 12)), UNIT),
    "maximum of a map": (partial(convolution, nn.ReLU(), nn.MaxPool2d(3, 1, 1)), SYNAPSE),
    "group norm of a map": (partial(convolution, nn.GroupNorm(2, 4), nn.ReLU()), GROUP),
    "divisive norm of a map": (partial(convolution, nn.ReLU(), DivisiveNorm(2)), GROUP),
    "instance norm": (partial(convolution, nn.InstanceNorm2d(4), nn.ReLU()), SYNAPSE),
}


@pytest.mark.parametrize("name", UNITS)
def test_levels_of_units(name):
    make, level = UNITS[name]
    assert levels(make(), HSICBottleneck(), units="0") == {"0": level}


def test_a_divisive_norm_inside_a_unit_is_a_normalisation_group():
    assert levels(dense(nn.ReLU(), DivisiveNorm(4)), HSICBottleneck(), units="0") == {"0": GROUP}


def test_a_gate_is_like_a_norm():
    model = nn.Sequential(GatedLinear(), nn.Linear(12, CLASSES))
    assert levels(model, units="0") == {"0": GROUP}


def test_units_that_cannot_be_probed_have_the_last_level():
    model = nn.Sequential(nn.Flatten(), nn.LayerNorm(32), nn.Linear(32, CLASSES))
    assert levels(model, units="1") == {"1": UNIT}


def test_a_layer_that_is_called_twice_has_the_last_level():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(32, 32)

        def forward(self, x):
            return torch.tanh(self.linear(torch.tanh(self.linear(x.flatten(1)))))

    assert levels(nn.Sequential(Twice(), nn.Linear(32, CLASSES)), units="0") == {"0": UNIT}


def test_the_learner_is_left_as_it_is():
    model = dense(nn.BatchNorm1d(12), nn.ReLU())
    x, y = torch.randn(6, *IMAGE), torch.arange(6) % CLASSES
    learner = Learner(model, LayerwiseClassification(), "0", example=x)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    certify(learner, x, y)
    for name, value in learner.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])
    assert all(parameter.grad is None for parameter in learner.parameters())


def test_a_rule_whose_errors_are_global_has_no_certificate():
    with pytest.raises(MismatchError, match="Backprop declares global_error"):
        levels(dense(nn.ReLU()), Backprop(), units="0")


def test_a_rule_that_mixes_neurons_gets_no_certificate():
    with pytest.raises(AssertionError, match="0: the error of a neuron depends on other neurons' activity"):
        levels(dense(nn.ReLU()), cheats.LateralMixer(), units="0")


STREAMS = {
    "synapses": (KernelizedBottleneckOnline, lambda: MLP(IMAGE, CLASSES, (8,), divisive_norm={"groups": 2}), SYNAPSE),
    "window": (HSICMemory, lambda: MLP(IMAGE, CLASSES, (8,), nonlinearity="tanh"), SYNAPSE),
    "leak": (partial(HSICMemory, memory="stale"), lambda: LeakyMLP(IMAGE, CLASSES, (8,), slots=1), GROUP),
}


@pytest.mark.parametrize("name", STREAMS)
def test_levels_of_rules_of_streams(name):
    rule, make, level = STREAMS[name]
    assert levels(make(), rule()) == {"layers.0": level}


@pytest.mark.parametrize(
    ("cheat", "message"),
    [
        (cheats.ReadsNeighboursPast, "0: the error of a neuron depends on other neurons' activity"),
        (cheats.InventsInputs, "rows of `pre` are not what the layer has received"),
        (cheats.StatesNoFactors, "0 learns, but not from a LocalError"),
    ],
)
def test_a_rule_of_streams_that_cheats_gets_no_certificate(cheat, message):
    with pytest.raises(AssertionError, match=message):
        levels(MLP(IMAGE, CLASSES, (8,)), cheat())


def test_stacked_networks_get_theirs_one_by_one():
    stacked = stack_networks([MLP(IMAGE, CLASSES, (8,)) for _ in range(2)])
    with pytest.raises(MismatchError, match=r"a record is of one network; give a Learner of unstack"):
        levels(stacked, HSICMemory())


def test_a_rule_that_hides_its_errors_gets_no_certificate():
    with pytest.raises(AssertionError, match="0 learns, but not from a LocalError"):
        levels(dense(nn.ReLU()), cheats.HidesError(), units="0")


def test_units_that_do_not_learn_have_a_level_too():
    assert levels(dense(nn.ReLU()), LastLayer(), units="0") == {"0": SYNAPSE}

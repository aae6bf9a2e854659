import math

import pytest
import torch

from functional.oracles import assert_close, derivative, normal
from infohebb.functional.nonlinearities import IDENTITY, RELU, SELU, TANH, leaky_relu

NONLINEARITIES = {
    "leaky_relu": leaky_relu(),
    "leaky_relu, slope 0.3": leaky_relu(0.3),
    "relu": RELU,
    "selu": SELU,
    "tanh": TANH,
    "identity": IDENTITY,
}
BY_HAND = {
    "leaky_relu": lambda a: a if a > 0 else 0.01 * a,
    "leaky_relu, slope 0.3": lambda a: a if a > 0 else 0.3 * a,
    "relu": lambda a: max(a, 0.0),
    "selu": lambda a: 1.0507009873554805 * (a if a > 0 else 1.6732632423543772 * (math.exp(a) - 1)),
    "tanh": math.tanh,
    "identity": lambda a: a,
}
AT_ZERO = {"leaky_relu": 0.01, "leaky_relu, slope 0.3": 0.3, "relu": 0.0, "tanh": 1.0, "identity": 1.0}
AT_ZERO["selu"] = 1.0507009873554805 * 1.6732632423543772
every_nonlinearity = pytest.mark.parametrize("name", NONLINEARITIES)


@every_nonlinearity
def test_activity_by_hand(name):
    a = torch.cat([3 * normal(20), torch.zeros(1, dtype=torch.float64)])
    expected = torch.tensor([BY_HAND[name](value) for value in a.tolist()], dtype=torch.float64)
    assert_close(NONLINEARITIES[name].apply_(a.clone()), expected, 1e-14)


@every_nonlinearity
def test_the_gate_is_the_derivative_of_autograd(name):
    f, a, signal = NONLINEARITIES[name], 3 * normal(4, 10), normal(4, 10, seed=1)
    expected = derivative(lambda a: (signal * f.apply_(a.clone())).sum(), a)
    assert_close(f.gate(signal, f.apply_(a.clone())), expected, 1e-13)


@every_nonlinearity
def test_the_gate_is_the_slope_of_finite_differences(name):
    f, a, step = NONLINEARITIES[name], 3 * normal(40), 1e-6
    slope = (f.apply_(a + step) - f.apply_(a - step)) / (2 * step)
    assert_close(f.gate(torch.ones_like(a), f.apply_(a.clone())), slope, 1e-8)


@every_nonlinearity
def test_the_gate_at_zero_is_the_slope_from_below_as_in_autograd(name):
    f, zero = NONLINEARITIES[name], torch.zeros(2, dtype=torch.float64)
    expected = torch.full((2,), AT_ZERO[name], dtype=torch.float64)
    assert_close(f.gate(torch.ones_like(zero), f.apply_(zero.clone())), expected, 1e-15)
    assert_close(derivative(lambda a: f.apply_(a.clone()).sum(), zero), expected, 1e-15)


@every_nonlinearity
def test_the_activity_is_written_over_the_pre_activation(name):
    a = normal(20)
    assert NONLINEARITIES[name].apply_(a).data_ptr() == a.data_ptr()


@pytest.mark.parametrize("slope", [0.0, -0.1])
def test_leaky_relu_refuses_a_slope_that_hides_the_sign(slope):
    with pytest.raises(ValueError, match=f"above 0, got {slope}; use relu"):
        leaky_relu(slope)


def test_only_selu_asks_for_alpha_dropout():
    assert [name for name, f in NONLINEARITIES.items() if f.self_normalising] == ["selu"]

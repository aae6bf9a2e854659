"""CorInfoMaxNetwork: what it answers, what can be read of it, what it refuses."""

import pytest
import torch

from infohebb import CorInfoMaxNetwork
from infohebb.errors import MismatchError, NonFiniteDataError
from infohebb.networks.corinfomax import Presented


def network_of(*widths, **options):
    torch.manual_seed(0)
    return CorInfoMaxNetwork(6, 3, widths, entropy_gain=0.02, **options).double()


X = torch.rand(5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Y = torch.eye(3, dtype=torch.float64)[[0, 1, 2, 0, 1]]


@pytest.mark.parametrize("widths", [(), (4,), (5, 4, 3)])
def test_it_answers_with_rates_at_rest_and_changes_nothing(widths):
    network = network_of(*widths, steps=200)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    answers = network(X)
    assert answers.shape == (5, 3)
    assert bool((answers >= 0).all() and (answers <= 1).all())
    shown = Presented(network, X)
    shown.settle(200)
    assert max(shown.residuals()) < 1e-6
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not answers.requires_grad


def test_images_are_rows_of_numbers():
    network = CorInfoMaxNetwork((2, 3), 3, (4,)).double()
    assert torch.equal(network(X.view(5, 2, 3)), network(X))


def test_at_rest_the_soma_lies_between_its_dendrites():
    """(v_B - v)/ε + c (v_A - v) - g v = 0 where a neuron does not move; unclipped, its rate is its potential."""
    network = network_of(5, 4, steps=400)
    last = network.compartments(X)[-1]
    rates = network.split(Presented(network, X).settle(400))
    for place, (basal, apical, soma) in enumerate(last):
        conductance = 1 / network.epsilon if place < 2 else 1.0
        flow = (basal - soma) / network.epsilon + conductance * (apical - soma) - network.leak * soma
        assert float(flow.abs().max()) < 1e-6
        torch.testing.assert_close(soma.clamp(0, 1), rates[place], rtol=0, atol=1e-9)


def test_compartments_are_readable_after_each_sweep_of_both_phases():
    network = network_of(5, steps=7)
    free, told = network.compartments(X), network.compartments(X, Y, nudge=-0.5, nudged_steps=4)
    assert (len(free), len(told)) == (7, 11)
    assert [tuple(part.shape) for part in told[-1][0]] == [(5, 5)] * 3
    assert torch.equal(free[-1][0].soma, told[6][0].soma)
    shown = Presented(network, X)
    shown.settle(7)
    shown.settle(4, Y, -0.5)
    torch.testing.assert_close(told[-1][1].soma.clamp(0, 1), network.split(shown.rates)[1])
    apical = 0.02 * shown.rates[:, 5:] @ network.layers[1].inverse_correlation + 0.5 * shown.rates[:, 5:]
    torch.testing.assert_close(told[-1][1].apical, apical + 0.5 * (shown.rates[:, 5:] - Y))


def test_a_nudge_draws_the_output_to_the_target_and_a_negative_one_away():
    network, errors = network_of(5, steps=60), []
    for nudge in (1.0, 0.0, -0.3):
        shown = Presented(network, X)
        shown.settle(60)
        shown.settle(20, Y, nudge)
        errors.append(float((network.split(shown.rates)[-1] - Y).square().sum()))
    assert errors[0] < errors[1] < errors[2]


def test_sparse_layers_are_held_down_and_the_others_are_not():
    free, held = network_of(5, 4, steps=300), network_of(5, 4, steps=900, sparse=(1,), multiplier_rates=(0.1,))
    many = 5 * X
    sums = [network.split(Presented(network, many).settle(network.steps)) for network in (free, held)]
    assert float(sums[0][0].sum(1).mean()) > 1.2
    assert float(sums[1][0].sum(1).max()) < 1.02
    assert float(sums[1][1].max()) <= 1


def test_rates_of_zero_gain_do_not_depend_on_the_inverse_correlation():
    quiet = network_of(5)
    quiet.entropy_gain = 0.0
    before = quiet(X)
    quiet.layers[0].inverse_correlation.mul_(3)
    assert torch.equal(before, quiet(X))
    quiet.entropy_gain = 0.1
    assert not torch.equal(before, quiet(X))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"step": 0.2}, r"step 0\.2 is not stable: .* below 2/\(2/epsilon \+ leak\) = 0\.1446"),
        ({"step": 0.3, "schedule": "divide_by_slow_loop_index"}, "step 0.23.* is not stable"),
        ({"schedule": "divide_by_loop_index", "smallest_step": 0.3}, "step 0.3 is not stable"),
        ({"epsilon": 0.0}, "epsilon 0.0: give a number above 0"),
        ({"leak": -1.0}, "leak -1.0: give a number of at least 0"),
        ({"entropy_gain": float("nan")}, "entropy_gain nan"),
        ({"steps": 0}, "steps 0"),
        ({"sparse": (3,), "multiplier_rates": (0.1,)}, "from 1, the first hidden one, to 2"),
        ({"sparse": (1, 1), "multiplier_rates": (0.1, 0.1)}, "different layers"),
        ({"sparse": (1, 2), "multiplier_rates": (0.1,)}, "1 numbers and sparse 2 layers"),
        ({"sparse": (1,), "multiplier_rates": (0.0,)}, "multiplier_rates 0.0"),
        ({"widths": (0,)}, "no layer may be empty"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_is_refused_in_a_line(options, words):
    with pytest.raises(MismatchError, match=words):
        CorInfoMaxNetwork(6, 3, **{"widths": (5,), **options})


def test_a_step_that_gets_small_enough_within_a_phase_is_taken():
    assert CorInfoMaxNetwork(6, 3, (5,), step=0.5, schedule="divide_by_loop_index").step == 0.5
    assert CorInfoMaxNetwork(6, 3, (5,), smallest_step=0.3).step_sizes(2) == [0.05, 0.05]  # of no use to constant ones


def test_wishes_that_do_not_fit_are_refused():
    network = network_of(5)
    with pytest.raises(MismatchError, match=r"wanted has shape \(5, 2\); give \(5, 3\), one-hot"):
        network.compartments(X, Y[:, :2])
    with pytest.raises(MismatchError, match="nudge nan"):
        network.compartments(X, Y, float("nan"))
    with pytest.raises(MismatchError, match="nudged_steps 0"):
        network.compartments(X, Y, nudged_steps=0)


def test_inputs_that_are_no_numbers_or_do_not_fit_are_refused():
    network, broken = network_of(5), X.clone()
    broken[2, 3] = float("nan")
    with pytest.raises(NonFiniteDataError, match="NaN or infinity"):
        network(broken)
    with pytest.raises(MismatchError, match=r"\(5, 5\); give \(samples, 6\)"):
        network(X[:, :5])
    with pytest.raises(MismatchError, match="float32"):
        network(X.float())

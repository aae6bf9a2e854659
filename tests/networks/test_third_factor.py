"""The third factor of a stream's windows, and a reservoir that says it."""

import pytest
import torch

from functional.oracles import assert_close
from infohebb.errors import MismatchError, UsageError
from infohebb.functional.kernels import gaussian_gram
from infohebb.functional.readout import one_hot
from infohebb.functional.reservoir import explained
from infohebb.functional.working_memory import memory_weights, modulate_current
from infohebb.networks.comparing import Channels, comparing_wiring
from infohebb.networks.reservoir import Reservoir
from infohebb.networks.third_factor import (
    Objective,
    ReservoirModulator,
    Samples,
    fit_readout,
    in_blocks,
    random_samples,
    responses,
    third_factors,
)
from infohebb.networks.wiring import Sizes, random_wiring

CHANNELS = Channels(2, 2, 3)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def comparing(window=2, units=60):
    return Reservoir(comparing_wiring(CHANNELS, window, units, chance=seeded()))


@pytest.mark.parametrize("modulator", ["exact", "row", "pub", "head"])
def test_third_factors_are_those_of_each_window(modulator):
    objective = Objective(3.0, (0.5, 0.4, 0.9), modulator)
    x, y, z = (part.double() for part in random_samples(CHANNELS, 9, seeded()))
    found = third_factors(Samples(x, y, z), 4, objective)
    assert len(found) == 6
    for first in range(6):
        part = slice(first, first + 4)
        Q = gaussian_gram(x[part], 0.5, "per_sqrt_dim") - 3 * gaussian_gram(y[part], 0.4, "per_sqrt_dim")
        assert_close(found[first], modulate_current(z[part], memory_weights(Q, modulator), 0.9), 1e-12)


def test_streams_shorter_than_a_window_are_refused():
    for window in (5, 1):
        with pytest.raises(MismatchError, match="in a stream of 4"):
            third_factors(random_samples(CHANNELS, 4), window, Objective())


def test_blocks_go_on_for_themselves_behind_what_came_before_them():
    stream = torch.arange(7.0)[:, None]
    blocks = in_blocks(stream, 3, 2)[..., 0]
    assert blocks.tolist() == [[0, 0, 0, 1, 2], [1, 2, 3, 4, 5], [4, 5, 6, 6, 6]]


def test_responses_in_blocks_are_those_of_one_go_once_the_past_has_faded():
    stream = torch.cat(random_samples(CHANNELS, 30, seeded()), 1)
    wiring = random_wiring(Sizes(7, 30, 3), strength=0.3, feedback=False, chance=seeded())
    reservoir = Reservoir(wiring)
    whole, cut = reservoir.drive(stream), responses(reservoir, stream, length=8, before=9)
    torch.testing.assert_close(cut[8:], whole[8:], rtol=0, atol=1e-5)


def test_the_readout_is_ridge_regression_with_the_penalty_that_held_out_rows_chose():
    R, W = torch.randn(200, 10, generator=seeded()), torch.randn(10, 2, generator=seeded(1))
    noise = torch.randn(200, 2, generator=seeded(2))
    clean, noisy = fit_readout(R, R @ W), fit_readout(R, R @ W + 30 * noise)
    assert_close(clean.readout, W.double(), 1e-6)
    assert clean.validation.min() > 0.999
    assert noisy.penalty > clean.penalty
    scale = R.double().square().mean(0).sqrt()
    scaled = R.double() / scale
    ridge = torch.eye(10, dtype=torch.float64) * noisy.penalty * 200
    targets = (R @ W + 30 * noise).double()
    assert_close(
        noisy.readout, torch.linalg.solve(scaled.T @ scaled + ridge, scaled.T @ targets) / scale[:, None], 1e-9
    )


def test_held_out_rows_take_no_part_in_what_is_scored_on_them():
    R, targets = torch.randn(100, 60, generator=seeded()), torch.randn(100, 1, generator=seeded(1))
    assert fit_readout(R, targets).validation.item() < 0.2  # nothing to learn, and more than half as many weights


def test_pretrained_on_random_data_it_says_the_third_factor_of_the_tasks_windows():
    modulator = ReservoirModulator(comparing(), CHANNELS, 2)
    assert modulator.pretrain(800, chance=seeded(5)).mean() > 0.5
    before = {name: values.clone() for name, values in modulator.state_dict().items()}
    x, y, z = random_samples(CHANNELS, 60, seeded(6))
    x = x / 3
    said = torch.cat([modulator.estimate(x[[t]], y[[t]], z[[t]]) for t in range(60)])
    exact = third_factors(Samples(x, y, z), 2, Objective())
    assert explained(said[1:], exact).mean() > 0.5
    moved = {name for name, values in modulator.state_dict().items() if not torch.equal(values, before[name])}
    assert moved == {"reservoir.potential"}


def test_data_of_ones_own_may_be_drawn_for_pretraining():
    asked = []

    def draw(count, chance):
        asked.append(count)
        return random_samples(CHANNELS, count, chance)

    ReservoirModulator(comparing(units=5), CHANNELS, 2).pretrain(50, draw, seeded())
    assert asked == [50]


@pytest.mark.parametrize("learning", ["lms", "rls"])
def test_with_a_teacher_the_readout_learns_while_the_sample_is_held(learning):
    wiring = random_wiring(Sizes(7, 50, 3), chance=seeded())
    modulator = ReservoirModulator(Reservoir(wiring, learning=learning, rate=0.02), CHANNELS, 2)
    x, y, z = random_samples(CHANNELS, 1, seeded())
    teacher = torch.tensor([[1.0, -2.0, 0.5]])
    for _ in range(5):
        said = modulator.estimate(x, y, z, teacher)
    torch.testing.assert_close(said, teacher, rtol=0, atol=0.1)
    assert said.shape == (1, 3)
    assert set(modulator.advances) >= {"potential", "readout", "inverse"}


def test_maps_are_flattened_and_the_answer_has_the_layers_type():
    modulator = ReservoirModulator(Reservoir(random_wiring(Sizes(4 + 2 + 3, 9, 3))), Channels(4, 2, 3), 2)
    said = modulator.estimate(torch.ones(1, 2, 2), one_hot(torch.tensor([1]), 2), torch.ones(1, 3, dtype=torch.float64))
    assert said.dtype == torch.float64


def test_reservoirs_that_do_not_fit_and_no_hold_are_refused():
    with pytest.raises(MismatchError, match="7 inputs and 3 outputs for samples of 8 numbers"):
        ReservoirModulator(comparing(), Channels(3, 2, 3), 2)
    with pytest.raises(UsageError, match="held for 0 steps"):
        ReservoirModulator(comparing(), CHANNELS, 2, hold=0)

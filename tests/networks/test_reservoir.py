"""The reservoir as a module: the reference's own numbers, a frozen readout, divergence, saving, how it is wired."""

import pytest
import torch

from functional.oracles import golden, normal
from infohebb.errors import DivergenceError, UsageError
from infohebb.functional.reservoir import Weights, random_recurrent, spectral_radius
from infohebb.networks.reservoir import Reservoir
from infohebb.networks.wiring import Sizes, Wiring, leaks, random_wiring


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def read(name, **options):
    arrays = golden(f"../wmh/{name}")
    weights, n = Weights(arrays["W_r"], arrays["W_i"], arrays["W_f"]), len(arrays["W_r"])
    k = torch.full((n,), float(arrays["dt"] / arrays["tau"]), dtype=torch.float64)
    return arrays, Reservoir(Wiring(weights, float(arrays["recurrent_strength"]), k, n), **options)


def small(**options):
    wiring = {name: options.pop(name) for name in ("strength", "input_scale", "feedback", "tau") if name in options}
    return Reservoir(random_wiring(Sizes(3, 20, 2), chance=seeded(), **wiring), **options)


def test_least_mean_squares_is_the_references():
    arrays, reservoir = read("reservoir_lms", rate=5e-3)
    N, steps = arrays["N"].item(), arrays["ntimesteps"].item()
    reservoir.readout.copy_(arrays["W_o0"])
    snaps = dict(zip(arrays["lms_W_o_steps"].tolist(), arrays["lms_W_o"], strict=True))
    found = 0
    for window in range(4):
        last = window + N - 1
        s = torch.cat([arrays[name][last] for name in "XYZ"])
        target = arrays["lms_targets_head"][window]
        for step in range(steps):
            (output,) = reservoir.hold(s, 1, target)
            t = window * steps + step
            close((output - target).square().mean(), arrays["lms_loss_per_step"][t])
            close(reservoir.potential, arrays["lms_u"][t])
            if t + 1 in snaps:
                close(reservoir.readout, snaps[t + 1])
                found += 1
    assert found >= 3


def test_a_stimulus_held_is_as_many_single_steps():
    arrays, reservoir = read("reservoir_lms", rate=5e-3)
    steps = arrays["ntimesteps"].item()
    reservoir.readout.copy_(arrays["W_o0"])
    for window in range(4):
        s = torch.cat([arrays[name][window + 4] for name in "XYZ"])
        reservoir.hold(s, steps, arrays["lms_targets_head"][window])
    close(reservoir.potential, arrays["lms_u"][-1])


def test_recursive_least_squares_is_the_textbooks():
    arrays, reservoir = read("force_rls_nonref", learning="rls", alpha=1.0)
    reservoir.readout.copy_(arrays["W_o"][0])
    snaps = {step: place for place, step in enumerate(arrays["snap_steps"].tolist())}
    for t, (s, target) in enumerate(zip(arrays["inputs"], arrays["targets"], strict=True)):
        close(reservoir.hold(s, 1, target)[0], arrays["out"][t])
        close(reservoir.potential, arrays["u"][t])
        if t in snaps:
            close(reservoir.readout, arrays["W_o"][snaps[t] + 1])
            close(reservoir.get_buffer("inverse"), arrays["P"][snaps[t]])


@pytest.mark.parametrize("learning", ["lms", "rls"])
def test_a_frozen_readout_moves_nothing_but_the_potential(learning):
    reservoir = small(learning=learning)
    reservoir.hold(torch.ones(3), 5, torch.ones(2))
    before = {name: values.clone() for name, values in reservoir.state_dict().items()}
    reservoir.hold(torch.ones(3), 5)
    moved = {name for name, values in reservoir.state_dict().items() if not torch.equal(values, before[name])}
    assert moved == {"potential"}


def test_driving_many_runs_is_holding_each_and_changes_nothing():
    reservoir = small(tau=(5e-3, 2e-2))
    reservoir.readout.copy_(torch.randn(20, 2, generator=seeded(1)))
    stimuli = torch.randn(4, 6, 3, generator=seeded(2))
    before = {name: values.clone() for name, values in reservoir.state_dict().items()}
    rates = reservoir.drive(stimuli, 7, at=(2, -1))
    assert all(torch.equal(values, before[name]) for name, values in reservoir.state_dict().items())
    assert rates.shape == (4, 6, 40)
    for run in range(4):
        reservoir.rest()
        for t in range(6):
            for step in range(7):
                if step in (2, 6):
                    expected = reservoir.potential.tanh()
                    torch.testing.assert_close(rates[run, t].view(2, 20)[int(step == 6)], expected, rtol=0, atol=1e-5)
                reservoir.hold(stimuli[run, t], 1)


def test_only_the_last_units_may_be_read():
    dense = random_wiring(Sizes(3, 20, 2), chance=seeded())
    reservoir = Reservoir(dense._replace(readable=8))
    assert reservoir.readout.shape == (8, 2)
    assert reservoir.drive(torch.ones(5, 3)).shape == (5, 8)
    reservoir.hold(torch.ones(3), 4, torch.ones(2))
    close(reservoir.output(), reservoir.potential.tanh()[-8:] @ reservoir.readout)


def test_sparse_and_dense_recurrent_weights_do_the_same():
    wiring = random_wiring(Sizes(3, 20, 2), chance=seeded())
    sparse = wiring.weights.recurrent.to_sparse_coo()
    dense, other = Reservoir(wiring), Reservoir(wiring._replace(weights=wiring.weights._replace(recurrent=sparse)))
    for reservoir in (dense, other):
        reservoir.hold(torch.ones(3), 5, torch.ones(2))
    torch.testing.assert_close(dense.potential, other.potential)
    torch.testing.assert_close(dense.readout, other.readout)
    assert other.recurrent.dim() == 1


@pytest.mark.parametrize("learning", ["lms", "rls"])
def test_what_was_saved_goes_on_as_if_nothing_had_been(learning):
    one, other = small(learning=learning), small(learning=learning, strength=0.3)
    one.hold(torch.ones(3), 5, torch.ones(2))
    other.strength = one.strength
    other.load_state_dict(one.state_dict())
    for reservoir in (one, other):
        reservoir.hold(-torch.ones(3), 5, torch.ones(2))
    for name, values in one.state_dict().items():
        assert torch.equal(values, other.state_dict()[name])


def test_ridge_regression_sets_the_readout():
    reservoir = small()
    rates = torch.randn(50, 20, generator=seeded(1))
    wanted = torch.randn(20, 2, generator=seeded(2))
    reservoir.fit(rates, rates @ wanted, 1e-9)
    torch.testing.assert_close(reservoir.readout, wanted, rtol=0, atol=1e-4)


def test_least_mean_squares_that_runs_away_is_told_with_the_rate_it_wants():
    reservoir = small(rate=10.0)
    with pytest.raises(DivergenceError, match="rate below 2 / "):
        for _ in range(200):
            reservoir.hold(torch.ones(3), 20, torch.ones(2))
    assert all(bool(values.isfinite().all()) for values in reservoir.state_dict().values())


def test_stimuli_that_are_not_finite_are_told():
    for learning in ("lms", "rls"):
        for target in (None, torch.ones(2)):
            with pytest.raises(DivergenceError, match="rates ran away to infinity or NaN: check the inputs"):
                small(learning=learning).hold(torch.tensor([1.0, float("nan"), 0.0]), 5, target)
    with pytest.raises(DivergenceError, match="check the inputs"):
        small().drive(torch.full((2, 3), float("nan")))


@pytest.mark.parametrize("learning", ["lms", "rls"])
def test_what_runs_away_is_told_with_what_it_may_come_from(learning):
    with pytest.raises(DivergenceError, match="smaller strength or input_scale"):
        small(learning=learning, strength=1e40).hold(torch.ones(3), 5, torch.ones(2))
    with pytest.raises(DivergenceError, match="smaller strength or input_scale"):
        small(learning=learning, strength=1e40).drive(torch.ones(2, 3))
    frozen = small(learning=learning)
    frozen.readout.fill_(1e30)
    with pytest.raises(DivergenceError, match="it is frozen: fit it again"):
        frozen.hold(torch.ones(3), 5)


COMPILED = """
import torch
from infohebb.errors import DivergenceError
from infohebb.networks.reservoir import Reservoir
from infohebb.networks.wiring import Sizes, random_wiring

for target in (None, torch.ones(2)):
    plain, compiled = (Reservoir(random_wiring(Sizes(3, 20, 2), chance=torch.Generator().manual_seed(0))) for _ in "ab")
    hold = torch.compile(compiled.hold, fullgraph=True, backend="eager")
    torch.testing.assert_close(hold(torch.ones(3), 4, target), plain.hold(torch.ones(3), 4, target))
    assert torch.equal(compiled.potential, plain.potential)
    assert not hold(torch.tensor([1.0, float("nan"), 0.0]), 4).isfinite().all()
    try:
        compiled.hold(torch.ones(3), 1)
    except DivergenceError as error:
        print(error)
"""


def test_compiled_it_is_one_graph_and_what_ran_away_is_told_by_the_next_call(python):
    answer = python(COMPILED)  # where no types are checked, which would break the graph
    assert answer.status == 0, answer.err
    assert answer.out.count("rates ran away to infinity or NaN: check the inputs") == 2


def test_noise_is_uniform_and_of_its_width():
    reservoir = small(noise=(0.0, 0.5))
    outputs = reservoir.hold(torch.ones(3), 500)
    assert outputs.abs().max() <= 0.5
    assert outputs.min() < -0.4
    assert outputs.max() > 0.4
    quiet, loud = small(), small(noise=(0.1, 0.0))
    for one in (quiet, loud):
        one.hold(torch.ones(3), 5)
    assert not torch.equal(quiet.potential, loud.potential)


def test_published_weights_have_three_times_the_intended_radius():
    sizes = Sizes(1, 300, 1)
    published, intended = (
        random_wiring(sizes, published=flag, chance=seeded()).weights.recurrent for flag in (True, False)
    )
    assert (published != 0).float().mean().item() == pytest.approx(0.9, abs=0.01)
    assert (intended != 0).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert spectral_radius(published) == pytest.approx(3.0, rel=0.1)
    assert spectral_radius(intended) == pytest.approx(1.0, rel=0.1)
    assert published[published != 0].var().item() == pytest.approx(1 / 30, rel=0.05)


def test_the_spectral_radius_is_the_one_told():
    W = random_wiring(Sizes(2, 60, 1), radius=0.7, chance=seeded()).weights.recurrent
    assert spectral_radius(W) == pytest.approx(0.7, rel=1e-4)
    assert spectral_radius(normal(3, 3).diag().diag()) == pytest.approx(normal(3, 3).diag().abs().max().item())


def test_weights_from_inputs_and_readout_are_uniform_and_feedback_may_be_off():
    wiring = random_wiring(Sizes(40, 50, 30), input_scale=0.5, chance=seeded())
    assert wiring.weights.inputs.abs().max().item() == pytest.approx(0.5, abs=0.01)
    assert wiring.weights.feedback.abs().max().item() == pytest.approx(1.0, abs=0.01)
    assert not random_wiring(Sizes(2, 5, 3), feedback=False).weights.feedback.any()


def test_one_seed_draws_one_reservoir():
    assert torch.equal(random_recurrent(9, 0.5, seeded(3)), random_recurrent(9, 0.5, seeded(3)))


def test_several_time_constants_share_the_units():
    close(leaks(4, (1e-3, 4e-3), 1e-3), torch.tensor([1.0, 1.0, 0.25, 0.25]))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tau": 5e-4}, "longer than tau"),
        ({"tau": (5e-3, 5e-4)}, "longer than tau"),
        ({"dt": 0.0}, "positive dt"),
        ({"density": 0.0}, "density"),
        ({"density": 1.5}, "density"),
        ({"radius": -1.0}, "spectral radius"),
        ({"tau": []}, r"tau \[\] of a reservoir"),
        ({"tau": float("nan")}, "tau nan"),
        ({"tau": (5e-3, float("inf"))}, "tau .*inf"),
        ({"strength": float("nan")}, "strength nan"),
        ({"input_scale": float("nan")}, "input_scale nan"),
    ],
)
def test_wiring_that_cannot_be_is_refused(options, told):
    with pytest.raises(UsageError, match=told):
        random_wiring(Sizes(2, 9, 1), **options)


def test_sizes_and_learning_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="0 units"):
        random_wiring(Sizes(2, 0, 1))
    for options, told in (({"learning": "hebb"}, "learns by"), ({"rate": 0.0}, "rate"), ({"alpha": -1.0}, "alpha")):
        with pytest.raises(UsageError, match=told):
            small(**options)

"""A layer in the loop with its reservoir: the update it makes, and that the objective goes down."""

import pytest
import torch

from functional.oracles import assert_close, normal
from infohebb.errors import UsageError
from infohebb.experiments.studies.closed_loop import Layer, descent, layer_objective
from infohebb.networks.comparing import Channels
from infohebb.networks.third_factor import Objective, Samples, random_samples, third_factors

SHORT = {"window": 2, "units": 60, "samples": 300, "pretraining": 600}


def test_the_update_is_the_gradient_by_the_current_sample():
    objective, window = Objective(3.0, (0.5, 0.4, 0.9)), 5
    x, y, _ = (part.double() for part in random_samples(Channels(3, 2, 6), window, torch.Generator().manual_seed(0)))
    weight, bias = normal(3, 6).requires_grad_(), normal(6, seed=1).requires_grad_()
    layer = Layer(weight, bias)
    z = layer.respond(x)[1].normalised
    past = z.detach().clone()
    past[-1] = z[-1]
    samples = Samples(x, y, past)
    grams = [
        torch.exp(-torch.cdist(V, V).square() / (2 * s**2 * V.shape[1]))
        for V, s in zip(samples, objective.sigmas, strict=True)
    ]
    H = torch.eye(window, dtype=torch.float64) - 1 / window
    K_x, K_y, K_z = grams
    value = torch.trace((K_x - 3 * K_y) @ H @ K_z @ H) / (window - 1) ** 2
    expected = torch.autograd.grad(value, [weight, bias])
    with torch.no_grad():
        layer.learn(x[-1:], third_factors(samples, window, objective)[-1:])
    for found, wanted in zip((weight.grad, bias.grad), expected, strict=True):
        assert_close(found, wanted, 1e-9)


def test_its_objective_is_that_of_the_samples_together():
    objective, samples = Objective(3.0, (0.5, 0.4, 0.9)), random_samples(Channels(2, 2, 4), 30)
    layer = Layer(torch.randn(2, 4), torch.zeros(4))
    other = layer_objective(layer, Samples(*(part.flip(0) for part in samples)), objective)
    assert layer_objective(layer, samples, objective) == pytest.approx(other, rel=1e-4)


def test_the_objective_goes_down_by_either_source_and_stays_without():
    finals = {source: descent(source=source, **SHORT)[0] for source in ("computed", "reservoir", "none")}
    assert finals["none"]["after"] == finals["none"]["before"]
    for source in ("computed", "reservoir"):
        assert finals[source]["after"] < finals[source]["before"] - 0.1
    assert finals["reservoir"]["r2"] > 0.3
    assert finals["reservoir"]["cosine"] > 0.3


def test_curves_and_factors_are_kept():
    _, curves, arrays = descent(**SHORT)
    assert curves["samples"] == [100, 200, 300]
    assert len(curves["objective"]) == 3
    assert arrays["third_factor_exact"].shape == arrays["third_factor_predicted"].shape == (100, 4)
    assert arrays["third_factor_time"][[0, -1]].tolist() == [4000.0, 5980.0]


def test_another_source_is_refused():
    with pytest.raises(UsageError, match="computed, reservoir, none"):
        descent(source="oracle")


def test_a_random_reservoir_says_less():
    final = descent(**SHORT, wiring="random", strength=0.9, tau=1e-3, input_scale=0.01)[0]
    assert final["r2"] < descent(**SHORT)[0]["r2"]
    assert final["pretrained_r2"] != descent(**SHORT, wiring="random", strength=0.5)[0]["pretrained_r2"]


def test_a_few_samples_are_shown_from_the_first_window_on():
    arrays = descent(**{**SHORT, "samples": 3})[2]
    assert arrays["third_factor_time"].tolist() == [0.0, 20.0, 40.0]


@pytest.mark.parametrize("settings", [{"samples": 0}, {"rate": -1.0}, {"window": 1}, {"units": 0}])
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(UsageError, match=next(iter(settings))):
        descent(**{**SHORT, **settings})

"""Rules on a user's own nn.Sequential, and the closed form of local gradients in residual blocks against autograd."""

import contextlib

import pytest
import torch
from torch import nn

from functional import oracles
from functional.oracles import assert_close
from infohebb import KernelizedBottleneck, evaluate, load_network, rules, train
from infohebb.errors import MismatchError
from infohebb.networks import DivisiveNorm, Residual, from_sequential
from infohebb.training import Checkpoints
from rules.walk import LABELS, objective_terms

IMAGE = (2, 8, 8)
Y = oracles.label_gram(LABELS, 3)


def keeping(below, above):
    return nn.Conv2d(below, above, 3, padding=1)


def dense():
    layers = [
        nn.Flatten(),
        nn.Linear(128, 16, bias=False),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(16, 12),
    ]
    return nn.Sequential(*layers, nn.Tanh(), nn.LayerNorm(12, elementwise_affine=False), nn.Linear(12, 3, bias=False))


def convolutional():
    first = nn.Conv2d(2, 6, 3, padding=1, bias=False)
    layers = [first, nn.BatchNorm2d(6), nn.LeakyReLU(0.1), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, 2), nn.SELU()]
    return nn.Sequential(*layers, nn.AlphaDropout(0.1), nn.Flatten(), nn.Linear(8, 3))


def residual():
    below = [keeping(2, 6), nn.Tanh(), nn.MaxPool2d(2), Residual(nn.Sequential(keeping(6, 6), nn.ReLU()))]
    above = [nn.Flatten(), nn.Linear(24, 12), nn.SELU(), Residual(nn.Sequential(nn.Linear(12, 12), nn.Tanh()))]
    return nn.Sequential(*below, nn.MaxPool2d(2), *above, nn.Linear(12, 3))


def normalised():
    layers = [keeping(2, 8), nn.ReLU(), nn.AvgPool2d(2), nn.GroupNorm(4, 8, affine=False), keeping(8, 8), nn.ReLU()]
    whole = [nn.AdaptiveAvgPool2d(1), nn.GroupNorm(4, 8, affine=False)]
    return nn.Sequential(*layers, *whole, nn.Flatten(), nn.Linear(8, 3))


OWN = [dense, convolutional, residual, normalised]
every_network = pytest.mark.parametrize("make", OWN, ids=lambda make: make.__name__)


def fits(rule, make):
    """Whether a rule of a stream trains that network: one without maxima, batch norm and dropout, by windows."""
    return rule.consumes == "window" and make is normalised


@every_network
@pytest.mark.parametrize("name", rules.registry())
def test_every_rule_takes_a_step_in_it(make, name):
    torch.manual_seed(0)
    sequential, rule = make(), rules.registry()[name]()
    frozen = next(sequential.parameters()).requires_grad_(False)
    network = from_sequential(sequential, IMAGE)
    if isinstance(rule, rules.SettlingRule):
        with pytest.raises(MismatchError, match=f"^{name} trains a [A-Z][A-Za-z]+Network network, not a Layered$"):
            rule.attach(network)
        return
    if rule.consumes != "batch":
        refused = r"blocks.0 (is a convolution|has batch or layer norm|has batch norm or dropout|takes maxima)"
        with contextlib.nullcontext() if fits(rule, make) else pytest.raises(MismatchError, match=refused):
            rule.attach(network)
        if not fits(rule, make):
            return
    rule.attach(network)
    before = {key: tensor.clone() for key, tensor in sequential.state_dict().items()}
    learns = {parameter for group in rule.groups(network).values() for parameter in group}
    rule.learn(network, torch.randn(7, *IMAGE), LABELS)
    torch.optim.SGD(learns, lr=0.1).step()
    for key, parameter in sequential.named_parameters():
        assert torch.isfinite(parameter).all(), key
        assert (parameter.grad is not None) == (parameter in learns), key
        assert torch.equal(parameter, before[key]) == (parameter not in learns), key
    assert frozen not in learns


def oriented_stripes(count, seed):
    """Pictures of horizontal, vertical and no stripes, in noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    phase = torch.randint(2, (count, 1), generator=generator)
    stripes = ((torch.arange(8) + phase) % 2 * 2.0 - 1)[:, None, None, :].expand(count, 2, 8, 8)
    pictures = torch.stack([stripes, stripes.transpose(2, 3), torch.zeros_like(stripes)])[labels, torch.arange(count)]
    return pictures + 0.5 * torch.randn(count, *IMAGE, generator=generator), labels


@every_network
def test_it_learns_and_its_checkpoint_fits_another_one_like_it(make, tmp_path):
    torch.manual_seed(0)
    sequential, other = make(), from_sequential(make(), IMAGE)
    network, test = from_sequential(sequential, IMAGE), oriented_stripes(150, seed=1)
    options = {"epochs": 8, "batch": 30, "optimizer": {"name": "adam", "lr": 1e-2}, "progress": False}
    checkpoints = Checkpoints(tmp_path / "ck")
    train(network, KernelizedBottleneck(kernel="cosine"), oriented_stripes(300, 0), checkpoints=checkpoints, **options)
    assert evaluate(network, test)["accuracy"] > 80
    loaded = load_network(tmp_path / "ck", other)
    assert torch.equal(loaded(test[0]), network(test[0]))
    with torch.no_grad():
        assert_close(network(test[0]), sequential.eval()(test[0]), 1e-5)


GROUPED = {"groups": 4, "power": 0.7, "delta": 0.6, "sigma": 0.4}
ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "selu": nn.SELU, "tanh": nn.Tanh, "none": nn.Identity}
POOLS = {"no pool": nn.Identity(), "pool": nn.MaxPool2d(2), "overlapping pool": nn.MaxPool2d(3, 2, 1)}


def assert_gradients_are_autograds(inner, pool, x, settings, given, after):
    """Of the objective of one residual block: z = x + f(Wx), pooled, batch norm by the batch's own statistics."""
    features = pool(x).flatten(1).shape[1]
    chain = nn.Sequential(Residual(inner), pool, *after, nn.Flatten(), nn.Linear(features, 3)).double()
    network = from_sequential(chain, tuple(x.shape[1:]))
    rule = KernelizedBottleneck(**given)
    rule.attach(network)
    seen = rule.learn(network, x, LABELS)
    found = {name: parameter.grad.clone() for name, parameter in inner.named_parameters()}
    terms = objective_terms(pool(x + inner.train()(x)).flatten(1), x, Y, settings)
    expected = torch.autograd.grad(terms["objective"], list(inner.parameters()))
    assert_close(seen.objectives["blocks.0"]["objective"], terms["objective"].detach(), 1e-9)
    largest = max(float(gradient.abs().max()) for gradient in expected)
    for (name, gradient), wanted in zip(found.items(), expected, strict=True):
        assert_close(gradient, wanted, 1e-9, name, largest)


MODES = {
    "plain": ({"sigma": 1.5}, {"sigma": 1.5}, []),
    "cosine": ({"kernel": "cosine", "centre": True}, {"kernel": "cosine", "centre": True}, []),
    "grouped": (GROUPED, GROUPED, []),
    "divisive": (GROUPED, {"sigma": 0.4}, [DivisiveNorm(4, 0.3, 0.6)]),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("pool", POOLS)
def test_local_gradients_of_residual_maps(mode, activation, pool):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4) if activation in ("tanh", "leaky_relu") else nn.Identity()
    inner = nn.Sequential(keeping(4, 4), norm, ACTIVATIONS[activation]()).double()
    x = torch.randn(7, 4, 4, 4, dtype=torch.float64)
    assert_gradients_are_autograds(inner, POOLS[pool], x, *MODES[mode])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_local_gradients_of_residual_rows(mode, activation, norm):
    torch.manual_seed(0)
    before, after = nn.Identity(), nn.Identity()
    if norm == "batch":
        before = nn.BatchNorm1d(8)
    elif norm == "layer":
        after = nn.LayerNorm(8, elementwise_affine=False)
    inner = nn.Sequential(nn.Linear(8, 8), before, ACTIVATIONS[activation](), after).double()
    x = torch.randn(7, 8, dtype=torch.float64)
    assert_gradients_are_autograds(inner, nn.Identity(), x, *MODES[mode])

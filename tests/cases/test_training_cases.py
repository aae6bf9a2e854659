"""Inputs on which version 0.1 failed, distilled from public reports; each is shared/cases/NN on the new path."""

import threading

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.data import DataLoader, IterableDataset

import infohebb
from infohebb.networks.plain import MLP


def arrays(samples=60):
    x = torch.randn(samples, 8, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0] > 0).long()


class Stream(IterableDataset):
    def __iter__(self):
        return iter(zip(*arrays(), strict=True))


def test_01_a_loader_without_a_length():
    """huggingface/transformers #5990."""
    loader = DataLoader(Stream(), batch_size=20)
    history = infohebb.train(MLP(8, 2, (16,)), infohebb.Backprop(), loader, epochs=2, progress=False)
    assert len(history["epoch"]) == 2
    assert history["samples"][0] == 60


@pytest.mark.parametrize("by", ["scheduler", "hand"])
def test_02_rates_between_calls_stay_as_the_user_left_them(by):
    """SPOClab-ca/dn3 #6; skorch #505."""
    network, rule = MLP(8, 2, (16,)), infohebb.Backprop()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
    rates = []
    for _ in range(3):
        options = {"epochs": 1, "batch": 20, "optimizer": optimizer, "progress": False}
        rates += infohebb.train(network, rule, arrays(), **options)["learning_rate"]["group0"]
        if by == "scheduler":
            scheduler.step()
        else:
            optimizer.param_groups[0]["lr"] /= 10
    assert rates == pytest.approx([1.0, 0.1, 0.01])


@pytest.mark.parametrize("name", ["Backprop", "KernelizedBottleneck", "HSICBottleneck", "LayerwiseClassification"])
def test_04_a_loop_inside_autocast(name):
    """fangwei123456/spikingjelly #36; a comment in pytorch #120376."""
    network = MLP(8, 2, (16, 16))
    before = network.readout.weight.detach().clone()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        infohebb.train(network, getattr(infohebb, name)(), arrays(), epochs=1, batch=20, progress=False)
    assert not torch.equal(network.readout.weight, before)


@pytest.mark.parametrize("rule", [infohebb.Backprop, infohebb.KernelizedBottleneck])
@pytest.mark.parametrize(
    "change",
    [
        lambda network: prune.l1_unstructured(layer_of(network), "weight", amount=0.3),
        lambda network: prune.l1_unstructured(network.readout, "weight", amount=0.3),
        lambda network: parametrizations.weight_norm(layer_of(network)),
    ],
    ids=["prune layer", "prune readout", "weight norm"],
)
def test_05_pruned_and_weight_normed_layers_learn(change, rule):
    """openvinotoolkit/nncf PR #1309; pytorch #20402."""
    network = MLP(8, 2, (16,))
    change(network)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    optimizer = {"name": "sgd", "lr": 0.5}
    infohebb.train(network, rule(), arrays(200), epochs=5, batch=20, optimizer=optimizer, progress=False)
    assert [name for name, parameter in network.named_parameters() if torch.equal(parameter, before[name])] == []


def layer_of(network):
    return next(module for module in network.layers.modules() if isinstance(module, nn.Linear))


def in_threads(calls):
    """Return what functions return that run in a thread each, at the same time."""
    found = [None] * len(calls)

    def go(place):
        found[place] = calls[place]()

    threads = [threading.Thread(target=go, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def classifier(seed):
    def run():
        x, y = (each.numpy() for each in arrays())
        made = infohebb.LocalClassifier(hidden=16, epochs=4, batch=15, random_state=seed)
        return torch.tensor(made.fit(x, y).predict_proba(x))

    return run


def training(seed):
    torch.manual_seed(9)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 2))

    def run():
        learner = infohebb.Learner(model, infohebb.Backprop(), example=(8,))
        infohebb.train(model, learner.rule, arrays(), epochs=8, batch=10, seed=seed, progress=False)
        return infohebb.predict(model, arrays()[0])

    return run


@pytest.mark.parametrize("make", [classifier, training])
def test_15_fits_in_threads(make):
    """pytorch #39716; LaurentMazare/tch-rs #263."""
    together = in_threads([make(seed) for seed in range(4)])
    for seed, found in enumerate(together):
        assert torch.equal(make(seed)(), found)


def test_26_a_frozen_batch_norm_in_eval_mode_stays():
    """pytorch #86590; chemprop PR #952."""
    x, y = arrays(400)
    network = MLP(8, 2, (16, 16), norm="batch")
    optimizer = {"name": "adam", "lr": 1e-2}
    infohebb.train(network, infohebb.Backprop(), (x, y), epochs=3, batch=40, optimizer=optimizer, progress=False)
    network.layers.requires_grad_(False).eval()

    def features(given):
        for layer in network.layers:
            given = layer(given)
        return given

    before = features(x)
    infohebb.train(network, infohebb.LastLayer(), (2 * x + 1, y), epochs=2, batch=40, progress=False)
    assert torch.equal(features(x), before)

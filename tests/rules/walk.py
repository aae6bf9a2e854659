"""What a rule's `learn` should have done, from autograd of objectives written here, one block at a time."""

import torch
from torch import nn

from functional import oracles
from functional.oracles import assert_close, normal
from infohebb.networks import MLP
from networks.plain_torch import activity, block_parameters, output

X = normal(7, 5, seed=50)
LABELS = torch.tensor([0, 1, 2, 2, 1, 2, 2])


def objective_terms(z, inputs, Y, settings):
    """Compression, relevance and objective of an activity, by the keyword arguments of KernelizedBottleneck."""
    kernel, sigma, name = (
        settings.get("kernel", "gaussian"),
        settings.get("sigma", 5.0),
        settings.get("objective", "phsic"),
    )
    if settings.get("groups"):
        v = oracles.group_signal(z, settings["groups"], settings.get("power", 0.5), settings.get("delta", 1.0))
    else:
        v = z - z.mean(1, keepdim=True) if settings.get("centre") else z
    K = oracles.GRAMS[kernel](v, sigma)
    input_gram = oracles.GRAMS[settings.get("input_kernel", kernel)](inputs.flatten(1), sigma)
    compression, relevance = oracles.TERMS[name](K, Y, input_gram)
    return {
        "objective": compression - settings.get("gamma", 2.0) * relevance,
        "compression": compression,
        "relevance": relevance,
    }


def local_gradients(network, Y, settings, masks=None, inputs=X, **options):
    """For each block: gradients of its objective by its own parameters, and the terms.  Then the readout's input."""
    found, x = {}, inputs
    for position, (name, _) in enumerate(network.named_blocks()):
        parameters = block_parameters(network, position)
        z = activity(x, parameters, **options)
        terms = objective_terms(z, inputs, Y, settings)
        gradients = torch.autograd.grad(terms["objective"], list(parameters.values()))
        found[name] = dict(zip(parameters, gradients, strict=True)), {key: t.detach() for key, t in terms.items()}
        x = output(z, **options).detach()
        x = x if masks is None else masks[position](x)
    return found, x


def readout_gradients(network, x, targets):
    weight, bias = (p.detach().clone().requires_grad_() for p in (network.readout.weight, network.readout.bias))
    loss = nn.functional.mse_loss if targets.is_floating_point() else nn.functional.cross_entropy
    value = loss(x @ weight.T + bias, targets)
    value.backward()
    return value.detach(), {"weight": weight.grad, "bias": bias.grad}


def assert_learned_locally(network, diagnostics, found, x, targets, rtol):
    """Each block's `.grad` and terms, and the readout's, are those found by autograd."""
    for name, (gradients, terms) in found.items():
        assert_gradients(network.get_submodule(name), gradients, rtol, name)
        for term, value in terms.items():
            assert_close(diagnostics.objectives[name][term], value, rtol, f"{name} {term}")
    assert_readout_learned(network, diagnostics, x, targets)


def assert_gradients(layer, gradients, rtol, name=""):
    """To `rtol` of the layer's largest entry: a bias before batch norm has none at all."""
    largest = max(gradient.abs().max().item() for gradient in gradients.values())
    assert {name for name, parameter in layer.named_parameters() if parameter.grad is not None} == gradients.keys()
    for parameter, gradient in gradients.items():
        assert_close(layer.get_parameter(parameter).grad, gradient, rtol, f"{name}.{parameter}", largest)


def assert_readout_learned(network, diagnostics, x, targets):
    loss, gradients = readout_gradients(network, x, targets)
    assert_close(diagnostics.loss, loss, 1e-12)
    assert_gradients(network.readout, gradients, 1e-10, "readout")


def learn_in_bf16(rule):
    """A network in float32 whose two blocks round their products, and the signals that it learned from."""
    torch.manual_seed(0)
    network = MLP(64, 10, (64, 64), nonlinearity="identity")
    network.precision = "bf16"
    signals = rule.learn(network, normal(40, 64).float(), torch.arange(40) % 10, record=True).signals
    return network, signals


def assert_only_blocks_round_their_updates(rule):
    network, signals = learn_in_bf16(rule)
    for name, block in network.named_blocks():
        assert torch.equal(block.weight.grad, rule.update(signals[name], "bf16")["weight"])
        assert not torch.equal(block.weight.grad, rule.update(signals[name])["weight"])
    assert torch.equal(network.readout.weight.grad, rule.update(signals["readout"])["weight"])


def dropout_masks(drop, widths, rate):
    """The masks that `learn` draws after seed 0, as functions: from two constants dropped at the same positions."""
    torch.manual_seed(0)
    masks = []
    for width in widths:
        before = torch.get_rng_state()
        at_zero = drop(torch.zeros(len(X), width, dtype=torch.float64), rate)
        torch.set_rng_state(before)
        at_one = drop(torch.ones(len(X), width, dtype=torch.float64), rate)
        masks.append(lambda x, zero=at_zero, one=at_one: zero + (one - zero) * x)
    return masks

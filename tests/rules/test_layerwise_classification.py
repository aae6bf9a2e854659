"""Each block and its classifier against autograd of the classifier's loss; what is sent back, and what stays."""

import pytest
import torch
from torch import nn

from functional.oracles import assert_close, normal
from infohebb import train
from infohebb.errors import MismatchError, UnknownNameError
from infohebb.networks import MLP, ConvNet
from infohebb.rules import LayerwiseClassification

IMAGES, LABELS = normal(6, 2, 8, 8, seed=3), torch.tensor([0, 1, 2, 2, 1, 0])
SETTINGS = {
    "dense": lambda: MLP((2, 8, 8), 3, (16, 12), bias=True, divisive_norm={"groups": 4}),
    "batch norm": lambda: MLP((2, 8, 8), 3, (16, 12), norm="batch", nonlinearity="selu"),
    "layer norm": lambda: MLP((2, 8, 8), 3, (16, 12), norm="layer", nonlinearity="tanh"),
    "maps": lambda: ConvNet((2, 8, 8), 3, (8, 4), (1,), (12,), divisive_norm={"groups": 4}),
    "maps, batch norm": lambda: ConvNet((2, 8, 8), 3, (8, 4), (2,), (12,), norm="batch", nonlinearity="leaky_relu"),
}


def attached(rule, network):
    torch.manual_seed(1)
    rule.attach(network)
    return rule


def expected(rule, network, position, x, loss):
    """Gradients of a block and its classifier by autograd, where the feedback stands in for the classifier's weight."""
    block, classifier = network.blocks[position], rule.classifiers[position]
    activity = block.respond(x, learning=True).activity
    z = activity
    if z.dim() == 4:
        cells = rule.projection // z.shape[1]
        columns = int(cells**0.5)
        z = nn.functional.adaptive_avg_pool2d(z, (cells // columns, columns))
    z = z.flatten(1)
    value = loss(classifier(z))
    own = torch.autograd.grad(value, list(classifier.parameters()), retain_graph=True)
    weight = classifier.weight.detach()
    feedback = {"exact": weight, "sign": weight.sign()}.get(rule.feedback)
    feedback = rule.fixed[position] if feedback is None else feedback
    logits = classifier(z).detach().requires_grad_()
    (error,) = torch.autograd.grad(loss(logits), logits)
    named = dict(block.named_parameters())
    gradients = torch.autograd.grad(z, list(named.values()), error @ feedback)
    emitted = block.emit(activity.detach(), learning=True)
    return value.detach(), dict(zip(named, gradients, strict=True)), own, emitted


@pytest.mark.parametrize("make", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("feedback", ["exact", "random", "sign"])
def test_a_block_and_its_classifier_learn_as_autograd_says(make, feedback):
    network = make().double()
    rule, x = attached(LayerwiseClassification(feedback, projection=64), network), IMAGES
    seen = rule.learn(network, IMAGES, LABELS)
    for position, (name, block) in enumerate(network.named_blocks()):
        value, gradients, own, x = expected(
            rule, network, position, x, lambda logits: nn.functional.cross_entropy(logits, LABELS)
        )
        assert_close(seen.objectives[name]["objective"], value, 1e-12)
        largest = max(gradient.abs().max().item() for gradient in gradients.values())
        for parameter, gradient in gradients.items():
            assert_close(block.get_parameter(parameter).grad, gradient, 1e-10, f"{name}.{parameter}", largest)
        for parameter, gradient in zip(rule.classifiers[position].parameters(), own, strict=True):
            assert_close(parameter.grad, gradient, 1e-10)


def test_numbers_are_learned_by_their_squared_error():
    network, targets = MLP((2, 8, 8), 3, (16,)).double(), normal(6, 3, seed=8)
    rule = attached(LayerwiseClassification(), network)
    seen = rule.learn(network, IMAGES, targets)
    value, gradients, *_ = expected(rule, network, 0, IMAGES, lambda numbers: nn.functional.mse_loss(numbers, targets))
    assert_close(seen.objectives["blocks.0"]["objective"], value, 1e-12)
    assert_close(network.blocks[0].weight.grad, gradients["weight"], 1e-10)


@pytest.mark.parametrize(
    ("channels", "projection", "features"),
    [(128, 2048, 128 * 16), (256, 2048, 256 * 8), (512, 2048, 512 * 4), (1024, 2048, 1024 * 2), (32, 512, 32 * 16)],
)
def test_maps_are_averaged_over_the_papers_windows(channels, projection, features):
    with torch.device("meta"):
        network, rule = (
            ConvNet(channels=(channels,), pooled=(), widths=()),
            LayerwiseClassification("random", projection),
        )
        rule.attach(network)
    assert rule.classifiers[0].weight.shape == rule.fixed[0].shape == (10, features)


def test_windows_are_higher_than_wide_where_their_number_is_no_square():
    network = ConvNet((2, 8, 8), 3, (4,), (), ()).double()
    rule = attached(LayerwiseClassification(projection=32), network)  # 8 windows: 4 high, 2 wide
    signals = rule.learn(network, IMAGES, LABELS, record=True).signals
    assert signals["blocks.0"]["post"].shape == (3, 4, 4, 2)


def test_what_it_drew_stays_with_the_network_and_goes_with_it():
    network = MLP(8, 3, (6, 5))
    rule = attached(LayerwiseClassification("random"), network)
    before = {name: tensor.clone() for name, tensor in rule.state_dict().items()}
    rule.attach(network)
    assert all(torch.equal(rule.state_dict()[name], tensor) for name, tensor in before.items())
    rule.attach(network.double())
    assert {tensor.dtype for tensor in rule.state_dict().values()} == {torch.float64}
    rule.attach(MLP(8, 3, (6,)))
    assert rule.state_dict().keys() == {"classifiers.0.weight", "classifiers.0.bias", "fixed.0"}
    assert not torch.equal(rule.classifiers[0].weight, before["classifiers.0.weight"])


def test_a_seed_decides_what_a_rule_learns_though_it_was_used_before():
    data, found, rule = (normal(20, 8).float(), torch.arange(20) % 3), [], LayerwiseClassification("random")
    for _ in range(2):
        torch.manual_seed(1)
        network = MLP(8, 3, (6,))
        train(network, rule, data, epochs=1, batch=10, seed=0, progress=False)
        found.append(network.blocks[0].weight)
    assert torch.equal(*found)


def test_it_wants_to_be_attached_first():
    for rule in (LayerwiseClassification(), LayerwiseClassification("random")):
        with pytest.raises(MismatchError, match=r"call rule.attach\(network\) first"):
            rule.learn(MLP(128, 3, (6,)).double(), IMAGES, LABELS)


def test_an_optimizer_that_lacks_the_classifiers_is_refused():
    network, rule, data = MLP(8, 3, (6,)), LayerwiseClassification(), (normal(20, 8).float(), torch.arange(20) % 3)
    with pytest.raises(MismatchError, match=r"parameters of its own that the optimizer lacks: call rule.attach"):
        train(network, rule, data, epochs=1, optimizer=torch.optim.SGD(network.parameters(), lr=0.1), progress=False)
    optimizer = torch.optim.SGD([p for group in rule.groups(network).values() for p in group], lr=0.1)
    before = rule.classifiers[0].weight.clone()
    train(network, rule, data, epochs=1, optimizer=optimizer, progress=False)
    assert not torch.equal(rule.classifiers[0].weight, before)


def test_classifiers_are_trained_and_predict_nothing():
    network, rule = MLP(8, 3, (6,)), LayerwiseClassification()
    data = normal(20, 8).float(), torch.arange(20) % 3
    train(network, rule, data, epochs=1, batch=20, seed=0)
    before = rule.classifiers[0].weight.clone()
    train(network, rule, data, epochs=1, batch=20)
    assert not torch.equal(rule.classifiers[0].weight, before)
    answer = network(data[0])
    nn.init.zeros_(rule.classifiers[0].weight)
    assert torch.equal(network(data[0]), answer)


def test_what_it_cannot_be_is_said():
    for word, value in {"feedback": "rando", "projection": 0}.items():
        rule = LayerwiseClassification()
        setattr(rule, word, value)
        with pytest.raises((UnknownNameError, MismatchError), match=f"{word} '?{value}"):
            rule.attach(MLP(8, 3, (6,)))
    with pytest.raises(MismatchError, match=r"blocks.0 has 8 channels; take a projection of at least as many"):
        LayerwiseClassification(projection=7).attach(ConvNet((2, 8, 8), 3, (8,), (), ()))

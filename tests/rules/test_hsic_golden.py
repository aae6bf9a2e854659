"""The working-memory paper's reference code: single steps and short runs of its networks, number by number.

Each on both paths: networks of blocks, to which a rule is attached, and plain modules, which a Learner trains.
"""

import pytest
import torch
from torch import nn

from functional.oracles import golden
from infohebb import Learner, networks
from infohebb.networks import plain
from infohebb.rules import HSICBottleneck, HSICMemory

RULES = {"hsic": None, "biohsic_head": "head", "biohsic_pub": "pub", "head": "head", "pub": "pub"}


class Blocks:
    """Networks of blocks, to which a rule is attached."""

    MLP, ConvNet, LeakyMLP = networks.MLP, networks.ConvNet, networks.LeakyMLP
    stack, unstack = staticmethod(networks.side_by_side), staticmethod(networks.alone)

    @staticmethod
    def weight_layers(network):
        return [block for _, block in network.named_blocks()] + [network.readout]

    @staticmethod
    def potentials(network):
        return [layer.potential for layer in Blocks.weight_layers(network)]

    @staticmethod
    def learner(network, rule):
        """What learns from one window, and returns its loss and the first layer's objective."""
        rule.attach(network)

        def learn(X, Y, **options):
            seen = rule.learn(network, X, Y, **options)
            return seen.loss, seen.objectives.get("blocks.0", {}).get("objective")

        return learn

    @staticmethod
    def logits(network, X):
        """Logits in evaluation, of several networks one after the other."""
        return network(X)


class Plain(Blocks):
    """Plain modules, which a Learner trains."""

    MLP, ConvNet, LeakyMLP = plain.MLP, plain.ConvNet, plain.LeakyMLP
    stack, unstack = staticmethod(plain.stack_networks), staticmethod(plain.unstack)

    @staticmethod
    def weight_layers(network):
        activities = [layer.activity for layer in network.layers]
        readout = network.readout if isinstance(network.readout, nn.Linear) else network.readout[0]
        return [each[0] for each in activities] + [readout]

    @staticmethod
    def potentials(network):
        return [each.potential for each in network.modules() if isinstance(each, plain.LeakyIntegrator)]

    @staticmethod
    def learner(network, rule):
        learner = Learner(network, rule)

        def learn(X, Y, **options):
            step = learner.backward(X, Y, **options)
            return step.loss, step.terms.get("layers.0", {}).get("objective")

        return learn

    @staticmethod
    def logits(network, X):
        with torch.no_grad():
            logits = network.eval()(X)
        network.train()
        return logits if logits.dim() == 2 else logits.transpose(0, 1)


on_both_paths = pytest.mark.parametrize("path", [Blocks, Plain], ids=["blocks", "learner"])


def close(ours, theirs, what):
    torch.testing.assert_close(ours, theirs.double(), rtol=1e-9, atol=1e-12, msg=lambda text: f"{what}: {text}")


def rule_of(name, arrays):
    sigma_x, sigma_y, sigma_z = arrays["sigmas"].tolist()
    widths = {"gamma": float(arrays["gamma"]), "sigma_x": sigma_x, "sigma_y": sigma_y, "sigma_z": sigma_z}
    modulator = RULES[name]
    return HSICBottleneck(**widths) if modulator is None else HSICMemory(modulator, **widths)


def as_theirs(parameter):
    """Weights from (in, out) to (out, in), filters from (rows, columns, in, out) to (out, in, rows, columns)."""
    return parameter.T if parameter.dim() == 2 else parameter.permute(3, 2, 0, 1) if parameter.dim() == 4 else parameter


def parameters(path, network, names):
    """Ours by their names, such as Dense_0_kernel."""
    found = {}
    for name, layer in zip(names, path.weight_layers(network), strict=True):
        found |= {f"{name}_kernel": layer.weight, f"{name}_bias": layer.bias}
    return found


def load(path, network, arrays, names):
    for name, parameter in parameters(path, network, names).items():
        parameter.data.copy_(as_theirs(arrays[f"p0_{name}"]))


def optimizer_of(network, kind, arrays):
    if kind == "sgd":
        return torch.optim.SGD(network.parameters(), float(arrays["lr_sgd"]))
    return torch.optim.AdamW(network.parameters(), float(arrays["lr_adamw"]), betas=(0.9, 0.99), weight_decay=1e-4)


def images(X):
    return X.permute(0, 3, 1, 2) if X.dim() == 4 else X


def step(learn, optimizer, arrays, first, **options):
    """One window from `first`, and an update; its loss before that."""
    N = int(arrays["N"])
    X, Y = images(arrays["X"].double())[first : first + N], arrays["Y"][first : first + N].argmax(1)
    optimizer.zero_grad(set_to_none=True)
    loss, _ = learn(X, Y, **options)
    optimizer.step()
    return loss


def feed_forward(path, arrays):
    sizes = arrays["layer_sizes"].tolist()
    settings = {"nonlinearity": "relu", "norm": "layer", "norm_epsilon": 1e-6, "bias": True}
    network = path.MLP(sizes[0], sizes[-1], sizes[1:-1], **settings).double()
    names = [f"Dense_{place}" for place in range(len(sizes) - 1)]
    load(path, network, arrays, names)
    return network, names


@on_both_paths
@pytest.mark.parametrize("name", ["hsic", "biohsic_head", "biohsic_pub"])
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize("file", ["ff_one_hidden"])
def test_fully_connected_networks_learn_as_the_references(file, name, kind, path):
    arrays = golden(f"../wmh/{file}")
    network, names = feed_forward(path, arrays)
    learn = path.learner(network, rule_of(name, arrays))
    optimizer = optimizer_of(network, kind, arrays)
    for first in range(4):
        close(step(learn, optimizer, arrays, first), arrays[f"loss_{name}_{kind}"][first], "loss")
        if first == 0:
            for key, parameter in parameters(path, network, names).items():
                close(parameter.grad, as_theirs(arrays[f"grad_{name}_{key}"]), key)
        if first in (0, 3):
            for key, parameter in parameters(path, network, names).items():
                close(parameter.detach(), as_theirs(arrays[f"p{first + 1}_{name}_{kind}_{key}"]), key)


@on_both_paths
def test_the_objective_is_the_references(path):
    arrays = golden("../wmh/ff_one_hidden")
    network, _ = feed_forward(path, arrays)
    sigmas = dict(zip(("sigma_x", "sigma_y", "sigma_z"), arrays["sigmas"].tolist(), strict=True))
    for rule in (
        HSICMemory(gamma=float(arrays["gamma"]), objective=True, **sigmas),
        HSICBottleneck(gamma=float(arrays["gamma"]), **sigmas),
    ):
        network.zero_grad()
        _, objective = path.learner(network, rule)(arrays["X"][:6].double(), arrays["Y"][:6].argmax(1))
        close(objective, arrays["obj_dense_0"][0], "objective")


@on_both_paths
@pytest.mark.parametrize("name", ["hsic", "biohsic_head", "biohsic_pub"])
def test_convolutional_networks_learn_as_the_references(name, path):
    arrays = golden("../wmh/cnn_two_conv")
    settings = {"nonlinearity": "relu", "norm": "layer", "norm_epsilon": 1e-6, "bias": True, "pooling": "average"}
    network = path.ConvNet((2, 8, 8), 3, (3, 4), (1, 2), (), **settings).double()
    names = ["Conv_0", "Conv_1", "Dense_0"]
    for key, parameter in parameters(path, network, names).items():
        parameter.data.copy_(flattened_as_ours(as_theirs(arrays[f"p0_{key}"]), key))
    learn = path.learner(network, rule_of(name, arrays))
    optimizer = optimizer_of(network, "sgd", arrays)
    for first in range(2):
        close(step(learn, optimizer, arrays, first), arrays[f"loss{first}_{name}"], "loss")
        for key, parameter in parameters(path, network, names).items():
            theirs = flattened_as_ours(as_theirs(arrays[f"p{first + 1}_{name}_sgd_{key}"]), key)
            close(parameter.detach(), theirs, key)


def flattened_as_ours(weight, key):
    """Their readout takes maps flattened (rows, columns, channels), ours (channels, rows, columns)."""
    return weight.view(3, 2, 2, 4).permute(0, 3, 1, 2).flatten(1) if key == "Dense_0_kernel" else weight


class Shifted(nn.Module):
    """One unit, whose activity is what it was given, plus zeros that learn."""

    def __init__(self, z):
        super().__init__()
        self.unit = nn.Module()
        self.unit.shift = nn.Parameter(torch.zeros_like(z))
        self.unit.forward = lambda x: z + self.unit.shift

    def forward(self, x):
        return self.unit(x)


@pytest.mark.parametrize("prefix", ["n6", "n2", "n10", "conv"])
def test_errors_of_a_learners_unit_are_the_references_modulators(prefix):
    arrays = golden("../wmh/modulator_xi")
    x, y, z = (arrays[f"{prefix}_{name}"] for name in "xyz")
    settings = dict(zip(("sigma_x", "sigma_y", "sigma_z"), arrays[f"{prefix}_sigmas"].tolist(), strict=True))
    names = {"exact": "grad_last", "head": "xi_head", "pub": "xi_pub", "row": "xi_row_nonref"}
    checked = 0
    for modulator, name in names.items():
        model, rule = Shifted(z), HSICMemory(modulator, gamma=float(arrays[f"{prefix}_gamma"]), **settings)
        Learner(model, rule, "unit", head=False, classes=y.shape[1]).backward(x, y.argmax(1))
        if f"{prefix}_{name}" in arrays:
            close(model.unit.shift.grad[-1], arrays[f"{prefix}_{name}"], name)
            assert not model.unit.shift.grad[:-1].any()
            checked += 1
    assert checked >= 3


def leaky(path, arrays):
    sizes = [arrays["X"].shape[1], *arrays["layer_sizes"].tolist()[-3:]]
    options = {"slots": int(arrays["N"]), "steps": int(arrays["ntimesteps"])}
    network = path.LeakyMLP(
        sizes[0], sizes[-1], sizes[1:-1], tau=float(arrays["tau"]), dt=float(arrays["dt"]), **options
    ).double()
    names = [f"LIFDenseCell_{place}" for place in range(len(sizes) - 1)]
    load(path, network, arrays, names)
    return network, names


def check_state(path, network, names, arrays, prefix):
    for place, potential in enumerate(path.potentials(network)):
        close(potential, arrays[f"{prefix}_u{place}"], f"{prefix} u{place}")
    for key, parameter in parameters(path, network, names).items():
        close(parameter.detach(), as_theirs(arrays[f"{prefix}_{key}"]), f"{prefix} {key}")


@on_both_paths
@pytest.mark.parametrize("name", ["head", "pub"])
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_leaky_networks_learn_as_the_references(name, kind, path):
    arrays = golden("../wmh/lif")
    network, names = leaky(path, arrays)
    learn = path.learner(network, rule_of(name, arrays))
    optimizer = optimizer_of(network, kind, arrays)
    for window in range(3):
        losses = []
        for t in range(int(arrays["ntimesteps"])):
            losses.append(step(learn, optimizer, arrays, window, onset=t == 0))
            if window == 0 and kind == "sgd":
                check_state(path, network, names, arrays, f"t{t + 1}_{name}_{kind}")
        if window == 0:
            close(torch.stack(losses), arrays[f"tloss_{name}_{kind}"], "losses")
        close(torch.stack(losses).mean(), arrays[f"wloss_{name}_{kind}"][window], "mean loss")
        check_state(path, network, names, arrays, f"w{window + 1}_{name}_{kind}")


@on_both_paths
def test_networks_side_by_side_learn_as_one_by_one(path):
    arrays = golden("../wmh/lif")
    singles = []
    for seed in range(3):
        network, _ = leaky(path, arrays)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for parameter in network.parameters():
                parameter.data += 0.3 * torch.randn_like(parameter)
        singles.append(network)
    together = path.stack(singles)
    trained = []
    for network in [*singles, together]:
        learn = path.learner(network, rule_of("pub", arrays))
        optimizer = optimizer_of(network, "adamw", arrays)
        for window in range(3):
            for t in range(6):
                step(learn, optimizer, arrays, window, onset=t == 0)
        trained.append(path.logits(network, arrays["X"].double()))
    for place, single in enumerate(singles):
        alone = path.unstack(together, place).state_dict()
        assert alone.keys() == single.state_dict().keys()
        for ours, theirs in zip(alone.values(), single.state_dict().values(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(trained[-1][place], trained[place], rtol=1e-12, atol=1e-12)

"""MLP and ConvNet: the weights and answers of the networks they replace, torch's semantics, units that are marked."""

import copy
import pickle

import pytest
import torch
from torch import nn

from functional.oracles import assert_close, normal
from infohebb import networks as old
from infohebb.errors import GroupingError, MismatchError, UnknownNameError
from infohebb.networks.plain import MLP, ConvNet, DivisiveNorm, Dropout
from infohebb.networks.unit import MarksUnits

MAPS = {"inputs": (2, 9, 8), "outputs": 3, "channels": (6, 4), "pooled": (1,), "widths": (8, 12)}
DENSE = {"inputs": (2, 3), "outputs": 3, "widths": (8, 12)}
OPTIONS = [
    {},
    {"norm": "batch", "bias": True, "nonlinearity": "tanh"},
    {"norm": "batch", "initial": "lecun", "nonlinearity": "relu", "norm_epsilon": 0.1},
    {"bias": True, "initial": "lecun", "nonlinearity": "identity", "divisive_norm": {"groups": 4}},
    {"nonlinearity": "selu", "dropout": 0.2, "divisive_norm": {"groups": 2, "power": 0.5, "delta": 0.3}},
    {"nonlinearity": "leaky_relu", "slope": 0.3, "norm": "layer", "divisive_norm": {"groups": 4}},
]
CASES = [(MLP, old.MLP, DENSE | options) for options in OPTIONS]
CASES += [(ConvNet, old.ConvNet, MAPS | options) for options in OPTIONS if options.get("norm") != "layer"]
CASES += [(ConvNet, old.ConvNet, MAPS | options | {"pooling": "average"}) for options in OPTIONS]
CASES += [(MLP, old.MLP, {"inputs": 4, "widths": ()}), (ConvNet, old.ConvNet, MAPS | {"factor": 1.5, "widths": ()})]


def made(make, settings, seed=3):
    torch.manual_seed(seed)
    return make(**settings)


def sample_shape(network):
    return network.inputs if isinstance(network, ConvNet) else (network.features,)


def renamed(state, network):
    """The state of an old network under the names of the new one."""
    names = dict(network.named_modules())
    found = {}
    for name, tensor in state.items():
        words = name.split(".")
        if words[0] == "blocks":
            child = f"layers.{words[1]}.activity."
            weights = "conv" if f"{child}conv" in names else "linear"
            name = child + (f"norm.{words[3]}" if words[2] == "batch_norm" else f"{weights}.{words[2]}")
        found[name] = tensor
    return found


@pytest.mark.parametrize(("new", "before", "settings"), CASES)
def test_weights_and_answers_are_those_of_the_networks_before(new, before, settings):
    network, other = made(new, settings), made(before, settings)
    expected = renamed(other.state_dict(), network)
    assert list(expected) == list(network.state_dict())
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in expected.items())
    network, other = network.double().eval(), other.double()
    with torch.no_grad():
        for position, buffer in enumerate(other.buffers()):
            if buffer.is_floating_point():
                buffer.copy_(normal(*buffer.shape, seed=position).exp())
    network.load_state_dict(renamed(other.state_dict(), network))
    x = normal(5, *sample_shape(network))
    assert_close(network(x), other(x), 1e-12)
    if x.dim() == 4:
        x, network = (a.to(memory_format=torch.channels_last) for a in (x, network))
        assert_close(network(x), other(x), 1e-12)


@pytest.mark.parametrize("settings", [DENSE, MAPS])
def test_batch_norm_has_torchs_modes(settings):
    network = made(ConvNet if "channels" in settings else MLP, settings | {"norm": "batch"}).double()
    activity, x = network.layers[0].activity, normal(5, *sample_shape(network))
    weights, norm = activity[0], activity.norm
    a = weights(x)
    axes = (0, *range(2, a.dim()))
    mean, variance = (values.detach() for values in (a.mean(axes), a.var(axes, correction=0)))
    got = []
    hook = norm.register_forward_hook(lambda *found: got.append(found[2].clone()))  # what follows overwrites it
    network(x)
    network.eval()(x)
    hook.remove()
    assert_close(norm.running_mean, 0.1 * mean, 1e-12)
    assert_close(norm.running_var, 0.9 + 0.1 * a.detach().var(axes), 1e-12)
    for seen, (m, v) in zip(got, [(mean, variance), (norm.running_mean, norm.running_var)], strict=True):
        m, v = (values.view(-1, *(1 for _ in axes[1:])) for values in (m, v))
        assert_close(seen, (a - m) / (v + 1e-5).sqrt(), 1e-12)


@pytest.mark.parametrize(("new", "before", "settings"), CASES)
def test_gradients_are_right_though_activations_overwrite(new, before, settings):
    network = made(new, settings | {"dropout": 0.0}).double()
    reference = copy.deepcopy(network)
    for module in reference.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    x, found = normal(5, *sample_shape(network)), []
    for each in (network, reference):
        leaf = x.clone().requires_grad_()
        loss = each(leaf).square().sum()
        found.append(torch.autograd.grad(loss, [leaf, *each.parameters()]))
    for one, other in zip(*found, strict=True):
        assert_close(one, other, 1e-12)


@pytest.mark.parametrize(("new", "before", "settings"), CASES)
def test_marked_units_are_where_and_what_they_say(new, before, settings):
    network, seen = made(new, settings), {}
    assert isinstance(network, MarksUnits)
    modules = dict(network.named_modules())
    for name, module in modules.items():
        module.register_forward_hook(lambda _, __, out, name=name: seen.update({name: tuple(out.shape[1:])}))
    answer = network(normal(5, *sample_shape(network)).float())
    marks = network.marked_units()
    assert [mark.name for mark in marks] == [f"layers.{place}" for place in range(len(network.layers))]
    for mark in marks:
        assert (seen[mark.activity], seen[mark.output]) == (mark.activity_shape, mark.output_shape)
        assert isinstance(modules.get(mark.norm), DivisiveNorm) == (settings.get("divisive_norm") is not None)
        inside = {id(parameter) for parameter in modules[mark.activity].parameters()}
        assert inside == {id(parameter) for parameter in modules[mark.output].parameters()}
    assert seen[network.marked_head()] == tuple(answer.shape[1:])


def test_the_papers_network_has_the_papers_parameters():
    with torch.device("meta"):
        network = ConvNet()
    assert sum(parameter.numel() for parameter in network.parameters()) == 8_893_834
    marks = network.marked_units()
    sizes = [(128, 32, 32), (256, 16, 16), (256, 16, 16), (512, 8, 8), (512, 4, 4), (512, 2, 2), (1024,)]
    assert [mark.activity_shape for mark in marks] == sizes
    assert network(torch.empty(7, 3, 32, 32, device="meta")).shape == (7, 10)


@pytest.mark.parametrize("name", ["gelu", "silu"])
@pytest.mark.parametrize("given", ["name", "class"])
def test_what_is_not_increasing_is_pooled_after_the_activation(name, given):
    make = {"gelu": nn.GELU, "silu": nn.SiLU}[name]
    network = ConvNet(**MAPS, nonlinearity=name if given == "name" else make)
    assert [child for child, _ in network.layers[0].activity.named_children()] == ["conv", "activation", "pool"]
    x = normal(2, 6, 4, 4)
    assert torch.equal(network.layers[0].activity.activation(x), make()(x))


def test_what_is_increasing_is_pooled_before_the_activation():
    children = [child for child, _ in ConvNet(**MAPS, norm="batch").layers[0].activity.named_children()]
    assert children == ["conv", "norm", "pool", "activation"]


def test_dropout_is_alpha_dropout_after_selu_only():
    kinds = [MLP(**DENSE, nonlinearity=f, dropout=0.2).layers[0].dropout for f in ("selu", nn.SELU, "relu")]
    assert [kind.alpha for kind in kinds] == [True, True, False]
    assert all(isinstance(kind, Dropout) and kind.rate == 0.2 for kind in kinds)
    assert MLP(**DENSE).layers[0].dropout is None


def test_dropout_acts_in_train_mode_only():
    network, x = MLP(**DENSE, dropout=0.5), normal(5, 6).float()
    assert not torch.equal(network(x), network(x))
    assert torch.equal(network.eval()(x), network(x))


def test_each_layer_has_a_divisive_norm_and_an_activation_of_its_own():
    network = MLP(**DENSE, divisive_norm=DivisiveNorm(4, 0.4, 0.5), nonlinearity=nn.PReLU)
    first, second = network.layers
    assert first.divisive_norm is not second.divisive_norm
    assert repr(first.divisive_norm) == "DivisiveNorm(groups=4, power=0.4, delta=0.5)"
    assert first.activity.activation is not second.activity.activation


@pytest.mark.parametrize(("make", "settings"), [(MLP, DENSE), (ConvNet, MAPS)])
def test_copies_and_pickles_answer_the_same(make, settings):
    network = made(make, settings | {"norm": "batch", "divisive_norm": {"groups": 4}, "dropout": 0.1}).eval()
    fresh = made(make, settings | {"norm": "batch", "divisive_norm": {"groups": 4}}, seed=4).eval()
    fresh.load_state_dict(network.state_dict())
    x = normal(5, *sample_shape(network)).float()
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network)), fresh):  # noqa: S301  (own bytes)
        assert torch.equal(other(x), network(x))


EXPORTED = [(MLP, DENSE, "layer"), (MLP, DENSE, "batch"), (ConvNet, MAPS, "batch"), (ConvNet, MAPS, None)]


@pytest.mark.parametrize(("make", "settings", "norm"), EXPORTED)
def test_an_exported_network_takes_batches_of_any_size(make, settings, norm):
    network = made(make, settings | {"norm": norm, "divisive_norm": {"groups": 4}, "dropout": 0.1}).eval()
    x, more = (normal(size, *sample_shape(network)).float() for size in (6, 18))
    samples = torch.export.Dim("samples", min=2)
    exported = torch.export.export(network, (x,), dynamic_shapes=({0: samples},))
    torch.testing.assert_close(exported.module()(more), network(more))


@pytest.mark.parametrize(("make", "settings"), [(MLP, DENSE), (ConvNet, MAPS)])
def test_networks_of_stacked_weights_and_derivatives_per_sample(make, settings):
    ensemble = [made(make, settings | {"divisive_norm": {"groups": 4}}, seed).double() for seed in range(3)]
    stacked, _ = torch.func.stack_module_state(ensemble)
    x = normal(4, *sample_shape(ensemble[0]))
    call = lambda weights, x: torch.func.functional_call(ensemble[0], weights, (x,))  # noqa: E731
    got = torch.func.vmap(call, (0, None))(stacked, x)
    assert_close(got, torch.stack([network(x) for network in ensemble]), 1e-12)
    weights = dict(ensemble[0].named_parameters())
    loss = lambda weights, sample: call(weights, sample[None]).square().sum()  # noqa: E731
    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, x)
    total = torch.autograd.grad(call(weights, x).square().sum(), list(weights.values()))
    for got, expected in zip(each.values(), total, strict=True):
        assert_close(got.sum(0), expected, 1e-12)


def test_sizes_are_in_its_repr():
    text = repr(MLP(784, 10, (1024,), divisive_norm={"groups": 32}, dropout=0.05))
    for part in ("in_features=784, out_features=1024", "groups=32", "rate=0.05", "LeakyReLU(negative_slope=0.01"):
        assert part in text


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"nonlinearity": "leaky_rely"}, UnknownNameError, "'leaky_rely'; did you mean 'leaky_relu'"),
        ({"nonlinearity": nn.GELU()}, MismatchError, r"nonlinearity GELU\(…\) must be a name"),
        ({"nonlinearity": list}, MismatchError, r"nonlinearity list returns \[\]; it must be a name"),
        ({"nonlinearity": torch.relu}, MismatchError, "nonlinearity relu must be a name"),
        ({"slope": 0.0}, MismatchError, "slope 0.0 of leaky ReLU: give a number above 0, or take relu for 0"),
        ({"slope": float("inf")}, MismatchError, "slope inf"),
        ({"norm_epsilon": 0.0}, MismatchError, "norm_epsilon 0.0"),
        ({"dropout": 1.0}, MismatchError, "dropout rate 1.0 is no probability"),
        ({"divisive_norm": {"groups": 5}}, GroupingError, r"layers.0: 5 groups .* 8 neurons .* possible: 2, 4$"),
        ({"divisive_norm": {"groups": 1}}, GroupingError, "layers.0: 1 groups"),
        ({"divisive_norm": {"size": 1}}, MismatchError, "divisive_norm takes groups, power and delta"),
        ({"divisive_norm": DivisiveNorm(4, dim=-1)}, MismatchError, "dim=-1"),
        ({"outputs": 0}, MismatchError, "no layer may be empty"),
        ({"widths": (8, -1)}, MismatchError, "no layer may be empty"),
    ],
)
def test_what_an_mlp_cannot_be_is_named(settings, error, message):
    with pytest.raises(error, match=message):
        MLP(**DENSE | settings)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"inputs": (2, 1, 8)}, MismatchError, r"layers.0 cannot pool a map of 1 × 8: nothing is left"),
        ({"inputs": (3, 32)}, MismatchError, r"takes \(channels, rows, columns\)"),
        ({"pooled": (0,)}, MismatchError, "count the layers that pool from 1 to 2"),
        ({"factor": 0.001}, MismatchError, "no layer may be empty"),
        ({"norm": "layer"}, MismatchError, "norm='layer' does not go with pooling='max'"),
        ({"divisive_norm": {"groups": 7}}, GroupingError, "layers.0: 7 groups do not cut a layer of 96 neurons"),
    ],
)
def test_what_a_convnet_cannot_be_is_named(settings, error, message):
    with torch.device("meta"), pytest.raises(error, match=message):
        ConvNet(**MAPS | settings)


WRONG_TYPES = """
from infohebb.errors import UsageError
from infohebb.networks.plain import MLP, ConvNet, DivisiveNorm, Dropout
calls = [(DivisiveNorm, {"groups": 4.0}), (DivisiveNorm, {"groups": True}), (DivisiveNorm, {"power": "half"}),
         (DivisiveNorm, {"dim": 1.0}), (Dropout, {"rate": "half"}), (Dropout, {"rate": True}),
         (MLP, {"nonlinearity": 3}), (MLP, {"norm": "group"}), (MLP, {"initial": "he"}), (MLP, {"divisive_norm": 4}),
         (MLP, {"inputs": 2.5}), (MLP, {"widths": 8}), (ConvNet, {"factor": "2"}), (ConvNet, {"pooling": "mean"})]
for make, settings in calls:
    ((name, value),) = settings.items()
    try:
        make(**settings)
        print(make.__name__, settings, "is accepted")
    except UsageError as error:
        words = str(error)
        if name.split("_")[0] not in words or str(value) not in words or len(words) > 300 or "\\n" in words:
            print(make.__name__, settings, words)
"""


def test_settings_of_a_wrong_type_are_named(python):
    assert python(WRONG_TYPES) == (0, "", "")  # where no types are checked, as with users


def test_samples_of_another_shape_and_a_sample_without_a_batch_axis_are_refused():
    for shape in ((6,), (5, 7), (5, 2, 2)):
        with pytest.raises(MismatchError, match=r"do not fit the MLP; give \(samples, 6\)"):
            MLP(**DENSE)(torch.zeros(shape))
    for shape in ((2, 9, 8), (5, 144), (5, 2, 8, 8)):
        with pytest.raises(MismatchError, match=r"do not fit the ConvNet; give \(samples, 2, 9, 8\)"):
            ConvNet(**MAPS)(torch.zeros(shape))

"""A user's own nn.Sequential: the network predicts what it predicts, shares its weights, or names what has no place."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from functional.oracles import assert_close
from infohebb import Backprop, train
from infohebb.errors import GroupingError, MismatchError
from infohebb.networks import DivisiveNorm, Layered, Residual, from_sequential

IMAGE = (3, 16, 16)
RELU = nn.ReLU()  # the same module at several places: it has no state


def keeping(below, above, kernel=3):
    return nn.Conv2d(below, above, kernel, padding=kernel // 2)


def trained_norm():
    norm = nn.GroupNorm(2, 8)
    nn.init.constant_(norm.weight, 1.1)
    return norm


def plain_norm(width):
    return nn.LayerNorm(width, eps=0.3, elementwise_affine=False)


# name: (modules, shape of a sample); each also without telling the shape, unless in NEED_SHAPE
ARCHITECTURES = {
    "dense": ([nn.Linear(8, 12), RELU, nn.Linear(12, 6, bias=False), RELU, nn.Linear(6, 4)], (8,)),
    "readout alone": ([nn.Flatten(), nn.Linear(768, 4, bias=False)], IMAGE),
    "leading flatten": ([nn.Flatten(), nn.Linear(768, 12), nn.Tanh(), nn.Linear(12, 4), nn.Identity()], IMAGE),
    "no activation": ([nn.Linear(8, 12), nn.Linear(12, 4)], (8,)),
    "every dense stage": (
        [
            *(nn.Linear(8, 12), nn.BatchNorm1d(12, eps=0.2), nn.LeakyReLU(0.3), plain_norm(12)),
            *(nn.GroupNorm(3, 12, eps=0.7, affine=False), nn.Dropout(0.4)),
            *(nn.Linear(12, 12), nn.SELU(), DivisiveNorm(4, 0.3, 0.7), nn.AlphaDropout(0.2), nn.Linear(12, 4)),
        ],
        (8,),
    ),
    "LeNet": (
        [
            *(nn.Conv2d(3, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten()),
            *(nn.Linear(64, 20), nn.Tanh(), nn.Linear(20, 12), nn.Tanh(), nn.Linear(12, 4)),
        ],
        IMAGE,
    ),
    "VGG": (
        [
            nn.Sequential(
                *(keeping(3, 8), nn.BatchNorm2d(8), nn.ReLU(True), keeping(8, 8), nn.BatchNorm2d(8), nn.ReLU(True)),
                *(
                    nn.MaxPool2d(2, 2),
                    nn.Sequential(keeping(8, 12), nn.BatchNorm2d(12), nn.ReLU(True)),
                    nn.MaxPool2d(2),
                ),
            ),
            *(nn.AdaptiveAvgPool2d((4, 4)), nn.Flatten()),
            nn.Sequential(nn.Linear(192, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 16), nn.ReLU(), nn.Dropout()),
            nn.Linear(16, 4),
        ],
        IMAGE,
    ),
    "strides, borders and oblong windows": (
        [
            *(nn.Conv2d(3, 6, (3, 5), (2, 1), (1, 0), bias=False), nn.LeakyReLU(0.0), nn.MaxPool2d(3, 2, 1)),
            *(nn.AvgPool2d((2, 3), (1, 3), (1, 0)), nn.Flatten(), nn.Linear(60, 4)),
        ],
        IMAGE,
    ),
    "whole map": ([keeping(3, 6), nn.SELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)], IMAGE),
    "half map": ([keeping(3, 6), RELU, nn.AdaptiveAvgPool2d((2, None)), nn.Flatten(), nn.Linear(192, 4)], IMAGE),
    "groups of maps": (
        [
            *(keeping(3, 6), RELU, nn.MaxPool2d(2), nn.AvgPool2d(2), nn.GroupNorm(3, 6, eps=0.4, affine=False)),
            *(keeping(6, 6), RELU, nn.Flatten(), nn.GroupNorm(2, 96, affine=False), nn.Dropout(), nn.Linear(96, 4)),
        ],
        IMAGE,
    ),
    "padding by name, pooling first, nothing dropped": (
        [
            *(nn.Conv2d(3, 6, (3, 5), padding="same"), nn.MaxPool2d(2), nn.SELU()),
            *(nn.Dropout(0.0), nn.Conv2d(6, 6, 3, padding="valid"), nn.MaxPool2d(2), RELU, nn.Flatten()),
            nn.Linear(54, 4),
        ],
        IMAGE,
    ),
    "residual": (
        [
            *(keeping(3, 6), RELU, nn.MaxPool2d(2)),
            *(Residual(nn.Sequential(keeping(6, 6, 5), nn.BatchNorm2d(6), nn.Tanh())), nn.MaxPool2d(2)),
            *(Residual(nn.Conv2d(6, 6, 1)), nn.AvgPool2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(24, 24)),
            Residual(nn.Sequential(nn.Identity(), nn.Linear(24, 24), nn.Sequential(nn.SELU(), plain_norm(24)))),
            *(nn.AlphaDropout(), nn.Linear(24, 4)),
        ],
        IMAGE,
    ),
}
NEED_SHAPE = {"VGG", "whole map", "half map", "groups of maps"}
every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)


def build(name):
    """A copy of the modules in float64, with weights and statistics all drawn at random, and a batch."""
    modules, shape = ARCHITECTURES[name]
    torch.manual_seed(0)
    sequential = copy.deepcopy(nn.Sequential(*modules)).double().eval()
    for key, tensor in sequential.state_dict().items():
        if "running_var" in key or ("weight" in key and tensor.dim() == 1):
            tensor.uniform_(0.5, 2)
        elif "bias" in key or "running_mean" in key:
            tensor.normal_()
    return sequential, torch.randn(5, *shape, dtype=torch.float64), shape


@every_architecture
def test_the_network_predicts_what_the_modules_predict(name):
    sequential, x, shape = build(name)
    expected = sequential(x)
    networks = [from_sequential(sequential, shape), from_sequential(sequential.train(), list(shape))]
    networks += [] if name in NEED_SHAPE else [from_sequential(sequential)]
    for network in networks:
        assert_close(network(x), expected, 1e-12)


@every_architecture
def test_the_sizes_that_it_works_out_are_those_of_the_maps(name):
    sequential, x, shape = build(name)
    network = from_sequential(sequential, shape)
    for _, block in network.named_blocks():
        response = block.respond(x)
        x = block.emit(response.activity)
        assert block.width == response.activity[0].numel()
        assert block.output_width == x[0].numel()
        assert (block.map_size is None) == (block.geometry is None)


@every_architecture
def test_it_has_the_very_parameters_and_statistics(name):
    sequential, x, shape = build(name)
    network = from_sequential(sequential, shape)
    assert set(network.parameters()) == set(sequential.parameters())
    assert {id(b) for b in network.buffers()} == {id(b) for b in sequential.buffers()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.1)
    assert_close(network(x), sequential.eval()(x), 1e-12)


def test_frozen_weights_stay_frozen_and_names_follow_the_blocks():
    sequential, _, _ = build("dense")
    sequential[0].weight.requires_grad_(False)
    network = from_sequential(sequential)
    assert isinstance(network, Layered)
    assert {name: p.requires_grad for name, p in network.named_parameters()} == {
        "blocks.0.weight": False,
        "blocks.0.bias": True,
        "blocks.1.weight": True,
        "readout.weight": True,
        "readout.bias": True,
    }


def test_one_number_of_inputs_may_stand_for_its_shape():
    assert from_sequential(nn.Sequential(nn.Linear(8, 4)), 8)(torch.zeros(2, 8)).shape == (2, 4)


def test_a_residual_adds_in_plain_torch_too():
    inner, x = nn.Sequential(nn.Linear(4, 4), nn.Tanh()), torch.randn(3, 4)
    assert torch.equal(Residual(inner)(x), x + inner(x))


def test_group_norm_as_torch_makes_it_keeps_its_weights():
    norm = nn.GroupNorm(2, 8)
    network, x = from_sequential(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), norm, nn.Linear(8, 3))), torch.randn(5, 8)
    train(network, Backprop(), (x, torch.tensor([0, 1, 2, 0, 1])), epochs=1, progress=False)
    assert torch.equal(norm.weight, torch.ones(8))
    assert norm.bias.abs().max() == 0


def test_group_norm_is_a_divisive_norm_of_power_a_half():
    norm = from_sequential(build("groups of maps")[0], IMAGE).blocks[0].divisive_norm
    assert (norm.groups, norm.power) == (3, 0.5)
    assert norm.delta == pytest.approx(0.4 * 6 * 4 * 4 / 3)


class Chain(nn.Sequential):
    def forward(self, x):
        return -super().forward(x)


class Mine(nn.Linear):
    def forward(self, x):
        return -super().forward(x)


def weight_normed():
    with pytest.warns(FutureWarning):
        return nn.utils.weight_norm(nn.Linear(8, 8))


def parametrised():
    layer = nn.Linear(8, 8)
    parametrize.register_parametrization(layer, "weight", nn.Tanh())
    return layer


def norm_without_bias():
    norm = nn.BatchNorm1d(8)
    norm.bias = None
    return norm


def tied(first, second, attribute="weight"):
    setattr(second, attribute, getattr(first, attribute))
    return [first, second]


DENSE = [nn.Linear(8, 8), nn.ReLU()]
READOUT = nn.Linear(8, 4)
MAPS = [keeping(3, 4), nn.ReLU()]
SHARED = nn.BatchNorm1d(8)

DENSE_ERRORS = [
    ([], "no Linear and no Conv2d .*; add one$"),
    ([nn.Flatten()], "no Linear and no Conv2d"),
    ([*DENSE, nn.GELU(), READOUT], r"2 \(GELU\): no block has such a stage; known: Linear, .*"),
    ([nn.ELU()], r"0 \(ELU\): no block has such a stage"),
    ([nn.Linear(8, 8), nn.PReLU(), READOUT], r"1 \(PReLU\): its slope would not learn; take nn.LeakyReLU$"),
    ([*DENSE, READOUT, nn.Softmax(1)], r"3 \(Softmax\): the readout gives logits, .*; leave it out$"),
    ([*DENSE, READOUT, nn.ReLU()], r"3 \(ReLU\): a network ends with its readout.*; add one"),
    (DENSE, r"1 \(ReLU\): a network ends with its readout"),
    ([*DENSE, Residual(nn.Linear(8, 8))], r"2 \(Residual\): a network ends with its readout"),
    ([nn.ReLU(), *DENSE, READOUT], r"0 \(ReLU\): activation comes after a Linear or Conv2d; put one before"),
    ([nn.Dropout(), READOUT], r"0 \(Dropout\): dropout comes after"),
    (
        [*DENSE, nn.BatchNorm1d(8), READOUT],
        r"2 \(BatchNorm1d\): a block has its batch norm before its activation, 1 \(R",
    ),
    ([*DENSE, nn.Tanh(), READOUT], r"2 \(Tanh\): its block has activation already, 1 \(ReLU\); leave one out"),
    ([nn.Linear(8, 8), plain_norm(8), nn.ReLU(), READOUT], r"2 \(ReLU\): .* activation before its layer norm, 1 "),
    (
        [nn.Linear(8, 8), nn.Dropout(), nn.ReLU(), READOUT],
        r"2 \(ReLU\): .* activation before its dropout, 1 \(Dropout\)",
    ),
    ([*DENSE, nn.Dropout(), nn.GroupNorm(2, 8, affine=False), READOUT], r"3 \(GroupNorm\): .*norm before its dropout"),
    ([*DENSE, nn.Dropout(), nn.Dropout(), READOUT], r"3 \(Dropout\): its block has dropout already, 2 \(Dropout\)"),
    ([*DENSE, nn.LayerNorm(8), READOUT], r"2 \(LayerNorm\): .*elementwise_affine=False"),
    ([*DENSE, plain_norm(4), READOUT], r"2 \(LayerNorm\): it normalises \(4,\), but receives \(8,\)"),
    ([*DENSE, nn.AlphaDropout(), READOUT], r"2 \(AlphaDropout\): .*; take nn.Dropout$"),
    ([nn.Linear(8, 8), nn.SELU(), nn.Dropout(), READOUT], r"2 \(Dropout\): .*; take nn.AlphaDropout$"),
    ([*DENSE, nn.Dropout(1.0), READOUT], r"2 \(Dropout\): dropout 1.0 is no probability below 1"),
    ([*DENSE, nn.Dropout2d(), READOUT], r"2 \(Dropout2d\): .*; take nn.Dropout or"),
    ([nn.Linear(8, 8), nn.LeakyReLU(-0.1), READOUT], r"1 \(LeakyReLU\): leaky ReLU needs a slope above 0"),
    ([nn.Linear(8, 8), nn.BatchNorm1d(6), READOUT], r"1 \(BatchNorm1d\): it has 6 features, but receives 8"),
    ([nn.Linear(8, 8), nn.BatchNorm2d(8), READOUT], r"1 \(BatchNorm2d\): take nn.BatchNorm1d right after a Linear"),
    ([nn.Linear(8, 8), nn.BatchNorm1d(8, affine=False), READOUT], r"1 \(BatchNorm1d\): .*needs affine weights"),
    ([nn.Linear(8, 8), norm_without_bias(), READOUT], r"1 \(BatchNorm1d\): .*needs affine weights"),
    ([nn.Linear(8, 8), nn.BatchNorm1d(8, momentum=None), READOUT], r"1 \(BatchNorm1d\): .* a momentum"),
    ([nn.Linear(8, 8), nn.BatchNorm1d(8, track_running_stats=False), READOUT], r"1 \(BatchNorm1d\): .*statistics"),
    ([*DENSE, trained_norm(), READOUT], r"2 \(GroupNorm\): its weights are not one and zero.*; take affine=False$"),
    ([*DENSE, nn.GroupNorm(2, 4, affine=False), READOUT], r"2 \(GroupNorm\): it has 4 channels, but receives 8"),
    ([*DENSE, nn.MaxPool2d(2), READOUT], r"2 \(MaxPool2d\): it pools maps, but receives rows of numbers"),
    ([nn.Linear(8, 6), READOUT], r"1 \(Linear\): it takes 8 numbers, but receives 6; change one of them$"),
    ([*DENSE, keeping(3, 4), READOUT], r"2 \(Conv2d\): it takes maps .*, but receives \(8,\)"),
    ([nn.Flatten(0), READOUT], r"0 \(Flatten\): .*take nn.Flatten\(\)"),
    ([nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.Sigmoid())), READOUT], r"0.1.0 \(Sigmoid\)"),
    ([Chain(*DENSE), READOUT], r"0 \(Chain\): no block has such a stage"),
    ([Mine(8, 8), READOUT], r"0 \(Mine\): no block"),
    ([parametrised(), READOUT], r"0 \(ParametrizedLinear\): no block"),
    ([weight_normed(), READOUT], r"0 \(Linear\): its weight is computed from weight_g"),
    ([nn.LazyLinear(8), READOUT], r"0 \(LazyLinear\): its shape is not known yet; pass a batch"),
    (
        tied(nn.Linear(8, 8), nn.Linear(8, 8)),
        r"1 \(Linear\): it shares its weight with 0 \(Linear\); give it one of its",
    ),
    (tied(nn.Linear(8, 8), nn.Linear(8, 8), "bias"), r"1 \(Linear\): it shares its bias"),
    ([*DENSE[:1] * 2, READOUT], r"1 \(Linear\): it shares its weight with 0"),
    ([nn.Linear(8, 8), SHARED, nn.Linear(8, 8), SHARED, READOUT], r"3 \(BatchNorm1d\): it shares its weight with 1"),
    ([Residual(nn.Sequential())], r"0 \(Residual\): a Residual is one block, which begins with its Linear"),
    (
        [Residual(nn.Sequential(nn.ReLU(), nn.Linear(8, 8)))],
        r"0.inner.0 \(ReLU\): a Residual is one block, which begins",
    ),
    ([Residual(nn.Sequential(*DENSE, nn.Linear(8, 8)))], r"0.inner.2 \(Linear\): a second layer of weights .* own$"),
    ([Residual(nn.Sequential(nn.Linear(8, 8), Residual(nn.Linear(8, 8))))], r"0.inner.1 \(Residual\): a second layer"),
    ([Residual(nn.Sequential(*DENSE, nn.Dropout()))], r"0.inner.2 \(Dropout\): .*; put it after the Residual$"),
    ([Residual(nn.Sequential(*DENSE, nn.Flatten()))], r"0.inner.2 \(Flatten\): .*; put it after the Residual$"),
    ([Residual(nn.Sequential(nn.Linear(8, 8), nn.GELU()))], r"0.inner.1 \(GELU\): no block"),
    ([Residual(nn.Linear(8, 6))], r"0.inner \(Linear\): a Residual adds what it received, 8, to 6; give as many"),
    (
        [Residual(nn.Linear(8, 8)), nn.ReLU()],
        r"1 \(ReLU\): .* its activation before its residual addition, 0 \(Residual",
    ),
]
MAP_ERRORS = [
    (
        [*MAPS, nn.Linear(8, 4)],
        r"2 \(Linear\): it would act on the last dimension of a map; put nn.Flatten\(\) before it$",
    ),
    ([*MAPS], r"0 \(Conv2d\): a network ends with its readout, .* add nn.Flatten\(\) and nn.Linear"),
    ([*MAPS, keeping(3, 4)], r"2 \(Conv2d\): it takes 3 channels, but receives 4"),
    ([*MAPS, nn.Flatten(), keeping(4, 4)], r"3 \(Conv2d\): it takes maps"),
    ([nn.Flatten(), keeping(3, 4)], r"1 \(Conv2d\): it takes maps"),
    (
        [keeping(3, 4), nn.AvgPool2d(2), nn.ReLU()],
        r"2 \(ReLU\): a block has its activation before its average pooling, 1 \(A",
    ),
    ([*MAPS, nn.Dropout(), nn.MaxPool2d(2)], r"3 \(MaxPool2d\): .* max pooling before its dropout, 2 \(Dropout\)"),
    ([*MAPS, nn.AvgPool2d(2), nn.MaxPool2d(2)], r"3 \(MaxPool2d\): .* max pooling before its average pooling, 2 \(Avg"),
    ([*MAPS, nn.MaxPool2d(2), nn.MaxPool2d(2)], r"3 \(MaxPool2d\): its block has max pooling already, 2 \(MaxPool2d\)"),
    ([*MAPS, nn.Flatten(), nn.MaxPool2d(2)], r"3 \(MaxPool2d\): .*; put it before nn.Flatten\(\)"),
    ([*MAPS, nn.MaxPool2d(2, ceil_mode=True)], r"2 \(MaxPool2d\): a block does not pool with ceil_mode=True; leave it"),
    ([*MAPS, nn.MaxPool2d(2, dilation=(1, 2))], r"2 \(MaxPool2d\): a block does not pool with dilation=\(1, 2\)"),
    ([*MAPS, nn.MaxPool2d(2, return_indices=True)], r"2 \(MaxPool2d\): .* return_indices=True"),
    ([*MAPS, nn.AvgPool2d(2, ceil_mode=True)], r"2 \(AvgPool2d\): .* ceil_mode=True"),
    ([*MAPS, nn.AvgPool2d(2, divisor_override=3)], r"2 \(AvgPool2d\): .* divisor_override=3"),
    ([*MAPS, nn.AvgPool2d(2, padding=1, count_include_pad=False)], r"2 \(AvgPool2d\): .* count_include_pad=True$"),
    ([*MAPS, nn.Dropout2d()], r"2 \(Dropout2d\)"),
    ([*MAPS, plain_norm(16)], r"2 \(LayerNorm\): a convolutional block has no layer norm"),
    (
        [keeping(3, 4), nn.Flatten(), nn.BatchNorm1d(1024)],
        r"2 \(BatchNorm1d\): .* nn.BatchNorm2d right after a Conv2d$",
    ),
    ([keeping(3, 4), nn.BatchNorm1d(4)], r"1 \(BatchNorm1d\): take"),
    ([nn.Conv2d(3, 6, 3, groups=3)], r"0 \(Conv2d\): .*neither grouped nor dilated"),
    ([nn.Conv2d(3, 6, 3, dilation=2)], r"0 \(Conv2d\): .*neither grouped nor dilated"),
    ([nn.Conv2d(3, 6, 2, padding="same")], r"0 \(Conv2d\): padding 'same' of a kernel 2 × 2 .*; take odd kernels$"),
    ([nn.ConvTranspose2d(3, 6, 3)], r"0 \(ConvTranspose2d\): no block"),
    (
        [keeping(3, 3), Residual(nn.Conv2d(3, 3, 3))],
        r"1.inner \(Conv2d\): a Residual adds maps of one size; take stride 1",
    ),
    ([Residual(nn.Conv2d(3, 3, 1, stride=2))], r"0.inner \(Conv2d\): a Residual adds maps of one size"),
    ([Residual(keeping(3, 4))], r"0.inner \(Conv2d\): a Residual adds what it received, 3, to 4"),
    (
        [Residual(nn.Sequential(keeping(3, 3), nn.MaxPool2d(2)))],
        r"0.inner.1 \(MaxPool2d\): .*; put it after the Residual$",
    ),
]


@pytest.mark.parametrize(("modules", "message"), DENSE_ERRORS)
@pytest.mark.parametrize("inputs", [None, 8])
def test_what_has_no_place_among_dense_layers_is_named(modules, message, inputs):
    with pytest.raises(MismatchError, match=f"^{message}"):
        from_sequential(nn.Sequential(*modules), inputs)


@pytest.mark.parametrize(("modules", "message"), MAP_ERRORS)
@pytest.mark.parametrize("inputs", [None, IMAGE])
def test_what_has_no_place_among_convolutions_is_named(modules, message, inputs):
    with pytest.raises(MismatchError, match=f"^{message}"):
        from_sequential(nn.Sequential(*modules), inputs)


@pytest.mark.parametrize(
    ("modules", "inputs", "message"),
    [
        ([READOUT], IMAGE, r"0 \(Linear\): it would act on the last dimension"),
        ([READOUT], (9,), r"0 \(Linear\): it takes 8 numbers, but receives 9"),
        (MAPS, (1, 16, 16), r"0 \(Conv2d\): it takes 3 channels, but receives 1"),
        (MAPS, (16, 16), r"0 \(Conv2d\): it takes maps \(channels, rows, columns\), but receives \(16, 16\)"),
        ([*MAPS, nn.Flatten(), READOUT], IMAGE, r"3 \(Linear\): it takes 8 numbers, but receives 1024"),
        (
            [nn.Conv2d(3, 4, 5)],
            (3, 4, 8),
            r"0 \(Conv2d\): nothing is left of a map of 4 × 8; pool less, or give larger",
        ),
        ([*MAPS, nn.MaxPool2d(20)], IMAGE, r"2 \(MaxPool2d\): nothing is left of a map of 16 × 16"),
        ([*MAPS, nn.AvgPool2d(20)], IMAGE, r"2 \(AvgPool2d\): nothing is left"),
        ([*MAPS, nn.AdaptiveAvgPool2d(3)], IMAGE, r"2 \(AdaptiveAvgPool2d\): a map of 16 × 16 is not cut into 3 × 3"),
        ([*MAPS, nn.AdaptiveAvgPool2d(32)], IMAGE, r"2 \(AdaptiveAvgPool2d\): .* 32 × 32 equal windows"),
        ([*MAPS, nn.AdaptiveAvgPool2d(1)], None, r"2 \(AdaptiveAvgPool2d\): .*; give inputs=\(channels, rows"),
        ([*MAPS, nn.GroupNorm(2, 4, affine=False)], None, r"2 \(GroupNorm\): .*; give inputs=\(channels, rows"),
        ([READOUT], (0,), r"inputs \(0,\): give the shape of a sample"),
        ([READOUT], (), r"inputs \(\): give the shape"),
    ],
)
def test_shapes_that_do_not_fit_are_named(modules, inputs, message):
    with pytest.raises(MismatchError, match=f"^{message}"):
        from_sequential(nn.Sequential(*modules), inputs)


@pytest.mark.parametrize(
    ("norm", "message"),
    [
        (DivisiveNorm(3), r"2 \(DivisiveNorm\): 3 groups do not cut a layer of 8 neurons .*possible: 2, 4$"),
        (nn.GroupNorm(8, 8, affine=False), r"2 \(GroupNorm\): 8 groups do not cut"),
        (nn.GroupNorm(1, 8, affine=False), r"2 \(GroupNorm\): 1 groups; take 2 or more"),
    ],
)
def test_groups_that_do_not_fit_are_named(norm, message):
    with pytest.raises(GroupingError, match=f"^{message}"):
        from_sequential(nn.Sequential(*DENSE, norm, READOUT))


@pytest.mark.parametrize("module", [nn.Linear(8, 4), nn.ModuleList([READOUT]), Chain(READOUT)])
def test_what_is_no_sequential_is_named(module):
    with pytest.raises(MismatchError, match=f"takes an nn.Sequential, not a {type(module).__name__}"):
        from_sequential(module)


def test_names_given_to_modules_are_used():
    sequential = nn.Sequential()
    sequential.add_module("body", nn.Sequential(*DENSE))
    sequential.add_module("head", nn.Softmax(1))
    with pytest.raises(MismatchError, match=r"^head \(Softmax\)"):
        from_sequential(sequential)


def test_an_average_of_the_whole_map_is_none_of_another_size():
    sequential, _, shape = build("whole map")
    network = from_sequential(sequential, shape)
    with pytest.raises(
        MismatchError, match=r"a map of 17 × 17 where the block was told 16 × 16; give inputs of its size"
    ):
        network(torch.zeros(2, 3, 17, 17).double())


@pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook"])
@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("", r"the whole \(Sequential\)"),
        ("0", r"0 \(Sequential\)"),
        ("0.1", r"0.1 \(ReLU\)"),
        ("1", r"1 \(Residual\)"),
        ("1.inner", r"1.inner \(Linear\)"),
        ("2", r"2 \(Identity\)"),
        ("3", r"3 \(Linear\)"),
    ],
)
def test_a_forward_hook_is_named(path, told, kind):
    body = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    sequential = nn.Sequential(body, Residual(nn.Linear(8, 8)), nn.Identity(), nn.Linear(8, 4))
    hook = getattr(sequential.get_submodule(path), kind)(lambda *_: None)
    with pytest.raises(MismatchError, match=f"^{told}: its forward hook would not be called; remove it, or hook the b"):
        from_sequential(sequential)
    hook.remove()
    from_sequential(sequential)


def test_maps_of_another_size_than_inputs_are_refused_by_a_pooling_network_too():
    modules = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    network = from_sequential(nn.Sequential(*modules, nn.Linear(4, 2)), inputs=(1, 8, 8))
    with pytest.raises(MismatchError, match="samples give a map of 7 × 7 where the block was told 4 × 4"):
        network(torch.zeros(2, 1, 14, 14))

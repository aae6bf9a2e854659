"""Errors that are sent through a rule's own matrices, on any module: the calls that are covered, and the others."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

from infohebb import Backprop, FeedbackAlignment, Learner, SignSymmetry, fit
from infohebb.errors import MismatchError, UsageError
from infohebb.networks import plain
from infohebb.rules.carried_errors import FeedbackRule
from infohebb.testing import certify
from learner.nets import ResNet, gradients, images, largest_difference, rows, sequential


class OwnWeights(FeedbackRule):
    """Sends errors through the weights themselves: backprop."""

    def feedback_matrix(self, name, weight):
        return weight


class Model(nn.Module):
    """A module whose forward is a function of its parts and the inputs."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.function = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)


def weight(*shape):
    return nn.Parameter(torch.randn(*shape) / shape[-1] ** 0.5)


def sequences(x):
    """Eight time steps of eight numbers."""
    return x.view(len(x), 8, 8)


def convolutions():
    """Strides, groups, dilation, depthwise, every kind of padding; activations in place."""
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(inplace=True), nn.Conv2d(8, 16, (2, 4), padding="same", groups=4)),
        *(nn.ReLU(inplace=True), nn.Conv2d(16, 16, 3, padding="same", dilation=2), nn.Tanh()),
        *(nn.Conv2d(16, 16, 3, 1, 1, groups=16, padding_mode="reflect"), nn.Tanh()),
        *(nn.Conv2d(16, 8, (1, 3), (1, 2), (0, 1), padding_mode="circular"), nn.Conv2d(8, 8, 1, padding="valid")),
        *(nn.Flatten(), nn.Linear(64, 10)),
    )


def one_and_three_axes():
    def forward(self, x):
        x = self.b(torch.tanh(self.a(x.flatten(1, 2))))
        x = self.d(torch.tanh(self.c(x.view(-1, 1, 6, 2, 4))))
        return self.h(x.flatten(1))

    parts = {"a": nn.Conv1d(8, 6, 3, padding="same"), "b": nn.Conv1d(6, 6, 4, padding="same", groups=3)}
    parts |= {"c": nn.Conv3d(1, 4, 2, padding="same"), "d": nn.Conv3d(4, 4, 3, (1, 2, 1), 1, groups=2)}
    return Model(forward, **parts, h=nn.Linear(96, 10))


def single_samples():
    """Convolutions without a batch axis, and keyword arguments."""

    def forward(self, x):
        maps = [functional.conv2d(input=self.a(one), weight=self.w, padding=1) for one in x]
        return functional.linear(weight=self.h, input=torch.stack(maps).mean((2, 3)))

    return Model(forward, a=nn.Conv2d(1, 4, 3), w=weight(6, 4, 3, 3), h=weight(10, 6))


def transformer(norm_first=False):
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.1, batch_first=True, norm_first=norm_first)
    return Model(
        lambda self, x: self.h(self.t(self.a(sequences(x))).mean(1)), a=nn.Linear(8, 8), t=layer, h=nn.Linear(8, 10)
    )


def attention_of_other_widths():
    def forward(self, x):
        query, key = self.a(sequences(x)), self.b(sequences(x))
        return self.h(self.t(query, key, key)[0].mean(1))

    layer = nn.MultiheadAttention(8, 2, kdim=4, vdim=4, batch_first=True)
    return Model(forward, a=nn.Linear(8, 8), b=nn.Linear(8, 4), t=layer, h=nn.Linear(8, 10))


def scales():
    """Parameters that scale or shift each entry, tokens, and a learned mask of attention."""

    def forward(self, x):
        z = torch.cat([self.token.expand(len(x), 1, 8), self.a(sequences(x))], 1) * self.gain + self.place
        z[:, 1:] += self.shift
        heads = z[:, None]
        return self.h(functional.scaled_dot_product_attention(heads, heads, heads, attn_mask=self.mask).mean((1, 2)))

    parts = {"token": weight(1, 1, 8), "gain": weight(8), "place": weight(1, 9, 8), "shift": weight(8, 8)}
    return Model(forward, a=nn.Linear(8, 8), mask=weight(9, 9), **parts, h=nn.Linear(8, 10))


def partly_frozen():
    model = ResNet()
    model.layers[1].requires_grad_(False)
    model.fc = nn.Sequential(nn.Dropout(0.3), model.fc)
    return model


def tied():
    """One weight in two calls, and an embedding that is the head's weight too."""

    def forward(self, x):
        x = self.embedding((9 * x.flatten(1).sigmoid()).long()).mean(1)
        return self.h(torch.tanh(self.a(torch.tanh(self.a(x)))))

    model = Model(forward, embedding=nn.Embedding(10, 8), a=nn.Linear(8, 8), h=nn.Linear(8, 10))
    model.h.weight = model.embedding.weight
    return model


def time_steps():
    def forward(self, x):
        return self.h(torch.tanh(self.a(sequences(x)))).mean(1)

    return Model(forward, a=nn.Linear(8, 8), h=nn.Linear(8, 10))


def product_of_inputs():
    """A product below which nothing learns: any derivative will do."""
    return Model(lambda self, x: self.h(torch.tanh(x.flatten(1) @ self.w)), w=weight(64, 16), h=nn.Linear(16, 10))


NORM = {"divisive_norm": {"groups": 4}, "dropout": 0.2}
COVERED = {
    "MLP": lambda: plain.MLP((1, 8, 8), 10, (16, 12), **NORM),
    "ConvNet": lambda: plain.ConvNet((1, 8, 8), 10, (8, 4), (1,), (12,), **NORM),
    "ResNet": ResNet,
    "ResNet, channels last": lambda: ResNet().to(memory_format=torch.channels_last),
    "convolutions": convolutions,
    "one and three axes": one_and_three_axes,
    "single samples": single_samples,
    "transformer": transformer,
    "transformer, norm first": lambda: transformer(norm_first=True),
    "attention of other widths": attention_of_other_widths,
    "scales": scales,
    "partly frozen": partly_frozen,
    "tied": tied,
    "sequence": time_steps,
    "product of inputs": product_of_inputs,
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", COVERED)
def test_through_the_weights_themselves_it_is_backprop(name):
    torch.manual_seed(0)
    model, (x, y) = COVERED[name]().double(), images()
    x = x.to(memory_format=torch.channels_last) if "last" in name else x
    learners = [Learner(copy.deepcopy(model), rule, head=False, classes=10) for rule in (OwnWeights(), Backprop())]
    for _ in range(2):
        for learner in learners:
            learner.zero_grad()
            torch.manual_seed(1)
            learner.backward(x, y)
        assert largest_difference(*map(gradients, learners)) <= 1e-12
    for one, other in zip(*(learner.buffers() for learner in learners), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(*(learner.parameters() for learner in learners), strict=True):
        assert one.grad is None or one.grad.stride() == other.grad.stride()


@pytest.mark.parametrize("rule", [FeedbackAlignment, SignSymmetry])
@pytest.mark.parametrize("name", ["transformer", "partly frozen", "tied"])
def test_other_matrices_give_other_gradients_in_both_paths(name, rule):
    torch.manual_seed(0)
    model, (x, y) = COVERED[name]().double(), images()
    learner = Learner(model, rule(), head=False, classes=10)
    exact = Learner(copy.deepcopy(model), Backprop(), head=False, classes=10)
    through_loss = copy.deepcopy(learner)
    for each in (learner, exact):
        torch.manual_seed(1)
        each.backward(x, y)
    torch.manual_seed(1)
    through_loss(x, y).backward()
    assert largest_difference(gradients(through_loss.model), gradients(model)) <= 1e-12
    assert largest_difference(gradients(model), gradients(exact.model)) > 0.1


def test_autocast_rounds_as_in_backprop():
    torch.manual_seed(0)
    found, (x, y) = [], images(dtype=torch.float32)
    model = ResNet()
    for rule in (OwnWeights(), Backprop()):
        learner = Learner(copy.deepcopy(model), rule)
        with torch.autocast("cpu", torch.bfloat16):
            learner.backward(x, y)
        found.append(gradients(learner.model))
    assert largest_difference(*found) == 0
    learner = Learner(model, FeedbackAlignment())
    with torch.autocast("cpu", torch.bfloat16):
        learner.backward(x, y)
    assert {gradient.dtype for gradient in gradients(learner).values()} == {torch.float32}


def recurrent(kind):
    def forward(self, x):
        return self.h(self.r(self.a(sequences(x)))[0][:, -1])

    return lambda: Model(forward, a=nn.Linear(8, 8), r=kind(8, 8, batch_first=True), h=nn.Linear(8, 10))


def between(function, **parts):
    """A function of a layer's output and of these parts, below a head."""

    def forward(self, x):
        return self.h(function(self, torch.tanh(self.a(x))))

    def make():
        own = {name: part() for name, part in parts.items()}
        return Model(forward, a=nn.Linear(64, 16), h=nn.Linear(16, 10), **own)

    return make


def layer():
    return nn.Sequential(nn.Linear(16, 16), nn.Tanh())


def square():
    return weight(16, 16)


def cross_attention(self, x):
    return self.t(x[:, None], x[:, None] + 1, x[:, None] + 1)[0][:, 0]


def pruned():
    model = sequential()
    prune.random_unstructured(model[2], "weight", 0.3)
    return model


ESCAPES = {
    "LSTM": (recurrent(nn.LSTM), r"r\.weight_ih_l0, which carries an error in MkldnnRnnLayer"),
    "GRU": (recurrent(nn.GRU), r"r\.weight_.h_l0, which carries an error in A?d?d?[Mm]m"),
    "first LSTM": (
        lambda: Model(lambda self, x: self.h(self.r(sequences(x))[0][:, -1]), r=nn.LSTM(8, 8), h=nn.Linear(8, 10)),
        r"r\.weight_ih_l0",
    ),
    "x @ w": (between(lambda self, x: x @ self.w, w=square), r"cannot replace w, which carries an error in Mm"),
    "frozen": (between(lambda self, x: x @ self.w, w=lambda: square().requires_grad_(False)), "replace w, .* in Mm"),
    "x @ v": (between(lambda self, x: (x @ self.w)[:, None] * x, w=lambda: weight(16)), "replace w, .* in Mv"),
    "einsum": (between(lambda self, x: torch.einsum("mi,oi->mo", x, self.w), w=square), "replace w, .* in Bmm"),
    "broadcast": (between(lambda self, x: (x[:, None] * self.w).sum(2), w=square), "replace w, .* in Mul"),
    "used twice": (between(lambda self, x: self.b(x) @ self.b[0].weight, b=layer), r"replace b\.0\.weight, .* in Mm"),
    "vmap": (between(lambda self, x: torch.vmap(self.b)(x), b=lambda: nn.Linear(16, 16)), r"replace b\.weight"),
    "weight norm": (
        between(lambda self, x: self.b(x), b=lambda: parametrizations.weight_norm(nn.Linear(16, 16))),
        r"b\.parametrizations\.weight\.original1, .* remove the parametrization",
    ),
    "pruning": (pruned, r"2\.weight_orig, .* remove the parametrization"),
    "cross attention": (
        between(cross_attention, t=lambda: nn.MultiheadAttention(16, 2, batch_first=True)),
        r"t\.in_proj_weight, .* use nn\.Linear for query, key and value",
    ),
    "bilinear": (between(lambda self, x: self.b(x, x), b=lambda: nn.Bilinear(16, 16, 16)), r"b\.weight, .* Trilinear"),
    "transposed": (
        between(lambda self, x: self.b(x[..., None])[..., 0], b=lambda: nn.ConvTranspose1d(16, 16, 1)),
        r"b\.weight, which carries an error in Convolution",
    ),
    "checkpoint": (
        between(lambda self, x: checkpoint(self.b, x, use_reentrant=False), b=layer),
        r"below b\.0\.weight: torch\.utils\.checkpoint computes that part again",
    ),
    "reentrant checkpoint": (
        between(lambda self, x: checkpoint(self.b, x, use_reentrant=True), b=layer),
        r"through torch\.utils\.checkpoint, which computes that part again",
    ),
}


@pytest.mark.parametrize("name", ESCAPES)
def test_what_carries_an_error_otherwise_is_refused_by_name(name):
    make, message = ESCAPES[name]
    model, (x, y) = make(), rows(dtype=torch.float32)
    learner = Learner(model, FeedbackAlignment(), head=False, classes=10)
    for call in (learner.backward, learner):
        with pytest.raises(MismatchError, match=message) as raised:
            call(x, y)
        assert len(str(raised.value)) <= 300
        assert gradients(model) == {}


def test_an_lstm_of_single_operations_is_refused_too():
    learner = Learner(recurrent(nn.LSTM)().double(), SignSymmetry(), head=False, classes=10)
    with pytest.raises(MismatchError, match=r"r\.weight_.h_l0, which carries an error in A?d?d?[Mm]m"):
        learner.backward(*rows())


def test_a_step_whose_calls_or_weights_are_others_is_checked_again():
    model = between(lambda self, x: x @ self.w if self.late else x, w=square)()
    model.late, (x, y) = False, rows(dtype=torch.float32)
    learner = Learner(model, SignSymmetry(), head=False, classes=10)
    learner.backward(x, y)
    model.late = True
    with pytest.raises(MismatchError, match="cannot replace w"):
        learner.backward(x, y, accumulate=True)
    model.a.requires_grad_(False)
    learner.backward(x, y, accumulate=True)  # nothing below w learns
    model.a.requires_grad_(True)
    with pytest.raises(MismatchError, match="cannot replace w"):
        learner.backward(x, y, accumulate=True)


def test_a_check_of_frozen_weights_is_no_step():
    learner, (x, y) = Learner(partly_frozen().double(), SignSymmetry()), images()
    record = learner.record(x, y)["layers.0.convs.0"]
    assert record.input.shape == record.error.shape == (24, 8, 8, 8)
    for steps in (1, 2):
        learner.zero_grad()
        learner.backward(x, y)
        assert learner.model.stem[1].num_batches_tracked == steps
    assert not any(parameter.requires_grad for parameter in learner.model.layers[1].parameters())
    assert all(parameter.grad is None for parameter in learner.model.layers[1].parameters())


def test_the_record_shows_which_matrix_an_error_passes():
    torch.manual_seed(0)
    rule, (x, y) = FeedbackAlignment(), rows()
    learner = Learner(sequential().double(), rule)
    records = learner.record(x, y)
    learner.backward(x, y)
    slope = 1 - torch.tanh(records["2"].output).square()
    torch.testing.assert_close(records["2"].error, (records["4"].error @ rule.matrices.find("4.weight")) * slope)
    torch.testing.assert_close(records["2"].error.T @ records["2"].input, learner.model[2].weight.grad)
    with pytest.raises(MismatchError, match="FeedbackAlignment declares global_error"):
        certify(learner, x, y)


@pytest.mark.parametrize("initial", ["torch", "xavier"])
def test_matrices_are_drawn_as_weights_are(initial):
    rule, model = FeedbackAlignment(initial=initial), ResNet().to(memory_format=torch.channels_last)
    Learner(model, rule)
    wanted = {name.replace(".", "/"): p for name, p in model.named_parameters() if p.dim() > 1}
    matrices = dict(rule.matrices.named_buffers())
    assert matrices.keys() == wanted.keys()
    for name, matrix in matrices.items():
        p = wanted[name]
        assert (matrix.shape, matrix.stride()) == (p.shape, p.stride())
        incoming, outgoing = p[0].numel(), p[:, 0].numel()
        bound = incoming**-0.5 if initial == "torch" else (6 / (incoming + outgoing)) ** 0.5
        assert 0.8 * bound < matrix.abs().max() <= bound


@pytest.mark.parametrize(
    ("rule", "setting", "value", "message"),
    [
        (FeedbackAlignment, "loss", "hinge", "unknown loss 'hinge'"),
        (FeedbackAlignment, "initial", "zeros", "unknown initial 'zeros'"),
        (SignSymmetry, "gradient_signs", "yes", "gradient_signs 'yes': give True or False"),
    ],
)
def test_settings_that_cannot_be_are_refused(rule, setting, value, message):
    rule = rule()
    setattr(rule, setting, value)
    with pytest.raises(UsageError, match=message):
        Learner(sequential(), rule)


def test_matrices_stay_with_the_model_and_go_with_it():
    rule, model, (x, y) = FeedbackAlignment(), sequential(), rows(dtype=torch.float32)
    Learner(model, rule)
    drawn = {name: matrix.clone() for name, matrix in rule.state_dict().items()}
    model[0] = nn.Linear(64, 16, bias=False)
    learner = Learner(model.double(), rule)
    assert all(torch.equal(rule.state_dict()[name], matrix.double()) for name, matrix in drawn.items())
    model[2] = nn.Linear(16, 16)
    with pytest.raises(MismatchError, match="2 is another module than when the Learner was made"):
        learner.backward(x.double(), y)
    Learner(sequential(), rule)
    assert not any(torch.equal(rule.state_dict()[name], matrix) for name, matrix in drawn.items())


def test_a_resumed_rule_sends_the_same_errors():
    torch.manual_seed(0)
    model, (x, y) = sequential(), rows(dtype=torch.float32)
    first, second = (Learner(copy.deepcopy(model), FeedbackAlignment()) for _ in range(2))
    second.load_state_dict(first.state_dict())
    for learner in (first, second, twin := copy.deepcopy(first)):
        learner.backward(x, y)
    assert largest_difference(gradients(second), gradients(first)) == 0
    assert largest_difference(gradients(twin), gradients(first)) == 0


def test_a_weight_without_a_matrix_is_named():
    x, y = rows(dtype=torch.float32)
    model = between(lambda self, x: functional.linear(x, self.w), w=square)()
    learner = Learner(model, FeedbackAlignment(), head=False, classes=10)
    model.w = weight(16, 16)
    learner.backward(x, y)  # of the same shape
    model.register_parameter("v", weight(16, 16))
    model.function = lambda self, x: self.h(functional.linear(self.a(x), self.v))
    with pytest.raises(MismatchError, match=r"no matrix for v \(16, 16\): .* make a new Learner"):
        learner.backward(x, y, accumulate=True)


def test_signs_of_gradients_alone_need_the_optimizer():
    x, y = rows(dtype=torch.float32)
    Learner(sequential(), SignSymmetry()).backward(x, y)
    learner = Learner(sequential(), SignSymmetry(gradient_signs=True))
    with pytest.raises(MismatchError, match=r"SignSymmetry changes gradients .* learner\.bind\(optimizer\) first"):
        learner.backward(x, y)
    before = learner.model[0].weight.detach().clone()
    optimizer = torch.optim.SGD(learner.param_groups(units=0.5, head=0.5))
    fit(learner, (x[:24], y[:24]), epochs=1, batch=24, optimizer=optimizer)
    moved = (learner.model[0].weight - before).detach().abs().unique()
    torch.testing.assert_close(moved, torch.full_like(moved, 0.5))


@pytest.mark.parametrize("rule", [FeedbackAlignment, SignSymmetry])
def test_compiled_steps_are_refused(rule):
    with pytest.raises(MismatchError, match=rf"{rule.__name__} intercepts the calls of torch inside units"):
        Learner(sequential(), rule()).compile()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_part_that_is_compiled_sends_the_same_errors():
    torch.manual_seed(0)
    model, (x, y) = between(lambda self, x: self.b(x), b=layer)(), rows(dtype=torch.float32)
    compiled = copy.deepcopy(model)
    compiled.b = torch.compile(compiled.b, backend="aot_eager")
    compiled(x).sum().backward()  # as code without the rule
    found = []
    for each in (model, compiled):
        learner = Learner(each, SignSymmetry(), head=False, classes=10)
        learner.zero_grad()
        learner.backward(x, y)
        found.append({name.replace("._orig_mod", ""): gradient for name, gradient in gradients(learner).items()})
    assert largest_difference(*found) < 1e-6

"""A step on networks with a forward of their own: gradients, modes, precision, and what is left behind."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from infohebb import DirectFeedbackAlignment, KernelizedBottleneck, LastLayer, Learner, LocalError, LocalRule
from infohebb.errors import MismatchError
from learner.nets import ResNet, gradients, images, largest_difference, rows, sequential


class Square(LocalRule):
    """Each neuron seeks a mean square of one."""

    def error(self, z, signal, context, unit):
        post = z * (z.square().mean(0) - 1)
        return LocalError(None, post, post, {"objective": (z.square().mean(0) - 1).square().mean()})


def resnet(rule=None, **options):
    torch.manual_seed(0)
    return Learner(ResNet().double(), rule or Square(), units=["stem", "layers.*"], **options)


def unit_by_unit(units, head, x, y):
    """The oracle: no hooks; each unit's error sent back by autograd from a detached input."""
    for unit in units:
        z = unit(x.detach())
        flat = z.detach()
        z.backward(flat * (flat.square().mean(0) - 1))
        x = z
    loss = nn.functional.cross_entropy(head(x.detach()), y)
    loss.backward()
    return loss.detach()


def test_a_residual_network_learns_unit_by_unit():
    learner, (x, y) = resnet(), images()
    other = copy.deepcopy(learner.model)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), other.fc)
    loss = unit_by_unit([other.stem, *other.layers], head, x, y)
    step = learner.backward(x, y)
    assert largest_difference(gradients(learner.model), gradients(other)) < 1e-14
    torch.testing.assert_close(step.loss, loss)
    assert list(step.terms) == ["stem", "layers.0", "layers.1", "layers.2"]
    assert step.logits.shape == (24, 10)
    assert not step.logits.requires_grad
    assert step.correct.dtype == torch.bool
    for one, two in zip(learner.buffers(), other.buffers(), strict=True):
        assert torch.equal(one, two)


def test_batch_norm_in_eval_mode_keeps_its_statistics():
    learner, (x, y) = resnet(), images()
    learner.model.stem.eval()
    before = learner.model.stem[1].running_mean.clone()
    learner.backward(x, y)
    assert torch.equal(learner.model.stem[1].running_mean, before)
    assert not torch.equal(learner.model.layers[0].convs[1].running_mean, torch.zeros(8).double())


def test_a_unit_called_twice_adds_up():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.unit, self.head = nn.Sequential(nn.Linear(64, 64), nn.Tanh()), nn.Linear(64, 10)

        def forward(self, x):
            return self.head(self.unit(self.unit(x)))

    model, (x, y) = Recurrent().double(), rows()
    other = copy.deepcopy(model)
    unit_by_unit([other.unit, other.unit], other.head, x, y)
    learner = Learner(model, Square(), units="unit")
    step = learner.backward(x, y)
    assert largest_difference(gradients(model), gradients(other)) < 1e-14
    loss = copy.deepcopy(learner)(x, y)
    torch.testing.assert_close(loss.detach(), step.loss + step.terms["unit"]["objective"])


def test_units_that_return_tuples_and_sequences():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.LSTM(8, 16, batch_first=True)
            self.second = nn.LSTM(16, 16, batch_first=True)
            self.head = nn.Linear(16, 10)

        def forward(self, x):
            output, state = self.first(x)
            output, (hidden, _) = self.second(output, state)
            return self.head(hidden[-1])

    torch.manual_seed(0)
    model, (x, y) = Recurrent().double(), rows()
    x = x.view(-1, 8, 8)
    other = copy.deepcopy(model)
    output, state = other.first(x)
    output.backward(output.detach() * (output.detach().square().mean(0) - 1))
    output, (hidden, _) = other.second(output.detach(), tuple(part.detach() for part in state))
    output.backward(output.detach() * (output.detach().square().mean(0) - 1))
    nn.functional.cross_entropy(other.head(hidden[-1].detach()), y).backward()
    learner = Learner(model, Square(), units=["first", "second"])
    learner.backward(x, y)
    assert largest_difference(gradients(model), gradients(other)) < 1e-13
    assert learner.units[0].shape == (16, 8)  # features first, then time


def test_time_first_sequences_need_to_be_told_apart():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.unit, self.head = nn.LSTM(8, 16), nn.Linear(16, 10)

        def forward(self, x):
            return self.head(self.unit(x.transpose(0, 1))[0][-1])

    x, y = rows()
    learner = Learner(Recurrent().double(), Square(), units="unit")
    with pytest.raises(
        MismatchError, match=r"unit unit returns \(8, 24, 16\) for a batch of 24 samples; give activity"
    ):
        learner.backward(x.view(-1, 8, 8), y)
    learner = Learner(learner.model, Square(), units="unit", activity={"unit": lambda out: out[0].transpose(0, 1)})
    learner.backward(x.view(-1, 8, 8), y)
    assert learner.model.unit.weight_hh_l0.grad.abs().max() > 0


def test_groups_run_over_the_features_of_a_sequence():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Linear(8, 12), nn.Linear(12, 10)

        def forward(self, x):
            return self.head(self.embed(x).mean(1))

    torch.manual_seed(0)
    model, (x, y) = Tokens().double(), rows()
    other = copy.deepcopy(model)
    Learner(model, KernelizedBottleneck(groups=4, sigma=1.0), units="embed").backward(x.view(-1, 8, 8), y)
    z = other.embed(x.view(-1, 8, 8))
    blocks = z.transpose(1, 2).reshape(24, 4, -1)
    u = (1 + (blocks - blocks.mean(-1, keepdim=True)).square().sum(-1)) / blocks.shape[-1]
    v = u.sqrt() - u.sqrt().mean(-1, keepdim=True)
    K = torch.exp(-torch.cdist(v, v).square() / 2)
    Y = torch.where(y[:, None] == y, 1.0, -1 / 9 * torch.ones(()).double())
    K, Y = K - K.mean(), Y - Y.mean()
    ((K * K).mean() - 2 * (Y * K).mean()).backward()
    torch.testing.assert_close(model.embed.weight.grad, other.embed.weight.grad, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(
    "wrap",
    [
        parametrizations.weight_norm,
        lambda layer: prune.random_unstructured(layer, "weight", 0.3),
        parametrizations.spectral_norm,
    ],
)
def test_reparametrised_units_learn(wrap):
    def build():
        torch.manual_seed(2)
        layers = [wrap(nn.Linear(64, 16)), nn.Tanh(), wrap(nn.Linear(16, 16)), nn.Tanh(), nn.Linear(16, 10)]
        return nn.Sequential(*layers).double().eval()

    model, other, (x, y) = build(), build(), rows()
    Learner(model, Square(), units=["0:2", "2:4"]).backward(x, y)
    unit_by_unit([other[0:2], other[2:4]], other[4], x, y)
    assert largest_difference(gradients(model), gradients(other)) < 1e-13


def test_frozen_parameters_stay_without_gradient_and_the_rest_learns():
    learner, (x, y) = resnet(), images()
    want = gradients(learner_after(learner, x, y).model)
    for parameter in [*learner.model.layers[0].parameters(), learner.model.layers[1].convs[0].weight]:
        parameter.requires_grad_(False)
    learner.backward(x, y)
    got = gradients(learner.model)
    assert got.keys() == {n for n in want if not n.startswith("layers.0") and n != "layers.1.convs.0.weight"}
    assert largest_difference(got, {name: want[name] for name in got}) < 1e-14


def learner_after(learner, x, y):
    other = copy.deepcopy(learner)
    other.backward(x, y)
    return other


def test_gradients_accumulate_when_asked_and_are_refused_otherwise():
    learner, (x, y) = resnet(), images()
    learner.eval()
    learner.backward(x, y)
    once = gradients(learner)
    with pytest.raises(MismatchError, match=r"stem\.0\.weight holds a gradient from before: call learner.zero_grad"):
        learner.backward(x, y)
    learner.backward(x, y, accumulate=True)
    assert largest_difference(gradients(learner), {name: 2 * each for name, each in once.items()}) < 1e-14


def test_scale_multiplies_all_gradients():
    learner, (x, y) = resnet(), images()
    once = gradients(learner_after(learner, x, y))
    learner.backward(x, y, scale=torch.tensor(1024.0))
    assert largest_difference(gradients(learner), {name: 1024 * each for name, each in once.items()}) < 1e-14


def test_half_precision_keeps_small_errors_by_a_scale():
    torch.manual_seed(0)
    model, (x, y) = sequential(), rows(128, torch.float32)
    rule = KernelizedBottleneck(sigma=50.0)
    exact = gradients(learner_after(Learner(model, rule), x, y).model)["0.weight"]
    half = copy.deepcopy(model).half()
    for scale, close in ((1.0, False), (2.0**20, True)):
        half.zero_grad()
        Learner(half, KernelizedBottleneck(sigma=50.0)).backward(x.half(), y, scale=scale)
        got = half[0].weight.grad.float() / scale
        assert bool((got - exact).abs().max() < 0.05 * exact.abs().max()) == close


def test_autocast_learns_and_survives_weights_cast_without_a_graph():
    learner, (x, y) = resnet(), images()
    exact = gradients(learner_after(learner, x, y))
    learner, x = learner.float(), x.float()
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            learner.model(x)  # leaves weights in autocast's cache that know no graph
        learner.backward(x, y)
    for name, gradient in gradients(learner).items():
        assert gradient.dtype == torch.float32
        if name != "model.stem.0.bias":  # zero: batch norm follows
            cosine = nn.functional.cosine_similarity(gradient.double().flatten(), exact[name].flatten(), 0)
            assert cosine > 0.9, name


def test_in_place_operations_between_and_inside_units():
    def build(inplace):
        torch.manual_seed(1)
        first, second = nn.Sequential(nn.Linear(64, 16), nn.Tanh()), nn.Sequential(nn.ReLU(inplace), nn.Linear(16, 16))
        return nn.Sequential(first, nn.LeakyReLU(inplace=inplace), second, nn.Linear(16, 10)).double()

    (x, y), units = rows(), ["0", "2"]
    plain = Learner(build(False), Square(), units=units)
    plain.backward(x, y)
    for run in (lambda learner: learner.backward(x, y), lambda learner: learner(x, y).backward()):
        learner = Learner(build(True), Square(), units=units)
        run(learner)
        assert largest_difference(gradients(learner.model), gradients(plain.model)) < 1e-14


def test_an_exception_leaves_no_hook_and_no_mode_behind():
    class Fails(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(64, 64)

        def forward(self, x):
            raise ValueError("boom")

    x, y = rows()
    for enabled in (True, False):
        model = nn.Sequential(nn.Linear(64, 64), Fails(), nn.Linear(64, 10)).double()
        learner = Learner(model, Square(), units=["0", "1"])
        with torch.set_grad_enabled(enabled):
            with pytest.raises(ValueError, match="boom"):
                learner.backward(x, y)
            assert torch.is_grad_enabled() == enabled
        assert not hooks(model)


def hooks(model):
    return [hook for module in model.modules() for hook in (*module._forward_hooks, *module._forward_pre_hooks)]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch.compile looks at it
def test_the_model_is_untouched_between_calls():
    model, (x, y) = sequential().double(), rows()
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    learner = Learner(model, KernelizedBottleneck())
    learner.compile(backend="eager")
    learner.backward(x, y)
    assert not hooks(model)
    assert {name: set(vars(module)) for name, module in model.named_modules()} == before
    assert pickle.loads(pickle.dumps(model))(x).shape == (24, 10)  # noqa: S301
    gone = weakref.ref(learner)
    del learner
    gc.collect()
    assert gone() is None


def test_a_learner_copies_and_pickles():
    learner, (x, y) = resnet(KernelizedBottleneck()), images()
    want = gradients(learner_after(learner, x, y))
    loaded = pickle.loads(pickle.dumps(learner))  # noqa: S301
    loaded.backward(x, y)
    assert largest_difference(gradients(loaded), want) == 0
    assert gradients(learner) == {}


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch.compile looks at it
def test_compiled_units_change_rounding_only():
    learner, (x, y) = Learner(sequential().double(), Square()), rows()
    want = gradients(learner_after(learner, x, y).model)
    learner.compile(backend="aot_eager")
    learner.backward(x, y)
    assert largest_difference(gradients(learner.model), want) < 1e-13


def test_inputs_may_be_arguments_by_place_or_name():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.unit, self.head = nn.Linear(64, 16), nn.Linear(16, 10)

        def forward(self, x, gain):
            return {"logits": self.head(torch.tanh(self.unit(x)) * gain)}

    (x, y), gain = rows(), torch.ones(24, 1).double()
    found = []
    for inputs in ((x, gain), {"x": x, "gain": gain}):
        torch.manual_seed(0)
        learner = Learner(Two().double(), Square(), units="unit", output=lambda out: out["logits"])
        learner.backward(inputs, y)
        found.append(gradients(learner))
    assert largest_difference(*found) == 0


def test_a_head_of_several_modules_learns_as_one():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.unit, self.norm, self.fc = nn.Linear(64, 16), nn.LayerNorm(16), nn.Linear(16, 10)

        def forward(self, x):
            return self.fc(self.norm(self.unit(x)))

    torch.manual_seed(0)
    model, (x, y) = Normed().double(), rows()
    other = copy.deepcopy(model)
    Learner(model, Square(), units="unit", head=["norm", "fc"]).backward(x, y)
    unit_by_unit([other.unit], nn.Sequential(other.norm, other.fc), x, y)
    assert largest_difference(gradients(model), gradients(other)) < 1e-14


def test_without_a_head_only_units_learn():
    model, (x, y) = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10)).double(), rows()
    learner = Learner(model, Square(), head=False)
    step = learner.backward(x, y)
    assert step.loss is None
    assert step.logits is None
    assert set(step.terms) == {"0:2", "2"}
    assert gradients(model).keys() == dict(model.named_parameters()).keys()


def test_the_last_layer_alone():
    model, (x, y) = ResNet().double(), images()
    learner = Learner(model, LastLayer())
    learner.backward(x, y)
    assert gradients(model).keys() == {"fc.weight", "fc.bias"}
    assert [group["role"] for group in learner.param_groups(units=1.0, head=0.1)] == ["head"]


def test_direct_feedback_reaches_what_a_unit_sends_on():
    torch.manual_seed(0)
    model, (x, y) = ResNet().double(), images()
    rule = DirectFeedbackAlignment()
    with pytest.raises(
        MismatchError, match=r"needs the shape of unit stem's output: give Learner\(\.\.\., example=x\)"
    ):
        Learner(model, rule, units=["stem", "layers.*"])
    learner = Learner(model, rule, units=["stem", "layers.*"], example=(1, 8, 8))
    other = copy.deepcopy(model)
    learner.backward(x, y)
    outputs = [other.stem(x)]
    for layer in other.layers:
        outputs.append(layer(outputs[-1].detach()))
    logits = other.fc(outputs[-1].detach().mean((2, 3)))
    nn.functional.cross_entropy(logits, y).backward()
    error = (torch.softmax(logits, 1) - nn.functional.one_hot(y, 10)).detach() / len(y)
    for place, output in enumerate(outputs):
        output.backward((error @ rule.feedback[place]).view(output.shape))
    assert largest_difference(gradients(model), gradients(other)) < 1e-12


def test_a_rule_keeps_what_it_drew_for_the_same_model_and_draws_anew_for_another():
    rule, model = DirectFeedbackAlignment(), sequential()
    Learner(model, rule, example=(64,))
    drawn = rule.feedback[0].clone()
    Learner(model, rule, example=(64,))
    assert torch.equal(rule.feedback[0], drawn)
    Learner(copy.deepcopy(model), rule, example=(64,))
    assert not torch.equal(rule.feedback[0], drawn)


def test_record_holds_what_each_weight_layer_had_at_hand():
    learner, (x, y) = resnet(KernelizedBottleneck(groups=4)), images()
    other = learner_after(learner, x, y).model
    records = learner.record(x, y)
    assert gradients(learner) == {}
    assert learner.model.stem[1].num_batches_tracked == 0
    assert records["fc"].unit is None
    torch.testing.assert_close(records["fc"].error.T @ records["fc"].input, other.fc.weight.grad)
    conv = records["layers.1.convs.0"]
    got = torch.nn.grad.conv2d_weight(conv.input, (16, 8, 3, 3), conv.error, 2, 1)
    torch.testing.assert_close(got, other.layers[1].convs[0].weight.grad)
    assert conv.third_factor.shape == (24, 4)
    assert conv.unit == "layers.1"

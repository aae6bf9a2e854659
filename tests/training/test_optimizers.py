"""Any torch optimizer; the formulas of KIB spec section 9, by hand in double precision."""

import math

import pytest
import torch
from torch.nn import Parameter

from infohebb.errors import MismatchError, UnknownKeyError, UnknownNameError, UsageError, WrongTypeError
from infohebb.training.optimizers import make_optimizer, scale_rates


def two_kinds():
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: Parameter(torch.randn(*shape, generator=generator, dtype=torch.float64))  # noqa: E731
    return {"local": [draw(3, 2), draw(3)], "readout": [draw(2)]}


def walk(optimizer, groups, steps=4):
    """Give gradients, step, and return (before, gradients of each step, after) for the first parameter of each kind."""
    generator = torch.Generator().manual_seed(1)
    before = {kind: parameters[0].detach().clone() for kind, parameters in groups.items()}
    gradients = {kind: [] for kind in groups}
    for _ in range(steps):
        for kind, parameters in groups.items():
            for p in parameters:
                p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            gradients[kind].append(parameters[0].grad.clone())
        optimizer.step()
    return before, gradients, {kind: parameters[0].detach() for kind, parameters in groups.items()}


def test_sgd_adds_decay_to_the_gradient_and_starts_momentum_with_it():
    groups, lr, decay = two_kinds(), {"local": 1.0, "readout": 5e-3}, {"local": 1e-2, "readout": 1e-1}
    before, gradients, after = walk(make_optimizer(groups, "sgd", lr, decay, momentum=0.95), groups)
    for kind, p in before.items():
        b = torch.zeros_like(p)
        for step, gradient in enumerate(gradients[kind]):
            g = gradient + decay[kind] * p
            b = g if step == 0 else 0.95 * b + g
            p = p - lr[kind] * b
        torch.testing.assert_close(after[kind], p, rtol=1e-12, atol=1e-12)


def test_adamw_decays_first_and_adds_epsilon_outside_the_corrected_root():
    groups, lr, decay = two_kinds(), {"local": 0.1, "readout": 5e-3}, {"local": 1e-1, "readout": 0.0}
    before, gradients, after = walk(make_optimizer(groups, "adamw", lr, decay), groups)
    for kind, p in before.items():
        m, v = torch.zeros_like(p), torch.zeros_like(p)
        for t, g in enumerate(gradients[kind], 1):
            p = p * (1 - lr[kind] * decay[kind])
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            p = p - lr[kind] * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
        torch.testing.assert_close(after[kind], p, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "name", ["sgd", "SGD", "adam", "AdamW", "rmsprop", "adagrad", "nadam", "radam", "adamax", "asgd"]
)
def test_any_torch_optimizer_steps_with_the_rate_of_its_kind(name):
    groups = two_kinds()
    optimizer = make_optimizer(groups, name, {"local": 0.5, "readout": 0.0})
    assert type(optimizer).__name__.lower() == name.lower()
    before, _, after = walk(optimizer, groups, steps=2)
    assert torch.equal(before["readout"], after["readout"])
    assert not torch.equal(before["local"], after["local"])


def test_one_number_serves_all_kinds():
    optimizer = make_optimizer(two_kinds(), "sgd", 0.3, 0.2)
    assert [(g["lr"], g["weight_decay"], len(g["params"])) for g in optimizer.param_groups] == [
        (0.3, 0.2, 2),
        (0.3, 0.2, 1),
    ]


def test_parameters_without_gradient_stay():
    groups = two_kinds()
    optimizer = make_optimizer(groups, "sgd", 1.0, 0.5)
    before = [p.detach().clone() for p in groups["local"]]
    groups["readout"][0].grad = torch.ones(2, dtype=torch.float64)
    optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(before, groups["local"], strict=True))


@pytest.mark.parametrize(
    ("error", "words", "options"),
    [
        (UnknownNameError, "'sdg'.*did you mean 'sgd'", {"name": "sdg"}),
        (UnknownKeyError, "optimizer.momentun.*SGD", {"momentun": 0.9}),
        (UnknownKeyError, "optimizer.lr.lokal.*local, readout", {"lr": {"lokal": 1.0, "readout": 0.1, "local": 1.0}}),
        (WrongTypeError, "optimizer.lr.*'local'", {"lr": {"readout": 1.0}}),
        (WrongTypeError, "optimizer.weight_decay.local is -1.0", {"weight_decay": -1.0}),
        (WrongTypeError, "optimizer.lr.local is nan", {"lr": math.nan}),
        (WrongTypeError, "optimizer: .*momentum.*-1.0", {"momentum": -1.0}),
        (WrongTypeError, "optimizer: ", {"momentum": "fast"}),
        (WrongTypeError, "optimizer.lr.local is inf", {"lr": math.inf}),
        (MismatchError, "LBFGS computes the loss in its step; take another", {"name": "lbfgs"}),
        (WrongTypeError, "optimizer: .*2D", {"name": "muon"}),
        (UnknownKeyError, "optimizer.params", {"params": 3.0}),
        (UnknownKeyError, "optimizer.groups", {"groups": {}}),
    ],
)
def test_bad_options_are_named(error, words, options):
    with pytest.raises(error, match=words) as caught:
        make_optimizer(two_kinds(), **options)
    assert isinstance(caught.value, UsageError)
    assert "\n" not in str(caught.value)


def test_torchs_own_variants_can_be_asked_for():
    plain, foreach = two_kinds(), two_kinds()
    walk(make_optimizer(plain, "sgd", 0.1, momentum=0.9), plain)
    walk(make_optimizer(foreach, "sgd", 0.1, momentum=0.9, foreach=True), foreach)
    torch.testing.assert_close(plain["local"][0], foreach["local"][0])


def test_rates_fall_after_each_milestone():
    optimizer = make_optimizer(two_kinds(), "sgd", {"local": 1.0, "readout": 0.5})
    rates = {epoch: scale_rates(optimizer, epoch, (50, 75, 90), 0.25) for epoch in range(1, 101)}
    wanted = {1: 1.0, 50: 1.0, 51: 0.25, 75: 0.25, 76: 0.25**2, 90: 0.25**2, 91: 0.25**3, 100: 0.25**3}
    assert {epoch: rates[epoch][0] for epoch in wanted} == wanted
    assert all(rate[1] == 0.5 * rate[0] for rate in rates.values())
    assert [table["lr"] for table in optimizer.param_groups] == [0.25**3, 0.5 * 0.25**3]


def test_a_schedule_taken_up_in_the_middle_gives_the_same_rates():
    optimizer = make_optimizer(two_kinds(), "sgd", 1.0)
    assert scale_rates(optimizer, 80, (50, 75), 0.25) == {0: 0.0625, 1: 0.0625}
    assert scale_rates(optimizer, 80, (50, 75), 0.25) == {0: 0.0625, 1: 0.0625}
    assert scale_rates(optimizer, 3, (50, 75), 0.25) == {0: 1.0, 1: 1.0}


def test_a_user_s_own_torch_optimizer_can_be_scheduled():
    optimizer = torch.optim.SGD([Parameter(torch.ones(1))], lr=0.4)
    assert [scale_rates(optimizer, epoch, (1,), 0.5)[0] for epoch in (1, 2, 3)] == [0.4, 0.2, 0.2]

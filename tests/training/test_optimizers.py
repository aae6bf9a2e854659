"""Any torch optimizer; the formulas of KIB spec section 9, by hand in double precision."""

import copy
import math

import pytest
import torch
from torch.nn import Parameter

from infohebb.errors import MismatchError, UnknownKeyError, UnknownNameError, UsageError, WrongTypeError
from infohebb.training.optimizers import Schedule, make_optimizer, scale_rates


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


def test_a_list_gives_each_parameter_of_a_kind_a_group_of_its_own():
    groups = two_kinds()
    optimizer = make_optimizer(groups, "sgd", {"local": [1.0, 0.5], "readout": 0.1}, 0.2)
    told = [(g["kind"], g["lr"], g["weight_decay"]) for g in optimizer.param_groups]
    assert told == [("local.1", 1.0, 0.2), ("local.2", 0.5, 0.2), ("readout", 0.1, 0.2)]
    held = [p for g in optimizer.param_groups for p in g["params"]]
    assert all(p is q for p, q in zip(held, groups["local"] + groups["readout"], strict=True))
    decays = make_optimizer(two_kinds(), "sgd", 0.1, {"local": (0.0, 1.0), "readout": [0.3]}).param_groups
    assert [(g["kind"], g["lr"], g["weight_decay"]) for g in decays] == [
        ("local.1", 0.1, 0.0),
        ("local.2", 0.1, 1.0),
        ("readout.1", 0.1, 0.3),
    ]


def test_a_group_is_named_after_its_kind():
    assert [g["kind"] for g in make_optimizer(two_kinds(), "adam").param_groups] == ["local", "readout"]


def test_each_parameter_steps_with_the_rate_of_the_list():
    groups = two_kinds()
    before = [p.detach().clone() for p in groups["local"]]
    optimizer = make_optimizer(groups, "sgd", {"local": [1.0, 0.25], "readout": 0.1})
    for p in groups["local"]:
        p.grad = torch.ones_like(p)
    optimizer.step()
    for rate, p, q in zip([1.0, 0.25], before, groups["local"], strict=True):
        torch.testing.assert_close(q.detach(), p - rate, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["sgd", "sgd_then_decay", "adam_epsilon_hat"])
def test_parameters_without_gradient_stay(name):
    groups = two_kinds()
    optimizer = make_optimizer(groups, name, 1.0, 0.5)
    before = [p.detach().clone() for p in groups["local"]]
    groups["readout"][0].grad = torch.ones(2, dtype=torch.float64)
    optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(before, groups["local"], strict=True))


@pytest.mark.parametrize("follows", [True, False])
def test_sgd_then_decay_decays_what_the_step_has_made(follows):
    groups, lr, decay = two_kinds(), {"local": 0.5, "readout": 0.1}, {"local": 0.2, "readout": 0.0}
    optimizer = make_optimizer(groups, "sgd_then_decay", lr, decay, decay_follows_rate=follows)
    generator = torch.Generator().manual_seed(1)
    expected = {kind: [p.detach().clone() for p in parameters] for kind, parameters in groups.items()}
    for epoch, falling in [(1, 1.0), (2, 0.75), (3, 0.75**2)]:
        scale_rates(optimizer, epoch, (1, 2), 0.75)
        for kind, parameters in groups.items():
            rate = lr[kind] * falling
            kept = 1 - (rate if follows else lr[kind]) * decay[kind]
            for p, q in zip(parameters, expected[kind], strict=True):
                p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64)
                for place in range(q.numel()):
                    stepped = q.view(-1)[place] - rate * p.grad.view(-1)[place]
                    q.view(-1)[place] = kept * stepped
        optimizer.step()
    for kind, parameters in groups.items():
        for p, q in zip(parameters, expected[kind], strict=True):
            torch.testing.assert_close(p.detach(), q, rtol=1e-12, atol=1e-12)


def test_adam_epsilon_hat_adds_epsilon_to_the_root_that_is_not_corrected():
    groups, lr, decay = two_kinds(), {"local": 0.1, "readout": 5e-3}, {"local": 0.0, "readout": 0.3}
    options = {"betas": (0.8, 0.95), "eps": 1e-2}
    before, gradients, after = walk(make_optimizer(groups, "adam_epsilon_hat", lr, decay, **options), groups)
    for kind, start in before.items():
        for place in range(start.numel()):
            p, m, v = start.view(-1)[place].item(), 0.0, 0.0
            for t, gradient in enumerate(gradients[kind], 1):
                g = gradient.view(-1)[place].item() + decay[kind] * p
                m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
                p = p - lr[kind] * math.sqrt(1 - 0.95**t) / (1 - 0.8**t) * m / (math.sqrt(v) + 1e-2)
            assert after[kind].reshape(-1)[place].item() == pytest.approx(p, rel=1e-12)


def test_adam_epsilon_hat_counts_the_steps_of_each_parameter():
    late, always = Parameter(torch.ones(2, dtype=torch.float64)), Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = make_optimizer({"local": [always, late]}, "adam_epsilon_hat", 0.1)
    for step in range(3):
        always.grad = torch.full((2,), 0.5, dtype=torch.float64)
        late.grad = torch.full((2,), 0.5, dtype=torch.float64) if step == 2 else None
        optimizer.step()
    alone = Parameter(torch.ones(2, dtype=torch.float64))
    single = make_optimizer({"local": [alone]}, "adam_epsilon_hat", 0.1)
    alone.grad = torch.full((2,), 0.5, dtype=torch.float64)
    single.step()
    torch.testing.assert_close(late, alone, rtol=1e-12, atol=0.0)
    assert not torch.equal(late, always)


@pytest.mark.parametrize("name", ["sgd_then_decay", "adam_epsilon_hat"])
def test_an_optimizer_taken_up_from_its_state_goes_on_to_the_same_bits(name):
    options = {"decay_follows_rate": False} if name == "sgd_then_decay" else {"betas": (0.8, 0.9)}
    whole, halves = two_kinds(), two_kinds()
    steppers = [make_optimizer(groups, name, 0.1, 0.1, **options) for groups in (whole, halves)]
    for groups, optimizer in zip((whole, halves), steppers, strict=True):
        scale_rates(optimizer, 2, (1,), 0.5)
        walk(optimizer, groups)
    again = make_optimizer(halves, name, 0.7)  # its settings are those of the state
    again.load_state_dict(copy.deepcopy(steppers[1].state_dict()))
    walk(steppers[0], whole)
    walk(again, halves)
    assert all(torch.equal(*pair) for pair in zip(whole["local"], halves["local"], strict=True))


@pytest.mark.parametrize("name", ["sgd_then_decay", "adam_epsilon_hat"])
def test_own_optimizers_give_back_the_loss_of_a_closure(name):
    weight = Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = make_optimizer({"local": [weight]}, name, 0.1)

    def closure():
        loss = (weight * weight).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2.0
    assert weight.grad is not None


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
        (
            WrongTypeError,
            "optimizer.lr.local: 3 numbers for 2 parameters; give one number, or one for each parameter",
            {"lr": {"local": [1.0, 2.0, 3.0], "readout": 0.1}},
        ),
        (WrongTypeError, "weight_decay.readout: 0 numbers for 1 par", {"weight_decay": {"local": 0.1, "readout": []}}),
        (WrongTypeError, r"lr.local\[1\] is nan", {"lr": {"local": [0.1, math.nan], "readout": 0.1}}),
        (WrongTypeError, r"lr.local\[0\] is -1.0", {"lr": {"local": [-1.0, 0.1], "readout": 0.1}}),
        (
            UnknownKeyError,
            "optimizer.momentum: SGDThenDecay has",
            {"name": "sgd_then_decay", "lr": 1.0, "momentum": 0.9},
        ),
        (UnknownKeyError, "optimizer.beta: AdamEpsilonHat has", {"name": "adam_epsilon_hat", "beta": 0.9}),
        (WrongTypeError, "AdamEpsilonHat says: betas", {"name": "adam_epsilon_hat", "betas": (0.9, 1.0)}),
        (WrongTypeError, "AdamEpsilonHat says: betas", {"name": "adam_epsilon_hat", "betas": (0.9,)}),
        (WrongTypeError, "AdamEpsilonHat says: eps is -1.0", {"name": "adam_epsilon_hat", "eps": -1.0}),
        (UnknownNameError, "did you mean 'sgd_then_decay'", {"name": "sgd_then_decays"}),
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


def test_powers_count_from_the_first_epoch_with_the_base_in_force():
    optimizer = make_optimizer(two_kinds(), "sgd", {"local": 2.0, "readout": 0.5})
    schedule = Schedule(powers=[[1, 0.95], [16, 0.9]])
    rates = {epoch: schedule.set_rates(optimizer, epoch, 0)[0] for epoch in (16, 1, 15, 2, 50)}
    wanted = {1: 2.0, 2: 2 * 0.95, 15: 2 * 0.95**14, 16: 2 * 0.9**15, 50: 2 * 0.9**49}
    assert rates == pytest.approx(wanted, rel=1e-12)
    late = Schedule(powers=[[3, 0.5]])
    assert [late.set_rates(optimizer, epoch, 0)[1] for epoch in (1, 2, 3, 4)] == [0.5, 0.5, 0.125, 0.0625]


def test_rates_fall_after_every_so_many_steps():
    optimizer = make_optimizer(two_kinds(), "sgd", 1.0)
    schedule = Schedule(factor=0.9, factor_every=30_000)
    rates = [schedule.set_rates(optimizer, 1, steps)[0] for steps in (0, 29_999, 30_000, 59_999, 60_000)]
    assert rates == pytest.approx([1.0, 1.0, 0.9, 0.9, 0.81], rel=1e-12)


def test_milestones_powers_and_steps_multiply():
    optimizer = make_optimizer(two_kinds(), "sgd", 1.0)
    schedule = Schedule((2,), 0.5, [[1, 0.9]], 10)
    assert schedule.set_rates(optimizer, 3, 25)[1] == pytest.approx(0.5 * 0.9**2 * 0.5**2, rel=1e-12)

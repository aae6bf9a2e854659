"""Dropout: the values of functional.dropout, its statistics, and draws that depend on (seed, unit, draw) alone."""

import math

import pytest
import torch

from functional.oracles import normal
from infohebb.errors import MismatchError
from infohebb.functional import dropout as functional
from infohebb.networks.plain import Dropout
from infohebb.networks.plain.dropout import drop
from infohebb.networks.plain.randomness import draws, enter_unit, generator, mix

both_kinds = pytest.mark.parametrize("alpha", [False, True])
every_layout = pytest.mark.parametrize("shape", [(6, 40), (5, 7, 8), (5, 3, 4, 2)])


def layouts(shape):
    """The same input, however it may lie in memory."""
    x = normal(*shape)
    others = [x.movedim(-1, 0).contiguous().movedim(0, -1), normal(*shape, 2).copy_(x.unsqueeze(-1))[..., 0]]
    return [x, *others, *([x.contiguous(memory_format=torch.channels_last)] if x.dim() == 4 else [])]


def dropped_by(seed, unit, units=1000, rate=0.3):
    """Which units are dropped, as a set, in the first draw of a unit."""
    with draws(seed):
        enter_unit(unit)
        return frozenset((Dropout(rate)(torch.ones(units)) == 0).nonzero().flatten().tolist())


@both_kinds
@every_layout
def test_values_and_gradients_are_those_of_the_closed_form(alpha, shape):
    kind = "alpha_dropout" if alpha else "dropout"
    error = normal(*shape, seed=1)
    torch.manual_seed(0)
    expected = getattr(functional, kind)(normal(*shape), 0.3)
    for x in layouts(shape):
        torch.manual_seed(0)
        dropped = functional.strike(x, 0.3)
        torch.manual_seed(0)
        leaf = x.requires_grad_()
        y = Dropout(0.3, alpha)(leaf)
        assert torch.equal(y, expected)
        y.backward(error)
        assert torch.equal(leaf.grad, getattr(functional, f"{kind}_backward")(error, 0.3, dropped))


@both_kinds
def test_a_mask_as_on_other_devices_drops_the_same(alpha):
    x = normal(5, 3, 4, 2)
    dropped = functional.strike(x, 0.4)
    mask = drop(torch.ones_like(x), 0.4, dropped) == 0
    assert torch.equal(drop(x, 0.4, mask, alpha), drop(x, 0.4, dropped, alpha))
    assert Dropout(0.4, alpha)(x.to("meta")).shape == x.shape
    with draws(0):
        assert Dropout(0.4, alpha)(x.to("meta")).device.type == "meta"


@both_kinds
def test_input_gradients_may_be_differentiated_again(alpha):
    x = normal(3, 4).requires_grad_()
    dropped = functional.strike(x, 0.5)
    assert torch.autograd.gradgradcheck(lambda x: drop(x, 0.5, dropped, alpha) ** 2, x)


@both_kinds
def test_eval_mode_and_rate_zero_return_the_input_itself(alpha):
    x = normal(30, 30)
    assert Dropout(0.3, alpha).eval()(x) is x
    assert Dropout(0.0, alpha)(x) is x


@both_kinds
def test_the_input_is_left_as_it_is(alpha):
    x = normal(30, 30)
    before = x.clone()
    assert not torch.equal(Dropout(0.3, alpha)(x), before)
    assert torch.equal(x, before)


def test_draws_have_the_rate_and_are_independent_between_units_and_steps():
    count, rate = 1000, 0.3
    sets = {(seed, unit): dropped_by(seed, unit) for seed in range(20) for unit in ("layers.0", "layers.1")}
    spread = 4 * math.sqrt(count * rate * (1 - rate) / len(sets))
    assert abs(sum(map(len, sets.values())) / len(sets) - count * rate) < spread
    overlap = [len(sets[seed, "layers.0"] & sets[seed, "layers.1"]) for seed in range(20)]
    overlap += [len(sets[seed, unit] & sets[seed + 1, unit]) for seed in range(19) for unit in ("layers.0", "layers.1")]
    chance = count * rate**2
    assert abs(sum(overlap) / len(overlap) - chance) < 4 * math.sqrt(chance / len(overlap))


def test_the_same_seed_and_unit_draw_the_same_whatever_came_before():
    with draws(7):
        enter_unit("layers.0")
        before = Dropout(0.3)(torch.ones(100))
        enter_unit("layers.1")
        first, second = Dropout(0.3)(torch.ones(100)), Dropout(0.3)(torch.ones(100))
        enter_unit("layers.0")  # once more: it goes on
        assert not torch.equal(Dropout(0.3)(torch.ones(100)), before)
    assert not torch.equal(first, second)
    assert not torch.equal(first, before)
    torch.rand(3)
    with draws(7):
        enter_unit("layers.1")
        assert torch.equal(Dropout(0.3)(torch.ones(100)), first)
        enter_unit("layers.0")
        assert torch.equal(Dropout(0.3)(torch.ones(100)), before)
        enter_unit("layers.1")
        assert torch.equal(Dropout(0.3)(torch.ones(100)), second)


def test_seeds_are_the_same_in_every_process():
    assert mix(0, "layers.0", 0) == 430742821621423079
    assert mix(2**63 - 2, "größe", 5) != mix(2**63 - 2, "größe", 6)
    assert all(0 <= mix(seed, "", 0) < 2**63 for seed in range(100))


def test_a_seed_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with draws(5):
        Dropout(0.3)(torch.ones(100))
    with draws():
        enter_unit("layers.0")
    assert torch.equal(torch.rand(3), expected)


def test_the_global_generator_governs_a_context_without_a_seed():
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        for _ in range(2):
            with draws():
                enter_unit("layers.0")
                found.append(Dropout(0.3)(torch.ones(100)))
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[3])
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[4])


def test_the_innermost_context_counts_and_ends_with_an_exception():
    with draws(1) as outer:
        enter_unit("a")
        with pytest.raises(KeyError), draws(2) as inner:
            enter_unit("b")
            assert inner.seed == 2
            raise KeyError
        with draws(1):
            enter_unit("a")
            expected = Dropout(0.3)(torch.ones(100))
        assert outer.seed == 1
        assert torch.equal(Dropout(0.3)(torch.ones(100)), expected)
    assert generator(torch.device("cpu")) is None
    enter_unit("outside")


@pytest.mark.parametrize("rate", [1.0, -0.1, math.nan])
def test_a_rate_that_is_no_probability_below_one_is_refused(rate):
    with pytest.raises(MismatchError, match=f"dropout rate {rate} is no probability"):
        Dropout(rate)


def test_settings_are_in_its_repr():
    assert repr(Dropout(0.1)) == "Dropout(rate=0.1)"
    assert repr(Dropout(0.1, alpha=True)) == "Dropout(rate=0.1, alpha=True)"

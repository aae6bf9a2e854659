import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from functional import oracles
from functional.oracles import assert_close, derivative, few, golden, normal
from infohebb.functional import grouping, kernels

SHAPES = [((5, 12), 3), ((5, 12), 6), ((4, 6, 2, 2), 3), ((4, 6, 2, 2), 12)]
every_shape = pytest.mark.parametrize(("shape", "groups"), SHAPES)
sizes = given(seed=st.integers(0, 999), m=st.integers(1, 5), groups=st.integers(2, 4), size=st.integers(2, 5))


@every_shape
@pytest.mark.parametrize("delta", [0.0, 1.0, 2.5])
def test_groups_are_consecutive_blocks_with_their_own_mean_and_variance(shape, groups, delta):
    z = normal(*shape)
    values, variance, taken = grouping.group(z, groups, delta)
    centred = values.reshape(len(z), groups, -1) * variance.pow(taken)[:, :, None]
    flat = z.flatten(1).tolist()
    size = len(flat[0]) // groups
    for i, sample in enumerate(flat):
        for alpha in range(groups):
            members = sample[alpha * size : (alpha + 1) * size]
            mean = sum(members) / size
            centred_members = [member - mean for member in members]
            assert centred[i, alpha].tolist() == pytest.approx(centred_members, abs=1e-14)
            total = delta + sum((member - mean) ** 2 for member in members)
            assert variance[i, alpha].item() == pytest.approx(total / size, rel=1e-13)


def test_delta_is_one_and_the_divisive_power_a_fifth_unless_told():
    z = normal(4, 12)
    assert torch.equal(grouping.group(z, 3).variance, grouping.group(z, 3, 1.0).variance)
    assert_close(grouping.divisive_normalisation(z, 3), oracles.divisive_norm(z, 3, 0.2, 1.0), 1e-13)
    backward = grouping.divisive_normalisation_backward
    assert torch.equal(backward(z, z, 3), backward(z, z, 3, 0.2, 1.0))


def test_powers_of_zero_and_zeroth_powers():
    u = torch.tensor([[0.0, 1.0, 4.0]], dtype=torch.float64)
    assert grouping.raise_to(u, 0.0).tolist() == [[1, 1, 1]]
    assert grouping.raise_to(u, 0.5).tolist() == [pytest.approx([0, 1, 2], abs=1e-15)]
    assert grouping.raise_to(u[:, 1:], -0.5).tolist() == [pytest.approx([1, 0.5], abs=1e-15)]
    assert u.tolist() == [[0, 1, 4]]


@every_shape
@pytest.mark.parametrize("power", [0.5, 0.8, 1.0])
def test_group_signal_is_the_power_minus_its_mean(shape, groups, power):
    z = normal(*shape)
    got = grouping.group_signal(grouping.group(z, groups, 0.7).variance, power)
    assert_close(got, oracles.group_signal(z, groups, power, 0.7), 1e-13)


@every_shape
@pytest.mark.parametrize(("power", "delta"), [(0.2, 1.0), (0.5, 0.0), (0.0, 1.0), (0.7, 3.0)])
def test_divisive_normalisation_group_by_group(shape, groups, power, delta):
    z = normal(*shape)
    got = grouping.divisive_normalisation(z, groups, power, delta)
    assert_close(got, oracles.divisive_norm(z, groups, power, delta), 1e-13)


@every_shape
@pytest.mark.parametrize(("power", "delta"), [(0.2, 1.0), (0.3, 0.0), (0.0, 1.0), (0.7, 3.0)])
def test_backward_of_divisive_normalisation_is_that_of_autograd(shape, groups, power, delta):
    z, error = normal(*shape), normal(*shape, seed=1)
    expected = derivative(lambda z: (error * oracles.divisive_norm(z, groups, power, delta)).sum(), z)
    assert_close(grouping.divisive_normalisation_backward(error, z, groups, power, delta), expected, 1e-12)


@pytest.mark.parametrize(("power", "delta"), [(0.8, 1.0), (0.5, 0.3), (0.5, 0.0), (1.0, 1.0)])
def test_group_factor_carries_a_derivative_from_the_signal_to_the_activity(power, delta):
    z, B = normal(5, 12), normal(5, 3, seed=1)
    B = B - B.mean(1, keepdim=True)
    grouped = grouping.group(z, 3, delta)
    factor = grouping.group_factor(B, power, 4)
    got = grouping.scale_groups(grouping.normalise_groups(grouped, 1 - power), factor)
    expected = derivative(lambda z: (B * oracles.group_signal(z, 3, power, delta)).sum(), z)
    assert_close(got, expected, 1e-12)


@few
@sizes
def test_normalised_groups_have_mean_zero(seed, m, groups, size):
    r = grouping.divisive_normalisation(normal(m, groups * size, seed=seed), groups)
    assert r.reshape(m, groups, size).mean(-1).abs().max() < 1e-14


@few
@sizes
def test_power_a_half_without_delta_leaves_variance_one(seed, m, groups, size):
    r = grouping.divisive_normalisation(normal(m, groups * size, seed=seed), groups, power=0.5, delta=0.0)
    variance = r.reshape(m, groups, size).var(-1, correction=0)
    assert_close(variance, torch.ones_like(variance), 1e-10)


@few
@sizes
def test_power_zero_only_centres(seed, m, groups, size):
    z = normal(m, groups * size, seed=seed)
    blocks = z.reshape(m, groups, size)
    expected = (blocks - blocks.mean(-1, keepdim=True)).reshape(z.shape)
    assert_close(grouping.divisive_normalisation(z, groups, power=0.0), expected, 1e-14)


@few
@sizes
def test_group_signal_does_not_see_shifts_of_a_group_nor_the_order_inside(seed, m, groups, size):
    z = normal(m, groups, size, seed=seed)
    inside = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    moved = z[:, :, inside] + 5 * normal(m, groups, 1, seed=seed + 1)
    got, expected = (grouping.group_signal(grouping.group(a.flatten(1), groups).variance, 0.8) for a in (moved, z))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@few
@sizes
def test_the_kernel_does_not_see_the_order_of_the_groups(seed, m, groups, size):
    z = normal(m, groups, size, seed=seed)
    order = torch.randperm(groups, generator=torch.Generator().manual_seed(seed))
    signals = (grouping.group_signal(grouping.group(a.flatten(1), groups).variance, 0.8) for a in (z[:, order], z))
    got, expected = (kernels.gaussian_gram(v, 0.5) for v in signals)
    assert_close(got, expected, 1e-12)


@few
@given(seed=st.integers(0, 999), kernel=st.sampled_from([kernels.linear(), kernels.gaussian(0.5), kernels.cosine()]))
def test_derivatives_by_the_group_signal_sum_to_zero(seed, kernel):
    v = grouping.group_signal(normal(6, 4, seed=seed) ** 2, 0.8)
    B = kernel.coupling(v, kernel.gram(v), oracles.symmetric(6, seed)) @ v
    assert B.sum(1).abs().max() < 1e-12 * B.abs().max()


def test_groups_of_the_reference_code():
    case = golden("grouping_divnorm")
    computed = {}
    for kind, choices in {"fc": (3, 6, 12), "conv": (4, 8, 16)}.items():
        for groups in choices:
            for delta in (0, 1):
                at, z = f"{kind}__G{groups}__delta{delta}__", case[kind]
                u = grouping.group(z, groups, float(delta)).variance
                computed[at + "u"] = u
                for power in (0.5, 0.8):
                    computed[f"{at}u_pow{power}"] = u**power
                    computed[f"{at}v{power}"] = grouping.group_signal(u, power)
                for power in (0.2, 0.5):
                    computed[f"{at}r{power}"] = grouping.divisive_normalisation(z, groups, power, float(delta))
    assert computed.keys() | {"fc", "conv"} == case.keys()
    for key, got in computed.items():
        assert_close(got, case[key], message=key)


@pytest.mark.parametrize("groups", [3, 6, 12])  # two channels, one, and half a channel in each
def test_a_map_may_lie_in_memory_with_its_channels_side_by_side(groups):
    z, error = normal(4, 6, 2, 2), normal(4, 6, 2, 2, seed=1)
    beside = z.contiguous(memory_format=torch.channels_last)
    u = grouping.group(z, groups).variance
    assert_close(grouping.group(beside, groups).variance, u, 1e-14)
    r = grouping.divisive_normalisation(beside, groups)
    assert_close(r, grouping.divisive_normalisation(z, groups), 1e-14)
    assert r.is_contiguous(memory_format=torch.channels_last) == (groups < 12)
    back = [grouping.divisive_normalisation_backward(error, a, groups) for a in (beside, z)]
    assert_close(*back, 1e-13)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("offset", "spread"), [(0, 1), (30, 0.3), (1000, 1), (10, 1e-3)])
def test_single_precision_keeps_its_digits_far_from_zero(layout, offset, spread):
    z = (offset + spread * normal(6, 8, 5, 5)).float()
    expected = grouping.group(z.double(), 4, 1e-4).variance
    got = grouping.group(z.contiguous(memory_format=layout), 4, 1e-4).variance.double()
    assert ((got - expected) / expected).abs().max() < 1e-5 * max(1, offset / spread / 100)


@pytest.mark.parametrize("power", [0.8, 0.5])
@pytest.mark.parametrize("delta", [1.0, 0.0])
def test_signal_and_norm_of_a_single_activity(power, delta):
    z = normal(1, 24)
    grouped = grouping.group(z, 6, delta)
    signal, normalised = grouping.signal_and_norm(z[0], 6, power, delta)
    assert_close(signal, grouping.group_signal(grouped.variance, power)[0], 1e-12)
    assert_close(normalised, grouping.normalise_groups(grouped, 1 - power)[0], 1e-12)

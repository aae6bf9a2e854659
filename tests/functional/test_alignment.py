"""Angles against high-precision arithmetic, where an arccosine would fail, and for vectors without direction."""

import math

import pytest
import torch

from functional.oracles import normal
from infohebb.functional.alignment import angle, norm_ratio


def turned(degrees, length=1.0, dtype=torch.float64):
    """A vector in a plane of a random basis, at an angle to that of 0 degrees."""
    first, second = torch.linalg.qr(normal(50, 2)).Q.T
    return (length * (math.cos(math.radians(degrees)) * first + math.sin(math.radians(degrees)) * second)).to(dtype)


@pytest.mark.parametrize("degrees", [1e-10, 1e-6, 1e-3, 1.0, 30.0, 60.0, 90.0, 120.0, 179.0, 179.999, 180 - 1e-9])
def test_the_angle_is_the_one_that_was_made(degrees):
    got = angle(turned(0.0, 3.0), turned(degrees, 0.01)).item()
    assert got == pytest.approx(degrees, rel=1e-5 if degrees < 1e-5 else 1e-12, abs=1e-13)


def test_the_angle_is_the_arccosine_where_that_can_be_had():
    a, b = normal(4, 3, 2), normal(4, 3, 2, seed=1)
    cosine = sum(x * y for x, y in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True))
    cosine /= math.sqrt(sum(x * x for x in a.flatten().tolist()) * sum(y * y for y in b.flatten().tolist()))
    assert angle(a, b).item() == pytest.approx(math.degrees(math.acos(cosine)), rel=1e-12)
    assert torch.equal(angle(a, b), angle(b, a))


@pytest.mark.parametrize("length", [1.0, 1e-30, 1e30])
@pytest.mark.parametrize("degrees", [0.01, 89.0, 179.99])
def test_single_precision_keeps_small_angles_and_extreme_lengths(degrees, length):
    a, b = turned(0.0, 1.0, torch.float32), turned(degrees, length, torch.float32)
    assert angle(a, b).item() == pytest.approx(degrees, abs=1e-5)
    assert norm_ratio(a, b).item() == pytest.approx(1 / length, rel=1e-6)


def test_equal_and_opposite_vectors_are_at_0_and_180():
    a = normal(40, 30).float()
    assert angle(a, a).item() == 0.0
    assert angle(a, 2 * a).item() == 0.0
    assert angle(a, -a).item() == 180.0
    assert angle(a, -8 * a).item() == 180.0


def test_a_zero_vector_has_no_direction_and_its_norm_is_a_number():
    a, zero = normal(3, 2), torch.zeros(3, 2, dtype=torch.float64)
    for pair in ((a, zero), (zero, a), (zero, zero)):
        assert angle(*pair).isnan()
    assert norm_ratio(zero, a).item() == 0.0
    assert norm_ratio(a, zero).item() == math.inf
    assert norm_ratio(zero, zero).isnan()


def test_the_norm_ratio_is_that_of_the_frobenius_norms():
    a, b = normal(4, 3), normal(4, 3, seed=1)
    lengths = [math.sqrt(sum(x * x for x in m.flatten().tolist())) for m in (a, b)]
    assert norm_ratio(a, b).item() == pytest.approx(lengths[0] / lengths[1], rel=1e-14)
